"""Dispatch: what is committed in the outbox is handed to whoever performs it. No polling.

    a turn is durable ─> committed(rows) ─> the queue's runner ─> a worker, or the sagas
                                                  └─> closed / delayed, once that is durable

A row that waits for a moment is held by one timer; a row that follows another is read when that one
is done with. After a failed commit the rows in doubt are read back. The store is the truth: what
is in memory is a window on it. Next to read: ``runner.py``, ``workers.py``, ``saga_mail.py``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from perdure.core.commit import OutboxRow, QueueRow
from perdure.core.outgoing import SAGAS
from perdure.core.retry import Fixed
from perdure.core.work import QueuePolicy
from perdure.runtime.delivery import Delivery
from perdure.runtime.instances.timers import Timer
from perdure.runtime.jobs.adopting import Adoption
from perdure.runtime.jobs.outbound import Outbound
from perdure.runtime.jobs.pauses import Pauses
from perdure.runtime.jobs.permits import Permits
from perdure.runtime.jobs.read_back import ReadBack
from perdure.runtime.jobs.runner import Runner
from perdure.runtime.jobs.saga_mail import SagaMail
from perdure.runtime.jobs.settling import Settling
from perdure.runtime.jobs.workers import Workers
from perdure.runtime.repair.seizing import Seizing
from perdure.runtime.routing import Routing
from perdure.runtime.services import Services
from perdure.runtime.threads import Threads

__all__ = ["Dispatcher"]

logger = logging.getLogger("perdure.workers")

PAGE = 1_000

MAIL_AT_ONCE = 1_000
"""So many events that several instances take are on their way at a time."""


class Dispatcher:
    """Hands out the rows of the outbox, to the work queues of one runtime and to its sagas."""

    def __init__(
        self,
        services: Services,
        routing: Routing,
        outbound: Outbound,
        resources: Mapping[str, Any],
        threads: Threads,
    ) -> None:
        self._services = services
        self._threads = threads.calls(services.settings.worker_threads_max)
        self.settling = Settling(services, routing, outbound, self)
        self._pauses = Pauses(services)
        self.runners: dict[str, Runner] = {}
        self.workers: dict[str, Workers] = {}
        self.adoption = Adoption(services, outbound, self.runners.keys())
        for queue in outbound.queues.values():
            if not queue.workers:
                continue  # its jobs wait for a runtime that has the workers
            runner = self._runner(queue.policy, services.permits)
            workers = Workers(
                services, queue, self._threads, resources, self.settling, self._release(runner)
            )
            runner.start = workers.start
            self.workers[queue.name] = workers
        mail = self._runner(QueuePolicy(name=SAGAS, concurrency=MAIL_AT_ONCE, retry=Fixed(1.0)))
        mail.delivers = True
        mail.start = SagaMail(services, routing, self.settling, self._release(mail)).start
        settings = services.settings
        self._timer: Timer[OutboxRow] = Timer(
            services.clock,
            services.store.jobs_due,
            self._fire,
            lambda row: (row.position,),
            page=settings.queue_window,
            in_flight_max=settings.deadlines_in_flight_max,
            pause_s=settings.retry_pause_s,
            start=(0, 0),
            troubles=services.troubles,
        )
        self._read_back = ReadBack(services, self._hand_out, self._tell_quiet)
        self.seizing = Seizing(
            services, self.runners, self._hand_back, self._handed_back, self._tell_quiet
        )
        self._waiters: list[asyncio.Future[None]] = []

    def pause(
        self, position: int, what: str, function: Callable[[], None], failures: int = 1
    ) -> None:
        """Call after the pause before a retry; until then the job waits for time to pass."""
        self._pauses.begin(position, what, function, failures)
        self._tell_quiet()

    def _runner(self, policy: QueuePolicy, permits: Permits | None = None) -> Runner:
        runner = self.runners[policy.name] = Runner(
            self._services,
            policy,
            self._pauses,
            self._tell_quiet,
            None if permits is None else permits.of(policy),
        )
        return runner

    def _release(self, runner: Runner) -> Callable[..., None]:
        def release(position: int, succeeded: bool | None = None) -> None:
            if succeeded is not None and runner.state.ended(succeeded):
                self._paused(runner)
            runner.state.release(position)
            runner.pump()
            self._tell_quiet()

        return release

    # Life

    async def start(self, admit: Callable[[Delivery], None]) -> None:
        """Hand out what waits; results are delivered through ``admit``."""
        self.settling.telling.admit = admit
        for row in await self.adoption.start():
            runner = self.runners.get(row.name)
            if runner is not None and row.is_paused:
                runner.state.pause(row.reason)
                logger.warning("work queue %r is paused: %s", row.name, row.reason)
        if any(runner.state.policy.sequential for runner in self.runners.values()):
            await self._hold_heads()
        await self._timer.start()
        for workers in self.workers.values():
            if workers.own is not None:
                workers.own.start()
        for runner in self.runners.values():
            runner.open()

    async def _hold_heads(self) -> None:
        """The retry of a sequential queue's first job holds up the later ones from the start on."""
        after = (0, 0)
        while rows := await self._services.store.jobs_due(after, PAGE):
            for row in rows:
                runner = self.runners.get(row.target)
                if runner is not None and row.attempts:
                    runner.state.postponed(row)
            after = (rows[-1].due_at_ms, rows[-1].position)

    async def drain(self, until_s: float) -> None:
        """Start nothing more; wait for the workers, then take the jobs from those still at work."""
        for runner in self.runners.values():
            await runner.close()
        await self._timer.stop()
        await self._read_back.stop()
        await self.seizing.stop()
        for workers in self.workers.values():
            workers.start_no_more()
        self._pauses.end_all()
        try:
            async with asyncio.timeout_at(until_s):
                await self.settled()
        except TimeoutError:
            left = sum(len(workers.attempts) for workers in self.workers.values())
            logger.warning("stopping: %d jobs are taken from their workers", left)
            for workers in self.workers.values():
                await workers.abandon()
        for workers in self.workers.values():
            await workers.close()
        for runner in self.runners.values():
            runner.leave()
        self._threads.close()

    @property
    def is_settled(self) -> bool:
        """Whatever could be done is done, and written; the rest waits for time or for people.

        A result on its way to its instance is not counted: the instance's mail is.
        """
        return (
            all(runner.is_quiet for runner in self.runners.values())
            and not self._timer.is_reading
            and self._services.commit.is_idle
            and self._read_back.is_settled
            and self.seizing.is_settled
        )

    async def settled(self) -> None:
        """Wait until whatever can be done is done."""
        while not self.is_settled:
            if self._timer.is_reading:
                await self._timer.read()
            elif not self._services.commit.is_idle:
                await self._services.commit.drained()
            else:
                done = asyncio.get_running_loop().create_future()
                self._waiters.append(done)
                await done

    def _tell_quiet(self) -> None:
        """Something has ended: whoever waits looks again."""
        waiters, self._waiters = self._waiters, []
        for done in waiters:
            if not done.done():
                done.set_result(None)

    @property
    def is_on_loop(self) -> bool:
        """Some worker is at work that may have work of its own on the event loop."""
        return any(workers.attempts for workers in self.workers.values() if workers.has_coroutines)

    @property
    def under_way(self) -> frozenset[int]:
        """The positions of the jobs that are performed, or have been and the store lags behind."""
        return frozenset().union(*(runner.state.under_way for runner in self.runners.values()))

    # What the store says

    def committed(self, rows: Sequence[OutboxRow]) -> None:
        """These rows are durable: hand them out, after those that are in doubt."""
        if self._read_back.has_doubts:
            self._read_back.doubtful(rows)
            return
        unknown = self.adoption.unattended
        for row in rows:
            # One that follows another is released by the end of that.
            if not row.after and row.target not in unknown:
                self._hand_out(row)

    def _hand_out(self, row: OutboxRow) -> None:
        runner = self.runners.get(row.target)
        if runner is None:
            self.adoption.warn(row.target)
        elif row.due_at_ms and row.due_at_ms > self._services.clock.now_ms():
            self._timer.set(row)
        elif row.after and not row.attempts:
            runner.look_into_store()  # it is due; whether it is its turn, the store says
        else:
            runner.offer(row)
            runner.pump()

    def doubtful(self, rows: Sequence[OutboxRow]) -> None:
        """A commit with these rows failed: whether they are there is read back."""
        self._read_back.doubtful(rows)

    def done(self, row: OutboxRow) -> None:
        """The job's row is deleted: it was done."""
        self.gone(row)
        if row.leads:
            self._read_back.released(row.position)

    def gone(self, row: OutboxRow) -> None:
        """There is no such job any more; it may be a dead letter."""
        runner = self.runners[row.target]
        workers = self.workers.get(row.target)
        if workers is not None and workers.own is not None:
            workers.own.settled(row.position)
        self._read_back.changed(row)
        runner.state.done(row.position)
        if row.due_at_ms:
            self._timer.clear(row.position)
        runner.pump()
        self._tell_quiet()

    def released(self, position: int) -> None:
        """The job at this position is done with, perhaps: those that follow it may start then."""
        self._read_back.released(position)

    def delayed(self, row: OutboxRow) -> None:
        """The job's row is rewritten: it may start at ``due_at_ms``."""
        runner = self.runners[row.target]
        self._read_back.changed(row)
        runner.state.postponed(row)
        self._hand_out(row)
        runner.pump()
        self._tell_quiet()

    def abandoned(self, row: OutboxRow) -> None:
        """The job stays in the store as it is, and is not done by this runtime any more."""
        self.runners[row.target].state.done(row.position)
        self._tell_quiet()

    def left(self, row: OutboxRow) -> None:
        """The job stays in the store as it is, for an owner whose code knows it."""
        runner = self.runners[row.target]
        runner.state.leave(row)
        runner.pump()
        self._tell_quiet()

    def _hand_back(self, row: OutboxRow) -> None:
        """Somebody has repaired the job, or has only looked: it goes on as its row says."""
        runner = self.runners.get(row.target)
        self._timer.clear(row.position)
        if runner is not None and row.attempts:
            runner.state.postponed(row)  # the head of a sequential queue holds up the others still
        self._hand_out(row)

    def _handed_back(self, row: OutboxRow) -> None:
        """There is no such job any more."""
        self._read_back.changed(row)
        self._timer.clear(row.position)
        self._read_back.released(row.position)

    def _fire(self, row: OutboxRow, done: Callable[[bool], None]) -> None:
        done(False)
        self._hand_out(row)

    def _paused(self, runner: Runner) -> None:
        reason = runner.state.pause_reason
        logger.error("work queue %r pauses: %s", runner.name, reason)
        row = QueueRow(runner.name, True, reason, self._services.clock.now_ms())
        self.settling.put(row, lambda: runner.state.pause_reason == reason)
