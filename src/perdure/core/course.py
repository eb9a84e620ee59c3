"""What an ordered saga does next: a function of its plan, its state, and what it was told. Pure.

Whatever nobody can decide waits, *stuck*, for a ``Resume``: a step past the pivot that failed, one
of which nobody knows whether it had its effect, a compensation that failed. Nothing but plan and
state is looked at, so a crash anywhere changes nothing. Literature: Garcia-Molina & Salem, "Sagas"
(1987); EventCore. Next to read: ``ordered_saga.py``, the face.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from typing import Any

from perdure.core.family import Cancel
from perdure.core.ordered import Mode, OrderedState, StepStatus, fold
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
    Resume,
    StepCompensated,
    StepCompleted,
    StepFailed,
)
from perdure.effects import Complete, Effect, Fail, Record, Send, Stuck
from perdure.messages import CommandFailed, TimeoutReached

__all__ = ["accepts", "effects_of"]


def accepts(state: OrderedState, event: Any) -> bool:
    """Whether the event is wanted: what comes late, or twice, is not."""
    kind = type(event)
    if kind is StepCompleted:
        # Also after it has failed: its dead letter was redriven.
        late = (StepStatus.RUNNING, StepStatus.FAILED, StepStatus.UNKNOWN)
        return state.steps.get(event.step) in late
    if kind is StepCompensated:
        return state.steps.get(event.step) in (StepStatus.COMPENSATING, StepStatus.STUCK)
    if kind is CommandFailed:
        command = event.command
        if type(command) is PerformStep:
            return state.steps.get(command.step) is StepStatus.RUNNING
        if type(command) is CompensateStep:
            return state.steps.get(command.step) is StepStatus.COMPENSATING
        return False
    if kind in (Cancel, TimeoutReached, Resume):
        return True
    return state.data is None


def effects_of(plan: Plan, state: OrderedState, event: Any, instance_id: str) -> Iterator[Effect]:
    """What follows from an event; the state is the one after it was folded."""
    kind = type(event)
    if kind is CommandFailed and type(event.command) is PerformStep:
        name = event.command.step
        failed = StepFailed(name, event.reason, event.error, event.is_unknown)
        yield Record(failed)
        state = fold(plan, state, failed)
        if state.mode is Mode.FORWARD and _turns_back(plan, state, name):
            state = yield from _turn_back(plan, state, name, event.error)
    elif kind is CommandFailed:
        problem = CompensationFailed(event.command.step, event.reason, event.error)
        yield Record(problem)
        state = fold(plan, state, problem)
    elif kind is Cancel or kind is TimeoutReached:
        why = _cancelled(event) if kind is Cancel else "timed out"
        if plan.forward_only:
            yield Fail(why)
            return
        if state.mode is Mode.FORWARD and not plan.is_forward_only(state.completed):
            state = yield from _turn_back(plan, state, "", why)
    if kind is Resume:
        yield from _resumed(plan, state, instance_id)
    else:
        yield from next_effects(plan, state, instance_id)


def _cancelled(event: Cancel) -> str:
    return f"cancelled: {event.reason}" if event.reason else "cancelled"


def _turns_back(plan: Plan, state: OrderedState, name: str) -> bool:
    """Whether the failure of a step leads to compensation: not past the pivot, nor in doubt."""
    if plan.is_forward_only(state.completed) or name not in plan.by_name:
        return False
    return state.steps[name] is not StepStatus.UNKNOWN


def _turn_back(
    plan: Plan, state: OrderedState, name: str, error: str
) -> Generator[Effect, None, OrderedState]:
    event = CompensationStarted(name, error)
    yield Record(event)
    return fold(plan, state, event)


def next_effects(plan: Plan, state: OrderedState, instance_id: str) -> Iterator[Effect]:
    """What follows from the state: steps to perform or undo, the end, or nothing while some run."""
    problem = _changed_definition(plan, state)
    if problem:
        yield Stuck(problem)
    elif state.mode is Mode.FORWARD:
        yield from _forward(plan, state, instance_id)
    elif state.mode is Mode.COMPENSATING:
        yield from _backward(plan, state, instance_id)


def _changed_definition(plan: Plan, state: OrderedState) -> str:
    """What of a running instance the present plan does not know, or would have to guess."""
    begun = frozenset(state.steps)
    if plan.fits(begun):
        return ""
    for name, status in state.steps.items():
        if name not in plan.by_name:
            return f"step {name!r}, {status}, is not in the definition any more; put it back"
    if state.mode is Mode.FORWARD:
        for step in plan.steps:
            later = sorted(plan.successors(step.name) & begun)
            if step.name not in begun and later:
                return f"step {step.name!r} is new, and comes before {later[0]!r}, which has begun"
    return ""


def _forward(plan: Plan, state: OrderedState, instance_id: str) -> Iterator[Effect]:
    steps = state.steps
    if state.stuck_steps:
        yield Stuck(_why_stuck(state))
    elif len(state.completed) == len(plan.steps):
        yield Record(Completed())
        yield Complete(state.data, is_private=True)
    else:
        ready = [one for one in plan.steps if one.name not in steps and _may_start(one, steps)]
        if ready and steps:
            yield plan.advanced[ready[0].name]
        for step in ready:
            yield from _perform(plan, state, step, instance_id)


def _may_start(step: PlannedStep, steps: Mapping[str, StepStatus]) -> bool:
    return all(steps.get(name) is StepStatus.COMPLETED for name in step.after)


def _perform(
    plan: Plan, state: OrderedState, step: PlannedStep, instance_id: str
) -> Iterator[Effect]:
    key = f"{plan.saga}/{instance_id}/{step.name}"
    yield plan.started[step.name]
    command = PerformStep(step.name, key, state.data, plan.is_sequential)
    yield Send(command, step.queue, within=step.deadline)


def _backward(plan: Plan, state: OrderedState, instance_id: str) -> Iterator[Effect]:
    if state.is_any(StepStatus.RUNNING, StepStatus.COMPENSATING):
        return  # what still completes is undone first
    if state.stuck_steps:
        yield Stuck(_why_stuck(state))
        return
    for name in reversed(state.completed):
        if state.steps[name] is StepStatus.COMPLETED:
            step = plan.by_name[name]
            if step.undo_queue:
                yield from _undo(plan, state, step, instance_id)
                return
            yield Record(CompensationSkipped(name))
    yield Record(CompensationCompleted(state.residues))
    yield Fail(_why_failed(state))


def _undo(plan: Plan, state: OrderedState, step: PlannedStep, instance_id: str) -> Iterator[Effect]:
    yield Record(CompensationStepStarted(step.index, step.name))
    key = f"{plan.saga}/{instance_id}/{step.name}/undo"
    yield Send(CompensateStep(step.name, key, state.data), step.undo_queue)


def _resumed(plan: Plan, state: OrderedState, instance_id: str) -> Iterator[Effect]:
    """What somebody has seen to is tried again, under the same keys."""
    problem = _changed_definition(plan, state)
    if problem:
        yield Stuck(problem)
        return
    for name in state.stuck_steps:
        step = plan.by_name[name]
        if state.steps[name] is StepStatus.STUCK:
            yield from _undo(plan, state, step, instance_id)
        else:
            yield from _perform(plan, state, step, instance_id)
    if not state.stuck_steps:
        yield from next_effects(plan, state, instance_id)


def _why_stuck(state: OrderedState) -> str:
    names = ", ".join(f"{name} ({_STUCK[state.steps[name]]})" for name in state.stuck_steps)
    return f"{names}: {state.problem}"


_STUCK = {
    StepStatus.FAILED: "failed, and what was done before is not undone",
    StepStatus.UNKNOWN: "failed, and nobody knows whether it had its effect",
    StepStatus.STUCK: "could not be undone",
}


def _why_failed(state: OrderedState) -> str:
    ended = "compensated"
    if state.residues:
        ended = f"compensated with residue: {', '.join(map(str, state.residues))}"
    where = f"{state.failed_step}: " if state.failed_step else ""
    return f"{where}{state.error} ({ended})"
