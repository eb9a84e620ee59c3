"""Everything a coroutine workflow may await, in a runtime: over memory and over a file."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from perdure import (
    ChildFailed,
    Context,
    ExternalEvent,
    Fixed,
    Job,
    Outcome,
    Runtime,
    StepFailed,
    WorkQueue,
    message,
    workflow,
)
from perdure.approvals import Approval, ApprovalDecided, Approvals, Decide, Who, digest_of, submit
from perdure.errors import HandlerFailed, SagaFailed
from tests.runtime.support import quickly, view_of
from tests.runtime.walks import (
    DAY,
    Basket,
    Errand,
    Met,
    Passed,
    Runner,
    Set,
    Trail,
    named,
    runtime_of,
    set_out,
    standing,
    walk,
)

# Steps


@quickly
async def test_steps_are_performed_in_order_and_their_results_come_back(store):
    async def body(ctx: Context, begun: Set) -> Any:
        first = await ctx.step("a", begun)
        second = await ctx.step("b", first)
        return [first.items, second, ctx.instance_id]

    trail = Trail(results={"a": Basket(["bread"]), "b": {"n": [1, 2]}})
    async with runtime_of(store, walk(body), trail=trail) as runtime:
        ref = await set_out(runtime, "w-1")
        assert trail.done == ["walk/w-1/a", "walk/w-1/b"]
        assert trail.inputs == {"a": Set("w-1"), "b": Basket(["bread"])}
        assert await runtime.result(ref) == [["bread"], {"n": [1, 2]}, "w-1"]


@quickly
async def test_a_step_may_be_a_function_or_a_name_a_coroutine_or_plain_with_a_key_or_without(store):
    plain, awaited = named("plain"), named("awaited", is_async=True)

    async def body(ctx: Context, begun: Set) -> Any:
        results = [await ctx.step(plain, 1), await ctx.step("awaited", None)]
        for number in range(2):
            results.append(await ctx.step(plain, number, key=("n", number)))
        results.append(await ctx.step(awaited, key="a/b:c%"))
        return results

    trail = Trail()
    async with runtime_of(store, walk(body, [plain, awaited]), trail=trail) as runtime:
        ref = await set_out(runtime, "x/y")
        names = ["plain", "awaited", "plain:(n,0)", "plain:(n,1)", "awaited:a%2Fb:c%25"]
        assert await runtime.result(ref) == [f"{name} done" for name in names]
        assert trail.done == [f"walk/x/y/{name}" for name in names]


@quickly
async def test_what_is_given_and_what_comes_back_is_a_copy(store):
    kept: list[Any] = []

    def keep(basket: Basket) -> Basket:
        kept.append(basket)
        return basket

    async def body(ctx: Context, begun: Set) -> Any:
        basket = Basket(["bread"])
        first = ctx.step(keep, basket, key=1)
        basket.items.append("after")
        result = await first
        result.items.append("mine")
        again = await first
        kept[0].items.append("the worker's")
        await ctx.step(keep, again, key=2)
        return again.items

    async with runtime_of(store, walk(body, [keep])) as runtime:
        ref = await set_out(runtime)
        assert await runtime.result(ref) == ["bread"]
        assert kept[1] == Basket(["bread"])
        state = (await view_of(runtime, ref)).state
        assert state.operations["step/keep:1"].message == Basket(["bread"])


@quickly
async def test_a_step_that_failed_for_good_raises_where_it_is_awaited(store, clock):
    async def body(ctx: Context, begun: Set) -> Any:
        await ctx.step("b", begun)
        try:
            await ctx.step("a", begun, key=1)
        except StepFailed as failure:
            return [failure.step, failure.reason, failure.error, failure.is_unknown]

    trail = Trail(fails={"a:1": "no such thing"})
    trail.times["b"] = 2
    async with runtime_of(store, walk(body), trail=trail, clock=clock) as runtime:
        ref = await set_out(runtime)
        assert trail.begun == ["walk/w/b"]
        await clock.advance(timedelta(seconds=2))
        error = "perdure.errors.NonRetryable: no such thing"
        assert await runtime.result(ref) == ["a:1", "non-retryable", error, False]
        assert trail.begun.count("walk/w/b") == 3


@quickly
async def test_a_failure_that_nobody_catches_ends_the_workflow_with_its_text(store):
    async def body(ctx: Context, begun: Set) -> Any:
        await ctx.step("a", begun)

    trail = Trail(fails={"a": "no such thing"})
    async with runtime_of(store, walk(body), trail=trail) as runtime:
        ref = await set_out(runtime)
        with pytest.raises(SagaFailed, match=r"StepFailed: step 'a' has failed \(non-retryable\)"):
            await runtime.result(ref)


@quickly
async def test_a_result_that_cannot_be_encoded_fails_the_step(store):
    async def body(ctx: Context, begun: Set) -> Any:
        found = await ctx.gather(
            *(ctx.step("a", key=number) for number in range(4)), return_exceptions=True
        )
        return [str(one) for one in found]

    trail = Trail(
        results={
            "a:0": object(),
            "a:1": (1, 2),
            "a:2": ExternalEvent("x", {}),
            "a:3": iter([]),
        }
    )
    async with runtime_of(store, walk(body), trail=trail) as runtime:
        texts = await runtime.result(await set_out(runtime))
        assert all("InvalidResult" in text for text in texts), texts


@quickly
async def test_a_step_has_a_deadline_for_all_its_attempts(store, clock):
    retry = Fixed(4, max_attempts=None)
    slow = named("slow", deadline=timedelta(seconds=10), retry=retry)

    async def body(ctx: Context, begun: Set) -> Any:
        try:
            await ctx.step(slow)
        except StepFailed as failure:
            return failure.reason

    trail = Trail()
    trail.times["slow"] = 100
    async with runtime_of(store, walk(body, [slow]), trail=trail, clock=clock) as runtime:
        ref = await set_out(runtime)
        await clock.advance(timedelta(minutes=1))
        assert await runtime.result(ref) == "expired"


@quickly
async def test_the_command_of_a_step_says_what_it_is_for(store):
    async def body(ctx: Context, begun: Set) -> Any:
        await ctx.step("a", begun, key=7)

    async with runtime_of(store, walk(body)) as runtime:
        ref = await set_out(runtime)
        turns = [turn async for turn in runtime.history(ref)]
        (sent,) = turns[0].sent
        assert (sent.queue, sent.content.step, sent.content.key) == ("walk.a", "a", "walk/w/a:7")
        assert [type(one).__name__ for one in turns[0].events] == ["Set", "OperationStarted"]
        assert turns[1].type == "perdure.workflow.StepDone"


# Gathering


@quickly
async def test_steps_beside_each_other_start_together_and_a_partial_failure_is_the_coroutines(
    store,
):
    async def body(ctx: Context, begun: Set) -> Any:
        try:
            await ctx.gather(ctx.step("a"), ctx.step("b"), ctx.step("c"))
        except StepFailed as failure:
            undone = await ctx.step("a", key="undo")
            return [failure.step, undone]

    trail = Trail(fails={"b": "no"})
    async with runtime_of(store, walk(body), trail=trail) as runtime:
        ref = await set_out(runtime)
        assert await runtime.result(ref) == ["b", "a:undo done"]
        turns = [turn async for turn in runtime.history(ref)]
        assert len(turns[0].sent) == 3
        assert sorted(trail.done) == ["walk/w/a", "walk/w/a:undo", "walk/w/c"]


@quickly
async def test_branches_of_several_steps_run_beside_each_other(store, clock):
    async def body(ctx: Context, begun: Set) -> Any:
        async def branch(name: str, days: int) -> str:
            await ctx.sleep(name, days=days)
            return str(await ctx.step(name))

        return await ctx.gather(branch("a", 2), branch("b", 1), ctx.step("c"))

    trail = Trail()
    async with runtime_of(store, walk(body), trail=trail, clock=clock) as runtime:
        ref = await set_out(runtime)
        await clock.advance(DAY)
        assert trail.done == ["walk/w/c", "walk/w/b"]
        await clock.advance(DAY)
        assert await runtime.result(ref) == ["a done", "b done", "c done"]


# Time


@quickly
async def test_it_sleeps_for_days_and_until_moments(store, clock):
    async def body(ctx: Context, begun: Set) -> Any:
        started = ctx.now
        await ctx.sleep(weeks=1, days=2, hours=1.5, minutes=1, seconds=1)
        first = ctx.now - started
        await ctx.sleep("until", until=started + 30 * DAY)
        second = ctx.now - started
        await ctx.sleep("past", until=started)
        await ctx.step("a")
        return [first, second, ctx.now - started]

    trail = Trail()
    async with runtime_of(store, walk(body), trail=trail, clock=clock) as runtime:
        ref = await set_out(runtime)
        assert list((await view_of(runtime, ref)).deadlines) == ["sleep/sleep"]
        await clock.advance(29 * DAY)
        assert await standing(runtime, ref) == {"sleep/sleep": "done", "sleep/until": "open"}
        await clock.advance(DAY)
        short = timedelta(weeks=1, days=2, hours=1, minutes=31, seconds=1)
        assert await runtime.result(ref) == [short, 30 * DAY, 30 * DAY]


# Events


@quickly
async def test_an_event_is_waited_for_and_given(store, clock):
    async def body(ctx: Context, begun: Set) -> Any:
        met = await ctx.wait_event(Met, timeout=30 * DAY)
        return None if met is None else met.whom

    async with runtime_of(store, walk(body), clock=clock) as runtime:
        met, late = await set_out(runtime, "met"), await set_out(runtime, "late")
        await clock.advance(29 * DAY)
        await runtime.publish(Met("met", "ann"))
        assert await runtime.result(met) == "ann"
        await clock.advance(DAY)
        assert await runtime.result(late) is None


@quickly
async def test_events_that_come_before_anybody_waits_are_kept_in_order(store, clock):
    async def body(ctx: Context, begun: Set) -> Any:
        await ctx.sleep(days=1)
        found = [await ctx.wait_event(Met, key=number) for number in range(3)]
        return [one.whom for one in found]

    async with runtime_of(store, walk(body), clock=clock) as runtime:
        (receipt,) = await runtime.publish(Met("w", "before it began"))
        assert receipt.outcome is Outcome.PARKED
        ref = await set_out(runtime)
        await runtime.publish(Met("w", "ann"))
        await clock.advance(DAY)
        await runtime.publish(Met("w", "bob"))
        assert await runtime.result(ref) == ["before it began", "ann", "bob"]


@quickly
async def test_a_limit_that_is_not_needed_any_more_is_taken_back(store, clock):
    async def body(ctx: Context, begun: Set) -> Any:
        await ctx.wait_event(Met, timeout=2 * DAY)
        await ctx.sleep(days=30)

    async with runtime_of(store, walk(body), clock=clock) as runtime:
        ref = await set_out(runtime)
        await runtime.publish(Met("w"))
        assert list((await view_of(runtime, ref)).deadlines) == ["sleep/sleep"]


@quickly
async def test_events_from_outside_are_waited_for_by_their_name(store):
    async def body(ctx: Context, begun: Set) -> Any:
        heard = await ctx.wait_event("walk-test.Heard")
        return heard.data["what"]

    events = {"walk-test.Heard": "id"}
    async with runtime_of(store, walk(body, events=events)) as runtime:
        ref = await set_out(runtime)
        await runtime.publish({"type": "walk-test.Heard", "data": {"id": "w", "what": "a bell"}})
        assert await runtime.result(ref) == "a bell"


@quickly
async def test_events_nobody_takes_are_bounded_and_the_rest_are_dead_letters(memory):
    async def body(ctx: Context, begun: Set) -> Any:
        await ctx.sleep(days=1)

    async with runtime_of(memory, walk(body)) as runtime:
        await set_out(runtime)
        for number in range(1_000):
            await runtime.publish(Met("w", str(number)))
        with pytest.raises(HandlerFailed, match="1000 events wait"):
            await runtime.publish(Met("w", "one more"))
        letters = [letter async for letter in runtime.dead_letters.list()]
        assert [letter.type for letter in letters] == ["walk-test.Met"]


@quickly
async def test_it_begins_once(store):
    async def body(ctx: Context, begun: Set) -> Any:
        return (await ctx.wait_event(Met)).whom + begun.how

    async with runtime_of(store, walk(body)) as runtime:
        ref = await set_out(runtime, how="first")
        receipt = await runtime.send(ref, Set("w", "second"))
        assert receipt.outcome is Outcome.UNHANDLED
        await runtime.publish(Met("w", "ann "))
        assert await runtime.result(ref) == "ann first"


# Children


@quickly
async def test_a_childs_result_comes_back(store):
    async def body(ctx: Context, begun: Set) -> Any:
        value = await ctx.child("one", Runner, Errand("w/one"))
        basket = await ctx.child("two", Runner, Errand("own"), id="own", key=2)
        return [value, basket.items]

    async with runtime_of(store, walk(body), Runner) as runtime:
        ref = await set_out(runtime)
        await runtime.send(runtime.ref(Runner, "w/one"), Met("w/one"))
        await runtime.settled()
        assert await standing(runtime, ref) == {"child/one": "done", "child/two:2": "open"}
        await runtime.send(runtime.ref(Runner, "own"), Met("own", "message"))
        assert await runtime.result(ref) == [{"n": 1}, ["bread"]]


@pytest.mark.parametrize(
    ("saga", "ends", "said"),
    [
        (Runner, True, "child 'one' has failed: lost the way"),
        (Runner, False, "child 'one' has timed out"),
        ("nobody", False, "child 'one' has failed: not started: perdure.errors.UnknownSaga"),
    ],
)
@quickly
async def test_a_child_that_fails_or_never_answers_raises(store, clock, saga, ends, said):
    async def body(ctx: Context, begun: Set) -> Any:
        try:
            await ctx.child("one", saga, Errand("w/one"), timeout=3 * DAY)
        except ChildFailed as failure:
            await ctx.sleep(days=1)
            return str(failure)

    async with runtime_of(store, walk(body), Runner, clock=clock) as runtime:
        ref = await set_out(runtime)
        if ends:
            await runtime.send(runtime.ref(Runner, "w/one"), Met("w/one", "fail"))
        await clock.advance(3 * DAY)
        await clock.advance(DAY)
        assert (await runtime.result(ref)).startswith(said)
        if saga is Runner and not ends:
            child = await view_of(runtime, runtime.ref(Runner, "w/one"))
            assert child.failure == "cancelled: timed out"


@quickly
async def test_a_workflow_may_be_the_child_of_another(store):
    async def inner(ctx: Context, begun: Set) -> Any:
        return [begun.how, await ctx.step("a")]

    async def outer(ctx: Context, begun: Set) -> Any:
        found = await ctx.gather(
            *(
                ctx.child("part", "inner", Set(f"{begun.id}/part:{n}", str(n)), key=n)
                for n in range(3)
            )
        )
        return [one for pair in found for one in pair]

    members = walk(outer, name="outer"), walk(inner, name="inner")
    async with runtime_of(store, *members) as runtime:
        ref = await set_out(runtime, name="outer")
        assert await runtime.result(ref) == [one for n in range(3) for one in (str(n), "a done")]


# Publishing


@quickly
async def test_an_event_is_published_once_and_heard(store):
    heard = []
    news = WorkQueue("news")

    @news.subscriber
    def hear(event: Passed, job: Job) -> None:
        heard.append(event.what)

    async def body(ctx: Context, begun: Set) -> Any:
        await ctx.publish(Passed("w", "first"))
        await ctx.step("a")
        await ctx.publish(Passed("w", "second"), key=2)
        await ctx.step("b")

    async with runtime_of(store, walk(body), news) as runtime:
        ref = await set_out(runtime)
        await runtime.result(ref)
        assert heard == ["first", "second"]


@quickly
async def test_a_message_that_it_completes_with_is_published(store):
    heard = []
    news = WorkQueue("news")

    @news.subscriber
    def hear(event: Passed, job: Job) -> None:
        heard.append(event.what)

    async def body(ctx: Context, begun: Set) -> Any:
        return Passed("w", "the end")

    async with runtime_of(store, walk(body), news) as runtime:
        assert await runtime.result(await set_out(runtime)) == Passed("w", "the end")
        assert heard == ["the end"]


# Approvals


@message(name="walk-test.Pay")
class Pay:
    invoice: str
    cents: int


@quickly
async def test_people_are_asked_and_what_they_decide_comes_back(store, clock):
    policy = Approval(Who(people=("ann",)), expires=10 * DAY)

    async def body(ctx: Context, begun: Set) -> Any:
        pay = Pay(begun.id, 100)
        decided = await ctx.approval("payment", of=pay, policy=policy, requester="bob")
        assert isinstance(decided, ApprovalDecided)
        return [decided.outcome, decided.approves(pay)]

    async with runtime_of(store, walk(body), Approvals, clock=clock) as runtime:
        yes, no = await set_out(runtime, "yes"), await set_out(runtime, "no")
        digest = digest_of(Pay("yes", 100))
        await submit(runtime, Decide("yes/payment", "ann", "approve", digest))
        assert await runtime.result(yes) == ["approved", True]
        await clock.advance(10 * DAY)
        assert await runtime.result(no) == ["expired", False]


@quickly
async def test_an_approval_that_is_not_waited_for_any_longer_is_withdrawn(store, clock):
    async def body(ctx: Context, begun: Set) -> Any:
        policy = Approval(Who(people=("ann",)))
        try:
            await ctx.approval("p", of=Pay("i", 1), policy=policy, timeout=DAY)
        except ChildFailed as failure:
            return failure.reason

    async with runtime_of(store, walk(body), Approvals, clock=clock) as runtime:
        ref = await set_out(runtime)
        await clock.advance(DAY)
        assert await runtime.result(ref) == "timed out"
        approval = await view_of(runtime, runtime.ref(Approvals, "w/p"))
        assert approval.result.outcome == "withdrawn"


# As a whole


@quickly
async def test_five_hundred_steps_one_after_another(memory):
    async def body(ctx: Context, begun: Set) -> Any:
        return sum([await ctx.step(count, number, key=number) for number in range(500)])

    def count(number: int) -> int:
        return number

    async with runtime_of(memory, walk(body, [count])) as runtime:
        assert await runtime.result(await set_out(runtime)) == 124_750


@quickly
async def test_five_hundred_steps_beside_each_other(memory):
    async def body(ctx: Context, begun: Set) -> Any:
        return sum(await ctx.gather(*(ctx.step(count, n, key=n) for n in range(500))))

    def count(number: int) -> int:
        return number

    async with runtime_of(memory, walk(body, [count])) as runtime:
        assert await runtime.result(await set_out(runtime)) == 124_750


@quickly
async def test_workflows_of_one_runtime_do_not_take_each_others_steps(store):
    async def body(ctx: Context, begun: Set) -> Any:
        return await ctx.step("a")

    def one(given: Any) -> int:
        return 1

    def two(given: Any) -> int:
        return 2

    one.__name__ = two.__name__ = "a"
    members = walk(body, [one], name="first"), walk(body, [two], name="second")
    async with runtime_of(store, *members) as runtime:
        refs = [await set_out(runtime, name=name) for name in ("first", "second")]
        assert [await runtime.result(ref) for ref in refs] == [1, 2]


@quickly
async def test_messages_to_several_instances(store):
    async def body(ctx: Context, begun: Set) -> Any:
        return (await ctx.wait_event(Met)).whom

    everybody = workflow("walk", Set, by="id", events={Met: lambda met: met.id.split("+")})(body)
    async with Runtime(store, [everybody]) as runtime:
        refs = [await set_out(runtime, id) for id in ("a", "b")]
        await runtime.publish(Met("a+b", "ann"))
        assert [await runtime.result(ref) for ref in refs] == ["ann", "ann"]
