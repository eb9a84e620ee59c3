"""One seed is one run, faults reach every boundary, and a broken saga does not get through."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest

from perdure import Effects, ProcessManager, Settings, WorkQueue, applies, continues, starts
from perdure.errors import DefinitionError, InstanceNotFound
from perdure.testing import Faults, SimulationFailed, World, simulate
from tests.effort import EFFORT, times
from tests.testing.simulation.more_stories import more_stories
from tests.testing.simulation.stories import (
    Added,
    List,
    ListState,
    Opened,
    Order,
    Paid,
    Placed,
    Reserved,
    Ship,
    paid_in_any_order,
    shipping,
    stories,
)

order = stories()["order"]

EVERY = {**stories(), **more_stories()}


# Determinism


def test_a_seed_gives_the_same_run_again():
    digests = {}
    for name in ("order", "lists", "trip"):
        for seed in range(3):
            digests[name, seed] = EVERY[name].outcome(seed).trace.digest()
    for (name, seed), digest in digests.items():
        assert EVERY[name].outcome(seed).trace.digest() == digest, (name, seed)
    assert len(set(digests.values())) == len(digests)


def test_the_hash_seed_of_the_process_does_not_matter():
    program = (
        "from tests.testing.simulation.stories import stories\n"
        "for name in ('lists', 'trip', 'onboarding'):\n"
        "    print(stories()[name].outcome(3).trace.digest())"
    )
    printed = set()
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        environment["PYTHONPATH"] = os.pathsep.join(sys.path)
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        printed.add(done.stdout)
    assert len(printed) == 1


def test_nothing_is_asked_of_the_system(monkeypatch):
    story = stories()["onboarding"]
    story.outcome(0)  # what is made once and kept, such as the codec, is made now

    def no(*args, **kwargs):
        asker = sys._getframe(1).f_globals["__name__"]
        assert asker == "logging", f"{asker} asked the system"  # the time in a record of the log
        return 0

    monkeypatch.setattr(threading.Thread, "start", no)
    monkeypatch.setattr(time, "time", no)
    monkeypatch.setattr(time, "time_ns", no)
    monkeypatch.setattr(time, "monotonic", no)
    monkeypatch.setattr(time, "sleep", no)
    monkeypatch.setattr(os, "urandom", no)
    outcome = story.outcome(0)
    assert outcome.error is None, outcome.reason


def test_ninety_days_pass_in_no_time():
    outcome = stories(Faults.none())["order"].outcome(0)
    assert outcome.error is None
    assert outcome.counts.virtual_s > 90 * 86_400
    assert outcome.counts.batches < 1_000


# Faults


def test_a_crash_at_each_boundary_is_survived():
    counts = order.crash_everywhere()
    assert counts.kills.total() == counts.runs - 1
    assert set(counts.kills) >= {f"K{n}" for n in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 17, 18)}


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY)
def test_a_crash_at_each_boundary_of_every_story_is_survived(name):
    counts = EVERY[name].crash_everywhere(every=max(1, 15 // EFFORT))
    assert counts.kills.total() == counts.runs - 1


@pytest.mark.parametrize("name", EVERY)
def test_a_swarm_of_faults_is_survived(name):
    counts = EVERY[name].run(seeds=3)
    assert counts.acked + counts.effects > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY)
def test_a_swarm_of_faults_is_survived_at_length(name):
    counts = EVERY[name].run(seeds=range(1_000, 1_000 + times(25)))
    assert counts.kills.total() > 10
    assert len(counts.faults) > 10


def test_a_process_that_is_overtaken_is_fenced():
    often = Faults(takeover=1.0, pause=0.03, duplicate=0.5)
    counts = stories(often)["lists"].run(seeds=4)
    assert counts.faults["takeover"] > 5


def test_figures_add_up():
    two = order.run(seeds=[4]) + order.run(seeds=[5])
    both = order.run(seeds=[4, 5])
    assert replace(two, wall_s=0) == replace(both, wall_s=0)
    assert both.runs == 2
    assert both.sent == both.acked + both.refused + both.unknown


# What it has found


FOUND = {
    "a start fails with the store's error if an opening message is in doubt": (
        "schedule",
        37,
        ["answer lost#1", "open fails#11"],
    ),
    "a resume whose process ends has its dead letters discarded when it is repeated": (
        "repair",
        2,
        ["crash K5#15"],
    ),
}


@pytest.mark.parametrize("what", FOUND)
def test_what_it_has_found_stays_mended(what):
    story, seed, faults = FOUND[what]
    outcome = EVERY[story].outcome(seed, faults)
    assert outcome.error is None, outcome.reason
    assert outcome.faults == faults


# What users may get wrong


@dataclass(frozen=True)
class Tally:
    count: int = 0


def tallies():
    """A saga that counts in a module's variable, which a crash would lose."""
    seen: list[int] = []

    class Forgetful(ProcessManager[Tally]):
        name = "sim.forgetful"

        @starts(Opened, by="id")
        def opened(self, state: Tally, event: Opened, do: Effects) -> None: ...

        @continues(Added, by="id")
        def added(self, state: Tally, event: Added, do: Effects) -> None: ...

        @applies(Added)
        def fold_added(self, state: Tally, event: Added) -> Tally:
            seen.append(event.number)
            return Tally(len(seen))

    return Forgetful, seen


def two_are_added(world: World) -> None:
    world.publish(Opened("l-1"))
    world.publish(Added("l-1", 1))
    world.publish(Added("l-1", 2))


def test_a_saga_that_remembers_beside_its_state_is_found():
    forgetful, _seen = tallies()
    with pytest.raises(SimulationFailed) as failure:
        simulate(two_are_added, [forgetful]).run(seeds=3)
    assert "an instance is what its turns say" in failure.value.reason
    assert failure.value.faults == []  # it needs none: a restart is enough


class Reminding(Order):
    """Forgets its deadline when it is paid."""

    name = "sim.reminding"

    @continues(Paid, Reserved, by="id")
    def one_more(self, state, event, do):
        do.cancel_deadline("remind")


def test_a_deadline_forgotten_is_found_shrunk_and_replayed(capsys):
    def reminded(world: World) -> None:
        world.publish(Placed("o-1", 1))
        world.any_order(Paid("o-1"), Reserved("o-1"))
        world.advance(days=31)
        history = world.history(Reminding, "o-1")
        assert any(entry.type == "perdure.DeadlineReached" for entry in history), "no reminder"

    simulation = simulate(reminded, [Reminding, shipping])
    with pytest.raises(SimulationFailed) as failure:
        simulation.run(seeds=20)
    message = str(failure.value)
    assert message.startswith("seed 0: AssertionError: no reminder")
    assert failure.value.replay in message
    with pytest.raises(AssertionError, match="no reminder"):
        simulation.replay(failure.value.seed, failure.value.faults)
    assert "Placed m1" in capsys.readouterr().out


def test_a_fault_that_is_needed_is_named():
    """Whoever does not look at the job's key is wrong only if a process dies."""

    def shipped_once(world: World) -> None:
        world.publish(Placed("o-1", 1))
        world.publish(Paid("o-1"))
        world.publish(Reserved("o-1"))
        world.advance(days=1)
        assert len(world.effects.all) == 1, "shipped twice"

    simulation = simulate(shipped_once, [Order, shipping], faults=Faults(crash_at_boundary=0.05))
    with pytest.raises(SimulationFailed, match="shipped twice") as failure:
        simulation.run(seeds=60)
    assert len(failure.value.faults) == 1
    [needed] = failure.value.faults
    assert needed.startswith("crash K"), needed
    again = simulation.outcome(failure.value.seed, failure.value.faults)
    assert again.faults == [needed]
    assert again.reason == failure.value.reason


def test_what_a_crash_loses_can_be_reset():
    forgetful, seen = tallies()
    counts = simulate(two_are_added, [forgetful], faults=Faults.none(), on_start=seen.clear)
    with pytest.raises(SimulationFailed, match="what its turns say"):
        counts.run(seeds=1)


def test_a_mistake_in_the_declaration_is_raised_as_it_is():
    queue = WorkQueue("sim.needy")

    @queue.worker
    async def needy(command: Ship, nothing_there: int) -> None: ...

    needing = simulate(paid_in_any_order, [Order, queue])
    with pytest.raises(DefinitionError, match="needs nothing_there"):
        needing.run(seeds=1)
    with pytest.raises(DefinitionError, match="is no scenario"):
        simulate("no", [Order])  # type: ignore[arg-type]
    with pytest.raises(DefinitionError, match=r"Faults\.pause is 2"):
        Faults(pause=2)
    with pytest.raises(DefinitionError, match="names no fault"):
        order.replay(0, ["crash"])


# The scenario's words


def test_a_scenario_sees_what_it_did():
    def story(world: World) -> None:
        world.publish(Opened("l-0"))
        world.publish(Opened("l-1"))
        receipt = world.send(List, "l-0", Added("l-0", 7))
        assert receipt.reply == 1
        assert world.send(List, "l-0", Added("l-0", 7), message_id=receipt.message_id).duplicate
        began = world.now
        world.crash()
        world.advance(hours=1)
        assert world.now - began >= timedelta(hours=1)
        assert world.state(List, "l-0") == ListState((7,))
        assert world.state(List, "l-9") is None
        types = [entry.type for entry in world.history(List, "l-0")]
        assert types[:2] == ["sim.opened", "sim.added"]
        assert world.ask(lambda runtime: runtime.cancel(runtime.ref(List, "l-0"))).sequence_nr
        [letter] = world.dead_letters()
        assert letter.type == "sim.shipped"  # nobody handles it

    settings = Settings(idle_after_s=1)
    counts = simulate(story, [List, shipping], settings=settings, faults=Faults.none()).run(seeds=2)
    assert counts.kills == {"by the scenario": 2}


def test_an_answer_that_stays_a_refusal_reaches_the_scenario():
    def story(world: World) -> None:
        with pytest.raises(InstanceNotFound):
            world.ask(lambda runtime: runtime.cancel(runtime.ref(List, "nobody")))

    simulate(story, [List, shipping], faults=Faults.none()).run(seeds=1)
