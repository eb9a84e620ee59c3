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
    Box, Colour, Gap, Rank, Right, Sku, Status, Tree,
    Card,
    Cash,
    Choices,
    Line,
    OrderPlaced,
    OrderState,
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
