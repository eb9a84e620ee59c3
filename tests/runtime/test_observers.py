"""Who observes a runtime hears what is durable, once, and cannot harm it."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar

import pytest

from perdure import (
    Effects,
    MemoryStore,
    NonRetryable,
    Outcome,
    ProcessManager,
    Runtime,
    Settings,
    WorkQueue,
    continues,
    starts,
)
from perdure.core.saga import Definition
from perdure.errors import DefinitionError, MailboxFull, StoreUnavailable
from perdure.observer import (
    HOOKS,
    RECORDS,
    BatchCommitted,
    CommandSent,
    CompensationBegun,
    DeadLettered,
    DeadlineFired,
    JobFinished,
    JobStarted,
    Observer,
    Passivated,
    ProcessStarted,
    ProcessStopped,
    ProcessStuck,
    Quarantined,
    Rehydrated,
    Released,
    Retrying,
    SendRefused,
    SnapshotTaken,
    TurnCommitted,
    unheard,
)
from perdure.runtime.instances.saga_actor import SagaActor
from perdure.testing import FaultyStore, SimulatedClock
from tests.runtime.errands import Asked, Do, Errand, Undoing, desk, queue_of
from tests.runtime.flaky import begun, send
from tests.runtime.frail import TRIED, Restarted, born, frail, hit
from tests.runtime.frail import Quarantined as Frail
from tests.runtime.heard import Heard
from tests.runtime.support import adding, open_ledger, parts, quickly, reopened, until
from tests.runtime.test_ordered_sagas import Trip, World, saga_of
from tests.runtime.test_stuck import Asked as Why
from tests.runtime.test_stuck import Question
from tests.sagas import TRIED as SHAKEN
from tests.sagas import (
    Added,
    Alarm,
    Armed,
    Closed,
    Flaky,
    Ledger,
    LedgerState,
    Limited,
    Opened,
    Ship,
)


@pytest.fixture(autouse=True)
def _nothing_tried():
    TRIED.clear()
    SHAKEN.clear()


@pytest.fixture
def heard():
    return Heard()


def ledgers(store, heard, clock=None, *sagas, **settings):
    chosen = Settings(retry_pause_s=0.001, **settings)
    return Runtime(store, sagas or [Ledger], chosen, clock=clock, observers=[heard])


# The four of the process managers


@quickly
async def test_the_story_of_a_process_is_told_once_with_its_fields_also_over_a_restart(
    store, clock, heard
):
    began = clock.now
    async with ledgers(store, heard, clock) as runtime:
        ref = await open_ledger(runtime)
        await runtime.send(ref, Added("x", 2), message_id="two")
        await runtime.send(ref, Added("x", 2), message_id="two")
        await clock.advance(timedelta(hours=2))
    async with ledgers(reopened(store), heard, clock) as runtime:
        ref = runtime.ref(Ledger, "x")
        await runtime.send(ref, Added("x", 2), message_id="two")
        await runtime.send(ref, Closed("x"))
        assert (await runtime.send(ref, Added("x", 3))).outcome is Outcome.FINISHED
    assert heard.of(ProcessStarted) == [ProcessStarted(began, "Ledger", "x")]
    assert heard.of(CommandSent) == [
        CommandSent(began, "Ledger", "runtime-test.ship", "x", "Ledger/x/2/0", "runtime-test.ship")
    ]
    state = LedgerState((2,), 0, "open")
    stopped = ProcessStopped(timedelta(hours=2), "Ledger", "x", state, "completed")
    assert heard.of(ProcessStopped) == [stopped]
    turns = [(turn.sequence_nr, turn.outcome) for turn in heard.of(TurnCommitted)]
    assert turns == [(1, "applied"), (2, "applied"), (3, "applied"), (4, "finished")]


@quickly
async def test_a_process_that_fails_stops_too(memory, clock, heard):
    async with ledgers(memory, heard, clock, Limited) as runtime:
        await open_ledger(runtime, saga=Limited)
        await clock.advance(timedelta(hours=2))
    stopped = heard.one(ProcessStopped)
    assert (stopped.status, stopped.duration) == ("failed", timedelta(hours=1))


@quickly
async def test_a_compensation_is_told_with_the_command_that_failed(memory, heard):
    def fails(command, job):
        raise NonRetryable("no")

    where = desk(fail=fails)
    members: list[Any] = [Errand, Undoing, queue_of()]
    async with Runtime(memory, members, resources={"desk": where}, observers=[heard]) as runtime:
        for saga in (Errand, Undoing):
            await runtime.send(runtime.ref(saga, "e"), Asked("e", "fail"))
        await runtime.settled()
    begun = heard.one(CompensationBegun)
    assert (begun.name, begun.failed_command) == (Undoing.name, "runtime-test.do")
    sent = [one.command_type for one in heard.of(CommandSent) if one.name == Undoing.name]
    assert sent == ["runtime-test.do"] + ["runtime-test.undo"] * 3


@quickly
async def test_steps_are_commands_and_their_undoing_a_compensation(memory, heard):
    world = World(car=NonRetryable("no cars"))
    saga, resources = saga_of("hotel", "car"), {"world": world}
    async with Runtime(memory, [saga], resources=resources, observers=[heard]) as runtime:
        await runtime.publish(Trip("t"))
        await runtime.settled()
    assert [one.queue for one in heard.of(CommandSent)] == [
        "ordered-test.trip.hotel", "ordered-test.trip.car", "ordered-test.trip.hotel.undo",
    ]  # fmt: skip
    assert heard.one(CompensationBegun).failed_command == "car"
    assert heard.one(ProcessStopped).status == "failed"


@quickly
async def test_the_plain_hooks_hear_the_same(memory, clock):
    told: list[tuple] = []

    class Counts(Observer):
        def record_process_started(self, process_type):
            told.append(("started", process_type))

        def record_process_completed(self, process_type, duration):
            told.append(("completed", process_type, duration))

        def record_process_failed(self, process_type, duration):
            told.append(("failed", process_type, duration))

    async with ledgers(memory, Counts(), clock, Ledger, Limited) as runtime:
        await runtime.send(await open_ledger(runtime), Closed("x"))
        await open_ledger(runtime, saga=Limited)
        await clock.advance(timedelta(hours=2))
    assert told == [
        ("started", "Ledger"),
        ("completed", "Ledger", timedelta(0)),
        ("started", "Limited"),
        ("failed", "Limited", timedelta(hours=1)),
    ]


class Sending(ProcessManager[LedgerState]):
    """Its second turn does nothing but send a command."""

    name: ClassVar[str] = "observers-test.sending"

    @starts(Opened, by="id")
    def opened(self, state: LedgerState, event: Opened, do: Effects) -> None: ...

    @continues(Added, by="id")
    def added(self, state: LedgerState, event: Added, do: Effects) -> None:
        do.send(Ship(event.id, event.n))


async def eventful(observer):
    """Something of everything that a turn may lead to."""

    def fails(command, job):
        raise NonRetryable("no")

    shipping = WorkQueue("shipping")

    @shipping.worker
    async def ship(command: Ship) -> None: ...

    clock, saga = SimulatedClock(), saga_of("hotel", "car")
    resources = {"desk": desk(fail=fails), "world": World(car=NonRetryable("no cars"))}
    members: list[Any] = [Errand, Undoing, Alarm, Question, Sending, saga, queue_of(), shipping]
    async with Runtime(
        MemoryStore(), members, resources=resources, clock=clock, observers=[observer]
    ) as runtime:
        for one in (Errand, Undoing):
            await runtime.send(runtime.ref(one, "e"), Asked("e", "fail"))
        await runtime.send(await open_ledger(runtime, saga=Sending), Added("x", 1))
        await runtime.publish(Trip("t"))
        await runtime.publish(Armed("x", "a", 60))
        await runtime.publish(Why("why"))
        await clock.advance(timedelta(seconds=61))
        await runtime.settled()


OF_TURNS = [
    TurnCommitted, ProcessStarted, ProcessStopped, CommandSent, CompensationBegun, DeadlineFired,
    ProcessStuck,
]  # fmt: skip


@pytest.mark.parametrize("kind", OF_TURNS)
@quickly
async def test_who_hears_one_kind_of_event_hears_it_as_who_hears_all(kind, heard):
    class Only(Heard):
        pass

    for other, methods in HOOKS.items():
        if other is not kind:
            setattr(Only, methods[0], unheard)
    only = Only()
    await eventful(heard)
    await eventful(only)
    expected = [(one.name, one.process_id) for one in heard.of(kind)]
    assert sorted((one.name, one.process_id) for one in only.events) == sorted(expected)
    assert expected
    assert only.of(kind) == only.events


@pytest.mark.parametrize("is_written", [True, False])
@quickly
async def test_who_counts_is_told_without_events(store, clock, is_written):
    class Counts(Heard):
        """No method for an event, though it overrides calls that go with some."""

        def record_process_started(self, process_type):
            raise AssertionError("the event is not heard")

    for methods in HOOKS.values():
        setattr(Counts, methods[0], unheard)
    counts = Counts()
    async with ledgers(store, counts, clock, Ledger, Limited) as runtime:
        assert parts(runtime).services.observing.hooks == {}
        ref = await open_ledger(runtime)
        store.fail_writes(after_commit=is_written)
        sending = asyncio.gather(*adding(runtime, ref, 1, 2), runtime.send(ref, Closed("x")))
        while not sending.done():
            await asyncio.sleep(0)
            await clock.advance(timedelta(milliseconds=1))
        await runtime.send(ref, Closed("x"))
        await open_ledger(runtime, saga=Limited)
        await clock.advance(timedelta(hours=2))
    assert [one for one in counts.counted if one[1] == "Ledger"] == [
        *[("turn", "Ledger", "applied")] * 4,
        ("end", "Ledger", "completed", "0"),
        ("turn", "Ledger", "finished"),
    ]
    assert counts.counted[-1] == ("end", "Limited", "failed", "3600")


@pytest.mark.parametrize("is_alone", [True, False])
@pytest.mark.parametrize("name", RECORDS)
@quickly
async def test_one_who_cannot_count_harms_nobody(memory, heard, caplog, name, is_alone):
    class Broken(Observer):
        pass

    def broken(self, *values):
        raise ValueError(f"no {values[0]}")

    setattr(Broken, name, broken)
    members: list[Any] = [Errand, Ledger, queue_of()]
    observers = [Broken()] if is_alone else [Broken(), heard]
    async with Runtime(memory, members, resources={"desk": desk()}, observers=observers) as runtime:
        receipt = await runtime.send(await open_ledger(runtime), Closed("x"))
        assert receipt.outcome is Outcome.APPLIED
        await runtime.enqueue(Do("e", "do", 0))
        await runtime.settled()
    if not is_alone:
        assert [one[0] for one in heard.counted] == ["turn", "turn", "end", "attempt"]
    [line] = [r.getMessage() for r in caplog.records if r.name == "perdure.observers"]
    assert "broken raised ValueError" in line


# Once for what is durable, and only that


@quickly
@pytest.mark.parametrize("is_written", [True, False])
async def test_a_turn_whose_commit_failed_is_told_once_it_is_known_to_be_durable(
    store, heard, is_written
):
    async with ledgers(store, heard) as runtime:
        ref = await open_ledger(runtime)
        store.fail_writes(after_commit=is_written)
        receipts = await asyncio.gather(*adding(runtime, ref, 1, 2, 3))
        assert [one.sequence_nr for one in receipts] == [2, 3, 4]
        await runtime.settled()
    assert [one.sequence_nr for one in heard.of(TurnCommitted)] == [1, 2, 3, 4]
    assert [one.command_id for one in heard.of(CommandSent)] == [
        f"Ledger/x/{n}/0" for n in (2, 3, 4)
    ]


@quickly
async def test_turns_behind_one_that_could_not_be_settled_are_told_once(
    store, heard, monkeypatch, caplog
):
    settle = SagaActor.on_committed
    failed: list[Any] = []

    def fails_once(actor, turn):
        if turn.after.sequence_nr == 2 and not failed:
            failed.append(turn)
            raise RuntimeError("a mistake of ours")
        settle(actor, turn)

    monkeypatch.setattr(SagaActor, "on_committed", fails_once)
    async with ledgers(store, heard) as runtime:
        ref = await open_ledger(runtime)
        await asyncio.gather(*adding(runtime, ref, 1, 2, 3))
    assert failed
    assert [one.sequence_nr for one in heard.of(TurnCommitted)] == [1, 2, 3, 4]


@quickly
async def test_what_was_refused_or_rolled_back_is_not_told(store, heard):
    async with ledgers(store, heard, write_attempts=1) as runtime:
        ref = await open_ledger(runtime)
        store.fail_writes(times=1)
        with pytest.raises(StoreUnavailable):
            await runtime.send(ref, Added("x", 1))
    assert [one.sequence_nr for one in heard.of(TurnCommitted)] == [1]
    assert heard.one(SendRefused).process_id == "x"


@pytest.mark.parametrize("seed", range(12))
def test_whatever_fails_exactly_the_journal_is_told(seed):
    chance = random.Random(seed)
    store, heard = FaultyStore(MemoryStore()), Heard()

    async def story():
        settings = {"idle_after_s": 0.001, "residents_max": 2, "batch_max": 3}
        async with ledgers(store, heard, **settings) as runtime:
            for _ in range(25):
                fault = chance.random()
                if fault < 0.3:
                    store.fail_writes(after_commit=fault < 0.2)
                elif fault < 0.4:
                    store.fail_loads()
                sent = [
                    runtime.send(runtime.ref(Ledger, id), message, message_id=name)
                    for id in chance.sample("abc", 2)
                    for name, message in [("open", Opened(id))]
                    + [(str(n), Added(id, n)) for n in chance.choices(range(9), k=3)]
                ]
                await asyncio.gather(*sent, return_exceptions=True)
        await store.open()
        journal = [
            (id, row.sequence_nr, row.message_id)
            for id in "abc"
            for row in await store.inner.journal(f"Ledger/{id}")
        ]
        told = [(e.process_id, e.sequence_nr, e.message_id) for e in heard.of(TurnCommitted)]
        assert sorted(told) == journal
        outcomes = [one.outcome for one in heard.of(TurnCommitted)]
        assert [one for _, _, one in heard.counted] == outcomes
        for id in "abc":
            numbers = [nr for process_id, nr, _ in told if process_id == id]
            assert numbers == sorted(numbers)
        assert len(heard.of(ProcessStarted)) == len({id for id, _, _ in journal})

    asyncio.run(asyncio.wait_for(story(), 20))


# The rest


@quickly
async def test_coming_and_going_and_snapshots(memory, clock, heard):
    async with ledgers(memory, heard, clock, idle_after_s=10, snapshot_every=2) as runtime:
        ref = await open_ledger(runtime)
        await runtime.send(ref, Added("x", 2))
        await clock.advance(timedelta(minutes=1))
        assert runtime.residents == 0
        await runtime.send(ref, Added("x", 4))
    assert heard.of(Passivated, Rehydrated) == [
        Passivated("Ledger", "x"),
        Rehydrated("Ledger", "x"),
    ]
    assert 0 < heard.one(SnapshotTaken).size_bytes < 1_000
    assert sum(one.size for one in heard.of(BatchCommitted)) == 4


@quickly
async def test_a_message_that_is_tried_again_and_its_dead_letter(memory, clock, heard):
    async with ledgers(memory, heard, clock, Flaky) as runtime:
        ref = await begun(runtime)
        await send(runtime, ref, 1, fails=9)
        await send(runtime, ref, 1, fails=9)  # it waits already
        await clock.advance(timedelta(minutes=1))
    tried = [(one.queue, one.message_id, one.attempt, one.delay_s) for one in heard.of(Retrying)]
    assert tried == [("", "m-1", 1, 10), ("", "m-1", 2, 10)]
    letter = heard.one(DeadLettered)
    assert (letter.name, letter.process_id, letter.queue) == ("Flaky", "x", "")
    assert (letter.message_type, letter.message_id) == ("runtime-test.shaky", "m-1")
    assert heard.of(TurnCommitted)[-1].sequence_nr == 1


@quickly
async def test_attempts_at_a_job(memory, heard):
    calls = []

    def deed(command, job):
        calls.append(job.attempt)
        if command.number == 1 or job.attempt == 1:
            raise ValueError("not yet")

    queue, where = queue_of(), desk(do=deed)
    members: list[Any] = [Errand, queue]
    async with Runtime(memory, members, resources={"desk": where}, observers=[heard]) as runtime:
        await runtime.enqueue(Do("e", "do", 0), job_id="good")
        await runtime.settled()
        await until(lambda: len(calls) == 2)
        await runtime.enqueue(Do("e", "do", 1), job_id="bad")
        await until(lambda: len(calls) == 5)
        await runtime.settled()
    ends = [(one.job_id, one.attempt, one.outcome, one.error) for one in heard.of(JobFinished)]
    assert ends == [
        ("good", 1, "retried", "ValueError"),
        ("good", 2, "succeeded", ""),
        ("bad", 1, "retried", "ValueError"),
        ("bad", 2, "retried", "ValueError"),
        ("bad", 3, "given up", "ValueError"),
    ]
    attempts = [one for one in heard.counted if one[0] == "attempt"]
    assert attempts == [("attempt", "work", outcome) for _, _, outcome, _ in ends]
    assert [one.attempt for one in heard.of(JobStarted)] == calls
    assert len(heard.of(Retrying)) == 3
    assert heard.one(DeadLettered).queue == "work"
    assert all(one.seconds >= 0 for one in heard.of(JobFinished))


@quickly
async def test_a_deadline_tells_how_late_it_was(memory, clock, heard):
    async with ledgers(memory, heard, clock, Alarm) as runtime:
        await runtime.publish(Armed("x", "a", 60))
    await clock.advance(timedelta(seconds=90))
    async with ledgers(memory, heard, clock, Alarm):
        await clock.advance(timedelta(seconds=1))
    fired = heard.one(DeadlineFired)
    assert (fired.deadline, fired.lateness_s) == ("a", 30)


@quickly
async def test_quarantine_and_release(memory, clock, heard):
    async with frail(memory, clock, Frail) as runtime:
        runtime.observe(heard)
        ref = await born(runtime, Frail)
        await hit(runtime, ref, 1, fails=1)
        await runtime.release(ref)
        await runtime.settled()
    told = [Quarantined("Quarantined", "x", "failed"), Released("Quarantined", "x")]
    assert heard.of(Quarantined, Released) == told


@quickly
async def test_a_restart_is_a_retry(memory, clock, heard):
    async with frail(memory, clock, Restarted) as runtime:
        runtime.observe(heard)
        ref = await born(runtime, Restarted)
        await hit(runtime, ref, 1, fails=1)
        await clock.advance(timedelta(minutes=1))
    assert heard.one(Retrying).delay_s == 10


@quickly
async def test_an_instance_that_gets_stuck(memory, heard):
    async with ledgers(memory, heard, None, Question) as runtime:
        await runtime.publish(Why("why"))
    assert heard.of(ProcessStuck) == [ProcessStuck("Question", "why", "nobody knows why")]


@quickly
async def test_a_full_mailbox_is_a_refusal(memory, heard):
    limits = {"mailbox_max": 1, "accept_timeout_s": 0.01}
    async with ledgers(memory, heard, **limits) as runtime:
        ref = await open_ledger(runtime)
        memory.hold_writes()
        first, second = adding(runtime, ref, 1, 2)
        with pytest.raises(MailboxFull):
            await second
        with pytest.raises(MailboxFull):
            await ref.ask(Added("x", 3), block=False)
        memory.release()
        await first
    assert heard.of(SendRefused) == [SendRefused("Ledger", "x", "MailboxFull")] * 2


# Observers and their mistakes


@quickly
async def test_an_observer_that_raises_harms_no_turn_and_is_logged_once_per_kind(
    memory, heard, caplog
):
    class Broken(Observer):
        def turn_committed(self, event):
            raise asyncio.CancelledError if event.sequence_nr == 3 else ValueError("broken")

        def runtime_started(self):
            raise KeyError("start")

    async with Runtime(memory, [Ledger], observers=[Broken(), heard]) as runtime:
        ref = await open_ledger(runtime)
        for n in range(4):
            assert (await runtime.send(ref, Added("x", n))).outcome is Outcome.APPLIED
    assert len(heard.of(TurnCommitted)) == 5
    lines = [r.getMessage() for r in caplog.records if r.name == "perdure.observers"]
    assert len(lines) == 3
    assert "Broken.turn_committed raised ValueError" in lines[1]
    assert "Broken.turn_committed raised CancelledError" in lines[2]


@quickly
async def test_a_state_that_cannot_be_copied_is_told_in_the_log_only(
    memory, heard, caplog, monkeypatch
):
    monkeypatch.setattr(Definition, "private_copy", lambda self, state: 1 / 0)
    async with ledgers(memory, heard) as runtime:
        receipt = await runtime.send(await open_ledger(runtime), Closed("x"))
    assert receipt.outcome is Outcome.APPLIED
    assert "could not be made known" in caplog.text
    assert await _status(memory) == ["completed"]


async def _status(store):
    await store.open()
    return [head.status.value for head in await store.inner.heads()]


@quickly
async def test_observers_come_and_go_and_hear_of_start_and_stop(memory):
    told = []

    class Life(Observer):
        def runtime_started(self):
            told.append("started")

        def runtime_stopped(self):
            told.append("stopped")

    life, late = Life(), Heard()
    runtime = Runtime(memory, [Ledger], observers=[life])
    for _ in range(2):
        async with runtime:
            runtime.observe(late)
            await open_ledger(runtime, str(len(told)))
            runtime.unobserve(late)
            await open_ledger(runtime, f"{len(told)} more")
    assert told == ["started", "stopped"] * 2
    assert [one.process_id for one in late.of(ProcessStarted)] == ["1", "3"]


@dataclass
class Counted(Observer):
    turns: int = 0

    def turn_committed(self, event: TurnCommitted) -> None:
        self.turns += 1


@quickly
async def test_two_observers_that_are_equal_both_hear(memory):
    one, other = Counted(), Counted()
    async with Runtime(memory, [Ledger], observers=[one, other, other]) as runtime:
        await open_ledger(runtime)
    assert one.turns == other.turns == 1


class Beginning(Observer):
    async def runtime_started(self): ...  # type: ignore[override]


class Later(Observer):
    async def turn_committed(self, event): ...  # type: ignore[override]


class LaterCounted(Observer):
    async def record_turn(self, process_type, outcome): ...  # type: ignore[override]


WRONG = [print, Heard, [Heard], [Later()], [LaterCounted()], [Beginning()], ["x"], 7]


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_no_observer_is_refused(wrong):
    with pytest.raises(DefinitionError):
        Runtime("memory://", [Ledger], observers=wrong)


@quickly
async def test_an_observer_may_send(memory):
    class Opens(Observer):
        runtime: Runtime

        def process_started(self, event):
            if event.process_id == "a":
                self.runtime.ref(Ledger, "b").tell(Opened("b"))

    observer = Opens()
    async with Runtime(memory, [Ledger], observers=[observer]) as runtime:
        observer.runtime = runtime
        await open_ledger(runtime, "a")
        await runtime.settled()
        assert await runtime.state(runtime.ref(Ledger, "b")) is not None


def test_nobody_observes_by_default():
    class Plain(ProcessManager[LedgerState]):
        @starts(Opened, by="id")
        def opened(self, state, event, do): ...

    assert Runtime("memory://", [Plain])._blueprint.observing.hooks == {}
