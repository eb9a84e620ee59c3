"""Values as plain data for people and for JSON: bounded, and safe whatever they are.

    to_plain(OrderPlaced("o-1", Decimal("12.50")))
    # {'$type': 'OrderPlaced', 'order_id': 'o-1', 'amount': '12.50'}

Looks at values and calls no ``repr`` or ``__str__`` of a foreign class. What is left out is said in
its place, with "…". Knows no store. Next to read: ``inspection.py``.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from perdure.messages import ExternalEvent, type_info_of

__all__ = ["Bounds", "to_plain"]

TYPE = "$type"
"""Under this key stands the type name of a message."""


@dataclasses.dataclass(frozen=True, slots=True)
class Bounds:
    """How much of a value is shown: characters of a text, bytes, levels, and elements in all."""

    text: int = 10_000
    bytes: int = 64
    depth: int = 32
    elements: int = 10_000


def to_plain(value: Any, bounds: Bounds = Bounds()) -> Any:
    """The value in dicts, lists, texts, numbers, booleans and None, as ``json.dumps`` takes them.

    A message, or any dataclass, is a dict of its fields, under "$type" the type name of a message.
    Decimals, UUIDs and moments are texts; a duration is its seconds, "90.5 s"; bytes are
    "0x00ff… (1024 bytes)"; an enum is its value; numbers that JSON does not know are "NaN",
    "Infinity" and "-Infinity"; keys are texts. Never raises.
    """
    return _Showing(bounds).plain(value, 0)


class _Showing:
    """One value being shown, and how many elements are left to it."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._left = bounds.elements

    def plain(self, value: Any, depth: int) -> Any:
        self._left -= 1
        try:
            return self._looked_at(value, depth)
        except Exception:  # a subclass of the user's, with a method that raises
            return f"<{type(value).__name__}>"

    def _looked_at(self, value: Any, depth: int) -> Any:
        scalar = self._scalar(value)
        if scalar is not _NONE:
            return scalar
        if depth >= self._bounds.depth:
            return f"… (nested deeper than {self._bounds.depth} levels)"
        if isinstance(value, ExternalEvent):
            return self._mapping(dict(value.data), depth, value.type)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            info = type_info_of(type(value))
            return self._mapping(_fields_of(value), depth, None if info is None else info.name)
        if isinstance(value, Mapping):
            return self._mapping(value, depth, None)
        if isinstance(value, (list, tuple)):
            return self._list(value, len(value), depth)
        if isinstance(value, (set, frozenset)):
            return self._list(value, len(value), depth)
        return f"<{type(value).__name__}>"

    def _scalar(self, value: Any) -> Any:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, Enum):
            found = self._scalar(value.value)
            return value.name if found is _NONE else found
        if isinstance(value, int):
            bits = int.bit_length(value)
            return int.__index__(value) if bits <= 256 else f"a number of {bits} bits"
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else _NOT_FINITE.get(float(value), "NaN")
        if isinstance(value, str):
            return self._text(str.__str__(value))
        if isinstance(value, (bytes, bytearray, memoryview)):
            return self._bytes(bytes(value))
        if isinstance(value, timedelta):
            return f"{value.total_seconds():.15g} s"
        if isinstance(value, (datetime, date, time)):
            return value.isoformat()
        return self._text(str(value)) if type(value) in (Decimal, UUID) else _NONE

    def _text(self, text: str) -> str:
        clean = text.encode("utf-8", "backslashreplace").decode()
        if len(clean) <= self._bounds.text:
            return clean
        return f"{clean[: self._bounds.text]}… ({len(clean)} characters)"

    def _bytes(self, data: bytes) -> str:
        shown = f"0x{data[: self._bounds.bytes].hex()}"
        return shown if len(data) <= self._bounds.bytes else f"{shown}… ({len(data)} bytes)"

    def _mapping(self, value: Mapping[Any, Any], depth: int, type_name: str | None) -> Any:
        found: dict[str, Any] = {} if type_name is None else {TYPE: self._text(type_name)}
        for number, (key, one) in enumerate(value.items()):
            if self._left <= 0:
                found["…"] = f"{len(value) - number} more"
                break
            name = self._key(key)
            if name in found:  # such as 1 beside "1"
                name = f"{name} ({number})"
            found[name] = self.plain(one, depth + 1)
        return found

    def _key(self, key: Any) -> str:
        try:
            plain = self._scalar(key)
        except Exception:
            plain = _NONE
        if isinstance(plain, str):
            return plain
        return f"<{type(key).__name__}>" if plain is _NONE else str(plain)

    def _list(self, values: Iterable[Any], count: int, depth: int) -> list[Any]:
        found: list[Any] = []
        for one in values:
            if self._left <= 0:
                found.append(f"… ({count - len(found)} more)")
                break
            found.append(self.plain(one, depth + 1))
        return found


_NONE: Any = object()
_NOT_FINITE = {math.inf: "Infinity", -math.inf: "-Infinity"}


def _fields_of(value: Any) -> dict[str, Any]:
    """Its fields by name; one that was never set is left out."""
    found = ((one.name, getattr(value, one.name, _NONE)) for one in dataclasses.fields(value))
    return {name: each for name, each in found if each is not _NONE}
