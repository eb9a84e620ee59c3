"""What is on its way to the store for an incarnation, and what happens once it is there.

Each is a ticket of the group commit. Next to read: ``saga_actor.py``.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from perdure.core.commit import InboxRow
from perdure.core.outcome import Outcome, Turn
from perdure.errors import SendError, StoreError
from perdure.runtime.delivery import Delivery, refusal

if TYPE_CHECKING:
    from perdure.runtime.saga_actor import SagaActor

__all__ = ["UNATTENDED", "Pending", "PendingDeadLetter", "PendingPark", "PendingTurn"]

logger = logging.getLogger("perdure.saga")


class Pending:
    """An entry in flight, the delivery that led to it, and who repeated it meanwhile."""

    __slots__ = ("actor", "delivery")

    def __init__(self, actor: SagaActor, delivery: Delivery) -> None:
        self.actor = actor
        self.delivery = delivery

    @property
    def is_void(self) -> bool:
        return self.actor.is_over

    @property
    def deliveries(self) -> list[Delivery]:
        """Whom to answer."""
        return [self.delivery]

    def written(self) -> None:
        self.actor.on_written(self)

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

    def __init__(self, actor: SagaActor, delivery: Delivery, turn: Turn) -> None:
        super().__init__(actor, delivery)
        self.turn = turn
        self.repeats: list[Delivery] = []

    @property
    def deliveries(self) -> list[Delivery]:
        return [self.delivery, *self.repeats]

    def settle(self) -> None:
        turn = self.turn
        self.actor.on_committed(turn)
        self._answer(self.delivery, turn, False)
        for repeat in self.repeats:
            self._answer(repeat, turn, True)

    def _answer(self, delivery: Delivery, turn: Turn, is_repeat: bool) -> None:
        if turn.refused:
            delivery.refuse(refusal(delivery, turn.outcome))
        else:
            delivery.answer(turn.outcome, turn.after.sequence_nr, turn.reply_value, is_repeat)


class PendingPark(Pending):
    """A message on its way to the inbox."""

    __slots__ = ("row",)

    def __init__(self, actor: SagaActor, delivery: Delivery, row: InboxRow) -> None:
        super().__init__(actor, delivery)
        self.row = row

    def settle(self) -> None:
        self.actor.supervisor.wakeups.parked(self.row)
        self.delivery.answer(Outcome.PARKED)


class PendingDeadLetter(Pending):
    """A message on its way to the dead letters; its sender is told ``error``."""

    __slots__ = ("error",)

    def __init__(self, actor: SagaActor, delivery: Delivery, error: SendError) -> None:
        super().__init__(actor, delivery)
        self.error = error

    def settle(self) -> None:
        self.delivery.refuse(self.error)


class _Unattended:
    """An entry nobody waits for, such as a snapshot."""

    is_void = False

    def written(self) -> None:
        """Nothing follows."""

    def left_out(self, error: StoreError) -> None:
        logger.warning("an entry was not written: %s", error)

    unknown = left_out


UNATTENDED = _Unattended()
