"""Messages for an instance that does not exist: what the saga says, and parking.

Part of a saga actor, apart for its length. Next to read: ``saga_actor.py``.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from perdure.core.commit import InboxReason, InboxRow
from perdure.core.correlation import VerdictKind
from perdure.core.outcome import Outcome
from perdure.core.saga import Definition, IgnoreMissing, Park, ReplyMissing
from perdure.errors import CodecError, InstanceNotFound
from perdure.runtime.dead_letters import dead_letter
from perdure.runtime.delivery import Delivery
from perdure.runtime.pending import PendingExpiry, PendingPark
from perdure.runtime.services import Services

if TYPE_CHECKING:
    from perdure.runtime.saga_actor import SagaActor

__all__ = ["expire", "treat_missing", "waiting"]

logger = logging.getLogger("perdure.saga")


def treat_missing(actor: SagaActor, delivery: Delivery, now_ms: int) -> bool:
    """There is no instance to continue: do as the saga says. False: let this start one."""
    policy = actor.definition.on_missing
    if delivery.strict:
        error = InstanceNotFound(
            f"{delivery.message.type} continues strictly, but there is no instance",
            saga=actor.definition.name,
            correlation_id=actor.head.correlation_id,
            remedy="start the instance first",
        )
        actor.supervisor.refuse(delivery, error)
    elif isinstance(policy, Park):
        expires = None if policy.for_s is None else now_ms + int(policy.for_s * 1000)
        _park(actor, delivery, expires, now_ms)
    elif isinstance(policy, IgnoreMissing):
        delivery.answer(Outcome.MISSING)
    elif isinstance(policy, ReplyMissing):
        delivery.answer(Outcome.MISSING, reply=policy.value)
    else:
        return False
    return True


def _park(actor: SagaActor, delivery: Delivery, expires_at_ms: int | None, now_ms: int) -> None:
    message = delivery.message
    body = actor.supervisor.services.journal.encode_waiting(message, delivery.kind, False)
    row = InboxRow(
        actor.key,
        message.message_id,
        InboxReason.MISSING,
        body,
        now_ms,
        expires_at_ms=expires_at_ms,
    )
    if actor.parked is None:
        actor.parked = {}
    if message.message_id not in actor.parked:
        kept = Delivery(actor.definition, actor.key, message, delivery.kind)
        kept.waits = True
        actor.parked[message.message_id] = kept
    actor.write(PendingPark(actor, delivery, row))


def expire(actor: SagaActor, delivery: Delivery) -> None:
    """A parked message has waited long enough."""
    waiting = (actor.parked or {}).pop(delivery.message.message_id, None)
    if waiting is None:
        delivery.answer(Outcome.UNHANDLED)
        return
    error = InstanceNotFound(
        f"{waiting.message.type} waited for an instance that did not start in time",
        saga=actor.definition.name,
        correlation_id=actor.head.correlation_id,
        remedy="start the instance, then send the message again",
    )
    letter = dead_letter(actor.supervisor.services, waiting, "expired", error)
    actor.write(PendingExpiry(actor, delivery, letter))


def waiting(services: Services, definition: Definition, row: InboxRow) -> Delivery | None:
    """The delivery of a message that waits in the inbox; None if it cannot be read (any more)."""
    try:
        found = services.journal.decode_waiting(row.message_id, row.body)
    except CodecError as error:
        logger.warning(
            "message %s waits for %s and cannot be read: %s", row.message_id, row.instance, error
        )
        return None
    kind = VerdictKind(found.kind)
    delivery = Delivery(definition, row.instance, found.message, kind, found.strict)
    delivery.waits = True
    return delivery
