"""Which of the due runs are made: one, each, or none that is too late."""

from __future__ import annotations

from datetime import timedelta

import pytest

from perdure import CatchUp, Coalesce, Skip
from perdure.errors import DefinitionError

NOW_MS = 1_000_000


@pytest.mark.parametrize("late_ms", [0, 5, 900_000])
def test_one_stands_for_all_however_late_it_is(late_ms):
    assert Coalesce().most == 1
    assert list(Coalesce().made([NOW_MS - late_ms], NOW_MS)) == [NOW_MS - late_ms]
    assert list(Coalesce().made([], NOW_MS)) == []


def test_each_of_the_latest_is_caught_up_with_oldest_first():
    assert CatchUp(most=24).most == 24
    assert list(CatchUp().made([1, 2, 3], NOW_MS)) == [1, 2, 3]


def test_none_is_made_that_is_later_than_its_grace():
    policy = Skip(grace=timedelta(seconds=2))
    assert policy.most == 1
    assert list(policy.made([NOW_MS - 2_000], NOW_MS)) == [NOW_MS - 2_000]
    assert list(policy.made([NOW_MS - 2_001], NOW_MS)) == []


@pytest.mark.parametrize("most", [0, -1, 1_001, 2.0, True, "all", None])
def test_catching_up_with_nonsense_is_refused(most):
    with pytest.raises(DefinitionError, match=r"CatchUp\.most"):
        CatchUp(most)


@pytest.mark.parametrize(
    "grace",
    [timedelta(0), timedelta(seconds=-5), timedelta(milliseconds=999), timedelta.max, 5, None],
)
def test_a_grace_that_is_none_is_refused(grace):
    with pytest.raises(DefinitionError, match=r"Skip\.grace"):
        Skip(grace)


def test_policies_are_values():
    assert len({Coalesce(), Coalesce(), CatchUp(2), CatchUp(most=2), Skip(), Skip()}) == 3
