"""Workers of the crowd that write rows of their own: each job's exactly once, whoever is killed.

Only over PostgreSQL, so beside ``sagas.py``, not in it. Next to read: ``crowd.py``; ``checks.py``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from sqlalchemy import NullPool, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from perdure import Effects, Job, OwnTransaction, ProcessManager, WorkQueue, message, starts
from tests.survival.checks import Finding, Tables
from tests.survival.sagas import RETRY, Book, Items

TABLE = "CREATE TABLE public.entries (job text, op text)"
ENTRIES = "SELECT job FROM public.entries"


@message(name="survival.Enter")
class Enter:
    op: str


class Books(ProcessManager[Items]):
    name = "Books"

    @starts(Book, by="book")
    def booked(self, state: Items, event: Book, do: Effects) -> None:
        do.send(Enter(event.op))


def bookkeeping() -> WorkQueue:
    """The queue whose worker enters; nothing but its transaction keeps it from entering twice."""
    queue = WorkQueue("books", concurrency=3, retry=RETRY)

    @queue.worker
    async def enter(command: Enter, job: Job, session: AsyncSession) -> None:
        values = {"job": job.key, "op": command.op}
        await session.execute(text("INSERT INTO public.entries VALUES (:job, :op)"), values)
        if job.attempt == 1 and command.op.endswith("7"):
            raise ConnectionError("once more, please")

    return queue


def session_of(url: str) -> OwnTransaction:
    """Nothing of it need be closed."""
    return OwnTransaction(async_sessionmaker(create_async_engine(url, poolclass=NullPool)))


def entered(jobs: list[Any], tables: Tables) -> Iterator[Finding]:
    """Every job of the books has its row, once, and no row is of another one."""
    found = Counter(jobs)
    wanted = {
        f"Books/{id}/{number}/{index}"
        for id, turns in tables.of("Books")
        for number, turn in turns.items()
        for index in range(len(turn.body.outgoing))
    }
    for job, count in found.items():
        if count > 1:
            yield "double", f"job {job} has {count} rows"
    for job in wanted - found.keys():
        yield "vanished", f"job {job} has no row"
    for job in found.keys() - wanted:
        yield "ghost", f"a row of job {job}, which nobody has sent"
