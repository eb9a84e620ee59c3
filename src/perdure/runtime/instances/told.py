"""What is said of a message that could not be applied: to its sender, and in the log.

Next to read: ``saga_actor.py``, which finds out; ``delivery.py`` for refusals that are recorded.
"""

from __future__ import annotations

from perdure.core.described import described
from perdure.errors import (
    HandlerFailed,
    InvalidEffect,
    OutcomeUnknown,
    PerdureError,
    RuntimeNotRunning,
    SendError,
    StoreError,
    StoreUnavailable,
    TurnTooLong,
)
from perdure.messages import CommandFailed
from perdure.runtime.delivery import Delivery

__all__ = ["is_asked_for", "mistaken", "not_written", "stopped", "told", "too_long", "why_not"]


def told(delivery: Delivery, error: BaseException, *, ends: bool = False) -> SendError:
    """The saga's code raised, and the message is a dead letter now; its instance may end, too."""
    remedy = _ENDED if ends else _what_to_do(delivery)
    saga, correlation_id = delivery.definition.name, delivery.correlation_id
    if isinstance(error, (InvalidEffect, TurnTooLong)):
        error.about(saga, correlation_id)
        if _NOTHING not in (error.remedy or ""):  # the saga may raise one object again and again
            error.remedy = "; ".join(filter(None, (error.remedy, remedy)))
        return error
    failures = 0 if delivery.row is None else delivery.row.attempts
    failure = HandlerFailed(
        f"handling {delivery.message.type} raised {described(error)}"
        + (f", at attempt {failures + 1}, which was the last" if failures else ""),
        saga=saga,
        correlation_id=correlation_id,
        remedy=remedy,
    )
    failure.__cause__ = error
    return failure


_NOTHING = "nothing of the turn was kept"
_ENDED = (
    f"{_NOTHING}, and the instance has ended, as its supervision says: mend the handler, then "
    "start another one (the message is kept as a dead letter)"
)


def _what_to_do(delivery: Delivery) -> str:
    if delivery.deadline_nr:
        return f"{_NOTHING}, and the deadline is gone: mend the handler, then set it again"
    message_id = delivery.message.message_id
    again = "" if message_id.startswith("perdure.") else f", or send it under {message_id!r} again"
    return (
        f"{_NOTHING}, and the message is a dead letter: mend the handler, then redrive that "
        f"(runtime.dead_letters){again}"
    )


def too_long(delivery: Delivery, limit_s: float) -> TurnTooLong:
    """The turn is done, and nothing of it may be kept: nobody waits for such a one any more."""
    return TurnTooLong(
        f"the turn with {delivery.message.type} took longer than turn_limit_s={limit_s:g}",
        saga=delivery.definition.name,
        correlation_id=delivery.correlation_id,
        remedy="leave what takes long to a worker of a work queue",
    )


def mistaken(delivery: Delivery, error: BaseException) -> SendError:
    """A mistake of ours: the message had no turn, and is kept nowhere."""
    failure = HandlerFailed(
        f"{delivery.message.type} could not be processed: {described(error)}",
        saga=delivery.definition.name,
        correlation_id=delivery.correlation_id,
        remedy="this is a mistake in perdure, which the log shows; the message was not kept",
    )
    failure.__cause__ = error
    return failure


def not_written(delivery: Delivery) -> PerdureError:
    """The store failed as often as is allowed, and the journal says: it was not committed."""
    return StoreUnavailable(
        f"{delivery.message.type} could not be committed: {delivery.last_error}",
        saga=delivery.definition.name,
        correlation_id=delivery.correlation_id,
        remedy="nothing of it was kept; send it again when the store works",
    )


def why_not(delivery: Delivery, error: Exception) -> Exception:
    """The store fails; if it has failed before, too, nobody knows what became of the message."""
    if not isinstance(error, StoreError) or not delivery.attempts:
        return error
    unknown = OutcomeUnknown(
        f"the store failed while committing {delivery.message.type}, and again when asked "
        f"what had become of it: {error}",
        saga=delivery.definition.name,
        correlation_id=delivery.correlation_id,
        remedy=f"send it again under the same message id {delivery.message.message_id!r}",
    )
    unknown.__cause__ = error
    return unknown


def stopped(delivery: Delivery) -> RuntimeNotRunning:
    """The error for a delivery that a stopping runtime abandons."""
    return RuntimeNotRunning(
        f"the runtime stopped before {delivery.message.type} was committed",
        saga=delivery.definition.name,
        correlation_id=delivery.correlation_id,
        remedy=f"send it again under the same message id {delivery.message.message_id!r}",
    )


def is_asked_for(delivery: Delivery) -> bool:
    """The saga itself is why the message comes, by a deadline or a command: it should want it."""
    return delivery.deadline_nr > 0 or type(delivery.message.content) is CommandFailed
