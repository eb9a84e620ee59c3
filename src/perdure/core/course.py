"""What an ordered saga does next: a function of its plan, its state, and what it was told. Pure.

    a step failed ─┬─ known ────────────> turn back (past the pivot: stuck)
                   └─ may have had its effect ─┬─ nothing to undo ──────> as if known
                                               ├─ unknown="compensate" ─> turn back, undo it, too
                                               └─ else, and the pivot ──> stuck, until seen to

Whatever nobody can decide waits, *stuck*, for a ``Resume``: a step past the pivot that failed, one
of which nobody knows whether it had its effect, a compensation that failed, a plan that does not
fit the instance any more. Nothing but plan and state is looked at, so a crash anywhere changes
nothing. Literature: Garcia-Molina & Salem, "Sagas" (1987); EventCore. Next to read:
``ordered_saga.py``, the face.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from perdure.core.family import Cancel
from perdure.core.ordered import Mode, OrderedState, fold
from perdure.core.plan import Plan, PlannedStep
from perdure.core.step_events import (
    CompensateStep,
    CompensationCompleted,
    CompensationFailed,
    CompensationSkipped,
    CompensationStarted,
    CompensationStepStarted,
    Completed,
    PerformStep,
    PivotPassed,
    Residue,
    Resume,
    StepCompensated,
    StepCompleted,
    StepFailed,
    StepStatus,
    Stopped,
)
from perdure.effects import Complete, Effect, Fail, Record, Send, Stuck
from perdure.messages import CommandFailed, TimeoutReached

__all__ = ["accepts", "effects_of", "salvaged"]

_Folding: TypeAlias = Generator[Effect, None, OrderedState]
"""Effects, and the state after what was recorded."""

_OPEN = (StepStatus.RUNNING, StepStatus.FAILED, StepStatus.UNKNOWN, StepStatus.IN_DOUBT)
"""It may yet be done: also after it has failed, if its dead letter was redriven."""
_TO_UNDO = (StepStatus.COMPLETED, StepStatus.IN_DOUBT, StepStatus.SEEN_TO)
_NOT_UNDONE = (StepStatus.COMPENSATING, StepStatus.STUCK)


def accepts(plan: Plan, state: OrderedState, event: Any) -> bool:
    """Whether the event is wanted: what comes late, or twice, is not."""
    kind = type(event)
    if kind is StepCompleted:
        status = state.steps.get(event.step)
        return status in _OPEN or _is_tried_again(state, event.step)
    if kind is StepCompensated:
        status = state.steps.get(event.step)
        return status in _NOT_UNDONE or _is_undone_again(state, event.step)
    if kind is CommandFailed:
        found = _failed_command(plan, event)
        if found is None:
            return False
        at_work = StepStatus.COMPENSATING if found[1] else StepStatus.RUNNING
        return state.steps.get(found[0]) is at_work
    if kind is Cancel or kind is TimeoutReached or kind is Resume:
        return True
    return kind is plan.data and state.data is None and not state.steps


def effects_of(plan: Plan, state: OrderedState, event: Any, instance_id: str) -> Iterator[Effect]:
    """What follows from an event; the state is the one after it was folded."""
    kind = type(event)
    if plan.forward_only and (kind is Cancel or kind is TimeoutReached):
        yield Record(Stopped(_called_off(event)))
        yield Fail(_called_off(event))
        return
    state = yield from _heard(plan, state, event)
    problem = _misfit(plan, state)
    if problem:
        yield Stuck(problem)
    elif state.mode is Mode.FORWARD:
        yield from _forward(plan, state, instance_id)
    elif state.mode is Mode.COMPENSATING:
        yield from _backward(plan, state, instance_id)


def salvaged(plan: Plan, state: OrderedState, event: Any, problem: str) -> Iterator[Effect]:
    """What is kept of an event whose consequences could not be carried out: they wait."""
    yield from _heard(plan, state, event)
    yield Stuck(problem)


def _heard(plan: Plan, state: OrderedState, event: Any) -> _Folding:
    """What an event says, recorded; what to do about it is another question."""
    kind = type(event)
    if plan.pivot in state.completed and not state.is_past_pivot:
        state = yield from _pass_pivot(plan, state)
    if kind is CommandFailed:
        return (yield from _failed(plan, state, event))
    is_called_off = kind is Cancel or kind is TimeoutReached
    # A pivot that was done while the definition did not fit is not recorded as passed yet.
    has_way_back = not state.is_past_pivot and plan.pivot not in state.completed
    if is_called_off and state.mode is Mode.FORWARD and has_way_back:
        return (yield from _recorded(state, CompensationStarted("", _called_off(event))))
    return state


def _recorded(state: OrderedState, event: Any) -> _Folding:
    yield Record(event)
    return fold(state, event)


def _called_off(event: Cancel | TimeoutReached) -> str:
    if isinstance(event, TimeoutReached):
        return "timed out"
    return f"cancelled: {event.reason}" if event.reason else "cancelled"


def _is_tried_again(state: OrderedState, name: str) -> bool:
    return state.steps.get(name) is StepStatus.SEEN_TO and name not in state.completed


def _is_undone_again(state: OrderedState, name: str) -> bool:
    return state.steps.get(name) is StepStatus.SEEN_TO and name in state.completed


# What a message says of a step


def _pass_pivot(plan: Plan, state: OrderedState) -> _Folding:
    """It is done, and was so before anything was undone: a cancellation came too late."""
    if any(state.steps[one] is not StepStatus.COMPLETED for one in state.completed):
        return state
    if _misfit(plan, state):
        return state
    return (yield from _recorded(state, PivotPassed(plan.pivot)))


def _failed_command(plan: Plan, failure: CommandFailed) -> tuple[str, bool] | None:
    """The step that has failed, and whether it was being undone; None if it is no step's."""
    command: Any = failure.command
    if type(command) is PerformStep or type(command) is CompensateStep:
        return command.step, type(command) is CompensateStep
    return plan.performed_by(failure.queue)  # nobody could read the command


def _failed(plan: Plan, state: OrderedState, failure: CommandFailed) -> _Folding:
    found = _failed_command(plan, failure)
    assert found is not None  # else it was not accepted
    name, is_undo = found
    if is_undo:
        return (
            yield from _recorded(state, CompensationFailed(name, failure.reason, failure.error))
        )
    status = _after_failure(plan, state, name, failure)
    state = yield from _recorded(state, StepFailed(name, status, failure.reason, failure.error))
    if (
        status is not StepStatus.UNKNOWN
        and state.mode is Mode.FORWARD
        and _may_turn_back(plan, state)
    ):
        state = yield from _recorded(state, CompensationStarted(name, failure.error))
    return state


def _may_turn_back(plan: Plan, state: OrderedState) -> bool:
    """Not past the pivot; nor as long as the plan does not fit, since then nobody may decide."""
    return not (plan.forward_only or state.is_past_pivot or _misfit(plan, state))


def _after_failure(
    plan: Plan, state: OrderedState, name: str, failure: CommandFailed
) -> StepStatus:
    """How a step stands that has failed: whether it may have had its effect decides."""
    # An earlier attempt may have had it, and that this one failed says nothing of that one. Only
    # who says that it can never succeed knows: the key is the same.
    was_in_doubt = name in state.doubted and not (
        failure.reason == "non-retryable" and not _misfit(plan, state)
    )
    if not failure.is_unknown and not was_in_doubt:
        return StepStatus.FAILED
    step = plan.by_name.get(name)
    if step is None or not plan.may_be_undone(step) or not _may_turn_back(plan, state):
        return StepStatus.UNKNOWN
    if not step.undo_queue:
        return StepStatus.FAILED  # with nothing to undo it does not matter
    return StepStatus.IN_DOUBT if step.undoes_unknown else StepStatus.UNKNOWN


# What follows from the state


def _misfit(plan: Plan, state: OrderedState) -> str:
    """What of a running instance the present plan does not know, or would have to guess."""
    steps, by_name = state.steps, plan.by_name
    if type(state.data) is not plan.data:
        return f"its data is {state.data!r}, and no {plan.data.__name__}; bring its class back"
    for name, status in steps.items():
        step = by_name.get(name)
        if step is None:
            return f"step {name!r}, {status}, is not in the definition any more; put it back"
        if state.mode is Mode.FORWARD and status is not StepStatus.LEFT_OUT:
            for before in step.after:
                if before not in steps:
                    return f"step {before!r} is new, and comes before {name!r}, which has begun"
    return ""


def _forward(plan: Plan, state: OrderedState, instance_id: str) -> Iterator[Effect]:
    steps, done = state.steps, 0
    ready: list[PlannedStep] = []
    is_begun = False
    for step in plan.steps:
        status = steps.get(step.name, _SEEN_TO)
        if status in _DONE:
            done += 1
        elif status is not _SEEN_TO:
            is_begun = True
        elif _all_done(plan, step.after, steps):
            ready.append(step)
    if is_begun and state.stuck_steps:
        yield Stuck(_why_stuck(state))
        return
    new = next((step for step in ready if step.name not in steps), None)
    if new is not None and done:
        yield plan.advanced[new.name]
    for step in ready:
        yield from _perform(plan, state, step, instance_id)
    if done == len(plan.steps):
        yield Record(Completed())
        yield Complete(state.data, is_private=True)


_SEEN_TO = StepStatus.SEEN_TO
_DONE = (StepStatus.COMPLETED, StepStatus.LEFT_OUT)


def _all_done(plan: Plan, names: Iterable[str], steps: Mapping[str, StepStatus]) -> bool:
    """Also all that comes before one that was left out, which may be so before its turn comes."""
    for name in names:
        status = steps.get(name)
        if status is StepStatus.COMPLETED:
            continue
        if status is not StepStatus.LEFT_OUT or not _all_done(
            plan, plan.by_name[name].after, steps
        ):
            return False
    return True


def _perform(
    plan: Plan, state: OrderedState, step: PlannedStep, instance_id: str
) -> Iterator[Effect]:
    key = key_of(plan, state, step.name, instance_id)
    yield plan.started[step.name]
    command = PerformStep(step.name, key, state.data, plan.is_sequential)
    yield Send(command, step.queue, within=step.deadline)


def _backward(plan: Plan, state: OrderedState, instance_id: str) -> Iterator[Effect]:
    if state.is_any(StepStatus.RUNNING, StepStatus.COMPENSATING):
        return  # what still completes is undone first
    again = [plan.by_name[name] for name in state.steps if _is_tried_again(state, name)]
    for step in again:  # so that it is known whether it has to be undone
        yield from _perform(plan, state, step, instance_id)
    if again:
        return
    if state.stuck_steps:
        yield Stuck(_why_stuck(state))
        return
    for name in reversed(state.completed):
        status, step = state.steps[name], plan.by_name[name]
        if status not in _TO_UNDO:
            continue
        if step.undo_queue:
            yield from _undo(plan, state, step, instance_id)
            return
        if not plan.may_be_undone(step) and status is not StepStatus.SEEN_TO:
            state = yield from _recorded(state, CompensationFailed(name, "pivot", _TOO_LATE))
            yield Stuck(_why_stuck(state))
            return
        residues = () if plan.may_be_undone(step) else (Residue(f"{name} stays done"),)
        state = yield from _recorded(state, CompensationSkipped(name, residues))
    yield Record(CompensationCompleted(state.residues))
    yield Fail(_why_failed(state))


def _undo(plan: Plan, state: OrderedState, step: PlannedStep, instance_id: str) -> Iterator[Effect]:
    yield Record(CompensationStepStarted(step.index, step.name))
    key = f"{key_of(plan, state, step.name, instance_id)}/undo"
    yield Send(CompensateStep(step.name, key, state.data), step.undo_queue)


def key_of(plan: Plan, state: OrderedState, step: str, instance_id: str) -> str:
    """The idempotency key of a step: the same always, until somebody restarts what was done."""
    key = f"{plan.saga}/{instance_id}/{step}"
    return f"{key}~{state.again[step]}" if step in state.again else key


_TOO_LATE = "it was done, and there is no way back from it; resume, and it counts as a residue"

_STUCK = {
    StepStatus.FAILED: "failed, and what was done before is not undone",
    StepStatus.UNKNOWN: "failed, and nobody knows whether it had its effect",
    StepStatus.STUCK: "could not be undone",
}


def _why_stuck(state: OrderedState) -> str:
    names = ", ".join(f"{name} ({_STUCK[state.steps[name]]})" for name in state.stuck_steps)
    return f"{names}: {state.problem}"


def _why_failed(state: OrderedState) -> str:
    ended = "compensated"
    if state.residues:
        ended = f"compensated with residue: {', '.join(map(str, state.residues))}"
    where = f"{state.failed_step}: " if state.failed_step else ""
    return f"{where}{state.error} ({ended})"
