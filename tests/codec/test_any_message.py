"""A field that holds any message: under its own name, upcast, or as an ExternalEvent."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.codec import Codec, Limits, TypeRegistry
from perdure.codec.wire import pack, unpack
from perdure.errors import (
    DecodeError,
    DuplicateMessageType,
    EncodeError,
    LimitExceeded,
    UnregisteredType,
)
from perdure.messages import AnyMessage, CommandFailed, ExternalEvent, TypeInfo, message
from tests.codec.shapes import Cash, Line, Sku


@message(name="codec-test.charge", version=2, upcasters={1: lambda old: {"cents": old.pop("eur")}})
class Charge:
    cents: int


@message(name="codec-test.parcel")
class Parcel:
    first: AnyMessage
    maybe: AnyMessage | None = None
    several: tuple[AnyMessage, ...] = ()
    rows: list[AnyMessage] | None = None
    by_message: dict[AnyMessage, int] | None = None


codec = Codec(TypeRegistry())


def again(value: Any, by: Codec = codec) -> Any:
    return by.decode(*by.encode(value))


def wired(*parts: Any) -> bytes:
    return pack({"first": list(parts)})


def failed(command: Any) -> CommandFailed:
    return CommandFailed(AnyMessage(command), "Order/o-1/3/0", "payments", "exhausted", "boom", 5)


messages = st.recursive(
    st.builds(Cash, st.text(max_size=3))
    | st.builds(Charge, st.integers(0, 9))
    | st.builds(
        ExternalEvent,
        st.sampled_from(["codec-test.nobody", "codec-test.cash"]),
        st.dictionaries(st.text(max_size=2), st.integers(0, 9) | st.decimals(allow_nan=False)),
        st.integers(1, 3),
    ),
    lambda inner: st.builds(
        Parcel, inner, st.none() | inner, st.lists(inner, max_size=2).map(tuple), st.lists(inner)
    ),
    max_leaves=5,
)


@given(messages)
def test_any_message_comes_back_exactly(value: Any) -> None:
    assert again(Parcel(value)) == Parcel(value)
    assert codec.decode_value(codec.encode_value(Parcel(value))) == Parcel(value)


def test_it_is_written_with_its_name_and_version() -> None:
    body = codec.encode(failed(Charge(3))).body
    assert unpack(body, lambda *_: None)["command"] == ["codec-test.charge", 2, {"cents": 3}]
    parcel = Parcel(AnyMessage(ExternalEvent("codec-test.nobody", {"a": 1}, 4)))
    wire = unpack(codec.encode(parcel).body, lambda *_: None)
    assert wire["first"] == ["codec-test.nobody", 4, {"a": 1}, True]


@pytest.mark.parametrize(
    "command", [Charge(3), ExternalEvent("codec-test.nobody", {"a": Decimal("1.50")}, 7)]
)
def test_a_failed_command_comes_back_with_its_command(command: Any) -> None:
    assert again(failed(command)) == failed(command)
    assert again(failed(command), Codec(TypeRegistry([CommandFailed]))) == failed(command)


def test_messages_may_be_keys() -> None:
    parcel = Parcel(AnyMessage(Cash("1")), by_message={AnyMessage(Cash("2")): 2})
    assert again(parcel) == parcel


def test_an_older_version_inside_is_brought_to_the_current_one() -> None:
    stored = wired("codec-test.charge", 1, {"eur": 5})
    assert codec.decode("codec-test.parcel", 1, stored).first == Charge(5)


def test_a_name_nobody_knows_is_an_external_event() -> None:
    stored = wired("codec-test.gone", 3, {"a": [1]})
    found = codec.decode("codec-test.parcel", 1, stored).first
    assert found == ExternalEvent("codec-test.gone", {"a": [1]}, 3)
    declared = Codec(TypeRegistry())
    declared.registry.add_external("codec-test.gone")
    assert declared.decode("codec-test.parcel", 1, stored).first == found


def test_an_external_event_stays_one_although_a_class_has_its_name() -> None:
    unreadable = ExternalEvent("codec-test.charge", {"cents": "not a number"}, 9)
    assert again(failed(unreadable)) == failed(unreadable)


def test_a_registered_class_is_found_by_its_name() -> None:
    @dataclass(frozen=True)
    class Private:
        number: int

    knowing = Codec(TypeRegistry([TypeInfo(Private, "codec-test.private")]))
    parcel = Parcel(AnyMessage(Private(1)))
    assert again(parcel, knowing) == parcel
    stored = knowing.encode(parcel)
    assert codec.decode(*stored).first == ExternalEvent("codec-test.private", {"number": 1}, 1)
    with pytest.raises(UnregisteredType, match=r"codec-test.parcel\.first: .*Private has no type"):
        codec.encode(parcel)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("text", r"parcel\.first: an object of type str is no message"),
        (None, r"parcel\.first: an object of type NoneType is no message"),
        (Cash, r"parcel\.first: an object of type type is no message"),
        (Charge("x"), r"parcel\.first\(codec-test\.charge\)\.cents: expected int, got str"),  # type: ignore[arg-type]
        (ExternalEvent("x", {"a": Line(Sku("s"), 1, Decimal(1))}), r"a Line would not come back"),
        (ExternalEvent("x", [1]), r"expected a mapping as the data of x, got list"),  # type: ignore[arg-type]
        (ExternalEvent(1, {}), r"expected a type name and a version"),  # type: ignore[arg-type]
        (ExternalEvent("x", {}, True), r"expected a type name and a version"),
    ],
)
def test_what_is_no_storable_message_is_refused_where_it_is(value: Any, said: str) -> None:
    with pytest.raises(EncodeError, match=said):
        codec.encode(Parcel(value))


@pytest.mark.parametrize(
    "wire",
    [
        None,
        "codec-test.cash",
        {},
        [],
        ["codec-test.cash", 1],
        ["codec-test.cash", 1, {"number": "1"}, False],
        ["codec-test.cash", 1, {"number": "1"}, 1.5],
        ["codec-test.cash", 1, {"number": "1"}, True, True],
        [b"codec-test.cash", 1, {"number": "1"}],
        ["codec-test.cash", "1", {"number": "1"}],
        ["codec-test.cash", True, {"number": "1"}],
        ["codec-test.cash", 1, ["number"]],
        ["codec-test.gone", 1, None],
    ],
)
def test_an_envelope_that_is_none_is_a_decode_error(wire: Any) -> None:
    with pytest.raises(DecodeError, match=r"parcel\.first: expected a message as type name"):
        codec.decode("codec-test.parcel", 1, pack({"first": wire}))


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        (("codec-test.charge", 3, {"cents": 1}), r"first: codec-test.charge version 3: .* 1 to 2"),
        (("codec-test.charge", 1, {}), r"first: .*upcaster from 1 to 2 raised KeyError"),
        (("codec-test.charge", 2, {}), r"first\(codec-test.charge\): field 'cents' is missing"),
        (("codec-test.charge", 1, {"eur": "x"}), r"charge\)\.cents: expected int, got str"),
    ],
)
def test_what_does_not_fit_its_class_is_a_decode_error(parts: Any, said: str) -> None:
    with pytest.raises(DecodeError, match=said):
        codec.decode("codec-test.parcel", 1, wired(*parts))


def test_an_ambiguous_name_inside_is_never_guessed() -> None:
    def one() -> type:
        @message(name="codec-test.any-ambiguous")
        class Twin:
            number: int

        return Twin

    first, second = one(), one()
    with pytest.raises(DecodeError, match=r"first: type name 'codec-test.any-ambiguous' belongs"):
        codec.decode("codec-test.parcel", 1, wired("codec-test.any-ambiguous", 1, {"number": 1}))
    with pytest.raises((EncodeError, DuplicateMessageType), match="belongs to"):
        codec.encode(Parcel(AnyMessage(first(1))))
    assert second is not first


@pytest.mark.parametrize("name", ["builtins.eval", "os.system", "tests.codec.shapes.Card", "Card"])
def test_a_path_to_code_is_only_a_name(name: str) -> None:
    found = codec.decode("codec-test.parcel", 1, wired(name, 1, {"number": "1"})).first
    assert found == ExternalEvent(name, {"number": "1"}, 1)


@given(st.binary(max_size=40), st.integers(0, 60), st.integers(0, 255))
def test_garbage_is_only_ever_a_typed_error(garbage: bytes, at: int, byte: int) -> None:
    body = bytearray(codec.encode(Parcel(AnyMessage(failed(Charge(1))))).body)
    body[at % len(body)] = byte
    for data in (bytes(body), garbage, b"\x81\xa5first" + garbage):
        with suppress(DecodeError, LimitExceeded):
            codec.decode("codec-test.parcel", 1, data)


def test_the_limit_of_depth_holds_inside() -> None:
    def nested(levels: int) -> Any:
        value: Any = Cash("1")
        for _ in range(levels):
            value = Parcel(AnyMessage(value))
        return value

    tight = Codec(TypeRegistry(), Limits(depth_max=7))
    assert again(nested(3), tight) == nested(3)
    with pytest.raises(LimitExceeded, match="nested deeper than 7"):
        tight.encode(nested(4))
    with pytest.raises(LimitExceeded, match="nested deeper than 7"):
        tight.decode(*codec.encode(nested(4)))
    with pytest.raises(LimitExceeded):
        codec.encode(nested(2_000))


def test_a_message_that_contains_itself_is_refused() -> None:
    parcel = Parcel(AnyMessage(Cash("1")), rows=[])
    assert parcel.rows is not None
    parcel.rows.append(AnyMessage(parcel))
    with pytest.raises(LimitExceeded, match="contains itself"):
        codec.encode(parcel)


@message(name="codec-test.crowded")
class Crowded:
    what: AnyMessage | int


@message(name="codec-test.open")
class Open:
    what: AnyMessage | Any | None


@message(name="codec-test.disguised")
class Disguised:
    what: Annotated[AnyMessage | None, "any or none"] | int


@pytest.mark.parametrize("cls", [Crowded, Open, Disguised])
def test_only_none_stands_beside_it(cls: Any) -> None:
    with pytest.raises(EncodeError, match=r"field 'what': AnyMessage is in a union with something"):
        codec.encode(cls(Cash("1")))


def test_from_outside_it_is_an_event_from_outside() -> None:
    given: dict[str, Any] = {
        "first": {"type": "codec-test.cash", "data": {"number": "7"}},
        "maybe": None,
    }
    parcel = codec.from_mapping({"type": "codec-test.parcel", "data": given})
    assert parcel == Parcel(AnyMessage(Cash("7")))
    given["first"] = {"type": "codec-test.nobody", "data": {}}
    with pytest.raises(DecodeError, match=r"first: no class for type"):
        codec.from_mapping({"type": "codec-test.parcel", "data": given})
    given["first"] = ["codec-test.cash", 1, {}]
    with pytest.raises(DecodeError, match=r"first: an event from outside is a list"):
        codec.from_mapping({"type": "codec-test.parcel", "data": given})
