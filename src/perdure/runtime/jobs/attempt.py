"""One attempt at a job: the worker's call, its lease, and its end, which is told once.

    begin ─> the worker returns or raises ─────────────> on_end(attempt, result, error)
         └─> its lease runs out, or it is cancelled ───> on_end(…, LeaseLost), and what the
                                                         worker still returns is refused
A coroutine runs as a task of the loop, a plain function on a thread. Nothing a worker raises goes
further than here. Knows no store. Next to read: ``settling.py``, what becomes of the job.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Mapping
from contextvars import Context
from functools import partial
from typing import Any

from perdure.codec.outbox import Context as Travelling
from perdure.core.commit import OutboxRow
from perdure.core.correlation import split_key
from perdure.core.described import in_short
from perdure.core.queue_policy import QueuePolicy
from perdure.errors import LeaseLost
from perdure.job import Job
from perdure.messages import datetime_of
from perdure.runtime.clock import Clock, Wake
from perdure.runtime.jobs.leases import RECHECK_S, RETRY_PAUSE_S, Leases
from perdure.runtime.supervised import insist
from perdure.runtime.threads import Call, Calls
from perdure.runtime.watching.logs import about
from perdure.runtime.watching.tracing import JobSpan, Spans
from perdure.worker_signature import Worker

__all__ = ["Attempt", "OnEnd", "job_of"]

logger = logging.getLogger("perdure.workers")

OnEnd = Callable[["Attempt", Any, BaseException | None], None]


class Attempt:
    """One attempt of ``worker`` at the job of ``row``; ``number`` is 1 for the first one.

    ``function`` is what is called: the worker's, or what does more around it.
    """

    __slots__ = (
        "_call",
        "_clock",
        "_is_over",
        "_lease",
        "_leases",
        "_limit_s",
        "_loop",
        "_on_end",
        "_threads",
        "_until_s",
        "began_s",
        "function",
        "job",
        "number",
        "row",
        "span",
        "task",
        "worker",
    )

    def __init__(
        self,
        row: OutboxRow,
        worker: Worker,
        number: int,
        leases: Leases,
        clock: Clock,
        threads: Calls,
        on_end: OnEnd,
        within_s: float = math.inf,
    ) -> None:
        self.row = row
        self.worker = worker
        self.function = worker.function
        self.number = number
        self.job: Job | None = None
        self.span: JobSpan | None = None
        self._clock = clock
        self._threads = threads
        self._loop = asyncio.get_running_loop()
        self._on_end = on_end
        self._leases = leases
        self.task: asyncio.Task[None] | None = None
        self._call: Call | None = None
        self._lease: Wake | None = None
        self._until_s = self.began_s = 0.0
        self._limit_s = clock.monotonic_s() + within_s  # however long the lease
        self._is_over = False

    def begin(
        self, job: Job, command: Any, resources: Mapping[str, Any], spans: Spans | None = None
    ) -> None:
        """Call the worker."""
        self.job = job
        now_s = self.began_s = self._clock.monotonic_s()
        if spans is not None:
            self.span = spans.job(self.row, job.headers, self.worker.name, self.number, now_s)
        self._until_s = min(now_s + self._leases.lease_s, self._limit_s)
        if self._limit_s == math.inf:
            self._leases.hold(self, now_s)
        else:
            self._lease = self._clock.call_later(self._until_s - now_s, self._on_own_lease())
        arguments = arguments_of(self.worker, job, resources)
        # A context of its own: it must not see the variables of whoever committed last.
        context = Context() if self.span is None else self.span.context()
        if self.worker.is_async:
            perform = self.perform(command, arguments)
            self.task = self._loop.create_task(perform, context=context)
        else:
            perform_ = partial(self._perform_on_thread, command, arguments)
            self._call = self._threads.run(partial(context.run, perform_))

    def extend(self, seconds: float) -> None:
        """Let the lease run anew, for so long from now. Any thread may call it."""
        self._until_s = min(self._clock.monotonic_s() + seconds, self._limit_s)

    def take_away(self, why: LeaseLost) -> None:
        """End the attempt without its worker: what that still returns is refused."""
        if self._is_over:
            return
        self._over()
        if self.job is not None:
            self.job.take_away(why.problem)
        if self.task is not None:
            self.task.cancel()
        elif self._call is not None:
            self._threads.give_up(self._call)
        self._on_end(self, None, why)

    async def perform(self, command: Any, arguments: dict[str, Any]) -> None:
        """Call a worker that is a coroutine, on the loop."""
        try:
            result = await self.function(command, **arguments)
        except BaseException as error:  # also SystemExit: a worker must not end the process
            self._ended(None, error)
        else:
            self._ended(result, None)

    def _perform_on_thread(self, command: Any, arguments: dict[str, Any]) -> None:
        result: Any = None
        failure: BaseException | None = None
        if self._is_over:
            return
        self.extend(self._leases.lease_s)  # not while it waited for a thread
        try:
            result = self.function(command, **arguments)
        except BaseException as error:
            failure = error
        try:
            self._loop.call_soon_threadsafe(self._ended, result, failure)
        except RuntimeError:  # the loop is closed; the job is done again when there is one
            logger.warning("worker %s ended after its runtime", self.worker.name)

    def _ended(self, result: Any, error: BaseException | None) -> None:
        if not self._is_over:
            self._over()
            self._on_end(self, result, error)
        elif not isinstance(error, (asyncio.CancelledError, LeaseLost)):
            logger.warning(
                "worker %s ended with %s after it had lost job %s: refused",
                self.worker.name,
                "a result" if error is None else in_short(error),
                self.row.id,
                extra=about(self.row.instance, self.row.id, self.number),
            )

    def told(self, error: BaseException | None) -> None:
        """What its end comes to is under way: nothing more follows from it."""
        if self.span is not None:
            self.span.ended(error)

    def _over(self) -> None:
        self._is_over = True
        self._leases.release(self)
        if self._lease is not None:
            self._lease.cancel()

    def _on_own_lease(self) -> Callable[[], None]:
        return insist(self._clock, RETRY_PAUSE_S, "the end of a lease", self.on_lease)

    def on_lease(self) -> None:
        """The lease has run its length; it may have been prolonged."""
        now_s = self._clock.monotonic_s()
        left_s = self._until_s - now_s
        if self._call is not None and self._call.is_waiting:
            self._threads.urge()
            left_s = min(self._leases.lease_s, self._limit_s - now_s)
        if left_s >= RECHECK_S:
            self._lease = self._clock.call_later(left_s, self._on_own_lease())
            return
        why = f"the lease of {self._leases.lease_s:g} s ran out"
        if self._until_s >= self._limit_s:
            why = "the time within which the command had to be done is up"
        logger.error(
            "job %s is taken from worker %s: %s",
            self.row.id,
            self.worker.name,
            why,
            extra=about(self.row.instance, self.row.id, self.number),
        )
        self.take_away(LeaseLost(why))


def job_of(row: OutboxRow, context: Travelling, policy: QueuePolicy, attempt: Attempt) -> Job:
    """What the worker sees of its job."""
    saga, instance_id = split_key(row.instance) if row.instance else ("", "")
    return Job(
        key=row.id,
        attempt=attempt.number,
        max_attempts=policy.retry.max_attempts,
        queue=policy.name,
        saga=saga,
        instance_id=instance_id,
        correlation_id=context.correlation_id,
        causation_id=context.causation_id,
        headers=context.headers,
        enqueued_at=datetime_of(row.created_at_ms),
        lease_s=policy.lease_s,
        extend=attempt.extend,
    )


def arguments_of(worker: Worker, job: Job, resources: Mapping[str, Any]) -> dict[str, Any]:
    """What a worker is given beside its message."""
    found = {name: resources[name] for name in worker.required}
    for name in worker.optional:
        if name in resources:
            found[name] = resources[name]
    if worker.job_parameter is not None:
        found[worker.job_parameter] = job
    return found
