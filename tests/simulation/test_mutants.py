"""Each planted mistake is found by the simulation; without one, the stories find nothing.

Large: ``python -m tests.simulation --seeds 2000 --mutants``, for one kind of faults with
``--faults crashes``; and ``PERDURE_TEST_EFFORT`` (``tests/effort.py``).
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.effort import times
from tests.simulation.mutants import MUTANTS, SEEDS_MAX, Planted, caught
from tests.simulation.stories import every
from tests.simulation.sweep import Row, as_json, mutants_table, play
from tests.survival.mutants import MUTANTS as SWEPT
from tests.survival.mutants import Mutant
from tests.testing.simulation.more_stories import more_stories
from tests.testing.simulation.stories import stories

ROOT = Path(__file__).parents[2]
STORIES = every()
MINE = sorted(STORIES.keys() - stories().keys() - more_stories().keys())
"""The others are played in ``tests/testing/simulation``."""


@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_mistake_is_found(name):
    planted = MUTANTS[name]
    seeds = [planted.seed, *range(SEEDS_MAX)]
    found = next(caught(planted, STORIES[planted.story], seeds), None)
    assert found is not None, f"{name}: not found in {SEEDS_MAX} seeds of {planted.story}"


@pytest.mark.parametrize("name", MINE)
def test_without_a_mistake_nothing_is_found(name):
    row = play("swarm", name, 0, 3)
    assert row.violations == []
    assert row.repeated == 1
    assert row.counts.runs == 3
    assert row.counts.turns > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", STORIES)
@pytest.mark.parametrize("faults", ["crashes", "pauses", "unwritten", "lost", "doubts", "hostile"])
def test_one_kind_of_fault_is_survived(faults, name):
    assert play(faults, name, 0, times(4)).violations == []


def test_what_the_kill_sweep_finds_is_planted_here_too():
    planted = [one.mutant for one in MUTANTS.values()]
    assert all(mutant in planted for mutant in SWEPT.values())
    assert len(planted) == len({(one.owner, one.function, one.becomes) for one in planted})


def test_a_mutant_that_cannot_be_planted_says_so():
    good = MUTANTS["shown before the commit"].mutant
    with pytest.raises(LookupError, match="plant it elsewhere"), good._replace(text="no").planted():
        pass
    nonsense = Planted(good._replace(becomes="else nobody"), "queries", 0)
    with pytest.raises(LookupError, match="the mutant itself is wrong"):
        list(caught(nonsense, STORIES["queries"], range(1)))


def test_a_mutant_is_gone_after_its_block():
    mutant = Mutant(Row, "add", "self.repeated += other.repeated", "self.repeated += 7")
    with mutant.planted():
        row = Row("one")
        row.add(Row("other"))
        assert row.repeated == 7
    row.add(Row("other"))
    assert row.repeated == 7


def test_figures_become_a_table_and_a_report():
    row, total = Row("order", violations=[(3, "late")]), Row("all")
    row.counts.faults["takeover"] = 2
    total.add(row)
    found = {
        "mutant": "m", "story": "order", "seeds until caught": 4, "caught by": 1, "of": 9,
        "symptom": "late",
    }  # fmt: skip
    report = json.loads(json.dumps(as_json([row], total, [found])))
    assert report["faults"]["takeover"] == 2
    assert report["checks"] == {"order": [[3, "late"]]}
    assert (report["mutants"]["planted"], report["mutants"]["caught"]) == (1, 1)
    assert "1 of 9" in mutants_table([found])


@pytest.mark.slow
def test_the_command_prints_a_table_and_ends_with_0_if_all_is_well():
    command = [sys.executable, "-m", "tests.simulation", "--seeds", "3", "--story", "order,alarms"]
    done = subprocess.run(command, capture_output=True, cwd=ROOT, check=True, text=True)
    assert [line.split()[0] for line in done.stdout.splitlines()[1:4]] == ["order", "alarms", "all"]
