"""Events from outside, as parsed JSON: made into messages, or kept as external events."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from perdure.codec import Codec, Encoded, TypeRegistry
from perdure.errors import DecodeError, UnknownMessageType
from perdure.messages import ExternalEvent, message
from tests.codec.shapes import Card, Cash, Line, OrderPlaced, Sku, Status


@message(name="codec-test.from-json")
class FromJson:
    id: UUID
    day: date
    clock: time
    span: timedelta
    either: UUID | int
    loose: Any = None


codec = Codec(TypeRegistry())
codec.registry.add_external("codec-test.settled")
codec.registry.add_external("codec-test.cash")

ORDER = """{"type": "codec-test.order-placed", "data": {
    "order_id": "00000000-0000-0000-0000-000000000001", "at": "2024-01-01T10:00:00Z",
    "status": "paid", "total": "12.50", "lines": [{"sku": "a", "quantity": 2, "price": 3}],
    "payment": ["Card", {"number": "4"}], "unknown": 1}}"""


def test_json_becomes_the_message() -> None:
    order = codec.from_mapping(json.loads(ORDER))
    line = Line(Sku("a"), 2, Decimal(3))
    at = datetime(2024, 1, 1, 10, tzinfo=UTC)
    assert order == OrderPlaced(
        UUID(int=1), at, Status.PAID, Decimal("12.50"), [line], Card("4"), None
    )
    assert codec.decode(*codec.encode(order)) == order


def test_objects_that_are_scalars_already_are_taken_as_they_are() -> None:
    data = {"id": UUID(int=2), "day": date(2024, 1, 1), "clock": "10:30", "span": 1.5, "either": 3}
    made = codec.from_mapping({"type": "codec-test.from-json", "data": data})
    assert made == FromJson(
        UUID(int=2), date(2024, 1, 1), time(10, 30), timedelta(seconds=1.5), 3, None
    )
    data["either"] = str(UUID(int=4))
    made = codec.from_mapping({"type": "codec-test.from-json", "data": data})
    assert made.either == UUID(int=4)


def test_a_declared_name_without_class_becomes_an_external_event() -> None:
    event = codec.from_mapping({"type": "codec-test.settled", "version": 3, "data": {"a": [1]}})
    assert event == ExternalEvent("codec-test.settled", {"a": [1]}, 3)
    encoded = codec.encode(event)
    assert encoded == Encoded("codec-test.settled", 3, b"\x81\xa1a\x91\x01")
    assert codec.decode(*encoded) == event
    assert codec.from_mapping({"type": "codec-test.settled", "data": {}}).version == 1


def test_a_class_comes_before_a_declared_external_name() -> None:
    made = codec.from_mapping({"type": "codec-test.cash", "data": {"number": "1"}})
    assert made == Cash("1")


def test_an_unknown_type_name_is_refused() -> None:
    with pytest.raises(UnknownMessageType, match=r"no class for type 'codec-test.never'"):
        codec.from_mapping({"type": "codec-test.never", "data": {}})


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        ({}, "has no 'type'"),
        ({"type": 7, "data": {}}, "has no 'type'"),
        ({"type": "codec-test.cash"}, "codec-test.cash: the event has no 'data'"),
        ({"type": "codec-test.cash", "data": [1]}, "has no 'data'"),
        ({"type": "codec-test.cash", "data": {}, "version": "1"}, "'version' is a str"),
        ({"type": "codec-test.cash", "data": {}, "version": 2}, "versions 1 to 1"),
        ({"type": "codec-test.cash", "data": {}}, "field 'number' is missing"),
        ({"type": "codec-test.cash", "data": {"number": 4}}, r"\.number: expected str, got int"),
        ("text", "is a str, not a mapping"),
    ],
)
def test_the_error_says_what_is_missing_or_wrong(mapping: Any, said: str) -> None:
    with pytest.raises(DecodeError, match=said):
        codec.from_mapping(mapping)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("order_id", "no-uuid", r"\.order_id: ValueError"),
        ("total", 1.5, r"\.total: expected Decimal, got float"),
        ("total", "a lot", r"\.total: "),
        ("at", "2024-01-01T10:00:00", r"\.at: a datetime without time zone; write the offset"),
        ("status", "lost", r"\.status: ValueError: 'lost' is not a valid Status"),
        ("lines", [{"sku": "a"}], r"\.lines\[0\]: field 'quantity' is missing"),
        ("payment", ["Cheque", {}], r"\.payment: expected Card \| codec-test.cash, got list"),
    ],
)
def test_a_bad_field_is_named(field: str, value: Any, said: str) -> None:
    given = json.loads(ORDER)
    given["data"][field] = value
    with pytest.raises(DecodeError, match=said):
        codec.from_mapping(given)


def test_undeclared_values_from_outside_must_be_plain() -> None:
    data = {"id": UUID(int=2), "day": "2024-01-01", "clock": "10:30", "span": 1, "either": 3}
    with pytest.raises(DecodeError, match=r"\.loose"):
        codec.from_mapping({"type": "codec-test.from-json", "data": {**data, "loose": {1, 2}}})


def test_stored_bytes_may_not_use_text_for_scalars() -> None:
    body = codec.encode_value(json.loads(ORDER)["data"])[1:]
    with pytest.raises(DecodeError, match=r"\.order_id: expected UUID, got str"):
        codec.decode("codec-test.order-placed", 1, body)
