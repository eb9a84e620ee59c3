"""A saga starts another, is told its end once, and takes it down when it fails."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest

from perdure import (
    Cancel,
    ChildEnded,
    Effects,
    ProcessManager,
    Runtime,
    Settings,
    Status,
    applies,
    continues,
    message,
    on_cancelled,
    on_child_ended,
    starts,
)
from perdure.errors import CorrelationFailed, InvalidEffect, UnknownSaga
from tests.runtime.support import quickly, reopened, view_of


@message(name="children-test.Begin")
class Begin:
    id: str
    children: tuple[str, ...] = ("one",)


@message(name="children-test.Task")
class Task:
    id: str


@message(name="children-test.Report")
class Report:
    id: str
    text: str


@message(name="children-test.Finish")
class Finish:
    id: str
    how: str = "message"


@message(name="children-test.Chatter")
class Chatter:
    id: str


@dataclass(frozen=True)
class Known:
    ended: tuple[ChildEnded, ...] = ()


class Parent(ProcessManager[Known]):
    name = "children-test.Parent"

    @starts(Begin, by="id")
    def begin(self, state: Known, event: Begin, do: Effects) -> None:
        for name in event.children:
            do.start_child(name, Child, Task(name))

    @on_child_ended()
    def heard(self, state: Known, ended: ChildEnded, do: Effects) -> None: ...

    @continues(Finish, by="id")
    def finish(self, state: Known, event: Finish, do: Effects) -> None:
        if event.how == "fail":
            do.fail("no more")
        elif event.how == "complete":
            do.complete()
        else:
            do.cancel_child(event.how, "not needed")

    @applies(ChildEnded)
    def fold(self, state: Known, event: ChildEnded) -> Known:
        return replace(state, ended=(*state.ended, event))


class Child(ProcessManager[Known]):
    name = "children-test.Child"

    @starts(Task, by="id")
    def begun(self, state: Known, event: Task, do: Effects) -> None:
        do.publish(Chatter(event.id))

    @continues(Finish, by="id")
    def finish(self, state: Known, event: Finish, do: Effects) -> None:
        if event.how == "fail":
            do.fail("could not")
        else:
            do.complete(Report(event.id, "fine") if event.how == "message" else {"n": 1})


class Bystander(ProcessManager[Known]):
    """Started by what a child publishes in its first turn: nobody's child."""

    name = "children-test.Bystander"

    @starts(Chatter, by="id")
    def heard(self, state: Known, event: Chatter, do: Effects) -> None:
        do.complete()


SAGAS = [Parent, Child, Bystander]


async def ended(runtime: Runtime, id: str = "p") -> tuple[ChildEnded, ...]:
    view = await view_of(runtime, runtime.ref(Parent, id))
    found: tuple[ChildEnded, ...] = view.state.ended
    return found


async def finish(runtime: Runtime, child: str, how: str = "message") -> None:
    await runtime.send(runtime.ref(Child, child), Finish(child, how))
    await runtime.settled()


@quickly
async def test_a_parent_is_told_what_its_child_completed_with(store):
    async with Runtime(store, SAGAS) as runtime:
        await runtime.publish(Begin("p", ("one", "two", "three")))
        await runtime.settled()
        await finish(runtime, "p/one")
        await finish(runtime, "p/two", "value")
        await finish(runtime, "p/three", "fail")
        name = Child.name
        assert await ended(runtime) == (
            ChildEnded("one", name, "p/one", "completed", result=Report("p/one", "fine")),
            ChildEnded("two", name, "p/two", "completed", value={"n": 1}),
            ChildEnded("three", name, "p/three", "failed", error="could not"),
        )
        assert [one.is_completed for one in await ended(runtime)] == [True, True, False]


@pytest.mark.parametrize("snapshot_every", [1, 100])
@quickly
async def test_children_are_known_after_a_restart_from_journal_or_snapshot(store, snapshot_every):
    settings = Settings(snapshot_every=snapshot_every)
    async with Runtime(store, SAGAS, settings) as runtime:
        await runtime.publish(Begin("p", ("one", "two")))
        await runtime.settled()
    async with Runtime(reopened(store), SAGAS, settings) as runtime:
        await finish(runtime, "p/one")
    async with Runtime(reopened(reopened(store)), SAGAS, settings) as runtime:
        assert [one.name for one in await ended(runtime)] == ["one"]
        await runtime.send(runtime.ref(Parent, "p"), Finish("p", "fail"))
        await runtime.settled()
        two = await view_of(runtime, runtime.ref(Child, "p/two"))
        assert two.failure == "cancelled: children-test.Parent/p has failed"
        one = await view_of(runtime, runtime.ref(Child, "p/one"))
        assert one.sequence_nr == 2, "an ended child is told nothing"


@quickly
async def test_a_parent_that_completes_leaves_its_children_alone(store):
    async with Runtime(store, SAGAS) as runtime:
        await runtime.publish(Begin("p"))
        await runtime.settled()
        await runtime.send(runtime.ref(Parent, "p"), Finish("p", "complete"))
        await runtime.settled()
        child = await view_of(runtime, runtime.ref(Child, "p/one"))
        assert child.status is Status.RUNNING
        await finish(runtime, "p/one")
        parent = await view_of(runtime, runtime.ref(Parent, "p"))
        assert (parent.status, parent.state.ended) == (Status.COMPLETED, ())


@quickly
async def test_a_child_is_cancelled_by_its_parent_which_then_hears_its_end(store):
    async with Runtime(store, SAGAS) as runtime:
        await runtime.publish(Begin("p"))
        await runtime.settled()
        await runtime.send(runtime.ref(Parent, "p"), Finish("p", "one"))
        await runtime.settled()
        (end,) = await ended(runtime)
        assert end.error == "cancelled: not needed"
        await runtime.send(runtime.ref(Parent, "p"), Finish("p", "one"))
        await runtime.settled()
        assert len(await ended(runtime)) == 1, "it had ended"


@quickly
async def test_an_instance_that_is_there_already_becomes_nobodys_child(store):
    async with Runtime(store, SAGAS) as runtime:
        await runtime.send(runtime.ref(Child, "p/one"), Task("p/one"))
        await runtime.publish(Begin("p"))
        await runtime.settled()
        (end,) = await ended(runtime)
        assert end.status == "failed"
        assert end.error.startswith("not started: perdure.errors.InstanceAlreadyExists")
        await finish(runtime, "p/one")
        assert len(await ended(runtime)) == 1


@quickly
async def test_what_a_child_sends_makes_nobody_else_a_child(store):
    async with Runtime(store, SAGAS) as runtime:
        await runtime.publish(Begin("p"))
        await runtime.settled()
        bystander = await view_of(runtime, runtime.ref(Bystander, "one"))
        assert bystander.status is Status.COMPLETED
        assert await ended(runtime) == ()


@pytest.mark.parametrize(
    ("saga", "what", "said"),
    [
        ("nobody", Task("x"), "UnknownSaga"),
        (Child, Finish("x"), "CorrelationFailed"),
        (Child, Begin("x"), "UnknownMessageType"),
    ],
)
@quickly
async def test_a_child_that_cannot_be_started_has_failed(saga: Any, what: Any, said: str):
    class Mistaken(Parent):
        name = "children-test.Mistaken"

        @starts(Chatter, by="id")
        def other(self, state: Known, event: Chatter, do: Effects) -> None:
            do.start_child("one", saga, what)

    async with Runtime("memory://", [Mistaken, *SAGAS]) as runtime:
        await runtime.send(runtime.ref(Mistaken, "p"), Chatter("p"))
        await runtime.settled()
        view = await view_of(runtime, runtime.ref(Mistaken, "p"))
        (end,) = view.state.ended
        assert (end.status, end.name) == ("failed", "one")
        assert end.error.startswith(f"not started: perdure.errors.{said}")


@pytest.mark.parametrize(
    ("name", "saga", "error"),
    [("", Child, InvalidEffect), (7, Child, InvalidEffect), ("one", 7, InvalidEffect)],
)
@quickly
async def test_nonsense_about_a_child_fails_the_turn(name: Any, saga: Any, error: type):
    class Rash(ProcessManager[Known]):
        name = "children-test.Rash"

        @starts(Task, by="id")
        def begun(self, state: Known, event: Task, do: Effects) -> None:
            do.start_child(event_name, saga, Task("x"))

    event_name = name
    async with Runtime("memory://", [Rash]) as runtime:
        with pytest.raises(error):
            await runtime.publish(Task("p"))
        assert await runtime.state(runtime.ref(Rash, "p")) is None


@quickly
async def test_two_open_children_of_one_name_are_refused():
    async with Runtime("memory://", SAGAS) as runtime:
        with pytest.raises(InvalidEffect, match="child 'one' is open already"):
            await runtime.publish(Begin("p", ("one", "one")))


@quickly
async def test_whoever_is_cancelled_may_have_its_own_way(store):
    class Slow(Child):
        name = "children-test.Slow"

        @on_cancelled
        def wind_down(self, state: Known, cancel: Cancel, do: Effects) -> None:
            do.complete(cancel.reason)

    async with Runtime(store, [Slow]) as runtime:
        ref = runtime.ref(Slow, "s")
        await runtime.send(ref, Task("s"))
        await runtime.cancel(ref, "tired")
        view = await view_of(runtime, ref)
        assert (view.status, view.result) == (Status.COMPLETED, "tired")


@quickly
async def test_the_headers_of_kinship_are_the_runtimes_own(memory):
    async with Runtime(memory, SAGAS) as runtime:
        with pytest.raises(CorrelationFailed, match=r"perdure\."):
            await runtime.publish(Task("x"), headers={"perdure.parent": "children-test.Parent/p"})
        with pytest.raises(UnknownSaga):
            runtime.ref("nobody", "x")
