"""Five hundred trips, killed twenty times with ``kill -9``; then the agencies' books are checked.

    python examples/travel_booking_killed.py                # half a minute
    python examples/travel_booking_killed.py --trips 40 --kills 3 --seed 7 --json

This process starts another one that books the trips of ``travel_booking.py`` (read that first),
kills it, starts it again, and so on until all is done. A quarter of the trips is refused a flight
or a car; for some of them a cancellation is refused for good. Besides, three in ten requests fail
once, half of them after the agency has done what it was asked for. The airline is served here, over
HTTP, and lives on. Each process tells of every request it begins and has ended; the moments of the
kills are counted in those, one drawn at random from each of as many parts.

At the end the agencies' books, read by code that knows nothing of sagas, must say that nothing was
booked or cancelled twice, and that of a trip that has failed everything is cancelled, unless the
trip is listed as stuck. It prints the figures; the exit code is 1 if one is wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

from agencies import Bookings, Desk, DeskClient
from perdure import Runtime
from perdure.errors import SagaFailed, SagaStuck
from travel_booking import Trip, open_agencies, travel

T = TypeVar("T")

BOOKED, CANCELLED = ("booked",), ("booked", "cancelled")

CITIES: dict[str, tuple[str, dict[str, tuple[str, ...]]]] = {
    "Rome": ("completed", {"hotel": BOOKED, "airline": BOOKED, "cars": BOOKED}),
    "Oslo": ("failed", {"hotel": CANCELLED}),
    "Turin": ("failed", {"hotel": CANCELLED, "airline": CANCELLED}),
    "Nuuk": ("stuck", {"hotel": BOOKED}),
    "Minsk": ("stuck", {"hotel": BOOKED, "airline": BOOKED}),
}
"""How a trip there must end, and what is in whose books then (see ``open_agencies``)."""

REFUSED = 0.25
"""The share of trips for which a flight or a car is refused …"""

STUCK = 0.1
"""… and the share of these for which a cancellation is."""

LATER_MAX_S = 0.005
"""About as long as two requests take."""


def planned(options: argparse.Namespace) -> list[Trip]:
    """The trips, the same in every process; how many go to which city is no matter of chance."""
    refused = round(options.trips * REFUSED)
    stuck = round(refused * STUCK)
    cities = ["Rome"] * (options.trips - refused)
    cities += [("Nuuk", "Minsk")[number % 2] for number in range(stuck)]
    cities += [("Oslo", "Turin")[number % 2] for number in range(refused - stuck)]
    random.Random(options.seed).shuffle(cities)
    return [Trip(f"t-{number:05}", city) for number, city in enumerate(cities)]


def travel_runtime(options: argparse.Namespace, **desks: Bookings) -> Runtime:
    url = f"sqlite+aiosqlite:///{Path(options.directory) / 'trips.db'}"
    return Runtime(url, [travel], resources=desks)


# The process that is killed


class Shaky:
    """An agency as one caller sees it: some requests fail once, before or after it has worked.

    Writes a byte to the standard output when a request begins, and when it has ended.
    """

    def __init__(self, desk: Bookings, seed: int) -> None:
        self._desk = desk
        self._seed = seed
        self._failed: set[str] = set()

    def book(self, key: str, trip: str, city: str) -> str:
        return self._ask(key, lambda: self._desk.book(key, trip, city))

    def cancel(self, key: str, number: str) -> int:
        return self._ask(key, lambda: self._desk.cancel(key, number))

    def _ask(self, key: str, do: Callable[[], T]) -> T:
        chance = 1.0 if key in self._failed else random.Random(f"{self._seed} {key}").random()
        self._failed.add(key)
        os.write(sys.stdout.fileno(), b"(")
        try:
            if chance < 0.15:
                raise ConnectionError("nobody answers")
            answer = do()
            if chance < 0.3:
                raise ConnectionError("the answer was lost")
            return answer
        finally:
            os.write(sys.stdout.fileno(), b")")


async def work(options: argparse.Namespace) -> None:
    with open_agencies(Path(options.directory)) as (hotel, _, cars):
        airline = DeskClient(options.airline)
        desks: dict[str, Bookings] = {"hotel": hotel, "airline": airline, "cars": cars}
        shaky = {name: Shaky(desk, options.seed) for name, desk in desks.items()}
        async with travel_runtime(options, **shaky) as runtime:
            await asyncio.gather(*(take(runtime, trip) for trip in planned(options)))


async def take(runtime: Runtime, trip: Trip) -> None:
    """Ask for a trip and wait for its end, whichever; known ones are not begun anew."""
    await runtime.publish(trip, message_id=f"{trip.trip_id}/asked for")
    with suppress(SagaFailed, SagaStuck):  # counted at the end
        await runtime.result(runtime.ref(travel, trip.trip_id))


# The process that kills it


def drive(options: argparse.Namespace) -> Counter[str]:
    """Start, kill and start again until all is done; how often that was."""
    chance = random.Random(f"kills {options.seed}")
    # Each entry is asked for at least once; begun and ended. Refusals and repeats come on top.
    told_least = 2 * sum(len(expected(trip)) for trip in planned(options))
    parts = [
        told_least * 9 // 10 * part // max(options.kills, 1) for part in range(options.kills + 1)
    ]
    moments = [chance.randrange(first, end) for first, end in pairwise(parts)]
    counted: Counter[str] = Counter()
    told, code = 0, -signal.SIGKILL
    with open_agencies(Path(options.directory)) as (_, airline, _), Desk(airline) as desk:
        options.airline = desk.url
        while code == -signal.SIGKILL:
            until = max(moments.pop(0) - told, 1) if moments else None
            code, heard = watch(options, until, chance.uniform(0, LATER_MAX_S))
            told += len(heard)
            counted["starts"] += 1
            counted["kills"] += code == -signal.SIGKILL
            is_amid = code == -signal.SIGKILL and heard.count(b"(") > heard.count(b")")
            counted["kills during a request"] += is_amid
    counted["errors"] += code != 0
    return counted


def watch(options: argparse.Namespace, until: int | None, later_s: float) -> tuple[int, bytes]:
    """One process: its exit code, and what it told. Killed some time after so many bytes."""
    names = ("trips", "seed", "directory", "airline")
    given = [text for name in names for text in (f"--{name}", str(getattr(options, name)))]
    command = [sys.executable, __file__, *given]
    with subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=0) as child:
        assert child.stdout is not None
        heard = bytearray()
        while byte := child.stdout.read(1):
            heard += byte
            if len(heard) == until:
                time.sleep(later_s)  # not always at the same point of a request
                child.kill()
        return child.wait(), bytes(heard)


# The check


Ledger = dict[str, Counter[tuple[str, str]]]
"""For each trip how often it was booked, and cancelled, at which agency."""


def books(options: argparse.Namespace) -> tuple[Ledger, int]:
    """What the agencies' own tables say, and nothing else; and how often they were asked again."""
    found: Ledger = {}
    asked_again = 0
    for agency in ("hotel", "airline", "cars"):
        path = Path(options.directory) / f"{agency}.db"
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
            for trip, kind, asked in db.execute("SELECT trip, kind, asked FROM entries"):
                found.setdefault(trip, Counter())[agency, kind] += 1
                asked_again += asked - 1
    return found, asked_again


async def listed(options: argparse.Namespace) -> tuple[dict[str, str], int]:
    """What perdure says: how each trip stands, and how many jobs are left."""
    with open_agencies(Path(options.directory)) as (hotel, airline, cars):
        async with travel_runtime(options, hotel=hotel, airline=airline, cars=cars) as runtime:
            ends = {
                seen.correlation_id: seen.status.value async for seen in runtime.instances(travel)
            }
            depths = [await runtime.queue(queue.name).depth() for queue in travel.queues()]
            return ends, sum(depths)


def expected(trip: Trip) -> Counter[tuple[str, str]]:
    """What must be in the books of a trip."""
    _, entries = CITIES[trip.city]
    return Counter((agency, kind) for agency, kinds in entries.items() for kind in kinds)


def left(entries: Counter[tuple[str, str]]) -> int:
    """How many bookings are not cancelled.

    >>> left(Counter({("hotel", "booked"): 1, ("hotel", "cancelled"): 1, ("cars", "booked"): 1}))
    1
    """
    agencies = {agency for agency, _ in entries}
    return sum(
        max(entries[agency, "booked"] - entries[agency, "cancelled"], 0) for agency in agencies
    )


def figures(options: argparse.Namespace) -> dict[str, int]:
    """The books, and what perdure says, side by side."""
    found, asked_again = books(options)
    ends, jobs_left = asyncio.run(listed(options))
    trips = planned(options)
    kinds = Counter(
        {
            kind: sum(one[who, what] for one in found.values() for who, what in one if what == kind)
            for kind in ("booked", "cancelled")
        }
    )
    by_end = Counter(ends.values())

    def of(end: str) -> list[Counter[tuple[str, str]]]:
        return [found.get(trip, Counter()) for trip, status in ends.items() if status == end]

    return {
        "completed": by_end["completed"],
        "compensated": by_end["failed"],
        "stuck": by_end["stuck"],
        "bookings made": kinds["booked"],
        "bookings cancelled": kinds["cancelled"],
        "completed and not booked": sum(left(entries) < 3 for entries in of("completed")),
        "failed, booked and not cancelled": sum(left(entries) > 0 for entries in of("failed")),
        "stuck and nothing left to cancel": sum(left(entries) == 0 for entries in of("stuck")),
        "doubled": sum(count > 1 for entries in found.values() for count in entries.values()),
        "not as planned": sum(
            found.pop(trip.trip_id, Counter()) != expected(trip)
            or ends.get(trip.trip_id) != CITIES[trip.city][0]
            for trip in trips
        ),
        "of no trip": len(found),
        "jobs left": jobs_left,
        "asked again": asked_again,
    }


def complaints(options: argparse.Namespace, found: dict[str, int]) -> list[str]:
    """What is not as it must be."""
    ends = Counter(CITIES[trip.city][0] for trip in planned(options))
    must = {
        "kills": options.kills,
        "errors": 0,
        "completed": ends["completed"],
        "compensated": ends["failed"],
        "stuck": ends["stuck"],
        "completed and not booked": 0,
        "failed, booked and not cancelled": 0,
        "stuck and nothing left to cancel": 0,
        "doubled": 0,
        "not as planned": 0,
        "of no trip": 0,
        "jobs left": 0,
    }
    return [
        f"{name}: {found.get(name, 0)}, must be {wanted}"
        for name, wanted in must.items()
        if found.get(name, 0) != wanted
    ]


# The program


def run(options: argparse.Namespace) -> int:
    began_s = time.monotonic()
    counted = drive(options)
    found = {
        "trips": options.trips,
        **{name: counted[name] for name in ("kills", "kills during a request", "starts", "errors")},
        **figures(options),
        "seconds": round(time.monotonic() - began_s),
    }
    wrong = complaints(options, found)
    in_words = "\n".join(f"{name:34}{value}" for name, value in found.items())
    print(json.dumps(found, indent=2) if options.json else in_words)
    for complaint in wrong:
        print(f"wrong: {complaint}", file=sys.stderr)
    if not wrong and not options.json:
        print("Every trip was booked whole, or cancelled whole but for those that are stuck.")
    return 1 if wrong else 0


def options_of(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Trips that are killed again and again.")
    parser.add_argument("--trips", type=int, default=500, metavar="N")
    parser.add_argument("--kills", type=int, default=20, metavar="N", help="with kill -9")
    parser.add_argument("--seed", type=int, default=1, metavar="N")
    parser.add_argument("--directory", help="for the files (default: a temporary one)")
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object")
    parser.add_argument("--airline", help=argparse.SUPPRESS)  # given to the process to be killed
    options = parser.parse_args(arguments)
    if options.trips < 1:
        parser.error("--trips must be above 0")
    if not 0 <= options.kills <= options.trips:
        parser.error("--kills must be from 0 to the number of trips")
    return options


def main(arguments: list[str] | None = None) -> int:
    options = options_of(arguments)
    logging.basicConfig(level=logging.CRITICAL)  # a request that fails is no news here
    if options.airline:
        asyncio.run(work(options))
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        options.directory = options.directory or temporary
        Path(options.directory).mkdir(parents=True, exist_ok=True)
        if (Path(options.directory) / "trips.db").exists():
            print(f"error: {options.directory} holds an earlier run", file=sys.stderr)
            return 1
        return run(options)


if __name__ == "__main__":
    sys.exit(main())
