"""When schedules run: by the clock of a zone, also when it changes; and at fixed intervals."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import example, given, settings
from hypothesis import strategies as st

from perdure import Cron, Every
from perdure.core.schedule import COUNTED_MAX, Timing, due_between
from perdure.errors import DefinitionError
from perdure.messages import datetime_of, milliseconds_of
from tests.effort import times

MINUTE_MS = 60_000


def walk(timing: Timing, after: datetime, until: datetime) -> Iterator[int]:
    """All runs from one moment to another, as milliseconds."""
    run = timing.next_after(milliseconds_of(after))
    while run is not None and run <= milliseconds_of(until):
        yield run
        run = timing.next_after(run)


def shown(cron: Cron, day: str, days: int = 1) -> list[str]:
    """The runs of a day of the zone, as its clock shows them, with the offset."""
    midnight = datetime.fromisoformat(day).replace(tzinfo=cron.tz)
    before = midnight.astimezone(UTC) - timedelta(milliseconds=1)
    end = (midnight + timedelta(days=days)).astimezone(UTC) - timedelta(milliseconds=1)
    return [
        datetime_of(run).astimezone(cron.tz).isoformat(timespec="minutes")[11:]
        for run in walk(cron, before, end)
    ]


# The change of clocks: what is stated in the docstring of Cron, in both directions


@pytest.mark.parametrize(
    ("text", "zone", "day", "runs"),
    [
        # Berlin skips 02:00 to 03:00
        ("30 1 * * *", "Europe/Berlin", "2026-03-29", ["01:30+01:00"]),
        ("30 2 * * *", "Europe/Berlin", "2026-03-29", ["03:00+02:00"]),
        ("0 2 * * *", "Europe/Berlin", "2026-03-29", ["03:00+02:00"]),
        ("0 3 * * *", "Europe/Berlin", "2026-03-29", ["03:00+02:00"]),
        ("0,30 2,3 * * *", "Europe/Berlin", "2026-03-29", ["03:00+02:00", "03:30+02:00"]),
        # New York skips the same hour of its own, three weeks before
        ("30 2 * * *", "America/New_York", "2026-03-08", ["03:00-04:00"]),
        # Lord Howe Island skips the half hour from 02:00
        ("15 2 * * *", "Australia/Lord_Howe", "2026-10-04", ["02:30+11:00"]),
        ("45 2 * * *", "Australia/Lord_Howe", "2026-10-04", ["02:45+11:00"]),
        # São Paulo skipped the first hour of the day, the last time in 2018
        ("0 0 * * *", "America/Sao_Paulo", "2018-11-04", ["01:00-02:00"]),
        ("0 0 * * *", "America/Sao_Paulo", "2026-11-01", ["00:00-03:00"]),
    ],
)
def test_a_fixed_time_that_is_skipped_runs_at_the_first_moment_after_it(text, zone, day, runs):
    assert shown(Cron(text, zone), day) == runs


@pytest.mark.parametrize(
    ("text", "zone", "day", "runs"),
    [
        # Berlin shows 02:00 to 03:00 twice
        ("30 1 * * *", "Europe/Berlin", "2026-10-25", ["01:30+02:00"]),
        ("0 2 * * *", "Europe/Berlin", "2026-10-25", ["02:00+02:00"]),
        ("30 2 * * *", "Europe/Berlin", "2026-10-25", ["02:30+02:00"]),
        ("0 3 * * *", "Europe/Berlin", "2026-10-25", ["03:00+01:00"]),
        ("0,30 2 * * *", "Europe/Berlin", "2026-10-25", ["02:00+02:00", "02:30+02:00"]),
        # New York shows 01:00 to 02:00 twice
        ("30 1 * * *", "America/New_York", "2026-11-01", ["01:30-04:00"]),
        ("0 2 * * *", "America/New_York", "2026-11-01", ["02:00-05:00"]),
        # Lord Howe Island shows 01:30 to 02:00 twice
        ("45 1 * * *", "Australia/Lord_Howe", "2026-04-05", ["01:45+11:00"]),
        ("15 1 * * *", "Australia/Lord_Howe", "2026-04-05", ["01:15+11:00"]),
        # São Paulo showed the last hour of a day twice
        ("30 23 * * *", "America/Sao_Paulo", "2018-02-17", ["23:30-02:00"]),
    ],
)
def test_a_fixed_time_that_is_shown_twice_runs_the_first_time(text, zone, day, runs):
    assert shown(Cron(text, zone), day) == runs


@pytest.mark.parametrize(
    ("text", "zone", "day", "runs"),
    [
        ("*/30 2 * * *", "Europe/Berlin", "2026-03-29", []),
        ("0 */2 * * *", "Europe/Berlin", "2026-03-29", 11),
        (
            "*/30 2 * * *",
            "Europe/Berlin",
            "2026-10-25",
            ["02:00+02:00", "02:30+02:00", "02:00+01:00", "02:30+01:00"],
        ),
        ("0 */2 * * *", "Europe/Berlin", "2026-10-25", 13),
        ("0 * * * *", "Europe/Berlin", "2026-03-29", 23),
        ("0 * * * *", "Europe/Berlin", "2026-10-25", 25),
        ("*/15 1 * * *", "America/New_York", "2026-11-01", 8),
        ("*/10 2 * * *", "Australia/Lord_Howe", "2026-10-04", 3),
        ("*/10 3 * * *", "Australia/Lord_Howe", "2026-10-04", 6),
        ("*/10 1 * * *", "Australia/Lord_Howe", "2026-04-05", 9),
        ("*/10 2 * * *", "Australia/Lord_Howe", "2026-04-05", 6),
        ("0 * * * *", "Australia/Lord_Howe", "2026-10-04", 23),  # 02:00 is not shown
        ("*/10 0 * * *", "America/Sao_Paulo", "2018-11-04", []),
        ("*/10 23 * * *", "America/Sao_Paulo", "2018-02-17", 12),
    ],
)
def test_a_repeating_text_runs_whenever_the_clock_shows_a_time_that_matches(text, zone, day, runs):
    found = shown(Cron(text, zone), day)
    assert (len(found) if isinstance(runs, int) else found) == runs


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe"])
@pytest.mark.parametrize("minutes", [1, 5, 15, 30])
def test_every_so_many_minutes_has_no_gap_all_the_year(zone, minutes):
    cron = Cron(f"*/{minutes} * * * *", zone)
    for change in changes(zone, 2026):
        runs = list(walk(cron, change - timedelta(hours=5), change + timedelta(hours=5)))
        assert {b - a for a, b in itertools.pairwise(runs)} == {minutes * MINUTE_MS}


def test_a_zone_that_gave_up_its_summer_time_is_followed_before_and_after():
    tehran = Cron("30 0 * * *", "Asia/Tehran")  # clocks skipped 00:00 to 01:00, until 2022
    assert shown(tehran, "2022-03-22") == ["01:00+04:30"]
    assert shown(tehran, "2023-03-22") == ["00:30+03:30"]


def test_a_time_shown_twice_every_year_is_not_taken_for_that_of_the_next_year():
    cron = Cron("*/20 23 21 9 *", "Asia/Tehran")  # the last hour of this day, some years
    first = ["23:00+04:30", "23:20+04:30", "23:40+04:30"]
    second = ["23:00+03:30", "23:20+03:30", "23:40+03:30"]
    assert shown(cron, "2018-01-01", days=730) == [*first, *second] * 2


def test_a_day_that_a_zone_left_out_is_made_up_for_at_its_end():
    apia = Cron("0 3 * * *", "Pacific/Apia")  # crossed the date line: no 30th of December 2011
    assert shown(apia, "2011-12-29", days=3) == ["03:00-10:00", "00:00+14:00", "03:00+14:00"]
    assert shown(Cron("0 3 30 12 *", "Pacific/Apia"), "2011-12-01", days=61) == ["00:00+14:00"]


def test_utc_knows_no_change():
    runs = list(
        walk(Cron("30 2 * * *"), datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))
    )
    assert len(runs) == 365
    assert {b - a for a, b in itertools.pairwise(runs)} == {86_400_000}


# Against models that look at each single minute

ZONES = [
    "UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Sao_Paulo",
    "Asia/Tehran", "Pacific/Apia", "Africa/Casablanca", "Europe/Dublin", "Africa/Cairo",
    "Asia/Kathmandu", "Antarctica/Troll",
]  # fmt: skip

FIELD = {"minute": range(60), "hour": range(24), "day": range(1, 32), "month": range(1, 13)}


@cache
def changes(zone: str, since: int, until: int | None = None) -> list[datetime]:
    """The moments at which a zone changed its offset, to the second."""
    tz, found = ZoneInfo(zone), []
    early = datetime(since, 1, 1, tzinfo=UTC)
    while early.year <= (until or since):
        late = early + timedelta(days=1)
        if early.astimezone(tz).utcoffset() != late.astimezone(tz).utcoffset():
            found.append(_change_between(early, late, tz))
        early = late
    return found


def _change_between(early: datetime, late: datetime, tz: ZoneInfo) -> datetime:
    before = early.astimezone(tz).utcoffset()
    while late - early > timedelta(seconds=1):
        middle = (early + (late - early) / 2).replace(microsecond=0)
        is_before = middle.astimezone(tz).utcoffset() == before
        early, late = (middle, late) if is_before else (early, middle)
    return late


class Text:
    """A cron text made of the values of its fields, so that matching needs no parser."""

    def __init__(self, minutes: set[int] | None, hours: set[int] | None, weekdays: set[int] | None):
        self.minutes, self.hours, self.weekdays = minutes, hours, weekdays

    def __str__(self) -> str:
        fields = (self.minutes, self.hours, {"*"}, {"*"}, self.weekdays)
        return " ".join("*" if f is None else ",".join(map(str, sorted(f))) for f in fields)

    __repr__ = __str__

    @property
    def is_fixed(self) -> bool:
        return self.minutes is not None and self.hours is not None

    def matches(self, wall: datetime) -> bool:
        return (
            (self.minutes is None or wall.minute in self.minutes)
            and (self.hours is None or wall.hour in self.hours)
            and (self.weekdays is None or wall.isoweekday() % 7 in self.weekdays)
        )


def model(text: Text, zone: ZoneInfo, minutes: Iterable[datetime]) -> list[int]:
    """The runs among these minutes: each looked at, with the latest time shown so far in mind."""
    runs: list[int] = []
    reached: datetime | None = None
    for moment in minutes:
        wall = moment.astimezone(zone).replace(tzinfo=None)
        before, reached = reached, max(reached or wall, wall)
        new = [wall] if not text.is_fixed else _minutes(before, reached)
        if any(map(text.matches, new)):
            runs.append(milliseconds_of(moment))
    return runs


def _minutes(after: datetime | None, until: datetime) -> list[datetime]:
    if after is None:
        return []
    count = (until - after) // timedelta(minutes=1)
    return [after + timedelta(minutes=n) for n in range(1, count + 1)]


texts = st.builds(
    Text,
    st.none() | st.sets(st.integers(0, 59), min_size=1, max_size=3),
    st.none() | st.sets(st.integers(0, 4) | st.just(23), min_size=1, max_size=3),
    st.none() | st.sets(st.integers(0, 6), min_size=1, max_size=3),
)
places = st.sampled_from([
    (zone, change)
    for zone in ZONES
    for change in (changes(zone, 2010, 2012) + changes(zone, 2017, 2026))[-16:]
    or [datetime(2026, 1, 1, tzinfo=UTC)]
])  # fmt: skip


@settings(max_examples=times(150))
@given(texts, places)
@example(Text(None, {3}, None), ("Australia/Lord_Howe", datetime(2025, 10, 4, 15, 30, tzinfo=UTC)))
@example(Text(None, {2}, None), ("Australia/Lord_Howe", datetime(2025, 4, 5, 15, tzinfo=UTC)))
@example(Text({30}, {2}, None), ("Europe/Berlin", datetime(2026, 10, 25, 1, tzinfo=UTC)))
def test_the_runs_around_a_change_are_those_of_a_walk_through_its_minutes(text, place):
    zone, change = place
    start = change.replace(second=0) - timedelta(hours=40)  # the model's first day is not compared
    minutes = [start + timedelta(minutes=n) for n in range(66 * 60)]
    begin, end = start + timedelta(hours=26), minutes[-1]
    expected = [r for r in model(text, ZoneInfo(zone), minutes) if r > milliseconds_of(begin)]
    assert list(walk(Cron(str(text), zone), begin, end)) == expected


moments = st.integers(0, milliseconds_of(datetime(2100, 1, 1, tzinfo=UTC)))
crons = st.builds(lambda text, zone: Cron(str(text), zone), texts, st.sampled_from(ZONES))
everies = st.builds(
    lambda interval_s, share: Every(
        timedelta(seconds=interval_s), offset=timedelta(seconds=int(interval_s * share))
    ),
    st.integers(1, 10**7),
    st.floats(0, 0.99),
)
timings = crons | everies


@given(timings, moments)
def test_the_next_run_is_later_and_none_lies_between(timing, moment):
    run = timing.next_after(moment)
    assert run is not None
    assert run > moment
    for between in (moment, (moment + run) // 2, run - 1):
        assert timing.next_after(between) == run
    again = timing.next_after(run)
    assert again is not None
    assert again > run


@given(timings, moments, st.integers(1, 50))
def test_from_wherever_a_walk_begins_it_finds_the_same_runs(timing, moment, count):
    runs = [moment]
    for _ in range(count):
        runs.append(timing.next_after(runs[-1]) or 0)
    middle = (runs[0] + runs[-1]) // 2
    later = [run for run in runs[1:] if run > middle]
    assert timing.next_after(middle) == later[0]


@settings(max_examples=times(50))
@given(texts.filter(lambda text: text.is_fixed), st.sampled_from(ZONES[:3]), moments)
def test_where_whole_hours_change_fixed_times_run_as_cronsim_has_them(text, zone, moment):
    """Which claims to be Debian's cron. It is not asked where a time shown twice is over once."""
    start = datetime_of(moment).astimezone(ZoneInfo(zone)).replace(hour=12)
    theirs = [milliseconds_of(run) for run in itertools.islice(CronSim(str(text), start), 20)]
    ours = itertools.islice(
        walk(Cron(str(text), zone), start, datetime(2105, 1, 1, tzinfo=UTC)), 20
    )
    assert list(ours) == theirs


def test_a_run_is_found_from_any_millisecond_before_it():
    cron = Cron("0 3 * * *", "Europe/Berlin")
    run = milliseconds_of(datetime(2026, 1, 2, 2, tzinfo=UTC))
    assert cron.next_after(run - 1) == run
    assert cron.next_after(run - 86_400_000) == run
    assert cron.next_after(run + 1) == cron.next_after(run) == run + 86_400_000


def test_days_are_read_as_debian_does():
    def days(text: str) -> list[int]:
        year = datetime(2026, 1, 1, tzinfo=UTC) - timedelta(seconds=1)
        return [datetime_of(r).day for r in walk(Cron(text), year, year + timedelta(days=31))]

    assert days("0 0 13 * FRI") == [2, 9, 13, 16, 23, 30]  # both restricted: either
    assert days("0 0 */2 * FRI") == [9, 23]  # one begins with a star: both
    assert days("0 0 L * *") == [31]
    assert days("0 0 LW * *") == [30]
    assert days("0 0 * * FRI#2") == [9]
    assert days("0 0 * * 5L") == [30]


def test_rare_and_last_runs():
    assert datetime_of(Cron("0 0 29 2 MON#5").next_after(0) or 0).year == 1972
    assert Cron("0 0 1 1 *").next_after(milliseconds_of(datetime(9999, 6, 1, tzinfo=UTC))) is None
    # Cairo's clocks skip this hour on this day of each year, from 2023 on.
    skipped = Cron("*/10 0 * 4 5L", "Africa/Cairo")
    assert skipped.next_after(milliseconds_of(datetime(2022, 6, 1, tzinfo=UTC))) is None
    assert Cron("10 0 * 4 5L", "Africa/Cairo").next_after(0) is not None


# Intervals


def test_an_interval_counts_from_the_epoch_wherever_it_is_asked():
    six_hours = Every(timedelta(hours=6), offset=timedelta(hours=1))
    found = walk(
        six_hours, datetime(2026, 1, 1, 2, 3, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
    )
    assert [datetime_of(run).hour for run in found] == [7, 13, 19]
    weekly = Every(timedelta(weeks=1)).next_after(0)
    assert datetime_of(weekly or 0) == datetime(1970, 1, 8, tzinfo=UTC)


@given(everies, moments)
def test_an_interval_is_kept_exactly(every, moment):
    run = every.next_after(moment)
    interval_ms = every.interval // timedelta(milliseconds=1)
    assert every.next_after(run) - run == interval_ms
    assert run - interval_ms <= moment
    assert timedelta(milliseconds=run) % every.interval == every.offset


def test_an_interval_is_over_at_the_end_of_the_calendar():
    end = milliseconds_of(datetime(9999, 12, 30, 23, tzinfo=UTC))
    assert Every(timedelta(days=1)).next_after(end) is not None
    assert Every(timedelta(days=1)).next_after(end + 86_400_000) is None


# What is due


@given(timings, moments, st.integers(0, 400), st.integers(1, 30))
def test_the_latest_due_runs_are_found_and_the_others_counted(timing, moment, count, most):
    runs = [moment]
    for _ in range(count):
        runs.append(timing.next_after(runs[-1]) or 0)
    due = due_between(timing, moment, runs[-1], most)
    assert due.latest == tuple(runs[1:][-most:])
    assert due.earlier == min(max(count - most, 0), COUNTED_MAX)


@pytest.mark.parametrize("text", ["* * * * *", "* * 1 1 *", "0 0 29 2 *", "30 2 * * *"])
def test_a_hundred_years_without_a_look_are_soon_looked_over(text):
    started = time.monotonic()
    until = milliseconds_of(datetime(2100, 1, 1, 12, tzinfo=UTC))
    cron = Cron(text, "Europe/Berlin")
    due = due_between(cron, 0, until, 3)
    assert len(due.latest) == 3
    assert (cron.next_after(due.latest[-1]) or 0) > until
    assert time.monotonic() - started < 5


# Bad input


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("61 * * * *", "bad minute"),
        ("* 24 * * *", "bad hour"),
        ("* * 0 * *", "bad day-of-month"),
        ("* * * 13 *", "bad month"),
        ("* * * * 8", "bad day-of-week"),
        ("*/0 * * * *", "bad minute"),
        ("5-1 * * * *", "bad minute"),
        ("1,, * * * *", "bad minute"),
        ("٣ * * * *", "bad minute"),
        ("0 0 30 2 *", "bad day-of-month"),
        ("* * */20 * 1L", "never matches"),
        ("", "0 fields"),
        ("0 3 * *", "4 fields"),
        ("0 0 3 * * *", "6 fields"),
        ("@daily", "1 fields"),
        (None, "is None"),
        (5, "is 5"),
        (b"* * * * *", "is b"),
    ],
)
def test_cron_text_that_is_wrong_is_refused_with_the_field(text, problem):
    with pytest.raises(DefinitionError, match=problem) as caught:
        Cron(text)
    assert caught.value.remedy


@pytest.mark.parametrize(
    "zone",
    ["Europe/Berlín", "europe/nowhere", "Europe", "", "/etc/passwd", "../x", "A" * 999, "\0",
     "\ud800", None, UTC, ZoneInfo("UTC")],
)  # fmt: skip
def test_a_zone_that_does_not_exist_is_refused(zone):
    with pytest.raises(DefinitionError, match="time zone") as caught:
        Cron("0 3 * * *", zone)
    assert "Europe/Berlin" in (caught.value.remedy or "")


@given(st.text(alphabet="0123456789*/,-LW#MONFRI ", max_size=20))
def test_any_text_is_a_schedule_or_refused(text):
    try:
        cron = Cron(text)
    except DefinitionError:
        return
    assert cron.next_after(0) is not None


@pytest.mark.parametrize(
    ("interval", "offset"),
    [
        (timedelta(0), timedelta(0)),
        (timedelta(seconds=-1), timedelta(0)),
        (timedelta(milliseconds=999), timedelta(0)),
        (timedelta(seconds=1, microseconds=1), timedelta(0)),
        (timedelta.max, timedelta(0)),
        (timedelta(hours=1), timedelta(hours=1)),
        (timedelta(hours=1), timedelta(seconds=-1)),
        (timedelta(hours=1), timedelta(microseconds=5)),
        (3600, timedelta(0)),
        (None, timedelta(0)),
        (timedelta(hours=1), None),
        (timedelta(hours=1), datetime(2026, 1, 1)),
    ],
)
def test_an_interval_that_is_wrong_is_refused(interval, offset):
    with pytest.raises(DefinitionError, match="Every") as caught:
        Every(interval, offset)
    assert "timedelta" in (caught.value.remedy or "")


def test_definitions_are_values():
    assert Cron("0 3 * * *", "Europe/Berlin") == Cron("0 3 * * *", zone="Europe/Berlin")
    assert len({Cron("0 3 * * *"), Cron("0 3 * * *"), Every(timedelta(hours=1))}) == 2
    assert str(Cron(" 0  3 * * mon ", "Europe/Berlin")) == "cron 0 3 * * MON in Europe/Berlin"
