"""A work queue of a running runtime, from outside: pause, resume, cancel, look; and enqueue.

    queue = runtime.queue("payments")
    await queue.pause("the provider is down")        # kept over restarts, until resume
    print(await queue.depth(), queue.running)

Next to read: ``dispatcher.py``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from perdure.core.commit import OutboxRow, QueueRow, Settlement
from perdure.core.correlation import split_key
from perdure.errors import CodecError, UnknownJob, UnknownQueue
from perdure.messages import Message, datetime_of
from perdure.runtime.elsewhere import Errand
from perdure.runtime.jobs.dispatcher import Dispatcher
from perdure.runtime.jobs.job_tickets import Awaited, nothing
from perdure.runtime.jobs.orders import JobOrders
from perdure.runtime.jobs.outbound import Outbound
from perdure.runtime.jobs.runner import Runner
from perdure.runtime.jobs.workers import Workers
from perdure.runtime.services import Services

__all__ = ["JobView", "QueueRef", "Queues"]

PAGE = 100


@dataclass(frozen=True, slots=True)
class JobView:
    """A job that waits or runs. ``attempts`` have not succeeded, ``error`` is the last one's.

    ``due_at`` is when the next attempt may begin, None: at once. ``saga`` and ``correlation_id``
    are those of the instance that sent it, "" for a job that none sent.
    """

    id: str
    queue: str
    type: str
    content: Any
    saga: str
    correlation_id: str
    attempts: int
    due_at: datetime | None
    error: str
    is_running: bool
    enqueued_at: datetime


class QueueRef:
    """One work queue of the runtime."""

    def __init__(self, services: Services, runner: Runner, workers: Workers) -> None:
        self.name = runner.name
        self._services = services
        self._runner = runner
        self._workers = workers

    @property
    def is_paused(self) -> bool:
        """Nothing is started."""
        return self._runner.state.is_paused

    @property
    def pause_reason(self) -> str:
        """Why it is paused, "" if it is not."""
        return self._runner.state.pause_reason

    @property
    def running(self) -> int:
        """How many workers are at work."""
        return len(self._workers.attempts)

    async def depth(self) -> int:
        """How many jobs wait or run."""
        return (await self._services.store.queue_depths()).get(self.name, 0)

    async def pause(self, reason: str = "paused by hand") -> None:
        """Start nothing more, also after a restart, until ``resume``; what runs goes on."""
        self._runner.state.pause(reason)
        if not await self._everywhere("pause queue", reason):
            await self._write(True, reason)

    async def resume(self) -> None:
        """Start jobs again."""
        if await self._everywhere("resume queue"):
            self._runner.state.resume()
        else:
            await self._write(False, "", self._go_on)

    async def cancel(self, job_id: str) -> None:
        """Give up a job: it becomes a dead letter, and its instance is told that it failed.

        A worker that is at it is told through ``job.is_cancelled`` (a coroutine is cancelled), and
        its result is refused. Raises ``UnknownJob``.
        """
        row = await self._find(job_id)
        away = None if row is None else self._services.away(row.instance or row.id)
        if row is not None and away is not None:
            await away.run(Errand(row.instance or row.id, "cancel job", (self.name, job_id)))
            return
        if row is not None and self._workers.cancel(row.position):
            return
        if row is None or self._runner.state.is_under_way(row.position):
            raise UnknownJob(
                f"no job {job_id!r} waits or runs in queue {self.name!r}",
                remedy="it is done, or a dead letter, or in another queue",
            )
        self._runner.state.drop(row.position)
        self._workers.cancel_waiting(row)

    async def jobs(self) -> AsyncIterator[JobView]:
        """Jobs that wait or run, oldest first, read page by page."""
        async for row in self._rows():
            yield self._view(row)

    async def _rows(self) -> AsyncIterator[OutboxRow]:
        after = 0
        while True:
            rows = await self._services.store.outbox(after, PAGE, self.name)
            for row in rows:
                yield row
            if len(rows) < PAGE:
                return
            after = rows[-1].position

    async def _find(self, job_id: str) -> OutboxRow | None:
        for attempt in self._workers.attempts.values():
            if attempt.row.id == job_id:
                return attempt.row
        async for row in self._rows():
            if row.id == job_id:
                return row
        return None

    def _view(self, row: OutboxRow) -> JobView:
        try:
            content = self._services.codec.decode(row.type, row.version, row.body)
        except CodecError:
            content = None
        return JobView(
            row.id,
            self.name,
            row.type,
            content,
            *(split_key(row.instance) if row.instance else ("", "")),
            row.attempts,
            datetime_of(row.due_at_ms) if row.due_at_ms else None,
            row.error,
            row.position in self._workers.attempts,
            datetime_of(row.created_at_ms),
        )

    async def _everywhere(self, name: str, *arguments: str) -> bool:
        """Of a front, which performs nothing itself: have all do it."""
        elsewhere = self._services.elsewhere
        if elsewhere is None or not elsewhere.owns_nothing:
            return False
        await elsewhere.run_everywhere(name, self.name, *arguments)
        return True

    def _go_on(self) -> None:
        self._runner.state.resume()
        self._runner.pump()

    async def _write(
        self, is_paused: bool, reason: str, then: Callable[[], None] = nothing
    ) -> None:
        row = QueueRow(self.name, is_paused, reason, self._services.clock.now_ms())
        ticket = Awaited(row, then)
        self._services.commit.submit(ticket)
        await ticket.outcome


class Queues:
    """The work queues of one runtime, and the way into them for whoever is no saga."""

    def __init__(self, services: Services, outbound: Outbound, dispatcher: Dispatcher) -> None:
        self._services = services
        self._orders = JobOrders(outbound, services.clock.now_ms, services.next_position)
        self._dispatcher = dispatcher

    def ref(self, name: str) -> QueueRef:
        """The queue of this name. Raises ``UnknownQueue``."""
        workers = self._dispatcher.workers.get(name)
        if workers is None:
            raise UnknownQueue(
                f"the runtime performs no work queue {name!r}",
                remedy=f"it performs {', '.join(sorted(self._dispatcher.workers)) or 'none'}",
            )
        return QueueRef(self._services, self._dispatcher.runners[name], workers)

    async def enqueue(
        self, message: Message, queue: str | None, delay: timedelta | None, is_named: bool
    ) -> None:
        """Queue a command that no saga sends, under its message id. Raises ``Unroutable``.

        ``is_named``: the id is the caller's, and may be there already.
        """
        row = self._orders.command(message, queue, delay, is_named)
        await self._write([row], is_named)

    async def publish(self, message: Message, is_named: bool) -> None:
        """Queue an event for its subscribers, if there are any."""
        rows = self._orders.events(message)
        if rows:
            await self._write(rows, is_named)

    async def put(self, row: OutboxRow, is_named: bool) -> None:
        """Queue a job that another runtime has accepted: its id belongs here."""
        await self._write([replace(row, position=self._services.next_position())], is_named)

    async def _write(self, rows: Sequence[OutboxRow], is_named: bool) -> None:
        """One whose id waits already is left out by the store; the others are handed out."""
        elsewhere = self._services.elsewhere
        if elsewhere is not None:
            theirs = [row for row in rows if not elsewhere.owns(row.id)]
            rows = [row for row in rows if row not in theirs]
            await asyncio.gather(*(elsewhere.enqueue(row, is_named) for row in theirs))
            if not rows:
                return
        doubtful = self._dispatcher.doubtful
        hand_out = doubtful if is_named else self._dispatcher.committed
        ticket = Awaited(
            Settlement("", outbox=tuple(rows)), lambda: hand_out(rows), lambda: doubtful(rows)
        )
        self._services.commit.submit(ticket)
        await ticket.outcome
