"""Messages for an instance that does not exist: what the saga says.

Part of a saga actor, apart for its length. Next to read: ``waiting.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perdure.core.commit import InboxReason
from perdure.core.outcome import Outcome, Turn
from perdure.core.saga import IgnoreMissing, Park, ReplyMissing
from perdure.errors import InstanceNotFound
from perdure.runtime.delivery import Delivery, refusal
from perdure.runtime.instances.waiting import is_full, keep
from perdure.runtime.instances.woken import bury

if TYPE_CHECKING:
    from perdure.runtime.instances.saga_actor import SagaActor

__all__ = ["decline", "treat_missing"]


def treat_missing(actor: SagaActor, delivery: Delivery, now_ms: int) -> bool:
    """There is no instance to continue: do as the saga says. False: let this start one."""
    policy = actor.definition.on_missing
    if delivery.strict:
        error = _not_found(actor, delivery, "and it continues strictly")
        if delivery.waits:
            bury(actor, delivery, "missing", error)
        else:
            actor.supervisor.refuse(delivery, error)
    elif isinstance(policy, Park):
        expires = None if policy.for_s is None else now_ms + int(policy.for_s * 1000)
        if not is_full(actor, delivery):
            keep(actor, delivery, InboxReason.MISSING, now_ms, expires)
    elif isinstance(policy, IgnoreMissing):
        _drop(actor, delivery)
    elif isinstance(policy, ReplyMissing):
        _drop(actor, delivery, policy.value)
    else:
        return False
    return True


def decline(actor: SagaActor, delivery: Delivery, turn: Turn) -> None:
    """A message that would have started the instance was not wanted: there is still none."""
    if delivery.span is not None:
        delivery.span.declined(turn)
    if delivery.waits:
        bury(actor, delivery, "unhandled", refusal(delivery, turn.outcome))
    elif turn.refused:
        delivery.refuse(refusal(delivery, turn.outcome))
    else:
        delivery.answer(turn.outcome)


def _drop(actor: SagaActor, delivery: Delivery, reply: Any = None) -> None:
    """Forget the message, as the saga says; one that has waited was promised better."""
    if not delivery.waits:
        delivery.answer(Outcome.MISSING, reply=reply)
    else:
        bury(actor, delivery, "missing", _not_found(actor, delivery, "it has not started"))


def _not_found(actor: SagaActor, delivery: Delivery, why: str) -> InstanceNotFound:
    return InstanceNotFound(
        f"{delivery.message.type}: there is no such instance, {why}",
        saga=actor.definition.name,
        correlation_id=actor.head.correlation_id,
        remedy="start the instance first",
    )
