"""The plan of an ordered saga: what is refused, what follows what, what may be undone."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.core.plan import Plan
from perdure.errors import DefinitionError
from tests.core.courses import NAMES, beside, plan_of, row_of, step


def refused(*steps: dict[str, Any]) -> str:
    with pytest.raises(DefinitionError) as raised:
        plan_of(*steps)
    assert raised.value.saga == "trip"
    assert raised.value.remedy
    return raised.value.problem


def test_what_cannot_work_is_refused_and_named():
    assert refused() == "it has no steps"
    assert refused(step("a"), step("b"), step("a")) == "two steps are named 'a'"
    assert refused(step("a", ["z"])) == "step 'a' comes after 'z', which is no step"
    assert refused(step("a", ["a"])) == "step 'a' waits for itself"
    assert (
        refused(step("x", ["a"]), step("a", ["b"]), step("b", ["c"]), step("c", ["a"]))
        == "the steps 'a', 'b', 'c' wait for each other"
    )
    two = (step("a", pivot=True), step("b", ["a"], pivot=True))
    assert refused(*two) == "it has the pivots a, b"


def test_a_pivot_has_nobody_beside_it():
    pivot = step("p", ["a"], pivot=True)
    assert refused(step("a"), pivot, step("b")) == "the pivot 'p' may run beside 'b'"
    assert refused(step("a"), pivot, step("b", ["a"])) == "the pivot 'p' may run beside 'b'"
    plan_of(step("a"), pivot, step("b", ["p"]), step("c", ["p"]))


def test_what_comes_at_or_after_the_pivot_may_not_be_undone():
    plan = plan_of(
        step("a"), step("b"), step("p", ["a", "b"], pivot=True), step("c", ["p"]), step("d", ["c"])
    )
    assert [plan.may_be_undone(one) for one in plan.steps] == [True, True, False, False, False]
    assert plan.pivot == "p"
    forward = plan_of(step("a"), forward_only=True)
    assert not forward.may_be_undone(forward.steps[0])
    assert forward.pivot == ""


def test_a_plan_is_sequential_if_no_two_steps_may_run_at_once():
    assert row_of("a").is_sequential
    assert row_of("a", "b", "c").is_sequential
    assert plan_of(step("c", ["a"]), step("a"), step("b", ["c", "a"])).is_sequential
    assert not beside("a", "b").is_sequential
    assert not plan_of(step("a"), step("b", ["a"]), step("c", ["a"])).is_sequential
    assert not plan_of(step("a"), step("b", ["a"]), step("c")).is_sequential


def test_queues_say_whose_they_are():
    plan = row_of("a", "b", b={"undo": False})
    assert plan.performed_by("trip.a") == ("a", False)
    assert plan.performed_by("trip.a.undo") == ("a", True)
    assert plan.performed_by("trip.b.undo") is None
    assert plan.performed_by("") is None


def ancestors(plan: Plan, name: str) -> set[str]:
    found: set[str] = set()
    for one in plan.by_name[name].after:
        found |= {one} | ancestors(plan, one)
    return found


GRAPHS = st.lists(st.sets(st.integers(0, 5)), min_size=1, max_size=6)


@given(GRAPHS, st.integers(0, 5), st.permutations(range(6)))
def test_any_graph_is_read_as_its_ancestors_say(graph, pivot, order):
    declared = [
        step(NAMES[i], [NAMES[j] for j in after if j < i], pivot=i == pivot)
        for i, after in enumerate(graph)
    ]
    shuffled = [declared[i] for i in order if i < len(declared)]
    plain = plan_of(*({**one, "is_pivot": False} for one in shuffled))
    before = {name: ancestors(plain, name) for name in plain.by_name}

    def is_beside(one: str, other: str) -> bool:
        return one != other and one not in before[other] and other not in before[one]

    pairs = [(one, other) for one in before for other in before]
    assert plain.is_sequential == (not any(is_beside(*pair) for pair in pairs))
    name = NAMES[pivot]
    if name in before and any(is_beside(name, other) for other in before):
        assert "may run beside" in refused(*shuffled)
    else:
        plan = plan_of(*shuffled)
        for one in plan.steps:
            behind = name in before and (one.name == name or name in before[one.name])
            assert plan.may_be_undone(one) == (not behind)


@given(GRAPHS)
def test_a_circle_is_always_found(graph):
    declared = [
        step(NAMES[i], [NAMES[j] for j in after if j < len(graph)]) for i, after in enumerate(graph)
    ]
    reached = {one["name"]: set(one["after"]) for one in declared}
    for _ in declared:
        reached = {
            name: found.union(*(reached[one] for one in found)) for name, found in reached.items()
        }
    if any(name in found for name, found in reached.items()):
        assert "wait" in refused(*declared)
    else:
        plan_of(*declared)


@pytest.mark.parametrize("shape", ["row", "row declared backwards", "dense", "beside"])
def test_hundreds_of_steps_are_checked_at_once(shape):
    names = [f"s{number}" for number in range(400)]
    after = {
        "row": lambda i: names[i - 1 : i],
        "row declared backwards": lambda i: names[i - 1 : i],
        "dense": lambda i: names[:i],
        "beside": lambda i: [],
    }[shape]
    declared = [step(name, after(i)) for i, name in enumerate(names)]
    if shape == "row declared backwards":
        declared.reverse()
    began = time.process_time()
    plan = plan_of(*declared)
    assert time.process_time() - began < 1
    assert plan.is_sequential == (shape != "beside")
