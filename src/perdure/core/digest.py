"""The digest of a message: a short text that only this very value has. Pure.

    digest_of(PayInvoice("i-7", Decimal("99.50")))      # 64 hexadecimal digits

What is approved is named by its digest, so that a decision cannot fall on something else than was
shown. The value is written out so that nothing is ambiguous: each part with its type and its
length, fields by their names, dicts and sets in the order of what their parts are written as; that
is hashed. It does not depend on the process, the import path or the order of the fields.

Digests are stored: how a value is written out must never change. Next to read: ``decision.py``.
"""

from __future__ import annotations

import dataclasses
import hashlib
import struct
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from types import NoneType
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from perdure.errors import EncodeError, LimitExceeded, NaiveDatetime
from perdure.messages import ExternalEvent, TypeInfo, type_info_of

__all__ = ["digest_of"]


def digest_of(subject: Any) -> str:
    """The SHA-256, in hexadecimal, of a message or any dataclass object, parts and all.

        digest_of(Pay(Decimal("1.0"))) != digest_of(Pay(Decimal("1.00")))

    Values have the same digest only if they are of the same type (its stable name and version, see
    ``@message``) and equal in every part, also in the parts' types: True is not 1, a date in one
    time zone not the same moment in another. What the codec gives back has the digest of what it
    was given.

    Raises ``EncodeError`` for what is no message or could not be stored, ``NaiveDatetime`` for a
    datetime without time zone, ``LimitExceeded`` for a value that contains itself.
    """
    if _fields_of(type(subject)) is None:
        raise EncodeError(
            f"{subject!r} is no message: there is nothing to approve",
            remedy="give an object of a @message class",
        )
    try:
        return hashlib.sha256(_written(subject)).hexdigest()
    except RecursionError:
        raise LimitExceeded(
            f"{type(subject).__name__}: contains itself, or is nested too deeply"
        ) from None


def _node(tag: str, *parts: bytes) -> bytes:
    """One value: its kind, and its parts, each after its length."""
    return b"%s;%s" % (tag.encode(), b"".join(b"%d:%s" % (len(part), part) for part in parts))


def _written(value: Any) -> bytes:
    kind = type(value)
    write = _PLAIN.get(kind)
    if write is not None:
        return _node(kind.__name__, write(value))
    if kind is list or kind is tuple:
        return _node(kind.__name__, *map(_written, value))
    if kind is set or kind is frozenset:
        return _node(kind.__name__, *sorted(map(_written, value)))
    if kind is dict:
        return _node("dict", *_pairs(value))
    if isinstance(value, Enum):
        return _node("enum", _name_of(kind).name.encode(), _written(value.value))
    if kind is ExternalEvent:
        return _node(
            "external", _text(value.type), b"%d" % value.version, _written(dict(value.data))
        )
    names = _fields_of(kind)
    if names is None:
        raise EncodeError(
            f"a {kind.__name__} has no digest", remedy="use one of the types that can be stored"
        )
    info = _name_of(kind)
    fields = [(_text(name), _written(getattr(value, name))) for name in sorted(names)]
    return _node(
        "class", _text(info.name), b"%d" % info.version, *(part for pair in fields for part in pair)
    )


def _pairs(value: dict[Any, Any]) -> list[bytes]:
    pairs = sorted((_written(key), _written(inner)) for key, inner in value.items())
    return [part for pair in pairs for part in pair]


def _name_of(kind: type) -> TypeInfo:
    """As the codec names it: by ``@message``, else by the class's own name, never its module."""
    return type_info_of(kind) or TypeInfo(kind, kind.__name__)


def _fields_of(kind: type) -> list[str] | None:
    """The names of the fields of a dataclass or an attrs class; None for any other class."""
    if dataclasses.is_dataclass(kind):
        return [field.name for field in dataclasses.fields(kind)]
    declared = getattr(kind, "__attrs_attrs__", None)
    return None if declared is None else [attribute.name for attribute in declared]


def _text(value: str) -> bytes:
    try:
        return value.encode()
    except UnicodeEncodeError:
        raise EncodeError(
            "the text holds a lone surrogate, which UTF-8 cannot encode", remedy="clean it first"
        ) from None


def _time(value: time) -> bytes:
    if value.tzinfo is not None:
        raise EncodeError("a time with a zone", remedy="use a datetime, or a time without zone")
    return b"%s %d" % (value.isoformat().encode(), value.fold)


def _datetime(value: datetime) -> bytes:
    zone, offset = value.tzinfo, value.utcoffset()
    if offset is None:
        raise NaiveDatetime(f"the datetime {value} without time zone", remedy="give it a tzinfo")
    key = "" if type(zone) is timezone else getattr(zone, "key", None)
    if key is None or type(zone) not in (timezone, ZoneInfo):
        raise EncodeError(
            f"a datetime whose zone is a {type(zone).__name__}",
            remedy="use zoneinfo.ZoneInfo with a key, or datetime.timezone",
        )
    wall = value.replace(tzinfo=None).isoformat()
    return f"{wall} {value.fold} {_timedelta(offset).decode()} {key}".encode()


def _timedelta(value: timedelta) -> bytes:
    return b"%d %d %d" % (value.days, value.seconds, value.microseconds)


_PLAIN: dict[type, Callable[[Any], bytes]] = {
    NoneType: lambda value: b"",
    bool: lambda value: b"%d" % value,
    int: lambda value: hex(value).encode(),  # decimal digits are limited in number, and slow
    float: lambda value: struct.pack(">d", value),
    str: _text,
    bytes: lambda value: value,
    Decimal: lambda value: str(value).encode(),
    UUID: lambda value: value.bytes,
    date: lambda value: value.isoformat().encode(),
    time: _time,
    datetime: _datetime,
    timedelta: _timedelta,
}
"""What a value without parts is written as, by its exact class."""
