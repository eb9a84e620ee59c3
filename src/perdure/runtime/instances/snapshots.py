"""A snapshot of an incarnation: written beside the turns, and nobody waits for it.

Part of a saga actor, apart for its length. Next to read: ``rehydration.py``, which reads it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from perdure.core.commit import SnapshotRow, Status
from perdure.core.instance import Instance
from perdure.errors import PerdureError
from perdure.runtime.instances.pending import Unattended
from perdure.runtime.watching.logs import about

if TYPE_CHECKING:
    from perdure.runtime.instances.saga_actor import SagaActor

__all__ = ["snapshot"]

logger = logging.getLogger("perdure.saga")


def snapshot(actor: SagaActor, instance: Instance) -> None:
    """Have a snapshot of the committed instance written, if it can be encoded."""
    services = actor.supervisor.services
    if instance.status is Status.STUCK:
        return  # perhaps for want of a class, whose values would be kept as plain data for ever
    actor.snapshot_nr = instance.sequence_nr
    try:
        body = services.journal.encode_snapshot(instance, actor.processed)
    except PerdureError as error:
        logger.warning("no snapshot of %s: %s", actor.key, error, extra=about(actor.key))
        return
    row = SnapshotRow(actor.key, instance.sequence_nr, body)
    services.commit.submit(Unattended(row))
