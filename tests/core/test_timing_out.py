"""The timeout and its retries, in the pure turn."""

from dataclasses import dataclass
from datetime import timedelta

import pytest

from perdure import (
    CancelDeadline,
    Complete,
    Effects,
    Fail,
    Fixed,
    ProcessManager,
    SetDeadline,
    Status,
    TimeoutReached,
    message,
    on_timeout,
    starts,
)
from perdure.core.correlation import VerdictKind
from perdure.core.instance import Armed, Instance, next_due
from perdure.core.outcome import TIMEOUT
from perdure.core.turn import fired_name, step
from perdure.messages import Message, datetime_of
from perdure.process_manager import define
from tests.core.test_turn import ENCODER, NOW_MS


@message(name="timing-out-test.Started")
class Started:
    id: str


@dataclass(frozen=True)
class State:
    status: str = "new"


EFFECTS: list = []


class Retrying(ProcessManager[State]):
    timeout = timedelta(seconds=60)
    timeout_retry = Fixed(5, max_attempts=3)

    @starts(Started, by="id")
    def started(self, state: State, event: Started, do: Effects) -> None: ...


class Handling(Retrying):
    @on_timeout
    def too_long(self, state, do):
        return EFFECTS


def reach(saga, retries=0, *effects):
    EFFECTS[:] = effects
    definition = define(saga)
    content = TimeoutReached(datetime_of(NOW_MS), retries)
    name = fired_name(content)
    assert name is not None
    armed = {name: Armed(NOW_MS, 1)}
    instance = Instance("R/x", "x", State(), 1, deadlines=armed, next_due_ms=next_due(armed))
    told = Message(content, "perdure.TimeoutReached", 1, b"", "m", NOW_MS)
    return step(definition, instance, told, VerdictKind.CONTINUE, False, NOW_MS, ENCODER)


@pytest.mark.parametrize("saga", [Retrying, Handling])
@pytest.mark.parametrize("retries", [0, 1])
def test_with_retries_left_it_is_armed_again_under_the_number_of_the_retry(saga, retries):
    turn = reach(saga, retries)
    assert turn.after.deadlines == {f"{TIMEOUT}.{retries + 1}": Armed(NOW_MS + 5_000, 2)}
    assert turn.deadlines_cleared == [f"{TIMEOUT}.{retries}" if retries else TIMEOUT]
    assert turn.after.status is Status.RUNNING
    assert [stored[0] for stored in turn.events] == ["RetryScheduled"]


def test_after_the_last_the_process_fails_unless_it_is_handled():
    turn = reach(Retrying, 2)
    assert (turn.after.status, turn.after.detail) == (
        Status.FAILED,
        "timed out after maximum retries",
    )
    turn = reach(Handling, 2)
    assert (turn.after.status, turn.after.deadlines, turn.events) == (Status.RUNNING, {}, [])


@pytest.mark.parametrize("retries", [0, 1])
@pytest.mark.parametrize(
    "effect",
    [
        SetDeadline(TIMEOUT, after=timedelta(seconds=9)),
        CancelDeadline(TIMEOUT),
        Complete(),
        Fail("enough"),
    ],
)
def test_a_handler_that_decides_about_the_timeout_has_the_last_word(effect, retries):
    turn = reach(Handling, retries, effect)
    expected = {TIMEOUT: Armed(NOW_MS + 9_000, 2)} if type(effect) is SetDeadline else {}
    assert turn.after.deadlines == expected
    assert turn.events == []
