"""What the kernel needs to know of a saga: its name and a handful of plain functions.

Every face (process manager, and later the ordered saga and the workflow) comes down to one
``Definition``. The kernel sees nothing else of a saga. Next to read: ``turn.py``.
"""

from __future__ import annotations

import copy
import dataclasses
import datetime as dt
import enum
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal, TypeAlias
from uuid import UUID

from perdure.core.correlation import VerdictKind, Verdicts
from perdure.core.indexed import IndexedField
from perdure.core.repairs import Repairs
from perdure.core.retention import KEEP, Retention
from perdure.core.retry import RetryPolicy
from perdure.core.supervision import Supervision
from perdure.effects import Effect
from perdure.errors import DefinitionError
from perdure.messages import Metadata, TypeInfo

__all__ = [
    "Definition",
    "Handling",
    "IgnoreMissing",
    "MissingPolicy",
    "Park",
    "ReplyMissing",
    "StartMissing",
]


PARKED_S_MAX = 100 * 366 * 86_400


@dataclass(frozen=True, slots=True)
class Park:
    """Keep the message in the inbox until the instance starts; dead letter after ``for_s``.

    None: it waits for ever. Raises ``DefinitionError`` for what is no time.
    """

    for_s: float | None = 3600.0

    def __post_init__(self) -> None:
        for_s = self.for_s
        if for_s is None or (type(for_s) in (int, float) and 0 < for_s <= PARKED_S_MAX):
            return
        raise DefinitionError(
            f"Park(for_s={for_s!r})",
            remedy="give a number of seconds above zero, or None: for ever",
        )


@dataclass(frozen=True, slots=True)
class IgnoreMissing:
    """Forget the message; the sender is told."""


@dataclass(frozen=True, slots=True)
class StartMissing:
    """Let any message start the instance."""


@dataclass(frozen=True, slots=True)
class ReplyMissing:
    """Answer the sender with a fixed value; nothing is kept."""

    value: Any = None


MissingPolicy: TypeAlias = Park | IgnoreMissing | StartMissing | ReplyMissing
"""What becomes of a message that continues or stops an instance which does not exist."""

Handling: TypeAlias = Callable[[Any, Any, Metadata], Iterable[Effect] | None]
"""``(state, event, metadata) -> effects``."""


@dataclass(frozen=True)
class Definition:
    """A saga as the kernel sees it.

    ``apply(state, event, metadata)`` returns the next state, or None after changing the (mutable)
    state it was given. ``choose(state, event, metadata)`` looks at the state before that and gives
    the function that will handle the event afterwards, returning effects; None: the event is not
    wanted in this state and is neither applied nor handled.
    ``interests`` are message classes or type names; ``types`` all classes that its rows may hold.
    ``folds`` are the classes ``apply`` does something with, None for any. ``kinds`` gives the
    verdict on a class, and whether it is strict, where that does not depend on the message.

    ``compensate(state, failed_command)`` returns the commands (or effects) that make up for it;
    ``compensated`` are the commands it is declared for. ``retry`` is when a message whose turn
    raised is tried again (None: never), ``lets_pass``: others need not wait for it meanwhile;
    ``supervision`` is what becomes of the instance when that is over.
    ``timeout_retry`` is when the timeout is reached again, instead of ending the process.
    ``is_pure``: its functions leave what they are given as it is, so no turn makes copies for them.
    ``is_told``: what becomes of its commands is told to it; else results are published, and of a
    failure there is only the dead letter. ``deadlines`` are the names that somebody handles, None:
    any.
    ``salvage(state, event, metadata, error)`` gives the effects of a turn in place of those that
    could not be had, or not be carried out (None: the turn fails). ``repairs`` is how its steps are
    repaired by hand, None for a saga without steps. ``indexed`` are the fields by which its
    instances are found, by name. ``takes(state)`` are the interests that are handled in this state,
    None: that cannot be said. ``retention`` is how long they are kept after their end.
    """

    name: str
    state_type: TypeInfo
    interests: tuple[type | str, ...]
    initial_state: Callable[[], Any]
    correlate: Callable[[Any, Metadata], Verdicts]
    choose: Callable[[Any, Any, Metadata], Handling | None]
    apply: Callable[[Any, Any, Metadata], Any]
    compensate: Callable[[Any, Any], Iterable[Effect | Any] | None]
    timeout: dt.timedelta | None = None
    timeout_retry: RetryPolicy | None = None
    retry: RetryPolicy | None = None
    lets_pass: bool = False
    supervision: Supervision = field(default_factory=Supervision.resume)
    compensated: tuple[type, ...] = ()
    on_missing: MissingPolicy = field(default_factory=Park)
    types: Collection[type] = ()
    folds: Collection[type] | None = None
    kinds: Mapping[type | str, tuple[VerdictKind, bool]] | None = None
    deadlines: Collection[str] | None = None
    copies_state: bool = True
    is_pure: bool = False
    is_told: bool = True
    salvage: Callable[[Any, Any, Metadata, Exception], Iterable[Effect]] | None = None
    repairs: Repairs | None = None
    indexed: tuple[IndexedField, ...] = ()
    takes: Callable[[Any], Collection[type | str]] | None = None
    retention: Retention = KEEP

    _frozen: dict[type, bool] = field(default_factory=dict, repr=False, compare=False)

    def private_event(self, event: Any) -> Any:
        """The event for one function of the saga: a copy, unless it cannot be changed."""
        if self.is_pure:
            return event
        kind = type(event)
        is_frozen = self._frozen.get(kind)
        if is_frozen is None:
            is_frozen = self._frozen[kind] = is_immutable(kind)
        return event if is_frozen else copy.deepcopy(event)

    def private_copy(self, state: Any) -> Any:
        """The state for others to look at or change: a copy, unless it cannot be changed."""
        return copy.deepcopy(state) if self.copies_state else state

    def working_copy(self, state: Any) -> Any:
        """The state for the functions of the saga."""
        return copy.deepcopy(state) if self.copies_state and not self.is_pure else state


_IMMUTABLE = (
    str, int, float, bool, bytes, complex, type(None), Decimal, UUID,
    dt.datetime, dt.date, dt.time, dt.timedelta, dt.tzinfo,
)  # fmt: skip


def is_immutable(kind: Any) -> bool:
    """Whether no value of this type can be changed in place, as far as its declaration tells.

    >>> is_immutable(tuple[int, ...]), is_immutable(list[int])
    (True, False)
    """
    return _is_immutable(kind, frozenset())


def _is_immutable(kind: Any, seen: frozenset[Any]) -> bool:
    if kind in seen:  # recursive type: decided by its other parts
        return True
    origin = typing.get_origin(kind)
    if origin is Literal:
        return True
    if origin is typing.Annotated:
        return _is_immutable(typing.get_args(kind)[0], seen)
    if origin in (tuple, frozenset, typing.Union, types.UnionType):
        parts = [part for part in typing.get_args(kind) if part is not Ellipsis]
        return bool(parts) and all(_is_immutable(part, seen) for part in parts)
    if isinstance(kind, typing.NewType):
        return _is_immutable(kind.__supertype__, seen)
    if not isinstance(kind, type):
        return False
    if issubclass(kind, enum.Enum) or issubclass(kind, _IMMUTABLE):
        return True
    return _is_frozen_dataclass(kind, seen | {kind})


def _is_frozen_dataclass(kind: type, seen: frozenset[Any]) -> bool:
    if not dataclasses.is_dataclass(kind) or not kind.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        return False
    try:
        hints = typing.get_type_hints(kind)
    except (NameError, TypeError):  # a name that only type checkers see: play safe
        return False
    return all(_is_immutable(hints[f.name], seen) for f in dataclasses.fields(kind))
