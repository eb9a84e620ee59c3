"""Forms of list, tuple, set, frozenset and dict: exact classes, parts written one by one.

An array stands for each, a map for a dict whose keys msgpack can have as keys; a dict with other
keys (tuples, for one) is an array of pairs. Next to read: ``unions.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from perdure.codec.forms import Form, FormOf, refuse
from perdure.codec.scalars import Refused
from perdure.codec.wire import pack

__all__ = ["dict_form", "list_form", "set_form", "tuple_form"]


def _numbered(inner: Form) -> Callable[[Any], Iterable[tuple[str, Form, Any]]]:
    def parts(values: Any) -> Iterable[tuple[str, Form, Any]]:
        if not isinstance(values, list | tuple | set | frozenset):
            return ()
        return ((f"[{i}]", inner, value) for i, value in enumerate(values))

    return parts


def list_form(arguments: tuple[Any, ...], form_of: FormOf) -> Form:
    """``list[T]``; a bare ``list`` holds plain values."""
    inner = form_of(arguments[0] if arguments else Any)
    write, read = inner.out, inner.into

    def out(value: Any) -> Any:
        if value.__class__ is list:
            return [write(x) for x in value]
        raise refuse("list", value)

    def into(wire: Any, _: object = None) -> Any:
        if wire.__class__ is list:
            return [read(x) for x in wire]
        raise refuse("list", wire)

    parts = _numbered(inner)
    return Form("list", out, into, frozenset({list}), parts_out=parts, parts_in=parts)


def set_form(
    cls: type[set[Any]] | type[frozenset[Any]], arguments: tuple[Any, ...], form_of: FormOf
) -> Form:
    """``set[T]`` or ``frozenset[T]``, written in the order of the elements' bytes.

    Python's own order differs between processes; equal sets have equal bytes here.
    """
    inner = form_of(arguments[0] if arguments else Any)
    write, read = inner.out, inner.into

    def out(value: Any) -> Any:
        if value.__class__ is cls:
            return sorted([write(x) for x in value], key=pack)
        raise refuse(cls.__name__, value)

    def into(wire: Any, _: object = None) -> Any:
        if wire.__class__ is list:
            return cls([read(x) for x in wire])
        raise refuse(f"an array for a {cls.__name__}", wire)

    parts = _numbered(inner)
    return Form(cls.__name__, out, into, frozenset({cls}), parts_out=parts, parts_in=parts)


def tuple_form(arguments: tuple[Any, ...], form_of: FormOf) -> Form:
    """``tuple[T, ...]`` or ``tuple[A, B]``; a bare ``tuple`` holds any number of plain values."""
    if not arguments:
        arguments = (Any, ...)
    if len(arguments) == 2 and arguments[1] is ...:
        return _variadic_tuple_form(form_of(arguments[0]))
    if arguments == ((),):
        arguments = ()
    inner = [form_of(argument) for argument in arguments]
    writers = [form.out for form in inner]
    readers = [form.into for form in inner]
    expected = f"tuple of {len(inner)}"

    def out(value: Any) -> Any:
        if value.__class__ is tuple and len(value) == len(writers):
            return [write(x) for write, x in zip(writers, value, strict=True)]
        raise refuse(expected, value)

    def into(wire: Any, _: object = None) -> Any:
        if wire.__class__ is list and len(wire) == len(readers):
            return tuple([read(x) for read, x in zip(readers, wire, strict=True)])
        raise refuse(f"an array for a {expected}", wire)

    def parts(value: Any) -> Iterable[tuple[str, Form, Any]]:
        if not isinstance(value, list | tuple) or len(value) != len(inner):
            return ()
        return ((f"[{i}]", form, x) for i, (form, x) in enumerate(zip(inner, value, strict=True)))

    return Form("tuple", out, into, frozenset({tuple}), parts_out=parts, parts_in=parts)


def _variadic_tuple_form(inner: Form) -> Form:
    write, read = inner.out, inner.into

    def out(value: Any) -> Any:
        if value.__class__ is tuple:
            return [write(x) for x in value]
        raise refuse("tuple", value)

    def into(wire: Any, _: object = None) -> Any:
        if wire.__class__ is list:
            return tuple([read(x) for x in wire])
        raise refuse("an array for a tuple", wire)

    parts = _numbered(inner)
    return Form("tuple", out, into, frozenset({tuple}), parts_out=parts, parts_in=parts)


def dict_form(arguments: tuple[Any, ...], form_of: FormOf) -> Form:
    """``dict[K, V]``; a bare ``dict`` has plain keys and values."""
    if not arguments:
        return _only_dict(form_of(Any))
    key, value = form_of(arguments[0]), form_of(arguments[1])
    return _map_form(key, value) if key.keyed or not key.kinds else _pairs_form(key, value)


def _only_dict(plain: Form) -> Form:
    return _map_form(plain, plain)


def _dict_parts(key: Form, value: Form) -> Callable[[Any], Iterable[tuple[str, Form, Any]]]:
    def parts(given: Any) -> Iterable[tuple[str, Form, Any]]:
        if given.__class__ is not dict:
            return
        for name, inner in given.items():
            yield ".keys()", key, name
            yield f"[{name!r}]", value, inner

    return parts


def _map_form(key: Form, value: Form) -> Form:
    write_key, write, read_key, read = key.out, value.out, key.into, value.into

    def out(given: Any) -> Any:
        if given.__class__ is dict:
            return {write_key(k): write(v) for k, v in given.items()}
        raise refuse("dict", given)

    def into(wire: Any, _: object = None) -> Any:
        if wire.__class__ is dict:
            return {read_key(k): read(v) for k, v in wire.items()}
        raise refuse("dict", wire)

    parts = _dict_parts(key, value)
    return Form("dict", out, into, frozenset({dict}), parts_out=parts, parts_in=parts)


def _pairs_form(key: Form, value: Form) -> Form:
    write_key, write, read_key, read = key.out, value.out, key.into, value.into

    def out(given: Any) -> Any:
        if given.__class__ is dict:
            return [[write_key(k), write(v)] for k, v in given.items()]
        raise refuse("dict", given)

    def into(wire: Any, _: object = None) -> Any:
        if wire.__class__ is not list:
            raise refuse("an array of pairs for a dict", wire)
        made = {read_key(k): read(v) for k, v in wire}
        if len(made) != len(wire):
            raise Refused("one key is there twice")
        return made

    def parts_in(wire: Any) -> Iterable[tuple[str, Form, Any]]:
        if wire.__class__ is not list:
            return
        for i, pair in enumerate(wire):
            if pair.__class__ is list and len(pair) == 2:
                yield f"[{i}][0]", key, pair[0]
                yield f"[{i}][1]", value, pair[1]

    parts_out = _dict_parts(key, value)
    return Form("dict", out, into, frozenset({dict}), parts_out=parts_out, parts_in=parts_in)
