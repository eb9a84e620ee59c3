"""What this code does not understand stops its instance only, writes nothing, and waits for code
that does."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest

from perdure import (
    Effects,
    Job,
    Outcome,
    ProcessManager,
    Runtime,
    WorkQueue,
    applies,
    continues,
    errors,
    message,
    on_deadline,
    starts,
)
from perdure.messages import DeadlineReached, type_info_of
from tests.runtime.support import quickly, reopened

Upcast = Callable[[dict[str, Any]], Any]


@dataclass(frozen=True)
class TripState:
    legs: tuple[int, ...] = ()
    late: bool = False
    status: str = "new"


@message(name="runtime-test.drive")
class Drive:
    id: str


@message(name="runtime-test.driven")
class Driven:
    id: str


class Code:
    """One release: its messages, its saga, its queue. ``driven`` are the jobs that were done."""

    def __init__(
        self,
        version: int = 1,
        upcast: Upcast | None = None,
        fold: Callable[[Any], None] | None = None,
    ) -> None:
        upcasters = {1: upcast} if upcast is not None else {}
        self.driven: list[str] = []

        @message(name="runtime-test.leg", version=version, upcasters=upcasters)
        @dataclass(frozen=True)
        class Leg:
            id: str
            n: int

        @message(name="runtime-test.set-off")
        @dataclass(frozen=True)
        class SetOff:
            id: str

        class Trip(ProcessManager[TripState]):
            name = "Trip"

            @starts(SetOff, by="id")
            def set_off(self, state: TripState, event: SetOff, do: Effects) -> None:
                do.deadline("late", timedelta(minutes=5))

            @continues(Leg, by="id")
            def leg(self, state: TripState, event: Leg, do: Effects) -> None:
                do.send(Drive(event.id), queue="drives")

            @continues(Driven, by="id")
            def has_driven(self, state: TripState, event: Driven, do: Effects) -> None: ...

            @on_deadline("late")
            def is_late(self, state: TripState, do: Effects) -> None: ...

            @applies(DeadlineReached)
            def note_late(self, state: TripState, event: DeadlineReached) -> TripState:
                return replace(state, late=True)

            @applies(Leg)
            def travel(self, state: TripState, event: Leg) -> TripState:
                if fold is not None:
                    fold(event)
                return replace(state, legs=(*state.legs, event.n))

        self.leg, self.set_off, self.saga = Leg, SetOff, Trip
        self.queue = WorkQueue("drives")
        self.marked: list[Any] = [Leg, SetOff]

    def with_workers(self) -> Code:
        driven = self.driven

        @self.queue.worker
        async def drive(command: Drive, job: Job) -> Driven:
            driven.append(command.id)
            return Driven(command.id)

        return self

    def runtime(self, store: Any, clock: Any, *, without_saga: bool = False) -> Runtime:
        members: list[Any] = [self.queue] if without_saga else [self.saga, self.queue]
        return Runtime(store, members, clock=clock)


@contextmanager
def released(code: Code):
    """Only one release is loaded at a time."""
    infos = [(cls, type_info_of(cls)) for cls in code.marked]
    for cls, info in infos:
        cls.__perdure_type__ = info
    try:
        yield code
    finally:
        for cls, _ in infos:
            del cls.__perdure_type__
        for cls, info in infos:
            cls.__perdure_info__ = info


def again(code: Code) -> Code:
    for cls in code.marked:
        if hasattr(cls, "__perdure_info__"):
            cls.__perdure_type__ = cls.__perdure_info__
    return code


def failing(_: Any) -> Any:
    raise RuntimeError("no more of this")


BROKEN: dict[str, Callable[[], Code]] = {
    "an upcaster that raises": lambda: Code(2, upcast=failing),
    "an upcaster that returns nonsense": lambda: Code(2, upcast=lambda old: 42),
    "an upcaster that forgets a field": lambda: Code(2, upcast=lambda old: {"id": old["id"]}),
    "a fold that raises": lambda: Code(fold=failing),
    "a version it does not know": Code,
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
@quickly
async def test_code_that_cannot_read_an_instance_leaves_it_to_code_that_can(store, clock, broken):
    good = (Code(2, upcast=dict) if broken is Code else Code()).with_workers()
    with released(good):
        async with Code.runtime(_without_workers(good), store, clock) as runtime:
            for id in ("x", "y"):
                await runtime.publish(good.set_off(id))
            await runtime.publish(good.leg("x", 1))
            await runtime.settled()
    bad = broken().with_workers()
    middle = reopened(store)
    with released(bad):
        async with bad.runtime(middle, clock) as runtime:
            before = await middle.journal("Trip/x")
            for _ in range(2):
                (receipt,) = await runtime.publish(bad.leg("x", 2))
                assert receipt.outcome is Outcome.HELD
            await runtime.settled()
            (aside,) = [one async for one in runtime.quarantined()]
            reason = "replay" if broken is BROKEN["a fold that raises"] else "undecodable"
            assert (aside.correlation_id, aside.reason, aside.held) == (
                "x",
                reason,
                3,
            )  # a result, too
            await clock.advance(timedelta(minutes=10))  # its deadline is due, its job is done
            assert (await runtime.state(runtime.ref(bad.saga, "y"))).state.late
            with pytest.raises(errors.InstanceQuarantined) as caught:
                await runtime.state(runtime.ref(bad.saga, "x"))
            assert (caught.value.saga, caught.value.correlation_id) == ("Trip", "x")
            assert caught.value.remedy
            assert await middle.journal("Trip/x") == before
    with released(again(good)):
        async with good.runtime(reopened(store), clock) as runtime:
            ref = runtime.ref(good.saga, "x")
            await runtime.release(ref)  # it is under way by itself: wait for its end
            await clock.settle()
            await clock.advance(timedelta(minutes=1))
            assert [one async for one in runtime.quarantined()] == []
            view = await runtime.state(ref)
            assert view is not None
            # What that code has written, of a version of its own, this one may not know.
            unknown = [letter.reason async for letter in runtime.dead_letters.list()]
            assert view.state.legs + (2,) * len(unknown) == (1, 2, 2)
            assert set(unknown) <= {"undecodable"}
            assert view.state.late
            turns = [turn.type async for turn in runtime.history(ref)]
            assert turns.count("runtime-test.driven") == len(view.state.legs)
            assert good.driven + bad.driven == ["x"] * len(view.state.legs)


def _without_workers(code: Code) -> Code:
    """The same release in a process that has no workers."""
    other = object.__new__(Code)
    other.__dict__ = {**code.__dict__, "queue": WorkQueue("drives")}
    return other


@quickly
async def test_a_saga_that_was_removed_is_kept_and_goes_on_when_it_is_back(store, clock, caplog):
    code = Code().with_workers()
    with released(code):
        async with _without_workers(code).runtime(store, clock) as runtime:
            await runtime.publish(code.set_off("x"))
            await runtime.publish(code.leg("x", 1))
            await runtime.settled()
        middle = reopened(store)
        async with code.runtime(middle, clock, without_saga=True):
            before = await middle.journal("Trip/x")
            await clock.advance(timedelta(minutes=10))
            assert await middle.journal("Trip/x") == before
        assert "does not run it" in caplog.text
        async with code.runtime(reopened(store), clock) as runtime:
            await clock.advance(timedelta(minutes=1))
            view = await runtime.state(runtime.ref(code.saga, "x"))
            assert view is not None
            assert view.state.late
            assert view.state.legs == (1,)
            turns = [turn.type async for turn in runtime.history(runtime.ref(code.saga, "x"))]
            assert turns.count("runtime-test.driven") == 1
    assert code.driven == ["x"]
