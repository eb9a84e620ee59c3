"""The release that comes: orders take gifts and notes; another queue, and another saga."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from perdure import (
    Effects,
    Job,
    ProcessManager,
    WorkQueue,
    applies,
    continues,
    message,
    on_deadline,
    starts,
)
from perdure.messages import CommandFailed, DeadlineReached


@message(name="release.Placed")
class Placed:
    id: str


@message(name="release.Paid")
class Paid:
    id: str
    n: int


@message(name="release.Noted")
class Noted:
    """Orders take it from this release on."""

    id: str
    text: str


@message(name="release.Gift")
class Gift:
    """A new type. What follows from it comes after ``delay_s``; ``thanks``: another saga hears."""

    id: str
    delay_s: float = 0.0
    thanks: bool = False


@message(name="release.Wrapped")
class Wrapped:
    """A new event, and a new reply."""

    id: str


@message(name="release.Charge")
class Charge:
    id: str


@message(name="release.Charged")
class Charged:
    id: str


@message(name="release.Engrave")
class Engrave:
    """A new command, for a queue that release one has, too."""

    id: str


@message(name="release.Engraved")
class Engraved:
    id: str


@message(name="release.Deliver")
class Deliver:
    """A new command, for a new queue."""

    id: str


@message(name="release.Delivered")
class Delivered:
    id: str


@message(name="release.Gifted")
class Gifted:
    """Published; starts the new saga."""

    id: str


@dataclass(frozen=True)
class OrderState:
    paid: tuple[int, ...] = ()
    charged: tuple[int, ...] = ()
    failed: tuple[str, ...] = ()
    gifts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class Order(ProcessManager[OrderState]):
    name = "release.Order"

    @starts(Placed, by="id")
    def placed(self, state: OrderState, event: Placed, do: Effects) -> None: ...

    @continues(Paid, by="id")
    def was_paid(self, state: OrderState, event: Paid, do: Effects) -> None:
        do.send(Charge(event.id))
        do.reply(len(state.paid) if event.n < 100 else Wrapped(event.id))

    @continues(Charged, by="id")
    def was_charged(self, state: OrderState, event: Charged, do: Effects) -> None: ...

    @continues(Noted, by="id")
    def was_noted(self, state: OrderState, event: Noted, do: Effects) -> None:
        if event.text == "later":
            do.deadline("note", timedelta(seconds=1.5))

    @continues(Gift, by="id")
    def was_given(self, state: OrderState, event: Gift, do: Effects) -> None:
        do.record(Wrapped(event.id))
        if event.thanks:
            do.publish(Gifted(event.id))
        if event.delay_s:
            delay = timedelta(seconds=event.delay_s)
            do.send(Engrave(event.id), delay=delay)
            do.send(Deliver(event.id), delay=delay)
        do.reply(Wrapped(event.id))

    @continues(Engraved, by="id")
    def was_engraved(self, state: OrderState, event: Engraved, do: Effects) -> None: ...

    @continues(Delivered, by="id")
    def was_delivered(self, state: OrderState, event: Delivered, do: Effects) -> None: ...

    @on_deadline("note")
    def is_noted(self, state: OrderState, do: Effects) -> None: ...

    @applies(DeadlineReached)
    def reach(self, state: OrderState, event: DeadlineReached) -> OrderState:
        return replace(state, notes=(*state.notes, event.name))

    @applies(Paid)
    def pay(self, state: OrderState, event: Paid) -> OrderState:
        return replace(state, paid=(*state.paid, event.n))

    @applies(Charged)
    def charge(self, state: OrderState, event: Charged) -> OrderState:
        return replace(state, charged=(*state.charged, 1))

    @applies(CommandFailed)
    def fail(self, state: OrderState, event: CommandFailed) -> OrderState:
        return replace(state, failed=(*state.failed, event.reason))

    @applies(Noted)
    def note(self, state: OrderState, event: Noted) -> OrderState:
        return replace(state, notes=(*state.notes, event.text))

    @applies(Wrapped)
    def wrap(self, state: OrderState, event: Wrapped) -> OrderState:
        return replace(state, gifts=tuple(sorted((*state.gifts, "wrapped"))))

    @applies(Engraved)
    def engrave(self, state: OrderState, event: Engraved) -> OrderState:
        return replace(state, gifts=tuple(sorted((*state.gifts, "engraved"))))

    @applies(Delivered)
    def deliver(self, state: OrderState, event: Delivered) -> OrderState:
        return replace(state, gifts=tuple(sorted((*state.gifts, "delivered"))))


@dataclass(frozen=True)
class ThanksState:
    said: int = 0


class Thanks(ProcessManager[ThanksState]):
    name = "release.Thanks"

    @starts(Gifted, by="id")
    def given(self, state: ThanksState, event: Gifted, do: Effects) -> None: ...

    @applies(Gifted)
    def say(self, state: ThanksState, event: Gifted) -> ThanksState:
        return replace(state, said=state.said + 1)


charges = WorkQueue("release.charges")
deliveries = WorkQueue("release.deliveries")


@charges.worker
async def charge(command: Charge, job: Job) -> Charged:
    return Charged(command.id)


@charges.worker
async def engrave(command: Engrave, job: Job) -> Engraved:
    return Engraved(command.id)


@deliveries.worker
async def deliver(command: Deliver, job: Job) -> Delivered:
    return Delivered(command.id)


MEMBERS: list[type[ProcessManager[Any]] | WorkQueue] = [Order, Thanks, charges, deliveries]
