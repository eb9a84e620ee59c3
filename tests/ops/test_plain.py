"""Values as plain data: whatever they are, bounded, and nobody's code is called."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, StrEnum
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure import ExternalEvent, message
from perdure.ops.plain import Bounds, to_plain


class Colour(Enum):
    RED = 1
    ODD = object()


class Word(StrEnum):
    YES = "yes"


@message(name="plain-test.Line")
class Line:
    price: Decimal
    colour: Colour = Colour.RED


@dataclass
class Unmarked:
    lines: list[Any] = field(default_factory=list)


class Hostile:
    """Whoever asks it anything, has its code run."""

    def __repr__(self) -> str:
        raise SystemExit("repr was called")

    __str__ = __iter__ = __len__ = __hash__ = __repr__  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (None, None),
        (True, True),
        (7, 7),
        (2**70, 2**70),
        (2**5_000, "a number of 5001 bits"),
        (1.5, 1.5),
        (float("nan"), "NaN"),
        (float("inf"), "Infinity"),
        (float("-inf"), "-Infinity"),
        ("text\x1b", "text\x1b"),
        ("\ud800", "\\ud800"),
        (b"\x00\xff", "0x00ff"),
        (bytes(1_000), f"0x{'00' * 64}… (1000 bytes)"),
        (Decimal("12.50"), "12.50"),
        (Decimal("NaN"), "NaN"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (datetime(2026, 1, 1, tzinfo=UTC), "2026-01-01T00:00:00+00:00"),
        (date(2026, 1, 1), "2026-01-01"),
        (time(3, 30), "03:30:00"),
        (timedelta(seconds=90, milliseconds=500), "90.5 s"),
        (Word.YES, "yes"),
        (Colour.RED, 1),
        (Colour.ODD, "ODD"),
        ((1, [2], {3}), [1, [2], [3]]),
        ({1: "a", None: "b", b"\x01": "c", (1,): "d"}, {"1": "a", "None": "b", "0x01": "c",
                                                        "<tuple>": "d"}),
        (Line(Decimal("1")), {"$type": "plain-test.Line", "price": "1", "colour": 1}),
        (Unmarked([Line(Decimal("1"))]), {"lines": [
            {"$type": "plain-test.Line", "price": "1", "colour": 1}]}),
        (ExternalEvent("Paid", {"n": 1}), {"$type": "Paid", "n": 1}),
        (Hostile(), "<Hostile>"),
        ({"a": Hostile(), Hostile: 1}, {"a": "<Hostile>", "<type>": 1}),
        (Unmarked, "<type>"),
    ],
)  # fmt: skip
def test_each_kind_of_value(value, plain):
    assert to_plain(value) == plain


def test_what_is_too_large_is_cut_and_said_to_be():
    assert to_plain("x" * 50_000) == f"{'x' * 10_000}… (50000 characters)"
    few = Bounds(text=3, bytes=1, depth=2, elements=4)
    assert to_plain([1, 2, 3, 4, 5, 6], few) == [1, 2, 3, "… (3 more)"]
    assert to_plain({n: n for n in range(9)}, few) == {"0": 0, "1": 1, "2": 2, "…": "6 more"}
    assert to_plain([[[1]]], few) == [["… (nested deeper than 2 levels)"]]
    itself: list[Any] = []
    itself.append(itself)
    assert "nested deeper" in json.dumps(to_plain(itself), ensure_ascii=False)


def test_what_would_take_for_ever_does_not():
    wide: Any = ["x" * 100]
    for _ in range(40):
        wide = [wide, wide]
    assert len(json.dumps(to_plain(wide))) < 1_500_000


def test_a_field_that_was_never_set_is_left_out():
    broken = object.__new__(Line)
    object.__setattr__(broken, "price", Decimal("2"))
    assert to_plain(broken) == {"$type": "plain-test.Line", "price": "2", "colour": 1}
    unset = object.__new__(Unmarked)
    assert to_plain(unset) == {}


class Broken(list[int]):
    def __iter__(self) -> Any:
        raise ValueError("no list")


class Undated(datetime):
    def isoformat(self, *given: Any) -> str:
        raise ValueError("no date")


def test_a_value_whose_code_raises_is_named_and_hides_no_other():
    found = to_plain({"a": Broken([1]), "b": [Undated(2026, 1, 1), 1], Undated(2026, 1, 1): 2})
    assert found == {"a": "<Broken>", "b": ["<Undated>", 1], "<Undated>": 2}


def test_keys_that_look_alike_are_all_shown():
    assert to_plain({1: "a", "1": "b"}) == {"1": "a", "1 (1)": "b"}
    assert to_plain({("a", 1): 1, ("b", 1): 2}) == {"<tuple>": 1, "<tuple> (1)": 2}


def test_a_number_of_many_digits_is_cut():
    assert to_plain(Decimal("7" * 100), Bounds(text=10)) == "7777777777… (100 characters)"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
    | st.decimals() | st.uuids() | st.datetimes() | st.timedeltas(),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text() | st.integers() | st.booleans(), inner, max_size=4)
    | st.tuples(inner),
    max_leaves=20,
)  # fmt: skip


@given(VALUES)
def test_whatever_it_is_json_takes_it(value):
    json.loads(json.dumps(to_plain(value), allow_nan=False).encode())
