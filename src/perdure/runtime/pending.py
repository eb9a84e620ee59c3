"""What is on its way to the store for an incarnation, and what happens once it is there.

Each is a ticket of the group commit. Next to read: ``saga_actor.py``.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from perdure.core.commit import DeadLetterRow, Entry, InboxRow, TurnRecord
from perdure.core.outcome import Outcome, Turn
from perdure.errors import SendError, StoreError
from perdure.runtime.delivery import Delivery, refusal

if TYPE_CHECKING:
    from perdure.runtime.saga_actor import SagaActor

__all__ = [
    "Pending",
    "PendingDeadLetter",
    "PendingExpiry",
    "PendingPark",
    "PendingTurn",
    "Unattended",
]

logger = logging.getLogger("perdure.saga")


class Pending:
    """An entry in flight, and the delivery that led to it."""

    __slots__ = ("actor", "delivery", "entry")

    def __init__(self, actor: SagaActor, delivery: Delivery, entry: Entry) -> None:
        self.actor = actor
        self.delivery = delivery
        self.entry = entry

    @property
    def is_void(self) -> bool:
        return self.actor.is_over

    @property
    def deliveries(self) -> list[Delivery]:
        """Whom to answer."""
        return [self.delivery]

    def written(self) -> None:
        actor = self.actor
        if actor.oldest_written():
            actor.supervisor.written(actor.key)
            self.settle()
            if actor.in_flight is None:
                actor.supervisor.on_quiet()

    def left_out(self, error: StoreError) -> None:
        self.actor.on_lost(error)

    def unknown(self, error: StoreError) -> None:
        self.actor.on_lost(error)

    def settle(self) -> None:
        """The entry is durable: answer."""
        raise AssertionError("each kind of entry settles in its own way")


class PendingTurn(Pending):
    """A turn; ``repeats`` are deliveries of the same message that came before its commit."""

    __slots__ = ("repeats", "turn")

    def __init__(self, actor: SagaActor, delivery: Delivery, entry: TurnRecord, turn: Turn) -> None:
        self.actor = actor
        self.delivery = delivery
        self.entry = entry
        self.turn = turn
        self.repeats: list[Delivery] | None = None

    @property
    def deliveries(self) -> list[Delivery]:
        return [self.delivery, *(self.repeats or ())]

    def repeat(self, delivery: Delivery) -> None:
        """The same message again: it gets the same answer."""
        if self.repeats is None:
            self.repeats = []
        self.repeats.append(delivery)

    def settle(self) -> None:
        self.actor.on_committed(self.turn)
        if self.delivery.waits:
            self.actor.supervisor.wakeups.taken(self.actor.key, self.turn.message.message_id)
        self._answer(self.delivery, False)
        for repeat in self.repeats or ():
            self._answer(repeat, True)

    def _answer(self, delivery: Delivery, is_repeat: bool) -> None:
        turn = self.turn
        if turn.refused:
            delivery.refuse(refusal(delivery, turn.outcome))
        else:
            delivery.answer(turn.outcome, turn.after.sequence_nr, turn.reply_value, is_repeat)


class PendingPark(Pending):
    """A message on its way to the inbox."""

    __slots__ = ()

    entry: InboxRow

    def settle(self) -> None:
        self.actor.supervisor.wakeups.parked(self.entry)
        self.delivery.answer(Outcome.PARKED)


class PendingDeadLetter(Pending):
    """A message on its way to the dead letters; its sender is told ``error``."""

    __slots__ = ("error",)

    def __init__(
        self, actor: SagaActor, delivery: Delivery, entry: DeadLetterRow, error: SendError
    ) -> None:
        super().__init__(actor, delivery, entry)
        self.error = error

    def settle(self) -> None:
        self.delivery.refuse(self.error)


class PendingExpiry(Pending):
    """A parked message on its way to the dead letters, since it waited for too long."""

    __slots__ = ()

    def settle(self) -> None:
        self.delivery.answer(Outcome.MISSING)


class Unattended:
    """An entry nobody waits for, such as a snapshot."""

    __slots__ = ("entry",)

    is_void = False

    def __init__(self, entry: Entry) -> None:
        self.entry = entry

    def written(self) -> None:
        """Nothing follows."""

    def left_out(self, error: StoreError) -> None:
        kind = type(self.entry).__name__
        logger.warning("%s of %s was not written: %s", kind, _instance_of(self.entry), error)

    unknown = left_out


def _instance_of(entry: Entry) -> str:
    return entry.row.instance if isinstance(entry, TurnRecord) else entry.instance
