"""A message on its way to one instance, and what its sender is told.

A ``Delivery`` is an envelope with an address. It lives until it is answered, exactly once, over as
many incarnations of its instance as that takes. Next to read: ``instances/saga_actor.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from perdure.actors import Envelope, Future
from perdure.core.commit import InboxRow, Settlement
from perdure.core.correlation import VerdictKind
from perdure.core.outcome import Outcome, Turn
from perdure.core.saga import Definition
from perdure.errors import (
    InstanceAlreadyExists,
    InstanceFinished,
    MessageNotHandled,
    SendError,
)
from perdure.messages import Message
from perdure.runtime.watching.tracing import TurnSpan

__all__ = ["AskReply", "Delivery", "Receipt", "Repairing", "Reply", "Room", "refusal"]


@dataclass(slots=True)
class Receipt:
    """What became of a message at one instance. Given only after the commit.

    ``outcome`` says it in a word; ``sequence_nr`` is the turn (None if none was taken: parked, or
    dropped for a missing instance). ``reply`` is what the handler replied. ``duplicate`` means that
    the message had been processed before and nothing happened now.
    """

    saga: str
    correlation_id: str
    message_id: str
    outcome: Outcome
    sequence_nr: int | None = None
    reply: Any = None
    duplicate: bool = False


class Reply(Protocol):
    """Where the answer goes."""

    def resolve(self, receipt: Receipt) -> None: ...

    def refuse(self, error: BaseException) -> None: ...


class Room(Protocol):
    """What a delivery takes up until it is answered."""

    def leave(self, delivery: Delivery) -> None: ...


class Repairing:
    """What is written with the turn of an intervention, and the turn itself, once it was taken."""

    __slots__ = ("settlements", "turn")

    def __init__(self, settlements: tuple[Settlement, ...] = ()) -> None:
        self.settlements = settlements
        self.turn: Turn | None = None


class AskReply:
    """Answers a pykka ``ask`` with what the handler replied."""

    __slots__ = ("future",)

    def __init__(self, future: Future[Any]) -> None:
        self.future = future

    def resolve(self, receipt: Receipt) -> None:
        with contextlib.suppress(queue.Full):  # the asker has resolved it already
            self.future.set(receipt.reply)

    def refuse(self, error: BaseException) -> None:
        with contextlib.suppress(queue.Full):
            self.future.set_exception((type(error), error, error.__traceback__))


class Delivery(Envelope[Message]):
    """A message for one instance.

    It answers ``future`` (a coroutine that waits on the runtime's loop) or ``reply``, if any.

    ``deadline_nr`` is the turn that armed the deadline which this message reports, 0 for other
    messages. ``waits`` says that the message has a row in the inbox, ``row`` is that row, where it
    is known. ``asks_again`` says that it waited there when it was delivered before: it has its turn
    from there, or has had its end. ``wakes`` marks the order to look after what waits: the moment
    of the message of this id has come, if there is one. ``room`` is left when it is answered.
    ``attempts`` counts commits that failed, ``last_error`` is why the last one did. ``settlement``
    ends the job whose result this is: whatever is written of this delivery takes it along, and
    leaves None here. ``repair`` is what somebody who steps in changes with this message: such a one
    waits for no other, is never kept, and is told at once what is wrong with it. ``span`` is that
    of the turn with this message, if it is traced.
    """

    __slots__ = (
        "asks_again",
        "attempts",
        "deadline_nr",
        "definition",
        "future",
        "key",
        "kind",
        "last_error",
        "on_answer",
        "repair",
        "reply",
        "room",
        "row",
        "settlement",
        "span",
        "strict",
        "waits",
        "wakes",
    )

    def __init__(
        self,
        definition: Definition,
        key: str,
        message: Message,
        kind: VerdictKind,
        strict: bool = False,
        reply: Reply | None = None,
    ) -> None:
        self.message = message
        self.reply_to = None
        self.definition = definition
        self.key = key
        self.kind = kind
        self.strict = strict
        self.future: asyncio.Future[Receipt] | None = None
        self.reply = reply
        self.deadline_nr = 0
        self.waits = False
        self.asks_again = False
        self.wakes = False
        self.row: InboxRow | None = None
        self.attempts = 0
        self.last_error: Exception | None = None
        self.settlement: Settlement | None = None
        self.repair: Repairing | None = None
        self.room: Room | None = None
        self.on_answer: Callable[[Delivery, BaseException | None], None] | None = None
        self.span: TurnSpan | None = None

    def fresh(self) -> Delivery:
        """The same message for the same instance, not yet answered."""
        return Delivery(self.definition, self.key, self.message, self.kind, self.strict)

    @property
    def journaled(self) -> Message:
        """The message as the journal keeps it: with the context of its turn's span."""
        return self.message if self.span is None else self.span.message

    def lose_span(self) -> None:
        """The incarnation ended before its turn was committed; the next one begins another."""
        if self.span is not None:
            self.span.lost()
            self.span = None

    @property
    def is_told(self) -> bool:
        """A message whose sender does not wait for an answer, and which is kept nowhere else."""
        has_sender = self.future is not None or self.reply is not None
        return not (has_sender or self.deadline_nr or self.wakes or self.waits)

    @property
    def is_in_inbox(self) -> bool:
        """The next incarnation finds it there, if it has not had its turn."""
        return self.waits and not self.wakes

    @property
    def insists(self) -> bool:
        """It is kept elsewhere, and waits for a store that fails however long that takes."""
        return getattr(self.reply, "insists", False)

    @property
    def is_redriven(self) -> bool:
        """A message that comes with a row in the inbox, which its instance need not know yet."""
        return self.waits and not self.wakes and self.row is None

    @property
    def correlation_id(self) -> str:
        """The id of the instance."""
        return self.key[len(self.definition.name) + 1 :]

    def answer(
        self,
        outcome: Outcome,
        sequence_nr: int | None = None,
        reply: Any = None,
        duplicate: bool = False,
    ) -> None:
        """Tell the sender how it ended; a refused message is told as an error by ``refuse``."""
        future = self.future
        if future is not None:
            if not future.done():
                future.set_result(self._receipt(outcome, sequence_nr, reply, duplicate))
        elif self.reply is not None:
            self.reply.resolve(self._receipt(outcome, sequence_nr, reply, duplicate))
        self._close(None)

    def _receipt(
        self, outcome: Outcome, sequence_nr: int | None, reply: Any, duplicate: bool
    ) -> Receipt:
        name = self.definition.name
        return Receipt(
            name,
            self.key[len(name) + 1 :],
            self.message.message_id,
            outcome,
            sequence_nr,
            reply,
            duplicate,
        )

    def refuse(self, error: BaseException) -> None:
        """Tell the sender that the message was not applied, and why."""
        if self.future is not None:
            if not self.future.done():
                self.future.set_exception(error)
        elif self.reply is not None:
            self.reply.refuse(error)
        self._close(error)

    def _close(self, error: BaseException | None) -> None:
        """Leave the room and tell, once: an answer is final."""
        room, self.room = self.room, None
        on_answer, self.on_answer = self.on_answer, None
        if room is not None:
            room.leave(self)
        if on_answer is not None:
            on_answer(self, error)


_REFUSALS: dict[Outcome, tuple[type[SendError], str, str]] = {
    Outcome.EXISTS: (
        InstanceAlreadyExists,
        "{type} starts strictly, but the instance exists",
        "use another id, or a plain start that continues it",
    ),
    Outcome.FINISHED: (
        InstanceFinished,
        "{type} came after the instance had ended",
        "start another instance",
    ),
    Outcome.UNHANDLED: (
        MessageNotHandled,
        "no handler accepts {type} in the instance's present state",
        "send it later, or declare a handler without strict",
    ),
}


def refusal(delivery: Delivery, outcome: Outcome) -> SendError:
    """The error for a turn that refused its message."""
    kind, problem, remedy = _REFUSALS[outcome]
    return kind(
        problem.format(type=delivery.message.type),
        saga=delivery.definition.name,
        correlation_id=delivery.correlation_id,
        remedy=remedy,
    )
