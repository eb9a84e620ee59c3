"""What is checked when an ``async def`` becomes a workflow: itself, its steps, its events.

Runs nothing. Next to read: ``workflow_source.py``, for what the code itself shows;
``workflow_coroutine.py``, which asks.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any

from perdure.core.correlation import Continue, Start
from perdure.core.saga import MissingPolicy, StartMissing
from perdure.correlating import By, EventType, key_of, name_of
from perdure.errors import DefinitionError, DuplicateHandler
from perdure.messages import Metadata, type_info_of
from perdure.ordered_definition import check_data
from perdure.steps import StepSpec, spec_of

__all__ = ["Route", "check_body", "check_missing", "routes_of", "specs_of"]

Route = tuple[type[Start] | type[Continue], Callable[[Any, Metadata], Any]]
"""What an event does to an instance, and which one it is for."""


def check_body(saga: str, body: Any) -> None:
    """It is an ``async def`` that takes the context and the message it begins with."""
    if not inspect.isfunction(body) or not inspect.iscoroutinefunction(body):
        raise DefinitionError(
            f"{getattr(body, '__qualname__', repr(body))} is no coroutine function",
            saga=saga,
            remedy="declare it as async def",
        )
    found = list(inspect.signature(body).parameters.values())
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if [one.kind in positional for one in found] != [True, True]:
        raise DefinitionError(
            f"{body.__qualname__}{inspect.signature(body)} does not take two arguments",
            saga=saga,
            remedy=f"as async def {body.__name__}(ctx: Context, message: …)",
        )


def check_missing(saga: str, policy: object) -> None:
    """Nothing but the message it begins with may start an instance."""
    if isinstance(policy, StartMissing) or not isinstance(policy, MissingPolicy):
        raise DefinitionError(
            f"on_missing is {policy!r}",
            saga=saga,
            remedy="give Park(for_s), IgnoreMissing() or ReplyMissing(value)",
        )


def routes_of(
    saga: str, begins: type, by: By, events: Mapping[EventType, By], timeout: timedelta | None
) -> dict[EventType, Route]:
    """The message an instance begins with, and the events it may wait for."""
    check_data(saga, begins, by, timeout)
    if not isinstance(events, Mapping):
        raise DefinitionError(
            f"events is {events!r}", saga=saga, remedy='as events={FirstLogin: "user_id"}'
        )
    found: dict[EventType, Route] = {begins: (Start, key_of(begins, by))}
    for event, field in events.items():
        if event is begins:
            raise DefinitionError(
                f"{name_of(event)} begins the workflow, and is among its events",
                saga=saga,
                remedy="leave it out, or wait for another event",
            )
        is_class = isinstance(event, type) and type_info_of(event) is not None
        if not isinstance(event, str) and not is_class:
            raise DefinitionError(
                f"event {name_of(event)} is no message class",
                saga=saga,
                remedy="mark the class with @message",
            )
        try:
            found[event] = (Continue, key_of(event, field))
        except DefinitionError as error:
            raise error.about(saga) from None
    return found


def specs_of(saga: str, steps: Iterable[Callable[..., Any]]) -> dict[str, StepSpec]:
    """The steps by name."""
    if isinstance(steps, str) or not isinstance(steps, Iterable):
        raise DefinitionError(f"steps is {steps!r}", saga=saga, remedy="give a list of functions")
    found: dict[str, StepSpec] = {}
    for function in steps:
        try:
            spec = spec_of(function)
        except DefinitionError as error:
            raise error.about(saga) from None
        if spec.name in found:
            raise DuplicateHandler(
                f"two steps are named {spec.name!r}",
                saga=saga,
                remedy='give one another name, as @step(name="…")',
            )
        found[spec.name] = spec
    return found
