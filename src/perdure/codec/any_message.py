"""The form of a field that holds any message: written with its type name and version.

A message is ``[type name, version, fields]``. It is read as the class of that name, brought to its
current version; as ``ExternalEvent`` where no class has the name. What was an ``ExternalEvent``
when it was written has a fourth element, True, and is one again, whoever has the name by then: it
may be what nobody could read. This module knows no registry: whoever makes the form finds the
classes. Next to read: ``codec.py``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from perdure.codec.forms import Form, plain_out, refuse
from perdure.codec.scalars import Refused
from perdure.codec.upcast import upcast
from perdure.errors import EncodeError, PerdureError
from perdure.messages import ExternalEvent, TypeInfo

__all__ = ["ClassOf", "NameOf", "any_message_form"]

ClassOf = Callable[[type], tuple[TypeInfo, Form]]
"""The entry and the form of a value's class; raises ``CodecError`` or ``DefinitionError``."""
NameOf = Callable[[str], tuple[TypeInfo, Form] | None]
"""The same of a type name, None if no class has it."""

# The class of no value: `kinds` may not be empty, which would mean that plain values are meant.
_KINDS = frozenset({object})


def any_message_form(
    class_of: ClassOf, name_of: NameOf, from_mapping: Callable[[Any], Any] | None
) -> Form:
    """The form of ``AnyMessage``; with ``from_mapping``, read as an event from outside is."""
    written = _Written(class_of, name_of)
    if from_mapping is not None:

        def into(wire: Any, _: object = None) -> Any:
            return _refusing(from_mapping, wire)

        return Form("AnyMessage", written.out, into, _KINDS, alone=True)
    return Form(
        "AnyMessage",
        written.out,
        written.into,
        _KINDS,
        alone=True,
        parts_out=written.parts_out,
        parts_in=written.parts_in,
    )


class _Written:
    """Both directions, and where in a message it went wrong."""

    def __init__(self, class_of: ClassOf, name_of: NameOf) -> None:
        self.class_of = class_of
        self.name_of = name_of
        self._known: dict[type, tuple[str, int, Callable[[Any], Any]]] = {}

    def out(self, value: Any) -> list[Any]:
        kind = value.__class__
        known = self._known.get(kind)
        if known is None:
            if kind is ExternalEvent:
                return _external_out(value)
            info, form = _refusing(self.class_of, kind)
            known = self._known[kind] = (info.name, info.version, form.out)
        name, version, out = known
        return [name, version, out(value)]

    def into(self, wire: Any, _: object = None) -> Any:
        name, version, fields, is_external = _envelope(wire)
        found = None if is_external else _refusing(self.name_of, name)
        if found is None:
            return ExternalEvent(name, fields, version)
        return found[1].into(_current(found[0], version, fields))

    def parts_out(self, value: Any) -> Iterable[tuple[str, Form, Any]]:
        if value.__class__ is not ExternalEvent:
            info, form = _refusing(self.class_of, value.__class__)
            yield f"({info.name})", form, value

    def parts_in(self, wire: Any) -> Iterable[tuple[str, Form, Any]]:
        name, version, fields, is_external = _envelope(wire)
        found = None if is_external else _refusing(self.name_of, name)
        if found is not None:
            yield f"({name})", found[1], _current(found[0], version, fields)


def _external_out(event: ExternalEvent) -> list[Any]:
    if event.type.__class__ is not str or event.version.__class__ is not int:
        raise refuse("a type name and a version", event)
    if not isinstance(event.data, Mapping):
        raise refuse(f"a mapping as the data of {event.type}", event.data)
    return [event.type, event.version, plain_out(dict(event.data)), True]


def _envelope(wire: Any) -> tuple[str, int, dict[Any, Any], bool]:
    kinds = [part.__class__ for part in wire] if wire.__class__ is list else []
    if kinds[:3] != [str, int, dict] or (len(kinds) > 3 and wire[3:] != [True]):
        raise Refused("expected a message as type name, version and fields")
    return wire[0], wire[1], wire[2], len(kinds) == 4


def _current(info: TypeInfo, version: int, fields: dict[str, Any]) -> dict[str, Any]:
    """The fields as the class has them now; a copy if upcasters, which may change them, ran."""
    if version == info.version:
        return fields
    current: dict[str, Any] = _refusing(partial(upcast, info, version), copy.deepcopy(fields))
    return current


def _refusing(find: Callable[[Any], Any], what: Any) -> Any:
    """``find(what)``, its public error as a refusal, so that the codec adds the path to here."""
    try:
        return find(what)
    except PerdureError as error:
        raise _refused(error) from error


def _refused(error: PerdureError) -> Refused:
    kind = type(error) if isinstance(error, EncodeError) else EncodeError
    return Refused(error.problem, error.remedy, kind)
