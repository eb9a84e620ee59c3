"""Stored names find their class, older versions are upcast, and what is unknown is not skipped."""

from __future__ import annotations

from dataclasses import dataclass, field, make_dataclass
from typing import Any

import pytest

from perdure.codec import Codec, Encoded, TypeRegistry
from perdure.codec.wire import pack
from perdure.errors import (
    DecodeError,
    DuplicateMessageType,
    EncodeError,
    UnknownType,
    UnknownVersion,
    UnregisteredType,
)
from perdure.messages import TypeInfo, message
from tests.codec.shapes import Card, Cash, OrderState

UPCASTERS = {
    1: lambda old: {**old, "currency": "EUR"},
    2: lambda old: {"cents": old.pop("amount") * 100, **old},
    3: lambda old: {**old, "tags": [old["currency"].lower()]},
}


@message(name="codec-test.paid", version=4, upcasters=UPCASTERS)
class Paid:
    order_id: str
    cents: int
    currency: str
    tags: tuple[str, ...]


@dataclass
class Account:
    cents: int = 0
    currency: str = ""
    tags: list[str] = field(default_factory=list)


ACCOUNT = TypeInfo(Account, "codec-test.account", 4, UPCASTERS)
RELEASED: dict[int, dict[str, Any]] = {
    1: {"order_id": "o-1", "amount": 3},
    2: {"order_id": "o-1", "amount": 3, "currency": "EUR"},
    3: {"order_id": "o-1", "cents": 300, "currency": "EUR"},
    4: {"order_id": "o-1", "cents": 300, "currency": "EUR", "tags": ["eur"]},
}
codec = Codec(TypeRegistry([ACCOUNT]))


@pytest.mark.parametrize("version", RELEASED)
def test_every_released_version_of_a_message_reads_as_the_current_one(version: int) -> None:
    stored = pack(RELEASED[version])
    before = bytes(stored)
    current = codec.decode("codec-test.paid", version, stored)
    assert current == Paid("o-1", 300, "EUR", ("eur",))
    assert stored == before
    again = codec.encode(current)
    assert again.version == 4
    assert codec.decode(*again) == current
    assert codec.decode("codec-test.paid", version, stored) == current


@pytest.mark.parametrize("version", RELEASED)
def test_every_released_version_of_a_state_reads_as_the_current_one(version: int) -> None:
    state = codec.decode("codec-test.account", version, pack(RELEASED[version]))
    assert state == Account(300, "EUR", ["eur"])
    assert codec.encode(state).version == 4


def test_replies_and_mappings_are_upcast_too() -> None:
    current = Paid("o-1", 300, "EUR", ("eur",))
    assert codec.decode_value(pack(["codec-test.paid", 1, RELEASED[1]])) == current
    given = {"type": "codec-test.paid", "version": 1, "data": RELEASED[1]}
    assert codec.from_mapping(given) == current
    assert given["data"] == {"order_id": "o-1", "amount": 3}


def test_an_upcaster_may_change_what_it_is_given_without_harm_to_the_caller() -> None:
    def drain(old: dict[str, Any]) -> dict[str, Any]:
        return {"tags": [old["nested"].pop()]}

    draining = Codec(TypeRegistry([TypeInfo(Account, "codec-test.drained", 2, {1: drain})]))
    given = {"type": "codec-test.drained", "version": 1, "data": {"nested": ["a"]}}
    assert draining.from_mapping(given) == draining.from_mapping(given) == Account(tags=["a"])


@pytest.mark.parametrize("version", [5, 99, 0, -1])
def test_a_version_the_code_does_not_know_is_refused(version: int) -> None:
    with pytest.raises(UnknownVersion, match=f"codec-test.paid version {version}: .* 1 to 4"):
        codec.decode("codec-test.paid", version, pack(RELEASED[4]))


def raising(_: dict[str, Any]) -> dict[str, Any]:
    raise RuntimeError("no such luck")


@pytest.mark.parametrize(
    ("upcasters", "said"),
    [
        ({}, "from 1 to 2 is missing"),
        ({1: raising}, "from 1 to 2 raised RuntimeError: no such luck"),
        ({1: lambda old: None}, "from 1 to 2 returned a NoneType, not a dict"),
        ({1: lambda old: old["gone"]}, "from 1 to 2 raised KeyError"),
    ],
)
def test_an_upcaster_that_fails_stops_the_reading(upcasters: Any, said: str) -> None:
    broken = Codec(TypeRegistry([TypeInfo(Account, "codec-test.broken", 2, upcasters)]))
    with pytest.raises(UnknownVersion, match=f"codec-test.broken version 1: .*{said}"):
        broken.decode("codec-test.broken", 1, pack({}))


def test_fields_the_class_does_not_know_are_ignored() -> None:
    assert codec.decode("codec-test.cash", 1, pack({"number": "1", "newer": [1]})) == Cash("1")


@dataclass
class Purse:
    coins: dict[str, Cash] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    sum: int = field(default=0, init=False)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"coins": {}, "tags": []}, "'sum'"),  # of code that did not have it yet
        ({"coins": {}, "sum": 1}, "'tags'"),
        ({"coins": {}, "tags": [], "sum": 1, "notes": [], "gifts": 0}, "'gifts', 'notes'"),
        ({"coins": {"a": {"number": "1", "foreign": True}}, "tags": [], "sum": 1}, "'foreign'"),
    ],
)
def test_a_state_with_other_fields_than_the_class_is_refused_where_it_can_be_had_otherwise(
    fields: Any, named: str
) -> None:
    codec = Codec(TypeRegistry([TypeInfo(Purse, "codec-test.purse", 2, {1: lambda old: old})]))
    body = pack(fields)
    assert isinstance(codec.decode("codec-test.purse", 2, body), Purse)
    with pytest.raises(UnknownVersion, match=f"other fields than this code has: {named}"):
        codec.decode_exactly("codec-test.purse", 2, body)
    assert isinstance(codec.decode_exactly("codec-test.purse", 1, body), Purse)  # upcast


def test_what_was_encoded_is_read_exactly() -> None:
    codec = Codec(TypeRegistry([TypeInfo(Purse, "codec-test.purse")]))
    purse = Purse({"a": Cash("1")}, ["x"])
    purse.sum = 3
    assert codec.decode_exactly(*codec.encode(purse)) == purse
    with pytest.raises(DecodeError, match="tags"):
        codec.decode_exactly("codec-test.purse", 1, pack({"coins": {}, "tags": 7, "sum": 1}))
    with pytest.raises(DecodeError):
        codec.decode_exactly("codec-test.purse", 1, b"\xc1")


def test_a_field_without_default_must_be_there() -> None:
    with pytest.raises(DecodeError, match=r"codec-test.cash: field 'number' is missing"):
        codec.decode("codec-test.cash", 1, pack({}))
    assert Codec(TypeRegistry([OrderState])).decode("OrderState", 1, pack({})) == OrderState()


@dataclass
class Ledger:
    account: Account = field(default_factory=Account)
    past: list[Account] = field(default_factory=list)


WHOLE = {"cents": 1, "currency": "EUR", "tags": []}


@pytest.mark.parametrize(
    ("stored", "differs"),
    [
        ({"account": WHOLE}, "'past'"),
        ({"account": {"cents": 1, "currency": "EUR"}, "past": []}, "'tags'"),
        ({"account": WHOLE, "past": [{"cents": 1, "limit": 9}]}, "'currency', 'limit', 'tags'"),
    ],
)
def test_a_state_with_other_fields_than_its_class_is_not_read_exactly(
    stored: dict[str, Any], differs: str
) -> None:
    registry = TypeRegistry([ACCOUNT, TypeInfo(Ledger, "codec-test.ledger", 1, {})])
    body = pack(stored)
    assert isinstance(Codec(registry).decode("codec-test.ledger", 1, body), Ledger)
    with pytest.raises(UnknownVersion, match=f"other fields than this code has: {differs}"):
        Codec(registry).decode_exactly("codec-test.ledger", 1, body)


def test_a_wrong_type_in_stored_bytes_is_refused_with_its_path() -> None:
    with pytest.raises(DecodeError, match=r"codec-test.paid\.tags\[1\]: expected str, got int"):
        codec.decode("codec-test.paid", 4, pack({**RELEASED[4], "tags": ["a", 2]}))
    with pytest.raises(DecodeError, match=r"expected a map"):
        codec.decode("codec-test.paid", 1, pack([1]))
    with pytest.raises(DecodeError, match=r"expected a map"):
        codec.decode("codec-test.paid", 4, pack("text"))


def test_a_constructor_that_refuses_is_a_decode_error() -> None:
    @message(name="codec-test.positive")
    @dataclass(frozen=True)
    class Positive:
        number: int

        def __post_init__(self) -> None:
            if self.number < 0:
                raise ValueError("negative")

    assert codec.decode(*codec.encode(Positive(1))) == Positive(1)
    with pytest.raises(DecodeError, match=r"codec-test.positive: ValueError: negative"):
        codec.decode("codec-test.positive", 1, pack({"number": -1}))


def test_a_class_may_move_between_modules() -> None:
    body = codec.encode(Cash("7")).body
    moved = make_dataclass("Elsewhere", [("number", str)], frozen=True)
    moved.__module__ = "some.other.place"
    there = Codec(TypeRegistry([TypeInfo(moved, "codec-test.cash")]))
    assert there.decode("codec-test.cash", 1, body) == moved("7")
    assert there.encode(moved("7")) == Encoded("codec-test.cash", 1, body)


def test_a_name_of_two_marked_classes_is_refused_both_ways() -> None:
    def one() -> type:
        @message(name="codec-test.ambiguous")
        class First:
            number: int

        return First

    first, second = one(), one()
    second.__qualname__ = "Second"
    fresh = Codec(TypeRegistry())
    said = "'codec-test.ambiguous' belongs to .*test_types_and_versions.Second and .*First"
    with pytest.raises(DuplicateMessageType, match=said):
        fresh.decode("codec-test.ambiguous", 1, pack({"number": 1}))
    with pytest.raises(DuplicateMessageType, match=said):
        fresh.encode(first(1))
    decided = Codec(TypeRegistry([second]))
    assert type(decided.decode("codec-test.ambiguous", 1, pack({"number": 1}))) is second
    with pytest.raises(DuplicateMessageType, match=r"belongs to"):
        decided.encode(first(1))


def test_one_registry_holds_one_class_per_name() -> None:
    registry = TypeRegistry([Account])
    assert registry.of(Account) == TypeInfo(Account, "Account", 1)
    assert registry.add(Account) is registry.named("Account")
    other = make_dataclass("Account", [("x", int)])
    with pytest.raises(DuplicateMessageType, match=r"'Account' belongs to .*Account and .*Account"):
        registry.add(other)
    with pytest.raises(DuplicateMessageType, match=r"twice, with versions 1 and 4"):
        registry.add(TypeInfo(Account, "Account", 4, UPCASTERS))


def test_a_class_found_by_its_mark_keeps_its_name_from_then_on() -> None:
    registry = TypeRegistry()
    Codec(registry).encode(Cash("1"))
    with pytest.raises(DuplicateMessageType, match=r"belongs to"):
        registry.add(TypeInfo(Card, "codec-test.cash"))


def test_a_renamed_type_reads_under_its_old_name() -> None:
    registry = TypeRegistry([Account, TypeInfo(Account, "codec-test.old-account")])
    renamed = Codec(registry)
    assert renamed.encode(Account()).type == "Account"
    assert renamed.decode("codec-test.old-account", 1, pack({"cents": 3})) == Account(3)


def test_the_registrys_own_entry_comes_before_the_mark() -> None:
    registry = TypeRegistry([TypeInfo(Cash, "codec-test.coins", 1)])
    assert registry.of(Cash).name == "codec-test.coins"
    assert Codec(registry).encode(Cash("1")).type == "codec-test.coins"


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(UnknownType, match=r"no class for type 'codec-test.never'; import"):
        codec.decode("codec-test.never", 1, pack({}))
    with pytest.raises(UnknownType):
        codec.decode_value(pack(["codec-test.never", 1, {}]))


def test_a_class_without_a_name_is_refused_with_a_remedy() -> None:
    with pytest.raises(UnregisteredType, match=r"shapes\.Card has no type name; decorate"):
        TypeRegistry().of(Card)
    with pytest.raises(EncodeError):
        Codec(TypeRegistry()).encode({"a": "dict"})
