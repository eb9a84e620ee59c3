"""A snapshot of an incarnation: written beside the turns, and nobody waits for it.

Part of a saga actor, apart for its length. Next to read: ``rehydration.py``, which reads it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

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
    if instance.state is not None and 2 * len(body) > services.settings.message_bytes_max:
        _warn_if_large(actor, instance.state)


def _warn_if_large(actor: SagaActor, state: Any) -> None:
    """Half of the limit and more. The snapshot was that large, but it has more than the state."""
    services = actor.supervisor.services
    size = len(services.journal.codec.encode(state).body)
    limit = services.settings.message_bytes_max
    if 2 * size > limit:
        logger.warning(
            "the state of %s has %d bytes; above %d there are no more snapshots of it: keep what "
            "its decisions need, and of the rest a reference",
            actor.key,
            size,
            limit,
            extra=about(actor.key),
        )
