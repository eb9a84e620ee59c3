"""The turn of an instance with an intervention. Part of a saga actor, apart for its length.

It is submitted as other turns are, with what it changes of jobs, letters and waiting messages: all
of that, or nothing, is written. Next to read: ``core/intervening.py``; ``repair/repair.py``, who
asks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from perdure.core.commit import InboxRow
from perdure.core.described import described
from perdure.core.intervening import intervene
from perdure.core.saga import Definition
from perdure.errors import (
    CodecError,
    DefinitionError,
    HandlerFailed,
    InstanceMoved,
    PerdureError,
    SendError,
)
from perdure.runtime.delivery import Delivery, Repairing
from perdure.runtime.instances.pending import PendingTurn

if TYPE_CHECKING:
    from perdure.runtime.instances.saga_actor import SagaActor

__all__ = ["step_in", "told_of"]


def step_in(actor: SagaActor, delivery: Delivery, repair: Repairing, now_ms: int) -> None:
    """Take the turn, or refuse it: whoever repairs hears at once what the saga's code raises."""
    services = actor.supervisor.services
    try:
        kept = list(_still_waiting(actor, repair))
        turn = intervene(
            actor.definition,
            actor.head,
            delivery.message,
            delivery.kind,
            now_ms,
            services.encoder,
        )
        record = actor.record(delivery, turn)
    except Exception as error:
        delivery.refuse(told_of(delivery.definition, delivery.correlation_id, error))
        return
    for one, row in kept:
        one.row = row
    record.repairs = repair.settlements
    repair.turn = turn
    actor.submit(PendingTurn(actor, delivery, record, turn))


def _still_waiting(actor: SagaActor, repair: Repairing) -> Iterator[tuple[Delivery, InboxRow]]:
    """The messages whose rows are to change. Raises ``InstanceMoved`` if one was tried since."""
    for settlement in repair.settlements:
        row = settlement.inbox
        if row is None:
            continue
        kept = None if actor.waiting is None else actor.waiting.get(row.message_id)
        if kept is None or kept.row is None or kept.row.attempts != row.attempts:
            raise InstanceMoved(
                f"message {row.message_id!r} does not wait as it did", remedy="look again"
            )
        yield kept, row


def told_of(definition: Definition, correlation_id: str, error: Exception) -> PerdureError:
    """What whoever repairs is told of an error in that turn."""
    if isinstance(error, (SendError, CodecError, DefinitionError)):
        return error.about(definition.name, correlation_id)
    failure = HandlerFailed(
        f"the turn raised {described(error)}",
        saga=definition.name,
        correlation_id=correlation_id,
        remedy="nothing was done: mend the code, or repair it otherwise",
    )
    failure.__cause__ = error
    return failure
