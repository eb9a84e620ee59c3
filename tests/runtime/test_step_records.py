"""What is kept of ordered saga and workflow: to look at, to go on from, and nobody's to change."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from perdure import (
    NonRetryable,
    OrderedSaga,
    Runtime,
    Status,
    Workflow,
    message,
    step,
)
from perdure.errors import InstanceNotFound, SagaStuck, SendTimeout
from perdure.testing import SimulatedClock
from tests.runtime.support import quickly, reopened, view_of

HOUR = timedelta(hours=1)


@message(name="records-test.Tour")
class Tour:
    """A mutable beginning: whoever is given one may change it."""

    id: str
    stops: list[str]
    end: str = ""


@step
def one(tour: Tour) -> dict[str, Any]:
    return {"stops": [*tour.stops, "one"]}


@step
def two(tour: Tour) -> dict[str, Any]:
    return {"end": tour.stops[-1]}


def undone(tour: Tour) -> None:
    """What undoes a step."""


def saga_of(*functions: Any) -> OrderedSaga:
    saga = OrderedSaga("records-test.tour", Tour, by="id")
    for function in functions:
        saga.step(function)
        saga.compensates(function)(undone)
    return saga


def workflow_of(*functions: Any) -> Workflow:
    return Workflow("records-test.tour", Tour, by="id", steps=functions)


@pytest.mark.parametrize("kind", [saga_of, workflow_of])
@quickly
async def test_a_command_sent_before_a_restart_is_performed_after_it(store, clock, kind):
    saga = kind(one, two)
    async with Runtime(store, [saga], clock=clock) as runtime:
        ref = runtime.ref(saga, "t")
        await runtime.queue("records-test.tour.two").pause("not now")
        await clock.advance(HOUR)
        await runtime.publish(Tour("t", ["zero"]))
        await runtime.settled()
        before = await view_of(runtime, ref)
    async with Runtime(reopened(store), [saga], clock=clock) as runtime:
        ref = runtime.ref(saga, "t")
        after = await view_of(runtime, ref)
        assert after == before
        assert after.status is Status.RUNNING
        assert (after.state.mode, after.state.failed_step) == ("forward", "")
        assert after.state.steps == {"one": "completed", "two": "running"}
        assert after.state.completed == ("one",)
        assert after.state.data == Tour("t", ["zero", "one"])
        await runtime.queue("records-test.tour.two").resume()
        assert await runtime.result(ref) == Tour("t", ["zero", "one"], "one")
        ended = await view_of(runtime, ref)
        assert (ended.status, ended.state.outcome) == (Status.COMPLETED, "completed")


@pytest.mark.parametrize("kind", [saga_of, workflow_of])
@quickly
async def test_before_a_step_is_what_it_was_given_and_after_it_what_it_gave(store, clock, kind):
    saga = kind(one, two)
    async with Runtime(store, [saga], clock=clock) as runtime:
        begun_at = clock.now
        await runtime.publish(Tour("t", []))
        await runtime.result(runtime.ref(saga, "t"))
        turns = [turn async for turn in runtime.history(runtime.ref(saga, "t"))]
    assert [turn.at for turn in turns] == [begun_at] * 3
    assert turns[0].message == Tour("t", []), "what it began with"
    given = [sent.content for turn in turns for sent in turn.sent]
    assert [(sent.step, sent.key, sent.data) for sent in given] == [
        ("one", "records-test.tour/t/one", Tour("t", [])),
        ("two", "records-test.tour/t/two", Tour("t", ["one"])),
    ]
    assert [(turn.message.step, turn.message.data) for turn in turns[1:]] == [
        ("one", Tour("t", ["one"])),
        ("two", Tour("t", ["one"], "one")),
    ]


@pytest.mark.parametrize("kind", [saga_of, workflow_of])
@quickly
async def test_what_was_recorded_stays_whatever_becomes_of_the_objects(store, kind):
    mine: list[Any] = []

    def changes(tour: Tour) -> dict[str, Any]:
        mine.append(tour)
        tour.stops.append("not returned")
        return {"end": "changed"}

    def gives(tour: Tour) -> dict[str, Any]:
        mine.append(tour)
        return {"stops": tour.stops}

    saga = kind(changes, gives, two)
    begun = Tour("t", ["zero"])
    async with Runtime(store, [saga]) as runtime:
        ref = runtime.ref(saga, "t")
        await runtime.publish(begun)
        result = await runtime.result(ref)
        history = [repr(turn) async for turn in runtime.history(ref)]
        for tour in (begun, result, *mine, (await view_of(runtime, ref)).state.data):
            tour.stops.append("afterwards")
        assert (await view_of(runtime, ref)).state.data == Tour("t", ["zero"], "zero")
        assert [repr(turn) async for turn in runtime.history(ref)] == history
    async with Runtime(reopened(store), [saga]) as runtime:
        ref = runtime.ref(saga, "t")
        assert await runtime.result(ref) == Tour("t", ["zero"], "zero")
        assert [repr(turn) async for turn in runtime.history(ref)] == history


@quickly
async def test_a_view_says_when_an_instance_began_and_when_it_last_changed(store):
    clock, saga = SimulatedClock(), saga_of(one, two)
    begun_at = clock.now
    async with Runtime(store, [saga], clock=clock) as runtime:
        await runtime.queue("records-test.tour.two").pause()
        await runtime.publish(Tour("t", []))
        await runtime.settled()
    await clock.advance(HOUR)
    async with Runtime(reopened(store), [saga], clock=clock) as runtime:
        ref = runtime.ref(saga, "t")
        view = await view_of(runtime, ref)
        assert (view.started_at, view.updated_at) == (begun_at, begun_at)
        await runtime.queue("records-test.tour.two").resume()
        await runtime.result(ref)
        view = await view_of(runtime, ref)
        assert (view.started_at, view.updated_at) == (begun_at, begun_at + HOUR)


@quickly
async def test_a_step_that_has_failed_for_good_is_a_dead_letter_until_it_is_resumed(store):
    is_open = False

    def opens(tour: Tour) -> None:
        if not is_open:
            raise NonRetryable("closed")

    saga = workflow_of(one, opens)
    async with Runtime(store, [saga]) as runtime:
        ref = runtime.ref(saga, "t")
        await runtime.publish(Tour("t", []))
        with pytest.raises(SagaStuck, match="NonRetryable: closed"):
            await runtime.result(ref)
        (letter,) = [one async for one in runtime.dead_letters.list(saga=saga)]
        assert (letter.queue, letter.attempts, letter.is_told) == (f"{saga.name}.opens", 1, True)
        assert letter.content.data == Tour("t", ["one"])
        assert "Traceback" in letter.error
        is_open = True
        await runtime.resume(ref)
        assert await runtime.result(ref) == Tour("t", ["one"])
        assert [one async for one in runtime.dead_letters.list()] == []


@quickly
async def test_what_nobody_has_begun_is_not_there_and_is_neither_resumed_nor_cancelled(store):
    saga = workflow_of(one)
    async with Runtime(store, [saga]) as runtime:
        ref = runtime.ref(saga, "t")
        assert await runtime.state(ref) is None
        assert [turn async for turn in runtime.history(ref)] == []
        with pytest.raises(SendTimeout):
            await runtime.result(ref, timeout_s=0.01)
        for ask in (runtime.resume, runtime.cancel):
            with pytest.raises(InstanceNotFound, match="there is no such instance"):
                await ask(ref)
        assert await runtime.state(ref) is None
        await runtime.publish(Tour("t", []))
        assert await runtime.result(ref) == Tour("t", ["one"])
