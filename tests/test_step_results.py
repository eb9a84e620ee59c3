"""What the functions of steps are given, and what becomes of what they return."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from perdure import Residue, message
from perdure.core.step_events import CompensateStep, PerformStep, StepCompensated, StepCompleted
from perdure.errors import InvalidResult, NonRetryable
from perdure.step_results import compensated, completed, given, results_of


@message(name="results-of-steps-test.trip")
@dataclass(frozen=True)
class Trip:
    id: str
    hotel: str = ""
    stops: list[str] = field(default_factory=list)
    length: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        if self.hotel == "full":
            raise ValueError("no beds")


@message(name="results-of-steps-test.other")
class Other:
    id: str


def step(data: Any = Trip("t"), is_alone: bool = True) -> PerformStep:
    return PerformStep("book", "trips/t/book", data, is_alone)


def undo(data: Any = Trip("t")) -> CompensateStep:
    return CompensateStep("book", "trips/t/book/undo", data)


def test_a_mapping_of_fields_is_merged_into_the_data():
    assert completed(step(), {"hotel": "Ritz"}) == StepCompleted("book", Trip("t", "Ritz"))
    assert completed(step(is_alone=False), {"hotel": "Ritz"}) == StepCompleted(
        "book", Trip("t", "Ritz"), Trip("t")
    )


def test_none_is_no_result():
    assert completed(step(), None) == StepCompleted("book")
    assert compensated(undo(), None) == StepCompensated("book")


def test_a_compensation_returns_residues_or_fields():
    fee, stamp = Residue("fee", 5), Residue("stamp")
    assert compensated(undo(), fee) == StepCompensated("book", residues=(fee,))
    assert compensated(undo(), [fee, stamp]) == StepCompensated("book", residues=(fee, stamp))
    assert compensated(undo(), ()) == StepCompensated("book")
    assert compensated(undo(), {"hotel": "x"}) == StepCompensated("book", Trip("t", "x"), Trip("t"))


@pytest.mark.parametrize(
    ("returned", "problem"),
    [
        ("Ritz", "step 'book' returned 'Ritz'"),
        (Trip("t"), "step 'book' returned Trip("),
        ([], "step 'book' returned []"),
        (0, "step 'book' returned 0"),
        ({"hotl": "Ritz"}, "returned 'hotl', which Trip does not take"),
        ({7: "Ritz"}, "returned 7, which Trip does not take"),
        ({"length": 3}, "returned 'length', which Trip does not take"),
        ({"hotel": "full"}, "which Trip refuses: no beds"),
    ],
)
def test_anything_else_is_refused_and_says_what_to_return(returned, problem):
    with pytest.raises(InvalidResult) as raised:
        completed(step(), returned)
    assert problem in raised.value.problem
    assert raised.value.remedy
    if returned != []:
        with pytest.raises(InvalidResult):
            compensated(undo(), returned)


def test_the_remedies_name_what_may_be_returned():
    with pytest.raises(InvalidResult, match="return a mapping of fields of Trip, or None"):
        completed(step(), 1)
    with pytest.raises(InvalidResult, match="return some of hotel, id, stops"):
        completed(step(), {"hotl": 1})
    with pytest.raises(InvalidResult, match="of fields of Trip, a Residue, several of them, or No"):
        compensated(undo(), [Residue("fee"), 7])


def test_the_function_may_change_what_it_is_given_and_only_what_it_returns_counts():
    command = step(Trip("t", stops=["Rome"]), is_alone=False)
    trip = given("trips", "book", Trip)(command)
    trip.stops.append("Milan")
    assert command.data.stops == ["Rome"]
    assert completed(command, {"hotel": "x"}) == StepCompleted(
        "book", Trip("t", "x", ["Rome"]), Trip("t", stops=["Rome"])
    )
    assert completed(command, {"stops": trip.stops}) == StepCompleted(
        "book", Trip("t", stops=["Rome", "Milan"]), Trip("t", stops=["Rome"])
    )


@pytest.mark.parametrize(
    "command",
    [
        PerformStep("fly", "trips/t/fly", Trip("t"), True),
        PerformStep("book", "others/t/book", Trip("t"), True),
        step(Other("t")),
        CompensateStep("fly", "trips/t/fly/undo", Trip("t")),
    ],
)
def test_what_is_not_meant_for_the_step_is_refused(command):
    with pytest.raises(NonRetryable):
        given("trips", "book", Trip)(command)


def test_the_field_that_finds_the_instance_stays():
    done, undone = results_of(("id", "hotel"))
    assert done(step(), {"id": "t", "hotel": ""}).data == Trip("t")
    with pytest.raises(InvalidResult, match="step 'book' returned another 'hotel', by which"):
        done(step(), {"hotel": "Ritz"})
    with pytest.raises(InvalidResult, match="compensation of step 'book' returned another 'id'"):
        undone(undo(), {"id": "u"})
    free, _ = results_of(lambda event: event.id)
    assert free(step(), {"id": "u"}).data == Trip("u"), "a function names no field"
