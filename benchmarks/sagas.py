"""The sagas that are measured. Each turn folds its message and sends one command.

Next to read: ``load.py``, which sends to them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar

from perdure import Effects, ProcessManager, applies, continues, message, on_deadline, starts

__all__ = ["NOTE", "Nap", "NapState", "Opened", "Order", "OrderState", "Ship", "Sleep", "Worked"]

NOTE = "x" * 96
"""Makes a ``Worked`` about 150 bytes long."""


@message(name="bench.Opened")
class Opened:
    order_id: str


@message(name="bench.Worked")
class Worked:
    order_id: str
    number: int
    note: str = NOTE


@message(name="bench.Ship")
class Ship:
    order_id: str
    number: int


@dataclass(frozen=True, slots=True)
class OrderState:
    order_id: str = ""
    number: int = 0


class Order(ProcessManager[OrderState]):
    """One applied event and one outbox command per turn."""

    name: ClassVar[str] = "bench.Order"

    @starts(Opened, by="order_id")
    def opened(self, state: OrderState, event: Opened, do: Effects) -> None:
        do.send(Ship(event.order_id, 0))

    @continues(Worked, by="order_id")
    def worked(self, state: OrderState, event: Worked, do: Effects) -> None:
        do.send(Ship(event.order_id, event.number))

    @applies(Opened)
    def fold_opened(self, state: OrderState, event: Opened) -> OrderState:
        return OrderState(event.order_id, 0)

    @applies(Worked)
    def fold_worked(self, state: OrderState, event: Worked) -> OrderState:
        return OrderState(event.order_id, event.number)


@message(name="bench.Sleep")
class Sleep:
    sleeper: str


@dataclass(frozen=True, slots=True)
class NapState:
    sleeper: str = ""


class Nap(ProcessManager[NapState]):
    """Sets two deadlines; ``fired`` counts the handlers that ran, of all instances."""

    name: ClassVar[str] = "bench.Nap"
    fired: ClassVar[dict[str, int]] = {"first": 0, "second": 0}

    @starts(Sleep, by="sleeper")
    def asleep(self, state: NapState, event: Sleep, do: Effects) -> None:
        do.deadline("first", timedelta(hours=1))
        do.deadline("second", timedelta(hours=2))

    @applies(Sleep)
    def fold(self, state: NapState, event: Sleep) -> NapState:
        return NapState(event.sleeper)

    @on_deadline("first")
    def first(self, state: NapState, do: Effects) -> Any:
        Nap.fired["first"] += 1

    @on_deadline("second")
    def second(self, state: NapState, do: Effects) -> Any:
        Nap.fired["second"] += 1
