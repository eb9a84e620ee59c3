"""Each rule finds the fault it is for, and nothing where there is none."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any, Literal

import pytest

from perdure import (
    Exponential,
    Fixed,
    OrderedSaga,
    ProcessManager,
    StartMissing,
    Workflow,
    WorkQueue,
    applies,
    compensates,
    on_command_failed,
    on_deadline,
    step,
)
from perdure.describing import RULES, check, describe
from perdure.errors import DefinitionError
from perdure.messages import CommandFailed
from tests.describing.sagas import (
    EVERYTHING,
    Charge,
    Order,
    Paid,
    Placed,
    Ship,
    State,
    Trip,
    continuing,
    manager,
    starting,
)

HOUR = timedelta(hours=1)


def rules_broken(*members: Any) -> list[str]:
    return [one.rule for one in check(describe(members))]


@on_deadline("pick")
def late(self, state, do): ...


@on_command_failed()
def any_failed(self, state, failure, do): ...


@on_command_failed(Charge)
def not_charged(self, state, failure, do): ...


@on_command_failed(Ship)
def not_shipped(self, state, failure, do): ...


@compensates(Charge)
def make_up(self, state, failed):
    return []


@applies(CommandFailed)
def failed(self, state, failure):
    return state


def by_hand(self, state, event, metadata): ...


def both(**more: Any) -> type[ProcessManager[State]]:
    return manager(begin=starting(), go_on=continuing(), **more)


def charging(name: str = "payments", **options: Any) -> WorkQueue:
    queue = WorkQueue(name, **options)

    @queue.worker
    def charge(command: Charge) -> Paid:
        return Paid(command.order_id)

    return queue


def test_a_process_that_no_time_ever_reaches_is_found():
    assert rules_broken(both()) == ["no-timeout"]


@pytest.mark.parametrize(
    "saga",
    [
        both(timeout=HOUR),
        both(late=late),
        both(handle=by_hand),
        manager(begin=starting()),
    ],
    ids=["timeout", "deadline", "by hand", "waits for nothing"],
)
def test_a_process_that_time_reaches_is_well(saga):
    assert rules_broken(saga) == []


def test_a_command_whose_result_is_awaited_and_whose_failure_is_not_is_found():
    (warned,) = check(describe([both(timeout=HOUR), charging()]))
    assert (warned.rule, warned.name) == ("failure-unhandled", "checked")
    assert "takes described.paid" in warned.problem
    assert "'payments'" in warned.problem
    assert "@compensates(described.charge)" in warned.remedy
    others = both(timeout=HOUR, not_shipped=not_shipped)
    assert "failure-unhandled" in rules_broken(others, charging())


@pytest.mark.parametrize(
    "saga",
    [
        both(timeout=HOUR, make_up=make_up),
        both(timeout=HOUR, not_charged=not_charged),
        both(timeout=HOUR, any_failed=any_failed),
        both(timeout=HOUR, failed=failed),
        manager(begin=starting()),
    ],
    ids=["compensated", "handled", "any handled", "folded", "not awaited"],
)
def test_a_failure_that_is_handled_or_of_no_concern_is_well(saga):
    assert rules_broken(saga, charging()) == []


def test_a_command_that_is_tried_for_ever_does_not_fail():
    saga, for_ever = both(timeout=HOUR), Exponential(max_attempts=None)
    assert rules_broken(saga, charging(retry=for_ever)) == []
    refused = charging(retry=for_ever, non_retryable=(KeyError,))
    assert rules_broken(saga, refused) == ["failure-unhandled"]
    assert rules_broken(saga, charging(retry=for_ever, repeat_unknown=False)) != []


def test_a_saga_that_no_message_starts_is_found():
    assert rules_broken(manager(go_on=continuing(), timeout=HOUR)) == ["never-starts"]
    by_missing = manager(go_on=continuing(), timeout=HOUR, on_missing=StartMissing())
    assert rules_broken(by_missing) == []
    correlated = manager(go_on=continuing(), timeout=HOUR, correlate=lambda self, e, m: [])
    assert rules_broken(correlated) == []


class Phase(StrEnum):
    NEW = "new"
    DONE = "done"


@dataclass(frozen=True)
class Phased:
    status: Phase | None = Phase.NEW


@dataclass(frozen=True)
class Bare:
    paid: bool = False


@dataclass(frozen=True)
class Free:
    status: str = ""


@dataclass(frozen=True)
class Partly:
    status: Literal["new"] | str = "new"


@dataclass(frozen=True)
class Computed:
    paid: bool = False

    @property
    def status(self) -> str:
        return "paid" if self.paid else "new"


def guarded(state: type, when: Any) -> type[ProcessManager[Any]]:
    return manager(state, begin=starting(when=when))


@pytest.mark.parametrize(
    ("state", "when", "told"),
    [
        (State, "payd", "it has new, open and paid"),
        (State, ("new", "payd"), "it has new, open and paid"),
        (Phased, "payd", "it has new and done"),
        (Bare, "payd", "a field `status`"),
    ],
)
def test_a_guard_that_never_admits_is_found(state, when, told):
    (warned,) = check(describe([guarded(state, when)]))
    assert (warned.rule, warned.place) == ("unknown-status", "@starts(described.placed)")
    assert "'payd'" in warned.problem
    assert told in warned.remedy


@pytest.mark.parametrize(
    ("state", "when"),
    [
        (State, ("new", "paid")),
        (Phased, Phase.DONE),
        (Phased, ("new", Phase.DONE)),
        (Free, "payd"),
        (Partly, "payd"),
        (Computed, "payd"),
        (Bare, lambda state: state.paid),
        (Bare, None),
    ],
)
def test_a_guard_that_may_admit_is_well(state, when):
    assert rules_broken(guarded(state, when)) == []


def test_a_deadlines_guard_is_looked_at_as_well():
    @on_deadline("pick", when="payd")
    def pick(self, state, do): ...

    (warned,) = check(describe([manager(begin=starting(), pick=pick)]))
    assert (warned.rule, warned.place) == ("unknown-status", "@on_deadline(pick)")


def test_a_failure_that_is_handled_of_a_command_nobody_performs_is_found():
    saga = manager(begin=starting(), not_shipped=not_shipped)
    assert rules_broken(saga, charging()) == ["no-worker"]
    assert rules_broken(saga) == []  # without a queue, commands stay in the outbox
    assert rules_broken(saga, charging(), WorkQueue("elsewhere")) == []
    taking = manager(name="taking", begin=starting(Ship))  # a saga takes the command
    assert rules_broken(saga, taking, charging()) == []
    charged = manager(begin=starting(), not_charged=not_charged)
    assert rules_broken(charged, charging()) == []


def test_a_command_of_two_workers_is_found_and_an_event_of_two_subscribers_is_not():
    assert rules_broken(charging(), charging("others")) == ["two-workers"]
    heard = [WorkQueue("a"), WorkQueue("b")]
    for queue in heard:
        queue.subscriber(events=[Placed])(lambda event: None)
    assert rules_broken(charging(), *heard) == []


FOR_EVER = Fixed(1, max_attempts=None)


def course(timeout: timedelta | None = None, **how: Any) -> OrderedSaga:
    saga = OrderedSaga("checked", Trip, by="trip_id", timeout=timeout)

    @saga.step(nothing_to_undo=True)
    def first(trip: Trip) -> None: ...

    @saga.step(**{"nothing_to_undo": not how.get("pivot"), **how})
    def second(trip: Trip) -> None: ...

    return saga


def behind_pivot(timeout: timedelta | None, **how: Any) -> OrderedSaga:
    saga = course(timeout, pivot=True)

    @saga.step(**how)
    def third(trip: Trip) -> None: ...

    return saga


def test_a_step_that_is_tried_for_ever_is_found():
    (warned,) = check(describe([course(retry=FOR_EVER)]))
    assert (warned.rule, warned.place) == ("endless-step", "step second")
    assert rules_broken(behind_pivot(HOUR, retry=FOR_EVER)) == ["endless-step"]


def test_a_step_of_a_list_is_looked_at_as_well():
    @step(retry=FOR_EVER)
    def first(trip: Trip) -> None: ...

    @step(retry=FOR_EVER)
    def second(trip: Trip) -> None: ...

    endless = Workflow("checked", Trip, by="trip_id", steps=[first, second])
    (warned,) = check(describe([endless]))
    assert (warned.rule, warned.place) == ("endless-step", "steps first and second")
    timed = Workflow("checked", Trip, by="trip_id", steps=[first], timeout=HOUR)
    assert rules_broken(timed) == []


@pytest.mark.parametrize(
    "saga",
    [
        course(),
        course(retry=FOR_EVER, deadline=HOUR),
        course(HOUR, retry=FOR_EVER),
        course(HOUR, retry=FOR_EVER, pivot=True),
    ],
    ids=["some attempts", "deadline", "timeout", "pivot"],
)
def test_a_step_that_something_bounds_is_well(saga):
    assert rules_broken(saga) == []


def test_a_steps_deadline_behind_the_sagas_timeout_is_found():
    (warned,) = check(describe([course(HOUR, deadline=2 * HOUR)]))
    assert (warned.rule, warned.place) == ("late-deadline", "step second")
    assert "2 h" in warned.problem
    assert rules_broken(course(HOUR, deadline=HOUR)) == []
    assert rules_broken(course(deadline=2 * HOUR)) == []
    assert rules_broken(behind_pivot(HOUR, deadline=2 * HOUR)) == []


def test_a_rule_is_switched_off_for_all_or_for_one():
    sagas = [both(), manager(name="other", begin=starting(), go_on=continuing())]
    found = describe(sagas)
    assert [one.name for one in check(found)] == ["checked", "other"]
    assert check(found, ["no-timeout"]) == []
    assert [one.name for one in check(found, ["no-timeout:checked"])] == ["other"]
    assert len(check(found, ["two-workers", "no-timeout:nobody"])) == 2


def test_a_rule_that_does_not_exist_is_refused():
    with pytest.raises(DefinitionError, match="there is no rule 'no-timeuot'") as caught:
        check(describe([]), ["no-timeuot:checked"])
    assert "no-timeout" in (caught.value.remedy or "")


def test_a_warning_says_which_saga_where_and_what_to_do():
    (warned,) = check(describe([course(retry=FOR_EVER)]))
    assert str(warned) == (
        "checked, step second: endless-step: tried for ever, and nothing bounds that; give "
        "deadline=timedelta(…), or a retry with max_attempts=, or the saga a timeout"
    )


def test_each_rule_says_what_it_is_for():
    assert all(rule.__doc__ for rule in RULES.values())


def test_what_is_declared_well_breaks_no_rule():
    assert rules_broken(*EVERYTHING) == ["no-worker"]  # nobody ships
    assert rules_broken(Order) == []
