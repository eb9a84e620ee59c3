"""What the functions of steps return, as messages to their saga.

Called around the user's function, in its worker: what is wrong with a result is found there, by
the name of the step. Next to read: ``core/step_events.py``; ``core/ordered.py``, which folds them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from perdure.core.step_events import (
    CompensateStep,
    PerformStep,
    Residue,
    StepCompensated,
    StepCompleted,
)
from perdure.errors import InvalidResult

__all__ = ["compensated", "completed"]


def completed(command: PerformStep, returned: Any) -> StepCompleted:
    """A step's end. It returns a mapping of fields, or None. Raises ``InvalidResult``."""
    if returned is None:
        return StepCompleted(command.step, None, ())
    data = _merged(command.step, command.data, returned)
    return StepCompleted(command.step, data, None if command.is_alone else tuple(returned))


def compensated(command: CompensateStep, returned: Any) -> StepCompensated:
    """A compensation's end: None, residues, or a mapping of fields. Raises ``InvalidResult``."""
    if returned is None:
        return StepCompensated(command.step, None, ())
    if isinstance(returned, Residue):
        return StepCompensated(command.step, None, (returned,))
    if isinstance(returned, list | tuple) and all(isinstance(one, Residue) for one in returned):
        return StepCompensated(command.step, None, tuple(returned))
    return StepCompensated(command.step, _merged(command.step, command.data, returned), ())


def _merged(step: str, data: Any, returned: Any) -> Any:
    if type(returned) is not dict and not isinstance(returned, Mapping):
        raise InvalidResult(
            f"step {step!r} returned {returned!r}",
            remedy=f"return a mapping of fields of {type(data).__name__}, or None",
        )
    known = type(data).__dataclass_fields__
    unknown = [name for name in returned if name not in known]
    if unknown:
        raise InvalidResult(
            f"step {step!r} returned {unknown[0]!r}, which {type(data).__name__} does not have",
            remedy=f"return some of {', '.join(sorted(known))}",
        )
    return replace(data, **returned)
