"""Parents and children: a saga starts another, is told its end, and takes it down when it fails.

    do.start_child("kyc", Checks, CheckAsked(state.user_id))     # effects.StartChild
    @on_child_ended("kyc")                                       # ChildEnded

Who an instance belongs to is in the headers of its first message, and so in its journal; what it
has started is in the commands it sent. ``Family`` is what is folded from both. Plain data; next to
read: ``children.py``, which carries the effects out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from perdure.core.commit import Status
from perdure.core.traced import onward
from perdure.messages import AnyMessage, message

__all__ = [
    "CALLED",
    "PARENT",
    "Cancel",
    "ChildEnded",
    "Family",
    "ToInstance",
    "born",
    "ended",
    "own_headers",
    "started",
]

PARENT = "perdure.parent"
CALLED = "perdure.called"
"""Headers of a child's first message: the key of its parent, and its name there."""


@message(name="perdure.Cancel")
@dataclass(frozen=True, slots=True)
class Cancel:
    """Delivered to an instance that shall not go on; what it makes of that is its own business."""

    reason: str = ""


@message(name="perdure.ChildEnded")
@dataclass(frozen=True, slots=True)
class ChildEnded:
    """Delivered to the instance that started ``name``, when that has ended, or never started.

    ``result`` is the message it completed with, ``value`` the plain value; ``error`` is why it
    failed, "" if it did not.
    """

    name: str
    saga: str
    instance_id: str
    status: str
    result: AnyMessage | None = None
    value: Any = None
    error: str = ""

    @property
    def is_completed(self) -> bool:
        """It has reached its goal."""
        return self.status == Status.COMPLETED


@message(name="perdure.ToInstance")
@dataclass(frozen=True, slots=True)
class ToInstance:
    """A message to one instance by its key; ``starts``: as its child of this name."""

    key: str
    message: AnyMessage
    starts: str = ""


@dataclass(frozen=True, slots=True)
class Family:
    """Whose child an instance is ("" for nobody's), under which name, and its own open children."""

    parent: str = ""
    called: str = ""
    children: Mapping[str, str] = field(default_factory=dict)


def born(headers: Mapping[str, str] | None) -> Family | None:
    """What the first message says of the family; None for an instance without any."""
    if not headers or PARENT not in headers:
        return None
    return Family(headers[PARENT], headers.get(CALLED, ""))


def own_headers(headers: Mapping[str, str] | None) -> Mapping[str, str] | None:
    """The headers that travel on with what an instance sends: its parent is not theirs, and their
    cause is its turn."""
    if not headers:
        return headers
    headers = onward(headers)
    if PARENT not in headers:
        return headers
    return {name: text for name, text in headers.items() if name not in (PARENT, CALLED)}


def started(family: Family | None, name: str, key: str) -> Family:
    """With one more open child."""
    before = family or Family()
    return replace(before, children={**before.children, name: key})


def ended(family: Family | None, name: str) -> Family | None:
    """Without that child."""
    if family is None or name not in family.children:
        return family
    left = {one: key for one, key in family.children.items() if one != name}
    return replace(family, children=left) if left or family.parent else None
