"""What one instance sends to another by its key: a child's start, its end, a cancellation.

A start is strict, so that nobody else's instance becomes a child; one that does not come off is
told to the parent as the child's end. Next to read: ``saga_mail.py``; ``core/children.py``, where
such rows are made.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from perdure.codec.outbox import unpack_context
from perdure.core.commit import OutboxRow, Settlement, Status
from perdure.core.correlation import split_key
from perdure.core.described import in_short
from perdure.core.family import CALLED, PARENT, ChildEnded, ToInstance
from perdure.core.outcome import Outcome
from perdure.errors import (
    CodecError,
    PerdureError,
    RuntimeNotRunning,
    UnknownMessageType,
    UnknownSaga,
    UnknownType,
    UnknownVersion,
    UnregisteredType,
)
from perdure.messages import Message
from perdure.runtime.delivery import Delivery, Receipt, refusal
from perdure.runtime.ids import POSITIONS_PER_EPOCH
from perdure.runtime.jobs.settling import Settling
from perdure.runtime.jobs.telling import NOW_OR_LATER
from perdure.runtime.routing import Routing
from perdure.runtime.services import Services
from perdure.runtime.watching.logs import about

__all__ = ["DirectedMail"]

logger = logging.getLogger("perdure.workers")


class DirectedMail:
    """Delivers rows that name their instance."""

    def __init__(
        self,
        services: Services,
        routing: Routing,
        settling: Settling,
        release: Callable[[int], None],
    ) -> None:
        self._services = services
        self._routing = routing
        self._settling = settling
        self._release = release
        self._own_from = services.epoch * POSITIONS_PER_EPOCH

    def start(self, row: OutboxRow, content: ToInstance) -> None:
        """Deliver the row's message."""
        try:
            message = self._message(row, content)
            if content.starts:
                delivery = self._routing.delivery_to_child(content.key, message)
            else:
                delivery = self._routing.delivery_of_ours(content.key, message)
        except PerdureError as error:
            is_of_other_code = row.position <= self._own_from and isinstance(error, _STRANGE)
            if is_of_other_code and self._settling.leave(row, error):
                return
            if content.starts:
                self.unstarted(row, content, error)
            else:
                reason = "undecodable" if isinstance(error, CodecError) else "unroutable"
                self._release(row.position)
                self._settling.given_up(row, 0, reason, error)
            return
        if content.starts:
            self._begin(row, content, delivery)
        else:
            self._release(row.position)
            self._settling.telling.deliver(row, delivery, _settlement(row))

    def _message(self, row: OutboxRow, content: ToInstance) -> Message:
        stored = self._services.codec.encode(content.message)
        context = unpack_context(row.context)
        headers = context.headers
        if content.starts:
            headers = {**(headers or {}), PARENT: row.instance, CALLED: content.starts}
        return Message(
            content.message,
            *stored,
            f"perdure.sent/{row.id}",
            row.created_at_ms,
            context.correlation_id,
            context.causation_id,
            headers,
        )

    def _begin(self, row: OutboxRow, content: ToInstance, delivery: Delivery) -> None:
        delivery.reply = _Begun(self, row, content, delivery)
        self._settling.telling.admit(delivery)

    # What became of a start

    def begun(self, row: OutboxRow) -> None:
        """The child has had its first turn."""
        self._release(row.position)
        self._settling.close(row, _settlement(row))

    def again(self, row: OutboxRow, content: ToInstance, delivery: Delivery) -> None:
        """The child cannot be had now."""
        self._settling.jobs.pause(
            row.position,
            f"starting {content.key}",
            lambda: self._begin(row, content, delivery.fresh()),
        )

    def abandoned(self, row: OutboxRow) -> None:
        """The runtime stops: the row stays, and the next one delivers it."""
        self._settling.abandoned(row)

    def unstarted(self, row: OutboxRow, content: ToInstance, error: BaseException) -> None:
        """There is no such child and will be none: to its parent it has ended."""
        extra = about(row.instance, row.id)
        logger.error(
            "%s: child %r was not started: %s", row.instance, content.starts, error, extra=extra
        )
        self._release(row.position)
        saga, instance_id = split_key(content.key)
        end = ChildEnded(
            content.starts,
            saga,
            instance_id,
            Status.FAILED.value,
            error=f"not started: {in_short(error)}",
        )
        stored = self._services.codec.encode(end)
        now_ms = self._services.clock.now_ms()
        message = Message(end, *stored, f"perdure.unstarted/{row.id}", now_ms, None, row.id)
        self._settling.telling.tell(row, message, _settlement(row))


class _Begun:
    """Hears what became of a child's first message."""

    __slots__ = ("_content", "_delivery", "_mail", "_row")

    def __init__(
        self, mail: DirectedMail, row: OutboxRow, content: ToInstance, delivery: Delivery
    ) -> None:
        self._mail = mail
        self._row = row
        self._content = content
        self._delivery = delivery

    def resolve(self, receipt: Receipt) -> None:
        if receipt.outcome in _ON_ITS_WAY:
            self._mail.begun(self._row)
        else:
            error = refusal(self._delivery, receipt.outcome)
            self._mail.unstarted(self._row, self._content, error)

    def refuse(self, error: BaseException) -> None:
        if isinstance(error, NOW_OR_LATER):
            self._mail.again(self._row, self._content, self._delivery)
        elif isinstance(error, RuntimeNotRunning):
            self._mail.abandoned(self._row)
        elif isinstance(error, (UnknownType, UnknownVersion)):
            self._mail.begun(self._row)  # what it has replied is of newer code, and nobody looks
        else:
            self._mail.unstarted(self._row, self._content, error)


_STRANGE = (UnknownSaga, UnknownMessageType, UnregisteredType)
"""Of a row that an earlier owner has written: its code knew the child, or the message in it."""

_ON_ITS_WAY = (Outcome.APPLIED, Outcome.DELAYED, Outcome.QUEUED, Outcome.HELD)


def _settlement(row: OutboxRow) -> Settlement:
    return Settlement(row.instance, job=row.position)
