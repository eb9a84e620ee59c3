"""What becomes of a job: its result goes to its saga, or it waits for a retry, or it is given up.

    succeeded      the result is a message to the instance that sent the command; the turn that
                   takes it deletes the job, and queues what was emitted, in one transaction
    postponed      the job's row is rewritten: attempts, next try, error
    given up       a dead letter, and CommandFailed for the instance, in one transaction

Without an instance, or if it does not want to know, the result is published. Next to read:
``telling.py``, how the instance learns of it; ``dispatcher.py``, which is told the end.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from perdure.core.commit import OutboxKind, OutboxRow, QueueRow, Settlement
from perdure.core.correlation import split_key
from perdure.core.described import in_short
from perdure.job import Output
from perdure.messages import Message
from perdure.runtime.jobs.job_rows import JobRows
from perdure.runtime.jobs.job_tickets import (
    Claimed,
    Jobs,
    JobTicket,
    Paused,
    Rewritten,
    Settled,
)
from perdure.runtime.jobs.outbound import Outbound
from perdure.runtime.jobs.telling import Telling
from perdure.runtime.routing import Routing
from perdure.runtime.services import Services
from perdure.runtime.watching.logs import about

__all__ = ["Settling"]

logger = logging.getLogger("perdure.workers")

CANCELLED = "cancelled"


class Settling:
    """Writes the end of attempts, and has the instances told; ``jobs`` hears when it is done."""

    def __init__(
        self, services: Services, routing: Routing, outbound: Outbound, jobs: Jobs
    ) -> None:
        self.jobs = jobs
        self.rows = JobRows(services, outbound)
        self.telling = Telling(services, routing, self.rows, self)
        self._services = services
        self._routing = routing
        self._strange: set[tuple[str, str]] = set()

    def leave(self, row: OutboxRow, error: BaseException) -> bool:
        """Leave a job to an owner whose code knows it; False if there is no other than this.

        For what other code than this has queued: in a cluster, while one release follows another,
        it is known next door. Nothing is written, and no instance is told.
        """
        if self._services.elsewhere is None:
            return False
        kind = (row.target, row.type)
        if kind not in self._strange:
            self._strange.add(kind)
            logger.error(
                "job %s of queue %r, and all like it, are kept for a process that knows them; if "
                "this is older code beside newer, end it and the newer takes over: %s",
                row.id, row.target, in_short(error),
                extra=about(row.instance, row.id, row.attempts),
            )  # fmt: skip
            what = f"jobs with {row.type}, which this code does not know"
            self._services.troubles.failed((self, kind), what, 1, error)
        self.jobs.left(row)
        return True

    # The three ends

    def succeeded(self, row: OutboxRow, result: Any, outputs: Sequence[Output]) -> None:
        """The worker has returned. Raises ``InvalidResult`` if that cannot be told."""
        rows = self.rows.emitted(row, outputs)
        told: Message | None = None
        if result is None:
            pass
        elif self._is_awaited(row):
            told = self.rows.result(row, result)
        else:
            rows += self.rows.published_result(row, result)
        settlement = Settlement(row.instance, job=row.position, outbox=tuple(rows))
        if told is None:
            self.close(row, settlement)
        else:
            self.telling.tell(row, told, settlement)

    def postponed(self, row: OutboxRow, attempts: int, due_at_ms: int, error: str) -> None:
        """The attempt failed, another one may begin at ``due_at_ms``."""
        changed = replace(row, attempts=attempts, due_at_ms=due_at_ms, error=error)
        self._submit(Rewritten(self, changed, self.jobs.delayed))

    def given_up(
        self,
        row: OutboxRow,
        attempts: int,
        reason: str,
        error: BaseException,
        outputs: Sequence[Output] = (),
        is_unknown: bool = False,
    ) -> None:
        """The job has failed for good: a dead letter, and its instance is told."""
        logger.error(
            "job %s of queue %r has failed for good (%s, attempts: %d): %s",
            row.id, row.target, reason, attempts, in_short(error),
            extra=about(row.instance, row.id, attempts),
        )  # fmt: skip
        settlement = Settlement(
            row.instance,
            job=row.position,
            outbox=tuple(self.rows.emitted_anyway(row, outputs)),
            dead_letters=(self.rows.dead_letter(row, attempts, reason, error),),
        )
        if self._is_awaited(row):
            failure = self.rows.failure(row, attempts, reason, error, is_unknown)
            self.telling.tell(row, failure, settlement)
        else:
            self.close(row, settlement)

    def _is_awaited(self, row: OutboxRow) -> bool:
        """An instance sent the command, and wants to know what becomes of it."""
        if row.kind is not OutboxKind.COMMAND or not row.instance:
            return False
        definition = self._routing.definitions.get(split_key(row.instance)[0])
        return definition is None or definition.is_told

    # Writing

    def put(self, row: QueueRow, is_true: Callable[[], bool]) -> None:
        """Write what is known of a queue, as long as it is true."""
        self._submit(Paused(self, row, is_true))

    def claim(self, row: OutboxRow, begin: Callable[[], None], dropped: Callable[[], None]) -> None:
        """Write that an attempt is about to begin, then begin; ``dropped``: the job is gone."""
        self._submit(Claimed(self, row, begin, dropped))

    def restore(self, row: OutboxRow) -> None:
        """The runtime stops before the attempt that was written has failed: it does not count."""
        self._submit(Rewritten(self, row, self.jobs.abandoned))

    def close(self, row: OutboxRow, settlement: Settlement) -> None:
        """Write the settlement by itself."""
        self._submit(Settled(self, row, settlement))

    def closed(self, row: OutboxRow, settlement: Settlement) -> None:
        """The settlement is durable."""
        if any(letter.job for letter in settlement.dead_letters):
            self.jobs.gone(row)
        else:
            self.jobs.done(row)

    def abandoned(self, row: OutboxRow) -> None:
        """The runtime stops: the job stays as it is, for the next one."""
        self.jobs.abandoned(row)

    def submit_again(self, ticket: JobTicket) -> None:
        """A write failed: try it again after a pause."""

        def submit() -> None:
            if not ticket.is_void:
                self._submit(ticket)

        what = f"writing a {type(ticket.entry).__name__}"
        self.jobs.pause(ticket.position, what, submit, ticket.failures)

    def _submit(self, ticket: JobTicket) -> None:
        self._services.commit.submit(ticket)
