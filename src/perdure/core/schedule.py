"""When a schedule runs: cron text by a zone's clock, or a fixed interval. Moments in, moments out.

    Cron("0 3 * * *", zone="Europe/Berlin").next_after(now_ms)
    Every(timedelta(hours=6)).next_after(now_ms)

The answer depends on the definition and the moment alone, never on when anything was started, so
that every process and every restart finds the same runs. ``cronsim`` reads the text and finds the
days; it is given plain local times only, and what becomes of them when the clocks change is decided
here. (Its own handling of zones, in 2.8, loses runs of "*/10 3 * * *" where the clocks change by
half an hour, and gives times that do not exist where they change at midnight.) Knows no process
and no store; of the system it reads the time zone database.
Literature: cron(8) of Debian. Next to read: ``missed.py``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import islice
from typing import ClassVar, TypeAlias
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from perdure.core.outgoing import LATEST_MS
from perdure.errors import DefinitionError
from perdure.messages import datetime_of, milliseconds_of

__all__ = ["COUNTED_MAX", "Cron", "Due", "Every", "Timing", "due_between"]

COUNTED_MAX = 100
"""Runs beyond those that were asked for are counted up to this: a year of minutes takes seconds."""

YEARS_MAX = 50
"""A cron text that has no run for so long has none any more."""

INTERVAL_MIN = timedelta(seconds=1)
INTERVAL_MAX = timedelta(days=36_525)

_FIELDS = ("minute", "hour", "day-of-month", "month", "day-of-week")
_SECOND = timedelta(seconds=1)
_MILLISECOND = timedelta(milliseconds=1)
_NONE = timedelta(0)


@dataclass(frozen=True, slots=True)
class Cron:
    """Runs whenever the clock of a zone shows one of the times that a cron text describes.

        Cron("0 3 * * *", zone="Europe/Berlin")          # at three each night
        Cron("*/15 8-17 * * MON-FRI")                    # in office hours, of UTC
        Cron("30 6 L * *", zone="America/New_York")      # on the last day of the month

    Five fields: minute, hour, day-of-month, month, day-of-week, as cron(8) of Debian has them (if
    both day fields are restricted, either has to match), and beyond it L, LW, ``FRI#2``, ``5L``. A
    run is at second zero.

    When the clocks change, two kinds of text differ, as with cron(8):

    * **Fixed times**: neither the minute nor the hour field begins with a star ("30 2 * * *",
      "0 2-4 * * *"). Each time of a day runs once. One that the clocks skip runs at the first
      moment after the gap, together with all that were skipped: a single run. One that the clocks
      show twice runs the first time.
    * **Repeating**: one of the two begins with a star ("*/15 * * * *", "0 * * * *", "* 2 * * *").
      It runs whenever the clock shows a time that matches: twice in an hour that is repeated, never
      in one that is skipped. So "*/15 * * * *" runs every 15 minutes all the year.

    Raises ``DefinitionError`` for text that cron does not know or that never matches, and for a
    zone that is not in the time zone database.
    """

    text: str
    zone: str = "UTC"
    tz: ZoneInfo = field(init=False, repr=False, compare=False)
    """The zone itself, read once."""

    def __post_init__(self) -> None:
        _check_text(self.text)
        object.__setattr__(self, "tz", _zone_of(self.zone))

    def __str__(self) -> str:
        return f"cron {' '.join(self.text.upper().split())} in {self.zone}"

    def next_after(self, moment_ms: int) -> int | None:
        """The first run later than the moment (ms since the epoch); None if there is none."""
        moment = datetime_of(moment_ms)
        try:
            found = self._next_fixed(moment) if self._is_fixed else self._next_shown(moment)
        except OverflowError:  # the year 10000
            return None
        found_ms = None if found is None else milliseconds_of(found)
        return found_ms if found_ms is not None and found_ms <= LATEST_MS else None

    @property
    def _is_fixed(self) -> bool:
        minute, hour = self.text.split()[:2]
        return not minute.startswith("*") and not hour.startswith("*")

    def _next_fixed(self, moment: datetime) -> datetime | None:
        """Of the times of the day, each when the clock first shows it or a later one."""
        zone = self.tz
        for wall in self._walls(_wall_at(moment, zone)):
            first = _first_reached(wall, zone)
            if first > moment:
                return first
        return None

    def _next_shown(self, moment: datetime) -> datetime | None:
        """The next moment at which the clock shows a time that matches."""
        zone = self.tz
        start = _wall_at(moment, zone)
        ahead = _repeat_at(start, zone)
        if ahead and not moment.astimezone(zone).fold:  # the clock will go back over this time
            soon = next(self._walls(start), None)
            if soon is not None and soon - start < ahead and _repeat_at(soon, zone):
                return _moments_of(soon, zone)[0]
            start -= ahead
        for wall in self._walls(start):
            for shown in _moments_of(wall, zone):
                if shown > moment:
                    return shown
        return None

    def _walls(self, after: datetime) -> Iterator[datetime]:
        """The local times later than this one that match, as a clock without zone would show."""
        for wall in CronSim(self.text, after):
            if wall.year > after.year + YEARS_MAX:
                return
            yield wall


@dataclass(frozen=True, slots=True)
class Every:
    """Runs at a fixed interval, in absolute time; no zone and no change of clocks concerns it.

        Every(timedelta(hours=6))                                # at 00:00, 06:00, … UTC
        Every(timedelta(hours=6), offset=timedelta(hours=1))     # at 01:00, 07:00, … UTC

    Runs are ``offset`` after the multiples of ``interval`` since 1970-01-01 00:00 UTC, a Thursday.

    Raises ``DefinitionError`` for an interval below a second or above a hundred years, an offset
    that is not from zero up to (not including) the interval, and for parts of milliseconds.
    """

    interval: timedelta
    offset: timedelta = timedelta(0)

    tz: ClassVar[tzinfo] = UTC
    """The zone its moments are shown in."""

    def __post_init__(self) -> None:
        _check_duration("interval", self.interval, INTERVAL_MIN, INTERVAL_MAX)
        _check_duration("offset", self.offset, _NONE, self.interval - _MILLISECOND)

    def __str__(self) -> str:
        return f"every {self.interval} from {self.offset}"

    def next_after(self, moment_ms: int) -> int | None:
        """The first run later than the moment (ms since the epoch); None if there is none."""
        interval, offset = self.interval // _MILLISECOND, self.offset // _MILLISECOND
        found = ((moment_ms - offset) // interval + 1) * interval + offset
        return found if found <= LATEST_MS else None


Timing: TypeAlias = Cron | Every
"""When a schedule runs."""


@dataclass(frozen=True, slots=True)
class Due:
    """The runs of a span of time: the ``latest`` of them (ms, oldest first), and how many before.

    ``earlier`` stops at ``COUNTED_MAX``.
    """

    latest: tuple[int, ...]
    earlier: int


def due_between(timing: Timing, after_ms: int, until_ms: int, most: int) -> Due:
    """The runs later than ``after_ms`` and not later than ``until_ms``; the latest ``most``.

    The work is bounded however many runs there are.
    """
    limit = most + COUNTED_MAX
    runs = tuple(islice(_walk(timing, after_ms, until_ms), limit))
    latest = runs[-most:] if len(runs) < limit else _latest(timing, after_ms, until_ms, most)
    return Due(latest, len(runs) - len(latest))


def _latest(timing: Timing, after_ms: int, until_ms: int, most: int) -> tuple[int, ...]:
    """Looked for in spans before the end, each twice as long."""
    span_ms = 60_000
    while True:
        start_ms = max(after_ms, until_ms - span_ms)
        found = deque(_walk(timing, start_ms, until_ms), maxlen=most)
        if len(found) == most or start_ms == after_ms:
            return tuple(found)
        span_ms *= 2


def _walk(timing: Timing, after_ms: int, until_ms: int) -> Iterator[int]:
    run = timing.next_after(after_ms)
    while run is not None and run <= until_ms:
        yield run
        run = timing.next_after(run)


# Local times ("walls": what a clock on the wall shows, without zone) and moments


def _wall_at(moment: datetime, zone: ZoneInfo) -> datetime:
    """What the zone's clock shows, in whole seconds."""
    return moment.astimezone(zone).replace(tzinfo=None, microsecond=0)


def _offsets(wall: datetime, zone: ZoneInfo) -> tuple[timedelta, timedelta]:
    """The zone's offset from UTC at a local time: before and after a change there; else the same.

    Where the clocks go back, the first is the larger one; where they skip the time, the second.
    """
    before, after = (wall.replace(tzinfo=zone, fold=fold).utcoffset() for fold in (0, 1))
    assert before is not None
    assert after is not None
    return before, after


def _repeat_at(wall: datetime, zone: ZoneInfo) -> timedelta:
    """How far the clock goes back over a time that it shows twice; zero for all others."""
    before, after = _offsets(wall, zone)
    return max(before - after, _NONE)


def _moments_of(wall: datetime, zone: ZoneInfo) -> list[datetime]:
    """When the clock shows this time: once, twice, or (where it is skipped) never."""
    before, after = _offsets(wall, zone)
    utc = wall.replace(tzinfo=UTC)
    if before < after:
        return []
    return [utc - before] if before == after else [utc - before, utc - after]


def _first_reached(wall: datetime, zone: ZoneInfo) -> datetime:
    """The first moment at which the clock shows this time or, where it is skipped, a later one."""
    before, after = _offsets(wall, zone)
    utc = wall.replace(tzinfo=UTC)
    if before >= after:
        return utc - before
    early, late = utc - after, utc - before  # the change is between the two, or at the second
    while late - early > _SECOND:
        middle = early + (late - early) // _SECOND // 2 * _SECOND
        if middle.astimezone(zone).utcoffset() == before:
            early = middle
        else:
            late = middle
    return late


# Checks


def _check_text(text: object) -> None:
    remedy = "give five fields: minute, hour, day-of-month, month, day-of-week, as '0 3 * * MON'"
    if type(text) is not str:
        raise DefinitionError(f"cron text is {text!r}", remedy=remedy)
    count = len(text.split())
    if count != len(_FIELDS):
        raise DefinitionError(f"cron text {text!r} has {count} fields", remedy=remedy)
    try:
        found = next(CronSim(text, datetime(2000, 1, 1)), None)
    except CronSimError as error:
        problem = str(error).lower()
        raise DefinitionError(f"cron text {text!r}: {problem}", remedy=remedy) from None
    if found is None:
        raise DefinitionError(
            f"cron text {text!r} never matches", remedy="mend its days and months"
        )


def _zone_of(name: object) -> ZoneInfo:
    try:
        if type(name) is str and name:
            return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # unknown; no name at all; a directory of zones
        pass
    raise DefinitionError(
        f"time zone {name!r} is not in the time zone database",
        remedy="give a name as 'Europe/Berlin'; where a system has no zones, install tzdata",
    )


def _check_duration(what: str, value: object, least: timedelta, most: timedelta) -> None:
    if (
        isinstance(value, timedelta)
        and least <= value <= most
        and not value.microseconds % 1_000  # runs are stored in whole milliseconds
    ):
        return
    raise DefinitionError(
        f"Every.{what} is {value!r}",
        remedy=f"give a timedelta from {least} to {most}, in whole milliseconds",
    )
