"""Schedules in a runtime: on time, through changes of the clock, restarts, crashes and mistakes."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta

import pytest

from perdure import (
    CatchUp,
    Coalesce,
    Cron,
    Every,
    Job,
    MemoryStore,
    Outcome,
    PauseSchedule,
    Publish,
    ResumeSchedule,
    Run,
    Runtime,
    Schedule,
    Send,
    Skip,
    SqlStore,
    TriggerSchedule,
    WorkQueue,
)
from perdure.errors import NaiveDatetime
from perdure.runs import OpenSchedule, ScheduleState
from perdure.testing import FaultyStore, SimulatedClock
from tests.runtime.errands import Asked, Do, Done
from tests.runtime.mortal import FATES, Fate, MortalStore, again, live
from tests.runtime.reports import (
    NIGHTLY,
    Report,
    StartReport,
    at,
    report,
    reports,
    schedule,
    state_of,
)
from tests.runtime.support import quickly, reopened
from tests.sagas import Ledger


def running(store: FaultyStore, clock: SimulatedClock, *schedules: Schedule) -> Runtime:
    return Runtime(store, [Report, *schedules], clock=clock)


@quickly
async def test_each_run_starts_one_instance_at_its_moment(store):
    clock = SimulatedClock(at("2026-01-01 11:59"))
    hourly = schedule()
    async with running(store, clock, hourly) as runtime:
        assert (await state_of(runtime, hourly)).next_at == at("2026-01-01 12:00")
        await clock.advance(timedelta(seconds=59.999))
        assert await reports(runtime) == []
        await clock.advance(timedelta(milliseconds=1))
        assert await reports(runtime) == ["2026-01-01 12:00"]
        await clock.advance(timedelta(hours=2))
        assert await reports(runtime) == [f"2026-01-01 {hour}:00" for hour in (12, 13, 14)]
        state = await state_of(runtime, hourly)
        assert (state.made, state.missed, state.is_paused) == (3, 0, False)
        assert state.next_at == at("2026-01-01 15:00")


@quickly
async def test_a_run_tells_its_moment_in_the_zone_and_the_run_before(store):
    runs: list[Run] = []
    clock = SimulatedClock(at("2026-03-28 00:00"))
    nightly = schedule(NIGHTLY, function=runs.append)
    async with running(store, clock, nightly):
        await clock.advance(timedelta(days=2))
    berlin = NIGHTLY.tz
    first, second = runs
    assert second.previous_at is not None
    assert first == Run("reports", datetime(2026, 3, 28, 2, 30, tzinfo=berlin))
    assert second.scheduled_at.isoformat() == "2026-03-29T03:00:00+02:00"
    assert second.previous_at.isoformat() == "2026-03-28T02:30:00+01:00"
    assert second.previous_at.tzinfo is berlin
    assert second.id == "reports@2026-03-29T01:00:00Z"


@quickly
async def test_a_fixed_time_runs_once_a_day_through_both_changes_of_the_clock(store):
    for start, expected in [
        ("2026-03-28 00:00", ["03-28 01:30", "03-29 01:00", "03-30 00:30"]),
        ("2026-10-24 00:00", ["10-24 00:30", "10-25 00:30", "10-26 01:30"]),
    ]:
        clock = SimulatedClock(at(start))
        nightly = schedule(NIGHTLY, name=f"from-{start[5:7]}")
        async with running(reopened(store), clock, nightly) as runtime:
            await clock.advance(timedelta(days=3) - timedelta(seconds=1))
            found = await reports(runtime, nightly.name)
        assert found == [f"2026-{moment}" for moment in expected]


@quickly
async def test_a_repeating_text_follows_the_clock_through_both_changes(store):
    twice = schedule(Cron("*/30 2 * * *", "Europe/Berlin"), name="half-hours")
    hourly = schedule(Cron("0 * * * *", "Australia/Lord_Howe"), name="hours")
    clock = SimulatedClock(at("2026-10-03 14:00"))
    async with running(store, clock, twice, hourly) as runtime:
        await clock.advance_to(at("2026-10-03 16:59"))
        # 01:00, then 02:00 is skipped, then 03:00, of Lord Howe Island
        assert await reports(runtime, "hours") == ["2026-10-03 14:30", "2026-10-03 16:00"]
        await clock.advance_to(at("2026-10-25 12:00"))
        assert (await reports(runtime, "half-hours"))[-4:] == [
            f"2026-10-25 {moment}" for moment in ("00:00", "00:30", "01:00", "01:30")
        ]


# Restarts


async def after_a_night(store, missed, hours=5.75) -> tuple[list[str], list[int], ScheduleState]:
    """Hourly runs, a runtime that is gone from 12:30 on for some hours; reports and counts."""
    clock = SimulatedClock(at("2026-01-01 11:30"))
    hourly = schedule(missed=missed)
    async with running(store, clock, hourly) as runtime:
        await clock.advance(timedelta(hours=1))
        assert await reports(runtime) == ["2026-01-01 12:00"]
    await clock.advance(timedelta(hours=hours))
    async with running(reopened(store), clock, hourly) as runtime:
        await clock.advance(timedelta(0))
        found = (await reports(runtime))[1:]
        state = await state_of(runtime, hourly)
        assert state.made == 1 + len(found)
        counts = [one.state.missed async for one in runtime.instances(Report)][1:]
        await clock.advance(timedelta(hours=1))
        assert len(await reports(runtime)) == 2 + len(found)  # and it goes on
        return [moment[11:] for moment in found], counts, state


@quickly
async def test_runs_missed_between_two_lives_are_made_up_for_by_the_latest(store):
    found, counts, state = await after_a_night(store, Coalesce())
    assert (found, counts, state.missed) == (["18:00"], [5], 5)


@quickly
async def test_runs_missed_between_two_lives_are_caught_up_with(store):
    found, counts, state = await after_a_night(store, CatchUp())
    assert found == ["13:00", "14:00", "15:00", "16:00", "17:00", "18:00"]
    assert (counts, state.missed) == ([0] * 6, 0)


@quickly
async def test_of_more_than_may_be_caught_up_with_the_oldest_are_missed_and_counted(store):
    found, counts, state = await after_a_night(store, CatchUp(most=2))
    assert (found, counts, state.missed) == (["17:00", "18:00"], [4, 0], 4)


@quickly
async def test_a_run_that_is_too_late_is_skipped_and_counted(store):
    found, counts, state = await after_a_night(store, Skip(grace=timedelta(minutes=14)))
    assert (found, counts, state.missed, state.missed_since) == ([], [], 6, 6)


@quickly
async def test_the_run_after_skipped_ones_knows_how_many_they_were(store):
    clock = SimulatedClock(at("2026-01-01 11:30"))
    hourly = schedule(missed=Skip(grace=timedelta(minutes=5)))
    async with running(store, clock, hourly):
        pass
    await clock.advance(timedelta(hours=3))
    async with running(reopened(store), clock, hourly) as runtime:
        await clock.advance(timedelta(hours=1))
        assert await reports(runtime) == ["2026-01-01 15:00"]
        assert [one.state.missed async for one in runtime.instances(Report)] == [3]


@quickly
async def test_a_run_within_its_grace_is_made(store):
    found, counts, state = await after_a_night(store, Skip(grace=timedelta(minutes=15)))
    assert (found, counts, state.missed) == (["18:00"], [5], 5)


@quickly
async def test_runs_of_one_second_missed_for_a_year_do_not_hold_up_the_start(store):
    clock = SimulatedClock(at("2025-01-01 00:00"))
    busy = schedule(Every(timedelta(seconds=1)))
    async with running(store, clock, busy):
        pass
    await clock.advance(timedelta(days=365))
    async with running(reopened(store), clock, busy) as runtime:
        await clock.advance(timedelta(0))
        assert await reports(runtime) == ["2026-01-01 00:00"]
        assert (await state_of(runtime, busy)).missed == 100  # a hundred or more


@pytest.mark.parametrize("seconds", [-1, 0, 1])
@quickly
async def test_a_restart_at_the_very_moment_of_a_run_neither_loses_nor_doubles_it(store, seconds):
    clock, hourly = SimulatedClock(at("2026-01-01 11:30")), schedule()
    async with running(store, clock, hourly):
        await clock.advance_to(at("2026-01-01 12:00") + timedelta(seconds=seconds))
    for _ in range(3):
        async with running(reopened(store), clock, hourly) as runtime:
            await clock.settle()
    await clock.advance_to(at("2026-01-01 12:00"))
    async with running(reopened(store), clock, hourly) as runtime:
        await clock.advance(timedelta(0))
        assert await reports(runtime) == ["2026-01-01 12:00"]
        assert (await state_of(runtime, hourly)).made == 1


@pytest.mark.parametrize("seed", range(5))
@quickly
async def test_however_often_it_is_restarted_each_run_is_made_once(store, seed):
    chance, clock = random.Random(seed), SimulatedClock(at("2026-03-27 00:00"))
    text = schedule(Cron("*/30 0-4 * * *", "Europe/Berlin"), "text", missed=CatchUp())
    fixed = schedule(Cron("15,45 1,2 * * *", "Europe/Berlin"), "fixed", missed=CatchUp())
    while clock.now < at("2026-04-01 00:00"):
        async with running(reopened(store), clock, text, fixed):
            await clock.advance(timedelta(minutes=chance.choice([0, 1, 29, 30, 300, 700])))
        await clock.advance(timedelta(minutes=chance.choice([0, 0, 30, 90, 1000])))
    async with running(reopened(store), clock, text, fixed) as runtime:
        await clock.advance(timedelta(0))
        for one in (text, fixed):
            moments, run = [], one.timing.next_after(clock_ms("2026-03-27 00:00"))
            while run is not None and run <= clock.now_ms():
                moments.append(datetime.fromtimestamp(run / 1000, UTC).isoformat(" ")[:16])
                run = one.timing.next_after(run)
            assert await reports(runtime, one.name) == moments


def clock_ms(text: str) -> int:
    return int(at(text).timestamp() * 1000)


@pytest.mark.parametrize("fate", FATES)
@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_whatever_write_fails_or_is_the_last_each_run_is_made_once(fate, kind, tmp_path):
    """Each write of three runs in turn: what is due, the run, the report, and what is sent."""
    number = 0
    while strike(fate, number + 1, inner_store(kind, f"{tmp_path}/{number}.db")):
        number += 1
    assert number >= 9


def inner_store(kind: str, path: str) -> MemoryStore | SqlStore:
    if kind == "memory":
        return MemoryStore()
    return SqlStore(f"sqlite+aiosqlite:///{path}", synchronous="NORMAL")


def strike(fate: Fate, number: int, inner: MemoryStore | SqlStore) -> bool:
    """Three runs, the n-th write after the start meets its fate; False if there were not so many.

    A life that ends is followed by another one, over the same rows at the same time.
    """
    hourly, store = schedule(missed=CatchUp()), MortalStore(inner, fate)
    now, first = at("2026-01-01 11:30"), store
    is_over = False

    def runtime() -> Runtime:
        return running(store, SimulatedClock(now), hourly)

    async def pass_hours(runtime: Runtime) -> None:
        nonlocal now
        clock = runtime._blueprint.clock
        assert isinstance(clock, SimulatedClock)
        if store is first:
            store.at = store.writes + number
        while now < at("2026-01-01 14:30"):
            now += timedelta(minutes=10)
            await clock.advance_to(now)
        found = await reports(runtime)
        assert found == [f"2026-01-01 {hour}:00" for hour in (12, 13, 14)], (fate, number)

    while not is_over:
        is_over = live(runtime, store, pass_hours)
        store = store if is_over else again(store)
    return first.died.is_set() or first.writes >= first.at


# Definitions that change


@quickly
async def test_another_definition_counts_from_the_start_that_brings_it(store):
    clock = SimulatedClock(at("2026-01-01 11:30"))
    async with running(store, clock, schedule()):
        await clock.advance(timedelta(minutes=20))
    other = schedule(Every(timedelta(minutes=20)))
    async with running(reopened(store), clock, other) as runtime:
        assert (await state_of(runtime, other)).timing == "every 0:20:00 from 0:00:00"
        await clock.advance(timedelta(minutes=31))
        assert await reports(runtime) == ["2026-01-01 12:00", "2026-01-01 12:20"]
        rearmed = [turn async for turn in runtime.history(runtime.ref(other, other.name), after=1)]
        assert rearmed[0].type == "perdure.OpenSchedule"
        assert rearmed[0].deadlines_set == {"next": at("2026-01-01 12:00")}
        assert rearmed[0].events[1].timing == str(other.timing)


@quickly
async def test_changing_there_and_back_is_two_changes(store):
    clock = SimulatedClock(at("2026-01-01 11:30"))
    weekly = schedule(Every(timedelta(weeks=1)))
    for one in (schedule(), weekly, schedule(), weekly, schedule()):
        async with running(reopened(store), clock, one) as runtime:
            assert (await state_of(runtime, one)).timing == str(one.timing)
    async with running(reopened(store), clock, schedule()) as runtime:
        await clock.advance(timedelta(hours=1))
        assert await reports(runtime) == ["2026-01-01 12:00"]


@pytest.mark.parametrize(
    ("missed", "made"), [(Coalesce(), ["12:00"]), (Skip(grace=timedelta(minutes=1)), [])]
)
@quickly
async def test_a_run_that_was_due_before_the_change_is_made_up_for_and_no_other(
    store, missed, made
):
    clock = SimulatedClock(at("2026-01-01 11:30"))
    async with running(store, clock, schedule(missed=missed)):
        pass
    await clock.advance(timedelta(hours=3))
    other = schedule(Every(timedelta(minutes=10)), missed=missed)
    async with running(reopened(store), clock, other) as runtime:
        await clock.advance(timedelta(0))
        assert [moment[11:] for moment in await reports(runtime)] == made
        await clock.advance(timedelta(minutes=10))
        assert [moment[11:] for moment in await reports(runtime)] == [*made, "14:40"]


@quickly
async def test_a_start_that_changes_nothing_arms_nothing_anew(store):
    clock = SimulatedClock(at("2026-01-01 11:30"))
    for _ in range(3):
        async with running(reopened(store), clock, schedule()) as runtime:
            turns = [t async for t in runtime.history(runtime.ref("reports", "reports"))]
    assert [turn.outcome for turn in turns] == [
        Outcome.APPLIED, Outcome.UNHANDLED, Outcome.UNHANDLED,
    ]  # fmt: skip
    assert [bool(turn.deadlines_set) for turn in turns] == [True, False, False]


@quickly
async def test_the_rules_of_a_zone_that_changed_are_followed_from_the_start_on(store, monkeypatch):
    clock = SimulatedClock(at("2026-01-01 11:30"))
    async with running(store, clock, schedule(Cron("0 13 * * *", "Europe/Berlin"))):
        pass
    moved = Cron("0 13 * * *", "Europe/Berlin")
    object.__setattr__(moved, "tz", Cron("0 13 * * *", "Asia/Tehran").tz)  # as if Berlin moved
    async with running(reopened(store), clock, schedule(moved)) as runtime:
        assert (await state_of(runtime, schedule(moved))).next_at == at("2026-01-02 09:30")


@quickly
async def test_a_schedule_that_is_gone_does_not_run_and_when_it_is_back_it_has_missed(
    store, caplog
):
    clock = SimulatedClock(at("2026-01-01 11:30"))
    async with running(store, clock, schedule()):
        pass
    async with running(reopened(store), clock) as runtime:
        await clock.advance(timedelta(hours=5))
        assert await reports(runtime) == []
        assert "does not run it" in caplog.text
    async with running(reopened(store), clock, schedule()) as runtime:
        await clock.advance(timedelta(0))
        assert await reports(runtime) == ["2026-01-01 16:00"]


# What the function returns, and mistakes


@quickly
async def test_it_may_send_commands_to_workers_whose_results_are_published(store, clock):
    results: list[str] = []
    work, audit = WorkQueue("work"), WorkQueue("audit")

    @work.worker
    def perform(command: Do, job: Job) -> Done:
        assert (job.saga, job.instance_id) == ("reports", "reports")
        return Done(command.id)

    @audit.subscriber
    def note(event: Done) -> None:
        results.append(event.id)

    hourly = schedule(function=lambda run: [Send(Do(run.id)), report(run)])
    async with Runtime(store, [Report, work, audit, hourly], clock=clock) as runtime:
        await clock.advance(timedelta(hours=1))
        assert results == ["reports@2026-01-01T01:00:00Z"]
        assert await reports(runtime) == ["2026-01-01 01:00"]
        assert [letter async for letter in runtime.dead_letters.list()] == []
        assert await store.inner.outbox() == []


@quickly
async def test_a_chain_from_the_clock_over_event_queue_worker_and_result_to_the_next_queue(
    store, clock
):
    """Without any saga: what links them are events, each subscriber sends the next command."""
    first, second, links = WorkQueue("first"), WorkQueue("second"), WorkQueue("links")
    did: list[tuple[str, str]] = []

    @links.subscriber
    def begin(event: Asked, job: Job) -> None:
        job.send(Do(event.id, "first"), queue="first")

    @links.subscriber
    def go_on(event: Done, job: Job) -> None:
        did.append(("heard", event.how))
        if event.how == "first":
            job.send(Do(event.id, "second"), queue="second")

    for queue in (first, second):

        @queue.worker
        def perform(command: Do, job: Job) -> Done:
            did.append((job.queue, command.id))
            return Done(command.id, command.how)

    hourly = schedule(function=lambda run: Publish(Asked(run.id)))
    async with Runtime(store, [first, second, links, hourly], clock=clock):
        await clock.advance(timedelta(hours=1))
        id = "reports@2026-01-01T01:00:00Z"
        assert did == [("first", id), ("heard", "first"), ("second", id), ("heard", "second")]
        assert await store.inner.outbox() == []


@quickly
async def test_a_command_that_fails_for_good_is_a_dead_letter_and_the_schedule_goes_on(
    store, clock, caplog
):
    work = WorkQueue("work", non_retryable=(ValueError,))

    @work.worker
    def perform(command: Do) -> None:
        raise ValueError("no")

    hourly = schedule(function=lambda run: Send(Do(run.id)))
    async with Runtime(store, [work, hourly], clock=clock) as runtime:
        await clock.advance(timedelta(hours=2))
        letters = [letter async for letter in runtime.dead_letters.list(saga=hourly)]
        assert [(one.type, one.queue) for one in letters] == [("runtime-test.do", "work")] * 2
        assert (await state_of(runtime, hourly)).made == 2


MISTAKES = {
    "raises": lambda run: 1 // 0,
    "exits": lambda run: (_ for _ in ()).throw(SystemExit(3)),
    "returns nonsense": lambda run: 42,
    "returns text": lambda run: "report",
    "returns a class": lambda run: StartReport,
    "returns among others": lambda run: [report(run), None],
    "returns what cannot be stored": lambda run: StartReport(object()),  # type: ignore[arg-type]
    "interests nobody": lambda run: Done(run.id),
    "commands nobody": lambda run: Send(Done(run.id)),
    "names no queue": lambda run: Send(Do(run.id), queue="none"),
    "returns a coroutine": lambda run: asyncio.sleep(0),
    "returns too much": lambda run: (report(run) for _ in range(10_001)),
}


@pytest.mark.parametrize("mistake", MISTAKES)
@quickly
async def test_a_run_that_fails_is_a_dead_letter_and_the_schedule_goes_on(mistake, store, caplog):
    clock = SimulatedClock(at("2026-01-01 11:30"))

    def mistaken(run: Run) -> object:
        return MISTAKES[mistake](run) if run.scheduled_at.hour == 12 else report(run)

    hourly = schedule(function=mistaken)
    async with Runtime(store, [Report, Ledger, WorkQueue("x"), hourly], clock=clock) as runtime:
        await clock.advance(timedelta(hours=3))
        assert await reports(runtime) == ["2026-01-01 13:00", "2026-01-01 14:00"]
        (letter,) = [one async for one in runtime.dead_letters.list(saga=hourly)]
        assert letter.content.due_at == at("2026-01-01 12:00")
        assert letter.content.name == "run 2026-01-01T12:00:00Z"
        assert (await state_of(runtime, hourly)).made == 2
        turns = [turn async for turn in runtime.history(runtime.ref(hourly, hourly.name))]
        assert [t.outcome for t in turns if t.outcome is not Outcome.APPLIED] == [Outcome.FAILED]
        assert "(saga 'reports', correlation id 'reports')" in caplog.text


@quickly
async def test_a_run_that_failed_is_made_again_under_its_own_id(store, caplog):
    clock, is_mended = SimulatedClock(at("2026-01-01 11:30")), False
    hourly = schedule(function=lambda run: report(run) if is_mended else 1 // 0)
    async with running(store, clock, hourly) as runtime:
        await clock.advance(timedelta(hours=1))
        is_mended = True
        (letter,) = [one async for one in runtime.dead_letters.list(saga=hourly)]
        ref = runtime.ref(hourly, hourly.name)
        for _ in range(2):
            await runtime.send(ref, TriggerSchedule(letter.content.due_at), message_id="again")
            await clock.advance(timedelta(0))
        assert await reports(runtime) == ["2026-01-01 12:00"]


@quickly
async def test_nothing_to_do_is_a_run_too(store, clock):
    hourly = schedule(function=lambda run: None)
    async with running(store, clock, hourly) as runtime:
        await clock.advance(timedelta(hours=3))
        assert (await state_of(runtime, hourly)).made == 3


@quickly
async def test_what_interests_nobody_may_be_published_knowingly(store, clock):
    hourly = schedule(function=lambda run: Publish(Done(run.id)))
    async with running(store, clock, hourly) as runtime:
        await clock.advance(timedelta(hours=1))
        assert (await state_of(runtime, hourly)).made == 1


# Pausing, triggering


@quickly
async def test_a_paused_schedule_makes_no_runs_also_after_a_restart_and_none_are_missed(store):
    clock, hourly = SimulatedClock(at("2026-01-01 11:30")), schedule(missed=CatchUp())
    async with running(store, clock, hourly) as runtime:
        ref = runtime.ref(hourly, hourly.name)
        assert (await runtime.send(ref, PauseSchedule())).outcome is Outcome.APPLIED
        assert (await runtime.send(ref, PauseSchedule())).outcome is Outcome.UNHANDLED
        await clock.advance(timedelta(hours=2))
        assert (await state_of(runtime, hourly)).next_at is None
    async with running(reopened(store), clock, hourly) as runtime:
        await clock.advance(timedelta(hours=2))
        assert await reports(runtime) == []
        assert (await state_of(runtime, hourly)).is_paused
        ref = runtime.ref(hourly, hourly.name)
        assert (await runtime.send(ref, ResumeSchedule())).outcome is Outcome.APPLIED
        assert (await runtime.send(ref, ResumeSchedule())).outcome is Outcome.UNHANDLED
        assert (await state_of(runtime, hourly)).next_at == at("2026-01-01 16:00")
        await clock.advance(timedelta(hours=1))
        assert await reports(runtime) == ["2026-01-01 16:00"]
        assert (await state_of(runtime, hourly)).missed == 0


@quickly
async def test_a_definition_that_changes_while_it_is_paused_holds_when_it_is_resumed(store):
    clock = SimulatedClock(at("2026-01-01 11:30"))
    async with running(store, clock, schedule()) as runtime:
        await runtime.send(runtime.ref("reports", "reports"), PauseSchedule())
    other = schedule(Every(timedelta(hours=4)))
    async with running(reopened(store), clock, other) as runtime:
        assert (await state_of(runtime, other)).next_at is None
        await runtime.send(runtime.ref(other, other.name), ResumeSchedule())
        await clock.advance(timedelta(hours=5))
        assert await reports(runtime) == ["2026-01-01 12:00", "2026-01-01 16:00"]


@quickly
async def test_one_message_pauses_all_schedules(store, clock):
    schedules = [schedule(name=name) for name in ("a", "b")]
    async with running(store, clock, *schedules) as runtime:
        assert len(await runtime.publish(PauseSchedule())) == 2
        await clock.advance(timedelta(hours=2))
        assert [one async for one in runtime.instances(Report)] == []


@quickly
async def test_an_extra_run_is_made_now_or_at_a_moment_of_ones_own_also_when_paused(store):
    clock, hourly = SimulatedClock(at("2026-01-01 11:30")), schedule()
    async with running(store, clock, hourly) as runtime:
        ref = runtime.ref(hourly, hourly.name)
        await runtime.send(ref, PauseSchedule())
        await runtime.send(ref, TriggerSchedule())
        await runtime.send(ref, TriggerSchedule(at("2026-01-01 11:45")))
        await runtime.send(ref, ResumeSchedule())
        await runtime.send(ref, TriggerSchedule(at("2026-01-01 12:00")))  # one run, not two
        await clock.advance(timedelta(hours=1))
        assert [moment[11:] for moment in await reports(runtime)] == ["11:30", "11:45", "12:00"]
        assert (await state_of(runtime, hourly)).made == 3
        with pytest.raises(NaiveDatetime):
            await runtime.send(ref, TriggerSchedule(datetime(2026, 1, 1)))


@quickly
async def test_there_is_no_second_instance_of_a_schedule(store, clock):
    hourly = schedule()
    async with running(store, clock, hourly) as runtime:
        for message in (OpenSchedule(), TriggerSchedule(), PauseSchedule()):
            receipt = await runtime.send(runtime.ref(hourly, "other"), message)
            assert receipt.outcome in (Outcome.UNHANDLED, Outcome.MISSING)
        assert [one.correlation_id async for one in runtime.instances(hourly)] == ["reports"]
        await clock.advance(timedelta(hours=1))
        assert len(await reports(runtime)) == 1


# Many, and the end


@quickly
async def test_a_hundred_schedules_run_side_by_side_and_through_a_restart(store):
    clock = SimulatedClock(at("2026-03-29 00:00"))
    zones = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC"]
    schedules = [
        schedule(Cron(f"{n % 60} * * * *", zones[n % 4]), name=f"s{n}") for n in range(100)
    ]
    async with running(store, clock, *schedules) as runtime:
        await clock.advance(timedelta(hours=2))
    async with running(reopened(store), clock, *schedules) as runtime:
        await clock.advance(timedelta(hours=1))
        assert len([one async for one in runtime.instances(Report)]) == 300
        for one in schedules[::9]:
            assert len(await reports(runtime, one.name)) == 3


@quickly
async def test_a_schedule_without_a_further_run_is_at_its_end(store):
    clock = SimulatedClock(datetime(9999, 12, 30, 22, 30, tzinfo=UTC))
    hourly = schedule()
    async with running(store, clock, hourly) as runtime:
        await clock.advance(timedelta(hours=5))
        state = await state_of(runtime, hourly)
        assert (state.made, state.next_at) == (2, None)
        assert await store.inner.deadlines() == []
    async with running(reopened(store), clock, hourly) as runtime:
        assert (await state_of(runtime, hourly)).next_at is None


@quickly
async def test_a_clock_that_was_set_back_repeats_no_run(store):
    clock, hourly = SimulatedClock(at("2026-01-01 11:30")), schedule()
    async with running(store, clock, hourly):
        await clock.advance(timedelta(hours=1))
    late = SimulatedClock(at("2026-01-01 10:00"))
    other = schedule(Every(timedelta(minutes=30)))
    for one in (hourly, other):
        async with running(reopened(store), late, one) as runtime:
            await late.advance(timedelta(hours=1))
            assert await reports(runtime) == ["2026-01-01 12:00"]
