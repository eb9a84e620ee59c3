"""A coroutine re-entered from its beginning, turn after turn, without any loop."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Coroutine
from datetime import datetime, timedelta
from typing import Any

import pytest

from perdure import Cancel, DeadlineReached, message
from perdure.core.gathered import Gathered
from perdure.core.progress import Operation, Progress, Standing, fold
from perdure.core.reentry import Reentry
from perdure.core.workflow_events import OperationStarted, PerformStep, StepDone
from perdure.effects import Complete, Effect, Fail, Publish, Record, SetDeadline, Stuck
from perdure.errors import DefinitionError, WorkflowCancelled
from perdure.messages import CommandFailed, Metadata, datetime_of

START = datetime_of(1_000)


@message(name="reentry-test.Rung")
class Rung:
    who: str


class Failed(Exception):
    """A step has failed."""


def read(operation: Operation) -> Any:
    if operation.status is Standing.FAILED:
        raise Failed(operation.error)
    return operation.value


class Ctx:
    """The least that a coroutine needs."""

    def __init__(self, entry: Reentry) -> None:
        self.entry = entry

    @property
    def now(self) -> datetime:
        return self.entry.now

    def step(self, name: str) -> Awaitable[Any]:
        return self.entry.ask(f"step/{name}", list, read)

    def ring(self, name: str) -> Awaitable[Any]:
        return self.entry.take(
            f"event/{name}",
            lambda heard: type(heard) is Rung,
            lambda: [SetDeadline(f"event/{name}", timedelta(1))],
            lambda operation: operation.message,
        )

    def publish(self, name: str) -> Awaitable[None]:
        return self.entry.publish(f"publish/{name}", lambda: Rung(name))

    def gather(self, *branches: Any, return_exceptions: bool = False) -> Awaitable[list[Any]]:
        return Gathered(self.entry, branches, return_exceptions)


Body = Callable[[Ctx], Coroutine[Any, Any, Any]]


class Played:
    """One instance: each event is a turn, a second after the one before."""

    def __init__(self, body: Body) -> None:
        self.body = body
        self.progress = Progress()
        self.nr = 0
        self.effects: list[Effect] = []
        self.turn(Rung("begin"))

    def turn(self, event: Any) -> list[Effect]:
        self.nr += 1
        metadata = Metadata(
            "m", instance_id="i", occurred_at_ms=self.nr * 1000, sequence_nr=self.nr
        )
        self.progress = fold(self.progress, event, metadata)
        entry = Reentry("bells", self.progress, metadata, event)
        self.effects = entry.run(self.body(Ctx(entry)))
        for effect in self.effects:
            if isinstance(effect, Record):
                self.progress = fold(self.progress, effect.event, metadata)
        return self.effects

    def done(self, name: str, value: Any = None) -> list[Effect]:
        return self.turn(StepDone(f"step/{name}", value=value))

    def failed(self, name: str) -> list[Effect]:
        command = PerformStep(f"step/{name}", name, "k")
        return self.turn(CommandFailed(command, "c", "q", "exhausted", name, 1))

    @property
    def asked(self) -> list[str]:
        """What the last turn asked for anew."""
        recorded = [one.event for one in self.effects if isinstance(one, Record)]
        return [one.operation for one in recorded]

    @property
    def ending(self) -> Effect | None:
        last = self.effects[-1] if self.effects else None
        return last if isinstance(last, (Complete, Fail, Stuck)) else None

    @property
    def stuck_at(self) -> str:
        assert isinstance(self.ending, Stuck), self.effects
        assert self.effects == [self.ending], "nothing else of such a turn is kept"
        return self.ending.reason


def test_it_goes_on_to_where_it_must_wait_and_asks_for_everything_once():
    entered = []

    async def body(ctx: Ctx) -> Any:
        entered.append("in")
        first = await ctx.step("a")
        return first, await ctx.step("b")

    played = Played(body)
    assert played.asked == ["step/a"]
    assert played.turn(Rung("x")) == []
    played.done("a", 1)
    assert played.asked == ["step/b"]
    assert played.done("b", 2) == [Complete((1, 2))]
    assert len(entered) == 4


def test_a_failure_is_raised_where_it_is_awaited_and_may_be_caught():
    async def body(ctx: Ctx) -> Any:
        try:
            await ctx.step("a")
        except Failed as failure:
            return f"caught {failure}"

    assert Played(body).failed("a") == [Complete("caught a")]


def test_branches_go_on_in_the_order_in_which_their_waits_ended_at_every_reentry():
    seen: list[list[str]] = []

    async def body(ctx: Ctx) -> Any:
        order: list[str] = []
        seen.append(order)

        async def branch(name: str) -> str:
            order.append(f"{name} begins")
            await ctx.step(f"{name}1")
            order.append(f"{name} goes on")
            await ctx.step(f"{name}2")
            order.append(f"{name} ends")
            return name

        return await ctx.gather(branch("a"), branch("b"), ctx.step("c"))

    played = Played(body)
    for name in ("b1", "c", "a1", "a2"):
        assert played.done(name) is not None
    assert played.done("b2") == [Complete(["a", "b", None])]
    whole = ["a begins", "b begins", "b goes on", "a goes on", "a ends", "b ends"]
    assert [len(order) for order in seen] == [2, 3, 3, 4, 5, 6]
    assert all(order == whole[: len(order)] for order in seen)


def test_time_is_that_of_the_last_outcome_and_the_same_at_every_reentry():
    seen: list[list[int]] = []

    async def body(ctx: Ctx) -> Any:
        times: list[int] = []
        seen.append(times)

        def look() -> None:
            times.append((ctx.now - datetime_of(0)) // timedelta(seconds=1))

        async def branch() -> None:
            look()
            await ctx.step("c")
            look()

        look()
        await ctx.step("a")
        look()
        await ctx.gather(ctx.step("b"), branch())
        look()
        await ctx.step("d")

    played = Played(body)
    for name in ("a", "c", "b"):
        played.done(name)
    played.turn(Rung("x"))
    assert seen[-1] == [1, 2, 2, 3, 4]
    assert all(times == seen[-1][: len(times)] for times in seen)


def test_the_first_failure_of_a_gather_is_raised_and_the_others_go_no_further():
    async def branch(ctx: Ctx) -> None:
        await ctx.step("a")
        await ctx.step("never")

    async def body(ctx: Ctx) -> Any:
        try:
            await ctx.gather(branch(ctx), ctx.step("b"), ctx.step("c"))
        except Failed as failure:
            await ctx.step(f"mend-{failure}")

    played = Played(body)
    assert sorted(played.asked) == ["step/a", "step/b", "step/c"]
    played.failed("b")
    assert played.asked == ["step/mend-b"]
    assert played.failed("c") == [], "the first one stays the first one"
    assert played.done("a") == [], "its branch was left"
    assert played.done("mend-b") == [Complete(None)]


def test_failures_can_be_among_the_results_and_a_cancellation_never_is():
    async def body(ctx: Ctx) -> Any:
        found = await ctx.gather(ctx.step("a"), ctx.step("b"), return_exceptions=True)
        return [str(one) for one in found]

    played = Played(body)
    assert played.failed("a") == []
    assert played.done("b", 2) == [Complete(["a", "2"])]
    played = Played(body)
    played.failed("a")
    assert played.turn(Cancel("tired")) == [Fail("cancelled: tired")]


def test_gathers_nest_and_may_be_empty():
    async def body(ctx: Ctx) -> Any:
        empty = await ctx.gather()
        inner = ctx.gather(ctx.step("a"), ctx.step("b"))
        return [empty, *await ctx.gather(ctx.step("c"), inner, ctx.gather())]

    played = Played(body)
    for name in ("b", "a"):
        assert played.done(name, name) == []
    assert played.done("c", "c") == [Complete([[], "c", ["a", "b"], []])]


def test_what_was_asked_for_may_be_awaited_later_and_again():
    async def body(ctx: Ctx) -> Any:
        a, b = ctx.step("a"), ctx.step("b")
        await b
        return [await a, await ctx.gather(a, b), await b]

    played = Played(body)
    assert played.asked == ["step/a", "step/b"]
    played.done("a", 1)
    assert played.done("b", 2) == [Complete([1, [1, 2], 2])]


# Events


def test_an_event_is_given_to_the_wait_that_was_asked_for_first_and_to_no_other():
    async def body(ctx: Ctx) -> Any:
        first, second = ctx.ring("first"), ctx.ring("second")
        return [(await second).who, (await first).who]

    played = Played(body)
    assert played.turn(Rung("a"))[1:] != []
    assert played.turn(Rung("b"))[-1] == Complete(["b", "a"])
    assert played.progress.events == ()


def test_events_that_came_before_anybody_waits_are_kept_in_order():
    async def body(ctx: Ctx) -> Any:
        await ctx.step("a")
        return [(await ctx.ring("first")).who, (await ctx.ring("second")).who]

    played = Played(body)
    played.turn(Rung("a"))
    played.turn(Rung("b"))
    effects = played.done("a")
    assert effects[-1] == Complete(["a", "b"])
    assert not any(isinstance(one, SetDeadline) for one in effects), "nothing was waited for"


def test_an_event_that_comes_too_late_is_kept_for_the_next_wait():
    async def body(ctx: Ctx) -> Any:
        none = await ctx.ring("first")
        return [none, (await ctx.ring("second")).who]

    played = Played(body)
    played.turn(DeadlineReached("event/first", START))
    assert played.turn(Rung("a"))[-1] == Complete([None, "a"])


def test_a_publication_happens_in_its_turn_and_once():
    async def body(ctx: Ctx) -> Any:
        await ctx.publish("a")
        await ctx.step("b")

    played = Played(body)
    assert [one for one in played.effects if isinstance(one, Publish)] == [Publish(Rung("a"))]
    assert played.done("b") == [Complete(None)]


# Ends


def test_an_error_of_the_coroutine_fails_it_and_what_it_asked_for_before_is_done():
    async def body(ctx: Ctx) -> Any:
        await ctx.publish("a")
        raise ValueError("no such user")

    *effects, last = Played(body).effects
    assert last == Fail("ValueError: no such user")
    assert Publish(Rung("a")) in effects


def test_a_cancellation_is_raised_where_it_waits_and_it_may_tidy_up_first():
    async def body(ctx: Ctx) -> Any:
        try:
            await ctx.gather(ctx.step("a"), ctx.ring("bell"))
        except Exception:
            raise AssertionError("it is no Exception") from None
        finally:
            await ctx.step("undo")

    played = Played(body)
    assert played.turn(Rung("x"))[-1] != Complete(None)
    played.turn(Cancel("tired"))
    assert played.asked == ["step/undo"]
    assert played.turn(Cancel("more tired")) == []
    assert played.done("a") == []
    assert played.done("undo") == [Fail("cancelled: tired")]


def test_a_cancelled_coroutine_may_have_its_own_way_or_fail_on_the_way():
    async def calm(ctx: Ctx) -> Any:
        try:
            await ctx.step("a")
        except WorkflowCancelled as cancelled:
            return cancelled.reason

    async def clumsy(ctx: Ctx) -> Any:
        try:
            await ctx.step("a")
        finally:
            raise ValueError("clumsy")

    assert Played(calm).turn(Cancel()) == [Complete("cancelled")]
    assert Played(clumsy).turn(Cancel("x")) == [Fail("ValueError: clumsy (cancelled: x)")]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (DefinitionError("wrong policy"), "perdure.errors.DefinitionError: wrong policy"),
        (SystemExit(3), "SystemExit: 3"),
        (WorkflowCancelled("by itself"), "WorkflowCancelled: by itself"),
    ],
)
def test_what_no_process_fails_of_leaves_it_stuck(error: BaseException, said: str):
    async def body(ctx: Ctx) -> Any:
        await ctx.publish("a")
        raise error

    assert said in Played(body).stuck_at


# Mistakes


async def loop_of(ctx: Ctx) -> None:
    for _ in range(2):
        await ctx.step("a")


async def not_awaited(ctx: Ctx) -> None:
    ctx.step("b")
    await ctx.step("a")


async def gather_not_awaited(ctx: Ctx) -> None:
    ctx.gather(ctx.step("b"))
    await ctx.step("a")


async def nonsense(ctx: Ctx) -> None:
    await ctx.step("a")
    await ctx.gather(ctx.step("b"), 7)


async def runaway(ctx: Ctx) -> None:
    await ctx.step("a")
    for number in range(1_000_000):
        await ctx.publish(f"{number}")


async def swallowed(ctx: Ctx) -> None:
    await ctx.step("a")
    try:
        ctx.step("a")
    except Exception:
        await ctx.step("b")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (loop_of, "step 'a' is asked for twice"),
        (not_awaited, "step/b is asked for and never awaited"),
        (gather_not_awaited, "step/b is asked for and never awaited"),
        (nonsense, "gathers 7"),
        (runaway, "more than 3000 operations"),
        (swallowed, "step 'a' is asked for twice"),
    ],
)
def test_a_mistake_leaves_it_stuck_where_it_was(body: Body, said: str):
    played = Played(body)
    before = played.progress
    played.done("a")
    assert said in played.stuck_at
    assert played.progress.operations.keys() == before.operations.keys()


def test_a_stuck_instance_goes_on_with_code_that_is_mended():
    played = Played(loop_of)
    played.done("a")
    assert played.stuck_at

    async def mended(ctx: Ctx) -> Any:
        await ctx.step("a")
        return await ctx.step("b")

    played.body = mended
    played.turn(Rung("x"))
    assert played.asked == ["step/b"]
    assert played.done("b", 1) == [Complete(1)]


def test_a_stuck_instance_is_given_up_when_it_is_cancelled_twice():
    played = Played(loop_of)
    played.done("a")
    played.turn(Cancel("hopeless"))
    assert "asked for twice" in played.stuck_at, "its code may be mended, and tidy up"
    (ended,) = played.turn(Cancel("still so"))
    assert isinstance(ended, Fail)
    assert ended.reason.startswith("cancelled: hopeless (")
    assert "asked for twice" in ended.reason


def test_a_mistake_in_tidying_up_leaves_it_stuck_until_it_is_mended():
    async def body(ctx: Ctx) -> Any:
        try:
            await ctx.step("a")
        finally:
            await loop_of(ctx)

    async def mended(ctx: Ctx) -> Any:
        try:
            await ctx.step("a")
        finally:
            await ctx.step("undo")

    played = Played(body)
    played.turn(Cancel("tired"))
    assert "asked for twice" in played.stuck_at
    played.body = mended
    played.turn(Rung("x"))
    assert played.done("undo") == [Fail("cancelled: tired")]


async def other_step(ctx: Ctx) -> Any:
    other = Reentry("other", Progress(), Metadata())
    await Ctx(other).step("a")


async def sleeping(ctx: Ctx) -> None:
    await asyncio.sleep(1)


async def yielding(ctx: Ctx) -> None:
    await asyncio.sleep(0)


async def deeply(ctx: Ctx) -> None:
    await ctx.gather(ctx.step("a"), sleeping(ctx))


async def patient(ctx: Ctx) -> None:
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (sleeping, "workflow 'bells' awaits sleep in line"),
        (yielding, "workflow 'bells' awaits sleep in line"),
        (deeply, "workflow 'bells' awaits"),
        (other_step, "workflow 'bells' awaits <step/a> in line"),
        (patient, "workflow 'bells' awaits <Future"),
    ],
)
def test_what_nothing_would_wake_is_refused(body: Body, said: str):
    async def in_loop() -> None:
        played = Played(body)
        assert said in played.stuck_at
        assert "ForeignAwait" in played.stuck_at
        gc.collect()  # whatever was left open would complain here

    asyncio.run(in_loop())


def test_a_context_is_of_no_use_after_its_turn():
    kept: list[Ctx] = []

    async def body(ctx: Ctx) -> None:
        kept.append(ctx)

    Played(body)
    with pytest.raises(DefinitionError, match="used after its turn"):
        kept[0].step("a")


# Closing


def test_nothing_that_a_closed_coroutine_asks_for_is_done():
    ran: list[str] = []

    async def body(ctx: Ctx) -> Any:
        try:
            await ctx.step("a")
        finally:
            ran.append("finally")
            ctx.publish("x")
            await ctx.step("b")
            ran.append("after b")
            await ctx.step("b")  # a mistake, when it comes to it

    played = Played(body)
    assert played.asked == ["step/a"]
    assert ran == ["finally"]
    played.done("a")
    assert set(played.asked) == {"publish/x", "step/b"}


def test_errors_of_a_closed_coroutine_are_nobodys():
    async def body(ctx: Ctx) -> Any:
        try:
            found = await ctx.step("a")
        finally:
            print(found["x"])  # not set when it is closed

    played = Played(body)
    assert played.asked == ["step/a"]
    assert isinstance(played.done("a", {"x": 1})[-1], Complete)

    async def exiting(ctx: Ctx) -> Any:
        try:
            await ctx.step("a")
        finally:
            raise SystemExit

    assert Played(exiting).asked == ["step/a"]


def test_an_async_generator_is_closed_with_the_coroutine():
    ran: list[str] = []

    async def body(ctx: Ctx) -> Any:
        async def pages() -> Any:
            try:
                for number in range(2):
                    yield await ctx.step(f"{number}")
            finally:
                ran.append("finally")
                await ctx.step("end")

        return [page async for page in pages()]

    async def in_loop() -> None:
        played = Played(body)
        assert played.asked == ["step/0"]
        assert ran == ["finally"]
        played.done("0", "a")
        played.done("1", "b")
        assert played.asked == ["step/end"]
        assert played.done("end") == [Complete(["a", "b"])]

    asyncio.run(in_loop())
    gc.collect()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of Python itself
def test_a_coroutine_that_catches_everything_in_a_loop_is_refused():
    async def body(ctx: Ctx) -> Any:
        number = 0
        while True:
            number += 1
            try:
                await ctx.step(f"{number}")
            except:  # noqa: E722 - what this test is about
                continue

    assert "the coroutine cannot be closed" in Played(body).stuck_at
    gc.collect()


def test_branches_that_never_began_are_closed_without_a_warning():
    async def branch(ctx: Ctx) -> None:
        raise ValueError("at once")

    async def body(ctx: Ctx) -> Any:
        await ctx.gather(branch(ctx), branch(ctx))

    assert Played(body).effects == [Fail("ValueError: at once")]
    gc.collect()


def test_a_turn_leaves_no_cycles_of_garbage():
    async def body(ctx: Ctx) -> Any:
        await ctx.gather(*(ctx.step(f"{n}") for n in range(50)))

    played = Played(body)
    gc.collect()
    gc.disable()
    try:
        for number in range(20):
            played.done(f"{number}")
        assert gc.collect() < 20
    finally:
        gc.enable()


def test_started_operations_are_recorded_in_the_order_of_asking():
    async def body(ctx: Ctx) -> Any:
        await ctx.gather(*(ctx.step(name) for name in "cab"))

    recorded = [one.event for one in Played(body).effects if isinstance(one, Record)]
    assert recorded == [OperationStarted(f"step/{name}") for name in "cab"]
