"""Message and state classes that the codec's tests share, and hypothesis strategies for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, Flag, IntEnum, StrEnum
from typing import Any, Generic, Literal, NewType, TypeVar
from uuid import UUID

from perdure.messages import message

T = TypeVar("T")
Sku = NewType("Sku", str)


class Status(Enum):
    NEW = "new"
    PAID = "paid"


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Rank(IntEnum):
    LOW = 1
    HIGH = 2


class Right(Flag):
    READ = 1
    WRITE = 2


class Gap(Enum):
    NOTHING = None
    SOME = 1


@dataclass(frozen=True, slots=True)
class Line:
    sku: Sku
    quantity: int
    price: Decimal


@dataclass(frozen=True)
class Card:
    number: str


@message(name="codec-test.cash")
@dataclass(frozen=True)
class Cash:
    number: str


@dataclass(frozen=True)
class Tree:
    value: int
    children: tuple[Tree, ...] = ()


@dataclass(frozen=True)
class Box(Generic[T]):
    item: T
    more: list[T] = field(default_factory=list)


@message(name="codec-test.order-placed")
@dataclass(frozen=True, slots=True)
class OrderPlaced:
    order_id: UUID
    at: datetime
    status: Status
    total: Decimal
    lines: list[Line]
    payment: Card | Cash
    note: str | None = None


@message(name="codec-test.scalars")
class Scalars:
    none: None
    flag: bool
    number: int
    real: float
    text: str
    raw: bytes
    id: UUID
    amount: Decimal
    day: date
    clock: time
    at: datetime
    span: timedelta


@message(name="codec-test.containers")
class Containers:
    numbers: list[int]
    pair: tuple[int, str]
    many: tuple[Decimal, ...]
    unique: set[UUID]
    frozen: frozenset[int]
    by_name: dict[str, int]
    by_number: dict[int, str]
    by_id: dict[UUID, list[int]]
    by_status: dict[Status, bool]
    by_pair: dict[tuple[int, str], float]
    nested: dict[str, list[tuple[int, set[str]]]]
    sequence: Sequence[int]
    mapping: Mapping[str, int]


@message(name="codec-test.choices")
class Choices:
    status: Status
    colour: Colour
    rank: Rank
    right: Right
    maybe: int | None
    gap: Gap | None
    primitive: int | str | None
    scalar: UUID | datetime | bool | float
    payment: Card | Cash | None
    mixed: list[int] | dict[str, int] | Status | str
    literal: Literal["a", 1, True, Status.PAID]
    tree: Tree
    box: Box[Line]
    plain: Any
    loose: dict
    looser: list


@message(name="codec-test.one")
class One(Generic[T]):
    """One field of any declared type: ``One[int]`` gives its form."""

    field: T


@dataclass
class OrderState:
    """A mutable state class without a mark."""

    order_id: str = ""
    lines: list[Line] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)
    cache_size: int = field(default=0, init=False)
