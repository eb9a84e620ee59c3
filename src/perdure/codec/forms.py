"""A form: how the values of one annotation are written and read, both directions side by side.

``out`` turns a value into wire objects (what ``wire.pack`` takes), ``into`` turns the objects that
``wire.unpack`` gave back into the value. Both refuse what does not fit exactly: a wrong type is
found at its sender. This module has the forms without parts, and of plain values; it knows no
classes and no bytes. Next to read: ``containers.py``, ``unions.py``, ``classes.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from types import NoneType
from typing import Any

from perdure.codec.scalars import SCALARS_FROM_TEXT, SCALARS_OUT, Refused
from perdure.codec.wire import ext

__all__ = [
    "ATOMS",
    "Form",
    "FormOf",
    "any_form",
    "atom_form",
    "enum_form",
    "literal_form",
    "name_of",
    "plain_out",
    "refuse",
    "scalar_form",
]

ATOMS = frozenset({NoneType, bool, int, float, str, bytes})
NO_KINDS: frozenset[type] = frozenset()


def no_parts(_: Any) -> Iterable[tuple[str, Form, Any]]:
    return ()


@dataclass(slots=True, eq=False)
class Form:
    """How one annotation's values are written and read.

    ``into`` takes and ignores a second argument, which generated code passes. ``kinds`` are the
    exact classes of its values, empty for any. ``telling``: the wire object's class alone tells
    which kind it is, so a union needs no tag. ``keyed``: its wire objects can be keys of a map.
    ``wraps_none``: a wire None may stand for one of its values. ``alone``: a union may have nothing
    but None beside it. ``tag`` names it in a union. The ``parts`` list (label, form, value) of what
    a value, or a wire object, consists of: to find the guilty one after a failure.
    """

    tag: str
    out: Callable[[Any], Any]
    into: Callable[..., Any]
    kinds: frozenset[type]
    telling: bool = False
    keyed: bool = False
    wraps_none: bool = False
    alone: bool = False
    parts_out: Callable[[Any], Iterable[tuple[str, Form, Any]]] = no_parts
    parts_in: Callable[[Any], Iterable[tuple[str, Form, Any]]] = no_parts


FormOf = Callable[[Any], Form]
"""The form of an annotation; raises ``Refused`` for one whose values would not come back."""


def name_of(value: Any) -> str:
    return "None" if value is None else type(value).__name__


def refuse(expected: str, value: Any) -> Refused:
    return Refused(f"expected {expected}, got {name_of(value)}")


def atom_form(cls: type) -> Form:
    """None, bool, int, float, str or bytes, by exact class; an int passes for a float."""

    def exact(value: Any, _: object = None) -> Any:
        if value.__class__ is cls:
            return value
        raise refuse(tag, value)

    def number(value: Any, _: object = None) -> Any:
        if value.__class__ is float or value.__class__ is int:
            return value
        raise refuse(tag, value)

    tag = "None" if cls is NoneType else cls.__name__
    check = number if cls is float else exact
    kinds = frozenset({float, int}) if cls is float else frozenset({cls})
    none = cls is NoneType
    return Form(tag, check, check, kinds, telling=True, keyed=True, wraps_none=none)


def scalar_form(cls: type, *, from_text: bool) -> Form:
    """UUID, Decimal, date, time, datetime or timedelta; from outside also as text."""
    (code, payload), parse = SCALARS_OUT[cls], SCALARS_FROM_TEXT[cls]
    tag = cls.__name__

    def out(value: Any) -> Any:
        if value.__class__ is cls:
            return ext((code, payload(value)))
        raise refuse(tag, value)

    def into(wire: Any, _: object = None) -> Any:
        if wire.__class__ is cls:
            return wire
        raise refuse(tag, wire)

    def into_text(wire: Any, _: object = None) -> Any:
        value = wire if wire.__class__ is cls else parse(wire)
        if value is None:
            raise refuse(tag, wire)
        return value

    reader = into_text if from_text else into
    return Form(tag, out, reader, frozenset({cls}), telling=True, keyed=True)


def plain_out(value: Any) -> Any:
    """Wire objects of a value in an undeclared position: what comes back without its type."""
    kind = value.__class__
    if kind in ATOMS:
        return value
    if kind is dict:
        return {plain_out(key): plain_out(inner) for key, inner in value.items()}
    if kind is list:
        return [plain_out(inner) for inner in value]
    scalar = SCALARS_OUT.get(kind)
    if scalar is None:
        raise Refused(
            f"a {name_of(value)} would not come back as one from here", "declare the field's type"
        )
    code, payload = scalar
    return ext((code, payload(value)))


def any_form(*, from_outside: bool) -> Form:
    """Plain values: None, bool, int, float, str, bytes, the scalars, list and dict of these."""

    def into(wire: Any, _: object = None) -> Any:
        return wire

    def into_checked(wire: Any, _: object = None) -> Any:
        plain_out(wire)
        return wire

    def parts(value: Any) -> Iterable[tuple[str, Form, Any]]:
        if value.__class__ is list:
            return ((f"[{i}]", form, inner) for i, inner in enumerate(value))
        if value.__class__ is dict:
            keys = ((".keys()", form, key) for key in value)
            return (*keys, *((f"[{key!r}]", form, inner) for key, inner in value.items()))
        return ()

    reader = into_checked if from_outside else into
    form = Form("Any", plain_out, reader, NO_KINDS, parts_out=parts, parts_in=parts)
    return form


def enum_form(cls: type[Enum]) -> Form:
    """An enum by its value; flags may be combined."""
    table: dict[Any, Enum] = {}
    for member in cls.__members__.values():
        if member.value.__class__ not in ATOMS and member.value.__class__ not in SCALARS_OUT:
            raise Refused(
                f"{cls.__name__}.{member.name} has a {name_of(member.value)} as value",
                "give the enum's members numbers or text as values",
            )
        table[member.value] = member
    atoms = all(value.__class__ in ATOMS for value in table)

    def out(value: Any) -> Any:
        if value.__class__ is cls:
            return value._value_ if atoms else plain_out(value._value_)
        raise refuse(cls.__name__, value)

    def into(wire: Any, _: object = None) -> Any:
        member = table.get(wire)
        if member is None:
            member = cls(wire)  # a combination of flags, or the error that says what is wrong
        if member._value_.__class__ is not wire.__class__:
            raise refuse(cls.__name__, wire)
        return member

    return Form(cls.__name__, out, into, frozenset({cls}), keyed=True, wraps_none=None in table)


def literal_form(values: tuple[Any, ...]) -> Form:
    """One of the given values; True is not 1 here, and an enum's member is not its value."""
    written: dict[tuple[type, Any], Any] = {}
    read: dict[tuple[type, Any], Any] = {}
    for value in values:
        wire = value.value if isinstance(value, Enum) else value
        if read.setdefault((wire.__class__, wire), value) is not value:
            raise Refused(f"two values of a Literal are both stored as {wire!r}")
        written[value.__class__, value] = wire
    expected = " or ".join(repr(value) for value in values)

    def out(value: Any) -> Any:
        try:
            return written[value.__class__, value]
        except (KeyError, TypeError):
            raise refuse(expected, value) from None

    def into(wire: Any, _: object = None) -> Any:
        try:
            return read[wire.__class__, wire]
        except (KeyError, TypeError):
            raise refuse(expected, wire) from None

    kinds = frozenset(value.__class__ for value in values)
    return Form(
        "Literal",
        out,
        into,
        kinds,
        telling=kinds <= ATOMS,
        keyed=True,
        wraps_none=(NoneType, None) in read,
    )
