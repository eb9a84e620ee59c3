"""What arrives for one instance that is set aside: kept in its inbox, in order, if there is room.

A message is written there (HELD, together with the end of the job whose result it is) before its
sender is told. If a write fails, all that was on its way is written again, in the order of arrival.
How many are held is not known in memory: when the room is used up they are counted in the store.
Next to read: ``quarantine.py``, which owns one of these per instance.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from perdure.core.commit import Entry, InboxReason, InboxRow, QuarantineRow, Settlement
from perdure.core.outcome import Outcome
from perdure.core.saga import Definition
from perdure.errors import Fenced, Gone, MailboxFull, StoreError, StoreUnavailable
from perdure.runtime.clock import Wake
from perdure.runtime.delivery import Delivery
from perdure.runtime.instances.pending import settling
from perdure.runtime.instances.told import why_not
from perdure.runtime.supervised import UNEXPECTED

if TYPE_CHECKING:
    from perdure.runtime.instances.supervisor import Supervisor

__all__ = ["Aside", "Holding"]


class Aside:
    """One instance that is set aside, as ``row`` says.

    ``releases``: it is to be released, as this saga, once it is still; nothing more is written.
    """

    __slots__ = (
        *("_failures", "_flying", "_pause", "_queue", "_room", "_supervisor", "_task"),
        *("generation", "is_written", "releases", "row"),
    )

    def __init__(self, supervisor: Supervisor, row: QuarantineRow, is_written: bool) -> None:
        self.row = row
        self.is_written = is_written
        self.generation = 0
        self.releases: Definition | None = None
        self._supervisor = supervisor
        self._queue: deque[Delivery] = deque()
        self._flying: deque[Holding] = deque()
        self._room = 0
        self._failures = 0
        self._pause: Wake | None = None
        self._task: asyncio.Task[None] | None = None

    def hold(self, delivery: Delivery) -> None:
        """Keep the message, behind those that came before."""
        self._queue.append(delivery)
        self.go_on()

    def go_on(self) -> None:
        """Have written what is to be written; or tell who waits for stillness."""
        if self.releases is not None:
            if not self._flying and self._task is None:
                self._supervisor.quarantine.still(self)
            return
        if self._pause is not None or self._task is not None:
            return
        gives_up = self._failures > 0 and self._supervisor.is_draining
        if not self.is_written and not self._flying and not gives_up:
            self._fly(None)
        while self._queue and self._pause is None:
            if self._room <= 0 and _is_refusable(self._queue[0]):
                if not self._flying:
                    self._task = asyncio.get_running_loop().create_task(self._count())
                return
            self._room -= 1
            self._fly(self._queue.popleft())

    def _fly(self, delivery: Delivery | None) -> None:
        holding = Holding(self, delivery, None if delivery is None else self._held(delivery))
        self._flying.append(holding)
        self._supervisor.services.commit.submit(holding)

    def _held(self, delivery: Delivery) -> InboxRow:
        message, services = delivery.message, self._supervisor.services
        body = services.journal.encode_waiting(message, delivery.kind, delivery.strict)
        now_ms = services.clock.now_ms()
        return InboxRow(delivery.key, message.message_id, InboxReason.HELD, body, now_ms)

    def landed(self, delivery: Delivery | None) -> None:
        """The oldest one in flight is durable."""
        self._flying.popleft()
        self._failures = 0
        if delivery is None:
            self.is_written = True
        else:
            settlement, delivery.settlement = delivery.settlement, None
            if settlement is not None and settlement.outbox:
                self._supervisor.dispatcher.committed(settlement.outbox)
            delivery.answer(Outcome.HELD)
        self.go_on()

    def was_written(self, delivery: Delivery) -> None:
        """An earlier try was, and its answer was lost: what it sent must be read back."""
        settlement, delivery.settlement = delivery.settlement, None
        if settlement is not None:
            self._supervisor.dispatcher.doubtful(settlement.outbox)

    def lost(self, error: StoreError) -> None:
        """Nobody knows what was written: all that is in flight is written again, in its order."""
        supervisor, flying = self._supervisor, self._flying
        self._flying = deque()
        self.generation += 1
        self._failures += 1
        self._room = 0
        attempts_max = supervisor.services.settings.write_attempts
        gives_up = supervisor.is_draining or isinstance(error, Fenced)
        back: list[Delivery] = []
        for delivery in (one.delivery for one in flying if one.delivery is not None):
            delivery.attempts += 1
            if delivery.settlement is not None:
                supervisor.dispatcher.doubtful(delivery.settlement.outbox)
            if not gives_up and (delivery.attempts < attempts_max or delivery.insists):
                back.append(delivery)
            else:
                supervisor.refuse(delivery, why_not(delivery, error))
        self._queue.extendleft(reversed(back))
        if isinstance(error, Fenced):
            supervisor.overtaken(error)
        elif not gives_up:
            self._wait()
        self.go_on()

    def _wait(self) -> None:
        supervisor, key = self._supervisor, self.row.instance
        supervisor.admission.pause(key)
        what = f"holding what came for {key}"
        self._pause = supervisor.services.pause(what, self.resume, self._failures)

    def resume(self) -> None:
        """The pause, if there is one, is over."""
        self._end_pause()
        self.go_on()

    def _end_pause(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
            self._supervisor.admission.resume(self.row.instance)

    def left(self) -> list[Delivery]:
        """It is not set aside any more, or the runtime stops: what it has not written."""
        self._end_pause()
        if self._task is not None:
            self._task.cancel()
        self.generation += 1
        flying = [one.delivery for one in self._flying if one.delivery is not None]
        found = [*flying, *self._queue]
        self._flying.clear()
        self._queue.clear()
        return found

    async def _count(self) -> None:
        """See how many are held."""
        key, services = self.row.instance, self._supervisor.services
        limit = services.settings.waiting_max
        generation, failure = self.generation, None
        try:
            self._room = limit - (await services.store.inbox_sizes([key])).get(key, 0)
        except UNEXPECTED as error:  # also a ``CancelledError`` of the driver's: senders wait here
            failure = error if isinstance(error, Exception) else _not_counted(error)
        if generation != self.generation:
            return  # over meanwhile
        self._task = None
        if self._room <= 0:
            self._refuse(failure)
        self.go_on()

    def _refuse(self, failure: Exception | None) -> None:
        """There is no room for these, or nobody can say."""
        queue, self._queue = self._queue, deque()
        for delivery in queue:
            if _is_refusable(delivery):
                self._supervisor.refuse(delivery, failure or self._full(delivery))
            else:
                self._queue.append(delivery)

    def _full(self, delivery: Delivery) -> MailboxFull:
        limit = self._supervisor.services.settings.waiting_max
        return MailboxFull(
            f"the instance is quarantined, and {limit} messages are held for it already",
            saga=delivery.definition.name,
            correlation_id=delivery.correlation_id,
            remedy="release it, or raise waiting_max",
        )


class Holding:
    """A message on its way to the inbox; or, without one, the row that says who is set aside.

    A ticket of the group commit. Void once something before it was not written.
    """

    __slots__ = ("_aside", "_generation", "delivery", "entry")

    def __init__(self, aside: Aside, delivery: Delivery | None, row: InboxRow | None) -> None:
        self._aside = aside
        self._generation = aside.generation
        self.delivery = delivery
        self.entry: Entry = Settlement(aside.row.instance, quarantine=aside.row)
        if row is not None:
            self.entry = settling(row, None if delivery is None else delivery.settlement)

    @property
    def is_void(self) -> bool:
        return self._generation != self._aside.generation

    def written(self) -> None:
        """It is durable."""
        if not self.is_void:
            self._aside.landed(self.delivery)

    def left_out(self, error: StoreError) -> None:
        """It was not written; if its job is gone, an earlier try was."""
        if isinstance(error, Gone) and self.delivery is not None:
            self._aside.was_written(self.delivery)
            self.written()
        else:
            self.unknown(error)

    def unknown(self, error: StoreError) -> None:
        """The store failed."""
        if not self.is_void:
            self._aside.lost(error)


def _not_counted(error: BaseException) -> StoreUnavailable:
    """The store's driver passes on what is nobody's business but its own."""
    unavailable = StoreUnavailable(f"what is held could not be counted: {error!r}")
    unavailable.__cause__ = error
    return unavailable


def _is_refusable(delivery: Delivery) -> bool:
    """It comes from outside. What sagas and their jobs have led to is kept in any case."""
    return not delivery.message.message_id.startswith("perdure.")
