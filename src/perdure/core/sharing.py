"""Which values may be handed on as they are, since nobody can change them.

A class says so by its declaration (``saga.is_immutable``); a field annotated ``AnyMessage`` says
nothing, and there the value that it holds is looked at. Next to read: ``outgoing.py``.
"""

from __future__ import annotations

import dataclasses
import typing
from typing import Any

from perdure.core.saga import is_immutable
from perdure.messages import AnyMessage

__all__ = ["Sharing"]


class Sharing:
    """Remembers its answers by class.

    >>> Sharing().may_share(OrderPlaced("o-1", 100))         # a frozen dataclass of str and int
    True
    """

    def __init__(self) -> None:
        self._open: dict[type, tuple[str, ...] | None] = {}

    def may_share(self, value: Any) -> bool:
        """No part of the value can be changed in place."""
        kind = type(value)
        try:
            names = self._open[kind]
        except KeyError:
            names = self._open[kind] = _open_fields(kind)
        for name in names or ():
            if not self.may_share(getattr(value, name)):
                return False
        return names is not None


def _open_fields(kind: type) -> tuple[str, ...] | None:
    """The fields that may hold any message; None if others may be changed."""
    if is_immutable(kind):
        return ()
    if not dataclasses.is_dataclass(kind) or not kind.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        return None
    try:
        hints = typing.get_type_hints(kind)
    except (NameError, TypeError):
        return None
    names = [one.name for one in dataclasses.fields(kind) if _is_any(hints[one.name])]
    others = [one.name for one in dataclasses.fields(kind) if one.name not in names]
    return tuple(names) if all(is_immutable(hints[name]) for name in others) else None


def _is_any(hint: Any) -> bool:
    return hint is AnyMessage or AnyMessage in typing.get_args(hint)
