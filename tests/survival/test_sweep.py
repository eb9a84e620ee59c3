"""The kill sweep in small: every point is hit, nothing is lost, doubled, overtaken, or left lying.

Large: ``python -m tests.kill_sweep``.
"""

from __future__ import annotations

import random
import signal

import pytest

from perdure.failpoints import Point
from tests.kill_sweep import Task, catch, kill_at, sweep, table, tasks_of, tell
from tests.survival.mutants import MUTANTS
from tests.survival.story import Story, Zygote

STORIES = 2
QUICKLY_CAUGHT = (
    "acknowledged before the commit",
    "dispatched before the commit",
    "repeated messages are new ones",
    "undone in the order in which it was done",
)


@pytest.fixture(scope="module")
def zygote():
    with Zygote() as process:
        yield process


@pytest.mark.parametrize("number", range(STORIES))
def test_killed_at_every_point_on_one_file(number, zygote, tmp_path):
    chance = random.Random(number)
    points = [*chance.sample(list(Point), len(Point))]
    points.remove(Point.CREATING)
    with Story(zygote, tmp_path, f"all-{number}") as story:
        reached = [point for point in [Point.CREATING, *points] if kill_at(story, point, chance)]
        story.end()
        counts = story.counted()
    print(counts)
    assert story.findings == []
    assert sorted(reached) == sorted(Point), "every point is hit"
    assert counts["kills"] == len(Point)
    assert counts["open"] > 0, "some operations were under way"
    assert counts["acknowledged"] > 50


@pytest.mark.parametrize("name", ["random", "loop", "stops"])
def test_killed_or_stopped_at_any_moment(name, zygote, tmp_path):
    row = tell(Task(name, 6, f"any-{name}"), zygote, tmp_path)
    print(table([row]))
    assert row.problems == []
    assert row.is_good
    assert row.stop_max_s < 5


@pytest.mark.parametrize("mutant", QUICKLY_CAUGHT)
def test_a_planted_mistake_is_found(mutant, zygote, tmp_path):
    assert catch(mutant, zygote, tmp_path, seed=3, most=40) is not None


@pytest.mark.slow
@pytest.mark.parametrize("mutant", sorted(MUTANTS.keys() - set(QUICKLY_CAUGHT)))
def test_any_other_planted_mistake_is_found(mutant, zygote, tmp_path):
    assert catch(mutant, zygote, tmp_path, seed=3) is not None


@pytest.mark.slow
def test_each_point_by_itself_on_files_of_its_own():
    tasks = [task for point in Point for task in tasks_of(point, 3, seed=11)]
    rows = sweep(tasks, jobs=2)
    print(table(rows))
    assert [row.problems for row in rows] == [[]] * len(Point)
    assert all(row.is_good for row in rows)


def test_a_life_that_is_not_killed_ends_by_itself(zygote, tmp_path):
    with Story(zygote, tmp_path, "peace") as story:
        assert story.live() == 0
        assert story.live(point="K6", nth=1) == -signal.SIGKILL
        assert story.live(point="K19", nth=1) == 0, "the schema is there: it is not reached"
        story.end()
    assert story.findings == []
