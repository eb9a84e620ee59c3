"""Declaring a coroutine as a workflow: what is refused before anything runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from perdure import (
    Context,
    CoroutineWorkflow,
    IgnoreMissing,
    Runtime,
    StartMissing,
    message,
    step,
    workflow,
)
from perdure.core.correlation import Continue, Ignore, Start
from perdure.errors import (
    AskedTwice,
    DefinitionError,
    DuplicateHandler,
    DuplicateSaga,
    UnknownStep,
)
from perdure.messages import ExternalEvent, Metadata


@message(name="declaring-test.Begun")
class Begun:
    id: str
    region: str = "eu"


@message(name="declaring-test.Rung")
class Rung:
    id: str
    who: str = ""


class Unmarked:
    pass


def ring(begun: Begun) -> str:
    return begun.id


def other(begun: Begun) -> None: ...


@step(name="renamed")
async def called_otherwise(begun: Begun) -> None: ...


@step(name="ring")
def ring_too(begun: Begun) -> None: ...


def takes_nothing() -> None: ...


class Bells:
    def ring(self, begun: Begun) -> None: ...


async def body(ctx: Context, begun: Begun) -> None:
    await ctx.step(ring, begun)


def declared(of: Any = body, name: Any = "bells", begins: Any = Begun, **more: Any) -> Any:
    return workflow(name, begins, **{"by": "id", "steps": [ring], **more})(of)


def test_a_workflow_is_a_member_with_a_queue_for_each_step():
    found = declared(steps=[ring, called_otherwise])
    assert isinstance(found, CoroutineWorkflow)
    assert (found.name, found.body, repr(found)) == ("bells", body, "<workflow bells>")
    assert [queue.name for queue in found.queues()] == ["bells.ring", "bells.renamed"]
    assert list(found.openings()) == []
    definition = found.definition()
    assert definition.timeout is None
    assert (definition.name, definition.is_pure) == ("bells", True)


def test_messages_find_their_instance():
    found = declared(by=("region", "id"), events={Rung: "id", "Chimed": "bell"}).definition()
    assert found.correlate(Begun("b"), Metadata()) == Start(("eu", "b"))
    assert found.correlate(Rung("b"), Metadata()) == Continue("b")
    assert found.correlate(ExternalEvent("Chimed", {"bell": 7}), Metadata()) == Continue(7)
    assert found.correlate(ExternalEvent("Other", {}), Metadata()) is Ignore
    many = declared(events={Rung: lambda rung: [rung.id, rung.who]}).definition()
    assert many.correlate(Rung("a", "b"), Metadata()) == [Continue("a"), Continue("b")]


def plain(ctx: Context, begun: Begun) -> None: ...


async def too_few(ctx: Context) -> None: ...


async def too_many(ctx: Context, begun: Begun, more: int) -> None: ...


async def by_name(ctx: Context, *, begun: Begun) -> None: ...


async def yields(ctx: Context, begun: Begun) -> Any:
    yield 1


@pytest.mark.parametrize(
    ("of", "said"),
    [
        (plain, "plain is no coroutine function"),
        (lambda ctx, begun: None, "<lambda> is no coroutine function"),
        (7, "7 is no coroutine function"),
        (yields, "yields is no coroutine function"),
        (too_few, r"too_few\(.*\).* does not take two arguments"),
        (too_many, "does not take two arguments"),
        (by_name, "does not take two arguments"),
    ],
)
def test_what_is_no_coroutine_of_two_arguments_is_refused(of: Any, said: str):
    with pytest.raises(DefinitionError, match=said):
        declared(of)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"name": ""}, "'' is no name for a saga"),
        ({"name": "no/slash"}, "no name for a saga"),
        ({"name": 7}, "7 is no name for a saga"),
        ({"name": "perdure.mine"}, "perdure's own"),
        ({"name": "n" * 200}, "its name has 200 characters"),
        ({"begins": Unmarked}, "is no message class"),
        ({"begins": "Begun"}, "is no message class"),
        ({"by": "nobody"}, "no field 'nobody'"),
        ({"by": 7}, "by=7"),
        ({"timeout": 7}, "timeout is 7"),
        ({"timeout": timedelta(0)}, "timeout is"),
        ({"steps": [ring, ring_too]}, "two steps are named 'ring'"),
        ({"steps": [ring, ring]}, "two steps are named 'ring'"),
        ({"steps": ["ring"]}, "'ring' is no function"),
        ({"steps": "ring"}, "give a list of functions"),
        ({"steps": ring}, "give a list of functions"),
        ({"steps": [lambda begun: None]}, "'<lambda>' is no name for a step"),
        ({"steps": [ring, takes_nothing]}, "no first parameter"),
        ({"events": [Rung]}, "events is"),
        ({"events": {Unmarked: "id"}}, "event Unmarked is no message class"),
        ({"events": {7: "id"}}, "event 7 is no message class"),
        ({"events": {Rung: "nobody"}}, "no field 'nobody'"),
        ({"events": {Begun: "id"}}, "Begun begins the workflow, and is among its events"),
        ({"on_missing": StartMissing()}, "on_missing is StartMissing"),
        ({"on_missing": IgnoreMissing}, "on_missing is"),
    ],
)
def test_nonsense_is_refused_when_it_is_declared(options: dict[str, Any], said: str):
    with pytest.raises(DefinitionError, match=said):
        declared(**options)


def test_two_steps_of_one_name_are_a_duplicate():
    with pytest.raises(DuplicateHandler) as raised:
        declared(steps=[ring, ring_too])
    assert raised.value.saga == "bells"


def test_two_workflows_of_one_name_do_not_run_together():
    with pytest.raises(DuplicateSaga):
        Runtime("memory://", [declared(), declared()])


def test_a_step_needs_its_resources():
    def needy(begun: Begun, bell: Any) -> None: ...

    with pytest.raises(DefinitionError, match="needs bell"):
        Runtime("memory://", [declared(steps=[ring, needy])])


# What the source shows


async def misspelt(ctx: Context, begun: Begun) -> None:
    await ctx.step("rign", begun)


async def undeclared(ctx: Context, begun: Begun) -> None:
    if begun.region == "eu":
        await ctx.gather(*[ctx.step(other, begun)])


async def in_a_branch(ctx: Context, begun: Begun) -> None:
    async def branch() -> None:
        await ctx.step("rign")

    await branch()


async def by_attribute(ctx: Context, begun: Begun) -> None:
    await ctx.step(Bells.ring, begun)


async def undeclared_event(ctx: Context, begun: Begun) -> None:
    await ctx.wait_event(Rung)


async def undeclared_outside(ctx: Context, begun: Begun) -> None:
    await ctx.wait_event("Chimed")


@pytest.mark.parametrize(
    ("of", "said"),
    [
        (misspelt, "asks for step 'rign'"),
        (undeclared, "asks for step 'other'"),
        (in_a_branch, "asks for step 'rign'"),
        (by_attribute, "asks for step 'ring'"),
        (undeclared_event, "asks for event Rung"),
        (undeclared_outside, "asks for event 'Chimed'"),
    ],
)
def test_what_the_code_asks_for_and_does_not_declare_is_found_when_it_is_declared(
    of: Any, said: str
):
    with pytest.raises(UnknownStep, match=said) as raised:
        declared(of)
    assert raised.value.saga == "bells"


async def twice(ctx: Context, begun: Begun) -> None:
    await ctx.step(ring, begun)
    await ctx.step("ring", begun)


async def sleeps_twice(ctx: Context, begun: Begun) -> None:
    await ctx.sleep(days=1)
    await ctx.sleep(days=2)


async def waits_twice(ctx: Context, begun: Begun) -> None:
    await ctx.wait_event(Rung)
    try:
        await ctx.wait_event(Rung, timeout=timedelta(1))
    finally:
        pass


async def two_children(ctx: Context, begun: Begun) -> None:
    await ctx.gather(ctx.child("a", "S", begun), ctx.child("a", "S", begun))


@pytest.mark.parametrize(
    ("of", "said"),
    [
        (twice, r"step 'ring' is asked for in line \d+ and in line \d+"),
        (sleeps_twice, "sleep 'sleep' is asked for in line"),
        (waits_twice, "event 'declaring-test.Rung' is asked for"),
        (two_children, "child 'a' is asked for"),
    ],
)
def test_a_name_that_is_surely_asked_for_twice_is_found_when_it_is_declared(of: Any, said: str):
    with pytest.raises(AskedTwice, match=said):
        declared(of, events={Rung: "id"})


def made_here(is_late: bool) -> Callable[..., Any]:
    steps = [ring]

    async def fine(ctx: Context, begun: Begun) -> None:
        names = ["ring"]
        if begun.region:
            await ctx.step(ring, begun)
        else:
            await ctx.step(ring, begun)
        for number in range(3):
            await ctx.step(ring, begun, key=number)
        await ctx.sleep(days=1)
        await ctx.sleep("second", days=1)
        await ctx.sleep("third", days=1, key=1)
        await ctx.sleep("third", days=1, key=2)
        await ctx.wait_event(Rung)
        await ctx.wait_event(Rung, name="another")
        await ctx.step(steps[0], begun, key="a")
        await ctx.step(names[0], begun, key="b")
        ring_here = ring
        await ctx.step(ring_here, begun, key="c")
        try:
            await ctx.step(begun.id, begun)
        except ValueError:
            await ctx.step(ring, begun)
        return [await ctx.step(ring, begun) for _ in range(1)]  # type: ignore[return-value]

    async def late(ctx: Context, begun: Begun) -> None:
        await ctx.step(defined_later, begun)

    if is_late:
        return late

    def defined_later(begun: Begun) -> None: ...

    return fine


def test_what_only_running_can_tell_is_left_to_that():
    assert declared(made_here(is_late=False), events={Rung: "id"})
    assert declared(made_here(is_late=True))


async def renames(ctx: Any, begun: Begun) -> None:
    ctx = begun
    await ctx.step("nobody", begun)


async def shadowed(ctx: Context, begun: Begun) -> None:
    async def inner(other: Any) -> None:
        await ctx.step(other)

    async def another(ctx: Any) -> None:
        await ctx.step("nobody")

    await ctx.gather(inner(ring), another(begun), *[ctx.step(other) for other in (ring,)])


def test_names_that_stand_for_something_else_are_not_taken_for_the_steps():
    assert declared(renames)
    assert declared(shadowed)


def test_code_without_source_is_declared_all_the_same():
    space: dict[str, Any] = {}
    exec("async def body(ctx, begun):\n    await ctx.step('nobody')", space)
    found = declared(space["body"])
    coroutine = found.body(None, Begun("b"))
    with pytest.raises(AttributeError):
        asyncio.run(coroutine)
