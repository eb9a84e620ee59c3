"""What a workflow has asked for, and what came of it: folding alone."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from perdure import Cancel, ChildEnded, CommandFailed, DeadlineReached, ExternalEvent, message
from perdure.core.consequences import consequences
from perdure.core.progress import Heard, Operation, Progress, Standing, fold
from perdure.core.step_events import Resume
from perdure.core.workflow_events import (
    EventTaken,
    OperationStarted,
    PerformStep,
    Published,
    StepDone,
)
from perdure.effects import CancelChild, CancelDeadline
from perdure.messages import Metadata, TimeoutReached, datetime_of

AT = datetime_of(0)


@message(name="progress-test.Begun")
class Begun:
    id: str


@message(name="progress-test.Rung")
class Rung:
    id: str


def folded(*events: Any) -> Progress:
    """The progress after one turn for each, a second apart."""
    progress = Progress()
    for number, event in enumerate((Begun("b"), *events), 1):
        progress = fold(progress, event, Metadata(sequence_nr=number, occurred_at_ms=number * 1000))
    return progress


def asked(*names: str) -> list[OperationStarted]:
    return [OperationStarted(name) for name in names]


def failure(command: Any) -> CommandFailed:
    return CommandFailed(command, "c-1", "wf.charge", "exhausted", "ValueError: no", 3, True)


def test_the_first_message_is_what_it_begins_with_and_later_ones_are_events():
    progress = folded(Rung("a"), Begun("c"))
    assert progress.input == Begun("b")
    assert progress.events == (Heard(2, Rung("a")), Heard(3, Begun("c")))


def test_what_was_asked_for_is_open_until_its_end_comes():
    progress = folded(*asked("step/a", "sleep/s"), StepDone("step/a", value=7))
    assert progress.open == ("sleep/s",)
    done = progress.operations["step/a"]
    assert (done.status, done.value, done.ended_nr) == (Standing.DONE, 7, 4)
    assert done.ended_at is not None
    assert done.ended_at - done.started_at == timedelta(seconds=2)


@pytest.mark.parametrize(
    ("name", "event", "status"),
    [
        ("step/a", StepDone("step/a", Rung("x")), "done"),
        ("step/a", failure(PerformStep("step/a", "a", "k")), "failed"),
        ("step/a", failure(ExternalEvent("x", {"operation": "step/a"})), "failed"),
        ("sleep/s", DeadlineReached("sleep/s", AT), "done"),
        ("event/Rung", DeadlineReached("event/Rung", AT), "timed out"),
        ("child/kyc", DeadlineReached("child/kyc", AT), "timed out"),
        ("child/kyc", ChildEnded("kyc", "S", "i", "completed", value=1), "done"),
        ("child/kyc", ChildEnded("kyc", "S", "i", "failed", error="no"), "failed"),
        ("step/a", Cancel("tired"), "cancelled"),
        ("step/a", TimeoutReached(AT), "cancelled"),
        ("publish/Rung", Published("publish/Rung"), "done"),
    ],
)
def test_each_end_is_recorded_once_and_never_changes(name: str, event: Any, status: str):
    progress = folded(*asked(name), event)
    assert progress.operations[name].status == status
    for late in (StepDone("step/a", value="late"), Cancel("late"), DeadlineReached(name, AT)):
        after = fold(progress, late, Metadata(sequence_nr=9))
        assert after.operations[name] == progress.operations[name]


@pytest.mark.parametrize(
    "event",
    [
        StepDone("step/other", value=1),
        failure(Rung("x")),
        failure(ExternalEvent("x", {})),
        DeadlineReached("other", AT),
        ChildEnded("other", "S", "i", "completed"),
        Resume(),
    ],
)
def test_what_nobody_asked_for_changes_nothing(event: Any):
    assert folded(*asked("step/a"), event) == folded(*asked("step/a"))


def test_an_event_is_taken_by_the_turn_it_came_with():
    progress = folded(Rung("a"), Rung("b"), Rung("c"), EventTaken("event/Rung", 3))
    assert progress.operations["event/Rung"].message == Rung("b")
    assert progress.events == (Heard(2, Rung("a")), Heard(4, Rung("c")))


def test_a_failure_says_why():
    operation = folded(*asked("step/a"), failure(PerformStep("step/a", "a", "k"))).operations[
        "step/a"
    ]
    assert (operation.reason, operation.error, operation.is_unknown) == (
        "exhausted",
        "ValueError: no",
        True,
    )


def test_only_the_first_cancellation_counts():
    progress = folded(*asked("step/a"), Cancel("tired"), *asked("step/undo"), Cancel("again"))
    assert progress.cancelled == "cancelled: tired"
    assert progress.open == ("step/undo",)
    assert folded(Cancel()).cancelled == "cancelled"
    assert folded(TimeoutReached(AT), Cancel("late")).cancelled == "timed out"


def test_an_end_takes_back_what_is_not_needed_any_more():
    ended = ChildEnded("kyc", "S", "i", "completed")
    assert consequences(folded(ended), ended, 2) == [CancelDeadline("child/kyc")]
    late = DeadlineReached("child/kyc", AT)
    assert consequences(folded(late), late, 2) == [CancelChild("kyc", "timed out")]
    assert consequences(folded(Rung("a")), Rung("a"), 2) == []
    cancel = Cancel("tired")
    progress = folded(*asked("step/a", "child/kyc"), cancel)
    assert consequences(progress, cancel, 4) == [
        CancelDeadline("step/a"),
        CancelDeadline("child/kyc"),
        CancelChild("kyc", "tired"),
    ]
    assert consequences(progress, cancel, 5) == [], "those of an earlier turn are told"


def test_operations_are_values():
    assert Operation(AT) == Operation(AT)
    before = folded(*asked("step/a"))
    fold(before, StepDone("step/a"), Metadata(sequence_nr=3))
    assert before == folded(*asked("step/a"))
