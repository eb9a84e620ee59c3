"""Sagas and queues that the tests describe."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from perdure import (
    CORRELATION_ID,
    Context,
    Cron,
    Effects,
    Every,
    Exponential,
    Fixed,
    IgnoreMissing,
    Indexed,
    OrderedSaga,
    Park,
    ProcessManager,
    Rate,
    Retention,
    Schedule,
    Skip,
    Supervision,
    Workflow,
    WorkQueue,
    applies,
    compensates,
    continues,
    message,
    on_cancelled,
    on_child_ended,
    on_command_failed,
    on_deadline,
    on_timeout,
    starts,
    step,
    stops,
    workflow,
)


@message(name="described.placed")
class Placed:
    order_id: str


@message(name="described.paid")
class Paid:
    order_id: str
    region: str = ""


@message(name="described.dropped")
class Dropped:
    order_id: str


@message(name="described.charge")
class Charge:
    order_id: str


@message(name="described.refund")
class Refund:
    order_id: str


@message(name="described.ship")
class Ship:
    order_id: str


@dataclass(frozen=True)
class State:
    customer: Indexed[str] = ""
    status: Literal["new", "open", "paid"] = "new"


def is_large(state: State) -> bool:
    return state.customer != ""


class Order(ProcessManager[State]):
    """An order, from the first to the last.

    More of it.
    """

    name = "described-order"
    timeout = timedelta(minutes=90)
    timeout_retry = Fixed(60, max_attempts=3)
    on_missing = IgnoreMissing()
    retry = Exponential(max_attempts=None)
    lets_pass = True
    supervision = Supervision.restart(3, timedelta(minutes=2))
    retention = Retention.keep_for(timedelta(days=30), failed="keep")

    @starts(Placed, by="order_id", when="new", strict=True)
    def placed(self, state: State, event: Placed, do: Effects) -> None: ...

    @continues(Paid, by=("region", "order_id"), when=("new", "open"))
    def paid(self, state: State, event: Paid, do: Effects) -> None: ...

    @continues(Paid, by=("region", "order_id"), when=is_large)
    def paid_much(self, state: State, event: Paid, do: Effects) -> None: ...

    @continues(Paid, by=("region", "order_id"))
    def paid_else(self, state: State, event: Paid, do: Effects) -> None: ...

    @stops(Dropped, by=CORRELATION_ID)
    def dropped(self, state: State, event: Dropped, do: Effects) -> None: ...

    @continues("shop.reminded", by=lambda event: event.data["id"])
    def reminded(self, state: State, event: Any, do: Effects) -> None: ...

    @on_deadline("pick", when="paid")
    def late(self, state: State, do: Effects) -> None: ...

    @on_timeout
    def too_late(self, state: State, do: Effects) -> None: ...

    @on_command_failed(Ship)
    def unshipped(self, state: State, failure: Any, do: Effects) -> None: ...

    @compensates(Charge)
    def make_up(self, state: State, failed: Charge) -> Iterable[Any]:
        return []

    @on_child_ended("kyc")
    def known(self, state: State, ended: Any, do: Effects) -> None: ...

    @on_cancelled
    def given_up(self, state: State, cancel: Any, do: Effects) -> None: ...

    @applies(Placed)
    def on_placed(self, state: State, event: Placed) -> State:
        return state


class ByHand(ProcessManager[State]):
    name = "described-by-hand"
    on_missing = Park(for_s=None)

    def interested_in(self) -> Iterable[type | str]:
        return [Placed]

    def correlate(self, event: Any, metadata: Any) -> Any:
        return []

    def handle(self, state: State, event: Any, metadata: Any) -> None: ...

    @starts(Placed, by="order_id")  # which ``correlate`` does not ask for
    def placed(self, state: State, event: Placed, do: Effects) -> None: ...


payments = WorkQueue(
    "payments",
    concurrency=3,
    retry=Fixed(30),
    rate=Rate(100, per_s=1),
    pause_after=7,
    non_retryable=(KeyError,),
    lease_s=90,
)


@payments.worker
def charge(command: Charge) -> Paid | None:
    """Take the money.

    At once.
    """
    return None


@payments.subscriber
def record(event: Dropped | Paid) -> None: ...


@message(name="described.trip")
class Trip:
    trip_id: str
    hotel: str = ""


trip = OrderedSaga("described-trip", Trip, by="trip_id", timeout=timedelta(hours=2))


@trip.step(retry=Fixed(5, max_attempts=1), deadline=timedelta(hours=1), unknown="compensate")
def book_hotel(trip: Trip) -> None:
    """Book a room."""


@trip.compensates(book_hotel, retry=Fixed(5))
def cancel_hotel(trip: Trip) -> None: ...


@trip.step(parallel="transport", nothing_to_undo=True)
def ask_train(trip: Trip) -> None: ...


@trip.step(parallel="transport", nothing_to_undo=True)
def ask_bus(trip: Trip) -> None: ...


@trip.step(pivot=True)
def pay(trip: Trip) -> None: ...


@trip.step
def thank(trip: Trip) -> None: ...


letters = Workflow(
    "described-letters", Trip, by="trip_id", steps=[ask_bus, thank], timeout=timedelta(days=1)
)


@step(deadline=timedelta(minutes=5))
def greet(trip: Trip) -> None:
    """Say hello."""


@workflow("described-stay", Trip, by="trip_id", steps=[greet], events={Paid: "order_id"})
async def stay(ctx: Context, trip: Trip) -> None:
    """From arriving to leaving."""


def start_report(run: Any) -> None:
    """Begin the report."""


nightly = Schedule(
    "described-nightly",
    Cron("0 3 * * *", zone="Europe/Berlin"),
    start_report,
    missed=Skip(timedelta(minutes=5)),
)
hourly = Schedule("described-hourly", Every(timedelta(hours=1)), lambda run: None)

EVERYTHING: list[Any] = [Order, ByHand, trip, letters, stay, nightly, hourly, payments]


def manager(state: type = State, **attributes: Any) -> type[ProcessManager[Any]]:
    """A process manager that has just these, named "checked"."""
    body = {"name": "checked", **attributes}
    base: Any = ProcessManager
    return types.new_class("Checked", (base[state],), exec_body=lambda names: names.update(body))


def starting(event: Any = Placed, **more: Any) -> Callable[..., None]:
    """A handler that starts the saga."""

    @starts(event, by="order_id", **more)
    def begin(self: Any, state: State, event: Any, do: Effects) -> None: ...

    return begin


def continuing(event: Any = Paid, **more: Any) -> Callable[..., None]:
    """A handler that continues it."""

    @continues(event, by="order_id", **more)
    def go_on(self: Any, state: State, event: Any, do: Effects) -> None: ...

    return go_on
