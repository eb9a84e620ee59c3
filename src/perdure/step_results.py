"""What the functions of steps are given, and what they return as messages to their saga.

Called around the user's function, in its worker: what is wrong with a result is found there, by
the name of the step. Next to read: ``core/step_events.py``; ``core/ordered.py``, which folds them.
"""

from __future__ import annotations

import copy
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from perdure.core.saga import is_immutable
from perdure.core.step_events import (
    CompensateStep,
    PerformStep,
    Residue,
    StepCompensated,
    StepCompleted,
)
from perdure.correlating import By
from perdure.errors import InvalidResult, NonRetryable

__all__ = ["check_result", "compensated", "completed", "given", "results_of"]


def given(saga: str, step: str, data: type) -> Callable[[PerformStep | CompensateStep], Any]:
    """What the function of a step is called with: the data, its own to change.

    Only what it returns counts as its result: the command's data stays as it was. Raises
    ``NonRetryable`` for a command that is not this step's, or data that is not this saga's: the
    definition has changed since it was sent, and its saga will say what is wrong.
    """
    is_frozen = is_immutable(data)

    def give(command: PerformStep | CompensateStep) -> Any:
        if command.step != step or not command.key.startswith(f"{saga}/"):
            raise NonRetryable(f"the command of {command.key} has come to step {saga}.{step}")
        if type(command.data) is not data:
            raise NonRetryable(f"step {step!r} was given {command.data!r}, no {data.__name__}")
        return command.data if is_frozen else copy.deepcopy(command.data)

    return give


def results_of(by: By) -> tuple[Callable[..., StepCompleted], Callable[..., StepCompensated]]:
    """``completed`` and ``compensated`` of a saga whose instances are found ``by`` these fields."""
    fixed = (by,) if isinstance(by, str) else by if isinstance(by, tuple) else ()
    return partial(completed, fixed=fixed), partial(compensated, fixed=fixed)


def completed(command: PerformStep, returned: Any, fixed: tuple[str, ...] = ()) -> StepCompleted:
    """A step's end: a mapping of fields, or None; ``fixed`` ones stay. Raises ``InvalidResult``."""
    if returned is None:
        return StepCompleted(command.step)
    data = _merged(command, f"step {command.step!r}", returned, "or None", fixed)
    return StepCompleted(command.step, data, None if command.is_alone else command.data)


def compensated(
    command: CompensateStep, returned: Any, fixed: tuple[str, ...] = ()
) -> StepCompensated:
    """A compensation's end: None, residues, or a mapping of fields. Raises ``InvalidResult``."""
    if isinstance(returned, Residue):
        returned = (returned,)
    if returned is None:
        return StepCompensated(command.step)
    if isinstance(returned, list | tuple) and all(isinstance(one, Residue) for one in returned):
        return StepCompensated(command.step, residues=tuple(returned))
    who = f"the compensation of step {command.step!r}"
    data = _merged(command, who, returned, "a Residue, several of them, or None", fixed)
    return StepCompensated(command.step, data, command.data)


def check_result(function: Callable[..., Any], step: str, result: Any) -> None:
    """What somebody gives in place of what the function would have returned fits its annotation.

    Raises ``InvalidResult``; what a type checker alone could tell is let pass.
    """
    try:
        wanted = typing.get_type_hints(function).get("return", Any)
    except (NameError, TypeError):  # a name that only type checkers see
        return
    if not _fits(result, wanted):
        raise InvalidResult(
            f"step {step!r} returns {getattr(wanted, '__name__', wanted)}, and not {result!r}",
            remedy="give what its function would have returned",
        )


def _fits(value: Any, wanted: Any) -> bool:
    origin = typing.get_origin(wanted)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, one) for one in typing.get_args(wanted))
    if origin is typing.Literal:
        return value in typing.get_args(wanted)
    if wanted is None:
        return value is None
    kind = wanted if origin is None else origin
    if kind is float:
        return isinstance(value, int | float)
    return not isinstance(kind, type) or isinstance(value, kind)


def _merged(
    command: PerformStep | CompensateStep,
    who: str,
    returned: Any,
    otherwise: str,
    fixed: tuple[str, ...],
) -> Any:
    kind = type(command.data).__name__
    if not isinstance(returned, Mapping):
        raise InvalidResult(
            f"{who} returned {returned!r}",
            remedy=f"return a mapping of fields of {kind}, {otherwise}",
        )
    known = command.data.__dataclass_fields__
    for name in returned:
        if name not in known or not known[name].init:
            fields = ", ".join(sorted(one for one in known if known[one].init))
            raise InvalidResult(
                f"{who} returned {name!r}, which {kind} does not take",
                remedy=f"return some of {fields}",
            )
        if name in fixed and returned[name] != getattr(command.data, name):
            raise InvalidResult(
                f"{who} returned another {name!r}, by which its instance is found",
                remedy="leave it out, or use another field",
            )
    try:
        return replace(command.data, **returned)
    except Exception as error:  # of its __post_init__; what the step has done is done
        raise InvalidResult(
            f"{who} returned {returned!r}, which {kind} refuses: {error}",
            remedy="return fields that go together",
        ) from error
