"""Ordered sagas as they are declared: the plan they come to, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from perdure import (
    CORRELATION_ID,
    Exponential,
    Fixed,
    Job,
    OrderedSaga,
    Residue,
    Runtime,
    WorkQueue,
    message,
    step,
)
from perdure.core.plan import PlannedStep
from perdure.errors import DefinitionError, DuplicateSaga, DuplicateWorker
from perdure.ordered_saga import UNDO_RETRY


@message(name="ordered-saga-test.trip")
class Trip:
    trip_id: str
    city: str = ""
    hotel: str = ""


def saga(name: str = "trips", **options: Any) -> OrderedSaga:
    return OrderedSaga(name, Trip, **{"by": "trip_id", **options})


def book_hotel(trip: Trip, job: Job) -> dict[str, str]:
    return {"hotel": f"{trip.city}/{job.key}"}


def cancel_hotel(trip: Trip) -> Residue:
    return Residue("fee", 5)


def book_flight(trip: Trip) -> None: ...


def pay(trip: Trip) -> None: ...


def order_of(trips: OrderedSaga) -> dict[str, tuple[str, ...]]:
    return {one.name: one.after for one in trips.plan().steps}


def test_a_step_is_what_was_said_of_it():
    trips = saga()
    assert trips.step(book_hotel) is book_hotel
    trips.compensates(book_hotel)(cancel_hotel)
    trips.step(name="flight", nothing_to_undo=True, deadline=timedelta(hours=1))(book_flight)
    trips.step(unknown="compensate")(lookup := named("lookup"))
    trips.compensates("lookup")(cancel_hotel)
    trips.step(pivot=True)(pay)
    assert lookup.__name__ == "lookup"
    assert trips.plan().steps == (
        PlannedStep("book_hotel", 0, "trips.book_hotel", (), "trips.book_hotel.undo"),
        PlannedStep("flight", 1, "trips.flight", ("book_hotel",), deadline=timedelta(hours=1)),
        PlannedStep("lookup", 2, "trips.lookup", ("flight",), "trips.lookup.undo", True),
        PlannedStep("pay", 3, "trips.pay", ("lookup",), is_pivot=True),
    )


def named(name: str) -> Callable[[Trip], None]:
    def perform(trip: Trip) -> None: ...

    perform.__name__ = name
    return perform


def declared(trips: OrderedSaga, *names: str, **options: Any) -> OrderedSaga:
    for name in names:
        trips.step(nothing_to_undo=True, **options)(named(name))
    return trips


def test_a_step_comes_after_all_before_it_but_for_those_of_its_group():
    trips = declared(saga(), "a")
    declared(trips, "b", "c", parallel="transport")
    declared(trips, "d")
    declared(trips, "e", "f", parallel="papers")
    declared(trips, "g", "h", parallel="thanks")
    assert order_of(trips) == {
        "a": (),
        "b": ("a",),
        "c": ("a",),
        "d": ("b", "c"),
        "e": ("d",),
        "f": ("d",),
        "g": ("e", "f"),
        "h": ("e", "f"),
    }


def test_what_comes_before_may_be_said_outright_by_function_or_name():
    trips = declared(saga(), "a", "b")
    c = trips.step(after=[], nothing_to_undo=True)(named("c"))
    trips.step(after=(c, "a"), nothing_to_undo=True)(named("d"))
    declared(trips, "e")
    assert order_of(trips) == {"a": (), "b": ("a",), "c": (), "d": ("c", "a"), "e": ("b", "d")}


def test_past_the_pivot_nothing_need_be_said_of_undoing():
    trips = declared(saga(), "a")
    trips.step(pivot=True)(pay)
    trips.step(book_flight)
    trips.step(nothing_to_undo=True)(book_hotel)
    assert [one.undo_queue for one in trips.plan().steps] == [""] * 4


def test_each_step_and_each_compensation_is_a_queue_with_its_own_policy():
    trips = saga()

    @step(retry=Fixed(9), lease_s=5)
    def forget(trip: Trip) -> None: ...

    trips.step(retry=Fixed(3), concurrency=2, unknown="compensate")(book_hotel)
    trips.compensates(book_hotel)(cancel_hotel)
    trips.step(book_flight)
    trips.compensates(book_flight, lease_s=7)(forget)
    found = {queue.name: queue.policy for queue in trips.queues()}
    assert list(found) == [
        "trips.book_hotel", "trips.book_hotel.undo", "trips.book_flight", "trips.book_flight.undo",
    ]  # fmt: skip
    assert found["trips.book_hotel"].retry == Fixed(3)
    assert found["trips.book_hotel"].concurrency == 2
    assert not found["trips.book_hotel"].repeat_unknown
    assert found["trips.book_flight"].retry == Exponential()
    assert found["trips.book_flight"].repeat_unknown
    assert found["trips.book_hotel.undo"].retry == UNDO_RETRY
    assert found["trips.book_flight.undo"].retry == Fixed(9)
    assert found["trips.book_flight.undo"].lease_s == 7


def test_the_functions_stay_the_plain_ones_they_are():
    trips = saga()
    trips.step(book_hotel)
    trips.compensates(book_hotel)(cancel_hotel)
    assert book_hotel(Trip("t", "Rome"), Job(key="k")) == {"hotel": "Rome/k"}
    assert cancel_hotel(Trip("t")) == Residue("fee", 5)


def test_one_function_may_be_two_steps_that_are_then_called_by_their_names():
    trips = saga()
    trips.step(name="out")(book_flight)
    trips.compensates("out")(cancel_hotel)
    trips.step(name="back")(book_flight)
    trips.compensates("back")(cancel_hotel)
    assert order_of(trips) == {"out": (), "back": ("out",)}
    trips.step(after=[book_flight])(pay)
    with pytest.raises(DefinitionError, match="is the steps out, back"):
        trips.plan()


class Agency:
    def book(self, trip: Trip) -> None: ...

    def cancel(self, trip: Trip) -> None: ...


def test_methods_of_an_object_may_be_steps():
    agency, trips = Agency(), saga()
    trips.step(agency.book)
    trips.compensates(agency.book)(agency.cancel)
    assert trips.plan().steps[0].undo_queue == "trips.book.undo"


@dataclass
class Unmarked:
    trip_id: str


REFUSED_SAGAS: list[tuple[str, Callable[[], Any]]] = [
    ("is no name for a saga", lambda: saga("two words")),
    ("is no name for a saga", lambda: saga("")),
    ("is no name for a saga", lambda: OrderedSaga(7, Trip, by="trip_id")),  # type: ignore[arg-type]
    ("its name has 111 characters", lambda: saga("x" * 111)),
    ("is no message class", lambda: OrderedSaga("trips", Unmarked, by="trip_id")),
    ("is no message class", lambda: OrderedSaga("trips", dict, by="trip_id")),
    ("is no message class", lambda: OrderedSaga("trips", Trip("t"), by="trip_id")),  # type: ignore[arg-type]
    ("Trip has no field 'id'", lambda: saga(by="id")),
    ("by=None for Trip", lambda: saga(by=None)),
    ("timeout is", lambda: saga(timeout=timedelta(0))),
    ("timeout is 5", lambda: saga(timeout=5)),
]


@pytest.mark.parametrize(("problem", "declare"), REFUSED_SAGAS)
def test_a_saga_that_could_not_begin_is_refused(problem, declare):
    with pytest.raises(DefinitionError) as raised:
        declare()
    assert problem in raised.value.problem
    assert raised.value.saga is not None
    assert raised.value.remedy


def test_an_instance_may_be_named_by_anything_that_names_one():
    for by in (("trip_id", "city"), lambda trip: trip.trip_id, CORRELATION_ID):
        declared(saga(by=by), "a").definition()
    with pytest.raises(TypeError, match="by"):
        OrderedSaga("trips", Trip)  # type: ignore[call-arg]


def no_data() -> None: ...


REFUSED_STEPS: list[tuple[str, Callable[[Any], Any]]] = [
    ("has both after= and parallel=", lambda s: s.step(after=[], parallel="x")(pay)),
    ("parallel is ''", lambda s: s.step(parallel="")(pay)),
    ("parallel is 7", lambda s: s.step(parallel=7)(pay)),
    ("after is 'hotel'", lambda s: s.step(after="hotel")(pay)),
    ("after is <function", lambda s: s.step(after=book_hotel)(pay)),
    ("unknown is 'maybe'", lambda s: s.step(unknown="maybe")(pay)),
    ("step 'pay' has repeat_unknown=", lambda s: s.step(repeat_unknown=False)(pay)),
    ("is no function", lambda s: s.step("pay")),
    ("'two words' is no name", lambda s: s.step(name="two words")(pay)),
    ("step 'pay' has the option 'retries'", lambda s: s.step(retries=3)(pay)),
    ("step 'pay': lease_s is 0", lambda s: s.step(lease_s=0)(pay)),
    ("step 'no_data': it has no first parameter", lambda s: s.step(no_data)),
    ("two steps are named 'hotel'", lambda s: s.step(name="hotel")(pay)),
    ("'pay' is no step", lambda s: s.compensates("pay")(cancel_hotel)),
    ("is no step of it", lambda s: s.compensates(pay)(cancel_hotel)),
    ("step 'hotel' has two compensations", lambda s: s.compensates("hotel")(cancel_hotel)),
    ("step 'free' has a compensation, and", lambda s: s.compensates("free")(cancel_hotel)),
    ("step 'more' has the option 'deadline'", lambda s: s.compensates("more", deadline=1)(pay)),
    ("step 'more': it has no first", lambda s: s.compensates("more")(no_data)),
]


@pytest.mark.parametrize(("problem", "declare"), REFUSED_STEPS)
def test_a_step_that_could_not_work_is_refused_where_it_is_declared(problem, declare):
    trips = saga()
    trips.step(name="hotel")(book_hotel)
    trips.compensates("hotel")(cancel_hotel)
    trips.step(name="free", nothing_to_undo=True)(book_flight)
    trips.step(named("more"))
    with pytest.raises(DefinitionError) as raised:
        declare(trips)
    assert problem in raised.value.problem
    assert (raised.value.saga, bool(raised.value.remedy)) == ("trips", True)


def interrupted(trips: OrderedSaga) -> None:
    declared(trips, "b", parallel="x")
    declared(trips, "c")
    declared(trips, "d", parallel="x")


def undone_past_the_pivot(trips: OrderedSaga) -> None:
    trips.step(pivot=True)(pay)
    trips.step(named("late"))
    trips.compensates("late")(cancel_hotel)


def undone_pivot(trips: OrderedSaga) -> None:
    trips.step(pivot=True)(pay)
    trips.compensates(pay)(cancel_hotel)


def circle(trips: OrderedSaga) -> None:
    declared(trips, "b", after=["c"])
    declared(trips, "c", after=["b"])


def two_pivots(trips: OrderedSaga) -> None:
    trips.step(pivot=True)(pay)
    trips.step(pivot=True)(named("late"))


REFUSED_PLANS: list[tuple[str, Callable[[Any], Any]]] = [
    ("step 'pay' does not say what undoes it", lambda s: s.step(pay)),
    ("step 'late' has a compensation, and is past the way back", undone_past_the_pivot),
    ("step 'pay' has a compensation, and is past the way back", undone_pivot),
    (
        "step 'pay' is to be compensated if nobody knows how it ended, and nothing undoes it",
        lambda s: s.step(nothing_to_undo=True, unknown="compensate")(pay),
    ),
    (
        "step 'pay' is to be compensated if nobody knows how it ended, and nothing undoes it",
        lambda s: s.step(pivot=True, unknown="compensate")(pay),
    ),
    ("group 'x' is interrupted before 'd'", interrupted),
    ("the steps 'b', 'c' wait for each other", circle),
    ("step 'pay' comes after 'nobody', which is no step", lambda s: s.step(after=["nobody"])(pay)),
    ("is no step of it", lambda s: s.step(after=[print], nothing_to_undo=True)(pay)),
    ("7 is no step of it", lambda s: s.step(after=[7], nothing_to_undo=True)(pay)),
    ("it has the pivots pay, late", two_pivots),
    ("the pivot 'pay' may run beside 'a'", lambda s: s.step(after=[], pivot=True)(pay)),
]


@pytest.mark.parametrize(("problem", "declare"), REFUSED_PLANS)
def test_steps_that_do_not_go_together_are_refused_when_the_runtime_is_made(problem, declare):
    trips = declared(saga(), "a")
    declare(trips)
    for make in (trips.plan, trips.definition, lambda: Runtime("memory://", [trips])):
        with pytest.raises(DefinitionError) as raised:
            make()
        assert problem in raised.value.problem
        assert (raised.value.saga, bool(raised.value.remedy)) == ("trips", True)


def test_a_saga_without_steps_is_refused():
    with pytest.raises(
        DefinitionError, match=r"it has no steps \(saga 'trips'\); declare at least"
    ):
        Runtime("memory://", [saga()])


def test_a_pivot_in_a_group_is_refused_unless_it_is_alone_in_it():
    trips = declared(saga(), "a", parallel="x")
    trips.step(pivot=True, parallel="x")(pay)
    with pytest.raises(DefinitionError, match="the pivot 'pay' may run beside 'a'"):
        trips.plan()
    trips = saga()
    trips.step(pivot=True, parallel="x")(pay)
    trips.plan()


def test_names_that_clash_in_a_runtime_are_refused():
    trips = declared(saga(), "a")
    with pytest.raises(DuplicateWorker, match=r"two work queues are named 'trips\.a'"):
        Runtime("memory://", [trips, WorkQueue("trips.a")])
    with pytest.raises(DuplicateSaga, match="'trips'"):
        Runtime("memory://", [trips, declared(saga(), "b")])


def test_a_resource_that_is_missing_is_named():
    trips = saga()

    @trips.step(nothing_to_undo=True)
    def book(trip: Trip, hotels: Any) -> None: ...

    with pytest.raises(DefinitionError, match=r"worker 'book' of queue 'trips\.book' needs hotels"):
        Runtime("memory://", [trips])


def test_a_saga_shows_itself():
    trips = declared(saga(), "a")
    assert repr(trips) == "<OrderedSaga trips>"
    assert trips.name == "trips"
    assert list(trips.openings()) == []


def test_hundreds_of_steps_are_no_burden():
    trips = declared(saga(), *(f"s{number}" for number in range(300)))
    assert sum(len(after) for after in order_of(trips).values()) == 299
