"""What cannot be stored exactly is refused at its sender, naming type and field."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import InitVar, dataclass
from datetime import UTC, datetime, time, timedelta, tzinfo
from decimal import Decimal
from enum import Enum
from typing import Any, Literal
from uuid import UUID

import pytest

from perdure.codec import Codec, TypeRegistry
from perdure.errors import (
    DecodeError,
    EncodeError,
    LimitExceeded,
    NaiveDatetime,
    UnregisteredType,
)
from perdure.messages import ExternalEvent, message
from tests.codec.shapes import Box, Card, Cash, Line, OrderPlaced, OrderState, Sku, Status, Tree

codec = Codec(TypeRegistry([OrderState, Tree]))


def one_field(annotation: Any) -> Callable[[Any], Any]:
    """A class with one field of the annotation, known to no other test."""

    @message(name="codec-test.one-field")
    class OneField:
        field: annotation

    OneField.__annotations__["field"] = annotation
    local.registry = TypeRegistry([OneField])
    return OneField


class _Local:
    registry: TypeRegistry


local = _Local()


def encode_field(annotation: Any, value: Any) -> bytes:
    cls = one_field(annotation)
    return Codec(local.registry).encode(cls(value)).body


def order(**changed: Any) -> OrderPlaced:
    given: dict[str, Any] = {
        "order_id": UUID(int=1),
        "at": datetime(2024, 1, 1, tzinfo=UTC),
        "status": Status.NEW,
        "total": Decimal(1),
        "lines": [Line(Sku("a"), 1, Decimal(1)), Line(Sku("b"), 2, Decimal(2))],
        "payment": Card("1"),
    }
    return OrderPlaced(**{**given, **changed})


class Subclassed(int):
    pass


WRONG: list[tuple[Any, Any, str]] = [
    (int, "17", "expected int, got str"),
    (int, True, "expected int, got bool"),
    (int, 1.0, "expected int, got float"),
    (int, Subclassed(1), "expected int, got Subclassed"),
    (int, 2**64, "64 bits"),
    (int, -(2**63) - 1, "64 bits"),
    (float, True, "expected float, got bool"),
    (float, "1", "expected float, got str"),
    (bool, 1, "expected bool, got int"),
    (str, b"x", "expected str, got bytes"),
    (str, "\ud800", "lone surrogate"),
    (str, None, "expected str, got None"),
    (bytes, bytearray(b"x"), "expected bytes, got bytearray"),
    (UUID, "0" * 32, "expected UUID, got str"),
    (Decimal, 1, "expected Decimal, got int"),
    (time, time(1, tzinfo=UTC), "a time with a zone"),
    (list[int], (1,), "expected list, got tuple"),
    (list[int], [1, "2"], r"\.field\[1\]: expected int, got str"),
    (tuple[int, ...], [1], "expected tuple, got list"),
    (tuple[int, str], (1,), "expected tuple of 2"),
    (set[int], frozenset({1}), "expected set, got frozenset"),
    (dict[str, int], OrderedDict(), "expected dict, got OrderedDict"),
    (dict[str, int], {1: 1}, r"\.field\.keys\(\): expected str, got int"),
    (dict[str, int], {"a": "b"}, r"\.field\['a'\]: expected int, got str"),
    (dict[tuple[int, int], int], {(1, "2"): 1}, r"expected int, got str"),
    (int | None, "x", "expected int, got str"),
    (int | str, 1.5, r"expected int \| str, got float"),
    (Card | Cash, Line, "got type"),
    (Literal["a", 1], True, "expected 'a' or 1, got bool"),
    (Literal["a"], [], "expected 'a', got list"),
    (Status, "new", "expected Status, got str"),
    (Card, Cash("1"), "expected Card, got codec-test.cash|expected Card, got Cash"),
    (Any, (1,), "declare the field's type"),
    (Any, [{1}], r"\.field\[0\]: a set"),
    (Any, {"a": Status.NEW}, r"\.field\['a'\]: a Status"),
    (Any, {(1, 2): 1}, r"\.field\.keys\(\): a tuple"),
    (dict, {"a": Card("1")}, "declare the field's type"),
    (list, [bytearray()], "a bytearray"),
    (Any, {"a": [2**70]}, r"\.field\['a'\]\[0\]: .*64 bits"),
]


@pytest.mark.parametrize(("annotation", "value", "said"), WRONG)
def test_a_wrong_value_is_refused_when_encoded(annotation: Any, value: Any, said: str) -> None:
    with pytest.raises(EncodeError, match=said) as caught:
        encode_field(annotation, value)
    assert caught.value.problem.startswith("codec-test.one-field.field")


def test_the_error_names_the_path_to_the_guilty_value() -> None:
    lines = [Line(Sku("a"), 1, Decimal(1)), Line(Sku("b"), "2", Decimal(2))]  # type: ignore[arg-type]
    said = r"codec-test.order-placed.lines\[1\].quantity: expected int, got str"
    with pytest.raises(EncodeError, match=said):
        codec.encode(order(lines=lines))


@pytest.mark.parametrize("annotation", [datetime, datetime | None, Any, list[datetime]])
def test_a_naive_datetime_is_refused_by_type_and_field(annotation: Any) -> None:
    naive: Any = datetime(2024, 1, 1)
    value = [naive] if annotation == list[datetime] else naive
    with pytest.raises(NaiveDatetime, match=r"codec-test\.one-field\.field"):
        encode_field(annotation, value)
    with pytest.raises(NaiveDatetime, match=r"codec-test.order-placed\.at: .*; use"):
        codec.encode(order(at=naive))


def test_a_zone_that_cannot_be_named_is_refused() -> None:
    class Odd(tzinfo):
        def utcoffset(self, _: datetime | None) -> timedelta:
            return timedelta(0)

        def dst(self, _: datetime | None) -> timedelta:
            return timedelta(0)

        def tzname(self, _: datetime | None) -> str:
            return "odd"

    with pytest.raises(EncodeError, match="whose zone is a Odd"):
        codec.encode_value(datetime(2024, 1, 1, tzinfo=Odd()))


class Planet(Enum):
    EARTH = (1, 2)


@dataclass
class OtherCash:
    number: int


OtherCash.__name__ = "Card"
UNFIT: list[tuple[Any, str]] = [
    (deque[int], "deque values cannot be stored exactly"),
    (complex, "complex values"),
    (Planet, "has a tuple as value"),
    (list[int] | list[str], "two members of .* are both a list"),
    (Card | OtherCash, "both named 'Card'"),
    (Literal["new", Status.NEW], "both stored as 'new'"),
    ("Nowhere", "cannot be resolved"),
]


@pytest.mark.parametrize(("annotation", "said"), UNFIT)
def test_an_annotation_whose_values_would_not_come_back_is_refused(
    annotation: Any, said: str
) -> None:
    with pytest.raises(EncodeError, match=f"codec-test.one-field: .*{said}"):
        encode_field(annotation, None)
    with pytest.raises(DecodeError, match=said):
        Codec(local.registry).decode("codec-test.one-field", 1, b"\x80")


def test_a_constructor_argument_that_is_not_kept_is_refused() -> None:
    @message(name="codec-test.init-var")
    @dataclass
    class Priced:
        net: int
        rate: InitVar[int] = 3

    with pytest.raises(EncodeError, match="'rate' is an InitVar"):
        codec.encode(Priced(1))


def test_a_class_without_name_or_fields_is_refused() -> None:
    class Nothing:
        pass

    with pytest.raises(UnregisteredType, match="decorate the class with @message"):
        codec.encode(Card("1"))
    with pytest.raises(UnregisteredType):
        codec.encode_value(Status.NEW)
    with pytest.raises(EncodeError, match="make it a dataclass"):
        Codec(TypeRegistry([Nothing])).encode(Nothing())


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (Card, r"the class Card is no message; give an object of it, Card\(…\)"),
        (int, r"the class int is no message"),
        ("hello", "an object of type str is no message; give an object of a class marked with"),
        (None, "an object of type NoneType is no message"),
        ([Card("1")], "an object of type list is no message"),
    ],
)
def test_what_is_no_message_at_all_is_named_with_what_to_give(value: object, said: str) -> None:
    with pytest.raises(UnregisteredType, match=said):
        codec.encode(value)


def test_a_reply_that_is_no_plain_value_is_named_with_what_to_give() -> None:
    with pytest.raises(UnregisteredType, match=r"type tuple is no value .*; give None, a number"):
        codec.encode_value((1, 2))


def test_the_copy_that_slots_makes_of_a_marked_class_is_refused() -> None:
    @dataclass(slots=True)
    @message(name="codec-test.slots-below")
    @dataclass
    class Copied:
        number: int

    with pytest.raises(UnregisteredType, match="write @message above"):
        codec.encode(Copied(1))


@pytest.mark.parametrize("value", [(1,), {1}, frozenset(), Status.NEW, [Card("1")], object()])
def test_a_reply_of_another_kind_is_refused(value: object) -> None:
    with pytest.raises(EncodeError):
        codec.encode_value(value)


def test_an_external_event_needs_a_declared_name_without_a_class() -> None:
    local_codec = Codec(TypeRegistry())
    with pytest.raises(UnregisteredType, match="add_external"):
        local_codec.encode(ExternalEvent("codec-test.undeclared", {}))
    local_codec.registry.add_external("codec-test.order-placed")
    with pytest.raises(EncodeError, match="has a class, OrderPlaced"):
        local_codec.encode(ExternalEvent("codec-test.order-placed", {}))


def test_a_value_that_contains_itself_is_refused() -> None:
    around: list[Any] = []
    around.append(around)
    with pytest.raises(LimitExceeded, match="contains itself"):
        codec.encode_value(around)
    tree = Tree(0)
    object.__setattr__(tree, "children", (tree,))
    with pytest.raises(LimitExceeded, match="Tree: contains itself"):
        codec.encode(tree)


def test_encoding_works_after_an_error() -> None:
    before = codec.encode(order())
    for _ in range(3):
        with pytest.raises(EncodeError):
            codec.encode(order(note="\ud800" * 3))
        assert codec.encode(order()) == before


def test_generic_arguments_are_enforced() -> None:
    line = Line(Sku("s"), 1, Decimal(1))
    assert encode_field(Box[Line], Box(line, [line]))
    with pytest.raises(EncodeError, match=r"field\.item: expected Line, got int"):
        encode_field(Box[Line], Box(1))
    with pytest.raises(EncodeError, match=r"field\.more\[0\]: expected Line, got int"):
        encode_field(Box[Line], Box(line, [1]))
