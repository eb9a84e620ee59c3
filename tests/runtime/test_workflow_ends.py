"""How a coroutine workflow ends, or does not: errors, cancellation, timeouts, mistakes."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from perdure import Context, Status, StepFailed, WorkflowCancelled
from perdure.errors import SagaFailed, SagaStuck, WorkflowMistake
from tests.runtime.support import quickly, reopened, view_of
from tests.runtime.walks import (
    DAY,
    Basket,
    Errand,
    Met,
    Passed,
    Runner,
    Set,
    Trail,
    runtime_of,
    set_out,
    standing,
    walk,
)


class Declined(Exception):
    """What a user's code raises."""


@quickly
async def test_an_error_of_the_code_is_the_reason_for_which_it_failed(store):
    async def body(ctx: Context, begun: Set) -> Any:
        await ctx.step("a")
        raise Declined("too expensive")

    async with runtime_of(store, walk(body)) as runtime:
        ref = await set_out(runtime)
        with pytest.raises(SagaFailed, match=r"test_workflow_ends\.Declined: too expensive"):
            await runtime.result(ref)
    async with runtime_of(reopened(store), walk(body)) as runtime:
        view = await view_of(runtime, runtime.ref("walk", "w"))
        assert (view.status, view.result) == (Status.FAILED, None)


@pytest.mark.parametrize("text", ["\ud800 is half a character", "\0", "x" * 10_000, ""])
@quickly
async def test_whatever_an_error_says_is_stored(store, text):
    async def body(ctx: Context, begun: Set) -> Any:
        raise Declined(text)

    async with runtime_of(store, walk(body)) as runtime:
        ref = await set_out(runtime)
        with pytest.raises(SagaFailed, match="Declined"):
            await runtime.result(ref)


# Cancelling


@quickly
async def test_a_cancelled_workflow_tidies_up_and_fails(store, clock):
    async def body(ctx: Context, begun: Set) -> Any:
        await ctx.step("a")
        try:
            await ctx.gather(
                ctx.sleep(days=30),
                ctx.wait_event(Met, timeout=30 * DAY),
                ctx.child("one", Runner, Errand("w/one"), timeout=30 * DAY),
            )
        finally:
            await ctx.sleep("moment", days=1)
            await ctx.step("b")

    trail = Trail()
    members = (walk(body), Runner)
    async with runtime_of(store, *members, trail=trail, clock=clock) as runtime:
        ref = await set_out(runtime)
        await runtime.cancel(ref, "changed his mind")
        await runtime.settled()
        view = await view_of(runtime, ref)
        assert list(view.deadlines) == ["sleep/moment"], "the others are taken back"
        child = await view_of(runtime, runtime.ref(Runner, "w/one"))
        assert child.failure == "cancelled: changed his mind"
    async with runtime_of(reopened(store), *members, trail=trail, clock=clock) as runtime:
        ref = runtime.ref("walk", "w")
        await clock.advance(DAY)
        with pytest.raises(SagaFailed, match=r"^cancelled: changed his mind"):
            await runtime.result(ref)
        assert trail.done == ["walk/w/a", "walk/w/b"]


@quickly
async def test_a_cancelled_workflow_may_have_its_own_way(store):
    async def body(ctx: Context, begun: Set) -> Any:
        try:
            await ctx.wait_event(Met)
        except WorkflowCancelled as cancelled:
            return [cancelled.reason, await ctx.step("a")]

    async with runtime_of(store, walk(body)) as runtime:
        ref = await set_out(runtime)
        await runtime.cancel(ref, "tired")
        assert await runtime.result(ref) == ["cancelled: tired", "a done"]


@quickly
async def test_a_step_that_ends_after_the_cancellation_changes_nothing(store, clock):
    async def body(ctx: Context, begun: Set) -> Any:
        try:
            return await ctx.step("a")
        except WorkflowCancelled:
            await ctx.step("b")
            raise

    trail = Trail()
    trail.times["a"] = 1  # it is tried again a second later
    trail.times["b"] = 2
    async with runtime_of(store, walk(body), trail=trail, clock=clock) as runtime:
        ref = await set_out(runtime)
        await runtime.cancel(ref)
        await clock.advance(timedelta(seconds=10))
        assert trail.done == ["walk/w/a", "walk/w/b"]
        assert await standing(runtime, ref) == {"step/a": "cancelled", "step/b": "done"}
        with pytest.raises(SagaFailed, match=r"^cancelled"):
            await runtime.result(ref)


@quickly
async def test_children_that_are_open_at_a_failure_are_cancelled_once(store):
    async def body(ctx: Context, begun: Set) -> Any:
        await ctx.child("one", Runner, Errand("w/one"))

    async with runtime_of(store, walk(body), Runner) as runtime:
        ref = await set_out(runtime)
        await runtime.cancel(ref, "tired")
        await runtime.settled()
        child = runtime.ref(Runner, "w/one")
        turns = [turn.type async for turn in runtime.history(child)]
        assert turns == ["walk-test.Errand", "perdure.Cancel"]


@quickly
async def test_a_parent_that_fails_takes_its_workflow_down(store):
    async def inner(ctx: Context, begun: Set) -> Any:
        try:
            await ctx.wait_event(Met)
        finally:
            await ctx.step("a")

    async def outer(ctx: Context, begun: Set) -> Any:
        await ctx.gather(ctx.child("in", "inner", Set("w/in")), ctx.step("b"))

    trail = Trail(fails={"b": "no"})
    members = walk(outer, name="outer"), walk(inner, name="inner", steps="a")
    async with runtime_of(store, *members, trail=trail) as runtime:
        ref = await set_out(runtime, name="outer")
        with pytest.raises(SagaFailed, match="StepFailed"):
            await runtime.result(ref)
        child = await view_of(runtime, runtime.ref("inner", "w/in"))
        assert child.failure == "cancelled: outer/w has failed"
        assert trail.done == ["inner/w/in/a"]


@quickly
async def test_a_workflow_that_takes_too_long_is_cancelled(store, clock):
    async def body(ctx: Context, begun: Set) -> Any:
        try:
            await ctx.wait_event(Met)
        finally:
            await ctx.step("a")

    trail = Trail()
    members = [walk(body, timeout=90 * DAY)]
    async with runtime_of(store, *members, trail=trail, clock=clock) as runtime:
        await set_out(runtime)
    async with runtime_of(reopened(store), *members, trail=trail, clock=clock) as runtime:
        ref = runtime.ref("walk", "w")
        await clock.advance(89 * DAY)
        assert (await view_of(runtime, ref)).status is Status.RUNNING
        await clock.advance(DAY)
        with pytest.raises(SagaFailed, match=r"^timed out"):
            await runtime.result(ref)
        assert trail.done == ["walk/w/a"]


# Mistakes


async def sleeps_elsewhere(ctx: Context, begun: Set) -> None:
    await ctx.step("a")
    await asyncio.sleep(1)


async def gathers_elsewhere(ctx: Context, begun: Set) -> None:
    await ctx.step("a")
    await asyncio.gather(asyncio.sleep(0))


async def misspells(ctx: Context, begun: Set) -> None:
    name = await ctx.step("a")
    await ctx.step(name)


async def gives_what_is_no_message(ctx: Context, begun: Set) -> None:
    await ctx.step("a")
    await ctx.step("b", object())


async def gives_what_cannot_be_copied(ctx: Context, begun: Set) -> None:
    await ctx.step("a")
    await ctx.step("b", (one for one in "abc"))


async def returns_what_is_no_message(ctx: Context, begun: Set) -> Any:
    await ctx.step("a")
    return [Basket(["bread"])]


async def waits_for_what_is_not_declared(ctx: Context, begun: Set) -> None:
    await ctx.step("a")
    kind: Any = Passed
    await ctx.wait_event(kind)


async def has_a_bad_key(ctx: Context, begun: Set) -> None:
    await ctx.step("a")
    await ctx.step("b", key=object())


async def has_a_long_key(ctx: Context, begun: Set) -> None:
    await ctx.step("a")
    await ctx.step("b", key="/" * 40)


async def has_a_bad_name(ctx: Context, begun: Set) -> None:
    await ctx.step("a")
    await ctx.sleep("no name", days=1)


async def sleeps_for_no_time(ctx: Context, begun: Set) -> None:
    await ctx.step("a")
    await ctx.sleep()


async def sleeps_for_ever(ctx: Context, begun: Set) -> None:
    await ctx.step("a")
    await ctx.sleep(days=10_000 * 366)


async def sleeps_too_long_to_count(ctx: Context, begun: Set) -> None:
    await ctx.step("a")
    await ctx.sleep(days=10**12)


async def sleeps_until_nowhere(ctx: Context, begun: Set) -> None:
    await ctx.step("a")
    await ctx.sleep(until=ctx.now.replace(tzinfo=None))


async def sleeps_twice_over(ctx: Context, begun: Set) -> None:
    await ctx.step("a")
    await ctx.sleep(days=1, until=ctx.now)


async def waits_for_no_time(ctx: Context, begun: Set) -> None:
    await ctx.step("a")
    await ctx.wait_event(Met, timeout=timedelta(0))


async def publishes_nothing(ctx: Context, begun: Set) -> None:
    await ctx.step("a")
    await ctx.publish("news")


async def starts_nobody(ctx: Context, begun: Set) -> None:
    await ctx.step("a")
    await ctx.child("one", 7, Errand("w"))


MISTAKES = [
    (sleeps_elsewhere, "ForeignAwait: workflow 'walk' awaits sleep in line"),
    (gathers_elsewhere, "ForeignAwait: workflow 'walk' awaits <"),
    (misspells, "UnknownStep: the workflow declares no step 'a done'"),
    (gives_what_is_no_message, "EncodeError: Send: perdure.workflow.PerformStep.value"),
    (gives_what_cannot_be_copied, "cannot be kept"),
    (returns_what_is_no_message, "EncodeError: Complete: value"),
    (waits_for_what_is_not_declared, "UnknownStep: the workflow declares no event Passed"),
    (has_a_bad_key, "b has the key <object"),
    (has_a_long_key, "b has a key of 120 characters"),
    (has_a_bad_name, "'no name' is no name"),
    (sleeps_for_no_time, "sleep/sleep lasts 0:00:00"),
    (sleeps_for_ever, "beyond the calendar"),
    (sleeps_too_long_to_count, "sleep/sleep: "),
    (sleeps_until_nowhere, "sleep/sleep until"),
    (sleeps_twice_over, "has until= and a duration"),
    (waits_for_no_time, "has the timeout"),
    (publishes_nothing, "'news' is published, and no message"),
    (starts_nobody, "which is no saga"),
]


@pytest.mark.parametrize(("body", "said"), MISTAKES, ids=[body.__name__ for body, _ in MISTAKES])
@quickly
async def test_a_mistake_leaves_the_instance_stuck_and_listed_and_loses_nothing(store, body, said):
    async def mended(ctx: Context, begun: Set) -> Any:
        return [await ctx.step("a"), await ctx.step("c")]

    trail = Trail()
    async with runtime_of(store, walk(body), trail=trail) as runtime:
        ref = await set_out(runtime)
        with pytest.raises(SagaStuck) as raised:
            await runtime.result(ref)
        assert said in raised.value.problem
        assert [letter async for letter in runtime.dead_letters.list()] == []
        stuck = [one.correlation_id async for one in runtime.instances("walk", status="stuck")]
        assert stuck == ["w"]
        assert await standing(runtime, ref) == {"step/a": "done"}
    async with runtime_of(reopened(store), walk(mended), trail=trail) as runtime:
        ref = runtime.ref("walk", "w")
        await runtime.resume(ref)
        assert await runtime.result(ref) == ["a done", "c done"]
        assert trail.done == ["walk/w/a", "walk/w/c"]


@quickly
async def test_a_mistake_that_the_code_catches_is_a_mistake_all_the_same(store):
    async def body(ctx: Context, begun: Set) -> Any:
        name = "nobody"
        try:
            await ctx.step(name)
        except (StepFailed, WorkflowMistake):
            return await ctx.step("a")

    async with runtime_of(store, walk(body)) as runtime:
        with pytest.raises(SagaStuck, match="no step 'nobody'"):
            await runtime.result(await set_out(runtime))


@quickly
async def test_a_stuck_workflow_that_is_cancelled_twice_is_given_up(store):
    async with runtime_of(store, walk(sleeps_elsewhere)) as runtime:
        ref = await set_out(runtime)
        await runtime.cancel(ref, "hopeless")
        with pytest.raises(SagaStuck, match="awaits sleep"):
            await runtime.result(ref)
        await runtime.cancel(ref, "hopeless")
        with pytest.raises(SagaFailed, match=r"^cancelled: hopeless \(.*awaits sleep"):
            await runtime.result(ref)


@quickly
async def test_what_comes_back_before_it_is_mended_is_kept(store):
    async def body(ctx: Context, begun: Set) -> Any:
        await ctx.gather(ctx.step("a"), ctx.step("b"))
        await asyncio.sleep(1)

    async def mended(ctx: Context, begun: Set) -> Any:
        return [*await ctx.gather(ctx.step("a"), ctx.step("b")), (await ctx.wait_event(Met)).whom]

    trail = Trail()
    async with runtime_of(store, walk(body), trail=trail) as runtime:
        ref = await set_out(runtime)
        await runtime.publish(Met("w", "ann"))
        assert (await view_of(runtime, ref)).status is Status.STUCK
    async with runtime_of(reopened(store), walk(mended), trail=trail) as runtime:
        ref = runtime.ref("walk", "w")
        await runtime.resume(ref)
        assert await runtime.result(ref) == ["a done", "b done", "ann"]
        assert len(trail.done) == 2


@quickly
async def test_an_event_that_came_in_time_is_not_late_because_the_code_was_stuck(store, clock):
    async def body(ctx: Context, begun: Set) -> Any:
        await ctx.wait_event(Met, timeout=DAY)
        await asyncio.sleep(1)

    async def mended(ctx: Context, begun: Set) -> Any:
        first = await ctx.wait_event(Met, timeout=DAY)
        second = await ctx.wait_event(Met, timeout=DAY, name="second")
        return [first and first.whom, second]

    async with runtime_of(store, walk(body), clock=clock) as runtime:
        ref = await set_out(runtime)
        await runtime.publish(Met("w", "ann"))
        assert (await view_of(runtime, ref)).status is Status.STUCK
        await clock.advance(3 * DAY)
    async with runtime_of(reopened(store), walk(mended), clock=clock) as runtime:
        await runtime.resume(runtime.ref("walk", "w"))
        await clock.advance(2 * DAY)
        assert await runtime.result(runtime.ref("walk", "w")) == ["ann", None]
