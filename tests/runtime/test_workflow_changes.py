"""Other code over running instances: what was done is known by its name, and nothing is guessed."""

from __future__ import annotations

from typing import Any

import pytest

from perdure import Context, Runtime, Settings, Status, message, messages, workflow
from perdure.errors import InstanceFinished, SagaStuck
from tests.runtime.support import quickly, reopened, view_of
from tests.runtime.walks import (
    DAY,
    Basket,
    Met,
    Set,
    Trail,
    named,
    runtime_of,
    set_out,
    standing,
    steps_of,
    walk,
)


async def as_it_was(ctx: Context, begun: Set) -> Any:
    first = await ctx.step("a")
    second = await ctx.step("b")
    await ctx.wait_event(Met)
    third = await ctx.step("c")
    return [first, second, third]


@quickly
async def test_reordered_code_goes_on_with_what_is_done_and_repeats_nothing(store):
    async def reordered(ctx: Context, begun: Set) -> Any:
        third = await ctx.step("c")
        second, new, first = await ctx.gather(ctx.step("b"), ctx.step("d"), ctx.step("a"))
        await ctx.wait_event(Met)
        return [first, second, third, new]

    trail = Trail()
    async with runtime_of(store, walk(as_it_was), trail=trail) as runtime:
        await set_out(runtime)
        assert trail.done == ["walk/w/a", "walk/w/b"]
    async with runtime_of(reopened(store), walk(reordered, "abcd"), trail=trail) as runtime:
        await runtime.publish(Met("w"))
        ref = runtime.ref("walk", "w")
        assert await runtime.result(ref) == [f"{one} done" for one in "abcd"]
        assert trail.done == [f"walk/w/{one}" for one in "abcd"]


@quickly
async def test_code_may_have_more_and_fewer_awaits_while_the_names_stay_declared(store):
    async def other(ctx: Context, begun: Set) -> Any:
        await ctx.sleep("new", days=1)
        return await ctx.step("b")

    trail = Trail()
    async with runtime_of(store, walk(as_it_was), trail=trail) as runtime:
        await set_out(runtime)
    async with runtime_of(reopened(store), walk(other), trail=trail) as runtime:
        ref = runtime.ref("walk", "w")
        await runtime.resume(ref)
        assert (await standing(runtime, ref))["sleep/new"] == "open"


@quickly
async def test_a_step_that_is_not_declared_any_more_leaves_the_instance_stuck_until_it_is(store):
    async def shorter(ctx: Context, begun: Set) -> Any:
        await ctx.wait_event(Met)
        return await ctx.step("c")

    trail = Trail()
    async with runtime_of(store, walk(as_it_was), trail=trail) as runtime:
        await set_out(runtime)
    async with runtime_of(reopened(store), walk(shorter, "bc"), trail=trail) as runtime:
        ref = runtime.ref("walk", "w")
        await runtime.publish(Met("w"))
        with pytest.raises(SagaStuck, match="step 'a', which is done, is not in the declaration"):
            await runtime.result(ref)
        assert [one.correlation_id async for one in runtime.instances("walk", status="stuck")] == [
            "w"
        ]
        await runtime.resume(ref)
        with pytest.raises(SagaStuck):
            await runtime.result(ref)
        assert trail.done == ["walk/w/a", "walk/w/b"]
    async with runtime_of(reopened(store), walk(as_it_was), trail=trail) as runtime:
        ref = runtime.ref("walk", "w")
        await runtime.resume(ref)
        assert await runtime.result(ref) == ["a done", "b done", "c done"]
        assert trail.done == [f"walk/w/{one}" for one in "abc"]


@quickly
async def test_the_job_of_a_step_that_is_not_declared_any_more_waits_for_it(store, clock):
    async def body(ctx: Context, begun: Set) -> Any:
        return await ctx.gather(ctx.step("a"), ctx.step("b"))

    async def only_b(ctx: Context, begun: Set) -> Any:
        return await ctx.step("b")

    trail = Trail()
    trail.times["a"] = trail.times["b"] = 1  # both are tried again after a restart
    async with runtime_of(store, walk(body), trail=trail, clock=clock) as runtime:
        await set_out(runtime)
    members = [walk(only_b, "b")]
    async with runtime_of(reopened(store), *members, trail=trail, clock=clock) as runtime:
        ref = runtime.ref("walk", "w")
        await clock.advance(DAY)
        assert trail.done == ["walk/w/b"], "and b's worker has not taken a's job"
        with pytest.raises(SagaStuck, match="step 'a', which is open, is not"):
            await runtime.result(ref)
    members = [walk(body, "ab")]
    async with runtime_of(reopened(store), *members, trail=trail, clock=clock) as runtime:
        await clock.advance(DAY)
        assert await runtime.result(runtime.ref("walk", "w")) == ["a done", "b done"]
        assert trail.done == ["walk/w/b", "walk/w/a"]


@message(name="walk-test.SetOtherwise")
class SetOtherwise:
    id: str


@quickly
async def test_another_message_to_begin_with_leaves_running_instances_stuck(store):
    async def other(ctx: Context, begun: SetOtherwise) -> Any: ...

    async with runtime_of(store, walk(as_it_was)) as runtime:
        await set_out(runtime)
    changed = workflow("walk", SetOtherwise, by="id", steps=steps_of("abc"), events={Met: "id"})(
        other
    )
    async with runtime_of(reopened(store), changed) as runtime:
        await runtime.publish(Met("w"))
        with pytest.raises(SagaStuck, match="it began with a Set, which is not"):
            await runtime.result(runtime.ref("walk", "w"))
    async with runtime_of(reopened(store), walk(as_it_was)) as runtime:
        ref = runtime.ref("walk", "w")
        await runtime.resume(ref)
        assert await runtime.result(ref) == ["a done", "b done", "c done"]


@quickly
async def test_an_event_that_is_not_declared_any_more_is_kept(store, clock):
    async def body(ctx: Context, begun: Set) -> Any:
        await ctx.sleep(days=1)
        return (await ctx.wait_event(Met)).whom

    async def without(ctx: Context, begun: Set) -> Any:
        await ctx.sleep(days=1)
        kind: Any = Met
        return await ctx.wait_event(kind)

    async with runtime_of(store, walk(body), clock=clock) as runtime:
        await set_out(runtime)
        await runtime.publish(Met("w", "ann"))
    async with runtime_of(reopened(store), walk(without, events={}), clock=clock) as runtime:
        await clock.advance(DAY)
        with pytest.raises(SagaStuck, match="declares no event Met"):
            await runtime.result(runtime.ref("walk", "w"))
    async with runtime_of(reopened(store), walk(body), clock=clock) as runtime:
        ref = runtime.ref("walk", "w")
        await runtime.resume(ref)
        assert await runtime.result(ref) == "ann"


@pytest.mark.parametrize("snapshot_every", [1, 100])
@quickly
async def test_a_result_of_which_there_is_no_class_is_not_handed_out(
    store, monkeypatch, snapshot_every
):
    """The class of a result was renamed, or its module is not imported any more."""
    settings = Settings(snapshot_every=snapshot_every)
    handed_out: list[Any] = []

    async def body(ctx: Context, begun: Set) -> Any:
        first = await ctx.step("a")
        handed_out.append(first)
        await ctx.wait_event(Met)
        return first.items

    trail = Trail(results={"a": Basket(["bread"])})

    def life(over: Any) -> Runtime:
        return runtime_of(over, walk(body), trail=trail, settings=settings)

    async with life(store) as runtime:
        await set_out(runtime)
    handed_out.clear()
    with monkeypatch.context() as patched:
        patched.delitem(messages._CATALOGUE, "walk-test.Basket")
        async with runtime_of(
            reopened(store), walk(body), trail=trail, settings=settings
        ) as runtime:
            await runtime.publish(Met("w"))
            with pytest.raises(SagaStuck, match=r"step/a came to a walk-test\.Basket, of which"):
                await runtime.result(runtime.ref("walk", "w"))
        assert handed_out == []
    async with life(reopened(store)) as runtime:
        ref = runtime.ref("walk", "w")
        await runtime.resume(ref)
        assert await runtime.result(ref) == ["bread"]


@quickly
async def test_an_instance_that_was_failed_by_its_code_stays_so(store):
    async def raising(ctx: Context, begun: Set) -> Any:
        raise ValueError("no")

    async with runtime_of(store, walk(raising)) as runtime:
        await set_out(runtime)
    async with runtime_of(reopened(store), walk(as_it_was)) as runtime:
        ref = runtime.ref("walk", "w")
        with pytest.raises(InstanceFinished):
            await runtime.resume(ref)
        assert (await view_of(runtime, ref)).status is Status.FAILED


@quickly
async def test_a_function_of_the_same_name_takes_over(store, clock):
    """A step is its name: what function has it now performs what is still to be done."""

    async def body(ctx: Context, begun: Set) -> Any:
        return await ctx.gather(ctx.step("a"), ctx.step("b"))

    def better(given: Any) -> str:
        return "better"

    better.__name__ = "b"
    trail = Trail()
    trail.times["b"] = 1
    async with runtime_of(store, walk(body), trail=trail, clock=clock) as runtime:
        await set_out(runtime)
    changed = walk(body, [named("a"), better])
    async with runtime_of(reopened(store), changed, trail=trail, clock=clock) as runtime:
        await clock.advance(DAY)
        assert await runtime.result(runtime.ref("walk", "w")) == ["a done", "better"]
