"""Hypothesis strategies for the classes in ``shapes.py`` and for plain values."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

from tests.codec.shapes import (
    Box,
    Card,
    Cash,
    Choices,
    Colour,
    Containers,
    Gap,
    Line,
    Rank,
    Right,
    Scalars,
    Status,
    Tree,
)

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
    plain_scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
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
