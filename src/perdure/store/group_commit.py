"""Group commit: what is waiting goes into one transaction. No artificial delay, one writer.

While one transaction runs, the next group gathers; so a single sender waits for one commit, and a
thousand share a few. Tickets are told the outcome in the order they were submitted, on the loop.

    submit(ticket) ─> waiting ─> store.write([…]) ─> ticket.written()
                                                  ├> ticket.left_out(error)
                                                  └> ticket.unknown(error): the write failed

After an unknown outcome the ticket's owner is over and withdraws what it has waiting here
(``ticket.is_void``), so that no later turn lands on a turn that may be missing.
Knows the store's protocol, nothing of actors. Next to read: ``runtime/instances/saga_actor.py``.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

import perdure.failpoints as failpoints
from perdure.core.commit import Entry
from perdure.errors import StoreError, StoreUnavailable
from perdure.failpoints import Point
from perdure.store.protocol import Store

__all__ = ["GroupCommit", "Ticket", "Watch"]

logger = logging.getLogger("perdure.store")


class Ticket(Protocol):
    """An entry to write, and who hears what became of it."""

    @property
    def entry(self) -> Entry:
        """What to write."""
        ...

    @property
    def is_void(self) -> bool:
        """The owner is over; the entry must not be written any more."""
        ...

    def written(self) -> None:
        """The entry is durable."""
        ...

    def left_out(self, error: StoreError) -> None:
        """The entry was certainly not written; its neighbours were."""
        ...

    def unknown(self, error: StoreError) -> None:
        """The transaction failed; whether it was committed must be read back."""
        ...


class Watch(Protocol):
    """Who hears of each transaction. Must not raise."""

    def begun(self) -> None: ...

    def written(self, entries: Sequence[Entry], outcomes: Sequence[StoreError | None]) -> None: ...


class _Unwatched:
    """Nobody wants to hear of transactions."""

    def begun(self) -> None:
        """Nobody hears it."""

    def written(self, entries: Sequence[Entry], outcomes: Sequence[StoreError | None]) -> None:
        """Nobody hears it."""


class GroupCommit:
    """The one writer of a store.

    ``batch_max`` bounds the entries of one transaction. Only for use on one event loop.
    """

    def __init__(self, store: Store, batch_max: int, watch: Watch | None = None) -> None:
        self.store = store
        self.batch_max = batch_max
        self.watch = watch or _Unwatched()
        self.commits = 0
        self.error: StoreError | None = None
        """Why the last write failed; None if it did not."""
        self.began_s: float | None = None
        """When the write under way began, by the loop's time; None if there is none."""
        self._waiting: deque[Ticket] = deque()
        self._work: asyncio.Future[None] | None = None
        self._drained: list[asyncio.Future[None]] = []
        self._is_stopping = False

    def submit(self, ticket: Ticket) -> None:
        """Have the ticket's entry written with the next group."""
        if self._is_stopping:
            self._tell(ticket.left_out, StoreUnavailable("the runtime has stopped"))
            return
        self._waiting.append(ticket)
        if self._work is not None:
            self._wake()

    def withdraw_void(self) -> None:
        """Forget waiting tickets that have become void."""
        self._waiting = deque(ticket for ticket in self._waiting if not ticket.is_void)

    @property
    def is_idle(self) -> bool:
        """Nothing waits and nothing is being written."""
        return not self._waiting and self.began_s is None

    async def drained(self) -> None:
        """Wait until nothing waits and nothing is being written."""
        while not self.is_idle:
            done = asyncio.get_running_loop().create_future()
            self._drained.append(done)
            await done

    def abandon(self) -> None:
        """End as soon as the transaction under way does, without waiting for it."""
        self._is_stopping = True
        self._wake()
        self._give_up()

    def stop(self) -> None:
        """Let ``run`` end after the transaction under way; what still waits is not written."""
        self._is_stopping = True
        self._wake()

    def _wake(self) -> None:
        work = self._work
        if work is not None and not work.done():
            work.set_result(None)

    async def run(self) -> None:
        """Write what comes until ``stop``; one at a time. If it raises, run it again."""
        loop = asyncio.get_running_loop()
        while not self._is_stopping:
            if not self._waiting:
                self._tell_drained()
                self._work = loop.create_future()
                try:
                    await self._work
                finally:
                    self._work = None
            group = self._take()
            if group and not self._is_stopping:
                self.began_s = loop.time()
                try:
                    await self._write(group)
                finally:
                    self.began_s = None
        self._give_up()
        self._tell_drained()

    def _give_up(self) -> None:
        """Nothing more is written: whoever waits for that must not wait for ever."""
        waiting, self._waiting = self._waiting, deque()
        for ticket in waiting:
            if not ticket.is_void:
                self._tell(ticket.left_out, StoreUnavailable("the runtime has stopped"))

    def _take(self) -> list[Ticket]:
        waiting = self._waiting
        if len(waiting) <= self.batch_max:
            self._waiting = deque()
            return list(waiting)
        return [waiting.popleft() for _ in range(self.batch_max)]

    async def _write(self, group: list[Ticket]) -> None:
        entries = [ticket.entry for ticket in group]
        self.watch.begun()
        try:
            outcomes = await self.store.write(entries)
            if len(outcomes) != len(group):
                raise StoreUnavailable(f"{len(outcomes)} answers to {len(group)} entries")
            if failpoints.listener is not None:
                failpoints.reach(Point.COMMITTED)
        except (Exception, asyncio.CancelledError) as error:
            logger.warning("writing a group of %d failed: %s", len(group), error)
            failure = self.error = _as_store_error(error)
            for ticket in group:
                self._tell(ticket.unknown, failure)
            self.withdraw_void()
            if isinstance(error, asyncio.CancelledError) and _is_cancelled():
                raise  # the task itself, not the driver's call
            return
        self.commits += 1
        self.error = None
        self.watch.written(entries, outcomes)
        for ticket, outcome in zip(group, outcomes, strict=True):
            if outcome is None:
                self._tell(ticket.written)
            else:
                self._tell(ticket.left_out, outcome)
        if outcomes.count(None) < len(outcomes):
            self.withdraw_void()

    def _tell(self, tell: Callable[..., None], *error: StoreError) -> None:
        try:
            tell(*error)
        except (
            Exception,
            asyncio.CancelledError,
        ):  # a listener's mistake must not end the one writer
            logger.exception("telling what became of an entry failed")

    def _tell_drained(self) -> None:
        waiting, self._drained = self._drained, []
        for done in waiting:
            if not done.done():
                done.set_result(None)


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and bool(task.cancelling())


def _as_store_error(error: BaseException) -> StoreError:
    if isinstance(error, StoreError):
        return error
    failure = StoreUnavailable(f"cannot write: {error or type(error).__name__}")
    failure.__cause__ = error
    return failure
