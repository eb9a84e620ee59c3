"""What is said of a message that could not be applied: to its sender, and in the log.

Next to read: ``saga_actor.py``, which finds out; ``delivery.py`` for refusals that are recorded.
"""

from __future__ import annotations

from perdure.core.described import described
from perdure.errors import HandlerFailed, InvalidEffect, PerdureError, SendError, StoreUnavailable
from perdure.messages import CommandFailed
from perdure.runtime.delivery import Delivery

__all__ = ["is_asked_for", "not_written", "told"]


def told(delivery: Delivery, error: BaseException) -> SendError:
    """The saga's code raised."""
    saga, correlation_id = delivery.definition.name, delivery.correlation_id
    if isinstance(error, InvalidEffect):
        error.about(saga, correlation_id)
        return error
    failure = HandlerFailed(
        f"handling {delivery.message.type} raised {described(error)}",
        saga=saga,
        correlation_id=correlation_id,
        remedy="nothing of the turn was kept; mend the handler, then "
        + ("set the deadline again" if delivery.deadline_nr else "send the message again"),
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


def is_asked_for(delivery: Delivery) -> bool:
    """The saga itself is why the message comes, by a deadline or a command: it should want it."""
    return delivery.deadline_nr > 0 or type(delivery.message.content) is CommandFailed
