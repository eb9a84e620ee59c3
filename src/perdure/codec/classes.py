"""Forms of dataclasses and attrs classes: a map from field name to the field's form.

cattrs generates the two functions of a class, from forms instead of from its own hooks. A field
with ``init=False`` is written, and set after construction. Next to read: ``converter.py``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import InitVar
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import attrs
from cattrs import Converter
from cattrs.gen import make_dict_structure_fn_from_attrs, make_dict_unstructure_fn_from_attrs

from perdure.codec.forms import Form, FormOf, refuse
from perdure.codec.scalars import Refused

__all__ = ["OtherFields", "class_form", "is_record"]


class OtherFields(Exception):
    """A stored map has other fields than its class, whose form is exact."""


def is_record(cls: Any) -> bool:
    """Whether fields are declared on the class, by dataclass or attrs."""
    return isinstance(cls, type) and (dataclasses.is_dataclass(cls) or attrs.has(cls))


class _Forms(Converter):
    """To cattrs' generators, a converter; the type they see of a field is the field's form."""

    def get_unstructure_hook(self, type: Any, cache_result: bool = True) -> Callable[[Any], Any]:
        return type.out  # type: ignore[no-any-return]

    def get_structure_hook(self, type: Any, cache_result: bool = True) -> Callable[..., Any]:
        return type.into  # type: ignore[no-any-return]


_FORMS = _Forms(detailed_validation=False)


@attrs.define
class _Blank:
    field: int


_BLANK = attrs.fields(_Blank).field


def class_form(
    annotation: Any, tag: str, form_of: FormOf, form: Form, *, is_exact: bool = False
) -> Form:
    """Fill in ``form``, which fields of the same class may refer to already; returns it.

    ``is_exact``: what is read must have all fields and no others, else ``OtherFields`` is raised.
    """
    cls = get_origin(annotation) or annotation
    fields = _fields(cls, _hints(annotation), form_of)
    # The forms hold the arguments of a generic class already; cattrs wants a name for each.
    arguments = {one.__name__: one for one in getattr(cls, "__parameters__", ())}
    write = make_dict_unstructure_fn_from_attrs(
        fields, cls, _FORMS, arguments, _cattrs_include_init_false=True, _cattrs_use_linecache=False
    )
    read = make_dict_structure_fn_from_attrs(
        [field for field in fields if field.init],
        cls,
        _FORMS,
        arguments,
        _cattrs_forbid_extra_keys=False,
        _cattrs_detailed_validation=False,
        _cattrs_use_linecache=False,
    )
    late = [(field.name, field.type) for field in fields if not field.init]
    form.tag, form.kinds = tag, frozenset({cls})
    form.out, into = _checked(cls, tag, write, _setting(read, late) if late else read)
    form.into = _exactly(tag, frozenset(one.name for one in fields), into) if is_exact else into
    form.parts_out, form.parts_in = _parts(fields)
    return form


def _checked(
    cls: type, tag: str, write: Callable[[Any], Any], read: Callable[..., Any]
) -> tuple[Callable[[Any], Any], Callable[..., Any]]:
    def out(value: Any) -> Any:
        if value.__class__ is cls:
            return write(value)
        raise refuse(tag, value)

    def into(wire: Any, _: object = None) -> Any:
        if wire.__class__ is dict:
            return read(wire)
        raise refuse(f"a map for {tag}", wire)

    return out, into


def _exactly(tag: str, names: frozenset[str], into: Callable[..., Any]) -> Callable[..., Any]:
    def exactly(wire: Any, _: object = None) -> Any:
        if wire.__class__ is dict and wire.keys() != names:
            others = ", ".join(sorted(map(repr, wire.keys() ^ names)))
            raise OtherFields(f"{tag} is written with other fields than this code has: {others}")
        return into(wire)

    return exactly


def _setting(read: Callable[..., Any], late: list[tuple[str, Any]]) -> Callable[..., Any]:
    """Also set the fields that are no arguments of the constructor; frozen classes included."""

    def into(wire: Any) -> Any:
        made = read(wire)
        for name, form in late:
            if name in wire:
                object.__setattr__(made, name, form.into(wire[name]))
        return made

    return into


_Parts = Callable[[Any], Iterable[tuple[str, Form, Any]]]


def _parts(fields: list[attrs.Attribute[Any]]) -> tuple[_Parts, _Parts]:
    def parts_out(value: Any) -> Iterable[tuple[str, Form, Any]]:
        for field in fields:
            if hasattr(value, field.name):
                yield f".{field.name}", _form(field), getattr(value, field.name)

    def parts_in(wire: Any) -> Iterable[tuple[str, Form, Any]]:
        if wire.__class__ is not dict:
            return
        for field in fields:
            if field.name in wire:
                yield f".{field.name}", _form(field), wire[field.name]
            elif field.init and field.default is attrs.NOTHING:
                raise Refused(
                    f"field {field.name!r} is missing", "give it a value, or the field a default"
                )

    return parts_out, parts_in


def _form(field: attrs.Attribute[Any]) -> Form:
    form: Any = field.type
    assert isinstance(form, Form)
    return form


def _fields(cls: Any, hints: dict[str, Any], form_of: FormOf) -> list[attrs.Attribute[Any]]:
    if attrs.has(cls):
        found = list(attrs.fields(cls))
    else:
        _refuse_init_only(hints)
        found = [_attribute(field) for field in dataclasses.fields(cls)]
    typed = []
    for field in found:
        try:
            form: Any = form_of(hints.get(field.name, Any))
        except Refused as error:
            raise Refused(f"field {field.name!r}: {error.reason}", error.remedy) from error
        typed.append(field.evolve(type=form))
    return typed


def _refuse_init_only(hints: dict[str, Any]) -> None:
    for name, hint in hints.items():
        if isinstance(hint, InitVar) or hint is InitVar:
            raise Refused(f"field {name!r} is an InitVar, which is not kept", "make it a field")


def _attribute(field: dataclasses.Field[Any]) -> attrs.Attribute[Any]:
    default: Any = attrs.NOTHING
    if field.default is not dataclasses.MISSING:
        default = field.default
    elif field.default_factory is not dataclasses.MISSING:
        default = attrs.Factory(field.default_factory)
    return _BLANK.evolve(
        name=field.name,
        alias=field.name,
        init=field.init,
        kw_only=field.kw_only,
        default=default,
    )


def _hints(annotation: Any) -> dict[str, Any]:
    """The fields' annotations, with the arguments of a generic class put in."""
    cls: Any = get_origin(annotation) or annotation
    try:
        hints = get_type_hints(cls, include_extras=True)
    except Exception as error:
        raise Refused(
            f"the annotations of {cls.__name__} cannot be resolved: {error}",
            "define the types they name at module level",
        ) from error
    given = dict(zip(getattr(cls, "__parameters__", ()), get_args(annotation), strict=False))
    return {name: _with_arguments(hint, given) for name, hint in hints.items()}


def _with_arguments(hint: Any, given: dict[Any, Any]) -> Any:
    if isinstance(hint, TypeVar):
        return given.get(hint, Any)
    parameters = getattr(hint, "__parameters__", ())
    if not parameters or get_origin(hint) is None:
        return hint
    return hint[tuple(given.get(parameter, Any) for parameter in parameters)]
