"""What is encoded comes back equal and of the same types, everywhere inside."""

from __future__ import annotations

import math
import threading
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, timedelta, timezone
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
    Box,
    Card,
    Cash,
    Choices,
    Colour,
    Containers,
    Gap,
    Line,
    OrderState,
    Rank,
    Right,
    Scalars,
    Status,
    Tree,
)

codec = Codec(TypeRegistry([OrderState]))

ZONES = [ZoneInfo(key) for key in ("Europe/Berlin", "America/New_York", "Asia/Kathmandu", "UTC")]
minutes = st.integers(-1439, 1439).map(lambda m: timedelta(minutes=m))
zones = st.one_of(
    st.just(UTC),
    st.sampled_from(ZONES),
    minutes.map(timezone),
    st.builds(timezone, minutes, st.text(st.characters(codec="utf-8"), max_size=5)),
    st.just(timezone(timedelta(microseconds=1))),
)
datetimes = st.builds(
    lambda naive, zone, fold: naive.replace(tzinfo=zone, fold=fold),
    st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31)),
    zones,
    st.integers(0, 1),
)
ints = st.integers(-(2**63), 2**64 - 1)
texts = st.text(st.characters(codec="utf-8"), max_size=20)
times = st.builds(lambda t, fold: t.replace(fold=fold), st.times(), st.integers(0, 1))
plain_scalars = st.one_of(
    st.none(),
    st.booleans(),
    ints,
    st.floats(),
    texts,
    st.binary(max_size=20),
    st.uuids(),
    st.decimals(),
    st.just(Decimal("-sNaN12")),
    st.just(Decimal("0E+99")),
    st.dates(),
    times,
    datetimes,
    st.timedeltas(),
)
keys = st.one_of(texts, ints, st.uuids(), st.binary(max_size=5), st.dates())
plains = st.recursive(
    plain_scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4)
)
lines = st.builds(Line, texts, ints, st.decimals())
small = st.integers(-9, 9)
trees = st.recursive(
    st.builds(Tree, small),
    lambda inner: st.builds(Tree, small, st.lists(inner, max_size=3).map(tuple)),
    max_leaves=8,
)
payments = st.builds(Card, texts) | st.builds(Cash, texts)
scalar_messages = st.builds(
    Scalars,
    st.none(),
    st.booleans(),
    ints,
    st.floats() | ints,
    texts,
    st.binary(max_size=300),
    st.uuids(),
    st.decimals(),
    st.dates(),
    times,
    datetimes,
    st.timedeltas(),
)
container_messages = st.builds(
    Containers,
    st.lists(ints, max_size=20),
    st.tuples(ints, texts),
    st.lists(st.decimals(allow_nan=False), max_size=4).map(tuple),
    st.sets(st.uuids(), max_size=4),
    st.frozensets(ints, max_size=4),
    st.dictionaries(texts, ints, max_size=4),
    st.dictionaries(ints, texts, max_size=4),
    st.dictionaries(st.uuids(), st.lists(ints, max_size=3), max_size=3),
    st.dictionaries(st.sampled_from(Status), st.booleans()),
    st.dictionaries(st.tuples(ints, texts), st.floats(), max_size=3),
    st.dictionaries(
        texts, st.lists(st.tuples(ints, st.sets(texts, max_size=3)), max_size=3), max_size=3
    ),
    st.lists(ints, max_size=3) | st.lists(ints, max_size=3).map(tuple),
    st.dictionaries(texts, ints, max_size=3),
)
choice_messages = st.builds(
    Choices,
    st.sampled_from(Status),
    st.sampled_from(Colour),
    st.sampled_from(Rank),
    st.sampled_from([Right.READ, Right.READ | Right.WRITE, Right(0)]),
    st.none() | ints,
    st.sampled_from([None, Gap.NOTHING, Gap.SOME]),
    st.none() | ints | texts,
    st.uuids() | datetimes | st.booleans() | st.floats() | ints,
    st.none() | payments,
    st.lists(ints, max_size=3)
    | st.dictionaries(texts, ints, max_size=3)
    | st.sampled_from(Status)
    | texts,
    st.sampled_from(["a", 1, True, Status.PAID]),
    trees,
    st.builds(Box, lines, st.lists(lines, max_size=2)),
    plains,
    st.dictionaries(keys, plains, max_size=3),
    st.lists(plains, max_size=3),
)


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
        assert left == right
        assert {(type(one), one) for one in left} == {(type(one), one) for one in right}
    elif isinstance(left, float) and math.isnan(left):
        assert math.isnan(right)
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
        state = OrderState(str(number), [Line(str(number), number, Decimal(number))] * 20)
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
    body = codec.encode(OrderState("o-1", [Line("s", 1, Decimal("2.50"))], {"m"})).body
    assert codec.decode_plain(body) == {
        "order_id": "o-1",
        "lines": [{"sku": "s", "quantity": 1, "price": Decimal("2.50")}],
        "seen": ["m"],
        "cache_size": 0,
    }


@pytest.mark.parametrize("value", [None, [], {}, {"a": [UUID(int=1)]}, {None: 1, b"k": 2.0}])
def test_plain_values_need_no_class(value: object) -> None:
    assert_same(codec.decode_value(codec.encode_value(value)), value)
