"""One attempt of a worker in a transaction of its own, and what another one has recorded.

Next to read: ``own_work.py``, which makes it; ``attempt.py``, which calls it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import perdure.failpoints as failpoints
from perdure.core.commit import OutboxRow
from perdure.errors import JobError
from perdure.failpoints import Point
from perdure.job import Job
from perdure.store.joined import in_transaction, joined_to
from perdure.store.own_transaction import OwnTransaction
from perdure.worker_signature import Worker

if TYPE_CHECKING:
    from perdure.runtime.jobs.own_work import OwnWork

__all__ = ["InTransaction"]


class InTransaction:
    """One attempt."""

    def __init__(
        self,
        work: OwnWork,
        worker: Worker,
        name: str,
        own: OwnTransaction,
        row: OutboxRow,
        job: Job,
    ) -> None:
        self._work = work
        self._function = worker.function
        self._name = name
        self._own = own
        self._row = row
        self._job = job
        self.looks_first = True

    async def perform(self, command: Any, **arguments: Any) -> Any:
        """Call the worker; what it returned, or what was recorded before."""
        work, row, own = self._work, self._row, self._own
        try:
            async with own.open() as transaction:
                body = None
                if self.looks_first or not work.knows(own):
                    body = await in_transaction(transaction, work.begin, own, row)
                    await transaction.rollback()  # the worker's begins with its first statement
                if body is None:
                    arguments[self._name] = transaction
                    with own.kept_open(transaction):
                        result = await self._function(command, **arguments)
                    encoded = work.encoded(row, result, self._job)
                    if await in_transaction(transaction, work.end, row, encoded):
                        failpoints.reach(Point.PERFORMED)
                        await transaction.commit()
                        failpoints.reach(Point.PERFORMED)
                        work.done(row)
                        return result
        except Exception as error:
            body = await self._recorded_or(error)
        if body is None:
            body = await self._recorded_or(_gone(row))
        return work.taken(row, self._job, body)

    def perform_on_thread(self, command: Any, **arguments: Any) -> Any:
        """The same, of a plain function."""
        work, row, own = self._work, self._row, self._own
        try:
            with own.open() as transaction:
                body = None
                if self.looks_first or not work.knows(own):
                    body = work.begin(joined_to(transaction), own, row)
                    transaction.rollback()
                if body is None:
                    arguments[self._name] = transaction
                    with own.kept_open(transaction):
                        result = self._function(command, **arguments)
                    encoded = work.encoded(row, result, self._job)
                    if work.end(joined_to(transaction), row, encoded):
                        failpoints.reach(Point.PERFORMED)
                        transaction.commit()
                        failpoints.reach(Point.PERFORMED)
                        work.done(row)
                        return result
        except Exception as error:
            body = self._recorded_or_now(error)
        if body is None:
            body = self._recorded_or_now(_gone(row))
        return work.taken(row, self._job, body)

    async def _recorded_or(self, error: Exception) -> bytes:
        """What another attempt has recorded, which is then the truth; else the error is."""
        try:
            body = await self._own.run(self._work.look, self._row)
        except Exception:
            raise error from None
        if body is None:
            raise error
        return body

    def _recorded_or_now(self, error: Exception) -> bytes:
        try:
            body = self._own.run_now(self._work.look, self._row)
        except Exception:
            raise error from None
        if body is None:
            raise error
        return body


def _gone(row: OutboxRow) -> JobError:
    """Not ``LeaseLost``, after which it is tried again at once: it may never be there."""
    return JobError(
        f"job {row.id} is not in the outbox (any more), as its worker's own transaction sees it",
        remedy="it was given up meanwhile; or the transaction is of another database",
    )
