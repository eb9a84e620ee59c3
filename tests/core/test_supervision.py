"""Supervision: what is declared, what is decided, and how restarts are counted."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure import Fixed, Runtime, Supervision
from perdure.core.supervision import Restarts, Strategy
from perdure.errors import DefinitionError
from tests.runtime.frail import Frail

MINUTE = timedelta(minutes=1)


def test_each_constructor_names_its_strategy():
    made = [
        Supervision.resume(),
        Supervision.restart(),
        Supervision.stop(),
        Supervision.quarantine(),
        Supervision.escalate(),
    ]
    assert [one.strategy for one in made] == list(Strategy)
    assert Supervision() == Supervision.resume()


@pytest.mark.parametrize("strategy", [s for s in Strategy if s is not Strategy.RESTART])
def test_all_but_restart_decide_without_counting(strategy):
    for is_final in (False, True):
        assert Supervision(strategy).decide(10**6, 10**6, is_final=is_final) is strategy


@pytest.mark.parametrize(
    ("restarts", "lately", "decided"),
    [
        (0, 0, Strategy.RESTART),
        (2, 2, Strategy.RESTART),
        (3, 0, Strategy.QUARANTINE),
        (0, 3, Strategy.QUARANTINE),
        (9, 9, Strategy.QUARANTINE),
    ],
)
def test_restarts_are_made_up_to_the_budget(restarts, lately, decided):
    supervision = Supervision.restart(max_restarts=3)
    assert supervision.decide(restarts, lately, is_final=False) is decided
    assert supervision.decide(restarts, lately, is_final=True) is Strategy.RESUME


wrong: list[dict[str, Any]] = [
    {"max_restarts": 0},
    {"max_restarts": True},
    {"max_restarts": 1.5},
    {"within": timedelta(0)},
    {"within": 60},
    {"backoff": 5},
]


@pytest.mark.parametrize("options", wrong, ids=str)
def test_a_budget_that_is_none_is_refused(options):
    with pytest.raises(DefinitionError) as caught:
        Supervision.restart(**options)
    assert caught.value.remedy


@pytest.mark.parametrize("given", [None, "restart", Supervision.restart, Fixed(1)])
def test_a_saga_is_refused_that_does_not_say_its_strategy(given):
    class Unclear(Frail):
        supervision = given

    with pytest.raises(DefinitionError, match="supervision is") as caught:
        Runtime("memory://", [Unclear])
    assert caught.value.saga == "Unclear"
    assert caught.value.remedy


def test_a_strategy_by_its_text_is_refused():
    text: Any = "restart"
    with pytest.raises(DefinitionError, match="constructor"):
        Supervision(text)


def test_restarts_count_within_the_time_and_then_cost_nothing():
    restarts = Restarts()
    for now_s in (0, 10, 20):
        restarts.add("x", 60, now_s)
    assert restarts.lately("x", 59.9) == 3
    assert restarts.lately("x", 60) == 2
    assert restarts.lately("y", 20) == 0
    restarts.add("y", 60, 79.9)
    assert len(restarts) == 2
    restarts.add("y", 60, 80)
    assert len(restarts) == 1
    restarts.forget("y")
    restarts.forget("nobody")
    assert len(restarts) == 0


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 30)), max_size=60),
    st.floats(1, 60),
)
def test_restarts_are_those_of_the_window(steps, within_s):
    restarts, made, now_s = Restarts(), [], 0.0
    for key, pause_s in steps:
        now_s += pause_s
        restarts.add(key, within_s, now_s)
        made.append((key, now_s))
        for one in "abc":
            expected = sum(k == one and at_s + within_s > now_s for k, at_s in made)
            assert restarts.lately(one, now_s) == expected
        assert len(restarts) <= 3
