"""travel_booking.py and agencies.py: each way a trip can go, and the agencies by themselves."""

from __future__ import annotations

import doctest
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from decimal import Decimal
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

import travel_booking
from agencies import Agency, Desk, DeskClient, Refused
from perdure import InstanceView, Job, Residue, Runtime, Status
from perdure.errors import SagaFailed, SagaStuck
from perdure.testing import SimulatedClock
from tests.runtime.support import quickly
from travel_booking import (
    Trip,
    book_car,
    book_flight,
    book_hotel,
    cancel_car,
    cancel_flight,
    cancel_hotel,
    open_agencies,
    travel,
)

FEE = Residue("cancellation fee of the hotel", Decimal("25.00"))


@pytest.fixture
def hotel(tmp_path: Path) -> Iterator[Agency]:
    with Agency(tmp_path / "hotel.db", "hotel", 300_00, 25_00, {"Oslo"}, {"Nuuk"}) as opened:
        yield opened


class Lossy:
    """An agency whose answers to the first requests are lost on the way."""

    def __init__(self, agency: Agency, losses: int) -> None:
        self.agency = agency
        self.losses = losses

    def book(self, key: str, trip: str, city: str) -> str:
        number = self.agency.book(key, trip, city)
        self._lose()
        return number

    def cancel(self, key: str, number: str) -> int:
        fee = self.agency.cancel(key, number)
        self._lose()
        return fee

    def _lose(self) -> None:
        if self.losses:
            self.losses -= 1
            raise ConnectionError("the answer was lost")


class Booking:
    """A runtime with time that stands still, and the agencies."""

    def __init__(self, runtime: Runtime, clock: SimulatedClock, agencies: tuple[Agency, ...]):
        self.runtime = runtime
        self.clock = clock
        self.hotel, self.airline, self.cars = agencies

    async def end_of(self, city: str) -> InstanceView:
        """The trip "t" to this city, when nothing more happens in an hour."""
        await self.runtime.publish(Trip("t", city), message_id="t")
        await self.clock.advance(timedelta(hours=1))
        seen = await self.runtime.state(self.runtime.ref(travel, "t"))
        assert seen is not None
        return seen

    def kinds(self) -> list[list[str]]:
        return [
            [kind for _, kind, _, _ in agency.entries()]
            for agency in (self.hotel, self.airline, self.cars)
        ]


@asynccontextmanager
async def booking(
    directory: Path, url: str = "memory://", **others: Callable[[Agency], Any]
) -> AsyncIterator[Booking]:
    clock = SimulatedClock()
    with open_agencies(directory) as agencies:
        resources: dict[str, Any] = dict(zip(("hotel", "airline", "cars"), agencies, strict=True))
        resources |= {name: make(resources[name]) for name, make in others.items()}
        async with Runtime(url, [travel], resources=resources, clock=clock) as runtime:
            yield Booking(runtime, clock, agencies)


# The ways of a trip


@quickly
async def test_a_trip_goes_well(tmp_path: Path) -> None:
    async with booking(tmp_path) as service:
        seen = await service.end_of("Rome")
        assert seen.status is Status.COMPLETED
        assert seen.result == Trip("t", "Rome", "hotel-1", "flight-1", "car-1")
        assert service.kinds() == [["booked"], ["booked"], ["booked"]]


@quickly
async def test_without_a_flight_the_hotel_is_cancelled_less_a_fee_and_no_car_asked_for(
    tmp_path: Path,
) -> None:
    async with booking(tmp_path) as service:
        seen = await service.end_of("Oslo")
        assert (seen.status, seen.state.outcome) == (Status.FAILED, "compensated with residue")
        assert seen.state.residues == (FEE,)
        assert service.kinds() == [["booked", "cancelled"], [], []]
        assert sum(cents for *_, cents in service.hotel.entries()) == 25_00
        assert "book_car" not in seen.state.steps


@quickly
async def test_without_a_car_the_flight_is_cancelled_before_the_hotel(tmp_path: Path) -> None:
    async with booking(tmp_path) as service:
        seen = await service.end_of("Turin")
        assert seen.status is Status.FAILED
        assert service.kinds() == [["booked", "cancelled"], ["booked", "cancelled"], []]
        undone = [
            event.step
            async for turn in service.runtime.history(service.runtime.ref(travel, "t"))
            for event in turn.events
            if type(event).__name__ == "StepCompensated"
        ]
        assert undone == ["book_flight", "book_hotel"]


@quickly
async def test_a_hotel_that_cannot_be_cancelled_leaves_the_trip_stuck_also_after_a_restart(
    tmp_path: Path,
) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'trips.db'}"
    async with booking(tmp_path, url) as service:
        seen = await service.end_of("Nuuk")
        assert (seen.status, seen.state.stuck_steps) == (Status.STUCK, ("book_hotel",))
        assert service.kinds() == [["booked"], [], []]
    async with booking(tmp_path, url) as service:
        runtime, ref = service.runtime, service.runtime.ref(travel, "t")
        stuck = [one.correlation_id async for one in runtime.instances(travel, status="stuck")]
        assert stuck == ["t"]
        await runtime.resume(ref)  # nobody has seen to it: it is stuck again
        with pytest.raises(SagaStuck, match="nobody is there in Nuuk"):
            await runtime.result(ref)
        service.hotel.no_cancelling.clear()
        await runtime.resume(ref)
        with pytest.raises(SagaFailed, match=r"no flight to be had in Nuuk .*hotel 25\.00"):
            await runtime.result(ref)
        assert service.kinds() == [["booked", "cancelled"], [], []]


@quickly
async def test_a_flight_that_cannot_be_cancelled_keeps_the_hotel_until_it_can(
    tmp_path: Path,
) -> None:
    async with booking(tmp_path) as service:
        seen = await service.end_of("Minsk")
        assert seen.state.stuck_steps == ("book_flight",)
        assert service.kinds() == [["booked"], ["booked"], []]
        service.airline.no_cancelling.clear()
        await service.runtime.resume(service.runtime.ref(travel, "t"))
        assert (await service.end_of("Minsk")).state.residues == (FEE,)
        assert service.kinds() == [["booked", "cancelled"], ["booked", "cancelled"], []]


@pytest.mark.parametrize("city", ["Rome", "Turin"])
@quickly
async def test_lost_answers_double_nothing(tmp_path: Path, city: str) -> None:
    def lossy(agency: Agency) -> Lossy:
        return Lossy(agency, 7)

    async with booking(tmp_path, hotel=lossy, airline=lossy, cars=lossy) as service:
        seen = await service.end_of(city)
        assert seen.status is (Status.COMPLETED if city == "Rome" else Status.FAILED)
        back = [] if city == "Rome" else ["cancelled"]
        assert service.kinds() == [
            ["booked", *back],
            ["booked", *back],
            ["booked"] if city == "Rome" else [],
        ]


@quickly
async def test_a_trip_that_is_called_off_is_undone_with_its_car(tmp_path: Path) -> None:
    """While the rental does not answer: its step is awaited, then undone first."""
    async with booking(tmp_path, cars=lambda agency: Lossy(agency, 3)) as service:
        runtime, ref = service.runtime, service.runtime.ref(travel, "t")
        await runtime.publish(Trip("t", "Rome"), message_id="t")
        await runtime.settled()
        await runtime.cancel(ref, "the customer is ill")
        seen = await service.end_of("Rome")
        assert seen.failure == (
            "cancelled: the customer is ill (compensated with residue: "
            "cancellation fee of the hotel 25.00)"
        )
        assert service.kinds() == [["booked", "cancelled"]] * 3


# The parts


def test_examples_in_docstrings() -> None:
    assert doctest.testmod(travel_booking) == (0, 1)


def test_steps_asked_twice_work_once(tmp_path: Path) -> None:
    with open_agencies(tmp_path) as (hotel, airline, cars):
        trip = Trip("t", "Rome")
        for _ in range(2):
            assert book_hotel(trip, Job(key="1"), hotel) == {"hotel": "hotel-1"}
            assert book_flight(trip, Job(key="2"), airline) == {"flight": "flight-1"}
            assert book_car(trip, Job(key="3"), cars) == {"car": "car-1"}
        trip = Trip("t", "Rome", "hotel-1", "flight-1", "car-1")
        for _ in range(2):
            assert cancel_hotel(trip, Job(key="4"), hotel) == FEE
            assert cancel_flight(trip, Job(key="5"), airline) is None
            assert cancel_car(trip, Job(key="6"), cars) is None
        for agency in (hotel, airline, cars):
            assert [kind for _, kind, _, _ in agency.entries()] == ["booked", "cancelled"]


@contextmanager
def over_http(agency: Agency) -> Iterator[DeskClient]:
    with Desk(agency) as desk:
        yield DeskClient(desk.url)


@contextmanager
def directly(agency: Agency) -> Iterator[Agency]:
    yield agency


@pytest.mark.parametrize("way", [directly, over_http])
def test_an_agency_answers_the_same_here_and_over_http(way: Any, hotel: Agency) -> None:
    with way(hotel) as desk:
        assert [desk.book(key, "t", "Rome") for key in ("a", "b", "a")] == [
            "hotel-1",
            "hotel-2",
            "hotel-1",
        ]
        assert [desk.cancel("c", "hotel-1") for _ in range(2)] == [25_00, 25_00]
        assert desk.book("d", "t", "Nuuk") == "hotel-3"
        with pytest.raises(Refused, match="no hotel to be had in Oslo"):
            desk.book("e", "t", "Oslo")
        with pytest.raises(Refused, match="nobody is there in Nuuk to cancel hotel-3"):
            desk.cancel("f", "hotel-3")
        with pytest.raises(Refused, match="there is no booking 'hotel-9'"):
            desk.cancel("g", "hotel-9")
    assert [(kind, number) for _, kind, number, _ in hotel.entries()] == [
        ("booked", "hotel-1"),
        ("booked", "hotel-2"),
        ("cancelled", "hotel-1"),
        ("booked", "hotel-3"),
    ]


def test_what_was_refused_may_be_had_later_under_the_same_key(hotel: Agency) -> None:
    with pytest.raises(Refused):
        hotel.book("k", "t", "Oslo")
    hotel.sold_out.clear()
    assert hotel.book("k", "t", "Oslo") == "hotel-1"


def test_a_desk_survives_nonsense_and_one_that_is_gone_is_asked_again_later(hotel: Agency) -> None:
    with Desk(hotel) as desk:
        for path, body, key in (
            ("/", "{}", "k"),
            ("/book", "{", "k"),
            ("/book", "[]", "k"),
            ("/book", "{}", "k"),
            ("/book", '{"trip": "t", "city": "Rome"}', ""),
        ):
            connection = HTTPConnection(urlsplit(desk.url).netloc)
            connection.request("POST", path, body, {"Idempotency-Key": key})
            assert connection.getresponse().status == 400
            connection.close()
        client = DeskClient(desk.url)
        assert client.book("k", "t", "Rome") == "hotel-1"
    with pytest.raises(OSError, match="refused"):
        client.book("k", "t", "Rome")
