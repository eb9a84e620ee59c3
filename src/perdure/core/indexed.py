"""Fields by which instances are found: how they are declared, and what they are at a moment.

    @dataclass(frozen=True)
    class OrderState:
        customer_id: Indexed[str] = ""
        amount: Indexed[int | None] = None

For the type checker, and for whoever stores the state, the field is of the type inside. Its value
is kept beside the instance in the commit of each turn that changes it. Next to read:
``index_key.py``, how a value is kept; ``runtime/looking/finding.py``, how it is asked for.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from operator import attrgetter
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

from perdure.core.commit import Fields
from perdure.core.index_key import KINDS, index_key
from perdure.errors import DefinitionError, EncodeError

__all__ = ["Indexed", "IndexedField", "fields_known", "fields_of", "indexed_fields"]

T = TypeVar("T")


class _Mark:
    """Tells an indexed field from others."""

    def __repr__(self) -> str:
        return "Indexed"


_MARK = _Mark()

Indexed: TypeAlias = Annotated[T, _MARK]
"""Instances can be found by this field: ``customer_id: Indexed[str] = ""``.

``T`` is str, int, bool, Decimal, datetime, date, UUID, or an Enum of texts or of numbers, or one of
them ``| None``. See ``Runtime.find``.
"""


@dataclass(frozen=True, slots=True)
class IndexedField:
    """A field of a saga's state; ``get`` takes it out of one, ``kinds`` are the types it holds."""

    name: str
    get: Callable[[Any], Any]
    kinds: tuple[type, ...]


def fields_of(indexed: Iterable[IndexedField], state: Any) -> Fields:
    """The indexed fields of a state, as they are stored. Raises ``EncodeError``."""
    found = []
    for field in indexed:
        try:
            found.append((field.name, index_key(field.get(state))))
        except EncodeError as error:
            error.problem = f"indexed field {field.name!r}: {error.problem}"
            raise
    return tuple(found)


def fields_known(indexed: Iterable[IndexedField], state: Any) -> Fields | None:
    """The same, or None where the state of an older code has something else there."""
    try:
        return fields_of(indexed, state)
    except EncodeError:
        return None


def indexed_fields(
    saga: str, holder: type, getter: Callable[[str], Callable[[Any], Any]] = attrgetter
) -> tuple[IndexedField, ...]:
    """The fields of a dataclass that are declared as ``Indexed``, by name.

    ``getter(name)`` gives the function that takes one out of the saga's state. Raises
    ``DefinitionError`` for a type that cannot be indexed.
    """
    try:
        hints = typing.get_type_hints(holder, include_extras=True)
    except Exception:
        return ()  # whoever stores the state says what is wrong
    names = [field.name for field in fields(holder)] if is_dataclass(holder) else list(hints)
    found = []
    for name in sorted(name for name in names if _is_marked(hints.get(name))):
        kinds = _kinds_of(_unmarked(hints[name]))
        if kinds is None:
            raise DefinitionError(
                f"field {name!r} of {holder.__name__} cannot be indexed: {hints[name]}",
                saga=saga,
                remedy=f"write Indexed[…] around one of {', '.join(k.__name__ for k in KINDS)}, or "
                "one of them | None; for anything else keep a field of its own beside it",
            )
        found.append(IndexedField(name, getter(name), kinds))
    return tuple(found)


def _is_marked(hint: Any) -> bool:
    """The mark is on it, or anywhere inside."""
    if _MARK in getattr(hint, "__metadata__", ()):
        return True
    return any(_is_marked(part) for part in typing.get_args(hint))


def _unmarked(hint: Any) -> Any:
    return hint.__origin__ if _MARK in getattr(hint, "__metadata__", ()) else hint


def _kinds_of(hint: Any) -> tuple[type, ...] | None:
    """The types of a hint's values without None; None if there is none, or not one kind only."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        parts = [part for part in typing.get_args(hint) if part is not types.NoneType]
        return _kinds_of(_unmarked(parts[0])) if len(parts) == 1 else None
    if origin is Annotated:
        return _kinds_of(typing.get_args(hint)[0])
    if origin is Literal:
        kinds = {type(value) for value in typing.get_args(hint)} - {types.NoneType}
        return tuple(kinds) if len(kinds) == 1 and kinds < set(KINDS) else None
    if isinstance(hint, typing.NewType):
        return _kinds_of(hint.__supertype__)
    if hint in KINDS and hint is not Enum:
        return (hint,)
    if isinstance(hint, type) and issubclass(hint, Enum):
        values = {type(member.value) for member in hint}
        return (hint, *values) if values in ({str}, {int}) else None
    return None
