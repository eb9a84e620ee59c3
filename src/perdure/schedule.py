"""Schedules as users declare them: when something runs, and what is published then.

    nightly = Schedule(
        "nightly-report",
        Cron("0 3 * * *", zone="Europe/Berlin"),
        lambda run: StartReport(f"report-{run.id}"),
    )
    async with Runtime("sqlite+aiosqlite:///reports.db", [Report, nightly]) as runtime: ...

For the kernel a schedule is a saga with one instance, named as the schedule. Its deadline "next" is
the next run. The turn of that deadline calls none of the user's code, and cannot fail: it decides
which runs are due, arms a deadline "run …" for each, at the moment of the run, and "next" for the
one to come. The turn of a "run …" calls the function and sends what it returned; if that raises, it
is a dead letter as with any saga, and the schedule goes on. All of it is journaled, so a run is
made once, across restarts and crashes. Literature: Kubernetes CronJob (deadlines for starting),
APScheduler (misfires, coalescing), Airflow (what a run covers). Next to read: ``runs.py`` (what it
exchanges), ``core/schedule.py`` (when), ``core/missed.py`` (which of the missed ones).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from perdure.core.correlation import Continue, Start, VerdictKind, Verdicts
from perdure.core.missed import CatchUp, Coalesce, MissedPolicy, Skip
from perdure.core.saga import Definition, Handling, IgnoreMissing
from perdure.core.schedule import Cron, Due, Every, Timing, due_between
from perdure.effects import CancelDeadline, Effect, Publish, Record, Send, SetDeadline
from perdure.errors import DefinitionError, InvalidEffect, NotAPlainFunction
from perdure.member import Opening
from perdure.messages import (
    DeadlineReached,
    Metadata,
    TypeInfo,
    datetime_of,
    milliseconds_of,
    type_info_of,
)
from perdure.queue import WorkQueue
from perdure.runs import (
    NEXT,
    OpenSchedule,
    PauseSchedule,
    ResumeSchedule,
    Run,
    RunsPlanned,
    ScheduleState,
    TriggerSchedule,
    fold,
    text_of,
)
from perdure.saga_checks import check_name_text

__all__ = ["Schedule"]

RUN = "run "
"""What the name of the deadline of a run begins with; its moment follows."""


class Schedule:
    """Makes runs at the times that ``timing`` says, for as long as the runtime has it.

        hourly = Schedule("hourly", Every(timedelta(hours=1)), tick, missed=CatchUp(most=24))

    ``timing``: a ``Cron`` or an ``Every``. ``function`` is called once per run, in the run's turn,
    with a ``Run``; it returns what is to happen, and does nothing itself:

    * a message, which is published: to sagas by their correlation, and to subscribers,
    * ``Send(command)``: to the work queue whose worker takes it,
    * several of these, or None.

    If it raises, or what it returns cannot be stored or interests nobody, the run is a dead letter,
    and the schedule goes on. ``missed``: what becomes of the runs that were due while nobody
    looked: ``Coalesce()``, ``CatchUp(most)`` or ``Skip(grace)``.

    It begins to count when a runtime first has it. Another ``timing`` counts from the first start
    with it; a run that was due before then is made (or missed) as the former one had it.

    Raises ``DefinitionError`` for a bad name, and for what is no timing, function or policy.
    """

    def __init__(
        self,
        name: str,
        timing: Timing,
        function: Callable[[Run], Any],
        *,
        missed: MissedPolicy | None = None,
    ) -> None:
        check_name_text(name, "Schedule")
        policy = Coalesce() if missed is None else missed
        _check(name, timing, function, policy)
        self.name = name
        self.timing = timing
        self.function = function
        self.missed = policy

    def __repr__(self) -> str:
        return f"<Schedule {self.name}, {self.timing}>"

    # What a runtime asks (see ``member.py``)

    def definition(self) -> Definition:
        """The kernel's view of it."""
        start, later = (VerdictKind.START, False), (VerdictKind.CONTINUE, False)
        kinds: dict[type | str, tuple[VerdictKind, bool]] = {
            OpenSchedule: start,
            PauseSchedule: later,
            ResumeSchedule: later,
            TriggerSchedule: later,
        }
        return Definition(
            name=self.name,
            state_type=type_info_of(ScheduleState) or TypeInfo(ScheduleState, "ScheduleState"),
            interests=tuple(kinds),
            initial_state=ScheduleState,
            correlate=self._correlate,
            choose=self._choose,
            apply=fold,
            compensate=lambda state, command: None,
            on_missing=IgnoreMissing(),
            types=(RunsPlanned,),
            folds=frozenset({RunsPlanned, PauseSchedule, ResumeSchedule, DeadlineReached}),
            kinds=kinds,
            copies_state=False,
            is_told=False,
        )

    def queues(self) -> Sequence[WorkQueue]:
        """None."""
        return ()

    def openings(self) -> Iterable[Opening]:
        """Each start looks whether what is armed is what the definition says."""
        return [Opening(self.name, OpenSchedule(), None)]

    def _correlate(self, event: Any, metadata: Metadata) -> Verdicts:
        return Start(self.name) if type(event) is OpenSchedule else Continue(self.name)

    def _choose(self, state: ScheduleState, event: Any, metadata: Metadata) -> Handling | None:
        if metadata.instance_id != self.name:
            return None  # a ref to an instance that must not be
        match event:
            case DeadlineReached(name=name):
                return self._decide if name == NEXT else partial(self._make, state)
            case OpenSchedule():
                is_open = state.is_paused or self._is_armed(state)
                return None if is_open else self._open
            case PauseSchedule():
                return None if state.is_paused else _pause
            case ResumeSchedule():
                return self._open if state.is_paused else None
            case TriggerSchedule():
                return _trigger
            case _:
                return None

    # Turns

    def _is_armed(self, state: ScheduleState) -> bool:
        """What is armed is what the definition, and the zone's rules of today, say."""
        if state.timing != str(self.timing) or state.decided_until is None:
            return False
        return state.next_at == self._next_after(milliseconds_of(state.decided_until))

    def _open(self, state: ScheduleState, event: Any, metadata: Metadata) -> Iterator[Effect]:
        decided_ms = _decided(state)
        if type(event) is ResumeSchedule or state.timing != str(self.timing):
            decided_ms = max(decided_ms, metadata.occurred_at_ms)
        yield from self._plan(decided_ms, 0)

    def _decide(self, state: ScheduleState, event: Any, metadata: Metadata) -> Iterator[Effect]:
        """The run to come has come, and others perhaps, if nobody looked for a while."""
        now_ms, decided_ms = metadata.occurred_at_ms, _decided(state)
        if state.timing == str(self.timing):
            due = due_between(self.timing, decided_ms, now_ms, self.missed.most)
            decided_ms = max(decided_ms, *due.latest) if due.latest else decided_ms
        else:  # it was armed by another definition, which is not known any more
            due = Due((milliseconds_of(event.due_at),), 0)
            decided_ms = max(decided_ms, now_ms)
        made = self.missed.made(due.latest, now_ms)
        yield from self._plan(decided_ms, due.earlier + len(due.latest) - len(made))
        for run_ms in made:
            yield _run_at(datetime_of(run_ms))

    def _plan(self, decided_ms: int, missed: int) -> Iterator[Effect]:
        next_at = self._next_after(decided_ms)
        yield Record(RunsPlanned(str(self.timing), datetime_of(decided_ms), next_at, missed))
        yield CancelDeadline(NEXT) if next_at is None else SetDeadline(NEXT, at=next_at)

    def _next_after(self, moment_ms: int) -> datetime | None:
        found = self.timing.next_after(moment_ms)
        return None if found is None else datetime_of(found)

    def _make(
        self, before: ScheduleState, state: ScheduleState, event: Any, metadata: Metadata
    ) -> Iterator[Effect]:
        """A run: whatever the function wants sent."""
        zone = self.timing.tz
        previous_at = before.previous_at and before.previous_at.astimezone(zone)
        at = event.due_at.astimezone(zone)
        returned = self.function(Run(self.name, at, before.missed_since, previous_at))
        for one in _several(returned):
            yield _effect_of(one)


def _decided(state: ScheduleState) -> int:
    return 0 if state.decided_until is None else milliseconds_of(state.decided_until)


def _pause(state: ScheduleState, event: Any, metadata: Metadata) -> Iterable[Effect]:
    return [CancelDeadline(NEXT)]


def _trigger(state: ScheduleState, event: Any, metadata: Metadata) -> Iterable[Effect]:
    return [_run_at(event.at or metadata.occurred_at)]


def _run_at(at: datetime) -> SetDeadline:
    return SetDeadline(f"{RUN}{text_of(at)}", at=datetime_of(milliseconds_of(at)))


def _several(returned: Any) -> Iterable[Any]:
    if returned is None:
        return ()
    is_one = _is_message(returned) or isinstance(returned, (str, bytes))
    return [returned] if is_one or not isinstance(returned, Iterable) else returned


def _effect_of(one: Any) -> Effect:
    if isinstance(one, (Send, Publish)):
        return one
    if _is_message(one):
        return Publish(one, mandatory=True)
    if isinstance(one, Coroutine):
        one.close()  # else Python complains that nobody awaited it
    raise InvalidEffect(
        f"the schedule's function returned {one!r} of type {type(one).__name__}",
        remedy="return a message (an object of a @message class), Send(command), several, or None",
    )


def _is_message(value: Any) -> bool:
    return type_info_of(type(value)) is not None


def _check(name: str, timing: object, function: object, missed: object) -> None:
    if not isinstance(timing, (Cron, Every)):
        raise DefinitionError(
            f"schedule {name!r}: its timing is {timing!r}",
            remedy="as Cron('0 3 * * *', zone='Europe/Berlin') or Every(timedelta(hours=6))",
        )
    if not isinstance(missed, (Coalesce, CatchUp, Skip)):
        raise DefinitionError(
            f"schedule {name!r}: missed is {missed!r}",
            remedy="give Coalesce(), CatchUp(most=…) or Skip(grace=…)",
        )
    if not callable(function):
        raise DefinitionError(
            f"schedule {name!r}: {function!r} is no function",
            remedy="give a function of the run, as lambda run: StartReport(run.id)",
        )
    if any(map(_is_asynchronous, (function, getattr(function, "__call__", None)))):  # noqa: B004
        raise NotAPlainFunction(
            f"schedule {name!r} is given a coroutine",
            remedy="make it a plain function; what must wait belongs into a worker",
        )
    try:
        inspect.signature(function).bind(None)
    except TypeError:
        raise DefinitionError(
            f"schedule {name!r}: its function does not take one argument, the run",
            remedy="write it as def start(run): …",
        ) from None
    except ValueError:  # no signature is known of it
        pass


def _is_asynchronous(function: Any) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
