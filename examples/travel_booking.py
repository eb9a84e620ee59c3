"""A hotel, a flight, a car: all three, or none, but for what the hotel keeps.

    python examples/travel_booking.py                       # in a temporary directory
    python examples/travel_booking.py --directory travel    # keeps trips.db and the agencies' books

Each agency has books of its own and knows nothing of sagas; the airline is asked over HTTP. Four
trips are booked. To Rome all goes well. There is no seat to Oslo: the hotel is cancelled and keeps
a fee, and nobody has asked for a car. There is no car in Turin: the flight is cancelled, then the
hotel. There is no seat to Nuuk either, and nobody is at the hotel to cancel the room: that trip is
*stuck*, is listed, and goes on when somebody has seen to it.

It prints how each trip has ended, what is stuck, what was recorded of the trip to Oslo, and the
agencies' books. Next to read: ``travel_booking_killed.py``, which kills this again and again.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from decimal import Decimal
from pathlib import Path

from agencies import Agency, Bookings, Desk, DeskClient, Refused
from perdure import Exponential, Job, OrderedSaga, Residue, Runtime, message
from perdure.errors import SagaFailed, SagaStuck


@message
class Trip:
    """What a trip begins with. The numbers of the bookings are added by the steps."""

    trip_id: str
    city: str
    hotel: str = ""
    flight: str = ""
    car: str = ""


# The saga. An agency that does not answer is asked again under the same key until it does; what it
# refuses is final. ``hotel``, ``airline`` and ``cars`` are resources of the runtime.

AGAIN = Exponential(0.1, max_s=5, max_attempts=None)
FINAL = (Refused,)

travel = OrderedSaga("travel-booking", Trip, by="trip_id")


@travel.step(retry=AGAIN, non_retryable=FINAL)
def book_hotel(trip: Trip, job: Job, hotel: Bookings) -> dict[str, str]:
    return {"hotel": hotel.book(job.key, trip.trip_id, trip.city)}


@travel.compensates(book_hotel, retry=AGAIN, non_retryable=FINAL)
def cancel_hotel(trip: Trip, job: Job, hotel: Bookings) -> Residue | None:
    return kept("hotel", hotel.cancel(job.key, trip.hotel))


@travel.step(retry=AGAIN, non_retryable=FINAL)
def book_flight(trip: Trip, job: Job, airline: Bookings) -> dict[str, str]:
    return {"flight": airline.book(job.key, trip.trip_id, trip.city)}


@travel.compensates(book_flight, retry=AGAIN, non_retryable=FINAL)
def cancel_flight(trip: Trip, job: Job, airline: Bookings) -> Residue | None:
    return kept("airline", airline.cancel(job.key, trip.flight))


@travel.step(retry=AGAIN, non_retryable=FINAL)
def book_car(trip: Trip, job: Job, cars: Bookings) -> dict[str, str]:
    return {"car": cars.book(job.key, trip.trip_id, trip.city)}


@travel.compensates(book_car, retry=AGAIN, non_retryable=FINAL)
def cancel_car(trip: Trip, job: Job, cars: Bookings) -> Residue | None:
    return kept("car rental", cars.cancel(job.key, trip.car))


def kept(by: str, cents: int) -> Residue | None:
    """What an agency keeps of a cancelled booking."""
    return Residue(f"cancellation fee of the {by}", in_units(cents)) if cents else None


def in_units(cents: int) -> Decimal:
    """
    >>> in_units(2500)
    Decimal('25.00')
    """
    return Decimal(cents).scaleb(-2)


# The agencies: three files, and what they have and will not do in which city


@contextmanager
def open_agencies(directory: Path) -> Iterator[tuple[Agency, Agency, Agency]]:
    with ExitStack() as stack:
        hotel = Agency(directory / "hotel.db", "hotel", 300_00, fee=25_00, no_cancelling={"Nuuk"})
        airline = Agency(
            directory / "airline.db",
            "flight",
            150_00,
            sold_out={"Oslo", "Nuuk"},
            no_cancelling={"Minsk"},
        )
        cars = Agency(directory / "cars.db", "car", 90_00, sold_out={"Turin", "Minsk"})
        yield (
            stack.enter_context(hotel),
            stack.enter_context(airline),
            stack.enter_context(cars),
        )


# The story

TRIPS = [Trip("t-1", "Rome"), Trip("t-2", "Oslo"), Trip("t-3", "Turin"), Trip("t-4", "Nuuk")]


async def story(directory: Path) -> None:
    url = f"sqlite+aiosqlite:///{directory / 'trips.db'}"
    with open_agencies(directory) as (hotel, airline, cars), Desk(airline) as desk:
        resources = {"hotel": hotel, "airline": DeskClient(desk.url), "cars": cars}
        async with Runtime(url, [travel], resources=resources) as runtime:
            print("Four trips:")
            for trip in TRIPS:
                await runtime.publish(trip, message_id=f"{trip.trip_id}/asked for")
                await print_end(runtime, trip)
            print("\nStuck, and resumed when somebody is at the hotel in Nuuk again:")
            hotel.no_cancelling.discard("Nuuk")
            async for seen in runtime.instances(travel, status="stuck"):
                print(f"  {seen.correlation_id} is {seen.status} at {seen.state.stuck_steps[0]}")
                await runtime.resume(runtime.ref_to(seen))
                await print_end(runtime, seen.state.data)
            print("\nThe history of t-2:")
            async for turn in runtime.history(runtime.ref(travel, "t-2")):
                print(f"  {turn.sequence_nr}", *(type(event).__name__ for event in turn.events))
        print("\nThe agencies' books:")
        for agency in (hotel, airline, cars):
            for trip_id, kind, number, cents in agency.entries():
                print(f"  {trip_id} {number:9} {kind:9} {in_units(cents):>8}")


async def print_end(runtime: Runtime, trip: Trip) -> None:
    """Wait for the end of a trip, and say how it was."""
    try:
        done = await runtime.result(runtime.ref(travel, trip.trip_id))
        end = f"completed: {done.hotel}, {done.flight}, {done.car}"
    except SagaFailed as failed:
        end = f"failed: {failed.problem}"
    except SagaStuck as stuck:
        end = f"stuck: {stuck.problem}"
    print(f"  {trip.trip_id} to {trip.city:6} {end}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Trips, booked or taken back.")
    parser.add_argument("--directory", type=Path, help="for the files (default: a temporary one)")
    options = parser.parse_args()
    logging.basicConfig(level=logging.CRITICAL)  # what fails here is told by the story itself
    with tempfile.TemporaryDirectory() as temporary:
        directory = options.directory or Path(temporary)
        directory.mkdir(parents=True, exist_ok=True)
        asyncio.run(story(directory))


if __name__ == "__main__":
    main()
