"""Digests: one per value, whatever made it; never the same for two."""

import struct
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from perdure import ExternalEvent, message
from perdure.codec import Codec, TypeRegistry
from perdure.core.digest import digest_of
from perdure.errors import EncodeError, LimitExceeded, NaiveDatetime
from tests.codec.shapes import Card, Cash, One, OrderState
from tests.codec.strategies import choice_messages, container_messages, plains, scalar_messages

codec = Codec(TypeRegistry([OrderState]))


class Fruit(Enum):
    APPLE = 1


class Number(IntEnum):
    ONE = 1


@message(name="digest-test.Pay")
@dataclass(frozen=True)
class Pay:
    invoice: str
    amount: Decimal
    at: datetime


@attrs.frozen
class Leaf:
    n: int


PAY = Pay("i-7", Decimal("99.50"), datetime(2026, 1, 31, 12, tzinfo=ZoneInfo("Europe/Berlin")))
EVERYTHING = One(
    [None, True, -7, 0.5, "ä", b"\0", UUID(int=7), Decimal("1.50"), date(2026, 1, 31), time(1),
     PAY.at, timedelta(-1, 2, 3), (1,), {1, 2}, frozenset({"x"}), {"k": 1, 2: "v"}, Fruit.APPLE,
     Leaf(1), ExternalEvent("e", {"a": 1}, 2)]
)  # fmt: skip


def test_the_digest_is_what_it_always_was() -> None:
    """Digests are stored: if this fails, decisions that wait would fall on nothing."""
    assert digest_of(PAY) == "9e76bc4f3a3c693fe6c92a43a4b6b6fc3902766b71274e95f7c5b57cdc4e881d"
    assert (
        digest_of(EVERYTHING) == "a2df4b07614d5def8d6858466af5c49f1c6e16846efec70f213c65520bbc28fd"
    )


@given(scalar_messages | container_messages | choice_messages | st.builds(One, plains))
def test_what_the_codec_gives_back_has_the_same_digest(value: Any) -> None:
    assert digest_of(codec.decode(*codec.encode(value))) == digest_of(value)


# Values that are easily taken for one another.
ALIKE: list[Any] = [
    None, "", b"", "None", 0, False, 0.0, -0.0, "0", Decimal(0), Decimal("0.0"), Decimal("-0"),
    1, True, 1.0, "1", b"1", "True", Decimal(1), Decimal("1.0"), Fruit.APPLE,
    Number.ONE, timedelta(1), timedelta(seconds=1), UUID(int=1), date(1, 1, 1), time(1), time(0),
    time(1, fold=1), datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin")),
    datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")),
    datetime(2026, 10, 25, 0, 30, tzinfo=UTC),
    datetime(2026, 10, 25, 0, 30, tzinfo=ZoneInfo("UTC")),
    datetime(2026, 10, 25, 2, 30, tzinfo=timezone(timedelta(hours=2))),
    "a", "b", "ab", "1:a", "a1:b", "str;1:a", b"str;1:a", Card("1"), Cash("1"), Leaf(1),
    float("nan"), float("inf"), "nan",
    ExternalEvent("e", {"a": 1}), ExternalEvent("e", {"a": 1}, 2), ExternalEvent("f", {"a": 1}),
]  # fmt: skip
hashables = st.sampled_from([x for x in ALIKE if type(x) is not ExternalEvent])
alike = st.recursive(
    st.sampled_from(ALIKE),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.sets(hashables, max_size=3),
        st.frozensets(hashables, max_size=3),
        st.dictionaries(hashables, inner, max_size=3),
        st.builds(One, inner),
    ),
    max_leaves=6,
)


def exactly(value: Any) -> Any:
    """Equal for two values if they are the same in every part, types included."""
    kind = type(value)
    if kind in (list, tuple):
        return kind, [exactly(x) for x in value]
    if kind in (set, frozenset):
        return kind, {repr(exactly(x)) for x in value}
    if kind is dict:
        return kind, {repr(exactly(k)): exactly(v) for k, v in value.items()}
    if kind is float:
        return kind, struct.pack(">d", value)
    if kind is datetime:
        return kind, value.isoformat(), value.fold, getattr(value.tzinfo, "key", None)
    if kind is One:
        return kind, exactly(value.field)
    if kind is ExternalEvent:
        return kind, value.type, value.version, exactly(value.data)
    return kind, repr(value)


@given(alike, alike)
@example([["ab", "c"]], [["a", "bc"]])
@example([[], [[]]], [[[]], []])
@example({"a": {"b": 1}}, {"a": {"b": True}})
@example({1: "b", "1": "a"}, {"1": "b", 1: "a"})
@example((1, 2), [1, 2])
def test_two_values_share_a_digest_only_if_they_are_the_same(one: Any, other: Any) -> None:
    same = exactly(one) == exactly(other)
    assert (digest_of(One(one)) == digest_of(One(other))) is same


def test_every_pair_of_values_that_look_alike_has_different_digests() -> None:
    digests = [digest_of(One(value)) for value in ALIKE]
    assert len(set(digests)) == len(ALIKE)


def test_the_order_of_fields_and_of_keys_and_the_name_of_the_class_do_not_matter() -> None:
    @message(name="digest-test.Same")
    @dataclass
    class One_:
        a: int = 1
        b: dict[str, int] = field(default_factory=lambda: {"x": 1, "y": 2})

    @message(name="digest-test.Same")
    @dataclass
    class Another:
        b: dict[str, int] = field(default_factory=lambda: {"y": 2, "x": 1})
        a: int = 1

    assert digest_of(One_()) == digest_of(Another())


def test_another_version_of_the_type_is_another_value() -> None:
    @message(name="digest-test.Versioned")
    @dataclass
    class Old:
        amount: int = 1

    @message(name="digest-test.Versioned", version=2, upcasters={1: lambda old: old})
    @dataclass
    class New:
        amount: int = 1

    assert digest_of(Old()) != digest_of(New())


def test_a_number_of_any_length_has_a_digest() -> None:
    assert digest_of(One(10**5000)) != digest_of(One(10**5000 + 1))


class Somewhere(tzinfo):
    def utcoffset(self, at: datetime | None) -> timedelta:
        return timedelta(0)

    def dst(self, at: datetime | None) -> None:
        return None

    def tzname(self, at: datetime | None) -> None:
        return None


def named(wrong: Any) -> str:
    """Without addresses: whoever runs the tests in several processes compares the names."""
    return type(wrong).__name__


@pytest.mark.parametrize(
    "wrong",
    [
        object(),
        datetime(2026, 1, 1, tzinfo=Somewhere()),
        time(1, tzinfo=UTC),
        "\ud800",
        [1, {"a": object()}],
        range(3),
        type,
    ],
    ids=named,
)
def test_what_could_not_be_stored_has_no_digest(wrong: Any) -> None:
    with pytest.raises(EncodeError):
        digest_of(One(wrong))


@pytest.mark.parametrize("wrong", [None, 1, "text", {"type": "x"}, [PAY], One, object()], ids=named)
def test_only_messages_have_a_digest(wrong: Any) -> None:
    with pytest.raises(EncodeError, match=r"@message"):
        digest_of(wrong)


def test_a_naive_datetime_and_a_value_within_itself_are_refused_by_name() -> None:
    with pytest.raises(NaiveDatetime):
        digest_of(One(datetime(2026, 1, 1)))
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(LimitExceeded, match="contains itself"):
        digest_of(One(endless))


def test_plain_values_of_attrs_classes_and_empty_classes_count_as_messages() -> None:
    @attrs.frozen
    class Nothing:
        pass

    @message(name="digest-test.Empty")
    class Empty:
        pass

    assert len({digest_of(Nothing()), digest_of(Empty()), digest_of(Leaf(1))}) == 3
