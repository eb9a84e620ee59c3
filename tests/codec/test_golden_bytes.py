"""The stored format, written out. A failure here means: stored data of users would not read."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from perdure.codec import Codec, TypeRegistry
from tests.codec.shapes import (
    Box,
    Card,
    Cash,
    Choices,
    Colour,
    Gap,
    Line,
    OrderPlaced,
    OrderState,
    Rank,
    Right,
    Sku,
    Status,
    Tree,
)

codec = Codec(TypeRegistry([OrderState]))
BERLIN = ZoneInfo("Europe/Berlin")

ORDER = OrderPlaced(
    UUID("00112233-4455-6677-8899-aabbccddeeff"),
    datetime(2024, 2, 29, 12, 30, 15, 250, tzinfo=UTC),
    Status.PAID,
    Decimal("12.50"),
    [Line(Sku("a-1"), 2, Decimal("6.25"))],
    Cash("7"),
    None,
)
STATE = OrderState("o-1", [Line(Sku("b"), 300, Decimal("-0E+2"))], {"b", "a"})
STATE.cache_size = -1
CHOICES = Choices(
    status=Status.NEW,
    colour=Colour.RED,
    rank=Rank.HIGH,
    right=Right.READ | Right.WRITE,
    maybe=None,
    gap=Gap.NOTHING,
    primitive="x",
    scalar=True,
    payment=Card("4"),
    mixed=[1],
    literal=Status.PAID,
    tree=Tree(1, (Tree(2),)),
    box=Box(Line(Sku("c"), 1, Decimal(1))),
    plain={"at": date(2024, 2, 29), 1: [1.5, b"\x00"]},
    loose={},
    looser=[None],
)

MESSAGES: list[tuple[Any, str, bytes]] = [
    (
        ORDER,
        "codec-test.order-placed",
        b"\x87"
        b"\xa8order_id\xd8\x01\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff"
        b"\xa2at\xc7\x0c\x05\x07\xe8\x02\x1d\x0c\x1e\x0f\x00\x00\x00\xfa\x00"
        b"\xa6status\xa4paid"
        b"\xa5total\xc7\x05\x0212.50"
        b"\xa5lines\x91\x83\xa3sku\xa3a-1\xa8quantity\x02\xa5price\xd6\x026.25"
        b"\xa7payment\x92\xafcodec-test.cash\x81\xa6number\xa17"
        b"\xa4note\xc0",
    ),
    (
        STATE,
        "OrderState",
        b"\x84"
        b"\xa8order_id\xa3o-1"
        b"\xa5lines\x91\x83\xa3sku\xa1b\xa8quantity\xcd\x01\x2c\xa5price\xc7\x05\x02-0E+2"
        b"\xa4seen\x92\xa1a\xa1b"
        b"\xaacache_size\xff",
    ),
    (
        CHOICES,
        "codec-test.choices",
        b"\xde\x00\x10"
        b"\xa6status\xa3new"
        b"\xa6colour\xa3red"
        b"\xa4rank\x02"
        b"\xa5right\x03"
        b"\xa5maybe\xc0"
        b"\xa3gap\x92\xa3Gap\xc0"
        b"\xa9primitive\xa1x"
        b"\xa6scalar\xc3"
        b"\xa7payment\x92\xa4Card\x81\xa6number\xa14"
        b"\xa5mixed\x92\xa4list\x91\x01"
        b"\xa7literal\xa4paid"
        b"\xa4tree\x82\xa5value\x01\xa8children\x91\x82\xa5value\x02\xa8children\x90"
        b"\xa3box\x82\xa4item\x83\xa3sku\xa1c\xa8quantity\x01\xa5price\xd4\x021\xa4more\x90"
        b"\xa5plain\x82\xa2at\xc7\x0a\x032024-02-29\x01\x92\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00"
        b"\xc4\x01\x00"
        b"\xa5loose\x80"
        b"\xa6looser\x91\xc0",
    ),
]
WALL = b"\x05\x07\xe8\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00"
VALUES: list[tuple[Any, bytes]] = [
    (None, b"\x91\xc0"),
    ({"a": [True]}, b"\x91\x81\xa1a\x91\xc3"),
    (time(1, 2, 3, 4, fold=1), b"\x91\xd8\x0401:02:03.000004!"),
    (datetime(2024, 1, 1, tzinfo=UTC), b"\x91\xc7\x0c" + WALL),
    (
        datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=-5))),
        b"\x91\xc7\x14" + WALL + b"\xff\xff\xff\xfb\xcf\x1d\xcc\x00",
    ),
    (
        datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=1), "X")),
        b"\x91\xc7\x16" + WALL + b"\x00\x00\x00\x00\xd6\x93\xa4\x00(X",
    ),
    (
        datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN, fold=1),
        b"\x91\xc7\x22\x05\x07\xe8\x0a\x1b\x02\x1e\x00\x00\x00\x00\x00\x01"
        b"\x00\x00\x00\x00\xd6\x93\xa4\x00[Europe/Berlin",
    ),
    (
        timedelta(-1, 2, 3),
        b"\x91\xc7\x0c\x06\xff\xff\xff\xff\x00\x00\x00\x02\x00\x00\x00\x03",
    ),
    (Cash("7"), b"\x93\xafcodec-test.cash\x01\x81\xa6number\xa17"),
]


@pytest.mark.parametrize(("value", "name", "body"), MESSAGES)
def test_messages_and_states_have_these_bytes(value: Any, name: str, body: bytes) -> None:
    assert codec.encode(value) == (name, 1, body)
    assert codec.decode(name, 1, body) == value


@pytest.mark.parametrize(("value", "data"), VALUES)
def test_replies_have_these_bytes(value: Any, data: bytes) -> None:
    assert codec.encode_value(value) == data
    assert codec.decode_value(data) == value
