"""What is recorded of an ordered saga, and the commands its steps are.

The names are those of the literature (EventCore: StepStarted, StepAdvanced, CompensationStarted,
…), so that a history reads as the pattern's description does. Plain data. Next to read:
``ordered.py``, which folds them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from perdure.messages import AnyMessage, message

__all__ = [
    "CompensateStep",
    "CompensationCompleted",
    "CompensationFailed",
    "CompensationSkipped",
    "CompensationStarted",
    "CompensationStepStarted",
    "Completed",
    "PerformStep",
    "PivotPassed",
    "Residue",
    "Restarted",
    "Resume",
    "StepAdvanced",
    "StepCompensated",
    "StepCompleted",
    "StepFailed",
    "StepLeftOut",
    "StepStarted",
    "StepStatus",
    "Stopped",
]


class StepStatus(StrEnum):
    """Where a step stands. One that is not in the state is pending."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    UNKNOWN = "unknown"
    """It has failed, and may have had its effect: somebody has to see to it."""
    IN_DOUBT = "in doubt"
    """It has failed, may have had its effect, and is undone like one that had."""
    COMPENSATING = "compensating"
    COMPENSATED = "compensated"
    SKIPPED = "skipped"
    """It was done, and has nothing to undo."""
    STUCK = "stuck"
    """It could not be undone: somebody has to see to it."""
    SEEN_TO = "seen to"
    """Somebody has: what it was stuck at is tried again."""
    LEFT_OUT = "left out"
    """Somebody said that it goes on without this step: it counts as done, and is never undone."""


@message(name="perdure.Residue")
@dataclass(frozen=True, slots=True)
class Residue:
    """What a compensation could not take back, such as a fee.

    return Residue("cancellation fee", Decimal("25.00"))
    """

    what: str
    value: Any = None

    def __str__(self) -> str:
        return self.what if self.value is None else f"{self.what} {self.value}"


# Commands


@message(name="perdure.PerformStep")
@dataclass(frozen=True, slots=True)
class PerformStep:
    """Perform a step with this data; ``is_alone``: no other step runs beside it."""

    step: str
    key: str
    data: AnyMessage
    is_alone: bool


@message(name="perdure.CompensateStep")
@dataclass(frozen=True, slots=True)
class CompensateStep:
    """Undo a step; no other step runs meanwhile."""

    step: str
    key: str
    data: AnyMessage


# Messages


@message(name="perdure.StepCompleted")
@dataclass(frozen=True, slots=True)
class StepCompleted:
    """A step is done. Its results are what differs in ``data`` from what it was given.

    That was ``before``, None if no other step ran meanwhile. ``data`` is None if there are none.
    Names of fields would not do: an upcaster may have renamed them when this is read.
    """

    step: str
    data: AnyMessage | None = None
    before: AnyMessage | None = None


@message(name="perdure.StepCompensated")
@dataclass(frozen=True, slots=True)
class StepCompensated:
    """A step is undone, but for what is left; otherwise as ``StepCompleted``."""

    step: str
    data: AnyMessage | None = None
    before: AnyMessage | None = None
    residues: tuple[Residue, ...] = ()


@message(name="perdure.Resume")
@dataclass(frozen=True, slots=True)
class Resume:
    """Somebody has seen to what an instance was stuck at: try that again, under the same key."""


# Recorded events


@message(name="perdure.StepStarted")
@dataclass(frozen=True, slots=True)
class StepStarted:
    """A step's command was sent."""

    index: int
    step: str


@message(name="perdure.StepAdvanced")
@dataclass(frozen=True, slots=True)
class StepAdvanced:
    """What came before this step is done."""

    next_step: int


@message(name="perdure.StepFailed")
@dataclass(frozen=True, slots=True)
class StepFailed:
    """A step has failed for good, and stands so: failed, unknown, or in doubt."""

    step: str
    status: StepStatus
    reason: str
    error: str


@message(name="perdure.PivotPassed")
@dataclass(frozen=True, slots=True)
class PivotPassed:
    """The pivot is done: from here on there is only forward."""

    step: str


@message(name="perdure.CompensationStarted")
@dataclass(frozen=True, slots=True)
class CompensationStarted:
    """From here on what was done is undone. ``failed_step`` is "" if no step was the reason."""

    failed_step: str
    error: str


@message(name="perdure.CompensationStepStarted")
@dataclass(frozen=True, slots=True)
class CompensationStepStarted:
    """The command that undoes a step was sent."""

    index: int
    step: str


@message(name="perdure.CompensationSkipped")
@dataclass(frozen=True, slots=True)
class CompensationSkipped:
    """The step has nothing to undo, as it declares.

    Or it cannot be undone, and somebody has seen to it: then it is itself a residue.
    """

    step: str
    residues: tuple[Residue, ...] = ()


@message(name="perdure.CompensationFailed")
@dataclass(frozen=True, slots=True)
class CompensationFailed:
    """A step could not be undone; the saga is stuck until somebody has seen to it."""

    step: str
    reason: str
    error: str


@message(name="perdure.CompensationCompleted")
@dataclass(frozen=True, slots=True)
class CompensationCompleted:
    """Everything that was done is undone, but for the residues."""

    residues: tuple[Residue, ...]


@message(name="perdure.Completed")
@dataclass(frozen=True, slots=True)
class Completed:
    """All steps are done."""


@message(name="perdure.Stopped")
@dataclass(frozen=True, slots=True)
class Stopped:
    """It goes no further, and nothing is undone: a workflow was cancelled, or timed out."""

    error: str


# What somebody who steps in has decided


@message(name="perdure.StepLeftOut")
@dataclass(frozen=True, slots=True)
class StepLeftOut:
    """It goes on without this step, which gives no results and is not undone."""

    step: str


@message(name="perdure.Restarted")
@dataclass(frozen=True, slots=True)
class Restarted:
    """It goes on from this step: what ``steps``, it and those behind it, have done is forgotten.

    Those that were done are ``again`` performed under new keys, which this turn's number ``nr``
    tells from the old ones. ``data`` is what the first was given before; None: it stays as it is.
    ``is_past_pivot``: there is no way back still.
    """

    step: str
    steps: tuple[str, ...]
    again: tuple[str, ...]
    nr: int
    data: AnyMessage | None = None
    is_past_pivot: bool = False
