"""What a coroutine workflow says to its context, checked: names, keys, durations, declarations.

Whatever is wrong is a mistake of the code: it is raised, and noted, so that the instance is stuck
there whatever the coroutine makes of it. Next to read: ``workflow_context.py``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from perdure.core.correlation import encode_id
from perdure.core.described import in_short
from perdure.core.private import own
from perdure.core.progress import Operation
from perdure.core.reentry import Reentry
from perdure.correlating import EventType
from perdure.errors import CorrelationFailed, UnknownStep, WorkflowMistake
from perdure.messages import ExternalEvent
from perdure.steps import StepSpec

__all__ = ["Checks", "Declared"]

T = TypeVar("T")

KEY_CHARS_MAX = 100
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,79}")


@dataclass(frozen=True, slots=True)
class Declared:
    """What a workflow declares that its coroutine may ask for."""

    name: str
    steps: Mapping[str, StepSpec]
    by_function: Mapping[Any, StepSpec]
    events: frozenset[EventType]


class Checks:
    """The checks of one re-entry."""

    __slots__ = ("_declared", "_reentry")

    def __init__(self, reentry: Reentry, declared: Declared) -> None:
        self._reentry = reentry
        self._declared = declared

    def spec(self, step: Any) -> StepSpec:
        """A declared step, by its function or name."""
        known = self._declared.steps if isinstance(step, str) else self._declared.by_function
        try:
            found = known.get(step)
        except TypeError:  # of no kind that could be a key
            found = None
        if found is None:
            name = step if isinstance(step, str) else getattr(step, "__name__", repr(step))
            raise self.unknown("step", repr(name), map(repr, self._declared.steps))
        return found

    def called(self, name: Any, key: Any) -> str:
        """The name, with its key if there is one."""
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise self.mistake(
                f"{name!r} is no name for what is awaited",
                "use up to 80 letters, digits, dots, dashes and underscores, a letter first",
            )
        if key is None:
            return name
        try:
            text = encode_id(key)
        except CorrelationFailed as error:
            raise self.mistake(
                f"{name} has the key {key!r}", "use a text, a number, a UUID, or a tuple of these"
            ) from error
        # No slash: of "workflow/instance id/step:key" the last one tells where the step begins.
        text = text.replace("%", "%25").replace("/", "%2F")
        if len(text) > KEY_CHARS_MAX:
            raise self.mistake(f"{name} has a key of {len(text)} characters", "use a shorter one")
        return f"{name}:{text}"

    def duration(self, called: str, *amounts: float) -> timedelta:
        """Weeks, days, hours, minutes and seconds together."""
        try:
            weeks, days, hours, minutes, seconds = amounts
            found = timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)
        except (TypeError, ValueError, OverflowError) as error:
            raise self.mistake(f"{called}: {error}", "as sleep(days=30)") from error
        if found <= timedelta(0):
            raise self.mistake(f"{called} lasts {found}", "give a time above zero")
        return found

    def check_timeout(self, called: str, timeout: object) -> None:
        """A limit is none, or a time."""
        if timeout is not None and (not isinstance(timeout, timedelta) or timeout <= timedelta(0)):
            raise self.mistake(
                f"{called} has the timeout {timeout!r}", "give a timedelta above zero"
            )

    def outcome(self, name: str, operation: Operation) -> Any:
        """The message or value; the coroutine may change what it is given."""
        if operation.message is None:
            return own(operation.value)
        if type(operation.message) is ExternalEvent:
            raise self.mistake(
                f"{name} came to a {operation.message.type}, of which there is no class here",
                "import the module that defines it",
            )
        return own(operation.message)

    def kept(self, name: str, given: T) -> T:
        """A copy of its own of what the coroutine gives, as it is now."""
        try:
            return own(given)
        except Exception as error:  # of whatever its parts are made
            raise self.mistake(
                f"{name} is given what cannot be kept: {in_short(error)}",
                "give a message, or a plain value",
            ) from error

    def mistake(self, problem: str, remedy: str) -> WorkflowMistake:
        """Something is wrong, to be raised."""
        return self._reentry.refuse(
            WorkflowMistake(
                problem,
                saga=self._declared.name,
                correlation_id=self._reentry.instance_id,
                remedy=remedy,
            )
        )

    def unknown(self, what: str, name: str, known: Iterable[str]) -> WorkflowMistake:
        """Something is not declared, to be raised."""
        return self._reentry.refuse(
            UnknownStep(
                f"the workflow declares no {what} {name}",
                saga=self._declared.name,
                correlation_id=self._reentry.instance_id,
                remedy=f"add it to {what}s= (it declares {', '.join(sorted(known)) or 'none'})",
            )
        )
