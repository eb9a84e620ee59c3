"""Ordered sagas through the public API, in the corners; the plain ways are in ``test_trips.py``."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from perdure import (
    ChildEnded,
    Effects,
    Fixed,
    Job,
    NonRetryable,
    OrderedSaga,
    Outcome,
    ProcessManager,
    Residue,
    Runtime,
    Settings,
    SqlStore,
    Status,
    WorkQueue,
    applies,
    continues,
    message,
    on_child_ended,
    starts,
)
from perdure.errors import InstanceFinished, InstanceNotFound, SagaFailed, SagaStuck
from perdure.testing import SimulatedClock
from tests.runtime.support import quickly, reopened, view_of

ONCE = Fixed(0.001, max_attempts=1)
NAME = "ordered-test.trip"


@message(name="ordered-test.Trip")
@dataclass(frozen=True)
class Trip:
    id: str
    hotel: str = ""
    flight: str = ""
    car: str = ""
    stops: list[str] = field(default_factory=list)


@message(name="ordered-test.Noticed")
class Noticed:
    id: str


Deed = Callable[[Trip, Job], Any]


class World:
    """What the steps do, by name, and what they did."""

    def __init__(self, **deeds: Any) -> None:
        self.deeds: dict[str, Any] = deeds
        self.log: list[str] = []
        self.may_end: dict[str, asyncio.Event] = {}

    def hold(self, *names: str) -> None:
        """These go on only when they are let go."""
        for name in names:
            self.may_end[name] = asyncio.Event()

    async def do(self, name: str, trip: Trip, job: Job) -> Any:
        self.log.append(name)
        if name in self.may_end:
            await self.may_end[name].wait()
        deed = self.deeds.get(name)
        if isinstance(deed, Exception):
            raise deed
        found = deed(trip, job) if callable(deed) else deed
        return await found if asyncio.iscoroutine(found) else found


def saga_of(*steps: str, **options: Any) -> OrderedSaga:
    """Steps by name, each with a compensation "un…"; options of a step by its name."""
    saga = OrderedSaga(NAME, Trip, by="id", **options.pop("saga", {}))
    for name in steps:
        declare(saga, name, **{"retry": ONCE, **options.get(name, {})})
    return saga


def declare(saga: OrderedSaga, name: str, undo: bool = True, **options: Any) -> None:
    async def perform(trip: Trip, job: Job, world: World) -> Any:
        return await world.do(name, trip, job)

    async def take_back(trip: Trip, job: Job, world: World) -> Any:
        return await world.do(f"un{name}", trip, job)

    if not undo and not options.get("pivot"):
        options["nothing_to_undo"] = True
    saga.step(name=name, **options)(perform)
    if undo and not options.get("pivot"):
        saga.compensates(name, retry=ONCE)(take_back)


def over(store: Any, saga: OrderedSaga, world: World, *others: Any, **given: Any) -> Runtime:
    clock = given.pop("clock", None)
    return Runtime(
        store, [saga, *others], Settings(**given), resources={"world": world}, clock=clock
    )


def ref(runtime: Runtime, id: str = "t") -> Any:
    return runtime.ref(NAME, id)


async def events(runtime: Runtime, id: str = "t") -> list[list[str]]:
    """Turn by turn, what was folded: "StepStarted hotel"."""
    return [
        [f"{type(one).__name__} {getattr(one, 'step', '')}".strip() for one in turn.events]
        async for turn in runtime.history(ref(runtime, id))
    ]


async def letters(runtime: Runtime) -> list[tuple[str, str, str]]:
    found = [letter async for letter in runtime.dead_letters.list()]
    return [(one.correlation_id, one.queue.removeprefix(f"{NAME}."), one.reason) for one in found]


async def ended(runtime: Runtime, id: str = "t") -> str:
    """How it has ended, in words."""
    try:
        await runtime.result(ref(runtime, id))
    except SagaFailed as error:
        return error.problem
    except SagaStuck as error:
        return f"stuck: {error.problem}"
    return "completed"


# Beside each other


@quickly
async def test_when_one_of_several_fails_the_others_are_awaited_and_undone_the_latest_first(store):
    saga = OrderedSaga(NAME, Trip, by="id")
    declare(saga, "visa", undo=False, retry=ONCE)
    for name in ("hotel", "flight", "car"):
        declare(saga, name, parallel="bookings", retry=ONCE)
    declare(saga, "mail", undo=False)
    world = World(
        hotel={"hotel": "Ritz"},
        flight=NonRetryable("full"),
        car={"car": "red"},
        uncar=Residue("fee", 9),
    )
    world.hold("hotel", "flight", "car")
    async with over(store, saga, world) as runtime:
        await runtime.publish(Trip("t"))
        for name in ("hotel", "flight", "car"):
            world.may_end[name].set()
            await turns(runtime, 3 + ["hotel", "flight", "car"].index(name))
        assert await ended(runtime) == (
            "flight: perdure.errors.NonRetryable: full (compensated with residue: fee 9)"
        )
        assert await events(runtime) == [
            ["Trip", "StepStarted visa"],
            ["StepCompleted visa", "StepAdvanced", "StepStarted hotel", "StepStarted flight",
             "StepStarted car"],
            ["StepCompleted hotel"],
            ["CommandFailed", "StepFailed flight", "CompensationStarted"],
            ["StepCompleted car", "CompensationStepStarted car"],
            ["StepCompensated car", "CompensationStepStarted hotel"],
            ["StepCompensated hotel", "CompensationSkipped visa", "CompensationCompleted"],
        ]  # fmt: skip
        view = await view_of(runtime, ref(runtime))
        assert view.state.data == Trip("t", hotel="Ritz", car="red")
        assert await letters(runtime) == [("t", "flight", "non-retryable")]
    assert world.log[-2:] == ["uncar", "unhotel"]
    async with over(reopened(store), saga, world) as runtime:
        assert (await view_of(runtime, ref(runtime))).state == view.state


async def turns(runtime: Runtime, count: int) -> None:
    """Until so many are journaled; the loop sleeps between, or it would keep the store waiting."""
    while (await view_of(runtime, ref(runtime))).sequence_nr < count:  # noqa: ASYNC110
        await asyncio.sleep(0.001)


@quickly
async def test_steps_that_change_their_data_in_place_change_only_what_they_return(store):
    def visit(name: str) -> Deed:
        def deed(trip: Trip, job: Job) -> Any:
            trip.stops.append(name)
            return {"stops": trip.stops} if name == "Rome" else {"hotel": name}

        return deed

    saga = saga_of("rome", "milan", "siena")
    world = World(rome=visit("Rome"), milan=visit("Milan"), siena=lambda trip, job: None)
    async with over(store, saga, world, snapshot_every=1) as runtime:
        await runtime.publish(trip := Trip("t", stops=["home"]))
        assert await runtime.result(ref(runtime)) == Trip("t", "Milan", stops=["home", "Rome"])
    assert trip.stops == ["home"]
    async with over(reopened(store), saga, world) as runtime:
        assert (await runtime.result(ref(runtime))).stops == ["home", "Rome"]


# What steps return


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (
            {"hotl": "Ritz"},
            "step 'hotel' returned 'hotl', which Trip does not take; return some of",
        ),
        ("Ritz", "step 'hotel' returned 'Ritz'; return a mapping of fields of Trip, or None"),
        ({"hotel": object()}, "cannot be stored"),
        ({"stops": [1]}, "cannot be stored"),
        ({"hotel": "\ud800"}, "cannot be stored"),
    ],
)
@quickly
async def test_a_step_whose_result_is_no_good_has_perhaps_been_done_and_waits(
    returned, said, store
):
    saga, world = saga_of("hotel"), World(hotel=returned)
    async with over(store, saga, world) as runtime:
        await runtime.publish(Trip("t"))
        end = await ended(runtime)
        assert end.startswith("stuck: hotel (failed, and nobody knows whether it had its effect)")
        assert said in end
        assert await letters(runtime) == [("t", "hotel", "non-retryable")]
        world.deeds["hotel"] = {"hotel": "Ritz"}
        await runtime.resume(ref(runtime))
        assert await runtime.result(ref(runtime)) == Trip("t", "Ritz")
        assert await letters(runtime) == []


@quickly
async def test_a_residue_that_cannot_be_stored_leaves_the_step_to_be_undone_again(store):
    world = World(flight=NonRetryable("full"), unhotel=Residue("fee", object()))
    async with over(store, saga_of("hotel", "flight"), world) as runtime:
        await runtime.publish(Trip("t"))
        assert "stuck: hotel (could not be undone)" in await ended(runtime)
        world.deeds["unhotel"] = [Residue("fee", 3), Residue("stamp")]
        await runtime.resume(ref(runtime))
        assert (await ended(runtime)).endswith("(compensated with residue: fee 3, stamp)")


@quickly
async def test_what_a_step_emits_goes_out_once_and_the_end_is_not_published(store):
    seen: list[str] = []
    hall = WorkQueue("ordered-test.hall")

    @hall.subscriber
    async def notice(event: Noticed) -> None:
        seen.append("noticed")

    @hall.subscriber
    async def trip(event: Trip) -> None:
        seen.append("trip")

    world = World(hotel=lambda trip, job: job.emit(Noticed(trip.id)))
    async with over(store, saga_of("hotel", "flight"), world, hall) as runtime:
        await runtime.publish(Trip("t"))
        await runtime.result(ref(runtime))
        await runtime.settled()
    assert sorted(seen) == ["noticed", "trip"], "the trip that was published, not its end"


# Attempts, doubts, deadlines


@quickly
async def test_known_failures_are_repeated_where_an_unknown_one_would_be_undone(store):
    attempts = []

    def deed(trip: Trip, job: Job) -> Any:
        attempts.append(job.attempt)
        raise ConnectionError("busy")

    retry = Fixed(0.001, max_attempts=3)
    saga = saga_of("hotel", hotel={"unknown": "compensate", "retry": retry})
    async with over(store, saga, World(hotel=deed)) as runtime:
        await runtime.publish(Trip("t"))
        assert await ended(runtime) == "hotel: ConnectionError: busy (compensated)"
    assert attempts == [1, 2, 3]


@pytest.mark.parametrize("pivot", [True, False])
@quickly
async def test_a_step_broken_off_by_a_crash_is_never_called_undone_when_it_fails_afterwards(
    pivot, tmp_path
):
    started, may_end = asyncio.Event(), asyncio.Event()

    async def at_work(trip: Trip, job: Job) -> None:
        started.set()
        await may_end.wait()

    world = World(flight=at_work)
    before, after = tmp_path / "before.db", tmp_path / "after.db"

    def at(path: Any) -> Runtime:
        store = SqlStore(f"sqlite+aiosqlite:///{path}", synchronous="NORMAL")
        flight = {"pivot": pivot, "retry": Fixed(0.001, max_attempts=3)}
        return over(store, saga_of("hotel", "flight", flight=flight), world)

    async with at(before) as runtime:
        await runtime.publish(Trip("t"))
        await started.wait()
        shutil.copy(before, after)  # what a crash leaves behind
        shutil.copy(f"{before}-wal", f"{after}-wal")
        may_end.set()
    world.deeds["flight"] = ConnectionError("no answer")
    world.log.clear()
    async with at(after) as runtime:
        for _ in range(2):
            assert await ended(runtime) == (
                "stuck: flight (failed, and nobody knows whether it had its effect): "
                "ConnectionError: no answer"
            )
            await runtime.resume(ref(runtime))
            await runtime.settled()
        assert "unhotel" not in world.log
        world.deeds["flight"] = NonRetryable("it was not booked")
        await runtime.resume(ref(runtime))
        assert await ended(runtime) == (
            "flight: perdure.errors.NonRetryable: it was not booked (compensated)"
        )
    assert world.log[-1] == "unhotel"


@quickly
async def test_a_deadline_that_ends_the_waiting_for_a_retry_is_no_doubt(store):
    clock = SimulatedClock()
    flight = {"deadline": timedelta(minutes=10), "retry": Fixed(240, max_attempts=None)}
    world = World(flight=ConnectionError("busy"))
    async with over(
        store, saga_of("hotel", "flight", flight=flight), world, clock=clock
    ) as runtime:
        await runtime.publish(Trip("t"))
        await clock.advance(timedelta(minutes=9))
        assert world.log == ["hotel", "flight", "flight", "flight", "unhotel"]
        assert await ended(runtime) == "flight: ConnectionError: busy (compensated)"


@quickly
async def test_the_deadline_counts_anew_when_it_is_resumed(store):
    clock = SimulatedClock()
    world = World(flight=ConnectionError("busy"))
    saga = OrderedSaga(NAME, Trip, by="id")
    declare(saga, "pay", pivot=True)
    retry = Fixed(45, max_attempts=None)
    declare(saga, "flight", undo=False, deadline=timedelta(minutes=1), retry=retry)
    async with over(store, saga, world, clock=clock) as runtime:
        await runtime.publish(Trip("t"))
        await clock.advance(timedelta(minutes=5))
        assert (await view_of(runtime, ref(runtime))).status is Status.STUCK
        world.log.clear()
        await runtime.resume(ref(runtime))
        await clock.advance(timedelta(minutes=5))
        assert world.log == ["flight", "flight"]
        assert (await view_of(runtime, ref(runtime))).status is Status.STUCK


@quickly
async def test_a_step_whose_job_is_cancelled_has_failed(store):
    saga = saga_of("hotel", "flight")
    async with over(store, saga, World()) as runtime:
        await runtime.queue(f"{NAME}.flight").pause()
        await runtime.publish(Trip("t"))
        await runtime.settled()
        (job,) = await runtime.store.outbox()
        await runtime.queue(f"{NAME}.flight").cancel(job.id)
        assert (
            await ended(runtime)
            == "flight: perdure.errors.JobError: the job was cancelled (compensated)"
        )


# Timeout, cancelling


@quickly
async def test_what_takes_too_long_is_undone_when_what_is_at_work_has_ended(store):
    clock = SimulatedClock()
    saga = saga_of("hotel", "flight", saga={"timeout": timedelta(hours=1)})
    world = World()
    async with over(store, saga, world, clock=clock) as runtime:
        await runtime.queue(f"{NAME}.flight").pause()
        await runtime.publish(Trip("t"))
        await clock.advance(timedelta(hours=2))
        view = await view_of(runtime, ref(runtime))
        assert (view.status, view.state.outcome) == (Status.RUNNING, "compensating")
    async with over(reopened(store), saga, world, clock=clock) as runtime:
        await runtime.queue(f"{NAME}.flight").resume()
        assert await ended(runtime) == "timed out (compensated)"
    assert world.log == ["hotel", "flight", "unflight", "unhotel"]


@quickly
async def test_past_the_pivot_neither_a_timeout_nor_a_cancellation_is_heard(store):
    clock = SimulatedClock()
    saga = OrderedSaga(NAME, Trip, by="id", timeout=timedelta(hours=1))
    declare(saga, "pay", pivot=True)
    declare(saga, "mail", undo=False)
    async with over(store, saga, World(), clock=clock) as runtime:
        await runtime.queue(f"{NAME}.mail").pause()
        await runtime.publish(Trip("t"))
        await runtime.settled()
        assert (await runtime.cancel(ref(runtime))).outcome is Outcome.APPLIED
        await clock.advance(timedelta(hours=2))
        assert (await view_of(runtime, ref(runtime))).state.outcome == "running"
        await runtime.queue(f"{NAME}.mail").resume()
        assert await ended(runtime) == "completed"


@quickly
async def test_what_comes_after_the_end_changes_nothing(store):
    world = World()
    async with over(store, saga_of("hotel"), world) as runtime:
        await runtime.publish(Trip("t"))
        await runtime.result(ref(runtime))
        (receipt,) = await runtime.publish(Trip("t"))
        assert receipt.outcome is Outcome.FINISHED
        for tell in (runtime.cancel, runtime.resume):
            with pytest.raises(InstanceFinished):
                await tell(ref(runtime))
            with pytest.raises(InstanceNotFound):
                await tell(ref(runtime, "nobody"))
        assert await ended(runtime) == "completed"
    assert world.log == ["hotel"]


# Stuck, and resumed


@quickly
async def test_resuming_clears_the_letters_of_its_own_steps_and_of_nobody_else(store):
    bystander = WorkQueue(f"{NAME}2")

    @bystander.worker
    def fail(command: Noticed) -> None:
        raise NonRetryable("no")

    world = World(flight=NonRetryable("full"), unhotel=NonRetryable("closed"))
    async with over(store, saga_of("hotel", "flight"), world, bystander) as runtime:
        for id in ("t", "u"):
            await runtime.publish(Trip(id))
        await runtime.enqueue(Noticed("x"))
        await runtime.settled()
        world.deeds["unhotel"] = None
        await runtime.resume(ref(runtime))
        assert (await ended(runtime)).endswith("(compensated)")
        assert sorted(await letters(runtime)) == [
            ("", f"{NAME}2", "non-retryable"),
            ("u", "flight", "non-retryable"),
            ("u", "hotel.undo", "non-retryable"),
        ]
        stuck = [one async for one in runtime.instances(NAME, status="stuck")]
        assert [one.correlation_id for one in stuck] == ["u"]


@quickly
async def test_resuming_what_is_not_stuck_or_again_under_one_id_leaves_the_letters(store):
    world = World(flight=NonRetryable("full"), unhotel=NonRetryable("closed"))
    async with over(store, saga_of("hotel", "flight"), world) as runtime:
        await runtime.queue(f"{NAME}.hotel.undo").pause()
        await runtime.publish(Trip("t"))
        await runtime.settled()
        await runtime.resume(ref(runtime))
        assert await letters(runtime) == [("t", "flight", "non-retryable")]
        await runtime.queue(f"{NAME}.hotel.undo").resume()
        await runtime.settled()
        await runtime.resume(ref(runtime), message_id="once")
        await runtime.settled()
        assert await letters(runtime) == [("t", "hotel.undo", "non-retryable")]
        assert (await runtime.resume(ref(runtime), message_id="once")).duplicate
        assert await letters(runtime) == [("t", "hotel.undo", "non-retryable")]
    assert world.log.count("unhotel") == 2


@quickly
async def test_waiters_hear_that_it_is_stuck_and_later_how_it_ended(store):
    world = World(flight=NonRetryable("full"), unhotel=NonRetryable("closed"))
    async with over(store, saga_of("hotel", "flight"), world) as runtime:
        waiting = [asyncio.create_task(ended(runtime)) for _ in range(2)]
        await runtime.publish(Trip("t"))
        for heard in await asyncio.gather(*waiting):
            assert "stuck: hotel (could not be undone)" in heard
        world.deeds["unhotel"] = None
        await runtime.resume(ref(runtime))
        assert "(compensated)" in await ended(runtime)


# The definition changes


@quickly
async def test_steps_renamed_while_they_wait_are_found_out_and_go_on_when_they_are_back(store):
    world = World()
    world.hold("hotel")
    async with over(store, saga_of("hotel", "flight"), world) as runtime:
        await runtime.queue(f"{NAME}.flight").pause()
        await runtime.publish(Trip("t"))
        world.may_end["hotel"].set()
        await runtime.settled()
    store = reopened(store)
    async with over(store, saga_of("lodging", "flight"), world) as runtime:
        await runtime.queue(f"{NAME}.flight").resume()
        assert await ended(runtime) == (
            "stuck: step 'hotel', completed, is not in the definition any more; put it back"
        )
        await runtime.resume(ref(runtime))
        assert (await ended(runtime)).startswith("stuck: step 'hotel'")
    assert world.log == ["hotel", "flight"], "what was sent is performed, nothing else"
    async with over(reopened(store), saga_of("hotel", "flight", "car"), world) as runtime:
        await runtime.resume(ref(runtime))
        assert await ended(runtime) == "completed"
    assert world.log == ["hotel", "flight", "car"]


@message(name="ordered-test.Journey")
class Journey:
    id: str


@quickly
async def test_another_data_class_under_running_instances_is_refused_before_a_step_sees_it(store):
    world = World()
    async with over(store, saga_of("hotel", "flight"), world) as runtime:
        await runtime.queue(f"{NAME}.flight").pause()
        await runtime.publish(Trip("t"))
        await runtime.settled()
    other = OrderedSaga(NAME, Journey, by="id")
    declare(other, "hotel", retry=ONCE)
    declare(other, "flight", retry=ONCE)
    store = reopened(store)
    async with over(store, other, world) as runtime:
        await runtime.queue(f"{NAME}.flight").resume()
        assert "no Journey; bring its class back" in await ended(runtime)
    assert world.log == ["hotel"]
    async with over(reopened(store), saga_of("hotel", "flight"), world) as runtime:
        await runtime.resume(ref(runtime))
        assert await ended(runtime) == "completed"
    assert world.log == ["hotel", "flight"]


def version(number: int) -> type:
    """The data of a saga, whose field was renamed in version 2."""
    if number == 1:

        @message(name="ordered-test.Versioned")
        @dataclass(frozen=True)
        class One:
            id: str
            hotel: str = ""
            car: str = ""

        return One

    def renamed(old: dict[str, Any]) -> dict[str, Any]:
        return {"id": old["id"], "lodging": old["hotel"], "car": old["car"]}

    @message(name="ordered-test.Versioned", version=2, upcasters={1: renamed})
    @dataclass(frozen=True)
    class Two:
        id: str
        lodging: str = ""
        car: str = ""
        mail: str = ""

    return Two


def versioned(data: Any, parallel: str | None) -> OrderedSaga:
    saga = OrderedSaga("ordered-test.versioned", data, by="id")
    has_mail = "mail" in data.__dataclass_fields__
    hotel = "lodging" if has_mail else "hotel"

    @saga.step(parallel=parallel, nothing_to_undo=True)
    async def book(trip: Any) -> Any:
        return {hotel: "Ritz"}

    @saga.step(parallel=parallel, nothing_to_undo=True)
    async def hire(trip: Any) -> Any:
        return {"car": "red"}

    @saga.step(nothing_to_undo=True)
    async def mail(trip: Any) -> Any:
        return {"mail": f"{trip.lodging}, {trip.car}"} if has_mail else {}

    return saga


@pytest.mark.parametrize("snapshot_every", [1, 100])
@pytest.mark.parametrize("parallel", [None, "beside"])
@quickly
async def test_data_of_an_older_version_is_brought_up_in_the_midst_of_a_saga(
    parallel, snapshot_every, store
):
    given = Settings(snapshot_every=snapshot_every)
    one = version(1)
    async with Runtime(store, [versioned(one, parallel)], given) as runtime:
        await runtime.queue("ordered-test.versioned.mail").pause()
        await runtime.publish(one("t"), message_id="m")
        await runtime.settled()
    two = version(2)
    async with Runtime(reopened(store), [versioned(two, parallel)], given) as runtime:
        await runtime.queue("ordered-test.versioned.mail").resume()
        done = await runtime.result(runtime.ref("ordered-test.versioned", "t"))
        assert done == two("t", "Ritz", "red", "Ritz, red")


# Among others


@quickly
async def test_sagas_that_begin_with_the_same_class_all_begin_and_one_by_its_ref(store):
    other = OrderedSaga("ordered-test.other", Trip, by="id")
    declare(other, "insure", undo=False)
    world = World()
    async with over(store, saga_of("hotel"), world, other) as runtime:
        assert len(await runtime.publish(Trip("t"))) == 2
        await runtime.result(ref(runtime))
        await runtime.result(runtime.ref(other, "t"))
        await runtime.send(runtime.ref(other, "u"), Trip("u"))
        await runtime.result(runtime.ref(other, "u"))
        assert await runtime.state(ref(runtime, "u")) is None
    assert sorted(world.log) == ["hotel", "insure", "insure"]


@message(name="ordered-test.Asked")
class Asked:
    id: str


@message(name="ordered-test.GivenUp")
class GivenUp:
    id: str


@dataclass(frozen=True)
class Heard:
    ends: tuple[ChildEnded, ...] = ()


class Office(ProcessManager[Heard]):
    name = "ordered-test.Office"

    @starts(Asked, by="id")
    def asked(self, state: Heard, event: Asked, do: Effects) -> None:
        do.start_child("booking", NAME, Trip(event.id))

    @continues(GivenUp, by="id")
    def given_up(self, state: Heard, event: GivenUp, do: Effects) -> None:
        do.fail("closed")

    @on_child_ended("booking")
    def booked(self, state: Heard, ended: ChildEnded, do: Effects) -> None: ...

    @applies(ChildEnded)
    def hear(self, state: Heard, event: ChildEnded) -> Heard:
        return Heard((*state.ends, event))


@quickly
async def test_a_saga_may_be_a_child_that_tells_its_end_and_is_undone_with_its_parent(store):
    world = World(flight={"flight": "seat"})
    async with over(store, saga_of("hotel", "flight"), world, Office) as runtime:
        await runtime.publish(Asked("a"))
        await runtime.settled()
        view = await view_of(runtime, runtime.ref(Office, "a"))
        (end,) = view.state.ends
        assert (end.status, end.result) == ("completed", Trip("a", flight="seat"))
        world.deeds["flight"] = NonRetryable("full")
        await runtime.publish(Asked("b"))
        await runtime.settled()
        view = await view_of(runtime, runtime.ref(Office, "b"))
        (end,) = view.state.ends
        assert (end.status, end.error) == (
            "failed",
            "flight: perdure.errors.NonRetryable: full (compensated)",
        )
        await runtime.queue(f"{NAME}.flight").pause()
        await runtime.publish(Asked("c"))
        await runtime.settled()
        await runtime.publish(GivenUp("c"))
        await runtime.settled()
        world.deeds["flight"] = None
        await runtime.queue(f"{NAME}.flight").resume()
        assert await ended(runtime, "c/booking") == (
            "cancelled: ordered-test.Office/c has failed (compensated)"
        )
    assert world.log[-2:] == ["unflight", "unhotel"]


@quickly
async def test_many_instances_at_once_keep_to_themselves(store):
    def fly(trip: Trip, job: Job) -> Any:
        if int(trip.id) % 3 == 0:
            raise NonRetryable("full")
        return {"flight": trip.hotel}

    world = World(hotel=lambda trip, job: {"hotel": f"room {trip.id}"}, flight=fly)
    async with over(store, saga_of("hotel", "flight"), world, residents_max=5) as runtime:
        ids = [str(number) for number in range(60)]
        await asyncio.gather(*(runtime.publish(Trip(id)) for id in ids))
        ends = await asyncio.gather(*(ended(runtime, id) for id in ids))
        for id, end in zip(ids, ends, strict=True):
            view = await view_of(runtime, ref(runtime, id))
            is_full = int(id) % 3 == 0
            assert end.endswith("(compensated)") == is_full
            assert view.state.data.flight == ("" if is_full else f"room {id}")
    assert world.log.count("unhotel") == 20


@quickly
async def test_what_cannot_be_sent_on_for_its_size_waits_until_it_can(store):
    """The result fits into a message, the next command, which has the key beside it, does not."""
    id, limit = "t" * 1000, 10_000
    world = World(hotel={"hotel": "h" * (limit - 1_500)}, flight=NonRetryable("full"))
    saga = saga_of("hotel", "flight", "car")
    async with over(store, saga, world, message_bytes_max=limit) as runtime:
        await runtime.publish(Trip(id))
        assert "LimitExceeded" in await ended(runtime, id)
        await runtime.resume(ref(runtime, id))
        assert "LimitExceeded" in await ended(runtime, id)
        stuck = [one async for one in runtime.instances(NAME, status="stuck")]
        assert [one.correlation_id for one in stuck] == [id]
    async with over(reopened(store), saga, world) as runtime:
        await runtime.resume(ref(runtime, id))
        assert (await ended(runtime, id)).endswith("full (compensated)")
    assert world.log == ["hotel", "flight", "unhotel"]
