"""What is encoded comes back equal and of the same types, everywhere inside."""

from __future__ import annotations

import threading
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.codec import Codec, TypeRegistry
from perdure.messages import ExternalEvent, message
from tests.codec.shapes import (
    Choices,
    Containers,
    Line,
    OrderState,
    Scalars,
    Sku,
)
from tests.codec.strategies import (
    choice_messages,
    container_messages,
    ints,
    lines,
    plains,
    scalar_messages,
    texts,
)

codec = Codec(TypeRegistry([OrderState]))


def assert_same(left: Any, right: Any) -> None:
    """Equal, and of equal types all the way down; NaN is the same as NaN."""
    assert type(left) is type(right), (left, right)
    if is_dataclass(left):
        for item in fields(left):
            assert_same(getattr(left, item.name), getattr(right, item.name))
    elif isinstance(left, list | tuple):
        assert len(left) == len(right)
        for one, other in zip(left, right, strict=True):
            assert_same(one, other)
    elif isinstance(left, dict):
        for one, other in zip(left.items(), right.items(), strict=True):
            assert_same(one, other)
    elif isinstance(left, set | frozenset):
        assert {(type(one), one) for one in left} == {(type(one), one) for one in right}
    elif isinstance(left, float | Decimal):
        assert repr(left) == repr(right)
    elif isinstance(left, datetime):
        assert_same_moment(left, right)
    else:
        assert left == right
        assert getattr(left, "fold", 0) == getattr(right, "fold", 0)


def assert_same_moment(left: datetime, right: datetime) -> None:
    assert left.replace(tzinfo=None) == right.replace(tzinfo=None)
    assert (left.fold, left.utcoffset(), left.tzname()) == (
        right.fold,
        right.utcoffset(),
        right.tzname(),
    )
    assert type(left.tzinfo) is type(right.tzinfo)
    assert getattr(left.tzinfo, "key", None) == getattr(right.tzinfo, "key", None)


def assert_comes_back(value: Any) -> None:
    encoded = codec.encode(value)
    assert_same(codec.decode(*encoded), value)
    assert_same(codec.decode_exactly(*encoded), value)
    assert codec.encode(codec.decode(*encoded)) == encoded
    assert_same(codec.decode_value(codec.encode_value(value)), value)


@given(scalar_messages)
def test_scalars_come_back_exactly(value: Scalars) -> None:
    assert_comes_back(value)


@given(container_messages)
def test_containers_come_back_exactly(value: Containers) -> None:
    assert_comes_back(value)


@given(choice_messages)
def test_unions_enums_literals_and_undeclared_values_come_back_exactly(value: Choices) -> None:
    assert_comes_back(value)


@given(plains)
def test_plain_replies_come_back_exactly(value: Any) -> None:
    assert_same(codec.decode_value(codec.encode_value(value)), value)


@given(st.dictionaries(texts, plains, max_size=4))
def test_external_events_come_back_exactly(data: dict[str, Any]) -> None:
    open_codec = Codec(TypeRegistry())
    open_codec.registry.add_external("codec-test.outside")
    event = ExternalEvent("codec-test.outside", data, version=7)
    assert_same(open_codec.decode(*open_codec.encode(event)), event)
    assert_same(open_codec.decode_value(open_codec.encode_value(event)), event)


@given(st.lists(lines, max_size=3), st.sets(texts, max_size=3), ints)
def test_mutable_state_comes_back_with_fields_that_are_no_arguments(
    order_lines: list[Line], seen: set[str], size: int
) -> None:
    state = OrderState("o-1", order_lines, seen)
    state.cache_size = size
    assert_comes_back(state)


def test_whole_range_of_a_timedelta_comes_back() -> None:
    for span in (timedelta.min, timedelta.max, -timedelta(microseconds=1)):
        assert codec.decode_value(codec.encode_value(span)) == span


def test_both_passes_of_a_repeated_hour_come_back() -> None:
    zone = ZoneInfo("Europe/Berlin")
    for fold, hours in ((0, 2), (1, 1)):
        moment = datetime(2024, 10, 27, 2, 30, tzinfo=zone, fold=fold)
        back = codec.decode_value(codec.encode_value(moment))
        assert (back.fold, back.utcoffset()) == (fold, timedelta(hours=hours))


def test_a_moment_keeps_its_instant_when_its_zones_rules_have_changed() -> None:
    moment = datetime(2030, 7, 1, 12, tzinfo=ZoneInfo("Europe/Berlin"))
    data = codec.encode_value(moment)
    two_hours, one_hour = (int(h * 3_600_000_000).to_bytes(8) for h in (2, 1))
    back = codec.decode_value(data.replace(two_hours, one_hour))
    assert back.astimezone(UTC) == datetime(2030, 7, 1, 11, tzinfo=UTC)
    assert back.tzinfo.key == "Europe/Berlin"


def test_equal_sets_have_equal_bytes() -> None:
    forth, back = OrderState(seen={"a", "b", "c"}), OrderState(seen={"c", "b", "a"})
    assert codec.encode(forth).body == codec.encode(back).body
    assert codec.decode_plain(codec.encode(forth).body)["seen"] == ["a", "b", "c"]


def test_attrs_classes_and_private_fields_work() -> None:
    @attrs.frozen
    class Point:
        x: int
        _hidden: str = "h"

    local = Codec(TypeRegistry([Point]))
    point = Point(1, hidden="z")
    assert local.decode(*local.encode(point)) == point


def test_fields_may_have_any_name() -> None:
    @message(name="codec-test.odd-names")
    class OddNames:
        cl: int
        converter: str
        o: int
        _: int
        res: int = 3
        instance: int = 4

    value = OddNames(cl=1, converter="c", o=2, _=5, res=6, instance=7)
    assert codec.decode(*codec.encode(value)) == value


def test_large_values_leave_nothing_behind_for_the_next() -> None:
    big = OrderState(order_id="x" * 200_000)
    assert codec.decode(*codec.encode(big)) == big
    assert codec.decode_value(codec.encode_value(1)) == 1


def test_many_threads_encode_at_once() -> None:
    """The packers are shared; each thread's bytes must be its own."""
    wrong: list[object] = []

    def work(number: int) -> None:
        state = OrderState(str(number), [Line(Sku(str(number)), number, Decimal(number))] * 20)
        for _ in range(200):
            if codec.decode(*codec.encode(state)) != state:
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_viewers_see_plain_fields_without_the_class() -> None:
    body = codec.encode(OrderState("o-1", [Line(Sku("s"), 1, Decimal("2.50"))], {"m"})).body
    assert codec.decode_plain(body) == {
        "order_id": "o-1",
        "lines": [{"sku": "s", "quantity": 1, "price": Decimal("2.50")}],
        "seen": ["m"],
        "cache_size": 0,
    }


@pytest.mark.parametrize("value", [None, [], {}, {"a": [UUID(int=1)]}, {None: 1, b"k": 2.0}])
def test_plain_values_need_no_class(value: object) -> None:
    assert_same(codec.decode_value(codec.encode_value(value)), value)
