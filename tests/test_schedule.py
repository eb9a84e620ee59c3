"""Schedules as they are declared: what is refused at once, and the run's value."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from perdure import CatchUp, Coalesce, Cron, Every, Run, Runtime, Schedule, Skip
from perdure.errors import DefinitionError, DuplicateSaga, NotAPlainFunction
from perdure.member import Member

HOURLY = Every(timedelta(hours=1))


def nothing(run: Run) -> None: ...


def test_a_schedule_is_a_member_and_waits_for_nothing_missed_by_default():
    hourly = Schedule("hourly", HOURLY, nothing)
    assert isinstance(hourly, Member)
    assert hourly.missed == Coalesce()
    assert list(hourly.queues()) == []
    assert repr(hourly) == "<Schedule hourly, every 1:00:00 from 0:00:00>"


@pytest.mark.parametrize("name", ["", " ", "a/b", "7", "a" * 201, "ä", None, 5, "a\n"])
def test_a_name_that_cannot_be_stored_is_refused(name):
    with pytest.raises(DefinitionError, match="is no name for") as caught:
        Schedule(name, HOURLY, nothing)
    assert caught.value.remedy


@pytest.mark.parametrize("timing", ["0 3 * * *", timedelta(hours=1), None, Cron, 3600])
def test_what_is_no_timing_is_refused(timing):
    with pytest.raises(DefinitionError, match="schedule 'x': its timing is") as caught:
        Schedule("x", timing, nothing)
    assert "Cron(" in (caught.value.remedy or "")


@pytest.mark.parametrize("missed", ["skip", Skip, 5, True])
def test_what_is_no_policy_is_refused(missed):
    with pytest.raises(DefinitionError, match="missed is"):
        Schedule("x", HOURLY, nothing, missed=missed)


async def coroutine(run: Run) -> None: ...


async def many(run: Run):
    yield run


class AsyncCall:
    async def __call__(self, run: Run) -> None: ...


@pytest.mark.parametrize("function", [coroutine, many, AsyncCall()])
def test_a_coroutine_is_refused(function):
    with pytest.raises(NotAPlainFunction, match="schedule 'x'"):
        Schedule("x", HOURLY, function)


@pytest.mark.parametrize("function", [None, "report", 5])
def test_what_is_no_function_is_refused(function):
    with pytest.raises(DefinitionError, match="is no function"):
        Schedule("x", HOURLY, function)


@pytest.mark.parametrize("function", [lambda: None, lambda run, more: None, lambda *, run: None])
def test_a_function_that_does_not_take_a_run_is_refused(function):
    with pytest.raises(DefinitionError, match="does not take one argument"):
        Schedule("x", HOURLY, function)


@pytest.mark.parametrize("function", [nothing, lambda run: None, print, str, lambda *a: None])
def test_whatever_takes_a_run_is_taken(function):
    assert Schedule("x", HOURLY, function).definition().name == "x"


def test_two_of_one_name_are_refused_and_so_is_one_that_is_no_list():
    with pytest.raises(DuplicateSaga):
        Runtime("memory://", [Schedule("x", HOURLY, nothing), Schedule("x", HOURLY, nothing)])
    with pytest.raises(DefinitionError, match="put it in a list"):
        Runtime("memory://", Schedule("x", HOURLY, nothing, missed=CatchUp()))  # type: ignore[arg-type]


def test_a_run_is_named_after_its_schedule_and_its_moment_in_whatever_zone():
    at = datetime(2026, 10, 25, 1, 30, tzinfo=UTC)
    berlin = at.astimezone(ZoneInfo("Europe/Berlin"))
    assert berlin.fold == 1
    assert Run("nightly", berlin).id == Run("nightly", at).id == "nightly@2026-10-25T01:30:00Z"
    assert Run("nightly", berlin - timedelta(days=1)).id != Run("nightly", berlin).id
    with pytest.raises(FrozenInstanceError):
        Run("x", at).missed = 5  # type: ignore[misc]


def test_the_two_runs_of_a_time_shown_twice_have_two_ids():
    zone = ZoneInfo("Europe/Berlin")
    first = datetime(2026, 10, 25, 2, 30, tzinfo=zone)
    assert Run("x", first).id != Run("x", first.replace(fold=1)).id
