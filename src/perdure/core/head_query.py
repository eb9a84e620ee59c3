"""A question to a store: which instances of a saga, in which order, from where on.

Each can be answered by walking one index per status from a given place: no store has to sort, or
to look at more than it gives. What is asked beyond that is for whoever asks to look at.
Next to read: ``store/protocol.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from perdure.core.commit import HeadRow, Status

__all__ = ["HeadQuery", "Key", "Order", "place_of"]

Key: TypeAlias = str | int
"""What heads are ordered by: milliseconds, or the index key of a field."""


class Order(StrEnum):
    """What heads are ordered by; those that are equal in it are ordered by their instances."""

    ID = "id"
    STARTED = "started"
    UPDATED = "updated"
    FIELD = "field"


@dataclass(frozen=True, slots=True)
class HeadQuery:
    """The first ``limit`` heads of a saga in an order, from a place on.

    >>> HeadQuery("Order", (Status.STUCK,), Order.UPDATED, high=before_ms, limit=10)

    ``statuses``: none means any; by ``Order.FIELD`` all are given, whatever they are.
    ``field`` is the one of that order. ``low`` and ``high`` are
    bounds, both inclusive, of what the order is by (not of ``Order.ID``); ``after`` is the
    place (see ``place_of``) of the last head of the page before.
    """

    saga: str
    statuses: tuple[Status, ...] = ()
    order: Order = Order.ID
    field: str = ""
    low: Key | None = None
    high: Key | None = None
    after: tuple[Key, str] | None = None
    descending: bool = False
    limit: int = 1000


def place_of(head: HeadRow, order: Order, field: str) -> tuple[Key, str]:
    """Where a head stands in an order: what it is ordered by, then its instance."""
    match order:
        case Order.ID:
            return "", head.instance
        case Order.STARTED:
            return head.started_at_ms, head.instance
        case Order.UPDATED:
            return head.updated_at_ms, head.instance
        case Order.FIELD:
            return dict(head.fields)[field], head.instance
