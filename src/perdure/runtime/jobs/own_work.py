"""Workers with a transaction of their own: their rows and their result are committed together.

    the worker returns ─> its result is recorded in its transaction ─> that is committed
                                                                          │
    delivered again (the process ended, the lease ran out) ─> the recorded result is taken

Of two attempts at once one commits; the other finds the record there, or its job gone, and rolls
back. An attempt that fails looks first whether another one has succeeded; so does whoever gives up
a job. Records go when their jobs are settled. After the transactional inbox of DBOS and of
NServiceBus ("outbox"). Next to read: ``store/performed.py``; ``workers.py``, whose part this is.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

from perdure.core.commit import OutboxRow
from perdure.core.described import in_short
from perdure.errors import LeaseLost, PerdureError
from perdure.job import Job, Output
from perdure.queue import WorkQueue
from perdure.runtime.clock import Wake
from perdure.runtime.jobs.own_attempt import InTransaction
from perdure.runtime.jobs.own_checks import own_among
from perdure.runtime.jobs.settling import Settling
from perdure.runtime.services import Services
from perdure.runtime.watching.logs import about
from perdure.store.beside import Asked, Beside, beside_of
from perdure.store.joined import Joined
from perdure.store.own_transaction import OwnTransaction
from perdure.store.performed import check_there, forget, record, recorded, sweep
from perdure.worker_signature import Worker

__all__ = ["OwnWork", "own_work_of"]

logger = logging.getLogger("perdure.workers")

FORGET_AFTER_S = 1.0
FORGET_AT_ONCE = 500
STOP_S = 1.0


class OwnWork:
    """The own transactions of one queue's workers; ``beside``: of the store."""

    def __init__(
        self,
        services: Services,
        settling: Settling,
        beside: Beside,
        transactions: Mapping[str, OwnTransaction],
    ) -> None:
        self._services = services
        self._settling = settling
        self._beside = beside
        self._schema = beside.schema
        self._transactions = transactions
        self._checked: set[OwnTransaction] = set()
        self._recorded: set[int] = set()
        self._over: list[int] = []
        self._wake: Wake | None = None
        self._looking: dict[asyncio.Task[None], OutboxRow] = {}
        self._sweeping = services.background("sweeping performed jobs", self._sweep)
        self._forgetting = services.background("forgetting performed jobs", self._forget)

    # An attempt

    def function(
        self, worker: Worker, row: OutboxRow, job: Job, may_have_begun: bool
    ) -> Callable[..., Any]:
        """What is called in place of the worker: the same, in its transaction."""
        for name, own in own_among(worker, self._transactions).items():
            attempt = InTransaction(self, worker, name, own, row, job)
            attempt.looks_first = may_have_begun
            return attempt.perform if worker.is_async else attempt.perform_on_thread
        return worker.function

    def knows(self, own: OwnTransaction) -> bool:
        """It was one of the store's database before."""
        return own in self._checked

    def begin(self, joined: Joined, own: OwnTransaction, row: OutboxRow) -> bytes | None:
        """See that this is the store's database, and what was recorded there of the job."""
        check_there(joined, self._schema)
        self._checked.add(own)
        return self.look(joined, row)

    def look(self, asked: Asked, row: OutboxRow) -> bytes | None:
        """What was recorded of the job."""
        return recorded(asked, self._schema, row.position)

    def end(self, joined: Joined, row: OutboxRow, body: bytes) -> bool:
        """Record it, as the last that is done before the commit."""
        joined.flush()  # its mistakes are found, and its time is taken, before
        now_ms = self._services.clock.now_ms()
        return record(joined, self._schema, row.position, body, now_ms)

    def encoded(self, row: OutboxRow, result: Any, job: Job) -> bytes:
        """What is recorded. Raises ``InvalidResult``, and ``LeaseLost``."""
        if job.is_cancelled:
            raise LeaseLost("the job was taken away; its transaction is rolled back")
        return self._settling.rows.record(row, result, job.outputs)

    def taken(self, row: OutboxRow, job: Job, body: bytes) -> Any:
        """The result of an attempt that was committed before."""
        result, job.outputs[:] = self._read(row, body)
        self.done(row)
        return result

    def done(self, row: OutboxRow) -> None:
        """There is a record of the job, which goes when that is settled."""
        self._recorded.add(row.position)

    def _read(self, row: OutboxRow, body: bytes) -> tuple[Any, list[Output]]:
        logger.info(
            "job %s was performed before: its recorded result is taken", row.id,
            extra=about(row.instance, row.id),
        )  # fmt: skip
        return self._settling.rows.recorded(body)

    # Giving up

    def unless_performed(
        self,
        row: OutboxRow,
        performed: Callable[[Any, list[Output]], None],
        not_performed: Callable[[], None],
        failures: int = 0,
    ) -> None:
        """Ask what was recorded of a job that is to be given up; asked again until it is known."""

        async def ask() -> None:
            try:
                body = await self._beside.run(self.look, row)
            except Exception as error:
                logger.warning("whether job %s was performed: %s", row.id, in_short(error))
                self._settling.jobs.pause(
                    row.position,
                    f"asking whether job {row.id} was performed",
                    lambda: self.unless_performed(row, performed, not_performed, failures + 1),
                    failures + 1,
                )
                return
            if body is not None:
                self.done(row)
                try:
                    performed(*self._read(row, body))
                except PerdureError as error:  # the record stays, for whoever can read it
                    self._recorded.discard(row.position)
                    logger.error("what was recorded of job %s: %s", row.id, error)
                else:
                    return
            not_performed()

        task = asyncio.get_running_loop().create_task(ask())
        self._looking[task] = row
        task.add_done_callback(self._looked)

    def _looked(self, task: asyncio.Task[None]) -> None:
        row = self._looking.pop(task)
        if task.cancelled():
            self._settling.abandoned(row)
        elif (error := task.exception()) is not None:
            logger.error("job %s could not be given up", row.id, exc_info=error)
            self._settling.abandoned(row)

    # Forgetting

    def start(self) -> None:
        """Begin with what an earlier process has left."""
        self._sweeping.start()

    def settled(self, position: int) -> None:
        """The job is not in the outbox any more."""
        if position not in self._recorded:
            return
        self._recorded.remove(position)
        self._over.append(position)
        if len(self._over) >= FORGET_AT_ONCE:
            self._forgetting.start()
        elif self._wake is None:
            self._wake = self._services.clock.call_later(FORGET_AFTER_S, self._forgetting.start)

    async def _forget(self) -> None:
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None
        while self._over:
            jobs = self._over[:FORGET_AT_ONCE]
            await self._beside.run(forget, self._schema, jobs)
            del self._over[: len(jobs)]

    async def _sweep(self) -> None:
        count = await self._beside.run(sweep, self._schema)
        if count:
            logger.info("%d records of jobs that were settled before are gone", count)

    def abandon(self) -> None:
        """The runtime stops, and waits no more."""
        for task in list(self._looking):
            task.cancel()

    async def stop(self) -> None:
        """Forget what can be forgotten now; a next start sweeps the rest."""
        await self._sweeping.stop()
        if self._over:
            self._forgetting.start()
            await asyncio.wait([asyncio.ensure_future(self._forgetting.ended())], timeout=STOP_S)
        if self._wake is not None:
            self._wake.cancel()
        await self._forgetting.stop()


def own_work_of(
    services: Services, settling: Settling, queue: WorkQueue, resources: Mapping[str, Any]
) -> OwnWork | None:
    """That of a queue; None if none of its workers has a transaction of its own."""
    beside = beside_of(services.store)
    transactions: dict[str, OwnTransaction] = {}
    for worker in queue.workers.values():
        transactions |= own_among(worker, resources)
    if not transactions or beside is None:
        return None
    return OwnWork(services, settling, beside, transactions)
