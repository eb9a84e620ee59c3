"""However often the process ends, and wherever: the workflow comes to the same end, once.

The walk: steps after and beside each other, one that is tried again, one that fails; an event, a
limit of 30 days that passes, a sleep of 90; a child; a published event; a loop with keys.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from perdure import (
    Context,
    Fixed,
    Job,
    MemoryStore,
    Runtime,
    Settings,
    SqlStore,
    Status,
    StepFailed,
    WorkQueue,
    workflow,
)
from perdure.store.protocol import Store
from perdure.testing import FaultyStore, SimulatedClock
from tests.runtime.mortal import FATES, MortalStore, again, live
from tests.runtime.passing import PassingClock
from tests.runtime.support import in_loop, reopened, view_of
from tests.runtime.walks import (
    DAY,
    Basket,
    Errand,
    Met,
    Passed,
    Set,
    Trail,
    named,
    runtime_of,
    steps_of,
    walk,
)

STEPS = "abcdef"
END = {
    "basket": ["bread"],
    "beside": ["b done", "c done"],
    "met": "ann",
    "late": None,
    "child": ["h done"],
    "failed": "d",
    "months": ["e:0 done", "e:1 done", "e:2 done"],
    "days": 121,
}
PERFORMED = {
    *(f"walk/w/{name}" for name in ("a", "b", "c", "f")),
    *(f"walk/w/e:{number}" for number in range(3)),
    "part/w/part/h",
}


async def long_walk(ctx: Context, begun: Set) -> Any:
    started = ctx.now
    basket = await ctx.step("a", begun)
    found: dict[str, Any] = {"basket": basket.items}
    found["beside"] = await ctx.gather(ctx.step("b", basket), ctx.step("c", basket))
    met = await ctx.wait_event(Met)
    found["met"] = met.whom
    found["late"] = await ctx.wait_event(Met, timeout=30 * DAY, key="late")
    found["child"] = await ctx.child("part", "part", Errand("w/part"))
    try:
        await ctx.step("d")
    except StepFailed as failure:
        found["failed"] = failure.step
        await ctx.publish(Passed(begun.id, failure.step))
    await ctx.sleep(days=90)
    await ctx.step("f")
    found["months"] = [await ctx.step("e", number, key=number) for number in range(3)]
    await ctx.sleep("last", days=1)
    found["days"] = (ctx.now - started) // DAY
    return found


@workflow("part", Errand, by="id", steps=[named("h", retry=Fixed(1, max_attempts=None))])
async def part(ctx: Context, begun: Errand) -> Any:
    return [await ctx.step("h")]


@dataclass
class Story:
    """One world: its rows, its time, and what was done there."""

    clock: SimulatedClock
    trail: Trail = field(default_factory=Trail)
    heard: list[str] = field(default_factory=list)
    result: Any = None

    def __post_init__(self) -> None:
        self.trail.results["a"] = Basket(["bread"])
        self.trail.fails["d"] = "no"
        self.trail.times["b"] = 1

    def runtime(self, store: Any, **settings: Any) -> Runtime:
        news = WorkQueue("news")

        @news.subscriber
        def hear(event: Passed, job: Job) -> None:
            self.heard.append(job.key)

        members = walk(long_walk, steps_of(STEPS, retry=Fixed(1, max_attempts=None))), part, news
        given = Settings(retry_pause_s=0.01, **settings)
        return runtime_of(store, *members, trail=self.trail, clock=self.clock, settings=given)

    def check(self, lives: int) -> None:
        """A life that ends may lose the results of what runs in it, of two steps at most."""
        assert self.result == END
        assert set(self.trail.done) == PERFORMED
        assert len(self.trail.done) <= len(PERFORMED) + 2 * (lives - 1)
        assert len(set(self.heard)) == 1

    async def check_journal(self, runtime: Runtime) -> None:
        """Each operation began once and ended once; nothing is left behind."""
        begun, ended = Counter[str](), Counter[str]()
        async for turn in runtime.history(runtime.ref("walk", "w")):
            for event in turn.events:
                name = getattr(event, "operation", "")
                (begun if type(event).__name__ == "OperationStarted" else ended)[name] += 1
            sent = [one.content.key for one in turn.sent if one.queue.startswith("walk.")]
            begun.update(sent)
        ended.pop("")
        assert set(begun.values()) == set(ended.values()) == {1}
        assert await runtime.store.outbox() == []
        assert await runtime.store.deadlines() == []


SPANS = [timedelta(seconds=5), 30 * DAY, 45 * DAY, 45 * DAY, DAY]
"""What happens meanwhile is retries, the first time; then the limits, and half of the sleep."""


@pytest.mark.parametrize("snapshot_every", [1, 2, 100])
@in_loop(20)
async def test_a_restart_after_every_message_makes_no_difference(store, clock, snapshot_every):
    story = Story(clock)

    async def life(work: Callable[[Runtime], Awaitable[Any]]) -> None:
        nonlocal store
        async with story.runtime(store, snapshot_every=snapshot_every) as runtime:
            await work(runtime)
            await runtime.settled()
        store = reopened(store)

    await life(lambda runtime: runtime.publish(Set("w")))
    await life(lambda runtime: clock.advance(SPANS[0]))
    await life(lambda runtime: runtime.publish(Met("w", "ann")))
    for span in SPANS[1:]:
        await life(lambda runtime, span=span: clock.advance(span))  # type: ignore[misc]
    async with story.runtime(store) as runtime:
        story.result = await runtime.result(runtime.ref("walk", "w"))
        await story.check_journal(runtime)
    story.check(lives=1)


class Lives(Story):
    """The same told to mortal stores: whoever does not know how far it went says it again."""

    clock: PassingClock

    async def tell(self, runtime: Runtime) -> None:
        clock = self.clock
        await clock.during(runtime.publish(Set("w"), message_id="m-1"))
        await clock.advance(timedelta(minutes=1))
        await clock.during(runtime.publish(Met("w", "ann"), message_id="m-2"))
        ref = runtime.ref("walk", "w")
        for _ in range(20):
            await clock.advance(30 * DAY)
            if (await view_of(runtime, ref)).status is not Status.RUNNING:
                break
        self.result = await runtime.result(ref)
        await self.check_journal(runtime)

    def live(self, store: MortalStore) -> bool:
        is_whole = live(lambda: self.runtime(store), store, self.tell, 10)
        self.clock.forget()
        return is_whole


def told(inner: Store, fate: Any, at: int) -> int:
    """The story with one misfortune; how many writes its first life had."""
    story, store = Lives(PassingClock()), MortalStore(inner, fate, at)
    is_whole = story.live(store)
    if not is_whole:
        assert story.live(again(store))
    story.result = {**story.result, "days": END["days"]}  # it may have slept while it was dead
    story.check(lives=1 if is_whole else 2)
    return store.writes


@pytest.mark.parametrize("fate", FATES)
def test_whichever_write_fails_or_is_the_last_of_its_process_the_end_is_the_same(fate):
    writes = told(MemoryStore(), "fails", 0)
    assert 10 < writes < 100
    for at in range(1, writes + 1):
        told(MemoryStore(), fate, at)


@pytest.mark.slow
@pytest.mark.parametrize("fate", ["dies", "dies, having written"])
def test_the_same_over_files(fate, tmp_path):
    def inner(at: int) -> SqlStore:
        return SqlStore(f"sqlite+aiosqlite:///{tmp_path}/{at}.db", synchronous="NORMAL")

    for at in range(1, told(inner(0), "fails", 0) + 1):
        told(inner(at), fate, at)


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_a_process_that_ends_again_and_again_comes_to_the_end_all_the_same(kind, tmp_path):
    """Each has four writes: that the two steps beside each other begin takes two of them."""
    inner: Store = MemoryStore()
    if kind == "sqlite":
        inner = SqlStore(f"sqlite+aiosqlite:///{tmp_path}/store.db", synchronous="NORMAL")
    story, store, lives = Lives(PassingClock()), MortalStore(inner, FATES[3], 4), 1
    while not story.live(store):
        store, lives = again(store, FATES[3], 4), lives + 1
        assert lives < 200
    assert lives > 3
    story.result = {**story.result, "days": END["days"]}
    story.check(lives)


@in_loop(10)
async def test_a_wait_of_ninety_days_is_passive_and_wakes_to_the_day(store, clock):
    async def body(ctx: Context, begun: Set) -> Any:
        started = ctx.now
        await ctx.sleep(days=90)
        return (ctx.now - started) // DAY

    def runtime(over: FaultyStore) -> Runtime:
        return runtime_of(over, walk(body), clock=clock, settings=Settings(idle_after_s=60))

    async with runtime(store) as first:
        await first.publish(Set("w"))
        await clock.advance(timedelta(minutes=2))
        assert first.residents == 0
    async with runtime(reopened(store)) as second:
        await clock.advance(89 * DAY)
        assert second.residents == 0
        await clock.advance(DAY - timedelta(minutes=2))
        assert await second.result(second.ref("walk", "w")) == 90
