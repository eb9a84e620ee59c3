"""How the steps of an ordered saga, or of a list of steps, are repaired by hand. Pure.

    skip           goes on without it: it counts as done, and is never undone; one that is being
                   undone stays as it is, a residue
    mark_done      somebody has done it, or undone it: the saga goes on with that
    compensate     turns back here, and undoes what is done, latest first
    restart_from   forgets what a step and those behind it have done, and goes on there; what was
                   done is performed again under another key

Each is refused where it does not fit how the step stands. Next to read: ``course.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from perdure.core.course import effects_of
from perdure.core.intervention import Action, Intervention
from perdure.core.ordered import Mode, OrderedState, fold
from perdure.core.plan import Plan
from perdure.core.repairs import Meant
from perdure.core.step_events import (
    CompensateStep,
    CompensationSkipped,
    CompensationStarted,
    PerformStep,
    Residue,
    Restarted,
    StepCompensated,
    StepCompleted,
    StepFailed,
    StepLeftOut,
    StepStatus,
)
from perdure.effects import Effect, Record
from perdure.errors import InvalidResult, NotRepairable
from perdure.messages import Metadata

__all__ = ["CourseRepairs"]

_PENDING = "pending"
_NOT_DONE = (
    StepStatus.RUNNING,
    StepStatus.FAILED,
    StepStatus.UNKNOWN,
    StepStatus.IN_DOUBT,
)
_UNDOING = (StepStatus.COMPENSATING, StepStatus.STUCK)
_KEPT = (StepStatus.COMPLETED, StepStatus.LEFT_OUT)


class CourseRepairs:
    """The repairs of one saga with a plan.

    ``completed`` and ``compensated`` make the event of what a step's function, or its
    compensation, has returned.
    """

    def __init__(
        self,
        plan: Plan,
        completed: Callable[[PerformStep, Any], StepCompleted],
        compensated: Callable[[CompensateStep, Any], StepCompensated],
    ) -> None:
        self._plan = plan
        self._completed = completed
        self._compensated = compensated

    def steps(self, state: OrderedState) -> Mapping[str, str]:
        """In the order of their declaration; those that have not begun are pending."""
        known = {step.name: str(state.steps.get(step.name, _PENDING)) for step in self._plan.steps}
        return {**known, **{name: str(one) for name, one in state.steps.items()}}

    def step_of(self, command: Any) -> str:
        """By the command itself."""
        if type(command) is PerformStep or type(command) is CompensateStep:
            return command.step
        return ""

    def input_of(self, command: Any) -> Any:
        """The data as it was before the step was performed."""
        return command.data if type(command) is PerformStep else None

    def skip(self, state: OrderedState, step: str, is_over: bool) -> Meant:
        """To go on without it."""
        status = self._status(state, step)
        if _is_being_undone(state, step):
            return Meant(f"step {step!r} ({status}) is not undone, which is a residue", (step,))
        if status in _KEPT or state.mode not in (Mode.FORWARD, Mode.COMPENSATING):
            raise self._cannot("skipped", state, step)
        if status is None and state.mode is Mode.COMPENSATING:
            raise self._cannot("skipped", state, step)
        if status not in (None, StepStatus.SEEN_TO, *_NOT_DONE):
            raise self._cannot("skipped", state, step)
        said = _PENDING if status is None else status
        return Meant(
            f"step {step!r} ({said}) is skipped: it gives no results, and is not undone", (step,)
        )

    def mark_done(self, state: OrderedState, step: str, result: Any, is_over: bool) -> Meant:
        """The event that it is done, or undone."""
        status = self._status(state, step)
        if _is_being_undone(state, step):
            undone = self._compensated(CompensateStep(step, "", self._data(state)), result)
            return Meant(f"step {step!r} ({status}) was undone by hand", (step,), undone)
        if status not in (StepStatus.SEEN_TO, *_NOT_DONE) or _has_ended(state):
            raise self._cannot("marked as done", state, step)
        done = self._completed(PerformStep(step, "", self._data(state), False), result)
        given = "" if result is None else f", with {', '.join(map(str, result))}"
        return Meant(f"step {step!r} ({status}) was done by hand{given}", (step,), done)

    def compensate(self, state: OrderedState) -> Meant:
        """Not past the pivot, and not twice."""
        plan = self._plan
        if plan.forward_only:
            raise NotRepairable("its steps have nothing that undoes them", remedy="cancel it")
        if state.mode is not Mode.FORWARD:
            raise NotRepairable(
                f"it is {state.outcome}, and cannot turn back", remedy=self._can(state)
            )
        if state.is_past_pivot or plan.pivot in state.completed:
            raise NotRepairable(
                f"it is past its pivot {plan.pivot!r}, from where there is no way back",
                remedy="retry, skip or mark as done what it is stuck at",
            )
        to_undo = [name for name in reversed(state.completed) if state.steps[name] in _KEPT]
        doubted = [n for n, one in state.steps.items() if one is StepStatus.UNKNOWN]
        said = ", ".join(map(repr, [*doubted, *to_undo])) or "nothing"
        waits = [n for n, one in state.steps.items() if one is StepStatus.RUNNING]
        after = f", once {', '.join(map(repr, waits))} has ended" if waits else ""
        return Meant(f"it turns back here{after}: to be undone is {said}", ())

    def restart_from(self, state: OrderedState, step: str, is_over: bool) -> Meant:
        """It and all that come after it, as far as they have begun."""
        status = self._status(state, step)
        if state.mode is Mode.COMPLETED or status is None:
            raise self._cannot("restarted from", state, step)
        forgotten = self._from(state, step)
        for name, one in state.steps.items():
            is_fine = one in _KEPT or (one is StepStatus.RUNNING and not is_over)
            if name not in forgotten and not is_fine:
                raise NotRepairable(
                    f"step {name!r} is {one}, and would stay so behind a restart from {step!r}",
                    remedy=f"restart from {name!r}, or from a step before both",
                )
        again = [name for name in forgotten if name in state.completed]
        anew = f"; performed again under new keys: {', '.join(again)}" if again else ""
        return Meant(f"it goes on from step {step!r}{anew}", forgotten)

    def edited(self, command: Any, given: Any) -> Any:
        """With other data."""
        if type(given) is type(command):
            return given
        if type(given) is not self._plan.data:
            raise InvalidResult(
                f"{given!r} is no {self._plan.data.__name__}",
                remedy="give the data that the step is to be performed with",
            )
        return replace(command, data=given)

    def effects(
        self, state: OrderedState, intervention: Intervention, metadata: Metadata, is_over: bool
    ) -> Iterator[Effect]:
        """Record what was decided; then it goes on as from any state."""
        event: Any = None
        for event in _EVENTS[intervention.action](self, state, intervention, metadata):
            yield Record(event)
            state = fold(state, event)
        yield from effects_of(self._plan, state, event, metadata.instance_id)

    # What is recorded

    def _skipped(
        self, state: OrderedState, said: Intervention, metadata: Metadata
    ) -> Iterator[Any]:
        self.skip(state, said.about, False)
        if _is_being_undone(state, said.about):
            residue = Residue(f"{said.about} is not undone")
            yield CompensationSkipped(said.about, (residue,))
        else:
            yield StepLeftOut(said.about)

    def _done(self, state: OrderedState, said: Intervention, metadata: Metadata) -> Iterator[Any]:
        self.mark_done(state, said.about, None, False)
        yield said.content

    def _turned_back(
        self, state: OrderedState, said: Intervention, metadata: Metadata
    ) -> Iterator[Any]:
        self.compensate(state)
        for name, status in state.steps.items():
            if status is StepStatus.UNKNOWN:
                # Whoever decides so has it undone like one that had its effect, under its key.
                step = self._plan.by_name.get(name)
                has_undo = step is not None and bool(step.undo_queue)
                after = StepStatus.IN_DOUBT if has_undo else StepStatus.FAILED
                yield StepFailed(name, after, "unknown", state.problem)
        yield CompensationStarted("", f"called off: {said.why} (by {said.by})")

    def _restarted(
        self, state: OrderedState, said: Intervention, metadata: Metadata
    ) -> Iterator[Any]:
        forgotten = self._from(state, said.about)
        again = tuple(name for name in forgotten if name in state.completed)
        data = said.content if self._plan.is_sequential else None
        stays = state.is_past_pivot and self._plan.pivot not in forgotten
        yield Restarted(said.about, forgotten, again, metadata.sequence_nr, data, stays)

    def _from(self, state: OrderedState, step: str) -> tuple[str, ...]:
        """The step and those that come after it, those of them that have begun."""
        behind = {step}
        grown = True
        while grown:
            more = {one.name for one in self._plan.steps if behind.intersection(one.after)}
            grown = not more <= behind
            behind |= more
        return tuple(name for name in state.steps if name in behind)

    def _data(self, state: OrderedState) -> Any:
        if type(state.data) is not self._plan.data:
            raise NotRepairable(
                f"its data is {state.data!r}, and no {self._plan.data.__name__}",
                remedy="bring its class back",
            )
        return state.data

    def _status(self, state: OrderedState, step: str) -> StepStatus | None:
        if step not in self._plan.by_name:
            raise NotRepairable(
                f"it has no step {step!r}", remedy=f"its steps are {', '.join(self._plan.by_name)}"
            )
        return state.steps.get(step)

    def _cannot(self, be_done: str, state: OrderedState, step: str) -> NotRepairable:
        status = state.steps.get(step, _PENDING)
        return NotRepairable(
            f"step {step!r} is {status}, and the saga {state.outcome}: it cannot be {be_done}",
            remedy=self._can(state),
        )

    def _can(self, state: OrderedState) -> str:
        if state.mode is Mode.COMPLETED:
            return "it has reached its end: start another one"
        if _has_ended(state):
            first = next(iter(state.steps), "")
            return f"it can be restarted from {first!r}" if first else "start another one"
        stood = ", ".join(f"{name} ({status})" for name, status in self.steps(state).items())
        return f"it can be repaired at a step that has not had its end: {stood}"


def _is_being_undone(state: OrderedState, step: str) -> bool:
    if state.mode is not Mode.COMPENSATING:
        return False
    status = state.steps.get(step)
    return status in _UNDOING or (status is StepStatus.SEEN_TO and step in state.completed)


def _has_ended(state: OrderedState) -> bool:
    return state.mode not in (Mode.FORWARD, Mode.COMPENSATING)


_EVENTS: dict[str, Callable[[CourseRepairs, OrderedState, Intervention, Metadata], Iterator[Any]]]
_EVENTS = {
    Action.SKIP: CourseRepairs._skipped,
    Action.MARK_DONE: CourseRepairs._done,
    Action.COMPENSATE: CourseRepairs._turned_back,
    Action.RESTART_FROM: CourseRepairs._restarted,
}
