"""Room: how many messages may be accepted and unanswered, per instance and in all.

Two gates, first the instance's, then the common one. Where there is no room a sender waits, first
come first served, up to a limit, then it is refused. Every step costs the same however many wait.
Counts only; knows no actor. Next to read: ``supervisor.py``.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable
from functools import partial

from perdure.errors import MailboxFull, RuntimeNotRunning
from perdure.runtime.clock import Clock
from perdure.runtime.delivery import Delivery
from perdure.settings import Settings

__all__ = ["Admission"]


class Waiting:
    """What waits for room; ``admitted`` resolves when there is, and it was delivered."""

    __slots__ = ("admitted", "delivery", "has_passed_first", "key")

    def __init__(self, delivery: Delivery) -> None:
        self.delivery = delivery
        self.key = delivery.key
        self.admitted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.has_passed_first = False

    @property
    def is_in(self) -> bool:
        """It was let in and delivered."""
        admitted = self.admitted
        return admitted.done() and not admitted.cancelled() and admitted.exception() is None


class Admission:
    """Counts deliveries in, and out again when they are answered."""

    def __init__(
        self, clock: Clock, settings: Settings, deliver: Callable[[Delivery], None]
    ) -> None:
        self._deliver = deliver
        self._clock = clock
        self._settings = settings
        self._depth: dict[str, int] = {}
        self._at_instance: dict[str, OrderedDict[Waiting, None]] = {}
        self._at_common: OrderedDict[Waiting, None] = OrderedDict()
        self._emptied: list[asyncio.Future[None]] = []
        self._paused: Counter[str] = Counter()
        self.accepted = 0

    def enter(self, delivery: Delivery) -> bool:
        """Count the delivery in; False if there is no room, or others wait for theirs already."""
        key = delivery.key
        if (
            self._depth.get(key, 0) >= self._settings.mailbox_max
            or self.accepted >= self._settings.in_flight_max
            or self._at_common
            or key in self._at_instance
        ):
            return False
        self.count(delivery)
        return True

    def queue(self, delivery: Delivery) -> Waiting:
        """A place in the queue for room, taken now, so that nobody who comes later is before."""
        waiting = Waiting(delivery)
        self._queue(waiting)
        return waiting

    async def enter_later(self, delivery: Delivery, place: Waiting | None = None) -> None:
        """Wait for room; what is let in is delivered at once, so that nobody overtakes it.

        Raises ``MailboxFull`` after ``accept_timeout_s``.
        """
        waiting = place or self.queue(delivery)
        timeout_s = self._settings.accept_timeout_s
        limit = self._clock.call_later(timeout_s, partial(self._refuse, waiting, delivery))
        try:
            await waiting.admitted
        except asyncio.CancelledError:
            if waiting.admitted.cancelled():  # else it was let in, and is delivered
                self.give_up(waiting)
            raise
        finally:
            limit.cancel()
            # Else an error, its traceback, this frame and the place that holds the error would keep
            # each other, and the refused message, until the garbage collector comes by.
            del place, waiting, delivery

    def count(self, delivery: Delivery) -> None:
        """Count in a delivery that may not wait, such as a deadline."""
        delivery.room = self
        self.accepted += 1
        self._depth[delivery.key] = self._depth.get(delivery.key, 0) + 1

    def leave(self, delivery: Delivery) -> None:
        """The delivery was answered: its room is free."""
        self.accepted -= 1
        self._leave_instance(delivery.key)
        while self._at_common and self.accepted < self._settings.in_flight_max:
            self._let_in(self._at_common.popitem(last=False)[0])
        if self._emptied:
            self._tell_emptied()

    @property
    def waiting(self) -> int:
        """How many wait for room."""
        return len(self._at_common) + sum(map(len, list(self._at_instance.values())))

    @property
    def is_empty(self) -> bool:
        """Everything accepted is answered, or waits for time to pass."""
        if not self._paused:
            return self.accepted == 0
        counted = sum(self._depth.get(key, 0) for key in self._paused)
        not_yet_in = sum(waiting.key in self._paused for waiting in self._at_common)
        return self.accepted == counted - not_yet_in

    async def emptied(self) -> None:
        """Wait until everything accepted is answered, or waits for time to pass."""
        while not self.is_empty:
            done = asyncio.get_running_loop().create_future()
            self._emptied.append(done)
            await done

    def pause(self, key: str) -> None:
        """What is accepted for the instance now waits for time to pass, before a retry."""
        self._paused[key] += 1
        self._tell_emptied()

    def resume(self, key: str) -> None:
        """The pause is over."""
        self._paused[key] -= 1
        if not self._paused[key]:
            del self._paused[key]

    def close(self) -> None:
        """Refuse whoever waits for room: the runtime stops."""
        queues = [self._at_common, *self._at_instance.values()]
        self._at_common, self._at_instance = OrderedDict(), {}
        for waiting in [waiting for queue in queues for waiting in queue]:
            if not waiting.admitted.done():
                waiting.admitted.set_exception(
                    RuntimeNotRunning("the runtime is stopping", remedy="send it again later")
                )

    def _tell_emptied(self) -> None:
        if self.is_empty:
            emptied, self._emptied = self._emptied, []
            for done in emptied:
                if not done.done():
                    done.set_result(None)

    def _queue(self, waiting: Waiting) -> None:
        key = waiting.key
        if key in self._at_instance or self._depth.get(key, 0) >= self._settings.mailbox_max:
            self._at_instance.setdefault(key, OrderedDict())[waiting] = None
        else:
            self._pass_first(waiting)

    def _pass_first(self, waiting: Waiting) -> None:
        waiting.has_passed_first = True
        self._depth[waiting.key] = self._depth.get(waiting.key, 0) + 1
        if self.accepted < self._settings.in_flight_max and not self._at_common:
            self._let_in(waiting)
        else:
            self._at_common[waiting] = None

    def _let_in(self, waiting: Waiting) -> None:
        if not waiting.admitted.done():
            self.accepted += 1
            waiting.delivery.room = self
            waiting.admitted.set_result(None)
            self._deliver(waiting.delivery)

    def _leave_instance(self, key: str) -> None:
        depth = self._depth[key] - 1
        if depth:
            self._depth[key] = depth
        else:
            del self._depth[key]
        if depth >= self._settings.mailbox_max:
            return  # by what may not wait for room
        queue = self._at_instance.get(key)
        while queue:
            waiting, _ = queue.popitem(last=False)
            if not queue:
                del self._at_instance[key]
            if not waiting.admitted.done():
                self._pass_first(waiting)
                return

    def give_up(self, waiting: Waiting) -> None:
        """Free the place in the queue, if it is still held."""
        if waiting.has_passed_first:
            if waiting in self._at_common:
                del self._at_common[waiting]
                self._leave_instance(waiting.key)
            return
        queue = self._at_instance.get(waiting.key)
        if queue is not None:
            queue.pop(waiting, None)
            if not queue:
                del self._at_instance[waiting.key]

    def _refuse(self, waiting: Waiting, delivery: Delivery) -> None:
        if waiting.admitted.done():
            return
        self.give_up(waiting)
        waiting.admitted.set_exception(
            MailboxFull(
                f"no room for {delivery.message.type} within {self._settings.accept_timeout_s} s",
                saga=delivery.definition.name,
                correlation_id=delivery.correlation_id,
                remedy="send more slowly, or raise mailbox_max or in_flight_max",
            )
        )
