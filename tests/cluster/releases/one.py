"""The release that runs: orders, and a queue that charges them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from perdure import Effects, Job, ProcessManager, WorkQueue, applies, continues, message, starts
from perdure.messages import CommandFailed


@message(name="release.Placed")
class Placed:
    id: str


@message(name="release.Paid")
class Paid:
    id: str
    n: int


@message(name="release.Noted")
class Noted:
    """Known here, and of no interest to orders yet."""

    id: str
    text: str


@message(name="release.Charge")
class Charge:
    id: str


@message(name="release.Charged")
class Charged:
    id: str


@dataclass(frozen=True)
class OrderState:
    paid: tuple[int, ...] = ()
    charged: tuple[int, ...] = ()
    failed: tuple[str, ...] = ()


class Order(ProcessManager[OrderState]):
    name = "release.Order"

    @starts(Placed, by="id")
    def placed(self, state: OrderState, event: Placed, do: Effects) -> None: ...

    @continues(Paid, by="id")
    def was_paid(self, state: OrderState, event: Paid, do: Effects) -> None:
        do.send(Charge(event.id))
        do.reply(len(state.paid))

    @continues(Charged, by="id")
    def was_charged(self, state: OrderState, event: Charged, do: Effects) -> None: ...

    @applies(Paid)
    def pay(self, state: OrderState, event: Paid) -> OrderState:
        return replace(state, paid=(*state.paid, event.n))

    @applies(Charged)
    def charge(self, state: OrderState, event: Charged) -> OrderState:
        return replace(state, charged=(*state.charged, 1))

    @applies(CommandFailed)
    def fail(self, state: OrderState, event: CommandFailed) -> OrderState:
        return replace(state, failed=(*state.failed, event.reason))


charges = WorkQueue("release.charges")


@charges.worker
async def charge(command: Charge, job: Job) -> Charged:
    return Charged(command.id)


MEMBERS: list[type[ProcessManager[Any]] | WorkQueue] = [Order, charges]
