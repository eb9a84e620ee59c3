"""The workload: sagas whose states and effects show whatever is lost, doubled, or out of order.

Every operation of a client is (id, kind, target, number), and everything about it derives from
that. Nothing here is idempotent of its own: a repeat that is not caught is seen.
Next to read: ``checks.py``, what must come of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, ClassVar, NamedTuple

from perdure import (
    CommandFailed,
    Context,
    Effects,
    Fixed,
    Job,
    NonRetryable,
    OrderedSaga,
    Park,
    ProcessManager,
    WorkQueue,
    applies,
    compensates,
    continues,
    message,
    on_command_failed,
    on_deadline,
    starts,
    step,
    workflow,
)
from perdure.core.saga import MissingPolicy
from tests.survival.ledger import Says

RETRY = Fixed(0.002, max_attempts=None)
ATTEMPTS = 3
STEPS = ("hotel", "train", "plane")
FLOW = ("read", "check", "file")


class Op(NamedTuple):
    """One operation of a client."""

    id: str
    kind: str
    target: str
    number: int


# A list: what is lost, doubled or overtaken; what it publishes reaches two audits.


@message(name="survival.Append")
class Append:
    list: str
    op: str


@message(name="survival.Noted")
class Noted:
    list: str
    op: str


@dataclass(frozen=True)
class Items:
    items: tuple[str, ...] = ()


class Lists(ProcessManager[Items]):
    name = "Lists"

    @starts(Append, by="list")
    def append(self, state: Items, event: Append, do: Effects) -> None:
        do.reply(len(state.items))
        do.publish(Noted(event.list, event.op))

    @applies(Append)
    def appended(self, state: Items, event: Append) -> Items:
        return Items((*state.items, event.op))


class Audit(ProcessManager[Items]):
    name = "Audit"

    @starts(Noted, by="list")
    def noted(self, state: Items, event: Noted, do: Effects) -> None: ...

    @applies(Noted)
    def fold(self, state: Items, event: Noted) -> Items:
        return Items((*state.items, event.op))


class SecondAudit(Audit):
    name = "SecondAudit"


# A counter that is not idempotent, and some of whose messages are poison.


@message(name="survival.Count")
class Count:
    counter: str
    op: str


@message(name="survival.Spoil")
class Spoil:
    counter: str
    op: str
    at_once: bool


@dataclass(frozen=True)
class Total:
    total: int = 0


class Counter(ProcessManager[Total]):
    name = "Counter"
    retry = Fixed(0.003, max_attempts=ATTEMPTS)

    @starts(Count, by="counter")
    def count(self, state: Total, event: Count, do: Effects) -> None:
        do.reply(state.total)

    @starts(Spoil, by="counter")
    def spoil(self, state: Total, event: Spoil, do: Effects) -> None:
        do.publish(Noted("poison", event.op))
        raise NonRetryable(event.op) if event.at_once else ValueError(event.op)

    @applies(Count)
    def counted(self, state: Total, event: Count) -> Total:
        return Total(state.total + 1)


# A deadline that is set, replaced, cancelled; each ring names who has set it.


@message(name="survival.SetAlarm")
class SetAlarm:
    alarm: str
    op: str
    after_ms: int


@message(name="survival.UnsetAlarm")
class UnsetAlarm:
    alarm: str
    op: str


@message(name="survival.Rang")
class Rang:
    op: str


@message(name="survival.Ring")
class Ring:
    alarm: str
    op: str


@dataclass(frozen=True)
class Alarms:
    set_by: str = ""
    rang: tuple[str, ...] = ()


class Alarm(ProcessManager[Alarms]):
    name = "Alarm"

    @starts(SetAlarm, by="alarm")
    def set(self, state: Alarms, event: SetAlarm, do: Effects) -> None:
        do.deadline("ring", timedelta(milliseconds=event.after_ms))

    @starts(UnsetAlarm, by="alarm")
    def unset(self, state: Alarms, event: UnsetAlarm, do: Effects) -> None:
        do.cancel_deadline("ring")

    @on_deadline("ring")
    def ring(self, state: Alarms, do: Effects) -> None:
        do.record(Rang(state.set_by))
        do.send(Ring(do.metadata.instance_id, state.set_by))

    @applies(SetAlarm)
    def is_set(self, state: Alarms, event: SetAlarm) -> Alarms:
        return replace(state, set_by=event.op)

    @applies(Rang)
    def has_rung(self, state: Alarms, event: Rang) -> Alarms:
        return replace(state, rang=(*state.rang, event.op))


# Command, job, result, the next command; every fourth fails for good and is refunded.


@message(name="survival.Placed")
class Placed:
    order: str
    number: int


@message(name="survival.Charge")
class Charge:
    order: str
    number: int


@message(name="survival.Charged")
class Charged:
    order: str


@message(name="survival.Pack")
class Pack:
    order: str
    number: int


@message(name="survival.Packed")
class Packed:
    order: str


@message(name="survival.Refund")
class Refund:
    order: str


@message(name="survival.Refunded")
class Refunded:
    order: str


@dataclass(frozen=True)
class Order:
    number: int = 0
    happened: tuple[str, ...] = ()


class Shop(ProcessManager[Order]):
    name = "Shop"

    @starts(Placed, by="order")
    def placed(self, state: Order, event: Placed, do: Effects) -> None:
        do.send(Charge(event.order, event.number))

    @continues(Charged, by="order")
    def charged(self, state: Order, event: Charged, do: Effects) -> None:
        do.send(Pack(event.order, state.number))

    @continues(Packed, by="order")
    def packed(self, state: Order, event: Packed, do: Effects) -> None:
        do.complete()

    @on_command_failed(Pack)
    def unpacked(self, state: Order, event: CommandFailed, do: Effects) -> None: ...

    @compensates(Pack)
    def refund(self, state: Order, failed: Pack) -> list[Refund]:
        return [Refund(failed.order)]

    @continues(Refunded, by="order")
    def refunded(self, state: Order, event: Refunded, do: Effects) -> None:
        do.fail("refunded")

    @applies(Placed)
    def fold_placed(self, state: Order, event: Placed) -> Order:
        return replace(state, number=event.number)

    @applies(Charged)
    def fold_charged(self, state: Order, event: Charged) -> Order:
        return replace(state, happened=(*state.happened, "charged"))

    @applies(Packed)
    def fold_packed(self, state: Order, event: Packed) -> Order:
        return replace(state, happened=(*state.happened, "packed"))

    @applies(Refunded)
    def fold_refunded(self, state: Order, event: Refunded) -> Order:
        return replace(state, happened=(*state.happened, "refunded"))


# Two inputs, in any order: one of them may have to wait for the other.


@message(name="survival.Left")
class Left:
    pair: str


@message(name="survival.Right")
class Right:
    pair: str


class Join(ProcessManager[Items]):
    name = "Join"
    on_missing: ClassVar[MissingPolicy] = Park(for_s=3600)

    @starts(Left, by="pair")
    def left(self, state: Items, event: Left, do: Effects) -> None: ...

    @continues(Right, by="pair")
    def right(self, state: Items, event: Right, do: Effects) -> None:
        do.send(Ring(event.pair, "joined"))
        do.complete()

    @applies(Left)
    def fold_left(self, state: Items, event: Left) -> Items:
        return Items((*state.items, "left"))

    @applies(Right)
    def fold_right(self, state: Items, event: Right) -> Items:
        return Items((*state.items, "right"))


# One for workers that write rows of their own, see ``books.py``.


@message(name="survival.Book")
class Book:
    book: str
    op: str


# An ordered saga that fails at step ``number``, or at none.


@message(name="survival.Trip")
class Trip:
    trip: str
    fails_at: int


@message(name="survival.Flow")
class Flow:
    flow: str


def work_queue() -> WorkQueue:
    """The workers of commands: each tells the outside world, then answers."""
    queue = WorkQueue("work", concurrency=3, retry=RETRY)

    @queue.worker
    async def charge(command: Charge, job: Job, outside: Says) -> Charged:
        outside.say("effect", job.key, "charge")
        if command.number % 5 == 0 and job.attempt == 1:
            raise ConnectionError("once more, please")
        return Charged(command.order)

    @queue.worker
    async def pack(command: Pack, job: Job, outside: Says) -> Packed:
        if command.number % 4 == 0:
            raise NonRetryable("sold out")
        outside.say("effect", job.key, "pack")
        return Packed(command.order)

    @queue.worker
    def refund(command: Refund, job: Job, outside: Says) -> Refunded:
        outside.say("effect", job.key, "refund")
        return Refunded(command.order)

    @queue.worker
    async def ring(command: Ring, job: Job, outside: Says) -> None:
        outside.say("effect", job.key, f"ring {command.op}")

    return queue


def trips() -> OrderedSaga:
    saga = OrderedSaga("Trips", Trip, by="trip")
    for number, name in enumerate(STEPS):
        saga.step(retry=RETRY)(_booking(name, number))
        saga.compensates(name, retry=RETRY)(_undoing(name))
    return saga


def _booking(name: str, number: int) -> Any:
    @step(name=name)
    async def book(trip: Trip, job: Job, outside: Says) -> None:
        if trip.fails_at == number:
            raise NonRetryable("full")
        outside.say("effect", job.key, "do")

    return book


def _undoing(name: str) -> Any:
    async def undo(trip: Trip, job: Job, outside: Says) -> None:
        outside.say("effect", job.key, "undo")

    undo.__name__ = f"no_{name}"
    return undo


def _stage(name: str) -> Any:
    @step(name=name, retry=RETRY)
    async def perform(given: Any, job: Job, outside: Says) -> str:
        outside.say("effect", job.key, "do")
        return name

    return perform


@workflow("Flows", Flow, by="flow", steps=[_stage(name) for name in FLOW])
async def flows(ctx: Context, begun: Flow) -> Any:
    found = [await ctx.step("read")]
    await ctx.sleep(seconds=0.005)
    return [*found, await ctx.step("check"), await ctx.step("file")]


def members() -> list[Any]:
    """Everything a runtime of the workload runs."""
    managers = [Lists, Audit, SecondAudit, Counter, Alarm, Shop, Join]
    return [*managers, trips(), flows, work_queue()]


CONTENT: dict[str, Callable[[Op], Any]] = {
    "append": lambda op: Append(op.target, op.id),
    "count": lambda op: Count(op.target, op.id),
    "spoil": lambda op: Spoil(op.target, op.id, op.number == 1),
    "set": lambda op: SetAlarm(op.target, op.id, op.number),
    "unset": lambda op: UnsetAlarm(op.target, op.id),
    "order": lambda op: Placed(op.target, op.number),
    "left": lambda op: Left(op.target),
    "right": lambda op: Right(op.target),
    "trip": lambda op: Trip(op.target, op.number),
    "flow": lambda op: Flow(op.target),
    "book": lambda op: Book(op.target, op.id),
}
SAGA_OF = {
    "append": "Lists", "count": "Counter", "spoil": "Counter", "set": "Alarm", "unset": "Alarm",
    "order": "Shop", "left": "Join", "right": "Join", "trip": "Trips", "flow": "Flows",
    "book": "Books",
}  # fmt: skip
