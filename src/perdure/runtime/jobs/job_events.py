"""Attempts at jobs, told to whoever observes the runtime, and logged. Part of the workers.

Next to read: ``workers.py``, which tells; ``watching/observing.py``.
"""

from __future__ import annotations

import logging

from perdure.core.correlation import split_key
from perdure.core.described import in_short
from perdure.observer import JobFinished, JobStarted, Retrying
from perdure.runtime.jobs.attempt import Attempt
from perdure.runtime.services import Services
from perdure.runtime.watching.logs import about

__all__ = ["JobEvents"]

logger = logging.getLogger("perdure.workers")


class JobEvents:
    """Tells how the attempts of a queue begin and end."""

    def __init__(self, services: Services) -> None:
        self._observing = services.observing
        self._clock = services.clock

    def started(self, attempt: Attempt) -> None:
        """The worker is about to be called."""
        if JobStarted in self._observing.hooks:
            row, instance = attempt.row, _instance(attempt)
            event = JobStarted(row.target, *instance, row.type, row.id, attempt.number)
            self._observing.tell(event)

    def succeeded(self, attempt: Attempt) -> None:
        """The worker has returned."""
        self._finished(attempt, "succeeded")

    def abandoned(self, attempt: Attempt, error: BaseException) -> None:
        """The runtime stops: the next one does it again."""
        self._finished(attempt, "abandoned", error)

    def given_up(self, attempt: Attempt, error: BaseException, *, is_cancelled: bool) -> None:
        """There is no other attempt."""
        self._finished(attempt, "cancelled" if is_cancelled else "given up", error)

    def retried(self, attempt: Attempt, error: BaseException, delay_ms: int) -> None:
        """There is another attempt."""
        row, number = attempt.row, attempt.number
        logger.warning(
            "job %s of queue %r, worker %s: attempt %d failed, the next one in %d ms: %s",
            row.id, row.target, attempt.worker.name, number, delay_ms, in_short(error),
            extra=about(row.instance, row.id, number),
        )  # fmt: skip
        self._finished(attempt, "retried", error)
        if Retrying in self._observing.hooks:
            instance, delay_s = _instance(attempt), delay_ms / 1000
            event = Retrying(*instance, row.target, row.type, row.id, number, delay_s)
            self._observing.tell(event)

    def _finished(self, attempt: Attempt, outcome: str, error: BaseException | None = None) -> None:
        observing, row = self._observing, attempt.row
        if not observing.on_attempt and JobFinished not in observing.hooks:
            return
        seconds = self._clock.monotonic_s() - attempt.began_s
        if observing.on_attempt:
            observing.record(observing.on_attempt, row.target, outcome, seconds)
        if JobFinished not in observing.hooks:
            return
        observing.tell(
            JobFinished(
                row.target,
                *_instance(attempt),
                row.type,
                row.id,
                attempt.number,
                outcome,
                seconds,
                "" if error is None else type(error).__name__,
            )
        )


def _instance(attempt: Attempt) -> tuple[str, str]:
    instance = attempt.row.instance
    return split_key(instance) if instance else ("", "")
