"""A saga that has orders charged, and workers that write payments in a transaction of their own.

async with running(url, charging()) as runtime: await order(runtime)
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, NullPool, create_engine, insert
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from perdure import (
    CommandFailed,
    Effects,
    Fixed,
    Job,
    OwnTransaction,
    ProcessManager,
    Runtime,
    Settings,
    WorkQueue,
    applies,
    continues,
    message,
    starts,
)
from tests.servers.databases import run_sql


@message(name="runtime-test.ordered")
class Ordered:
    id: str
    how: str = "charge"


@message(name="runtime-test.charge")
class Charge:
    id: str
    how: str = "charge"


@message(name="runtime-test.charged")
class Charged:
    id: str
    attempt: int


@message(name="runtime-test.receipt-sent")
class ReceiptSent:
    id: str
    attempt: int


@dataclass(frozen=True)
class Paying:
    charged: tuple[int, ...] = ()
    receipts: tuple[int, ...] = ()
    failed: tuple[str, ...] = ()


class Order(ProcessManager[Paying]):
    name = "runtime-test.order"

    @starts(Ordered, by="id")
    def ordered(self, state: Paying, event: Ordered, do: Effects) -> None:
        do.send(Charge(event.id, event.how))

    @continues(Charged, by="id")
    def charged(self, state: Paying, event: Charged, do: Effects) -> None:
        pass

    @continues(ReceiptSent, by="id")
    def sent(self, state: Paying, event: ReceiptSent, do: Effects) -> None:
        pass

    @applies(Charged)
    def on_charged(self, state: Paying, event: Charged) -> Paying:
        return Paying((*state.charged, event.attempt), state.receipts, state.failed)

    @applies(ReceiptSent)
    def on_sent(self, state: Paying, event: ReceiptSent) -> Paying:
        return Paying(state.charged, (*state.receipts, event.attempt), state.failed)

    @applies(CommandFailed)
    def on_failed(self, state: Paying, event: CommandFailed) -> Paying:
        return Paying(state.charged, state.receipts, (*state.failed, event.reason))


class Base(DeclarativeBase):
    """The user's own tables."""


class Payment(Base):
    __tablename__ = "payments"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[str]
    attempt: Mapped[int]


TABLES = "CREATE TABLE payments (id serial PRIMARY KEY, order_id text, attempt integer)"

Deed = Callable[[Charge, Job, Any], Any]


async def charge(command: Charge, job: Job, session: AsyncSession) -> Charged:
    session.add(Payment(order_id=command.id, attempt=job.attempt))
    job.emit(ReceiptSent(command.id, job.attempt))
    return Charged(command.id, job.attempt)


def charge_plainly(command: Charge, job: Job, session: Session) -> Charged:
    session.execute(insert(Payment).values(order_id=command.id, attempt=job.attempt))
    job.emit(ReceiptSent(command.id, job.attempt))
    return Charged(command.id, job.attempt)


def charging(deed: Callable[..., Any] = charge, **options: Any) -> WorkQueue:
    """The queue whose worker this is; it is tried again at once, up to four times."""
    queue = WorkQueue("payments", **{"retry": Fixed(0.001, max_attempts=4), **options})
    queue.worker(commands=[Charge])(deed)
    return queue


def engine_of(url: str, **options: Any) -> AsyncEngine:
    """Nothing of it need be closed."""
    return create_async_engine(url, poolclass=NullPool, **options)


def own_of(url: str) -> OwnTransaction:
    return OwnTransaction(async_sessionmaker(engine_of(url)))


def plain_engine_of(url: str) -> Engine:
    return create_engine(url.replace("+asyncpg", "+psycopg"), poolclass=NullPool)


def plain_own_of(url: str) -> OwnTransaction:
    return OwnTransaction(sessionmaker(plain_engine_of(url)))


@asynccontextmanager
async def running(
    url: str, queue: WorkQueue, own: OwnTransaction | None = None
) -> AsyncIterator[Runtime]:
    """A runtime with the queue; the user's table is made if it is not there."""
    await run_sql(url, TABLES.replace("TABLE", "TABLE IF NOT EXISTS"))
    resources = {"session": own_of(url) if own is None else own}
    settings = Settings(retry_pause_s=0.01)
    async with Runtime(url, [Order, queue], settings, resources=resources) as runtime:
        yield runtime


async def order(runtime: Runtime, id: str = "o", how: str = "charge") -> Paying:
    """Order, and how the order stands when all is done."""
    ref = runtime.ref(Order, id)
    await runtime.send(ref, Ordered(id, how))
    return await settled(runtime, id)


async def settled(runtime: Runtime, id: str = "o") -> Paying:
    await runtime.settled()
    view = await runtime.state(runtime.ref(Order, id))
    assert view is not None
    state: Paying = view.state
    return state


async def payments(url: str) -> list[tuple[str, int]]:
    """The user's rows: (order, attempt)."""
    rows = await run_sql(url, "SELECT order_id, attempt FROM payments ORDER BY id")
    return [(row[0], row[1]) for row in rows]


async def records(url: str) -> int:
    """How many results are recorded."""
    rows = await run_sql(url, "SELECT count(*) FROM perdure.performed")
    return int(rows[0][0])
