"""What an ordered saga does next, rule by rule. Whatever may happen: ``test_any_course.py``."""

from __future__ import annotations

from datetime import timedelta

import pytest

from perdure import ExternalEvent, Residue
from perdure.core.ordered import Mode
from perdure.core.outcome import TIMEOUT, Outcome
from perdure.core.plan import Plan
from perdure.core.step_events import (
    CompensateStep,
    PerformStep,
    StepCompensated,
    StepCompleted,
    StepFailed,
)
from perdure.messages import CommandFailed
from tests.core.courses import NOW_MS, Play, Status, Trip, beside, plan_of, row_of, step

DIAMOND = (step("a"), step("b", ["a"]), step("c", ["a"]), step("d", ["b", "c"]))


def begun(plan: Plan, *done: str, **options) -> Play:
    """An instance of which these steps are done."""
    play = Play(plan, **options)
    play.begin()
    for name in done:
        play.done(name)
    return play


# Forward


def test_steps_go_one_after_another_and_each_sees_the_results_before_it():
    play = Play(row_of("a", "b", "c"))
    play.begin(f=7)
    assert play.working == ["a"]
    play.done("a")
    assert play.working == ["b"]
    assert play.open["trip/t/2/0"].data == Trip(f=7, a=1)
    play.done("b")
    play.done("c", c=3, results={"c": 1})
    assert play.status is Status.COMPLETED
    assert play.codec.decode_value(play.detail) == Trip(f=7, a=1, b=1, c=3, results={"c": 1})
    assert play.log() == [
        "StepStarted a", "StepAdvanced", "StepStarted b", "StepAdvanced", "StepStarted c",
        "Completed",
    ]  # fmt: skip
    assert [one.next_step for one in play.recorded if hasattr(one, "next_step")] == [1, 2]
    assert (play.state.mode, play.state.outcome) == (Mode.COMPLETED, "completed")
    assert play.open == {}


def test_the_key_of_a_step_is_its_own_and_that_of_its_undoing_another():
    play = begun(row_of("a", "b"), "a")
    assert play.take("b").key == "trip/t/b"
    play.tell(CommandFailed(PerformStep("b", "", Trip(), True), "", "", "exhausted", "", 1))
    assert play.take("a", CompensateStep).key == "trip/t/a/undo"


def test_steps_beside_each_other_start_at_once_and_the_next_one_when_all_are_done():
    play = begun(plan_of(*DIAMOND), "a")
    assert play.working == ["b", "c"]
    play.done("c")
    assert play.working == ["b"]
    play.done("b")
    assert play.working == ["d"]
    play.done("d")
    assert play.state.data == Trip(a=1, b=1, c=1, d=1), "nobody's result is lost"
    assert play.state.completed == ("a", "c", "b", "d")


def test_a_step_beside_others_changes_only_what_it_returns():
    play = begun(beside("a", "b"))
    play.done("a", a=1, results={"a": 1})
    play.done("b", b=2)
    assert play.state.data == Trip(a=1, b=2, results={"a": 1})


def test_a_step_without_results_leaves_the_data():
    play = Play(row_of("a", "b"))
    play.begin()
    play.take("a")
    play.tell(StepCompleted("a"))
    assert play.state.data == Trip()
    assert play.working == ["b"]


def test_a_deadline_goes_with_the_command():
    play = begun(plan_of(step("a", deadline=timedelta(hours=1)), step("b")))
    assert list(play.expires.values()) == [NOW_MS + 3_600_000, 0]


def test_a_second_beginning_changes_nothing():
    play = begun(row_of("a", "b"), "a")
    assert play.begin(a=9).outcome is Outcome.UNHANDLED
    assert play.state.data.a == 1


# Backward


def test_what_is_done_is_undone_the_latest_first_one_at_a_time():
    play = begun(row_of("a", "b", "c", "d"), "a", "b", "c")
    play.fail("d", error="ValueError: sold out")
    assert play.undoing == ["c"]
    play.undone("c")
    assert play.undoing == ["b"]
    play.undone("b")
    play.undone("a")
    assert play.status is Status.FAILED
    assert play.why == "d: ValueError: sold out (compensated)"
    assert play.state.outcome == "compensated"
    assert play.log()[-6:] == [
        "StepFailed d", "CompensationStarted", "CompensationStepStarted c",
        "CompensationStepStarted b", "CompensationStepStarted a", "CompensationCompleted",
    ]  # fmt: skip
    started = next(one for one in play.recorded if type(one).__name__ == "CompensationStarted")
    assert (started.failed_step, started.error) == ("d", "ValueError: sold out")


def test_it_is_the_order_of_completion_that_is_reversed_not_that_of_the_plan():
    play = begun(beside("a", "b", "c", "d"), "c", "a", "b")
    play.fail("d")
    for name in ("b", "a", "c"):
        assert play.undoing == [name]
        play.undone(name)
    assert play.status is Status.FAILED


def test_what_is_at_work_when_another_fails_is_awaited_and_undone_first():
    play = begun(beside("a", "b", "c"), "a")
    play.fail("c")
    assert (play.status, play.undoing) == (Status.RUNNING, [])
    play.done("b")
    assert play.undoing == ["b"]
    play.undone("b")
    play.undone("a")
    assert play.status is Status.FAILED


def test_of_two_that_fail_the_first_is_the_reason():
    play = begun(beside("a", "b"))
    play.fail("b", error="first")
    play.fail("a", error="second")
    assert play.why == "b: first (compensated)"
    assert play.log().count("CompensationStarted") == 1


def test_the_failed_step_is_not_undone():
    play = begun(row_of("a"))
    play.fail("a")
    assert (play.status, play.undoing) == (Status.FAILED, [])
    assert play.why == "a: E: no (compensated)"


def test_a_step_with_nothing_to_undo_is_skipped_and_that_is_recorded():
    plan = row_of("a", "b", "c", "d", b={"undo": False}, a={"undo": False})
    play = begun(plan, "a", "b", "c")
    play.fail("d")
    play.undone("c")
    assert play.status is Status.FAILED
    assert play.log()[-3:] == [
        "CompensationSkipped b", "CompensationSkipped a", "CompensationCompleted"
    ]  # fmt: skip
    assert play.steps() == {"a": "skipped", "b": "skipped", "c": "compensated", "d": "failed"}


def test_compensations_see_the_results_and_what_earlier_compensations_returned():
    play = begun(row_of("a", "b", "c"), "a", "b")
    play.fail("c")
    play.undone("b", {"f": 5})
    assert play.take("a", CompensateStep).data == Trip(a=1, b=1, f=5)


def test_what_cannot_be_taken_back_is_kept_in_the_state_and_said_at_the_end():
    play = begun(row_of("a", "b", "c"), "a", "b")
    play.fail("c")
    play.undone("b", Residue("fee", 25))
    play.undone("a", [Residue("postage"), Residue("stamp", "red")])
    residues = (Residue("fee", 25), Residue("postage"), Residue("stamp", "red"))
    assert play.state.residues == residues
    assert play.recorded[-1].residues == residues
    assert play.why == "c: E: no (compensated with residue: fee 25, postage, stamp red)"
    assert play.state.outcome == "compensated with residue"


# Cancelled, timed out


def test_a_cancelled_saga_undoes_what_it_has_done_after_what_is_at_work():
    play = begun(row_of("a", "b", "c"), "a")
    play.cancel("changed my mind")
    assert (play.status, play.undoing, play.working) == (Status.RUNNING, [], ["b"])
    play.done("b")
    assert (play.undoing, play.working) == (["b"], [])
    play.undone("b")
    play.undone("a")
    assert play.why == "cancelled: changed my mind (compensated)"


def test_a_saga_that_takes_too_long_is_undone():
    play = begun(row_of("a", "b"), "a", timeout=timedelta(hours=1))
    assert play.instance.deadlines[TIMEOUT].due_at_ms == NOW_MS + 3_600_000
    play.time_out()
    play.fail("b")
    play.undone("a")
    assert play.why == "timed out (compensated)", "what failed later is not the reason"


def test_cancelling_twice_or_while_undoing_changes_nothing():
    play = begun(row_of("a", "b"), "a")
    play.fail("b")
    for _ in range(2):
        play.cancel()
        play.time_out()
    assert play.undoing == ["a"]
    play.undone("a")
    assert play.why == "b: E: no (compensated)"
    assert play.cancel().outcome is Outcome.FINISHED


# The pivot

PIVOT = {"p": {"pivot": True}}


def test_before_the_pivot_there_is_a_way_back_also_if_the_pivot_itself_fails():
    play = begun(row_of("a", "p", "c", **PIVOT), "a")
    play.fail("p")
    assert play.undoing == ["a"]


def test_past_the_pivot_what_fails_waits_and_nothing_is_undone():
    play = begun(row_of("a", "p", "c", **PIVOT), "a", "p")
    assert "PivotPassed p" in play.log()
    play.fail("c", error="E: printer")
    assert (play.status, play.undoing) == (Status.STUCK, [])
    assert play.why == "c (failed, and what was done before is not undone): E: printer"
    assert play.state.outcome == "stuck"
    for tell in (play.cancel, play.time_out):
        tell()
        assert (play.status, play.undoing, play.working) == (Status.STUCK, [], [])
    play.resume()
    assert (play.status, play.working) == (Status.RUNNING, ["c"])
    play.done("c")
    assert play.status is Status.COMPLETED


def test_a_cancellation_that_meets_the_pivot_at_work_comes_too_late_if_the_pivot_is_done():
    play = begun(row_of("a", "p", "c", **PIVOT), "a")
    play.cancel()
    assert play.state.mode is Mode.COMPENSATING
    play.done("p")
    assert (play.state.mode, play.state.error) == (Mode.FORWARD, "")
    assert (play.working, play.undoing) == (["c"], [])
    play.done("c")
    assert play.status is Status.COMPLETED


def test_a_cancellation_that_meets_the_pivot_at_work_is_heard_if_the_pivot_fails():
    play = begun(row_of("a", "p", **PIVOT), "a")
    play.cancel()
    play.fail("p")
    play.undone("a")
    assert play.why == "cancelled (compensated)"


def test_a_pivot_in_doubt_waits_whatever_is_said_and_decides_when_it_is_known():
    play = begun(row_of("a", "p", "c", **PIVOT), "a")
    play.fail("p", is_unknown=True)
    assert play.status is Status.STUCK
    play.cancel()
    assert (play.status, play.undoing) == (Status.STUCK, [])
    play.resume()
    assert play.working == ["p"]
    play.done("p")
    assert (play.state.mode, play.working) == (Mode.FORWARD, ["c"])


@pytest.mark.parametrize("undone", [True, False])
def test_a_pivot_that_is_done_after_all_when_others_were_undone_is_never_passed_over(undone):
    play = begun(row_of("a", "p", "c", **PIVOT), "a")
    late = play.open["trip/t/2/0"]
    play.fail("p")
    play.tell(StepCompleted(late.step))  # its dead letter was redriven
    assert (play.state.mode, play.working) == (Mode.COMPENSATING, [])
    if undone:
        play.undone("a")
        assert play.status is Status.STUCK
        assert play.why.startswith("p (could not be undone): it was done, and there is no way back")
        play.resume()
    else:
        play.not_undone("a", "E: closed")
        assert play.why == "a (could not be undone): E: closed"
        play.resume()
        assert play.why.startswith("p (could not be undone)"), "said before it is settled"
        play.resume()
        play.undone("a")
    assert play.why == "p: E: no (compensated with residue: p stays done)"
    assert play.steps() == {"a": "compensated", "p": "skipped"}


# Nobody knows


def test_a_step_in_doubt_waits_and_is_tried_again_under_its_key():
    play = begun(row_of("a", "b"), "a")
    play.fail("b", is_unknown=True, error="LeaseLost: no answer")
    assert play.status is Status.STUCK
    assert play.why == (
        "b (failed, and nobody knows whether it had its effect): LeaseLost: no answer"
    )
    assert play.undoing == []
    play.resume()
    assert play.open["trip/t/4/0"].key == "trip/t/b"
    play.done("b")
    assert play.instance.status.name == "COMPLETED"


def test_a_step_in_doubt_is_undone_like_one_that_was_done_where_that_is_declared():
    play = begun(row_of("a", "b", "c", b={"compensates": True}), "a")
    play.fail("b", is_unknown=True)
    assert [str(one.status) for one in play.recorded if isinstance(one, StepFailed)] == ["in doubt"]
    assert (play.status, play.undoing) == (Status.RUNNING, ["b"])
    play.undone("b")
    play.undone("a")
    assert play.why == "b: E: no (compensated)"


def test_doubt_about_a_step_with_nothing_to_undo_does_not_matter():
    play = begun(row_of("a", "b", b={"undo": False}), "a")
    play.fail("b", is_unknown=True)
    assert (play.steps()["b"], play.undoing) == ("failed", ["a"])


def test_a_doubt_is_not_forgotten_when_the_next_attempt_fails_in_a_known_way():
    play = begun(row_of("a", "b"), "a")
    play.fail("b", is_unknown=True)
    for reason in ("exhausted", "expired", "cancelled", "undecodable"):
        play.resume()
        play.fail("b", reason=reason)
        assert (play.status, play.undoing) == (Status.STUCK, [])
    play.resume()
    play.fail("b", reason="non-retryable")  # whoever says so knows, the key being the same
    assert (play.steps()["b"], play.undoing) == ("failed", ["a"])


def test_a_doubt_ends_when_the_step_is_done():
    play = begun(beside("a", "b"))
    play.fail("a", is_unknown=True)
    play.resume()
    assert play.state.doubted == ("a",)
    play.done("a")
    assert play.state.doubted == ()


def test_a_step_in_doubt_holds_up_the_undoing_of_the_others():
    play = begun(beside("a", "b", "c"), "a")
    play.fail("b", is_unknown=True)
    assert play.status is Status.STUCK
    play.fail("c")
    assert (play.state.mode, play.status) == (Mode.COMPENSATING, Status.STUCK)
    play.resume()
    assert (play.working, play.undoing) == (["b"], [])
    play.done("b")
    assert play.undoing == ["b"], "it was done, and last"
    play.undone("b")
    play.undone("a")
    assert play.why == "c: E: no (compensated)"


def test_others_at_work_go_on_while_one_waits_but_nothing_new_begins():
    play = begun(plan_of(step("a"), step("b"), step("c", ["b"])))
    play.fail("a", is_unknown=True)
    play.done("b")
    assert (play.status, play.working) == (Status.STUCK, [])
    play.resume()
    assert play.working == ["a", "c"]


# Stuck, and seen to


def test_a_compensation_that_fails_is_stuck_and_never_called_compensated():
    play = begun(row_of("a", "b", "c"), "a", "b")
    play.fail("c")
    play.not_undone("b", "E: closed")
    assert (play.status, play.undoing) == (Status.STUCK, [])
    assert play.why == "b (could not be undone): E: closed"
    assert (play.state.outcome, play.state.stuck_steps) == ("stuck", ("b",))
    assert "CompensationCompleted" not in play.log()
    play.cancel()
    assert play.status is Status.STUCK
    play.resume()
    assert (play.undoing, play.open["trip/t/7/0"].key) == (["b"], "trip/t/b/undo")
    play.undone("b")
    play.undone("a")
    assert play.why == "c: E: no (compensated)"


def test_what_was_done_late_is_undone_before_what_was_stuck():
    play = begun(beside("a", "b"), "a")
    late = play.open["trip/t/1/1"]
    play.fail("b")
    play.not_undone("a")
    play.tell(StepCompleted(late.step))
    assert play.status is Status.STUCK
    play.resume()
    assert play.undoing == ["b"]
    play.undone("b")
    assert play.undoing == ["a"]
    play.undone("a")
    assert play.instance.status.name == "FAILED"


def test_resuming_what_is_not_stuck_changes_nothing():
    play = begun(row_of("a", "b"), "a")
    before = play.state
    play.resume()
    assert (play.state, play.working) == (before, ["b"])
    play.fail("b")
    play.resume()
    assert (play.undoing, play.working) == (["a"], [])


def test_resuming_twice_tries_once():
    play = begun(row_of("a", "b", "c"), "a", "b")
    play.fail("c")
    play.not_undone("b")
    play.resume()
    play.resume()
    assert play.undoing == ["b"]


def test_a_compensation_that_was_taken_out_as_not_needed_frees_what_was_stuck_at_it():
    play = begun(row_of("a", "b", "c"), "a", "b")
    play.fail("c")
    play.not_undone("b")
    play.deploy(row_of("a", "b", "c", b={"undo": False}))
    play.resume()
    assert play.steps()["b"] == "skipped"
    assert play.undoing == ["a"]


def test_what_has_no_way_back_by_the_plan_of_now_is_not_called_compensated():
    play = begun(row_of("a", "b", "c", "d"), "a", "b", "c")
    play.fail("d")
    changed = row_of("a", "b", "c", "d", b={"pivot": True}, c={"undo": False}, d={"undo": False})
    play.deploy(changed)
    play.tell(StepCompensated("c"))
    assert play.status is Status.STUCK
    assert play.why.startswith("b (could not be undone)")


def test_a_step_done_or_undone_by_hand_is_told_so():
    play = begun(row_of("a", "b", "c"), "a")
    play.fail("b", is_unknown=True)
    play.tell(StepCompleted("b", Trip(a=1, b=5), Trip(a=1)))
    assert (play.state.data.b, play.working) == (5, ["c"])
    play.fail("c")
    play.not_undone("b")
    play.tell(StepCompensated("b", residues=(Residue("by hand"),)))
    assert play.undoing == ["a"]


# Late, and twice


def test_what_is_told_twice_is_heard_once():
    play = begun(row_of("a", "b", "c", "d"), "a")
    again = StepCompleted("b", Trip(a=7, b=7), Trip())
    command = play.take("b")
    assert play.tell(again).outcome is Outcome.APPLIED
    assert play.tell(again).outcome is Outcome.UNHANDLED
    assert play.tell(play.failure(command)).outcome is Outcome.UNHANDLED
    play.done("c")
    failure = play.failure(play.take("d"))
    play.tell(failure)
    assert play.tell(failure).outcome is Outcome.UNHANDLED
    undo = play.take("c", CompensateStep)
    play.tell(StepCompensated("c"))
    assert play.tell(StepCompensated("c")).outcome is Outcome.UNHANDLED
    assert play.tell(play.failure(undo)).outcome is Outcome.UNHANDLED
    assert play.undoing == ["b"]


def test_what_has_not_begun_cannot_be_done():
    play = begun(row_of("a", "b"))
    for told in (StepCompleted("b"), StepCompleted("z"), StepCompensated("a")):
        assert play.tell(told).outcome is Outcome.UNHANDLED


def test_a_step_that_is_done_after_all_frees_a_saga_that_waits_for_it():
    play = begun(row_of("a", "p", "c", **PIVOT), "a", "p")
    late = play.open["trip/t/3/0"]
    play.fail("c")
    play.tell(StepCompleted(late.step, late.data))
    assert play.status is Status.COMPLETED


@pytest.mark.parametrize("status", ["failed", "in doubt", "unknown"])
def test_a_step_that_is_done_after_all_while_others_are_at_work_is_undone_first(status):
    plan = beside("a", "b", "c", c={"compensates": status == "in doubt"})
    play = begun(plan, "a")
    play.fail("c", is_unknown=status != "failed")
    assert play.steps()["c"] == status
    play.done("b")
    play.tell(StepCompleted("c", Trip(c=9), Trip()))
    if status == "unknown":
        assert play.status is Status.COMPLETED
        return
    assert play.undoing == ["b"]
    play.undone("b")
    assert play.take("c", CompensateStep).data.c == 9


def test_a_command_that_nobody_could_read_is_known_by_its_queue():
    play = begun(row_of("a", "b"), "a")
    lost = ExternalEvent("perdure.PerformStep", {})
    assert play.tell(CommandFailed(lost, "id", "trip.z", "undecodable", "", 0)).outcome is (
        Outcome.UNHANDLED
    )
    play.tell(CommandFailed(lost, "id", "trip.b", "undecodable", "E: bytes", 0))
    assert (play.steps()["b"], play.undoing) == ("failed", ["a"])
    lost = ExternalEvent("perdure.CompensateStep", {})
    play.tell(CommandFailed(lost, "id", "trip.a.undo", "undecodable", "E: bytes", 0))
    assert (play.status, play.why) == (Status.STUCK, "a (could not be undone): E: bytes")


# Forward only


def test_a_workflow_waits_where_it_failed_and_goes_on_from_there():
    plan = plan_of(step("a", undo=False), step("b", ["a"], undo=False), forward_only=True)
    play = begun(plan, "a")
    for is_unknown in (False, True):
        play.fail("b", is_unknown)
        assert play.status is Status.STUCK
        play.resume()
        assert play.working == ["b"]
    play.done("b")
    assert play.status is Status.COMPLETED
    assert not [line for line in play.log() if line.startswith("Compensation")]


@pytest.mark.parametrize("is_stuck", [True, False])
def test_a_workflow_that_is_cancelled_ends_where_it_is(is_stuck):
    plan = plan_of(step("a", undo=False), step("b", ["a"], undo=False), forward_only=True)
    play = begun(plan, "a")
    if is_stuck:
        play.fail("b")
    play.cancel("no need")
    assert (play.status, play.why) == (Status.FAILED, "cancelled: no need")
    assert (play.state.outcome, play.state.error) == ("stopped", "cancelled: no need")
    play = begun(plan, "a")
    play.time_out()
    assert (play.why, play.state.outcome) == ("timed out", "stopped")


# Another definition


def test_a_step_that_is_gone_sticks_the_instance_until_it_is_back():
    plan = row_of("a", "b", "c")
    for changed in (row_of("b", "c"), row_of("a2", "b", "c")):
        play = begun(plan, "a")
        play.deploy(changed)
        play.done("b")
        assert (play.status, play.working) == (Status.STUCK, [])
        assert play.why == "step 'a', completed, is not in the definition any more; put it back"
        play.resume()
        assert play.status is Status.STUCK
        play.deploy(plan)
        assert play.status is Status.STUCK
        play.resume()
        assert (play.status, play.working) == (Status.RUNNING, ["c"])


def test_a_new_step_before_what_has_begun_sticks_and_one_behind_is_performed():
    plan = row_of("a", "b", "d")
    play = begun(plan, "a")
    play.deploy(row_of("a", "c", "b", "d"))
    play.done("b")
    assert play.why == "step 'c' is new, and comes before 'b', which has begun"
    play.deploy(row_of("a", "b", "c", "d"))
    play.resume()
    assert play.working == ["c"]
    play.done("c")
    play.done("d")
    assert play.status is Status.COMPLETED


def test_nothing_is_decided_while_the_definition_does_not_fit():
    plan = row_of("a", "b", "c", b={"compensates": True})
    for is_unknown in (True, False):
        play = begun(plan, "a")
        play.deploy(row_of("b", "c", b={"compensates": True}))
        play.fail("b", is_unknown)
        assert (play.status, play.state.mode) == (Status.STUCK, Mode.FORWARD)
        play.resume()
        assert play.undoing == play.working == []
        play.deploy(plan)
        play.resume()
        assert (play.working, play.undoing) == (["b"], [])


def test_a_step_that_fails_when_it_is_gone_waits_to_be_tried_again():
    play = begun(row_of("a", "b"), "a")
    failure = play.failure(play.take("b"))
    play.deploy(row_of("a"))
    play.tell(failure)
    assert play.why == "step 'b', failed, is not in the definition any more; put it back"
    play.deploy(row_of("a", "b"))
    play.resume()
    assert play.working == ["b"]


def test_undoing_waits_for_the_definition_too():
    plan = row_of("a", "b", "c")
    play = begun(plan, "a", "b")
    play.fail("c")
    play.deploy(row_of("a", "b"))
    play.undone("b")
    assert play.status is Status.STUCK
    assert play.undoing == []
    play.deploy(plan)
    play.resume()
    assert play.undoing == ["a"]


def test_a_compensation_that_fails_while_the_definition_does_not_fit_is_tried_again_later():
    plan = row_of("a", "b", "c")
    play = begun(plan, "a", "b")
    play.fail("c")
    play.deploy(row_of("a", "b"))
    play.not_undone("b")
    play.resume()
    assert play.status is Status.STUCK
    play.deploy(plan)
    play.resume()
    assert play.undoing == ["b"]


def test_what_was_decided_stays_decided_when_the_policy_changes():
    doubtful = row_of("a", "b", "c", b={"compensates": True})
    play = begun(row_of("a", "b", "c"), "a")
    play.fail("b", is_unknown=True)
    play.deploy(doubtful)
    play.crash()
    assert play.steps()["b"] == "unknown"
    play.resume()
    assert (play.working, play.undoing) == (["b"], []), "never taken for done"
    play = begun(row_of("a", "p", "c", **PIVOT), "a", "p")
    play.deploy(row_of("a", "p", "c"))
    play.crash()
    play.fail("c")
    assert (play.status, play.undoing) == (Status.STUCK, []), "the pivot was passed"


@pytest.mark.parametrize("is_cancelled", [True, False])
def test_a_pivot_that_is_one_only_since_it_was_done_is_passed_all_the_same(is_cancelled):
    play = begun(row_of("a", "p", "c"), "a", "p")
    if is_cancelled:
        play.cancel()
    play.deploy(row_of("a", "p", "c", c={"undo": False}, **PIVOT))
    play.fail("c")
    assert (play.status, play.undoing) == (Status.STUCK, [])
    assert play.state.is_past_pivot


def test_a_pivot_done_while_it_was_gone_is_passed_when_it_is_back():
    plan = row_of("a", "p", "c", **PIVOT)
    play = begun(plan, "a")
    play.cancel()
    late = play.take("p")
    play.deploy(row_of("a", "c"))
    play.tell(StepCompleted(late.step))
    assert play.status is Status.STUCK
    play.deploy(plan)
    play.resume()
    assert (play.working, play.undoing) == (["c"], [])


def test_a_pivot_done_while_the_plan_does_not_fit_is_not_turned_back_by_a_cancellation():
    play = begun(row_of("p", **PIVOT))
    play.deploy(row_of("new", "p", **PIVOT))
    play.done("p")
    assert "is new, and comes before 'p'" in play.why
    play.cancel("too late")
    assert (play.state.mode, play.undoing) == ("forward", [])
    play.deploy(row_of("p", **PIVOT))
    play.resume()
    assert play.instance.status.name == "COMPLETED"
