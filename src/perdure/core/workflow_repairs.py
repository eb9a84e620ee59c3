"""How the steps of a coroutine workflow are repaired by hand. Pure.

What the coroutine is told is what is recorded, so a repair changes that: a step has ended as
somebody says, or it, and what was asked for after it, is forgotten and asked for anew. Then the
coroutine is entered again. Steps only are forgotten while it runs: what has come, or passed, stays
so. One that has failed asks anew for all that was open when it did.
Next to read: ``progress.py``; ``repairs.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from perdure.core.intervention import Action, Intervention
from perdure.core.progress import CHILD, Progress, Standing, fold
from perdure.core.repairs import Meant
from perdure.core.workflow_events import OperationStarted, PerformStep, Restarted, StepDone
from perdure.effects import CancelDeadline, Effect, Record
from perdure.errors import NotRepairable
from perdure.messages import Metadata, type_info_of

__all__ = ["WorkflowRepairs"]

_STEP = "step/"


class WorkflowRepairs:
    """The repairs of one coroutine workflow.

    ``declared`` are the names of its steps; ``done(command, result)`` makes the event of what a
    step's function has returned, ``turn`` is the re-entry that follows.
    """

    def __init__(
        self,
        declared: Iterable[str],
        done: Callable[[PerformStep, Any], StepDone],
        turn: Callable[[Progress, Any, Metadata], Iterable[Effect]],
    ) -> None:
        self._declared = tuple(declared)
        self._done = done
        self._turn = turn

    def steps(self, progress: Progress) -> Mapping[str, str]:
        """Those that were asked for, in that order."""
        return {
            name.removeprefix(_STEP): str(one.status)
            for name, one in progress.operations.items()
            if name.startswith(_STEP)
        }

    def step_of(self, command: Any) -> str:
        """By the command itself."""
        if type(command) is PerformStep:
            return command.operation.removeprefix(_STEP)
        return ""

    def input_of(self, command: Any) -> Any:
        """None: its code says it anew."""
        return None

    def skip(self, progress: Progress, step: str, is_over: bool) -> Meant:
        """It has ended, with None."""
        status = self._not_done(progress, step, "skipped", is_over)
        steps = self._steps_with(progress, step, is_over)
        return Meant(f"step {step!r} ({status}) is skipped: its result is None", steps)

    def mark_done(self, progress: Progress, step: str, result: Any, is_over: bool) -> Meant:
        """The event that it is done."""
        status = self._not_done(progress, step, "marked as done", is_over)
        done = self._done(PerformStep(f"{_STEP}{step}", step.partition(":")[0], ""), result)
        steps = self._steps_with(progress, step, is_over)
        return Meant(f"step {step!r} ({status}) was done by hand", steps, done)

    def compensate(self, progress: Progress) -> Meant:
        """Only its code knows how."""
        raise NotRepairable(
            "a workflow does not say what undoes its steps",
            remedy="cancel it: its code is told, and may undo what it has done",
        )

    def restart_from(self, progress: Progress, step: str, is_over: bool) -> Meant:
        """It, and the steps that were asked for in a later turn."""
        if f"{_STEP}{step}" not in progress.operations:
            self._check_declared(step)
            raise NotRepairable(f"step {step!r} has not begun", remedy=self._can(progress))
        forgotten = self._from(progress, step, is_over)
        again = [name.removeprefix(_STEP) for name in self._again(progress, forgotten)]
        anew = f"; performed again under new keys: {', '.join(again)}" if again else ""
        steps = tuple(n.removeprefix(_STEP) for n in forgotten if n.startswith(_STEP))
        return Meant(f"it goes on from step {step!r}{anew}", steps)

    def edited(self, command: Any, given: Any) -> Any:
        """With another input, a message or a plain value."""
        if type(given) is type(command):
            return given
        if type_info_of(type(given)) is not None:
            return replace(command, message=given, value=None)
        return replace(command, message=None, value=given)

    def effects(
        self, progress: Progress, intervention: Intervention, metadata: Metadata, is_over: bool
    ) -> Iterator[Effect]:
        """Record what was decided, and enter the coroutine again."""
        for event in self._events(progress, intervention, is_over):
            yield Record(event)
            progress = fold(progress, event, metadata)
            if type(event) is Restarted:
                kept = (one for one in event.operations if not one.startswith(_STEP))
                yield from (CancelDeadline(name) for name in kept)
        yield from self._turn(progress, intervention, metadata)

    # What is recorded

    def _events(
        self, progress: Progress, said: Intervention, is_over: bool
    ) -> Iterator[Restarted | OperationStarted | StepDone]:
        step, name = said.about, f"{_STEP}{said.about}"
        if said.action == Action.RESTART_FROM:
            forgotten = self._from(progress, step, is_over)
            yield Restarted(forgotten, self._again(progress, forgotten))
            return
        self._not_done(progress, step, "repaired", is_over)
        operation = progress.operations.get(name)
        cut_off = self._cut_off(progress, is_over) if is_over else []
        if operation is not None and operation.status is not Standing.OPEN:
            cut_off = list(dict.fromkeys([name, *cut_off]))
        if cut_off or is_over:
            yield Restarted(tuple(cut_off), goes_on=is_over)
        if operation is None or name in cut_off:
            yield OperationStarted(name)
        yield StepDone(name) if said.action == Action.SKIP else said.content  # type: ignore[misc]

    def _from(self, progress: Progress, step: str, is_over: bool) -> tuple[str, ...]:
        """What is forgotten with a step: the steps begun later, and what was cut off."""
        name, operations = f"{_STEP}{step}", progress.operations
        began = operations[name].started_nr
        later = [
            one
            for one, operation in operations.items()
            if one.startswith(_STEP) and operation.started_nr > began
        ]
        return tuple(dict.fromkeys([name, *later, *self._cut_off(progress, is_over)]))

    def _steps_with(self, progress: Progress, step: str, is_over: bool) -> tuple[str, ...]:
        """The steps that nobody performs any more when this one has ended."""
        cut_off = self._cut_off(progress, is_over) if is_over else []
        return (step, *(one.removeprefix(_STEP) for one in cut_off if one.startswith(_STEP)))

    def _cut_off(self, progress: Progress, is_over: bool) -> list[str]:
        """What was cancelled, or was open when the instance ended. Children are not had back."""
        ended = (Standing.CANCELLED,) if not is_over else (Standing.CANCELLED, Standing.OPEN)
        found = [name for name, one in progress.operations.items() if one.status in ended]
        for name in found:
            if name.startswith(CHILD):
                raise NotRepairable(
                    f"its child {name.removeprefix(CHILD)!r} was cancelled with it",
                    remedy="start another instance",
                )
        return found

    def _again(self, progress: Progress, forgotten: Iterable[str]) -> tuple[str, ...]:
        return tuple(
            name
            for name in forgotten
            if name.startswith(_STEP) and progress.operations[name].status is Standing.DONE
        )

    # What is refused

    def _not_done(self, progress: Progress, step: str, be_done: str, is_over: bool) -> str:
        self._check_declared(step)
        operation = progress.operations.get(f"{_STEP}{step}")
        if operation is None:
            return "not asked for yet"
        is_cancelled = operation.status is Standing.CANCELLED and not is_over
        if operation.status is Standing.DONE or is_cancelled:
            raise NotRepairable(
                f"step {step!r} is {operation.status}: it cannot be {be_done}",
                remedy=self._can(progress),
            )
        return str(operation.status)

    def _check_declared(self, step: str) -> None:
        if step.partition(":")[0] not in self._declared:
            raise NotRepairable(
                f"it has no step {step!r}", remedy=f"its steps are {', '.join(self._declared)}"
            )

    def _can(self, progress: Progress) -> str:
        stood = ", ".join(f"{name} ({status})" for name, status in self.steps(progress).items())
        return f"it can be restarted from one of its steps: {stood or 'none has begun'}"
