"""The parts of the simulation by themselves: randomness, shrinking, loop, clocks, disk."""

from __future__ import annotations

import asyncio
import sqlite3
from itertools import count
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.runtime.instances.residency import Residency
from perdure.runtime.instances.saga_actor import SagaActor
from perdure.runtime.instances.wakeups import Wakeups
from perdure.testing import Faults, SimulationFailed
from perdure.testing.simulation.choices import Choices
from perdure.testing.simulation.clock import START_MS, ProcessClock
from perdure.testing.simulation.inline_store import driver_error
from perdure.testing.simulation.loop import SimLoop
from perdure.testing.simulation.machine import Machine
from perdure.testing.simulation.plan import Plan
from perdure.testing.simulation.shrink import ddmin, earlier
from perdure.testing.simulation.tables import Tables
from perdure.testing.simulation.trace import shown
from tests.testing.simulation.stories import stories

# Randomness


def test_one_kind_of_decision_does_not_shift_another():
    alone, beside = Choices(1), Choices(1)
    wanted = [alone.number("a") for _ in range(5)]
    found = []
    for _ in range(5):
        beside.number("b")
        found.append(beside.number("a"))
    assert found == wanted
    assert Choices(2).number("a") != wanted[0]


def test_a_plan_is_the_same_named_as_drawn():
    drawn = Plan(Choices(3), Faults(pause=0.3))
    lengths = {}
    for number in range(1, 40):
        details = drawn.strikes("pause", drawn.faults.pause)
        if details is not None:
            lengths[f"pause#{number}"] = details.number("length")
    assert drawn.struck == list(lengths)
    named = Plan.of(Choices(3), drawn.struck)
    for number in range(1, 40):
        details = named.strikes("pause", 0.0)
        assert (details is not None) is (f"pause#{number}" in lengths)
        if details is not None:
            assert details.number("length") == lengths[f"pause#{number}"]


def test_a_calm_plan_counts_and_does_not_strike():
    plan = Plan.of(Choices(0), ["write fails#2", "write fails#3"])
    plan.is_calm = True
    assert [plan.strikes("write fails", 1.0) for _ in range(2)] == [None, None]
    plan.is_calm = False
    assert plan.strikes("write fails", 0.0) is not None
    assert plan.struck == ["write fails#3"]
    assert plan.chances("write") == ["write fails#3"]


def test_each_seed_of_a_swarm_draws_its_own_faults():
    drawn = {Faults.swarm().drawn(Choices(seed)) for seed in range(20)}
    assert len(drawn) == 20
    assert 5 < sum(one.pause > 0 for one in drawn) < 15
    assert all(one.pause <= Faults.swarm().pause for one in drawn)
    assert Faults(pause=0.5).drawn(Choices(0)) == Faults(pause=0.5)


# Shrinking


@given(
    st.lists(st.integers(0, 40), unique=True, min_size=1, max_size=30),
    st.data(),
)
def test_shrinking_finds_the_few_that_are_needed(items, data):
    needed = data.draw(st.sets(st.sampled_from(items), max_size=4))
    found = ddmin(items, lambda some: needed <= set(some), tries_max=10_000)
    assert set(found) == needed


def test_what_comes_earlier_without_another_is_found():
    def fails(names):
        gone = "crash K7#1" not in names
        return ("crash K5#4" if gone else "crash K5#5") in names

    assert earlier(["crash K7#1", "crash K5#5"], fails) == ["crash K5#4"]


# The loop


def loop_at(times: list[int], seed: int = 0) -> SimLoop:
    return SimLoop(lambda: times[0], Random(seed).random)


def test_a_loop_runs_what_is_ready_in_order_and_what_comes_up_later():
    loop, ran = loop_at([0]), []

    def first():
        ran.append("first")
        loop.call_soon(ran.append, "third")

    loop.call_soon(first)
    loop.call_soon(ran.append, "second")
    loop.run_batch()
    assert ran == ["first", "second"]
    loop.run_batch()
    assert ran == ["first", "second", "third"]
    loop.close()


def test_timers_of_one_moment_come_in_any_order_and_of_several_in_theirs():
    orders = set()
    for seed in range(30):
        times = [0]
        loop = loop_at(times, seed)
        ran: list[str] = []
        for name in "abc":
            loop.call_at(1.0, ran.append, name)
        loop.call_at(0.5, ran.append, "before")
        loop.call_at(0.7, ran.append, "never").cancel()
        assert loop.next_ns == 500_000_000
        times[0] = 2_000_000_000
        loop.run_batch()
        assert ran[0] == "before"
        orders.add("".join(ran[1:]))
        loop.close()
    assert orders == {"abc", "acb", "bac", "bca", "cab", "cba"}


def test_a_timer_is_never_early():
    times = [0]
    loop = loop_at(times)
    for days in range(1, 2_000, 7):
        when = days * 86_400 + 0.1
        handle = loop.call_at(when, lambda: None)
        assert loop.next_ns is not None
        assert loop.next_ns / 1e9 >= when
        handle.cancel()
    loop.close()


def test_a_loop_has_no_threads():
    loop = loop_at([0])
    with pytest.raises(RuntimeError, match="no threads"):
        loop.run_in_executor(None, print)
    loop.close()


# Clocks


def test_a_wall_clock_that_is_set_is_noticed_within_a_minute():
    times, offset, woken = [0], [0], []
    loop = loop_at(times)
    asyncio._set_running_loop(loop)
    clock = ProcessClock(loop, lambda: times[0], lambda: offset[0])
    clock.call_at(START_MS + 3_600_000, lambda: woken.append(clock.now_ms()))
    offset[0] = 3_000_000
    clock.was_set(lambda: 0.5)
    while not woken:
        assert loop.next_ns is not None
        times[0] = max(times[0], loop.next_ns)
        loop.run_batch()
    asyncio._set_running_loop(None)
    loop.close()
    assert woken == [START_MS + 3_600_000]
    assert times[0] == 600 * 1_000_000_000


# The disk, the trace, the machine


def test_errors_are_those_of_the_driver(tmp_path):
    connection = sqlite3.connect(tmp_path / "real.db", timeout=0)
    other = sqlite3.connect(tmp_path / "real.db", timeout=0)
    connection.execute("BEGIN IMMEDIATE")
    with pytest.raises(sqlite3.OperationalError) as real:
        other.execute("BEGIN IMMEDIATE")
    made = driver_error("SQLITE_BUSY")
    assert type(made) is real.type
    assert str(made) == str(real.value)
    assert made.sqlite_errorcode == real.value.sqlite_errorcode
    assert made.sqlite_errorname == real.value.sqlite_errorname
    connection.close()
    other.close()


def test_a_moment_is_shown_in_days_and_hours():
    assert shown(0) == "00:00:00.000000"
    assert shown(2 * 86_400_000_000_000 + 61_000_001_000) == "2 d 00:01:01.000001"


def test_time_jumps_to_what_happens_next():
    machine, seen = Machine(Choices(0)), []
    machine.after(3600.0, lambda: seen.append(machine.now_ns))
    machine.after(1.0, lambda: seen.append(machine.now_ns))
    assert not machine.run(lambda: False)
    assert seen == [1_000_000_000, 3_600_000_000_000]
    assert not machine.run(lambda: False, 5_000_000_000_000)
    assert machine.now_ns == 5_000_000_000_000


# Bugs planted in the runtime


def test_an_acknowledgement_before_the_commit_is_found(monkeypatch):
    """By a crash in between; further bugs are planted by the table of mutants."""
    submit = SagaActor.submit

    def too_early(self, pending):
        delivery, turn = pending.delivery, pending.turn
        if delivery.future is not None and not delivery.future.done():
            number = turn.after.sequence_nr
            delivery.future.set_result(delivery._receipt(turn.outcome, number, None, False))
        submit(self, pending)

    monkeypatch.setattr(SagaActor, "submit", too_early)
    with pytest.raises(SimulationFailed) as failure:
        stories()["order"].crash_everywhere()
    assert "crash K" in failure.value.replay


@pytest.mark.parametrize(
    ("owner", "function", "every"),
    [
        (Wakeups, "_fire_deadline", 3),
        (Residency, "passivate_due", 3),
        (SagaActor, "on_committed", 7),
    ],
)
def test_a_mistake_that_the_runtime_tries_again_is_found(monkeypatch, owner, function, every):
    """The retry covers it up: in the end all is done."""
    original, calls = getattr(owner, function), count(1)

    def mistaken(self, *arguments):
        if next(calls) % every == 0:
            raise KeyError("a mistake of ours")
        return original(self, *arguments)

    monkeypatch.setattr(owner, function, mistaken)
    outcome = stories(Faults.none())["lists"].outcome(0)
    assert outcome.kind == "perdure makes no mistake of its own", outcome.reason
    assert "KeyError" in outcome.reason


# What should be done by now


@pytest.mark.parametrize(
    ("waiting", "late"),
    [
        ("queued", True),
        ("held", True),
        ("queued behind delayed", False),
        ("missing", False),
        ("missing, begun", True),
        ("queued, quarantined", False),
    ],
)
def test_a_message_that_waits_for_nothing_is_late(tmp_path, waiting, late):
    path = str(tmp_path / "run.db")
    with sqlite3.connect(path) as db:
        db.executescript(
            "CREATE TABLE inbox (instance, message_id, reason, due_at_ms);"
            "CREATE TABLE journal (instance); CREATE TABLE quarantines (instance)"
        )
        row = "INSERT INTO inbox VALUES ('a/1', ?, ?, ?)"
        db.execute(row, ("m1", waiting.split()[0].strip(","), None))
        if "delayed" in waiting:
            db.execute(row, ("m0", "delayed", 2_000))
        if "begun" in waiting:
            db.execute("INSERT INTO journal VALUES ('a/1')")
        if "quarantined" in waiting:
            db.execute("INSERT INTO quarantines VALUES ('a/1')")
    db.close()
    tables = Tables(path)
    assert tables.overdue(1_000, {}) == (["message m1 for a/1"] if late else [])
    tables.close()
