"""Bytes are data: bounded before anything is built, and garbage is only ever a typed error."""

from __future__ import annotations

import pickle
import tracemalloc
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgpack
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from perdure.codec import Codec, Limits, TypeRegistry, check_limits
from perdure.errors import DecodeError, LimitExceeded
from tests.codec.shapes import Card, Choices, Line, OrderPlaced, OrderState, Sku, Status, Tree
from tests.effort import times

codec = Codec(TypeRegistry([OrderState, Tree]))
ORDER = OrderPlaced(
    UUID(int=2**127 + 1),
    datetime(2024, 1, 1, tzinfo=UTC),
    Status.NEW,
    Decimal("1.50"),
    [Line(Sku("sku"), 3, Decimal(9))] * 2,
    Card("4"),
    "né",
)
VALID = codec.encode(ORDER).body
VALID_VALUE = codec.encode_value(ORDER)
ROOMY = Limits(bytes_max=100_000_000)


def assert_only_typed_errors(data: bytes) -> None:
    for name in ("codec-test.order-placed", "OrderState", "Tree", "codec-test.choices"):
        attempt(lambda name=name: codec.decode(name, 1, data))
    attempt(lambda: codec.decode_value(data))
    attempt(lambda: codec.decode_plain(data))


def attempt(call: Any) -> None:
    with suppress(DecodeError, LimitExceeded):
        call()


@given(st.binary(max_size=400))
@example(b"")
@example(b"\xc1")
@example(pickle.dumps(ORDER))
@example(pickle.dumps({"a": 1}, protocol=0))
@example(b"cos\nsystem\n(S'true'\ntR.")
def test_garbage_is_a_typed_error(data: bytes) -> None:
    assert_only_typed_errors(data)


@settings(max_examples=times(300))
@given(
    st.sampled_from([VALID, VALID_VALUE]),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=4),
    st.integers(0, 3),
)
def test_mutated_bytes_are_a_typed_error_or_a_value(
    valid: bytes, changes: list[tuple[int, int]], cut: int
) -> None:
    data = bytearray(valid)
    for position, value in changes:
        data[position % len(data)] = value
    assert_only_typed_errors(bytes(data[: len(data) - cut]))


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.floats()
    | st.text(max_size=4)
    | st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=20)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
)


@given(st.dictionaries(st.sampled_from([*Choices.__annotations__, "children", "lines"]), plain))
def test_well_formed_bytes_of_the_wrong_shape_are_a_typed_error(fields: dict[str, Any]) -> None:
    data = msgpack.packb(fields)
    assert_only_typed_errors(data)
    whole = {"value": 1, "children": [], **fields}
    assert_only_typed_errors(msgpack.packb(whole))


@pytest.mark.parametrize("length", range(len(VALID)))
def test_every_truncation_is_refused(length: int) -> None:
    with pytest.raises(DecodeError):
        codec.decode("codec-test.order-placed", 1, VALID[:length])


def test_trailing_bytes_are_refused() -> None:
    with pytest.raises(DecodeError):
        codec.decode("codec-test.order-placed", 1, VALID + b"\xc0")


@pytest.mark.parametrize("code", [0, 7, 42, 127, -2, -128])
def test_an_ext_code_that_is_not_ours_is_refused(code: int) -> None:
    data = msgpack.packb([msgpack.ExtType(code & 0x7F, b"x" * 16)])
    data = data[:2] + bytes([code & 0xFF]) + data[3:]
    with pytest.raises(DecodeError, match="unknown ext code"):
        codec.decode_value(data)


@pytest.mark.parametrize(
    "stamp",
    [
        b"\xd6\xff\0\0\0\1",
        b"\xd7\xff" + b"\0" * 8,
        b"\xc7\x0c\xff" + b"\0" * 12,
        b"\xc8\0\x04\xff" + b"\0" * 4,
        b"\xc9\0\0\0\x08\xff" + b"\0" * 8,
    ],
)
def test_a_msgpack_timestamp_is_refused_wherever_it_is(stamp: bytes) -> None:
    for data in (stamp, b"\x91" + stamp, b"\x81\xa1a" + stamp, b"\x81" + stamp + b"\x01"):
        with pytest.raises(DecodeError, match="timestamp"):
            codec.decode_plain(data)


def test_bytes_that_look_like_a_timestamp_are_none() -> None:
    value = [b"\xd6\xff\0\0\0\1", {"a": -42, "b": [-1]}]
    assert codec.decode_value(codec.encode_value(value)) == value


BOMBS = {
    "array of 4 G elements": b"\xdd\xff\xff\xff\xff",
    "map of 4 G entries": b"\xdf\xff\xff\xff\xff",
    "text of 4 GB": b"\xdb\xff\xff\xff\xff",
    "bytes of 4 GB": b"\xc6\xff\xff\xff\xff",
    "ext of 4 GB": b"\xc9\xff\xff\xff\xff\x01",
    "claims inside claims": b"\xdd\x00\x01\x5f\x00" * 60 + b"\xc0" * 90_000,
    "10 M empty arrays": b"\xdd\x00\x98\x96\x80" + b"\x90" * 10_000_000,
    "200 k empty maps": b"\xdd\x00\x03\x0d\x40" + b"\x80" * 200_000,
    "deep arrays": b"\x91" * 100_000 + b"\xc0",
    "deep maps": b"\x81\xa1a" * 10_000 + b"\xc0",
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
@pytest.mark.parametrize("limits", [Limits(), ROOMY], ids=["default", "roomy"])
def test_bombs_are_refused_within_bounded_memory(bomb: bytes, limits: Limits) -> None:
    guarded = Codec(TypeRegistry(), limits)
    tracemalloc.start()
    try:
        with pytest.raises((LimitExceeded, DecodeError)):
            guarded.decode_plain(bomb)
        with pytest.raises((LimitExceeded, DecodeError)):
            guarded.decode_value(b"\x91" + bomb)
        # The second call's bytes are a copy of the bomb, made here.
        assert tracemalloc.get_traced_memory()[1] < len(bomb) + 2_000_000
    finally:
        tracemalloc.stop()


def levels(count: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(count - 1):
        value = [value]
    return value


def test_depth_counts_containers_inside_each_other() -> None:
    limits = Limits(depth_max=5)
    check_limits(msgpack.packb(levels(5)), limits)
    check_limits(msgpack.packb([levels(4)] * 50), limits)
    with pytest.raises(LimitExceeded, match="deeper than 5 levels"):
        check_limits(msgpack.packb(levels(6)), limits)
    with pytest.raises(LimitExceeded, match="deeper than 5 levels"):
        check_limits(msgpack.packb({"a": {"b": [[[{}]]]}}), limits)


def test_elements_count_keys_values_and_containers() -> None:
    data = msgpack.packb({"a": [1, 2, b"x" * 300], "b": "y" * 70_000})
    check_limits(data, Limits(elements_max=8))
    with pytest.raises(LimitExceeded, match="more than 7 elements"):
        check_limits(data, Limits(elements_max=7))


def test_bytes_are_counted_first() -> None:
    with pytest.raises(LimitExceeded, match="11 bytes, the limit is 10"):
        check_limits(b"\xc1" * 11, Limits(bytes_max=10))


every_element = st.recursive(
    st.none()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=40)
    | st.binary(max_size=300)
    | st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=40))
    | st.sampled_from(["x" * 300, "x" * 70_000, b"x" * 70_000]),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=40,
)


def count(value: Any) -> int:
    if isinstance(value, list):
        return 1 + sum(map(count, value))
    if isinstance(value, dict):
        return 1 + len(value) + sum(map(count, value.values()))
    return 1


def depth(value: Any) -> int:
    if isinstance(value, list | dict):
        inner = value if isinstance(value, list) else value.values()
        return 1 + max(map(depth, inner), default=0)
    return 0


@given(every_element)
def test_the_scanner_agrees_with_the_decoder(value: Any) -> None:
    data = msgpack.packb(value)
    exact = Limits(elements_max=count(value), depth_max=depth(value))
    check_limits(data, exact)
    if isinstance(value, list | dict):
        with pytest.raises(LimitExceeded):
            check_limits(data, Limits(depth_max=exact.depth_max - 1))
        if value:
            with pytest.raises(LimitExceeded):
                check_limits(data, Limits(elements_max=exact.elements_max - 1))


def test_what_could_not_be_read_again_is_refused_at_the_sender() -> None:
    tight = Codec(TypeRegistry([OrderState, Tree]), Limits(200, 20, 5))
    with pytest.raises(LimitExceeded, match=r"OrderState: .* bytes, the limit is 200"):
        tight.encode(OrderState("x" * 200))
    with pytest.raises(LimitExceeded, match="OrderState: more than 20 elements"):
        tight.encode(OrderState(seen={str(i) for i in range(30)}))
    with pytest.raises(LimitExceeded, match="Tree: nested deeper than 5"):
        tight.encode(Tree(1, (Tree(2, (Tree(3, (Tree(4),)),)),)))
    with pytest.raises(LimitExceeded, match="value: nested deeper than 5"):
        tight.encode_value(levels(5))
    assert tight.decode_value(tight.encode_value(levels(4))) == levels(4)


def test_a_zone_name_in_bytes_opens_no_other_file() -> None:
    payload = bytes.fromhex("07e801010000000000000000") + b"\0" * 8
    for key in (b"[../../etc/passwd", b"[/etc/passwd", b"[Europe", b"[\0", b"[", b"[\xff", b"?"):
        data = msgpack.packb([msgpack.ExtType(5, payload + key)])
        with pytest.raises(DecodeError):
            codec.decode_value(data)
