"""Ordered sagas through the public API: what is recorded, undone, listed, resumed."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from perdure import (
    Fixed,
    Job,
    NonRetryable,
    OrderedSaga,
    Residue,
    Runtime,
    SqlStore,
    Status,
    message,
)
from perdure.errors import SagaFailed, SagaStuck
from perdure.testing import SimulatedClock
from tests.runtime.support import FreeClock, quickly, reopened, until, view_of

ONCE = Fixed(0.001, max_attempts=1)


@message(name="trips-test.Trip")
class Trip:
    id: str
    hotel: str = ""
    flight: str = ""
    car: str = ""


@dataclass
class Agency:
    """What the steps did, in order; and what they shall do by name."""

    deeds: dict[str, Callable[[Job], Any]] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    keys: dict[str, set[str]] = field(default_factory=dict)

    async def do(self, what: str, job: Job) -> Any:
        self.log.append(what)
        self.keys.setdefault(what, set()).add(job.key)
        deed = self.deeds.get(what)
        found = deed(job) if deed is not None else None
        return await found if asyncio.iscoroutine(found) else found


def refuse(text: str = "no seat") -> Callable[[Job], Any]:
    def deed(job: Job) -> Any:
        raise NonRetryable(text)

    return deed


def trip(**flight: Any) -> OrderedSaga:
    saga = OrderedSaga("trips-test.trip", Trip, by="id")

    @saga.step(retry=ONCE)
    async def book_hotel(trip: Trip, job: Job, agency: Agency) -> Any:
        await agency.do("book hotel", job)
        return {"hotel": f"room for {trip.id}"}

    @saga.compensates(book_hotel, retry=ONCE)
    async def cancel_hotel(trip: Trip, job: Job, agency: Agency) -> Any:
        assert trip.hotel == f"room for {trip.id}"
        return await agency.do("cancel hotel", job)

    @saga.step(**{"retry": ONCE, **flight})
    async def book_flight(trip: Trip, job: Job, agency: Agency) -> Any:
        await agency.do("book flight", job)
        return {"flight": f"seat for {trip.hotel}"}

    @saga.compensates(book_flight, retry=ONCE)
    async def cancel_flight(trip: Trip, job: Job, agency: Agency) -> Any:
        return await agency.do("cancel flight", job)

    @saga.step(nothing_to_undo=True, retry=ONCE)
    async def hire_car(trip: Trip, job: Job, agency: Agency) -> Any:
        await agency.do("hire car", job)
        return {"car": "red"}

    return saga


def runtime_over(store: Any, agency: Agency, clock: Any = None, **flight: Any) -> Runtime:
    return Runtime(store, [trip(**flight)], resources={"agency": agency}, clock=clock)


def ref(runtime: Runtime, id: str = "t") -> Any:
    return runtime.ref("trips-test.trip", id)


async def events(runtime: Runtime) -> list[list[str]]:
    return [
        [type(event).__name__ for event in turn.events]
        async for turn in runtime.history(ref(runtime))
    ]


async def letters(runtime: Runtime) -> list[Any]:
    return [letter async for letter in runtime.dead_letters.list()]


@quickly
async def test_steps_one_after_another_see_each_others_results(store):
    agency = Agency()
    async with runtime_over(store, agency) as runtime:
        await runtime.publish(Trip("t"))
        done = await runtime.result(ref(runtime))
        assert done == Trip("t", "room for t", "seat for room for t", "red")
        assert await events(runtime) == [
            ["Trip", "StepStarted"],
            ["StepCompleted", "StepAdvanced", "StepStarted"],
            ["StepCompleted", "StepAdvanced", "StepStarted"],
            ["StepCompleted", "Completed"],
        ]
    assert agency.log == ["book hotel", "book flight", "hire car"]
    assert agency.keys["book hotel"] == {"trips-test.trip/t/book_hotel"}
    async with runtime_over(reopened(store), agency) as runtime:
        assert await runtime.result(ref(runtime)) == done, "also after a restart"


@quickly
async def test_what_was_done_is_undone_and_the_rest_never_touched(store):
    agency = Agency({"book flight": refuse(), "cancel hotel": lambda _: Residue("fee", 25)})
    async with runtime_over(store, agency) as runtime:
        await runtime.publish(Trip("t"))
        with pytest.raises(SagaFailed, match="no seat") as raised:
            await runtime.result(ref(runtime))
        assert (raised.value.saga, raised.value.correlation_id) == ("trips-test.trip", "t")
        view = await view_of(runtime, ref(runtime))
        assert (view.status, view.state.outcome) == (Status.FAILED, "compensated with residue")
        assert view.state.residues == (Residue("fee", 25),)
        assert await events(runtime) == [
            ["Trip", "StepStarted"],
            ["StepCompleted", "StepAdvanced", "StepStarted"],
            ["CommandFailed", "StepFailed", "CompensationStarted", "CompensationStepStarted"],
            ["StepCompensated", "CompensationCompleted"],
        ]
    assert agency.log == ["book hotel", "book flight", "cancel hotel"]
    async with runtime_over(reopened(store), agency) as runtime:
        with pytest.raises(SagaFailed, match="no seat"):
            await runtime.result(ref(runtime))


@quickly
async def test_a_compensation_that_fails_is_stuck_listed_and_resumed_under_the_same_key(store):
    agency = Agency({"book flight": refuse(), "cancel hotel": refuse("nobody is there")})
    async with runtime_over(store, agency) as runtime:
        await runtime.publish(Trip("t"))
        with pytest.raises(SagaStuck, match="nobody is there"):
            await runtime.result(ref(runtime))
    async with runtime_over(reopened(store), agency) as runtime:
        stuck = [view async for view in runtime.instances("trips-test.trip", status="stuck")]
        assert [view.correlation_id for view in stuck] == ["t"]
        assert stuck[0].state.outcome == "stuck"
        assert "nobody is there" in (stuck[0].failure or "")
        await runtime.resume(runtime.ref_to(stuck[0]))
        await runtime.settled()
        assert (await view_of(runtime, ref(runtime))).status is Status.STUCK, "still so"
        assert len([one for one in await letters(runtime) if "undo" in one.queue]) == 1
        del agency.deeds["cancel hotel"]
        await runtime.resume(ref(runtime))
        with pytest.raises(SagaFailed, match=r"no seat \(compensated\)"):
            await runtime.result(ref(runtime))
        await runtime.settled()
        assert not [one for one in await letters(runtime) if "undo" in one.queue]
    assert agency.log.count("cancel hotel") == 3
    assert len(agency.keys["cancel hotel"]) == 1


@quickly
async def test_redriving_the_dead_letter_of_a_compensation_frees_it_as_well(store):
    agency = Agency({"book flight": refuse(), "cancel hotel": refuse("nobody is there")})
    async with runtime_over(store, agency) as runtime:
        await runtime.publish(Trip("t"))
        with pytest.raises(SagaStuck):
            await runtime.result(ref(runtime))
        del agency.deeds["cancel hotel"]
        (letter,) = [one for one in await letters(runtime) if "undo" in one.queue]
        assert await runtime.dead_letters.redrive(letter.id)
        await runtime.settled()
        with pytest.raises(SagaFailed, match=r"\(compensated\)"):
            await runtime.result(ref(runtime))


async def hang(job: Job) -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("unknown", "log", "outcome"),
    [
        ("compensate", ["cancel flight", "cancel hotel"], "compensated"),
        ("retry", [], "stuck"),
    ],
)
@quickly
async def test_a_step_nobody_knows_the_end_of_is_undone_or_stuck(unknown, log, outcome, memory):
    agency = Agency({"book flight": hang})
    options = {"unknown": unknown, "lease_s": 0.02}
    async with runtime_over(memory, agency, **options) as runtime:
        await runtime.publish(Trip("t"))
        with pytest.raises((SagaFailed, SagaStuck)):
            await runtime.result(ref(runtime))
        view = await view_of(runtime, ref(runtime))
        assert view.state.outcome == outcome
        assert agency.log == ["book hotel", "book flight", *log]
        if unknown == "retry":
            del agency.deeds["book flight"]
            await runtime.resume(ref(runtime))
            assert (await runtime.result(ref(runtime))).car == "red"
            assert len(agency.keys["book flight"]) == 1, "the same key"


@pytest.mark.parametrize("unknown", ["retry", "compensate"])
@quickly
async def test_after_a_crash_in_a_step_its_policy_decides(unknown, tmp_path):
    started, may_end = asyncio.Event(), asyncio.Event()

    async def wait(job: Job) -> None:
        started.set()
        await may_end.wait()

    agency = Agency({"book flight": wait})
    before, after = tmp_path / "before.db", tmp_path / "after.db"

    def over(path: Any) -> Runtime:
        store = SqlStore(f"sqlite+aiosqlite:///{path}", synchronous="NORMAL")
        return runtime_over(store, agency, unknown=unknown, retry=Fixed(0.001, max_attempts=5))

    async with over(before) as runtime:
        await runtime.publish(Trip("t"))
        await started.wait()
        shutil.copy(before, after)  # what a crash leaves behind
        shutil.copy(f"{before}-wal", f"{after}-wal")
        may_end.set()
        await runtime.result(ref(runtime))
    agency.log.clear()
    async with over(after) as runtime:
        if unknown == "retry":
            assert (await runtime.result(ref(runtime))).car == "red"
            assert agency.log == ["book flight", "hire car"]
        else:
            with pytest.raises(SagaFailed, match=r"\(compensated\)"):
                await runtime.result(ref(runtime))
            assert agency.log == ["cancel flight", "cancel hotel"]
    assert len(agency.keys["book flight"]) == 1


@quickly
async def test_a_step_past_its_deadline_has_failed(memory):
    agency = Agency({"book flight": hang})
    clock = FreeClock()  # the worker never ends by itself
    options = {"deadline": timedelta(minutes=1), "unknown": "compensate"}
    async with runtime_over(memory, agency, clock, **options) as runtime:
        await runtime.publish(Trip("t"))
        await until(lambda: "book flight" in agency.log)
        await clock.advance(timedelta(minutes=1))
        with pytest.raises(SagaFailed, match="is up"):
            await runtime.result(ref(runtime))
    assert agency.log[2:] == ["cancel flight", "cancel hotel"]


@quickly
async def test_whoever_is_cancelled_undoes_what_was_done(store):
    agency, clock = Agency(), SimulatedClock()
    async with runtime_over(store, agency, clock) as runtime:
        await runtime.queue("trips-test.trip.book_flight").pause()
        await runtime.publish(Trip("t"))
        await runtime.settled()
        await runtime.cancel(ref(runtime), "changed plans")
        await runtime.queue("trips-test.trip.book_flight").resume()
        with pytest.raises(SagaFailed, match=r"cancelled: changed plans \(compensated\)"):
            await runtime.result(ref(runtime))
    assert agency.log == ["book hotel", "book flight", "cancel flight", "cancel hotel"]


@quickly
async def test_a_definition_that_lost_a_step_leaves_its_instances_stuck_until_it_is_back(store):
    agency = Agency()
    async with runtime_over(store, agency) as runtime:
        await runtime.queue("trips-test.trip.book_flight").pause()
        await runtime.publish(Trip("t"))
        await runtime.settled()
    other = OrderedSaga("trips-test.trip", Trip, by="id")

    @other.step(nothing_to_undo=True)
    async def walk(trip: Trip) -> None: ...

    async with Runtime(reopened(store), [other]) as runtime:
        await runtime.resume(ref(runtime))
        view = await view_of(runtime, ref(runtime))
        assert view.status is Status.STUCK
        assert "is not in the definition any more; put it back" in (view.failure or "")
    async with runtime_over(reopened(reopened(store)), agency) as runtime:
        await runtime.resume(ref(runtime))
        await runtime.queue("trips-test.trip.book_flight").resume()
        assert (await runtime.result(ref(runtime))).car == "red"
    assert agency.log == ["book hotel", "book flight", "hire car"]
