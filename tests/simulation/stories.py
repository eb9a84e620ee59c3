"""Scenarios in which every mistake shows: counters, order, queries, attempts, alarms.

What a saga may look like is in ``tests/testing/simulation/stories.py``; these are about what must
not happen to one. ``EVERY`` holds all of both. Nothing of a saga here is idempotent.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from perdure import (
    DeadlineReached,
    Effects,
    Fixed,
    Job,
    Outcome,
    Park,
    ProcessManager,
    Receipt,
    Runtime,
    Settings,
    Supervision,
    WorkQueue,
    applies,
    continues,
    message,
    on_deadline,
    starts,
)
from perdure.errors import HandlerFailed, PerdureError
from perdure.testing import Faults, Ledger, Simulation, World, simulate
from perdure.testing.simulation.calls import Call
from tests.simulation.by_hand import BY_HAND
from tests.simulation.purges import PURGES
from tests.simulation.repairs import REPAIRS
from tests.simulation.sagas import BROKEN, FAILURES, AskFor, Begin, Count, Counting, CountState
from tests.testing.simulation.more_stories import more_stories
from tests.testing.simulation.stories import stories

__all__ = ["every"]

SMALL = Settings(snapshot_every=3, idle_after_s=2)


def together(world: World, saga: Any, messages: Sequence[Count]) -> bool:
    """Send at once, in this order. False if one was refused for now, so that they may be mixed."""
    refused: list[PerdureError] = []

    async def send(runtime: Runtime, one: Count) -> Receipt:
        ref = runtime.ref(saga, one.id)
        try:
            return await runtime.send(ref, one, message_id=f"{one.id}/{one.number}")
        except PerdureError as error:
            refused.append(error)  # at once: the process may die before the others are answered
            raise

    async def ask(runtime: Runtime) -> list[Receipt]:
        sends = [send(runtime, one) for one in messages]
        outcomes = await asyncio.gather(*sends, return_exceptions=True)
        errors = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        if errors:
            raise errors[0]
        return [outcome for outcome in outcomes if isinstance(outcome, Receipt)]

    world.ask(ask)
    return not refused


# Order within what is sent at once, over lost commits and crashes


def none_overtakes(world: World) -> None:
    world.publish(Begin("c-1"))
    is_in_order, sent = True, 0
    for size in (5, 1, 4):
        batch = [Count("c-1", number) for number in range(sent, sent + size)]
        is_in_order = together(world, Counting, batch) and is_in_order
        sent += size
    world.advance(seconds=5)
    numbers = world.state(Counting, "c-1").numbers
    assert sorted(numbers) == list(range(sent)), numbers
    assert not is_in_order or numbers == tuple(range(sent)), numbers


# What a query shows is in the journal, and stays so


def assert_written(world: World, sequence_nr: int) -> None:
    key = "sim.counting/c-1"
    written = world.tables.one("SELECT max(sequence_nr) FROM journal WHERE instance = ?", key)
    assert sequence_nr <= written, f"turn {sequence_nr} is shown, the journal ends at {written}"


def what_was_seen_stays(world: World) -> None:
    seen: list[tuple[int, tuple[int, ...]]] = []

    async def look(runtime: Runtime) -> list[Any]:
        for _ in range(15):
            view = await runtime.state(runtime.ref(Counting, "c-1"))
            if view is not None:
                seen.append((view.sequence_nr, view.state.numbers))
                assert_written(world, view.sequence_nr)
            await asyncio.sleep(0.000_3)
        return []

    world.publish(Begin("c-1"))
    for number in range(6):
        delay_s = world.machine.choices.spread("look", 0.000_1, 0.01)
        world.calls.make(Call("a look", look, is_send=False), delay_s)
        world.publish(Count("c-1", number))
    world.advance(minutes=1)
    view = world.instance(Counting, "c-1")
    assert view is not None
    for sequence_nr, numbers in seen:
        assert sequence_nr <= view.sequence_nr, f"turn {sequence_nr} was shown and is not there"
        assert numbers == view.state.numbers[: len(numbers)], (numbers, view)


# Attempts are counted over crashes; a job that fails for good is told so, once


@message(name="sim.try")
class Try:
    id: str


@dataclass(frozen=True)
class TriedState:
    failures: tuple[int, ...] = ()


class Trying(ProcessManager[TriedState]):
    name = "sim.trying"

    @starts(Begin, by="id")
    def begins(self, state: TriedState, event: Begin, do: Effects) -> None:
        do.send(Try(event.id))


ATTEMPTS = 4

trying = WorkQueue("sim.trying", retry=Fixed(2, max_attempts=ATTEMPTS))


@trying.worker
async def try_it(command: Try, job: Job, effects: Ledger) -> None:
    effects.note(job.key, job.attempt)
    raise ValueError("never")


def attempts_have_a_limit(world: World) -> None:
    world.any_order(Begin("t-1"), Begin("t-2"))
    world.advance(minutes=5)
    lives = len(world.machine.processes) + len(world.machine.graveyard)
    for key, count in world.effects.count().items():
        attempts = [effect.what for effect in world.effects.all if effect.key == key]
        assert max(attempts) <= ATTEMPTS, attempts  # the last one may have died in the middle
        assert count <= ATTEMPTS + lives - 1, (attempts, lives)
    assert len(world.dead_letters()) == 2, world.dead_letters()


# Results, under settings with which every failed write is told to whoever has sent something


class Answers(Counting):
    name = "sim.answers"

    @continues(AskFor, by="id")
    def asked(self, state: CountState, event: AskFor, do: Effects) -> None:
        do.send(event)


answering = WorkQueue("sim.answering", concurrency=3, retry=Fixed(0.3, max_attempts=None))


@answering.worker
async def answer(command: AskFor, job: Job, effects: Ledger) -> Count:
    effects.note(job.key, command.number)
    return Count(command.id, command.number)


def results_count_once(world: World) -> None:
    world.publish(Begin("w-1"))
    world.any_order(*(AskFor("w-1", number) for number in range(6)))
    world.advance(minutes=2)
    numbers = world.state(Answers, "w-1").numbers
    assert sorted(numbers) == list(range(6)), numbers


IMPATIENT = Settings(snapshot_every=3, idle_after_s=2, write_attempts=1)


# Alarms that are set, set again, and cancelled: each rings for the setting that holds, once


@message(name="sim.set-alarm")
class SetAlarm:
    id: str
    number: int
    after_s: float
    is_off: bool = False


@dataclass(frozen=True)
class AlarmState:
    armed: int = 0
    rung: tuple[int, ...] = ()
    cancelled: tuple[int, ...] = ()


class Alarm(ProcessManager[AlarmState]):
    name = "sim.alarm"

    @starts(SetAlarm, by="id")
    def set_(self, state: AlarmState, event: SetAlarm, do: Effects) -> None:
        if event.is_off:
            do.cancel_deadline("ring")
        else:
            do.deadline("ring", timedelta(seconds=event.after_s))

    @on_deadline("ring")
    def ring(self, state: AlarmState, do: Effects) -> None: ...

    @applies(SetAlarm)
    def fold_set(self, state: AlarmState, event: SetAlarm) -> AlarmState:
        if event.is_off:
            return replace(state, armed=0, cancelled=(*state.cancelled, event.number))
        return replace(state, armed=event.number)

    @applies(DeadlineReached)
    def fold_ring(self, state: AlarmState, event: DeadlineReached) -> AlarmState:
        return replace(state, armed=0, rung=(*state.rung, state.armed))


def alarms_ring_once(world: World) -> None:
    settings = world.nemesis.settings
    idle_s = settings.idle_after_s or 2.0
    number = 0
    for after_s in (idle_s, 1.5, idle_s + 0.001):
        for is_off in (False, False, True, False):
            number += 1
            for id_ in ("a-1", "a-2"):
                world.publish(SetAlarm(id_, number, after_s, is_off))
        world.advance(seconds=4)
    world.advance(minutes=5)
    for id_ in ("a-1", "a-2"):
        state = world.state(Alarm, id_)
        assert 0 not in state.rung, f"{id_} rang although nothing was set: {state}"
        assert len(set(state.rung)) == len(state.rung), state
        assert state.rung[-1] == number, state
        history = world.history(Alarm, id_)
        early = [entry for entry in history if _is_early(entry)]
        assert not early or world.machine.offset_ms, early


def _is_early(entry: Any) -> bool:
    return isinstance(entry.message, DeadlineReached) and entry.at < entry.message.due_at


# Quarantine: what comes is held, in order; released, it is as if nothing had been


class Fragile(Counting):
    name = "sim.fragile"
    supervision = Supervision.quarantine()


async def release(runtime: Runtime) -> bool:
    return await runtime.release(runtime.ref(Fragile, "f-1"))


def held_in_order(world: World) -> None:
    FAILURES.clear()
    world.publish(Begin("f-1"))
    world.publish(Begin("f-2"))
    together(world, Fragile, [Count("f-1", 0), Count("f-1", 1)])
    world.send(Fragile, "f-1", Count("f-1", 2, fails=BROKEN), message_id="f-1/2")
    is_in_order = together(world, Fragile, [Count("f-1", number) for number in range(3, 7)])
    applied = world.send(Fragile, "f-2", Count("f-2", 0), message_id="f-2/0")
    assert applied.outcome is Outcome.APPLIED, applied
    world.advance(seconds=30)
    view = world.instance(Fragile, "f-1")
    assert view is not None
    assert sorted(view.state.numbers) == [0, 1], view
    assert view.quarantined is not None, view
    FAILURES["f-1/2"] = BROKEN  # it is mended
    world.calls.make(Call("a release", release, is_send=False))
    is_in_order = together(world, Fragile, [Count("f-1", 7), Count("f-1", 8)]) and is_in_order
    world.ask(release)
    world.publish(Count("f-1", 9))
    world.advance(seconds=30)
    numbers = world.state(Fragile, "f-1").numbers
    assert sorted(numbers) == list(range(10)), numbers
    assert not is_in_order or numbers[2:] == tuple(range(2, 10)), numbers


# Restart: the incarnation that fails is thrown away, its mail waits, and is not overtaken


class Restarted(Counting):
    name = "sim.restarted"
    supervision = Supervision.restart(backoff=Fixed(1))


def restarted_in_order(world: World) -> None:
    FAILURES.clear()
    world.publish(Begin("r-1"))
    fails = {2: 1, 3: 2}
    batch = [Count("r-1", number, fails.get(number, 0)) for number in range(6)]
    is_in_order = together(world, Restarted, batch)
    world.advance(minutes=2)
    numbers = world.state(Restarted, "r-1").numbers
    assert sorted(numbers) == list(range(6)), numbers
    assert not is_in_order or numbers == tuple(range(6)), numbers
    assert not world.dead_letters(), world.dead_letters()


# A mix with poison: what can be taken is, what cannot is kept as a dead letter, and said so


class Patient(Counting):
    name = "sim.patient"
    retry = Fixed(1, max_attempts=3)


def poison_is_set_apart(world: World) -> None:
    FAILURES.clear()
    world.publish(Begin("p-1"))
    fails = {1: 2, 3: -1, 4: 1, 6: -1}
    refused = 0
    for number in range(8):
        sent = Count("p-1", number, fails.get(number, 0))
        try:
            world.send(Patient, "p-1", sent, message_id=f"p-1/{number}")
        except HandlerFailed:
            refused += 1
    world.advance(minutes=1)
    numbers = world.state(Patient, "p-1").numbers
    assert numbers == (0, 1, 2, 4, 5, 7), numbers
    dead = Counter(letter.message_id for letter in world.dead_letters())
    assert set(dead) == {"p-1/3", "p-1/6"}, dead


# What is kept and never has its turn: nobody looks for it but the simulation itself


class Stubborn(Counting):
    name = "sim.stubborn"
    retry = Fixed(1_000, max_attempts=None)


def kept_for_good(world: World) -> None:
    FAILURES.clear()
    world.publish(Begin("k-1"))
    delayed = world.send(Stubborn, "k-1", Count("k-1", 0, fails=BROKEN), message_id="k-1/0")
    queued = world.send(Stubborn, "k-1", Count("k-1", 1), message_id="k-1/1")
    parked = world.send(Stubborn, "k-2", Count("k-2", 0), message_id="k-2/0")
    outcomes = [delayed.outcome, queued.outcome, parked.outcome]
    assert outcomes == [Outcome.DELAYED, Outcome.QUEUED, Outcome.PARKED], outcomes
    world.advance(seconds=30)


# What people have thrown away is not missed


class Brief(Counting):
    name = "sim.brief"
    on_missing = Park(1)


async def discard_all(runtime: Runtime) -> int:
    return await runtime.dead_letters.discard_all()


def thrown_away(world: World) -> None:
    world.publish(Begin("b-2"))
    expired = world.send(Brief, "b-1", Count("b-1", 0), message_id="b-1/0")
    world.advance(seconds=30)
    assert expired.outcome in (Outcome.PARKED, Outcome.MISSING), expired
    assert {letter.message_id for letter in world.dead_letters()} == {"b-1/0"}
    world.ask(discard_all)
    assert not world.dead_letters()


UNSURE = Faults(answer_lost=0.2, read_fails=0.3, write_fails=0.1)
"""Commits of which nobody knows, and reads that do not tell either."""

OVERTAKEN = Faults(takeover=1.0, pause=0.03, pause_at_boundary=0.01, duplicate=0.5)
"""Pauses, after which the process finds that another one has taken its file."""


def every(faults: Faults | None = None) -> dict[str, Simulation]:
    """All stories, by name; in place of the swarm ``faults``."""
    mine: dict[str, tuple[Callable[[World], None], list[Any], Settings]] = {
        "together": (none_overtakes, [Counting], SMALL),
        "queries": (what_was_seen_stays, [Counting], SMALL),
        "attempts": (attempts_have_a_limit, [Trying, trying], SMALL),
        "results": (results_count_once, [Answers, answering], IMPATIENT),
        "alarms": (alarms_ring_once, [Alarm], SMALL),
        "quarantine": (held_in_order, [Fragile], SMALL),
        "restart": (restarted_in_order, [Restarted], SMALL),
        "poison": (poison_is_set_apart, [Patient], SMALL),
        "kept": (kept_for_good, [Stubborn], SMALL),
        "discarded": (thrown_away, [Brief], SMALL),
    }
    further = {**REPAIRS, **BY_HAND, **PURGES}
    mine |= {name: (*story, SMALL) for name, story in further.items()}
    made = {
        name: simulate(scenario, members, settings=settings, faults=faults)
        for name, (scenario, members, settings) in mine.items()
    }
    members = [Answers, answering]
    made["unsure"] = simulate(
        results_count_once, members, settings=IMPATIENT, faults=faults or UNSURE
    )
    made["overtaken"] = stories(faults or OVERTAKEN)["lists"]
    return {**stories(faults), **more_stories(faults), **made}
