"""One work queue at work: takes what may start from its state, and has it started. No polling.

    committed ─> offer ─> pump ─> state.take ─> start(row) ─> release ─> closed / delayed

The queue's state is pure (``core/work.py``); this reads the store for it when it holds too little,
and wakes when the rate allows the next start. Knows no workers. Next to read: ``workers.py``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from perdure.core.commit import OutboxRow
from perdure.core.work import QueuePolicy, QueueState
from perdure.runtime.clock import Wake
from perdure.runtime.jobs.pauses import Pauses
from perdure.runtime.jobs.permits import QueuePermits
from perdure.runtime.services import Services
from perdure.runtime.supervised import UNEXPECTED
from perdure.runtime.watching.logs import about

__all__ = ["Runner"]

logger = logging.getLogger("perdure.workers")


UNSETTLED_MAX = 1_000
"""So many jobs of a queue may be performed and not durable yet: its workers wait for the store."""


class Runner:
    """Starts the jobs of one queue; ``start`` is called for each, on the loop."""

    def __init__(
        self,
        services: Services,
        policy: QueuePolicy,
        pauses: Pauses,
        on_quiet: Callable[[], None],
        permits: QueuePermits | None = None,
    ) -> None:
        self.name = policy.name
        self.state = QueueState(
            policy,
            services.settings.queue_window,
            is_partial=True,
            starts=None if permits is None else permits.starts,
        )
        self.start: Callable[[OutboxRow], None]
        self.delivers = False
        """Its jobs are deliveries to instances: whoever waits for those waits for the jobs."""
        self.held = 0
        """So many who repair have seized some of its jobs: nothing is started meanwhile."""
        self._services = services
        self._pauses = pauses
        self._permits = permits
        if permits is not None:
            permits.enlist(self)
        self._reading = services.background(f"reading queue {policy.name!r}", self._read, on_quiet)
        self._wake: Wake | None = None
        self._is_running = False
        self._is_pumping = False

    def open(self) -> None:
        """Start jobs from now on; those in the store are read."""
        self._is_running = True
        self.pump()

    async def close(self) -> None:
        """Start nothing more."""
        self._is_running = False
        if self._wake is not None:
            self._wake.cancel()
        await self._reading.stop()

    def offer(self, row: OutboxRow) -> None:
        """The row is durable and may start."""
        self.state.offer(row)

    def look_into_store(self) -> None:
        """Something that may start is there, and was not offered."""
        self.state.more_in_store()
        self.pump()

    def pump(self) -> None:
        """Start whatever may start."""
        self._pump()
        if self._permits is not None:
            self._permits.passed(self)

    def _pump(self) -> None:
        if not self._is_running or self._is_pumping or self.held:
            return  # a start that ends at once comes back here: the loop below goes on
        self._is_pumping = True
        state = self.state
        now_s = self._services.clock.monotonic_s()
        try:
            while state.settling_count < UNSETTLED_MAX and self._may_start:
                row = state.take(now_s)
                if row is None:
                    break
                self._start(row)
        finally:
            self._is_pumping = False
        wait_s = state.wait_s(now_s)
        if wait_s is not None and self._wake is None:
            self._wake = self._services.clock.call_later(wait_s, self._on_wake)
        if state.needs_more:
            self._reading.start()

    @property
    def _may_start(self) -> bool:
        return self._permits is None or self._permits.may_start(self)

    @property
    def _is_held_up(self) -> bool:
        """What it has to do waits for other runtimes of the process."""
        permits = self._permits
        if permits is None or not self._is_running:
            return False
        return self.state.waiting_count > 0 and permits.holds_up(self)

    def leave(self) -> None:
        """None of its jobs is at work any more: others may start theirs."""
        if self._permits is not None:
            self._permits.leave(self)

    @property
    def is_quiet(self) -> bool:
        """No worker is at work and nothing is read; what waits, waits for time or a release."""
        if self._reading.is_running or self._is_held_up:
            return False
        return self.delivers or all(position in self._pauses for position in self.state.running)

    def _start(self, row: OutboxRow) -> None:
        try:
            self.start(row)
        except UNEXPECTED:  # a mistake of ours: the store has the job, and it is read again
            extra = about(row.instance, row.id, row.attempts)
            logger.exception(
                "job %s of queue %r could not be started", row.id, self.name, extra=extra
            )
            self.state.done(row.position)
            self._services.pause(f"starting job {row.id}", self.look_into_store)

    def _on_wake(self) -> None:
        self._wake = None
        self.pump()

    async def _read(self) -> None:
        state, store = self.state, self._services.store
        while state.needs_more and self._is_running:
            limit = state.begin_refill()
            try:
                now_ms = self._services.clock.now_ms()
                rows = await store.jobs_ready(self.name, now_ms, limit)
            except BaseException:
                state.refill_failed()
                raise
            state.refilled(rows, complete=len(rows) < limit)
            self.pump()
