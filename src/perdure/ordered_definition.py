"""From a plan to the kernel's ``Definition``: what ordered sagas and workflows have in common.

Knows no queue and no runtime. Next to read: ``core/course.py``, which decides.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

from perdure.core import course, ordered, step_events
from perdure.core.correlation import Start, VerdictKind, Verdicts
from perdure.core.course_repairs import CourseRepairs
from perdure.core.described import in_short
from perdure.core.family import Cancel
from perdure.core.indexed import indexed_fields
from perdure.core.ordered import OrderedState
from perdure.core.plan import Plan
from perdure.core.retention import KEEP, Retention
from perdure.core.saga import Definition, Handling
from perdure.correlating import By, key_of
from perdure.effects import Effect
from perdure.errors import DefinitionError
from perdure.messages import CommandFailed, Metadata, TypeInfo, type_info_of
from perdure.saga_checks import check_name_text
from perdure.step_results import results_of

__all__ = ["check_data", "definition_of"]

NAME_CHARS_MAX = 110
"""With a step's name and ".undo" behind, it is the name of a work queue."""

_OURS = [getattr(step_events, name) for name in step_events.__all__]
_TYPES = [kind for kind in _OURS if type_info_of(kind) is not None]


def check_data(name: str, data: type, by: By, timeout: timedelta | None) -> None:
    """Raise ``DefinitionError`` for what cannot be the beginning of an instance."""
    check_name_text(name, name if isinstance(name, str) else repr(name))
    if len(name) > NAME_CHARS_MAX:
        raise DefinitionError(
            f"its name has {len(name)} characters",
            saga=name,
            remedy=f"use up to {NAME_CHARS_MAX}: its queues are named after it and its steps",
        )
    if not isinstance(data, type) or not dataclasses.is_dataclass(data) or _unmarked(data):
        raise DefinitionError(
            f"{data!r} is no message class", saga=name, remedy="mark its data with @message"
        )
    if timeout is not None and (not isinstance(timeout, timedelta) or timeout <= timedelta(0)):
        raise DefinitionError(
            f"timeout is {timeout!r}", saga=name, remedy="give a timedelta above zero"
        )
    try:
        key_of(data, by)
    except DefinitionError as error:
        raise error.about(name) from None


def _unmarked(data: type) -> bool:
    return type_info_of(data) is None


_RESULTS = (step_events.StepCompleted, step_events.StepCompensated)
_CONTINUE = (VerdictKind.CONTINUE, False)


def definition_of(
    plan: Plan, by: By, timeout: timedelta | None, retention: Retention = KEEP
) -> Definition:
    """The kernel's view of a plan."""
    data = plan.data
    key = key_of(data, by)

    def correlate(event: Any, metadata: Metadata) -> Verdicts:
        return Start(key(event, metadata))

    def choose(state: OrderedState, event: Any, metadata: Metadata) -> Handling | None:
        return handle if course.accepts(plan, state, event) else None

    def handle(state: OrderedState, event: Any, metadata: Metadata) -> Iterable[Effect]:
        return course.effects_of(plan, state, event, metadata.instance_id)

    def salvage(
        state: OrderedState, event: Any, metadata: Metadata, error: Exception
    ) -> Iterable[Effect]:
        """What was to be sent, or the end, cannot be stored; whoever begins is told so."""
        if type(event) is data:
            raise error
        return course.salvaged(plan, state, event, in_short(error))

    return Definition(
        name=plan.saga,
        state_type=_state_type(),
        interests=(data, *_RESULTS),
        initial_state=OrderedState,
        correlate=correlate,
        choose=choose,
        apply=_folder(data),
        compensate=_nothing,
        timeout=timeout,
        types=(data, CommandFailed, Cancel, *_TYPES),
        folds=frozenset({data, *ordered.FOLDED}),
        kinds={data: (VerdictKind.START, False), **dict.fromkeys(_RESULTS, _CONTINUE)},
        is_pure=True,
        salvage=salvage,
        repairs=CourseRepairs(plan, *results_of(by)),
        indexed=indexed_fields(plan.saga, data, _getter),
        retention=retention,
    )


def _folder(data: type) -> Callable[[OrderedState, Any, Metadata], OrderedState]:
    def apply(state: OrderedState, event: Any, metadata: Metadata) -> OrderedState:
        if type(event) is data:
            return dataclasses.replace(state, data=event)
        return ordered.fold(state, event)

    return apply


def _getter(name: str) -> Callable[[OrderedState], Any]:
    return lambda state: getattr(state.data, name, None)


def _nothing(state: Any, failed_command: Any) -> None:
    """Its compensation is a course of its own."""


def _state_type() -> TypeInfo:
    info = type_info_of(OrderedState)
    assert info is not None
    return info
