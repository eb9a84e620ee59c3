"""The checksum covers the body and every key column, and is the same everywhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.codec.checksum import checksum

KEYS = st.lists(
    st.one_of(st.text(st.characters(exclude_categories=["Cs"])), st.integers(-(2**63), 2**63)),
    max_size=4,
)


def test_stored_values_do_not_change_with_versions():
    assert checksum(b"paid", "Order/o-1", 7) == 255462771
    assert checksum(b"", "") == 4283763276


@given(KEYS, KEYS, st.binary())
def test_different_keys_differ(one, other, body):
    same = [(type(value), value) for value in one] == [(type(value), value) for value in other]
    assert (checksum(body, *one) == checksum(body, *other)) == same


@given(KEYS, st.binary(min_size=1), st.data())
def test_a_flipped_bit_shows(key, body, data):
    bit = data.draw(st.integers(0, len(body) * 8 - 1))
    flipped = bytearray(body)
    flipped[bit // 8] ^= 1 << bit % 8
    assert checksum(bytes(flipped), *key) != checksum(body, *key)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("ab", "c"), ("a", "bc")),
        (("1",), (1,)),
        (("a", ""), ("a",)),
        ((12, 3), (1, 23)),
        (("a\0", "b"), ("a", "\0b")),
    ],
)
def test_no_two_keys_look_alike(one, other):
    assert checksum(b"body", *one) != checksum(b"body", *other)


@pytest.mark.parametrize("value", ["\ud800", 2**64])
def test_what_cannot_be_stored_is_refused(value):
    with pytest.raises((ValueError, OverflowError)):
        checksum(b"", value)
