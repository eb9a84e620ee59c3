"""How message types and the values of a status are called. Next to read: ``describe.py``."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterable
from enum import Enum
from typing import Any, Literal

from perdure.core.correlation import VerdictKind
from perdure.messages import type_info_of

__all__ = ["ROLES", "named", "names", "status_name", "statuses_of", "summary"]

ROLES = {VerdictKind.START: "starts", VerdictKind.CONTINUE: "continues", VerdictKind.STOP: "stops"}
"""What a message does to its instance."""


def named(kind: type | str) -> str:
    """The name a message type is stored under; of a class that has none, its own."""
    if isinstance(kind, str):
        return kind
    info = type_info_of(kind)
    return kind.__name__ if info is None else info.name


def names(kinds: Iterable[type | str]) -> tuple[str, ...]:
    """Those of several."""
    return tuple(map(named, kinds))


def summary(one: object) -> str:
    """The first line of a docstring, not of the one that a dataclass makes itself."""
    text = (getattr(one, "__doc__", None) or "").strip().partition("\n")[0]
    return "" if text.startswith(f"{getattr(one, '__name__', '')}(") else text


def status_name(status: object) -> str:
    """A status, which may be a member of an Enum."""
    return str(status.value) if isinstance(status, Enum) else str(status)


def statuses_of(state: type) -> tuple[str, ...] | None:
    """What ``state.status`` may be, as its annotation says: None if it does not, () if it is not.

    >>> class Order:
    ...     status: Literal["new", "paid"] = "new"
    >>> statuses_of(Order)
    ('new', 'paid')
    """
    try:
        hints = typing.get_type_hints(state)
    except Exception:  # a name that only type checkers see
        return None
    if "status" in hints:
        found = _values(hints["status"])
        return None if found is None else tuple(map(status_name, found))
    known = {field.name for field in dataclasses.fields(state)} if _is_data(state) else set()
    is_there = "status" in known or hasattr(state, "status") or hasattr(state, "__getattr__")
    return None if is_there else ()


def _is_data(state: type) -> bool:
    return dataclasses.is_dataclass(state)


def _values(hint: Any) -> list[Any] | None:
    """All values of a type, None if they cannot be counted up."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return list(arguments)
    if origin in (typing.Union, types.UnionType):
        parts = [_values(one) for one in arguments]
        return None if None in parts else [value for part in parts for value in part or ()]
    if hint is types.NoneType:
        return []
    return list(hint) if isinstance(hint, type) and issubclass(hint, Enum) else None
