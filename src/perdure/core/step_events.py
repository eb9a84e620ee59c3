"""What is recorded of an ordered saga, and the commands its steps are.

The names are those of the literature (EventCore: StepStarted, StepAdvanced, CompensationStarted,
…), so that a history reads as the pattern's description does. Plain data. Next to read:
``ordered.py``, which folds them.
"""

from __future__ import annotations

from dataclasses import dataclass
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
    "Residue",
    "Resume",
    "StepAdvanced",
    "StepCompensated",
    "StepCompleted",
    "StepFailed",
    "StepStarted",
]


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
    """A step is done. ``fields`` of ``data`` are its results; None: all of it, () for none."""

    step: str
    data: AnyMessage | None
    fields: tuple[str, ...] | None


@message(name="perdure.StepCompensated")
@dataclass(frozen=True, slots=True)
class StepCompensated:
    """A step is undone, but for what is left. ``data`` is as it is now, None: as before."""

    step: str
    data: AnyMessage | None
    residues: tuple[Residue, ...]


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
    """A step has failed for good; ``is_unknown``: it may have had its effect all the same."""

    step: str
    reason: str
    error: str
    is_unknown: bool


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
    """The step has nothing to undo, as it declares."""

    step: str


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
