"""Sagas of every face with steps that can be broken, for tests of what people repair by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from perdure import (
    Context,
    Effects,
    Fixed,
    Job,
    NonRetryable,
    OrderedSaga,
    ProcessManager,
    Runtime,
    Settings,
    Workflow,
    WorkQueue,
    applies,
    compensates,
    continues,
    message,
    on_deadline,
    starts,
    step,
    workflow,
)
from perdure.store.protocol import Store
from perdure.testing import SimulatedClock
from tests.runtime.support import reopened

RARELY = Fixed(1_000, max_attempts=3)
"""What has failed waits so long that no test sees it tried again by itself."""


@dataclass
class Shop:
    """What the steps did, in order, with their keys; and which of them fail now, and how."""

    broken: dict[str, Exception] = field(default_factory=dict)
    did: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)

    def do(self, what: str, job: Job | None = None) -> None:
        if what in self.broken:
            raise self.broken[what]
        self.did.append(what)
        if job is not None:
            self.keys.append(job.key)

    def breaks(self, what: str, *, for_good: bool = False) -> None:
        self.broken[what] = NonRetryable("broken") if for_good else ValueError("broken")

    def mend(self) -> None:
        self.broken.clear()


@message(name="repair-test.order")
@dataclass(frozen=True)
class Order:
    id: str
    room: str = ""
    seat: str = ""
    paid: int = 0


def trip(pivot: bool = False) -> OrderedSaga:
    """book, fly, pay; the first two are undone by cancelling them."""
    saga = OrderedSaga("repair.trip", Order, by="id", timeout=timedelta(days=30))

    @saga.step(retry=RARELY)
    async def book(order: Order, job: Job, shop: Shop) -> dict[str, Any]:
        shop.do("book", job)
        return {"room": f"r-{job.key.rpartition('/')[2]}"}

    @saga.compensates(book, retry=RARELY)
    async def cancel_room(order: Order, job: Job, shop: Shop) -> None:
        shop.do(f"cancel {order.room}", job)

    @saga.step(retry=RARELY)
    async def fly(order: Order, job: Job, shop: Shop) -> dict[str, Any]:
        shop.do("fly", job)
        return {"seat": "s"}

    @saga.compensates(fly, retry=Fixed(1_000, max_attempts=1))
    async def cancel_seat(order: Order, job: Job, shop: Shop) -> None:
        shop.do("cancel seat", job)

    @saga.step(retry=RARELY, pivot=pivot, nothing_to_undo=not pivot)
    async def pay(order: Order, job: Job, shop: Shop) -> dict[str, Any]:
        shop.do("pay", job)
        return {"paid": 5}

    if pivot:

        @saga.step(retry=RARELY)
        async def thank(order: Order, job: Job, shop: Shop) -> None:
            shop.do("thank", job)

    return saga


@step(retry=RARELY)
async def scan(order: Order, job: Job, shop: Shop) -> dict[str, Any]:
    shop.do("scan", job)
    return {"room": "scanned"}


@step(retry=RARELY)
async def read(order: Order, job: Job, shop: Shop) -> dict[str, Any]:
    shop.do("read", job)
    return {"seat": f"{order.room}, read"}


papers = Workflow("repair.papers", Order, by="id", steps=[scan, read])


@message(name="repair-test.account")
@dataclass(frozen=True)
class Account:
    number: int


@step(retry=RARELY)
async def open_account(order: Order, job: Job, shop: Shop) -> Account:
    shop.do("open", job)
    return Account(7)


@step(retry=RARELY)
async def fund(account: Account | None, job: Job, shop: Shop) -> int:
    shop.do(f"fund {None if account is None else account.number}", job)
    return 100


@workflow("repair.joining", Order, by="id", steps=[open_account, fund], timeout=timedelta(days=9))
async def joining(ctx: Context, order: Order) -> Any:
    account = await ctx.step(open_account, order)
    await ctx.sleep("rest", hours=1)
    return await ctx.step(fund, account)


@message(name="repair-test.placed")
@dataclass(frozen=True)
class Placed:
    id: str


@message(name="repair-test.charge")
@dataclass(frozen=True)
class Charge:
    id: str
    cents: int = 100


@message(name="repair-test.charged")
@dataclass(frozen=True)
class Charged:
    id: str
    cents: int = 100


@message(name="repair-test.refund")
@dataclass(frozen=True)
class Refund:
    id: str


@message(name="repair-test.noted")
@dataclass(frozen=True)
class Noted:
    id: str
    text: str = ""


@dataclass(frozen=True)
class SaleState:
    charged: int = 0
    notes: tuple[str, ...] = ()


class Sale(ProcessManager[SaleState]):
    name = "repair.sale"
    retry = Fixed(1_000, max_attempts=2)

    @starts(Placed, by="id")
    def placed(self, state: SaleState, event: Placed, do: Effects) -> None:
        do.send(Charge(event.id))
        do.deadline("remind", timedelta(hours=1))

    @continues(Charged, by="id")
    def charged(self, state: SaleState, event: Charged, do: Effects) -> None:
        do.cancel_deadline("remind")

    @continues(Noted, by="id")
    def noted(self, state: SaleState, event: Noted, do: Effects) -> None:
        if event.text == "poison":
            raise NonRetryable("poison")
        if event.text == BAD["text"]:
            raise ValueError(event.text)

    @on_deadline("remind")
    def remind(self, state: SaleState, do: Effects) -> None:
        do.complete()

    @compensates(Charge)
    def undo(self, state: SaleState, failed: Charge) -> list[Refund]:
        return [Refund(failed.id)]

    @applies(Charged)
    def fold_charged(self, state: SaleState, event: Charged) -> SaleState:
        return replace(state, charged=state.charged + event.cents)

    @applies(Noted)
    def fold_noted(self, state: SaleState, event: Noted) -> SaleState:
        return replace(state, notes=(*state.notes, event.text))


BAD = {"text": "bad"}
"""The note whose handler raises at present."""

till = WorkQueue("repair.till", retry=RARELY)


@till.worker
async def charge(command: Charge, job: Job, shop: Shop) -> Charged:
    shop.do(f"charge {command.cents}", job)
    return Charged(command.id, command.cents)


@till.worker
async def refund(command: Refund, job: Job, shop: Shop) -> None:
    shop.do("refund", job)


class Scene:
    """A store that runtimes come and go over, with one shop and one clock."""

    def __init__(self, store: Any) -> None:
        self.store = store
        self.shop = Shop()
        self.clock = SimulatedClock()
        self.trip = trip()
        self.members: list[Any] = [self.trip, papers, joining, Sale, till]

    @asynccontextmanager
    async def runtime(self, **settings: Any) -> AsyncIterator[Runtime]:
        """A runtime over the rows that are there."""
        store: Store = self.store
        runtime = Runtime(
            store,
            self.members,
            Settings(**settings),
            resources={"shop": self.shop},
            clock=self.clock,
        )
        async with runtime:
            yield runtime
        self.store = reopened(self.store)


async def audited(runtime: Runtime, ref: Any) -> list[str]:
    """What was done to the instance, in words: action, who."""
    return [f"{one.action} by {one.by}" async for one in runtime.audit(ref)]
