"""orders.py, shop.py and carrier.py: each way an order can go, and the workers by themselves."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from datetime import timedelta
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from carrier import Carrier
from orders import (
    InventoryReserved,
    ItemPicked,
    Order,
    OrderCancelled,
    OrderFulfilled,
    OrderFulfilment,
    OrderPlaced,
    PaymentDeclined,
    ProcessPayment,
    RefundPayment,
    ReleaseInventory,
    ReserveInventory,
    ShipItem,
)
from perdure import InstanceView, Job, Runtime, Status
from perdure.errors import NonRetryable
from perdure.testing import SimulatedClock
from shop import QUEUES, CarrierClient, OutOfStock, Shop, charge, refund, release, reserve, ship
from tests.runtime.support import quickly

STOCK = {"lamp": 2, "piano": 1}


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with closing(Shop(tmp_path / "shop.db", STOCK)) as opened:
        yield opened


@pytest.fixture
def carrier() -> Iterator[Carrier]:
    with Carrier(refuses={"piano"}, busy={"mirror": 2}) as opened:
        yield opened


class Service:
    """A runtime with time that stands still, and one order."""

    def __init__(self, runtime: Runtime, clock: SimulatedClock) -> None:
        self.runtime = runtime
        self.clock = clock

    async def tell(self, message: Any) -> None:
        await self.runtime.publish(message)
        await self.runtime.settled()

    async def seen(self) -> InstanceView:
        seen = await self.runtime.state(self.runtime.ref(OrderFulfilment, "o"))
        assert seen is not None
        return seen

    async def outcome(self) -> tuple[Status, str, str | None]:
        seen = await self.seen()
        return seen.status, seen.state.status, seen.failure

    async def turns(self) -> list[str]:
        order = self.runtime.ref(OrderFulfilment, "o")
        return [turn.type async for turn in self.runtime.history(order)]


@asynccontextmanager
async def serving(shop: Shop, url: str = "http://127.0.0.1:1") -> AsyncIterator[Service]:
    clock = SimulatedClock()
    resources = {"shop": shop, "carrier": CarrierClient(url)}
    async with Runtime(
        "memory://",
        [OrderFulfilment, *QUEUES],
        resources=resources,
        clock=clock,
        random=lambda: 0.5,  # no jitter
    ) as runtime:
        yield Service(runtime, clock)


def paid(shop: Shop) -> list[Any]:
    return [amount for (amount,) in shop.rows("SELECT amount FROM payments ORDER BY rowid")]


def stock(shop: Shop) -> dict[Any, Any]:
    return dict(shop.rows("SELECT item, pieces FROM stock"))  # type: ignore[arg-type]


def notes(shop: Shop) -> list[Any]:
    return [note for (note,) in shop.rows("SELECT note FROM notes ORDER BY rowid")]


PLACED = OrderPlaced("o", "lamp", 40)

# The ways of an order


@quickly
async def test_an_order_is_paid_reserved_picked_and_shipped(tmp_path: Path) -> None:
    with closing(Shop(tmp_path / "shop.db", STOCK)) as shop, Carrier() as carrier:
        async with serving(shop, carrier.url) as service:
            await service.tell(PLACED)
            assert (await service.seen()).state.status == "awaiting_picking"
            await service.tell(ItemPicked("o"))
            seen = await service.seen()
            assert (seen.status, seen.state.status) == (Status.COMPLETED, "shipped")
            assert seen.result == OrderFulfilled("o", 40)
        assert (paid(shop), stock(shop)) == ([40], {"lamp": 1, "piano": 1})
        assert notes(shop) == ["sold for 40"]  # the subscriber has heard of the result
        assert list(carrier.booked.values()) == ["o"]


@quickly
async def test_a_declined_card_cancels_the_order(tmp_path: Path) -> None:
    with closing(Shop(tmp_path / "shop.db", STOCK)) as shop:
        async with serving(shop) as service:
            await service.tell(OrderPlaced("o", "lamp", 1_001))
            assert await service.outcome() == (Status.FAILED, "cancelled", "the card was declined")
        assert (paid(shop), stock(shop)) == ([], STOCK)


@quickly
async def test_out_of_stock_gives_the_money_back(tmp_path: Path) -> None:
    with closing(Shop(tmp_path / "shop.db", STOCK)) as shop:
        async with serving(shop) as service:
            await service.tell(OrderPlaced("o", "sofa", 500))
            status, state, failure = await service.outcome()
        assert (status, state) == (Status.FAILED, "cancelled")
        assert failure is not None
        assert "no sofa left" in failure
        assert (paid(shop), stock(shop)) == ([500, -500], STOCK)


@quickly
async def test_a_carrier_that_is_down_is_tried_four_times_then_all_is_undone(
    tmp_path: Path,
) -> None:
    with (
        closing(Shop(tmp_path / "shop.db", STOCK)) as shop,
        Carrier(refuses={"piano"}) as carrier,
    ):
        async with serving(shop, carrier.url) as service:
            await service.tell(OrderPlaced("o", "piano", 900))
            await service.tell(ItemPicked("o"))
            asked = []
            for _ in range(9):
                asked.append(carrier.asked.total())
                await service.clock.advance(timedelta(seconds=1))
            assert asked == [1, 2, 2, 3, 3, 3, 3, 4, 4]
            status, state, _ = await service.outcome()
            assert (status, state) == (Status.FAILED, "cancelled")
            assert (await service.turns())[-3:] == [
                "perdure.CommandFailed",
                "PaymentRefunded",
                "InventoryReleased",
            ]
        assert (paid(shop), stock(shop), notes(shop)) == ([900, -900], STOCK, [])


@quickly
async def test_a_busy_carrier_is_asked_again_under_the_same_key(tmp_path: Path) -> None:
    with closing(Shop(tmp_path / "shop.db", STOCK)) as shop, Carrier(busy={"lamp": 3}) as carrier:
        async with serving(shop, carrier.url) as service:
            await service.tell(PLACED)
            await service.tell(ItemPicked("o"))
            await service.clock.advance(timedelta(minutes=1))
            assert (await service.outcome())[:2] == (Status.COMPLETED, "shipped")
        assert list(carrier.asked.values()) == [4]


@quickly
async def test_the_item_is_released_only_after_the_refund(tmp_path: Path) -> None:
    class NoMoneyBack(Shop):
        """The bank of the shop cannot be had for a while."""

        failures = 20

        def pay(self, key: str, order_id: str, amount: int) -> None:
            if amount < 0 and self.failures:
                self.failures -= 1
                raise OSError("no connection to the bank")
            super().pay(key, order_id, amount)

    with closing(NoMoneyBack(tmp_path / "shop.db", STOCK)) as shop:
        async with serving(shop) as service:
            await service.tell(PLACED)
            await service.tell(OrderCancelled("o"))
            await service.clock.advance(timedelta(minutes=5))
            assert await service.outcome() == (Status.RUNNING, "undoing", None)
            assert (paid(shop), stock(shop)) == ([40], {"lamp": 1, "piano": 1})
            await service.clock.advance(timedelta(minutes=30))
            assert await service.outcome() == (Status.FAILED, "cancelled", "cancelled")
        assert (paid(shop), stock(shop)) == ([40, -40], STOCK)


@quickly
async def test_the_warehouse_is_asked_after_four_hours_and_given_up_after_fifteen_days(
    tmp_path: Path,
) -> None:
    with closing(Shop(tmp_path / "shop.db", STOCK)) as shop:
        async with serving(shop) as service:
            await service.tell(PLACED)
            await service.clock.advance(timedelta(hours=3, minutes=59))
            assert notes(shop) == []
            await service.clock.advance(timedelta(minutes=1))
            assert notes(shop) == ["please pick it"]
            await service.clock.advance(timedelta(days=14, hours=19))
            assert (await service.seen()).state.status == "awaiting_picking"
            await service.clock.advance(timedelta(hours=1))
            assert await service.outcome() == (Status.FAILED, "cancelled", "took too long")
        assert (paid(shop), stock(shop)) == ([40, -40], STOCK)


@quickly
async def test_an_order_that_is_being_undone_is_not_undone_once_more(tmp_path: Path) -> None:
    class NeverAnyMoneyBack(Shop):
        """The bank of the shop cannot be had at all."""

        def pay(self, key: str, order_id: str, amount: int) -> None:
            if amount < 0:
                raise OSError("no connection to the bank")
            super().pay(key, order_id, amount)

    with closing(NeverAnyMoneyBack(tmp_path / "shop.db", STOCK)) as shop:
        async with serving(shop) as service:
            await service.tell(PLACED)
            await service.tell(OrderCancelled("o"))
            await service.runtime.queue("payments").pause("the bank is away")
            await service.clock.advance(timedelta(days=16))  # past the order's timeout
            await service.tell(OrderCancelled("o"))
            assert await service.outcome() == (Status.RUNNING, "undoing", None)
            assert await service.runtime.queue("payments").depth() == 1


# The parts


def test_what_is_undone_is_what_was_done() -> None:
    make_up = OrderFulfilment().compensate
    order = Order("o", "lamp", 40, "undoing", is_paid=True)
    assert make_up(order, ReserveInventory("o", "lamp")) == [RefundPayment("o", 40)]
    order = Order("o", "lamp", 40, "undoing", is_paid=True, is_reserved=True)
    assert make_up(order, ShipItem("o", "lamp")) == [
        RefundPayment("o", 40),
        ReleaseInventory("o", "lamp"),
    ]


def test_workers_asked_twice_work_once(shop: Shop, carrier: Carrier) -> None:
    client = CarrierClient(carrier.url)
    for _ in range(2):
        charge(ProcessPayment("o", 40), Job(key="1"), shop)
        assert reserve(ReserveInventory("o", "lamp"), Job(key="2"), shop) == InventoryReserved("o")
        refund(RefundPayment("o", 40), Job(key="3"), shop)
        shipped = ship(ShipItem("o", "lamp"), Job(key="4"), client)
        assert shipped.tracking == "T-1"
    assert (paid(shop), stock(shop)) == ([40, -40], {"lamp": 1, "piano": 1})
    for _ in range(2):
        release(ReleaseInventory("o", "lamp"), Job(key="5"), shop)
    assert stock(shop) == STOCK
    assert list(carrier.booked) == ["4"]
    assert carrier.asked == {"4": 2}


def test_a_refused_reservation_leaves_nothing_and_may_succeed_later(shop: Shop) -> None:
    for number in range(2):
        reserve(ReserveInventory("o", "lamp"), Job(key=f"{number}"), shop)
    with pytest.raises(OutOfStock, match="no lamp left"):
        reserve(ReserveInventory("o", "lamp"), Job(key="k"), shop)
    release(ReleaseInventory("o", "lamp"), Job(key="back"), shop)
    reserve(ReserveInventory("o", "lamp"), Job(key="k"), shop)
    assert stock(shop)["lamp"] == 0


def test_a_card_over_its_limit_is_declined_and_not_charged(shop: Shop) -> None:
    answer = charge(ProcessPayment("o", 1_001), Job(key="k"), shop)
    assert isinstance(answer, PaymentDeclined)
    assert paid(shop) == []


def test_the_carrier_is_busy_for_each_key_by_itself(carrier: Carrier) -> None:
    client = CarrierClient(carrier.url)
    for key in ("a", "b"):
        for _ in range(2):
            with pytest.raises(ConnectionError, match="no room for a mirror"):
                client.ship(key, "o", "mirror")
        client.ship(key, "o", "mirror")


def test_a_carrier_that_does_not_understand_is_not_asked_again(carrier: Carrier) -> None:
    with pytest.raises(NonRetryable, match="answers 400: POST /shipments with an Idempotency-Key"):
        CarrierClient(carrier.url).ship("", "o", "lamp")


@pytest.mark.parametrize(
    ("path", "body"),
    [("/", "{}"), ("/shipments", "{"), ("/shipments", "[]"), ("/shipments", json.dumps({}))],
)
def test_the_carrier_survives_nonsense(carrier: Carrier, path: str, body: str) -> None:
    connection = HTTPConnection(urlsplit(carrier.url).netloc)
    connection.request("POST", path, body, {"Idempotency-Key": "k"})
    assert connection.getresponse().status == 400
    connection.close()
    assert CarrierClient(carrier.url).ship("k", "o", "lamp") == "T-1"


def test_a_carrier_that_is_not_there_is_an_error_to_be_repeated() -> None:
    with Carrier() as gone:
        url = gone.url
    with pytest.raises(OSError, match="refused"):
        CarrierClient(url).ship("k", "o", "lamp")
