"""The kill sweep in small: every point is hit, nothing is lost, doubled, overtaken, or left lying.

Large: ``python -m tests.kill_sweep``.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from perdure.failpoints import ALONE, Point
from tests.kill_sweep import Row, Task, catch, kill_at, table, tell
from tests.survival.mutants import MUTANTS
from tests.survival.story import Story, Zygote

QUICKLY_CAUGHT = ("acknowledged before the commit", "undone in the order in which it was done")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def zygote():
    with Zygote() as process:
        yield process


@pytest.mark.parametrize("number", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_at_every_point_on_one_file(number, zygote, tmp_path):
    chance = random.Random(number)
    points = [*chance.sample(ALONE, len(ALONE))]
    points.remove(Point.CREATING)
    with Story(zygote, tmp_path, f"all-{number}") as story:
        reached = [point for point in [Point.CREATING, *points] if kill_at(story, point, chance)]
        story.end()
        counts = story.counted()
    print(counts)
    assert story.findings == []
    assert sorted(reached) == sorted(ALONE), "every point is hit"
    assert counts["kills"] == len(ALONE)
    assert counts["open"] > 0, "some operations were under way"
    assert counts["acknowledged"] > 50


@pytest.mark.parametrize("name", ["random", "loop", "stops"])
def test_killed_or_stopped_at_any_moment(name, zygote, tmp_path):
    row = tell(Task(name, 4, f"any-{name}"), zygote, tmp_path)
    print(table([row]))
    assert row.problems == []
    assert row.counts["hits"] == 4
    assert row.stop_max_s < 5


@pytest.mark.parametrize("mutant", QUICKLY_CAUGHT)
def test_a_planted_mistake_is_found(mutant, zygote, tmp_path):
    assert catch(mutant, zygote, tmp_path, seed=3, most=40) is not None


@pytest.mark.slow
@pytest.mark.parametrize("mutant", sorted(MUTANTS.keys() - set(QUICKLY_CAUGHT)))
def test_any_other_planted_mistake_is_found(mutant, zygote, tmp_path):
    assert catch(mutant, zygote, tmp_path, seed=3) is not None


@pytest.mark.slow
def test_the_command_prints_a_table_and_ends_with_0_if_all_is_well():
    command = [sys.executable, "-m", "tests.kill_sweep", "--hits", "2", "--seed", "11"]
    done = subprocess.run(
        [*command, "--points", "K6,K19", "--json"], capture_output=True, cwd=ROOT, check=True
    )
    rows = json.loads(done.stdout)["rows"]
    assert [(row["name"], row["counts"]["kills"]) for row in rows] == [
        ("K6", 2), ("K19", 2), ("all", 4),
    ]  # fmt: skip
    assert all(not any(row["checks"].values()) for row in rows)


def test_a_row_is_good_only_with_its_kills_and_without_findings():
    enough = Counter(hits=2, tried=10, acknowledged=8, refused=2)
    assert Row("K1", 2, enough).is_good
    assert not Row("K1", 3, enough).is_good
    assert not Row("K1", 2, Counter(hits=2)).is_good
    assert not Row("K1", 2, Counter(hits=2, tried=10, acknowledged=9)).is_good
    assert not Row("K1", 2, Counter(hits=2, tried=10, acknowledged=2, refused=8)).is_good
    assert not Row("K1", 2, enough, Counter(lost=1)).is_good


def test_a_life_that_is_not_killed_ends_by_itself(zygote, tmp_path):
    with Story(zygote, tmp_path, "peace") as story:
        assert story.live() == 0
        assert story.live(point="K6", nth=1) == -signal.SIGKILL
        assert story.live(point="K19", nth=1) == 0, "the schema is there: it is not reached"
        story.end()
    assert story.findings == []
