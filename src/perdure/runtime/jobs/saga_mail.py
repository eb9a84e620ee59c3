"""What sagas send to sagas: published events, and commands that another saga takes.

An event's row is deleted when every instance it concerns has it (but for the one that published
it); with a single one, in the very transaction of its turn. A command's reply goes back to the
instance that sent it, like the result of a worker; while it waits at its instance, it is asked for.
Each delivery has an id derived from the row's, so repeating it applies nothing twice.
Next to read: ``directed_mail.py``, ``settling.py``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from perdure.codec.outbox import unpack_context
from perdure.core.commit import OutboxKind, OutboxRow, Settlement
from perdure.core.family import ToInstance
from perdure.core.outcome import Outcome
from perdure.errors import (
    CodecError,
    HandlerFailed,
    JobError,
    PerdureError,
    RuntimeNotRunning,
    UnknownMessageType,
    UnknownType,
    UnknownVersion,
)
from perdure.messages import Message, kind_of
from perdure.runtime.delivery import Delivery, Receipt
from perdure.runtime.jobs.directed_mail import DirectedMail
from perdure.runtime.jobs.settling import Settling
from perdure.runtime.jobs.telling import NOW_OR_LATER
from perdure.runtime.routing import Routing
from perdure.runtime.services import Services
from perdure.runtime.supervised import growing_s
from perdure.runtime.watching.logs import about

__all__ = ["SagaMail"]

logger = logging.getLogger("perdure.workers")

UNKNOWN = (UnknownType, UnknownVersion)

ASK_AGAIN_S = 1.0
"""The first pause before a command that waits at its instance is asked for; the last is 64 s."""

_WAITS = (Outcome.HELD, Outcome.DELAYED, Outcome.QUEUED, Outcome.PARKED)
"""The command is in the inbox of its instance, which has not had it yet."""


class SagaMail:
    """Delivers the rows whose target is the sagas."""

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
        self._directed = DirectedMail(services, routing, settling, release)

    def start(self, row: OutboxRow) -> None:
        """Deliver the row's event or command to the instances it is for."""
        content: Any = None
        try:
            content = self._services.codec.decode(row.type, row.version, row.body)
            if type(content) is ToInstance:
                self._directed.start(row, content)
                return
            message = self._message(row, content)
            if row.kind is OutboxKind.COMMAND:
                self._check_taken(row, content)
            deliveries = self._routing.deliveries(message)
            if row.kind is OutboxKind.EVENT and not row.given_id:
                # It comes from a turn: whoever publishes knows already, and would do it for ever.
                deliveries = [one for one in deliveries if one.key != row.instance]
            if row.kind is OutboxKind.COMMAND and len(deliveries) != 1:
                raise _not_one(row, deliveries)
        except PerdureError as error:
            is_of_other_code = isinstance(error, (*UNKNOWN, UnknownMessageType))
            if is_of_other_code and self._settling.leave(row, error):
                return
            reason = "undecodable" if isinstance(error, CodecError) else "unroutable"
            self._release(row.position)
            self._settling.given_up(row, row.attempts, reason, error)
            return
        if row.kind is OutboxKind.COMMAND:
            self._ask(row, content, deliveries[0])
        elif len(deliveries) == 1:
            self._release(row.position)
            self._settling.telling.deliver(row, deliveries[0], self._settlement(row))
        else:
            Round(self, row, deliveries).begin()

    def _check_taken(self, row: OutboxRow, command: Any) -> None:
        if not self._routing.is_interesting(kind_of(command)):
            raise UnknownMessageType(
                f"no saga of the runtime takes {row.type}, and no worker",
                remedy="declare a handler or a worker for it",
            )

    def _message(self, row: OutboxRow, content: Any) -> Message:
        context = unpack_context(row.context)
        return Message(
            content,
            row.type,
            row.version,
            row.body,
            f"perdure.sent/{row.id}",
            row.created_at_ms,
            context.correlation_id,
            context.causation_id,
            context.headers,
        )

    def _settlement(self, row: OutboxRow) -> Settlement:
        return Settlement(row.instance, job=row.position)

    def _ask(self, row: OutboxRow, command: Any, delivery: Delivery) -> None:
        delivery.reply = Asked(self, row, command, delivery)
        delivery.asks_again = row.attempts > 0
        self._settling.telling.admit(delivery)

    # What became of the deliveries

    def replied(self, row: OutboxRow, receipt: Receipt) -> None:
        """The saga has taken the command, and its answer, if any, is a message."""
        self._release(row.position)
        if receipt.outcome in _WAITS:
            self._ask_later(row, receipt)
            return
        if receipt.outcome is Outcome.FAILED:
            self._settling.given_up(row, 1, "non-retryable", _ended_by(row, receipt))
            return
        try:
            self._settling.succeeded(row, receipt.reply, ())
        except JobError as error:
            self._settling.given_up(row, 1, "non-retryable", error)

    def _ask_later(self, row: OutboxRow, receipt: Receipt) -> None:
        """It waits there in the inbox: ask then what became of it. The row counts how often."""
        pause_s = growing_s(ASK_AGAIN_S, row.attempts + 1)
        due_at_ms = self._services.clock.now_ms() + int(pause_s * 1000)
        said = f"it waits at {receipt.saga}/{receipt.correlation_id}: {receipt.outcome}"
        self._settling.postponed(row, row.attempts + 1, due_at_ms, said)

    def refused(
        self, row: OutboxRow, command: Any, delivery: Delivery, error: BaseException
    ) -> None:
        """The saga did not take the command."""
        if isinstance(error, NOW_OR_LATER):
            self.later(row, lambda: self._ask(row, command, delivery.fresh()))
            return
        if isinstance(error, RuntimeNotRunning):
            self.abandoned(row)
            return
        if isinstance(error, UNKNOWN) and self._settling.leave(row, error):
            return  # it was taken, and the answer is of newer code
        self._release(row.position)
        self._settling.given_up(row, 1, "non-retryable", error)

    def all_have_it(self, row: OutboxRow) -> None:
        """Every instance has the event."""
        self._release(row.position)
        self._settling.close(row, self._settlement(row))

    def abandoned(self, row: OutboxRow) -> None:
        """The runtime stops: the row stays, and the next one delivers it."""
        self._settling.abandoned(row)

    def deliver(self, delivery: Delivery) -> None:
        """Hand to the supervisor."""
        self._settling.telling.admit(delivery)

    def later(self, row: OutboxRow, function: Callable[[], None]) -> None:
        """Call after a pause."""
        self._settling.jobs.pause(row.position, f"delivering {row.type}", function)


def _not_one(row: OutboxRow, deliveries: Sequence[Delivery]) -> JobError:
    return JobError(
        f"{row.type} is for {len(deliveries)} instances, and no worker takes it",
        remedy="let it correlate with one instance, or declare a worker",
    )


def _ended_by(row: OutboxRow, receipt: Receipt) -> PerdureError:
    return HandlerFailed(
        f"handling {row.type} failed, and ended the instance",
        saga=receipt.saga,
        correlation_id=receipt.correlation_id,
        remedy="mend the handler, then start another instance",
    )


class Asked:
    """Hears what a saga answered to a command."""

    __slots__ = ("_command", "_delivery", "_mail", "_row")

    def __init__(self, mail: SagaMail, row: OutboxRow, command: Any, delivery: Delivery) -> None:
        self._mail = mail
        self._row = row
        self._command = command
        self._delivery = delivery

    def resolve(self, receipt: Receipt) -> None:
        self._mail.replied(self._row, receipt)

    def refuse(self, error: BaseException) -> None:
        self._mail.refused(self._row, self._command, self._delivery, error)


class Round:
    """One event on its way to several instances; each is told until it has it."""

    def __init__(self, mail: SagaMail, row: OutboxRow, deliveries: list[Delivery]) -> None:
        self._mail = mail
        self._row = row
        self._deliveries = deliveries
        self._open = len(deliveries)

    def begin(self) -> None:
        """Deliver to all."""
        if not self._deliveries:
            self._mail.all_have_it(self._row)
        for delivery in self._deliveries:
            self._deliver(delivery)

    def _deliver(self, delivery: Delivery) -> None:
        delivery.reply = Told(self, delivery)
        self._mail.deliver(delivery)

    def has_it(self) -> None:
        """One more instance has it, or has refused it for good."""
        self._open -= 1
        if not self._open:
            self._mail.all_have_it(self._row)

    def refused(self, delivery: Delivery, error: BaseException) -> None:
        """An instance did not take it now."""
        if isinstance(error, NOW_OR_LATER):
            self._mail.later(self._row, lambda: self._deliver(delivery.fresh()))
        elif isinstance(error, RuntimeNotRunning):
            self._mail.abandoned(self._row)  # not counted: the row is never closed by this round
        else:
            extra = about(delivery.key, delivery.message.message_id)
            logger.warning(
                "%s did not take %s: %s", delivery.key, self._row.type, error, extra=extra
            )
            self.has_it()


class Told:
    """Hears what one instance made of an event."""

    __slots__ = ("_delivery", "_round")

    def __init__(self, round_: Round, delivery: Delivery) -> None:
        self._round = round_
        self._delivery = delivery

    def resolve(self, receipt: Receipt) -> None:
        self._round.has_it()

    def refuse(self, error: BaseException) -> None:
        self._round.refused(self._delivery, error)
