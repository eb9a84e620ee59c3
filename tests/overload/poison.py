"""Some instances always raise: what do the others feel of it?"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import ClassVar

from perdure import (
    Effects,
    Fixed,
    MemoryStore,
    NonRetryable,
    ProcessManager,
    Runtime,
    applies,
    message,
    starts,
)
from perdure.core.retry import RetryPolicy
from perdure.errors import HandlerFailed
from perdure.testing import FaultyStore, SimulatedClock
from tests.overload.common import HANDLED, CountState, Figures, at_once, check_numbers, share


@message(name="overload-test.tasted")
class Tasted:
    id: str
    n: int
    why: str = ""

    @property
    def name(self) -> str:
        return f"{self.id}:{self.n}"


class Cautious(ProcessManager[CountState]):
    """Raises what it is told: at once a dead letter."""

    name = "overload-test.cautious"

    @starts(Tasted, by="id")
    def tasted(self, state: CountState, event: Tasted, do: Effects) -> None:
        HANDLED.append(event.name)
        if event.why:
            raise NonRetryable(event.why) if event.why == "never" else ValueError(event.why)

    @applies(Tasted)
    def count(self, state: CountState, event: Tasted) -> CountState:
        return replace(state, hits=state.hits + 1)


class Stubborn(Cautious):
    """Tries three times, and lets those behind it wait."""

    name = "overload-test.stubborn"
    retry: ClassVar[RetryPolicy | None] = Fixed(10, max_attempts=3)


class Easygoing(Stubborn):
    """Tries three times; the next ones pass."""

    name = "overload-test.easygoing"
    lets_pass = True


ATTEMPTS: dict[type[Cautious], int] = {Cautious: 1, Stubborn: 3, Easygoing: 3}


@dataclass(frozen=True)
class Sizes:
    instances: int = 200
    poisonous: int = 2
    rounds: int = 5


FULL = Sizes(instances=1_000, poisonous=10, rounds=50)


@dataclass
class Run:
    """Turns that healthy messages waited, and all turns and commits that it took."""

    waits: list[int]
    turns: int
    writes: int


async def run(saga: type[Cautious], sizes: Sizes, why: str) -> Run:
    """All get a message per round, 100 at a time; the poisonous ones' raise (or none does)."""
    HANDLED.clear()
    store, clock = FaultyStore(MemoryStore()), SimulatedClock()
    bad = {f"c-{n * sizes.instances // sizes.poisonous}" for n in range(sizes.poisonous)}
    sent_at: dict[str, int] = {}
    async with Runtime(store, [saga], clock=clock) as runtime:

        async def send(id: str, n: int) -> None:
            event = Tasted(id, n, why if id in bad else "")
            sent_at[event.name] = len(HANDLED)
            try:
                await runtime.publish(event)
            except HandlerFailed:
                assert id in bad

        for n in range(sizes.rounds):
            await at_once(100, (send(f"c-{i}", n) for i in range(sizes.instances)))
            await clock.advance(timedelta(seconds=1))
        healthy = [
            turn - sent_at[name]
            for turn, name in enumerate(HANDLED)
            if name.split(":")[0] not in bad
        ]
        assert len(healthy) == (sizes.instances - sizes.poisonous) * sizes.rounds
        turns, writes = len(HANDLED), store.writes
        await clock.advance(timedelta(seconds=60 * sizes.rounds))
        await check_numbers(runtime, store)
        await check_letters(runtime, saga, bad if why else set(), sizes, why)
    HANDLED.clear()
    return Run(healthy, turns, writes)


async def check_letters(
    runtime: Runtime, saga: type[Cautious], bad: set[str], sizes: Sizes, why: str
) -> None:
    """Exactly as many attempts and dead letters as declared; the others are as if nothing was."""
    attempts = 1 if why == "never" else ATTEMPTS[saga]
    tried = Counter(name for name in HANDLED if name.split(":")[0] in bad)
    assert set(tried.values()) <= {attempts}
    assert len(tried) == len(bad) * sizes.rounds
    letters = [letter async for letter in runtime.dead_letters.list()]
    assert sorted((one.correlation_id, one.content.n) for one in letters) == sorted(
        (id, n) for id in bad for n in range(sizes.rounds)
    )
    assert {one.attempts for one in letters} <= {attempts}
    for n in range(sizes.instances):
        view = await runtime.state(runtime.ref(saga, f"c-{n}"))
        hits = 0 if view is None else view.state.hits
        assert hits == (0 if f"c-{n}" in bad else sizes.rounds)


async def poison(
    saga: type[Cautious] = Stubborn, sizes: Sizes = Sizes(), why: str = "no"
) -> Figures:
    """A clean run and a poisoned one, in turn; what the healthy instances waited in each."""
    clean, poisoned = [], []
    for _ in range(2):
        clean.append(await run(saga, sizes, ""))
        poisoned.append(await run(saga, sizes, why))
        await asyncio.sleep(0)
    before = share([wait for one in clean for wait in one.waits], 0.99)
    after = share([wait for one in poisoned for wait in one.waits], 0.99)
    return {
        "healthy turns": len(clean[0].waits),
        "p99 wait, clean": before,
        "p99 wait, poisoned": after,
        "p99 ratio": after / before,
        "turns ratio": poisoned[0].turns / clean[0].turns,
        "commits ratio": poisoned[0].writes / clean[0].writes,
    }
