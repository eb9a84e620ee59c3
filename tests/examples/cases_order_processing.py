"""order_processing.py: each way an order can go, told from the shop's own tables."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from order_processing import (
    Purchase,
    open_order,
    process_payment,
    processing,
    refund_payment,
    revert_inventory,
    send_confirmation,
    send_failure_notice,
    update_inventory,
    validate_order,
)
from perdure import InstanceView, Job, NonRetryable, Runtime, Status
from perdure.testing import SimulatedClock
from shop import OutOfStock, Shop
from tests.runtime.support import quickly

STOCK = {"lamp": 2}
SORRY = "we are sorry, it has come to nothing"


class Service:
    """A runtime with time that stands still, and the shop's books."""

    def __init__(self, runtime: Runtime, clock: SimulatedClock, shop: Shop) -> None:
        self.runtime = runtime
        self.clock = clock
        self.shop = shop

    async def end_of(self, order: Purchase) -> InstanceView:
        await self.runtime.publish(order, message_id=order.order_id)
        await self.clock.advance(timedelta(hours=1))
        seen = await self.runtime.state(self.runtime.ref(processing, order.order_id))
        assert seen is not None
        return seen

    def books(self) -> tuple[list[Any], list[Any], Any]:
        """What was paid, what was noted, how many lamps there are."""
        rows = self.shop.rows
        ((lamps,),) = rows("SELECT pieces FROM stock WHERE item = 'lamp'")
        return (
            [amount for (amount,) in rows("SELECT amount FROM payments ORDER BY rowid")],
            [note for (note,) in rows("SELECT note FROM notes ORDER BY rowid")],
            lamps,
        )


@asynccontextmanager
async def serving(directory: Path, kind: type[Shop] = Shop) -> AsyncIterator[Service]:
    clock = SimulatedClock()
    with closing(kind(directory / "shop.db", STOCK)) as shop:
        async with Runtime(
            "memory://", [processing], resources={"shop": shop}, clock=clock
        ) as runtime:
            yield Service(runtime, clock, shop)


def purchase(pieces: int = 2, amount: int = 80) -> Purchase:
    return Purchase("o", "lamp", pieces, amount)


@quickly
async def test_an_order_runs_through(tmp_path: Path) -> None:
    async with serving(tmp_path) as service:
        assert (await service.end_of(purchase())).status is Status.COMPLETED
        assert service.books() == ([80], ["opened", "yours: lamp, 2 pieces"], 0)


@quickly
async def test_out_of_stock_the_money_goes_back_and_then_the_customer_is_told(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as service:
        seen = await service.end_of(purchase(pieces=3))
        assert (seen.status, seen.state.outcome) == (Status.FAILED, "compensated")
        assert seen.state.steps == {
            "open_order": "compensated",
            "validate_order": "skipped",
            "process_payment": "compensated",
            "update_inventory": "failed",
        }
        assert service.books() == ([80, -80], ["opened", SORRY], 2)


@quickly
async def test_an_order_of_nothing_takes_nothing_and_the_customer_is_told(tmp_path: Path) -> None:
    async with serving(tmp_path) as service:
        seen = await service.end_of(purchase(pieces=0))
        assert (seen.status, seen.state.failed_step) == (Status.FAILED, "validate_order")
        assert service.books() == ([], ["opened", SORRY], 2)


class NoMail(Shop):
    """Notes for customers cannot be written for a while."""

    failures = 3

    def note(self, key: str, order_id: str, note: str) -> None:
        if note != "opened" and self.failures:
            self.failures -= 1
            raise OSError("the mail is down")
        super().note(key, order_id, note)


@pytest.mark.parametrize("pieces", [2, 3])
@quickly
async def test_mail_that_is_down_is_tried_again_and_the_customer_told_once(
    tmp_path: Path, pieces: int
) -> None:
    async with serving(tmp_path, NoMail) as service:
        seen = await service.end_of(purchase(pieces))
        told = "yours: lamp, 2 pieces" if pieces == 2 else SORRY
        assert seen.status is (Status.COMPLETED if pieces == 2 else Status.FAILED)
        assert service.books()[1] == ["opened", told]


class RefusesMail(Shop):
    """The confirmation cannot be sent at all."""

    def note(self, key: str, order_id: str, note: str) -> None:
        if note.startswith("yours"):
            raise NonRetryable("no such address")
        super().note(key, order_id, note)


@quickly
async def test_a_confirmation_that_fails_for_good_undoes_all(tmp_path: Path) -> None:
    """It is the pivot: nothing is decided before it is done."""
    async with serving(tmp_path, RefusesMail) as service:
        assert (await service.end_of(purchase())).status is Status.FAILED
        assert service.books() == ([80, -80], ["opened", SORRY], 2)


def test_steps_asked_twice_work_once(tmp_path: Path) -> None:
    with closing(Shop(tmp_path / "shop.db", STOCK)) as shop:
        order = purchase()
        validate_order(order)
        steps = [open_order, process_payment, update_inventory, send_confirmation]
        undoing = [revert_inventory, refund_payment, send_failure_notice]
        for number, step in enumerate([*steps, *undoing]):
            for _ in range(2):
                step(order, Job(key=f"{number}"), shop)
        assert shop.rows("SELECT amount FROM payments") == [(80,), (-80,)]
        assert shop.rows("SELECT pieces FROM stock") == [(2,)]
        assert len(shop.rows("SELECT note FROM notes")) == 3
        with pytest.raises(OutOfStock, match="no lamp left"):
            update_inventory(purchase(pieces=3), Job(key="more"), shop)
        with pytest.raises(NonRetryable, match="0 pieces for 80"):
            validate_order(purchase(pieces=0))
