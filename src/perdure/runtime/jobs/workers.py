"""The workers of one queue: from a job to an attempt, and from its end to what becomes of the job.

A job that was found in the store, put there by an earlier owner, was perhaps under way when that
ended: its attempt is written before it begins, so that a job which kills its process ends as a
dead letter. A job of this owner's own begins at once; its attempt is written when it has failed.
Where one attempt is all there is, or an unknown outcome is not repeated, or the queue says so, it
is always written first.
Next to read: ``attempt.py``, ``doubts.py``, ``settling.py``.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import perdure.failpoints as failpoints
from perdure.codec.outbox import unpack_context
from perdure.core.commit import OutboxKind, OutboxRow
from perdure.core.described import in_short
from perdure.errors import (
    CodecError,
    InvalidResult,
    JobError,
    LeaseLost,
    NonRetryable,
    UnknownType,
    UnknownVersion,
)
from perdure.failpoints import Point
from perdure.job import Job
from perdure.queue import WorkQueue
from perdure.runtime.ids import POSITIONS_PER_EPOCH
from perdure.runtime.jobs.attempt import Attempt, job_of
from perdure.runtime.jobs.delays import delay_ms_of
from perdure.runtime.jobs.doubts import Doubts, is_unknown
from perdure.runtime.jobs.giving_up import GivingUp
from perdure.runtime.jobs.job_events import JobEvents
from perdure.runtime.jobs.job_tickets import nothing
from perdure.runtime.jobs.leases import Leases
from perdure.runtime.jobs.own_work import own_work_of
from perdure.runtime.jobs.settling import CANCELLED, Settling
from perdure.runtime.services import Services
from perdure.runtime.supervised import UNEXPECTED
from perdure.runtime.threads import Calls
from perdure.runtime.watching.logs import about
from perdure.worker_signature import Worker

__all__ = ["Workers"]

logger = logging.getLogger("perdure.workers")

CLEANING_UP_S = 1.0
"""So long a cancelled coroutine may take to clean up when the runtime stops."""


class Workers:
    """Performs the jobs of ``queue``. ``release(position, succeeded)`` is told
    when a worker has ended, for good (True, False) or not."""

    def __init__(
        self,
        services: Services,
        queue: WorkQueue,
        threads: Calls,
        resources: Mapping[str, Any],
        settling: Settling,
        release: Callable[..., None],
    ) -> None:
        self.attempts: dict[int, Attempt] = {}
        self._services = services
        self._queue = queue
        self._policy = queue.policy
        self._threads = threads
        self._resources = resources
        self._settling = settling
        self._release = release
        self._leases = Leases(services.clock, queue.policy.lease_s)
        self._own_from = services.epoch * POSITIONS_PER_EPOCH
        self._since_ms = services.clock.now_ms()
        self._cancelled: set[int] = set()
        self._claiming: set[int] = set()
        self._doubts = Doubts()
        self._events = JobEvents(services)
        self.own = own_work_of(services, settling, queue, resources)
        self._giving_up = GivingUp(settling, self._doubts, self._events, release, self.own)
        self._is_stopping = False

    @property
    def has_coroutines(self) -> bool:
        """Some worker runs on the event loop itself."""
        return any(worker.is_async for worker in self._queue.workers.values())

    def start(self, row: OutboxRow) -> None:
        """Have the job performed."""
        retry, repeats = self._policy.retry, self._policy.repeat_unknown
        if self._leave(row):
            return
        if row.attempts or row.error:
            self._doubts.keep(row)
        if self._may_have_begun(row):
            self._doubts.add(row.position)
        if row.expires_at_ms and self._left_ms(row) <= 0:
            self._giving_up.hopeless(row, "expired")
        elif not repeats and is_unknown(row):
            self._giving_up.hopeless(row, "unknown")
        elif row.position > self._own_from and not self._writes_first:
            self._begin(row, row.attempts + 1)
        elif retry.should_retry(row.attempts) or not row.attempts:
            # Without an error: nobody knows yet how this attempt ends.
            claimed = replace(row, attempts=row.attempts + 1, error="")
            self._claiming.add(row.position)
            self._settling.claim(
                claimed, lambda: self._claimed(claimed, row), lambda: self._unclaimed(row.position)
            )
        else:
            self._giving_up.hopeless(row, "exhausted")

    def _leave(self, row: OutboxRow) -> bool:
        """Leave what another release has queued; before an attempt of it is counted."""
        is_own = row.position > self._own_from and row.content is not None
        if self._services.elsewhere is None or is_own:
            return False
        try:
            command = self._services.codec.decode(row.type, row.version, row.body)
        except (UnknownType, UnknownVersion) as error:
            return self._settling.leave(row, error)
        except CodecError:
            return False
        is_known = self._worker(row.kind, type(command)) is not None
        return not is_known and self._settling.leave(row, self._nobody(row, "declare one here"))

    def _nobody(self, row: OutboxRow, remedy: str) -> JobError:
        problem = f"work queue {self._queue.name!r} has no worker for {row.type}"
        return JobError(problem, remedy=remedy)

    def _left_ms(self, row: OutboxRow) -> int:
        return row.expires_at_ms - self._services.clock.now_ms()

    @property
    def _writes_first(self) -> bool:
        policy = self._policy
        return policy.write_first or not policy.repeat_unknown or policy.retry.max_attempts == 1

    def _may_have_begun(self, row: OutboxRow) -> bool:
        """It was due before this owner came: an attempt may have ended with the process before."""
        is_found = row.position <= self._own_from
        return is_found and row.due_at_ms < self._since_ms and not self._writes_first

    def _unclaimed(self, position: int) -> None:
        self._claiming.discard(position)
        self._cancelled.discard(position)
        self._doubts.forget(position)

    def _claimed(self, row: OutboxRow, before: OutboxRow) -> None:
        self._claiming.discard(row.position)
        if row.position in self._cancelled:
            self._cancelled.discard(row.position)
            self.cancelled(before)  # this attempt has not begun
        elif self._is_stopping:
            self._settling.restore(before)
        else:
            self._begin(row, row.attempts)

    def cancel(self, position: int) -> bool:
        """Take the job from its worker; False if none is at it."""
        if position in self._claiming:
            self._cancelled.add(position)
            return True
        attempt = self.attempts.get(position)
        if attempt is None:
            return False
        self._cancelled.add(position)
        attempt.take_away(LeaseLost("the job was cancelled"))
        return True

    def start_no_more(self) -> None:
        """The runtime stops: what was claimed and has not begun is given back."""
        self._is_stopping = True

    async def abandon(self) -> None:
        """The runtime stops: take the jobs from their workers; the next runtime does them again."""
        if self.own is not None:
            self.own.abandon()
        attempts = list(self.attempts.values())
        for attempt in attempts:
            attempt.take_away(LeaseLost("the runtime stopped"))
        tasks = [attempt.task for attempt in attempts if attempt.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=CLEANING_UP_S)

    async def close(self) -> None:
        """Nobody is at work any more."""
        self._leases.close()
        if self.own is not None:
            await self.own.stop()

    def cancel_waiting(self, row: OutboxRow) -> None:
        """No worker is at it. The claim tells whether it is still there: it may have been done."""
        self._settling.claim(row, lambda: self.cancelled(row), nothing)

    def cancelled(self, row: OutboxRow) -> None:
        """The job was cancelled before a worker was at it."""
        self._doubts.keep(row)
        self._giving_up.unless_performed(
            row, row.attempts, CANCELLED, JobError("the job was cancelled")
        )

    def _begin(self, row: OutboxRow, number: int) -> None:
        try:
            command = row.content if row.position > self._own_from else None
            if command is None:
                command = self._services.codec.decode(row.type, row.version, row.body)
            context = unpack_context(row.context)
        except CodecError as error:
            self._giving_up.now(row, number - 1, "undecodable", error)
            return
        worker = self._worker(row.kind, type(command))
        if worker is None:
            nobody = self._nobody(row, "declare one, then redrive this dead letter")
            self._giving_up.now(row, number - 1, "unroutable", nobody)
            return
        attempt = Attempt(
            row,
            worker,
            number,
            self._leases,
            self._services.clock,
            self._threads,
            self._on_end,
            self._left_ms(row) / 1000 if row.expires_at_ms else math.inf,
        )
        job = job_of(row, context, self._policy, attempt)
        if self.own is not None:
            may_have_begun = number > 1 or row.position <= self._own_from
            attempt.function = self.own.function(worker, row, job, may_have_begun)
        self._call(attempt, job, command)

    def _call(self, attempt: Attempt, job: Job, command: Any) -> None:
        self.attempts[attempt.row.position] = attempt
        failpoints.reach(Point.JOB_BEGINS)
        self._events.started(attempt)
        attempt.begin(job, command, self._resources, self._services.spans)

    def _worker(self, kind: OutboxKind, content: type) -> Worker | None:
        worker = self._queue.workers.get(content)
        return worker if worker is not None and worker.kind is kind else None

    def _on_end(self, attempt: Attempt, result: Any, error: BaseException | None) -> None:
        row, job = attempt.row, attempt.job
        assert job is not None
        failpoints.reach(Point.JOB_ENDS)
        del self.attempts[row.position]
        job.take_away("it has ended")
        if error is None:
            try:
                self._settling.succeeded(row, result, job.outputs)
            except InvalidResult as mistake:
                mistake.problem = f"worker {attempt.worker.name}: {mistake.problem}"
                error = mistake
            except UNEXPECTED as mistake:  # ours, or of user code that the result passes through
                extra = about(row.instance, row.id, attempt.number)
                logger.exception("the result of job %s could not be told", row.id, extra=extra)
                error = InvalidResult(f"its result could not be told: {in_short(mistake)}")
            else:
                failpoints.reach(Point.RESULT_TOLD)
                self._doubts.forget(row.position)
                self._events.succeeded(attempt)
                self._release(row.position, True)
        if error is not None:
            self._failed(attempt, error)
        attempt.told(error)

    def _failed(self, attempt: Attempt, error: BaseException) -> None:
        row, attempts = attempt.row, attempt.number
        if isinstance(error, (LeaseLost, InvalidResult)):
            self._doubts.add(row.position)  # what a worker returned cannot be told, but it was done
        if self._is_stopping and isinstance(error, LeaseLost):
            self._release(row.position)
            self._events.abandoned(attempt, error)
            self._abandoned(attempt)
            return
        delay_ms = delay_ms_of(self._policy, attempts, error, self._services.random)
        reason = self._final(row, attempts, error, delay_ms)
        if reason is not None:
            self._giving_up.unless_performed(row, attempts, reason, error, attempt)
            return
        due_at_ms = self._services.clock.now_ms() + delay_ms
        self._events.retried(attempt, error, delay_ms)
        self._release(row.position)
        said = self._doubts.said(row.position, in_short(error))
        self._settling.postponed(row, attempts, due_at_ms, said)

    def _abandoned(self, attempt: Attempt) -> None:
        """An attempt that was written before it began, and has not failed, does not count."""
        row, said = attempt.row, self._doubts.said(attempt.row.position, "the runtime stopped")
        self._doubts.forget(row.position)
        if row.attempts == attempt.number and self._policy.repeat_unknown:
            self._settling.restore(replace(row, attempts=row.attempts - 1, error=said))
        else:
            self._settling.abandoned(row)

    def _final(
        self, row: OutboxRow, attempts: int, error: BaseException, delay_ms: int
    ) -> str | None:
        """Why the job is not tried again after the delay; None if it is."""
        if row.position in self._cancelled:
            self._cancelled.discard(row.position)
            return CANCELLED
        if isinstance(error, (NonRetryable, InvalidResult, *self._queue.non_retryable)):
            return "non-retryable"
        if row.expires_at_ms and self._left_ms(row) <= delay_ms:
            return "expired"
        if isinstance(error, LeaseLost) and not self._policy.repeat_unknown:
            return "unknown"
        return None if self._policy.retry.should_retry(attempts) else "exhausted"
