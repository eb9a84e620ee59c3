"""A job that has failed for good, and whoever is to hear of it: unless it was done after all.

Where workers have transactions of their own, what they have recorded is looked at first: an attempt
may have been committed whose end nobody has heard of. Next to read: ``workers.py``, which finds
that there is no further attempt; ``own_work.py``; ``settling.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from perdure.core.commit import OutboxRow
from perdure.errors import InvalidResult, JobError
from perdure.job import Output
from perdure.runtime.jobs.attempt import Attempt
from perdure.runtime.jobs.doubts import Doubts
from perdure.runtime.jobs.job_events import JobEvents
from perdure.runtime.jobs.own_work import OwnWork
from perdure.runtime.jobs.settling import CANCELLED, Settling

__all__ = ["GivingUp"]


class GivingUp:
    """Gives up jobs of one queue. ``own``: None if no worker has a transaction of its own."""

    def __init__(
        self,
        settling: Settling,
        doubts: Doubts,
        events: JobEvents,
        release: Callable[..., None],
        own: OwnWork | None,
    ) -> None:
        self._settling = settling
        self._doubts = doubts
        self._events = events
        self._release = release
        self._own = own

    def hopeless(self, row: OutboxRow, reason: str) -> None:
        """The job is given up without a further attempt."""
        why = row.error or (
            "the process ended during the last attempt" if row.attempts else "no worker was free"
        )
        self.unless_performed(row, row.attempts, reason, JobError(why))

    def unless_performed(
        self,
        row: OutboxRow,
        attempts: int,
        reason: str,
        error: BaseException,
        attempt: Attempt | None = None,
    ) -> None:
        """Give the job up, unless its worker's own transaction says that it was done."""
        if self._own is None:
            self.now(row, attempts, reason, error, attempt)
            return

        def performed(result: Any, outputs: Sequence[Output]) -> None:
            self._settling.succeeded(row, result, outputs)
            self._doubts.forget(row.position)
            if attempt is not None:
                self._events.succeeded(attempt)
            self._release(row.position, True)

        self._own.unless_performed(
            row, performed, lambda: self.now(row, attempts, reason, error, attempt)
        )

    def now(
        self,
        row: OutboxRow,
        attempts: int,
        reason: str,
        error: BaseException,
        attempt: Attempt | None = None,
    ) -> None:
        """Give it up."""
        emitted: Sequence[Output] = ()
        if attempt is not None:
            assert attempt.job is not None
            emitted = attempt.job.outputs
            self._events.given_up(attempt, error, is_cancelled=reason == CANCELLED)
            if reason == CANCELLED:
                error = JobError("the job was cancelled while its worker was at it")
            elif reason == "non-retryable" and not isinstance(error, InvalidResult):
                self._doubts.forget(row.position)  # whoever says so knows
        is_in_doubt = self._doubts.take(row.position)
        self._release(row.position, None if reason == CANCELLED else False)
        self._settling.given_up(row, attempts, reason, error, emitted, is_in_doubt)
