"""Which fields of a state are indexed, and what is refused at definition."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal, NewType
from uuid import UUID

import pytest

from perdure import Indexed
from perdure.core.indexed import fields_known, fields_of, indexed_fields
from perdure.core.saga import is_immutable
from perdure.errors import DefinitionError, EncodeError

CustomerId = NewType("CustomerId", str)
SOME_ID = UUID(int=1)


class Colour(enum.Enum):
    RED = "red"


class Mixed(enum.Enum):
    ONE = 1
    TWO = "two"


@dataclass(frozen=True)
class Everything:
    zip: Indexed[str] = ""
    amount: Indexed[int] = 0
    paid: Indexed[bool] = False
    price: Indexed[Decimal] = Decimal(0)
    at: Indexed[datetime | None] = None
    day: Indexed[date] = date(2000, 1, 1)
    colour: Indexed[Colour] = Colour.RED
    id: Indexed[UUID] = SOME_ID
    customer: Indexed[CustomerId] = CustomerId("c")
    level: Indexed[Literal["low", "high"]] = "low"
    maybe: Indexed[str] | None = None
    plain: str = ""


def test_every_allowed_type_is_found_and_taken_from_the_state():
    indexed = indexed_fields("Order", Everything)
    names = [one.name for one in indexed]
    assert names == sorted(names)
    assert len(names) == 11
    assert dict(fields_of(indexed, Everything(zip="89", maybe="m"))) == {
        "zip": "s89", "amount": "n1", "paid": "b0", "price": "n1", "at": "0",
        "day": "d2000-01-01", "colour": "sred", "id": f"u{1:032x}", "customer": "sc",
        "level": "slow", "maybe": "sm",
    }  # fmt: skip


def test_an_indexed_field_is_of_the_type_inside():
    assert is_immutable(Everything)
    assert Everything(zip="1").zip == "1"


@dataclass
class Floats:
    weight: Indexed[float] = 0.0


@dataclass
class Lists:
    items: Indexed[list[str]] = field(default_factory=list)


@dataclass
class Inside:
    items: list[Indexed[str]] = field(default_factory=list)


@dataclass
class TwoKinds:
    id: Indexed[str | int] = ""


@dataclass
class OddEnum:
    kind: Indexed[Mixed] = Mixed.ONE


@dataclass
class Anything:
    value: Indexed[Any] = None


@pytest.mark.parametrize("state", [Floats, Lists, Inside, TwoKinds, OddEnum, Anything])
def test_other_types_are_refused_with_the_field_and_what_to_do(state):
    with pytest.raises(DefinitionError, match=r"field '\w+' of") as caught:
        indexed_fields("Order", state)
    assert caught.value.saga == "Order"
    assert "str, int, bool, Decimal" in str(caught.value.remedy)


def test_a_value_of_another_type_names_its_field():
    indexed = indexed_fields("Order", Everything)
    state = Everything(zip=5.0)  # type: ignore[arg-type]
    with pytest.raises(EncodeError, match="indexed field 'zip'"):
        fields_of(indexed, state)
    assert fields_known(indexed, state) is None
