"""What is on its way to the store for an incarnation, and what happens once it is there.

Each is a ticket of the group commit. Next to read: ``saga_actor.py``.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import perdure.failpoints as failpoints
from perdure.core.commit import (
    DeadLetterRow,
    Entry,
    InboxReason,
    InboxRow,
    OutboxRow,
    Settlement,
    SnapshotRow,
    TurnRecord,
)
from perdure.core.correlation import split_key
from perdure.core.outcome import Outcome, Turn
from perdure.errors import Gone, PerdureError, StoreError, StoreUnavailable
from perdure.failpoints import Point
from perdure.observer import Retrying
from perdure.runtime.delivery import Delivery, refusal
from perdure.runtime.supervised import UNEXPECTED
from perdure.runtime.watching.logs import about

if TYPE_CHECKING:
    from perdure.runtime.instances.saga_actor import SagaActor

__all__ = [
    "WAITING",
    "Pending",
    "PendingDeadLetter",
    "PendingEnd",
    "PendingExpiry",
    "PendingRetry",
    "PendingTaken",
    "PendingTurn",
    "PendingWait",
    "Unattended",
    "tell_retry",
]

logger = logging.getLogger("perdure.saga")


class Pending:
    """An entry in flight, and the delivery that led to it."""

    __slots__ = ("actor", "delivery", "entry")

    def __init__(self, actor: SagaActor, delivery: Delivery, entry: Entry) -> None:
        self.actor = actor
        self.delivery = delivery
        self.entry = settling(entry, delivery.settlement)

    @property
    def is_void(self) -> bool:
        return self.actor.is_over

    @property
    def deliveries(self) -> list[Delivery]:
        """Whom to answer."""
        return [self.delivery]

    def written(self) -> None:
        actor = self.actor
        settlement = self.delivery.settlement
        if settlement is not None:
            self.delivery.settlement = None
            if settlement.outbox:
                actor.supervisor.dispatcher.committed(settlement.outbox)
        if actor.oldest_written():
            actor.supervisor.written(actor.key)
            self._settle()
            if actor.in_flight is None:
                actor.supervisor.on_quiet()
        elif isinstance(self.entry, TurnRecord):
            # The next incarnation answers the message, and nobody else hands out what it sent.
            actor.supervisor.dispatcher.committed(self.entry.outbox)
            self.known_too_late()

    def known_too_late(self) -> None:
        """It is durable, and its incarnation is over."""

    def _settle(self) -> None:
        try:
            self.settle()
        except UNEXPECTED as error:  # a mistake of ours: memory knows half of it, the journal all
            logger.exception(
                "%s: what was written could not be told",
                self.actor.key,
                extra=about(self.actor.key, self.delivery.message.message_id),
            )
            self.actor.in_flight = deque([self, *(self.actor.in_flight or ())])
            self.lost(StoreUnavailable(f"what was written could not be told: {error}"))

    def left_out(self, error: StoreError) -> None:
        settlement = self.delivery.settlement
        if not isinstance(error, Gone) or settlement is None:
            self.actor.on_lost(error)
            return
        # An earlier try was written after all, and its answer was lost: the job has ended.
        self.delivery.settlement = None
        self.actor.supervisor.dispatcher.doubtful(settlement.outbox)
        self.written()

    def unknown(self, error: StoreError) -> None:
        self.lost(error)

    def lost(self, error: StoreError) -> None:
        """Nobody knows here what became of it: the journal is read back."""
        self.actor.supervisor.dispatcher.doubtful(outgoing_of(self.entry))
        self.actor.on_lost(error)

    def settle(self) -> None:
        """The entry is durable: answer."""
        raise AssertionError("each kind of entry settles in its own way")


def settling(entry: Entry, settlement: Settlement | None) -> Entry:
    """The entry together with the end of the job whose result led to it."""
    if settlement is None:
        return entry
    if isinstance(entry, InboxRow):
        return replace(settlement, inbox=entry)
    if isinstance(entry, Settlement):
        return replace(settlement, inbox=entry.inbox, quarantine=entry.quarantine)
    assert isinstance(entry, DeadLetterRow)
    return replace(settlement, dead_letters=(*settlement.dead_letters, entry))


def outgoing_of(entry: Entry) -> Sequence[OutboxRow]:
    """The rows that an entry adds to the outbox."""
    if isinstance(entry, TurnRecord):
        return (*entry.outbox, *(entry.settles.outbox if entry.settles is not None else ()))
    return entry.outbox if isinstance(entry, Settlement) else ()


class PendingTurn(Pending):
    """A turn; ``repeats`` are deliveries of the same message that came before its commit."""

    __slots__ = ("repeats", "turn")

    def __init__(self, actor: SagaActor, delivery: Delivery, entry: TurnRecord, turn: Turn) -> None:
        self.actor = actor
        self.delivery = delivery
        self.entry = entry
        if delivery.settlement is not None:
            entry.settles = delivery.settlement
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

    def unknown(self, error: StoreError) -> None:
        self.actor.supervisor.announcing.doubtful(self)  # first: the incarnation ends with it
        self.lost(error)

    def known_too_late(self) -> None:
        actor = self.actor
        if actor.committed is not None:
            actor.supervisor.announcing.committed(self, actor.committed)
            actor.committed = self.turn.after

    def settle(self) -> None:
        actor = self.actor
        if actor.committed is not None:
            actor.supervisor.announcing.committed(self, actor.committed)
        actor.on_committed(self.turn)
        if failpoints.listener is not None:
            failpoints.reach(Point.VISIBLE)
        if self.delivery.waits:
            self.actor.supervisor.wakeups.taken(self.actor.key, self.turn.message.message_id)
        if self.delivery.span is not None:
            self.delivery.span.committed(self.turn)
        self._answer(self.delivery, False)
        for repeat in self.repeats or ():
            self._answer(repeat, True)

    def _answer(self, delivery: Delivery, is_repeat: bool) -> None:
        turn = self.turn
        if turn.refused:
            delivery.refuse(refusal(delivery, turn.outcome))
        else:
            delivery.answer(turn.outcome, turn.after.sequence_nr, turn.reply_value, is_repeat)


class PendingEnd(PendingTurn):
    """The turn that ends an instance since its message failed; the sender is told ``error``."""

    __slots__ = ("error",)

    def __init__(
        self,
        actor: SagaActor,
        delivery: Delivery,
        entry: TurnRecord,
        turn: Turn,
        error: PerdureError,
    ) -> None:
        super().__init__(actor, delivery, entry, turn)
        self.error = error

    def _answer(self, delivery: Delivery, is_repeat: bool) -> None:
        delivery.refuse(self.error)


WAITING = {
    InboxReason.MISSING: Outcome.PARKED,
    InboxReason.HELD: Outcome.QUEUED,
    InboxReason.DELAYED: Outcome.DELAYED,
    InboxReason.QUEUED: Outcome.QUEUED,
}


class PendingWait(Pending):
    """A message on its way to the inbox; one that is repeated goes there again, as it is."""

    __slots__ = ("row",)

    def __init__(self, actor: SagaActor, delivery: Delivery, row: InboxRow) -> None:
        super().__init__(actor, delivery, row)
        self.row = row

    def settle(self) -> None:
        self.actor.supervisor.wakeups.waits(self.row)
        self.delivery.answer(WAITING[self.row.reason])


class PendingRetry(PendingWait):
    """A message whose turn raised, on its way to the inbox: it is tried again."""

    __slots__ = ()

    def settle(self) -> None:
        tell_retry(self.actor, self.delivery, self.row)
        super().settle()


def tell_retry(actor: SagaActor, delivery: Delivery, row: InboxRow) -> None:
    """Tell whoever observes that the message is tried again."""
    observing = actor.supervisor.services.observing
    if observing.hooks:
        name, process_id = split_key(actor.key)
        message, now_ms = delivery.message, actor.supervisor.services.clock.now_ms()
        delay_s = max((row.due_at_ms or 0) - now_ms, 0) / 1000
        attempt, message_id = row.attempts, message.message_id
        observing.tell(Retrying(name, process_id, "", message.type, message_id, attempt, delay_s))


class PendingDeadLetter(Pending):
    """A message on its way to the dead letters; its sender is told ``error``."""

    __slots__ = ("error",)

    def __init__(
        self, actor: SagaActor, delivery: Delivery, entry: DeadLetterRow, error: PerdureError
    ) -> None:
        super().__init__(actor, delivery, entry)
        self.error = error

    def settle(self) -> None:
        if self.delivery.waits:
            self.actor.supervisor.wakeups.taken(self.actor.key, self.delivery.message.message_id)
        self.delivery.refuse(self.error)


class PendingTaken(Pending):
    """A waiting message that was processed before: it goes out of the inbox, and that is all."""

    __slots__ = ()

    def __init__(self, actor: SagaActor, delivery: Delivery) -> None:
        message_id = delivery.message.message_id
        super().__init__(actor, delivery, Settlement(actor.key, taken=message_id))

    def settle(self) -> None:
        self.delivery.answer(Outcome.UNHANDLED)


class PendingExpiry(Pending):
    """A parked message on its way to the dead letters, since it waited for too long."""

    __slots__ = ()

    def settle(self) -> None:
        self.delivery.answer(Outcome.MISSING)


class Unattended:
    """An entry nobody waits for: a snapshot."""

    __slots__ = ("entry",)

    is_void = False

    def __init__(self, entry: SnapshotRow) -> None:
        self.entry = entry

    def written(self) -> None:
        """Nothing follows."""

    def left_out(self, error: StoreError) -> None:
        key = self.entry.instance
        logger.warning("a snapshot of %s was not written: %s", key, error, extra=about(key))

    unknown = left_out
