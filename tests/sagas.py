"""Sagas that tests share. Type names begin with "runtime-test.", to clash with nobody's."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, ClassVar

from perdure import (
    CORRELATION_ID,
    CommandFailed,
    Complete,
    DeadlineReached,
    Effects,
    Fail,
    Fixed,
    IgnoreMissing,
    Linear,
    Park,
    ProcessManager,
    ReplyMissing,
    RetryScheduled,
    StartMissing,
    TimeoutReached,
    applies,
    compensates,
    continues,
    message,
    on_deadline,
    on_timeout,
    starts,
    stops,
)
from perdure.core.saga import MissingPolicy
from perdure.errors import InvalidEffect, NonRetryable


@message(name="runtime-test.opened")
class Opened:
    id: str


@message(name="runtime-test.added")
class Added:
    id: str
    n: int


@message(name="runtime-test.closed")
class Closed:
    id: str


@message(name="runtime-test.struck")
class Struck:
    """Makes the handler do what ``STRIKES`` has under this name."""

    id: str
    how: str


@message(name="runtime-test.doubled")
class Doubled:
    """Recorded by the handler of an odd ``Added``."""

    n: int


@message(name="runtime-test.ship")
class Ship:
    id: str
    n: int


def _raise(error: BaseException) -> Callable[[Effects], Any]:
    def strike(do: Effects) -> Any:
        do.record(Doubled(1_000_000))
        do.send(Ship("never", 0))
        do.deadline("never", timedelta(seconds=1))
        raise type(error)(*error.args)

    return strike


class Unprintable(Exception):
    """An error that cannot even be shown."""

    def __str__(self) -> str:
        raise RuntimeError("no words for it")

    __repr__ = __str__


STRIKES: dict[str, Callable[[Effects], Any]] = {
    "error": _raise(ValueError("struck")),
    "exit": _raise(SystemExit(3)),
    "interrupt": _raise(KeyboardInterrupt()),
    "cancelled": _raise(asyncio.CancelledError()),
    "unprintable": _raise(Unprintable()),
    "surrogate": _raise(ValueError("\ud800 is half a character")),
    "nul": _raise(ValueError("\0")),
    "nonsense": lambda do: 42,
    "text": lambda do: "effects",
    "mixed": lambda do: [object()],
    "unregistered": lambda do: do.send(object()),
    "twice": lambda do: [Complete(), Fail("no")],
}


@dataclass(frozen=True)
class LedgerState:
    items: tuple[int, ...] = ()
    doubled: int = 0
    status: str = "new"


HANDLED: list[tuple[str, int]] = []
"""Every call of the ledger's handlers: (instance, sequence_nr)."""


class Ledger(ProcessManager[LedgerState]):
    """Appends numbers: whatever is lost, doubled or overtaken shows in its state."""

    name = "Ledger"
    on_missing: ClassVar[MissingPolicy] = Park(for_s=60)

    @starts(Opened, by="id")
    def opened(self, state: LedgerState, event: Opened, do: Effects) -> None:
        HANDLED.append((event.id, do.metadata.sequence_nr))

    @continues(Added, by="id")
    def added(self, state: LedgerState, event: Added, do: Effects) -> None:
        HANDLED.append((event.id, do.metadata.sequence_nr))
        do.reply(len(state.items))
        do.send(Ship(event.id, event.n))
        if event.n % 2:
            do.record(Doubled(2 * event.n))

    @continues(Struck, by="id")
    def struck(self, state: LedgerState, event: Struck, do: Effects) -> Any:
        return STRIKES[event.how](do)

    @stops(Closed, by="id")
    def closed(self, state: LedgerState, event: Closed, do: Effects) -> None:
        do.reply(f"closed with {len(state.items)}")

    @applies(Opened)
    def is_open(self, state: LedgerState, event: Opened) -> LedgerState:
        return replace(state, status="open")

    @applies(Added)
    def append(self, state: LedgerState, event: Added) -> LedgerState:
        return replace(state, items=(*state.items, event.n))

    @applies(Doubled)
    def double(self, state: LedgerState, event: Doubled) -> LedgerState:
        return replace(state, doubled=state.doubled + event.n)


class Ignoring(Ledger):
    name = "Ignoring"
    on_missing = IgnoreMissing()


class Starting(Ledger):
    name = "Starting"
    on_missing = StartMissing()


class Replying(Ledger):
    name = "Replying"
    on_missing = ReplyMissing("nobody here")


@dataclass
class BasketState:
    """Mutable on purpose."""

    items: list[int] = field(default_factory=list)


@message(name="runtime-test.filled")
class Filled:
    id: str
    items: list[int]
    fails: bool = False


class Basket(ProcessManager[BasketState]):
    """Changes its state in place, and what it is given, too."""

    name = "Basket"

    @starts(Filled, by="id")
    def filled(self, state: BasketState, event: Filled, do: Effects) -> None:
        state.items.append(-1)
        event.items.append(-2)
        if event.fails:
            raise ValueError("spilt")

    @applies(Filled)
    def fill(self, state: BasketState, event: Filled) -> None:
        state.items += event.items


class OtherBasket(Basket):
    name = "OtherBasket"


@message(name="runtime-test.armed")
class Armed:
    id: str
    deadline: str
    after_s: float


@message(name="runtime-test.disarmed")
class Disarmed:
    id: str
    deadline: str


@message(name="runtime-test.escalated")
class Escalated:
    id: str


@dataclass(frozen=True)
class AlarmState:
    heard: tuple[str, ...] = ()
    status: str = "on"


class Alarm(ProcessManager[AlarmState]):
    """Notes what it hears and when."""

    name = "Alarm"

    @starts(Opened, Armed, by="id")
    def armed(self, state: AlarmState, event: Opened | Armed, do: Effects) -> None:
        if isinstance(event, Armed):
            do.deadline(event.deadline, timedelta(seconds=event.after_s))

    @continues(Disarmed, by="id")
    def disarmed(self, state: AlarmState, event: Disarmed, do: Effects) -> None:
        do.cancel_deadline(event.deadline)

    @continues(Added, by="id")
    def added(self, state: AlarmState, event: Added, do: Effects) -> None:
        do.reply(",".join(state.heard))

    @stops(Closed, by="id")
    def closed(self, state: AlarmState, event: Closed, do: Effects) -> None: ...

    @on_deadline("a")
    def a(self, state: AlarmState, do: Effects) -> None:
        do.send(Ship("a", len(state.heard)))

    @on_deadline("b")
    def b(self, state: AlarmState, do: Effects) -> None: ...

    @on_deadline("bad")
    def bad(self, state: AlarmState, do: Effects) -> None:
        raise ValueError("bad deadline")

    @on_deadline("again")
    def again(self, state: AlarmState, do: Effects) -> None:
        if len(state.heard) < 5:
            do.deadline("again", timedelta(0))

    @on_deadline("nobody", when="off")
    @on_deadline("handles these", when="off")
    def when_off(self, state: AlarmState, do: Effects) -> None: ...

    @applies(DeadlineReached)
    def hear(self, state: AlarmState, event: DeadlineReached) -> AlarmState:
        return replace(state, heard=(*state.heard, event.name))

    @applies(Added)
    def hear_added(self, state: AlarmState, event: Added) -> AlarmState:
        return replace(state, heard=(*state.heard, str(event.n)))


class Limited(Alarm):
    """Fails after an hour."""

    name = "Limited"
    timeout = timedelta(hours=1)


class Graceful(Alarm):
    """Does something else after an hour, and goes on."""

    name = "Graceful"
    timeout = timedelta(hours=1)

    @on_timeout
    def too_long(self, state: AlarmState, do: Effects) -> None:
        do.send(Escalated("graceful"))

    @applies(TimeoutReached)
    def hear_timeout(self, state: AlarmState, event: TimeoutReached) -> AlarmState:
        return replace(state, heard=(*state.heard, "timeout"))


@message(name="runtime-test.founded")
class Founded:
    id: str


@message(name="runtime-test.joined")
class Joined:
    id: str


@message(name="runtime-test.dissolved")
class Dissolved:
    id: str


@dataclass(frozen=True)
class ClubState:
    members: int = 0
    status: str = "founded"


class Club(ProcessManager[ClubState]):
    """Everything about it is strict."""

    name = "Club"

    @starts(Founded, by="id", strict=True)
    def founded(self, state: ClubState, event: Founded, do: Effects) -> None: ...

    @continues(Joined, by="id", when=lambda state: state.members < 1, strict=True)
    def joined(self, state: ClubState, event: Joined, do: Effects) -> None: ...

    @stops(Dissolved, by="id", strict=True)
    def dissolved(self, state: ClubState, event: Dissolved, do: Effects) -> None: ...

    @applies(Joined)
    def join(self, state: ClubState, event: Joined) -> ClubState:
        return replace(state, members=state.members + 1)


@message(name="runtime-test.moved")
class Moved:
    source: str
    target: str
    n: int


@message(name="runtime-test.conversed")
class Conversed:
    text: str


@dataclass(frozen=True)
class PairState:
    seen: int = 0


class Pair(ProcessManager[PairState]):
    """One instance per composite id."""

    name = "Pair"

    @starts(Moved, by=("source", "target"))
    def moved(self, state: PairState, event: Moved, do: Effects) -> None: ...

    @starts(Conversed, by=CORRELATION_ID)
    def conversed(self, state: PairState, event: Conversed, do: Effects) -> None: ...

    @starts("runtime-test.outside", by="order")
    def outside(self, state: PairState, event: Any, do: Effects) -> None:
        do.reply(event.data["price"])

    @applies(Moved, Conversed, "runtime-test.outside")
    def see(self, state: PairState, event: Any) -> PairState:
        return replace(state, seen=state.seen + 1)


class Accounts(ProcessManager[PairState]):
    """Both ends of a move are instances of their own."""

    name = "Accounts"

    @starts(Moved, by=lambda event: [event.source, event.target])
    def moved(self, state: PairState, event: Moved, do: Effects) -> None: ...

    @applies(Moved)
    def move(self, state: PairState, event: Moved) -> PairState:
        return replace(state, seen=state.seen + event.n)


@message(name="runtime-test.begun")
class Begun:
    """Starts; its turn raises ``fails`` times first."""

    id: str
    fails: int = 0


@message(name="runtime-test.shaky")
class Shaky:
    """Its turn raises ``fails`` times first. ``why`` is what it raises."""

    id: str
    n: int
    fails: int = 0
    why: str = "error"


@message(name="runtime-test.alarmed")
class Alarmed:
    """Sets the deadline "late", whose handler raises ``fails`` times first."""

    id: str
    after_s: float
    fails: int = 0


TRIED: Counter[str] = Counter()
"""How often a turn of this name has begun."""

WHYS: dict[str, Callable[[], BaseException]] = {
    "error": lambda: ValueError("shaken"),
    "never": lambda: NonRetryable("of no use"),
    "effect": lambda: InvalidEffect("nonsense"),
}


def shake(name: str, fails: int, why: str = "error") -> None:
    """Raise, the first so many times."""
    TRIED[name] += 1
    if TRIED[name] <= fails:
        raise WHYS[why]()


@dataclass(frozen=True)
class FlakyState:
    items: tuple[int, ...] = ()
    late_fails: int = 0
    status: str = "new"


class Flaky(ProcessManager[FlakyState]):
    """Some of its turns raise, and are tried again: three attempts, ten seconds apart."""

    name = "Flaky"
    retry = Fixed(10, max_attempts=3)
    on_missing: ClassVar[MissingPolicy] = Park(for_s=60)

    @starts(Begun, by="id")
    def begun(self, state: FlakyState, event: Begun, do: Effects) -> None:
        shake(f"{event.id}/begun", event.fails)

    @continues(Shaky, by="id")
    def shaky(self, state: FlakyState, event: Shaky, do: Effects) -> None:
        do.send(Ship(event.id, event.n))
        do.reply(event.n)
        shake(f"{event.id}/{event.n}", event.fails, event.why)

    @continues(Alarmed, by="id")
    def alarmed(self, state: FlakyState, event: Alarmed, do: Effects) -> None:
        do.deadline("late", timedelta(seconds=event.after_s))

    @continues(Disarmed, by="id")
    def disarmed(self, state: FlakyState, event: Disarmed, do: Effects) -> None:
        do.cancel_deadline(event.deadline)

    @stops(Closed, by="id")
    def closed(self, state: FlakyState, event: Closed, do: Effects) -> None: ...

    @on_deadline("late")
    def late(self, state: FlakyState, do: Effects) -> None:
        shake(f"{do.metadata.instance_id}/late", state.late_fails)

    @applies(Shaky)
    def append(self, state: FlakyState, event: Shaky) -> FlakyState:
        return replace(state, items=(*state.items, event.n))

    @applies(Alarmed)
    def alarm(self, state: FlakyState, event: Alarmed) -> FlakyState:
        return replace(state, late_fails=event.fails)

    @applies(DeadlineReached)
    def is_late(self, state: FlakyState, event: DeadlineReached) -> FlakyState:
        return replace(state, items=(*state.items, -1))


class Passing(Flaky):
    """Nobody waits for another message's retry."""

    name = "Passing"
    lets_pass = True


class Dropping(Flaky):
    """Takes nothing before it has started, and starts but once."""

    name = "Dropping"
    on_missing = IgnoreMissing()


class Patient(ProcessManager[AlarmState]):
    """Its timeout is reached three times, ten and twenty seconds apart."""

    name = "Patient"
    timeout = timedelta(seconds=60)
    timeout_retry = Linear(10, 10, max_attempts=3, jitter=0.5)

    @starts(Opened, by="id")
    def opened(self, state: AlarmState, event: Opened, do: Effects) -> None: ...

    @continues(Disarmed, Armed, by="id")
    def disarmed(self, state: AlarmState, event: Disarmed | Armed, do: Effects) -> None:
        if isinstance(event, Armed):
            do.deadline(event.deadline, timedelta(seconds=event.after_s))
        else:
            do.cancel_deadline(event.deadline)

    @stops(Closed, by="id")
    def closed(self, state: AlarmState, event: Closed, do: Effects) -> None: ...

    @applies(TimeoutReached)
    def hear(self, state: AlarmState, event: TimeoutReached) -> AlarmState:
        return replace(state, heard=(*state.heard, f"timeout {event.retries}"))

    @applies(RetryScheduled)
    def hear_retry(self, state: AlarmState, event: RetryScheduled) -> AlarmState:
        at = event.retry_at.timestamp()
        return replace(state, heard=(*state.heard, f"retry {event.attempt} at {at:g}"))


class PatientHandler(Patient):
    """Handles each of them."""

    name = "PatientHandler"

    @on_timeout
    def too_long(self, state: AlarmState, do: Effects) -> None:
        do.send(Escalated(do.metadata.instance_id))


class Careful(ProcessManager[FlakyState]):
    """Compensates a shipment that failed; the first time it raises."""

    name = "Careful"
    retry = Fixed(10)

    @starts(Opened, by="id")
    def opened(self, state: FlakyState, event: Opened, do: Effects) -> None: ...

    @compensates(Ship)
    def unship(self, state: FlakyState, failed: Ship) -> list[Added]:
        shake(f"{failed.id}/unship", 1)
        return [Added(failed.id, n) for n in range(state.items[-1])]

    @applies(CommandFailed)
    def failed(self, state: FlakyState, event: CommandFailed) -> FlakyState:
        command: Any = event.command
        return replace(state, items=(*state.items, command.n))
