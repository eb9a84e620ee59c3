"""Causes between instances: children and parents, published events, dead letters redriven."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from perdure import (
    ChildEnded,
    Effects,
    MemoryStore,
    ProcessManager,
    Runtime,
    message,
    on_child_ended,
    starts,
)
from perdure.errors import HandlerFailed
from tests.ops.parcels import RAISES, Damaged, Ordered, Tough, depot
from tests.ops.spans import Traces
from tests.runtime.support import quickly


@message(name="ops-test.Asked")
class Asked:
    id: str


@message(name="ops-test.Checked")
class Checked:
    id: str


@message(name="ops-test.Told")
class Told:
    id: str


@dataclass(frozen=True)
class Nothing:
    pass


class Checks(ProcessManager[Nothing]):
    name = "checks"

    @starts(Checked, by="id")
    def checked(self, state: Nothing, event: Checked, do: Effects) -> None:
        do.publish(Told(event.id))
        do.complete()


class Onboarding(ProcessManager[Nothing]):
    name = "onboarding"

    @starts(Asked, by="id")
    def asked(self, state: Nothing, event: Asked, do: Effects) -> None:
        do.start_child("kyc", Checks, Checked(event.id))

    @on_child_ended("kyc")
    def done(self, state: Nothing, ended: ChildEnded, do: Effects) -> None:
        do.complete()


class Listener(ProcessManager[Nothing]):
    name = "listener"

    @starts(Told, by="id")
    def told(self, state: Nothing, event: Told, do: Effects) -> None: ...


@quickly
async def test_children_parents_and_listeners_are_linked_to_the_turns_that_caused_theirs():
    traces = Traces()
    members = [Onboarding, Checks, Listener]
    async with Runtime(MemoryStore(), members, tracing=traces.tracing) as runtime:
        await runtime.publish(Asked("u-1"))
        await runtime.settled()
    child = "checks/u-1/kyc"
    assert traces.graph() == {
        "onboarding/u-1 #1": set(),
        f"{child} #1": {("cause", "onboarding/u-1 #1")},
        f"{child} completed": {("first", f"{child} #1"), ("last", f"{child} #1")},
        "listener/u-1 #1": {("cause", f"{child} #1")},
        "onboarding/u-1 #2": {("cause", f"{child} #1"), ("previous", "onboarding/u-1 #1")},
        "onboarding/u-1 completed": {
            ("first", "onboarding/u-1 #1"),
            ("last", "onboarding/u-1 #2"),
        },
    }


@pytest.mark.parametrize("traced_again", [True, False])
@quickly
async def test_a_dead_letter_that_comes_again_keeps_its_cause_and_no_span_of_its_failure(
    traced_again,
):
    traces, store = Traces(), MemoryStore()
    RAISES[:] = [ValueError("dented")]
    async with Runtime(store, [Tough, depot()], tracing=traces.tracing) as runtime:
        await runtime.publish(Ordered("a"))
        await runtime.settled()
        with traces.users.start_as_current_span("request"), pytest.raises(HandlerFailed):
            await runtime.publish(Damaged("a"))
    async with Runtime(
        store, [Tough, depot()], tracing=traces.tracing if traced_again else None
    ) as runtime:
        [letter] = [one async for one in runtime.dead_letters.list()]
        await runtime.dead_letters.redrive(letter.id)
        await runtime.settled()
    async with Runtime(store, [Tough, depot()], tracing=traces.tracing) as runtime:
        await runtime.publish(Damaged("a"))
    graph = traces.graph()
    if traced_again:
        assert graph["tough/a #3"] == {("cause", "outside"), ("previous", "tough/a #2")}
        assert graph["tough/a #4"] == {("previous", "tough/a #3")}
    else:
        assert graph["tough/a #4"] == {("previous", "tough/a #2")}  # the one before has no span
