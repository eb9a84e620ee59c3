"""Along which index instances are found: from criteria and an order to the queries of a store.

One query walks one index, and its heads come in the order asked for; several are merged. What the
index does not answer is looked at head by head, and costs a look at all heads on the way. Pure.
Next to read: ``head_query.py``, what a store can be asked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from perdure.core.commit import HeadRow
from perdure.core.criteria import Criteria, FieldTest
from perdure.core.head_query import HeadQuery, Key, Order, place_of
from perdure.core.outcome import MINUTE_MS

__all__ = ["Place", "Route", "route_of"]

Place: TypeAlias = tuple[Key, str]
"""What an instance was found by, and its key."""


@dataclass(frozen=True, slots=True)
class Route:
    """The queries, and what their heads are merged by. ``name`` says which order that is."""

    name: str
    queries: tuple[HeadQuery, ...]
    by_key: bool = False

    def place(self, head: HeadRow) -> Place:
        """Where a head stands on this route."""
        [query, *_] = self.queries
        return place_of(head, query.order, query.field)

    def merged_by(self) -> Callable[[HeadRow], Any]:
        """What is ascending (or descending) over all heads of the queries."""
        return (lambda head: head.instance) if self.by_key else self.place

    def after(self, place: Place | None, page: int) -> tuple[HeadQuery, ...]:
        """The queries for the heads behind a place."""
        return tuple(self._behind(query, place, page) for query in self.queries)

    def _behind(self, query: HeadQuery, place: Place | None, page: int) -> HeadQuery:
        if place is not None and self.by_key and query.order is Order.FIELD:
            assert query.low is not None
            place = query.low, place[1]
        return replace(query, after=place, limit=page)


def route_of(criteria: Criteria, order_by: str | None, descending: bool) -> Route:
    """The best route. ``order_by``: "id", "started", "updated", an indexed field; None: any."""
    start = HeadQuery(criteria.saga, criteria.statuses, descending=descending)
    tests = {test.field.name: test for test in criteria.tests}
    exact = next((test for test in criteria.tests if test.values is not None), None)
    if order_by in (None, "id") and exact is not None:
        return Route("id", tuple(_by_field(start, exact)), by_key=True)
    if order_by is None:
        order_by = _natural(criteria)
    if order_by == "started":
        span, high = criteria.started, criteria.started.high
        last = None if high is None else high - 1
        return Route(order_by, (replace(start, order=Order.STARTED, low=span.low, high=last),))
    if order_by == "updated":
        span, high = criteria.updated, criteria.updated.high
        low = None if span.low is None else span.low // MINUTE_MS * MINUTE_MS
        last = None if high is None else high - 1
        return Route(order_by, (replace(start, order=Order.UPDATED, low=low, high=last),))
    if order_by == "id":
        return Route(order_by, (start,))
    if order_by in tests:
        return Route(f"field {order_by}", tuple(_by_field(start, tests[order_by])))
    return Route(f"field {order_by}", (replace(start, order=Order.FIELD, field=order_by),))


def _natural(criteria: Criteria) -> str:
    """The order in which the index gives what was asked for."""
    if criteria.tests:
        return criteria.tests[0].field.name
    if not criteria.started.is_open:
        return "started"
    return "id" if criteria.updated.is_open else "updated"


def _by_field(start: HeadQuery, test: FieldTest) -> list[HeadQuery]:
    query = replace(start, order=Order.FIELD, field=test.field.name)
    return [replace(query, low=low, high=high) for low, high in test.cut]
