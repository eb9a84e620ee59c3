"""Messages that have waited: woken, taken in order, expired; and the inbox an incarnation finds.

Part of a saga actor, apart for its length. Next to read: ``waiting.py``, which keeps them;
``wakeups.py``, which wakes.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from perdure.core.commit import DeadLetterRow, InboxReason, InboxRow
from perdure.core.correlation import VerdictKind
from perdure.core.outcome import Outcome
from perdure.core.turn import deadline_id, fired_name
from perdure.errors import DecodeError, InstanceNotFound, SendError
from perdure.messages import Message
from perdure.runtime.delivery import Delivery
from perdure.runtime.instances.pending import PendingDeadLetter, PendingExpiry, PendingTaken
from perdure.runtime.instances.waiting import Waiting, failures_of, is_blocked, take_out
from perdure.runtime.letters.dead_letters import chain_of, dead_letter
from perdure.runtime.watching.logs import about

if TYPE_CHECKING:
    from perdure.runtime.instances.saga_actor import SagaActor

__all__ = ["bury", "drain", "is_redriven_twice", "take_over", "wake"]

logger = logging.getLogger("perdure.saga")

BURST = 64
"""So many that waited have their turns in one go; then others have the loop."""


def wake(actor: SagaActor, delivery: Delivery, now_ms: int) -> None:
    """The moment of a waiting message has come: its retry, or the end of its waiting.

    The wake-up stands for the message from here on, so that it is answered with it.
    """
    kept = actor.waiting.get(delivery.message.message_id) if actor.waiting is not None else None
    row = None if kept is None else kept.row
    if kept is None or row is None or row.due_at_ms is None or row.due_at_ms > now_ms:
        delivery.answer(Outcome.UNHANDLED)  # it has had its turn, or its moment is another one now
        return
    is_parked = row.reason is InboxReason.MISSING
    if is_parked and actor.head.exists:
        delivery.answer(Outcome.QUEUED)  # its turn is behind a delayed one
        return
    take_out(actor, row.message_id)
    delivery.message, delivery.kind, delivery.strict = kept.message, kept.kind, kept.strict
    delivery.deadline_nr, delivery.waits, delivery.row = kept.deadline_nr, True, row
    if is_parked:
        _expire(actor, delivery)
        return
    existed = actor.head.exists
    actor.take(delivery, now_ms)
    if actor.head.exists == existed:  # else the first turn has seen to the others
        drain(actor, now_ms)


def drain(actor: SagaActor, now_ms: int) -> None:
    """Let those have their turns, in order of arrival, that nothing holds back any more.

    If they are many, others have the loop in between; the mail waits for the last of them.
    """
    if actor.waiting is None or is_blocked(actor):
        return
    existed = actor.head.exists
    for nr, message_id in enumerate(actor.waiting.ready(existed, BURST + 1)):
        if is_blocked(actor) or actor.head.exists != existed:
            return  # by a retry, or the first turn of the instance has seen to the others
        if nr == BURST:
            _drain_later(actor, message_id)
            return
        kept = take_out(actor, message_id)
        assert kept is not None
        actor.supervisor.admission.count(kept)
        if actor.processed.turn_of(message_id) is None:
            actor.take(kept, now_ms)
        else:  # held, or redriven, when nobody looked whether it was processed before
            actor.write(PendingTaken(actor, kept))


def _drain_later(actor: SagaActor, message_id: str) -> None:
    """Go on with this one after the others on the loop; until then the instance is at work."""
    assert actor.waiting is not None
    kept = actor.waiting.get(message_id)
    assert kept is not None
    stand_in = kept.fresh()
    actor.supervisor.admission.count(stand_in)
    actor.actor_inbox.suspend()

    def go_on() -> None:
        try:
            if not actor.is_over:
                actor.actor_inbox.resume()
                drain(actor, actor.supervisor.services.clock.now_ms())
        finally:
            stand_in.answer(Outcome.QUEUED)

    asyncio.get_running_loop().call_soon(go_on)


def is_redriven_twice(actor: SagaActor, delivery: Delivery) -> bool:
    """A redriven message whose row this incarnation has found, or that was processed before."""
    if not delivery.is_redriven:
        return False
    message_id = delivery.message.message_id
    if not actor.supervisor.redriven.take(delivery):
        delivery.answer(Outcome.QUEUED)
        return True
    is_flying = actor.flying is not None and message_id in actor.flying
    if is_flying or actor.processed.turn_of(message_id) is not None:
        actor.write(PendingTaken(actor, delivery))
        return True
    return False


def bury(actor: SagaActor, delivery: Delivery, reason: str, error: SendError) -> None:
    """The message will have no turn, and must not wait for ever: make it a dead letter."""
    letter = dead_letter(actor.supervisor.services, delivery, reason, error, failures_of(delivery))
    actor.write(PendingDeadLetter(actor, delivery, letter, error))


def _expire(actor: SagaActor, delivery: Delivery) -> None:
    """A parked message has waited long enough."""
    error = InstanceNotFound(
        f"{delivery.message.type} waited for an instance that did not start in time",
        saga=actor.definition.name,
        correlation_id=actor.head.correlation_id,
        remedy="start the instance, then redrive this dead letter",
    )
    letter = dead_letter(actor.supervisor.services, delivery, "expired", error)
    actor.write(PendingExpiry(actor, delivery, letter))


def take_over(actor: SagaActor, rows: list[InboxRow]) -> None:
    """An incarnation begins: these rows of its instance are in the inbox."""
    found = Waiting()
    actor.supervisor.redriven.found(rows)
    for row in rows:
        try:
            found.add(_delivery_of(actor, row))
        except DecodeError as error:
            _bury_unreadable(actor, row, error)
    actor.waiting = found if len(found) else None


def _delivery_of(actor: SagaActor, row: InboxRow) -> Delivery:
    found = actor.supervisor.services.journal.decode_waiting(row.message_id, row.body)
    try:
        kind = VerdictKind(found.kind)
    except ValueError as error:
        raise DecodeError(f"a waiting message of verdict {found.kind!r}") from error
    delivery = Delivery(actor.definition, actor.key, found.message, kind, found.strict)
    delivery.waits, delivery.row = True, row
    name = fired_name(found.message.content)
    if name is not None and row.message_id.startswith(deadline_id(name, 0)[:-1]):
        delivery.deadline_nr = int(row.message_id.rpartition("/")[2])
    return delivery


def _bury_unreadable(actor: SagaActor, row: InboxRow, error: DecodeError) -> None:
    services = actor.supervisor.services
    logger.error(
        "message %s waits for %s and cannot be read: %s",
        row.message_id,
        row.instance,
        error,
        extra=about(row.instance, row.message_id, row.attempts),
    )
    type_name = services.journal.type_of_waiting(row.body)
    message = Message(None, type_name, 0, b"", row.message_id, row.created_at_ms)
    delivery = Delivery(actor.definition, actor.key, message, VerdictKind.CONTINUE)
    delivery.waits, delivery.row = True, row
    letter = DeadLetterRow(
        actor.key,
        row.message_id,
        type_name,
        "undecodable",
        chain_of(error),
        row.attempts,
        row.body,
        services.clock.now_ms(),
        consumes_inbox=True,
    )
    actor.supervisor.admission.count(delivery)
    actor.write(PendingDeadLetter(actor, delivery, letter, error))
