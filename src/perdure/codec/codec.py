"""Messages, states and results to bytes and back: the codec's public face.

A message is a msgpack map of its fields, beside which its type name and version are stored. No
class is ever looked up by anything but a registered name, and no code comes from bytes. This module
knows no journal, store or saga. Next to read: ``converter.py`` for what each annotation means.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple, NoReturn

from perdure.codec.any_message import any_message_form
from perdure.codec.classes import OtherFields, is_record
from perdure.codec.converter import Converter
from perdure.codec.forms import ATOMS, Form, any_form
from perdure.codec.limits import Limits, check_limits
from perdure.codec.registry import TypeRegistry
from perdure.codec.scalars import SCALARS_OUT, Refused, read_ext
from perdure.codec.trace import trace_in, trace_out
from perdure.codec.upcast import envelope, require_map, upcast
from perdure.codec.wire import pack, unpack
from perdure.errors import (
    DecodeError,
    EncodeError,
    LimitExceeded,
    UnknownMessageType,
    UnknownType,
    UnknownVersion,
    UnregisteredType,
)
from perdure.messages import ExternalEvent, TypeInfo

__all__ = ["Codec", "Encoded"]


class Encoded(NamedTuple):
    """A value's stable type name, its version, and the msgpack map of its fields."""

    type: str
    version: int
    body: bytes


# The constructor that NamedTuple generates, at half the price.
_encoded: Callable[[tuple[str, int, bytes]], Encoded] = partial(tuple.__new__, Encoded)


class _Class(NamedTuple):
    """What is needed of a registered class, looked up once."""

    name: str
    version: int
    out: Callable[[Any], Any]
    into: Callable[..., Any]
    form: Form
    info: TypeInfo


_PLAIN = any_form(from_outside=False)
_PLAIN_KINDS = ATOMS | SCALARS_OUT.keys() | {list, dict}


class Codec:
    """Turns registered classes into bytes and back, exactly.

        codec = Codec(TypeRegistry([OrderState]))
        encoded = codec.encode(OrderPlaced("o-1", 100))
        codec.decode(*encoded) == OrderPlaced("o-1", 100)

    What would not come back as it was is refused when it is encoded, by an ``EncodeError`` that
    names type and field. Safe to use from several threads.
    """

    def __init__(self, registry: TypeRegistry, limits: Limits = Limits()) -> None:  # noqa: B008
        self.registry = registry
        self.limits = limits
        stored = any_message_form(self._class_of, self._class_named, None)
        outside = any_message_form(self._class_of, self._class_named, self.from_mapping)
        self._converter = Converter(self._tag_of, stored)
        self._outside = Converter(self._tag_of, outside, from_outside=True)
        self._exact = Converter(self._tag_of, stored, is_exact=True)
        self._writers: dict[type, _Class] = {}
        self._readers: dict[str, _Class] = {}
        # So few bytes cannot break any limit.
        self._short = min(limits.bytes_max, limits.elements_max, limits.depth_max)

    def encode(self, value: object) -> Encoded:
        """The bytes of a registered message or state, or of an ``ExternalEvent``.

            codec.encode(OrderPlaced("o-1", 100)).type      # "OrderPlaced"

        Raises ``EncodeError`` (``UnregisteredType``, ``NaiveDatetime``), ``LimitExceeded``, and
        ``DuplicateMessageType`` if the name is ambiguous.
        """
        writer = self._writers.get(value.__class__)
        if writer is None:
            if isinstance(value, ExternalEvent):
                self._require_declared(value)
                body = self._pack(value.type, None, _PLAIN, dict(value.data))
                return Encoded(value.type, value.version, body)
            if isinstance(value, type):
                raise UnregisteredType(
                    f"the class {value.__name__} is no message",
                    remedy=f"give an object of it, {value.__name__}(…)",
                )
            writer = self._writer(type(value))
        name, version, out, _, form, _ = writer
        try:
            body = pack(out(value))
        except Exception as error:
            self._refuse_out(name, form, value, error)
        if len(body) > self._short:
            self._check(name, body)
        return _encoded((name, version, body))

    def decode(self, type: str, version: int, body: bytes) -> Any:
        """The value of stored bytes, brought to the current version of its class first.

            codec.decode("OrderPlaced", 1, body)

        Fields the class does not know are ignored. Raises ``DecodeError`` (``UnknownType``,
        ``UnknownVersion``), ``LimitExceeded``, and ``DuplicateMessageType``.
        """
        reader = self._readers.get(type) or self._reader(type)
        if len(body) > self._short:
            self._check(type, body)
        try:
            fields = unpack(body, read_ext)
        except Exception as error:
            self._refuse_bytes(type, error)
        if reader is None:
            require_map(type, fields)
            return ExternalEvent(type, fields, version)
        if version != reader.version:
            require_map(type, fields)
            fields = upcast(reader.info, version, fields)
        try:
            return reader.into(fields)
        except Exception as error:
            self._refuse_in(type, reader.form, fields, error)

    def decode_exactly(self, type: str, version: int, body: bytes) -> Any:
        """As ``decode``, for what can be had in another way, too: a snapshot's state.

            codec.decode_exactly("OrderFulfilment.state", 1, body)

        Raises also ``UnknownVersion`` if some fields are missing, or unknown to their class: code
        of another release has written it. An older version is upcast as it is by ``decode``.
        """
        reader = self._readers.get(type) or self._reader(type)
        if reader is None or version != reader.version:
            return self.decode(type, version, body)
        try:
            return self._exact.form(reader.info.cls).into(self._unpack(type, body))
        except OtherFields as error:
            raise UnknownVersion(str(error)) from error
        except Exception:
            return self.decode(type, version, body)  # which says what is wrong

    def encode_value(self, value: object) -> bytes:
        """The bytes of a reply or result: a plain value, or a registered message or state.

            codec.encode_value({"total": Decimal("12.50")})

        Plain values are None, bool, int, float, str, bytes, UUID, Decimal, date, time, datetime,
        timedelta, and lists and dicts of these. Raises as ``encode`` does.
        """
        if value.__class__ in _PLAIN_KINDS:
            return self._pack("value", [], _PLAIN, value)
        if isinstance(value, ExternalEvent):
            self._require_declared(value)
            return self._pack(value.type, [value.type, value.version], _PLAIN, dict(value.data))
        writer = self._writers.get(value.__class__)
        if writer is None and value.__class__.__module__ == "builtins":
            raise UnregisteredType(
                f"an object of type {type(value).__name__} is no value that can be stored",
                remedy="give None, a number, a text, a moment or the like, a list or dict of "
                "these, or an object of a class marked with @message",
            )
        writer = writer or self._writer(type(value))
        return self._pack(writer.name, [writer.name, writer.version], writer.form, value)

    def decode_value(self, data: bytes) -> Any:
        """What ``encode_value`` was given; raises as ``decode`` does."""
        parts = self._unpack("value", data)
        if parts.__class__ is list and len(parts) == 1:
            return parts[0]
        if parts.__class__ is not list or [part.__class__ for part in parts] != [str, int, dict]:
            raise DecodeError("value: not written by encode_value")
        name, version, fields = parts
        reader = self._readers.get(name) or self._reader(name)
        if reader is None:
            return ExternalEvent(name, fields, version)
        return self._structure(reader, version, fields, reader.form)

    def decode_plain(self, body: bytes) -> Any:
        """The fields as a plain dict, for viewers: no class is needed, nothing is upcast.

        Raises ``DecodeError`` and ``LimitExceeded``.
        """
        return self._unpack("body", body)

    def from_mapping(self, mapping: Mapping[str, Any]) -> Any:
        """The message that an event from outside describes.

            codec.from_mapping({"type": "OrderPlaced", "data": {"order_id": "o-1", "amount": 100}})

        ``version`` defaults to the class's. Scalars may be text, a timedelta a number of seconds.
        A name given to ``add_external`` makes an ``ExternalEvent``. Raises ``UnknownMessageType``,
        ``DecodeError`` naming what is missing or wrong, ``DuplicateMessageType``.
        """
        name, version, data = envelope(mapping)
        try:
            reader = self._readers.get(name) or self._reader(name)
        except UnknownType as error:
            raise UnknownMessageType(error.problem, remedy=error.remedy) from error
        if reader is None:
            return ExternalEvent(name, data, 1 if version is None else version)
        try:
            form = self._outside.form(reader.info.cls)
        except Refused as error:
            raise DecodeError(f"{name}: {error.reason}", remedy=error.remedy) from error
        version = reader.version if version is None else version
        # Upcasters may change what they are given, also deep inside; it is the caller's.
        fields = data if version == reader.version else copy.deepcopy(data)
        return self._structure(reader, version, fields, form)

    def _tag_of(self, cls: type) -> str:
        try:
            return self.registry.of(cls).name
        except UnregisteredType:
            return cls.__name__

    def _writer(self, cls: type) -> _Class:
        info = self.registry.of(cls)
        try:
            writer = self._class(info)
        except Refused as error:
            raise error.error(f"{info.name}: {error.reason}", remedy=error.remedy) from error
        self._writers[cls] = writer
        return writer

    def _reader(self, name: str) -> _Class | None:
        info = self.registry.named(name)
        if info is None:
            return None
        try:
            reader = self._class(info)
        except Refused as error:
            raise DecodeError(f"{name}: {error.reason}", remedy=error.remedy) from error
        self._readers[name] = reader
        return reader

    def _class_of(self, cls: type) -> tuple[TypeInfo, Form]:
        writer = self._writers.get(cls) or self._writer(cls)
        return writer.info, writer.form

    def _class_named(self, name: str) -> tuple[TypeInfo, Form] | None:
        try:
            reader = self._readers.get(name) or self._reader(name)
        except UnknownType:
            return None
        return None if reader is None else (reader.info, reader.form)

    def _class(self, info: TypeInfo) -> _Class:
        if not is_record(info.cls):
            raise Refused(f"{info.cls.__name__} declares no fields", "make it a dataclass")
        form = self._converter.form(info.cls)
        return _Class(info.name, info.version, form.out, form.into, form, info)

    def _require_declared(self, event: ExternalEvent) -> None:
        try:
            info = self.registry.named(event.type)
        except UnknownType as error:
            raise UnregisteredType(
                f"external event {event.type!r} was not declared",
                remedy=f"declare it with registry.add_external({event.type!r})",
            ) from error
        if info is not None:
            raise EncodeError(
                f"external event {event.type!r} has a class, {info.cls.__qualname__}",
                remedy="send an object of the class",
            )

    def _pack(self, name: str, before: list[object] | None, form: Form, value: object) -> bytes:
        try:
            wire = form.out(value)
            data = pack(wire if before is None else [*before, wire])
        except Exception as error:
            self._refuse_out(name, form, value, error)
        self._check(name, data)
        return data

    def _check(self, name: str, body: bytes) -> None:
        try:
            check_limits(body, self.limits)
        except LimitExceeded as error:
            raise LimitExceeded(f"{name}: {error.problem}", remedy=error.remedy) from None

    def _refuse_out(self, name: str, form: Form, value: Any, error: Exception) -> NoReturn:
        if isinstance(error, RecursionError):
            raise LimitExceeded(
                f"{name}: contains itself, or is nested deeper than {self.limits.depth_max} levels"
            ) from error
        path, refused = trace_out(form, value, error)
        raise refused.error(f"{name}{path}: {refused.reason}", remedy=refused.remedy) from error

    def _unpack(self, name: str, body: bytes) -> Any:
        if len(body) > self._short:
            self._check(name, body)
        try:
            return unpack(body, read_ext)
        except Exception as error:
            self._refuse_bytes(name, error)

    def _refuse_bytes(self, name: str, error: Exception) -> NoReturn:
        raise DecodeError(
            f"{name}: the bytes are damaged, or not written by perdure ({error})"
        ) from error

    def _structure(self, reader: _Class, version: int, fields: Any, form: Form) -> Any:
        if version != reader.version:
            fields = upcast(reader.info, version, fields)
        try:
            return form.into(fields)
        except Exception as error:
            self._refuse_in(reader.name, form, fields, error)

    def _refuse_in(self, name: str, form: Form, fields: Any, error: Exception) -> NoReturn:
        path, refused = trace_in(form, fields, error)
        raise DecodeError(f"{name}{path}: {refused.reason}", remedy=refused.remedy) from error
