"""Index keys are equal and ordered as their values are."""

from __future__ import annotations

import enum
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.core.index_key import KEY_CHARS_MAX, index_key, whole_key
from perdure.errors import EncodeError
from tests.effort import times

ZONES = st.integers(-14 * 60, 14 * 60).map(lambda m: timezone(timedelta(minutes=m)))
NUMBERS = st.one_of(
    st.integers(),
    st.integers(-1000, 1000),
    st.decimals(allow_nan=False),
    st.decimals(-100, 100, places=2),
)
TEXTS = st.text(alphabet=st.characters(exclude_categories=["Cs"]))
LOW_TEXTS = st.text(alphabet="\x00\x01\x02a\u00e9\U0001f600")
KINDS: dict[str, st.SearchStrategy[Any]] = {
    "numbers": NUMBERS,
    "texts": TEXTS,
    "texts of odd signs": LOW_TEXTS,
    "truths": st.booleans(),
    "moments": st.datetimes(timezones=ZONES),
    "days": st.dates(),
    "uuids": st.uuids(),
}


@pytest.mark.parametrize("kind", KINDS)
def test_keys_are_ordered_and_equal_as_their_values_are(kind):
    @settings(max_examples=times(200))
    @given(KINDS[kind], KINDS[kind])
    def check(one, other):
        first, second = whole_key(one), whole_key(other)
        assert (first == second, first < second) == (one == other, one < other)
        assert (first.encode() < second.encode()) == (one < other)  # as SQLite compares
        assert "\x00" not in first
        assert whole_key(None) < first
        cut_first, cut_second = index_key(one), index_key(other)
        assert len(cut_first) <= KEY_CHARS_MAX
        assert cut_first == cut_second or (cut_first < cut_second) == (first < second)

    check()


@settings(max_examples=times(100))
@given(TEXTS, TEXTS, TEXTS)
def test_long_texts_are_cut_and_keep_their_place(beginning, one, other):
    beginning = (beginning + "x") * KEY_CHARS_MAX
    first, second = beginning + one, beginning + other
    assert index_key(first) == index_key(second) == whole_key(first)[:KEY_CHARS_MAX]
    assert (whole_key(first) < whole_key(second)) == (first < second)


class Colour(enum.Enum):
    RED = "red"
    NONE = 7


class Rank(enum.IntEnum):
    FIRST = 1


class Kind(enum.StrEnum):
    BIG = "big"


def test_keys_that_are_stored_stay_as_they_are():
    at = datetime(2026, 11, 21, 20, 0, tzinfo=UTC)
    values = {
        None: "0", "": "s", "c-1": "sc-1", "a\x00b\x01": "sa\x01\x01b\x01\x02",
        0: "n1", Decimal("-0.0"): "n1", 1200: "n25000000312", Decimal("0.05"): "n2499999985",
        -7: "n0499999992~", Decimal("Infinity"): "n3", Decimal("-Infinity"): "n/",
        at: "t01001795291200000000", date(2026, 1, 2): "d2026-01-02",
        UUID(int=255): "u000000000000000000000000000000ff",
        Colour.RED: "sred", Rank.FIRST: "n2500000001", Kind.BIG: "sbig",
    }  # fmt: skip
    assert {value: index_key(value) for value in values} == values
    assert (index_key(True), index_key(False)) == ("b1", "b0")


@pytest.mark.parametrize(
    "value",
    [
        1.5,
        b"x",
        [1],
        datetime(2026, 1, 1),
        Decimal("NaN"),
        Decimal("1E+60000000"),
        10**5000,
        "\ud800",
        object(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_has_no_place_in_an_order_is_refused(value):
    with pytest.raises(EncodeError) as caught:
        index_key(value)
    assert caught.value.remedy
