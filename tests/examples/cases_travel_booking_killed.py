"""travel_booking_killed.py: its plan, and that its check finds what is off."""

from __future__ import annotations

import argparse
import asyncio
import doctest
import json
import shutil
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

import travel_booking_killed as killed
from travel_booking import open_agencies, travel

SMALL = ["--trips", "40", "--kills", "0"]


def options(directory: Path, *more: str) -> argparse.Namespace:
    return killed.options_of([*SMALL, "--directory", str(directory), *more])


def complaints(of: argparse.Namespace) -> list[str]:
    """What the check says of the files as they are."""
    return killed.complaints(of, killed.figures(of))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a small run in which nobody was killed."""
    directory = tmp_path_factory.mktemp("done")
    assert killed.main([*SMALL, "--directory", str(directory)]) == 0
    return directory


def test_the_plan_is_the_same_in_every_process(tmp_path: Path) -> None:
    first, again = (killed.planned(options(tmp_path)) for _ in range(2))
    assert first == again != killed.planned(options(tmp_path, "--seed", "2"))
    assert len({one.trip_id for one in first}) == 40
    cities = Counter(one.city for one in first)
    assert cities == {"Rome": 30, "Oslo": 5, "Turin": 4, "Nuuk": 1}


def test_a_run_without_kills_is_in_order(
    done: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert killed.main([*SMALL, "--directory", str(tmp_path / "new"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["completed"], found["compensated"], found["stuck"]) == (30, 9, 1)
    assert (found["bookings made"], found["bookings cancelled"]) == (90 + 5 + 8 + 1, 5 + 8)
    assert found["asked again"] > 0  # answers were lost
    assert complaints(options(done)) == []


def test_files_of_an_earlier_run_are_left_alone(
    done: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert killed.main([*SMALL, "--directory", str(done)]) == 1
    assert "holds an earlier run" in capsys.readouterr().err


AGAIN = """INSERT INTO entries (key, kind, number, trip, city, cents)
           SELECT key || '/again', kind, number, trip, city, cents
           FROM entries WHERE kind = '{}' LIMIT 1"""
CANCELLED = "trip IN (SELECT trip FROM entries WHERE kind = 'cancelled')"


@pytest.mark.parametrize(
    ("agency", "damage", "found"),
    [
        ("hotel", AGAIN.format("booked"), "doubled: 1"),
        ("hotel", AGAIN.format("cancelled"), "doubled: 1"),
        ("cars", AGAIN.format("booked"), "doubled: 1"),
        ("hotel", "DELETE FROM entries WHERE kind = 'cancelled'", "failed, booked and not canc"),
        ("airline", "DELETE FROM entries WHERE kind = 'cancelled'", "failed, booked and not canc"),
        ("airline", f"DELETE FROM entries WHERE {CANCELLED}", "not as planned: 4"),
        ("cars", "DELETE FROM entries WHERE rowid = 1", "completed and not booked: 1"),
        ("hotel", "DELETE FROM entries WHERE city = 'Nuuk'", "stuck and nothing left to cancel: 1"),
        ("cars", "UPDATE entries SET trip = 't-99999' WHERE rowid = 1", "of no trip: 1"),
        (
            "cars",
            "UPDATE entries SET kind = 'cancelled' WHERE rowid = 1",
            "completed and not booked: 1",
        ),
    ],
)
def test_the_check_finds_what_is_off_in_the_books(
    done: Path, tmp_path: Path, agency: str, damage: str, found: str
) -> None:
    shutil.copytree(done, tmp_path / "copy")
    with closing(
        sqlite3.connect(tmp_path / "copy" / f"{agency}.db", isolation_level=None)
    ) as books:
        assert books.execute(damage).rowcount >= 1
    of = options(tmp_path / "copy")
    assert [one for one in complaints(of) if one.startswith(found)], complaints(of)


def test_what_is_stuck_after_the_run_is_undone_when_the_agencies_do_it_again(
    done: Path, tmp_path: Path
) -> None:
    shutil.copytree(done, tmp_path / "copy")
    of = options(tmp_path / "copy")

    async def mend() -> None:
        with open_agencies(tmp_path / "copy") as (hotel, airline, cars):
            hotel.no_cancelling.clear()
            desks = {"hotel": hotel, "airline": airline, "cars": cars}
            async with killed.travel_runtime(of, **desks) as runtime:
                async for seen in runtime.instances(travel, status="stuck"):
                    await runtime.resume(runtime.ref_to(seen))
                await runtime.settled()

    asyncio.run(mend())
    found = killed.figures(of)
    assert (found["stuck"], found["compensated"]) == (0, 10)
    assert (found["failed, booked and not cancelled"], found["doubled"]) == (0, 0)


def test_examples_in_docstrings() -> None:
    assert doctest.testmod(killed) == (0, 1)


@pytest.mark.parametrize("nonsense", [["--trips", "0"], ["--kills", "41"], ["--kills", "-1"]])
def test_nonsense_is_refused(nonsense: list[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        options(tmp_path, *nonsense)
