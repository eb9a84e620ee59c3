"""The queries of ``Store.find``: each walks one index from a place on, in either direction.

Parameters of those by moment: the saga, the status, the place (moment, instance), the other bound.
By id they lack the bound, and by field they are the saga, the field, the place (value, instance),
the other bound. The limit comes last. ``tests/store/test_sql_find.py`` looks at the plans.
Next to read: ``sql_find.py``, which runs them.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from sqlalchemy import Select, func, literal_column, select, tuple_

from perdure.core.head_query import Order
from perdure.store import schema
from perdure.store.head_rows import HEADS, LOOKUPS
from perdure.store.read_statements import Query
from perdure.store.statements import PARAMETER, Own, Statement, compiled

__all__ = ["counting", "finding"]

_heads, _lookups = schema.instances.c, schema.lookups.c
_MOMENTS = {Order.STARTED: _heads.started_at_ms, Order.UPDATED: _heads.updated_at_ms}


@cache
def finding(order: Order, descending: bool) -> Query:
    """The query for rows: lookups for ``Order.FIELD``, else heads."""
    kind = LOOKUPS if order is Order.FIELD else HEADS
    return Query(kind, lambda own: _walk(order, descending, select(kind.table), own))


@cache
def counting(order: Order) -> Statement:
    """How many rows there would be, at most as many as the limit."""
    one: Select[Any] = select(literal_column("1"))

    def count(own: Own) -> Select[Any]:
        walk = _walk(order, False, one, own, is_ordered=False).subquery("found")
        return select(func.count()).select_from(walk)

    return compiled(count)


def _walk(
    order: Order, descending: bool, rows: Select[Any], own: Own, is_ordered: bool = True
) -> Select[Any]:
    if order is Order.FIELD:
        rows = rows.where(_lookups.saga == PARAMETER, _lookups.field == PARAMETER, *own("lookups"))
        by: list[Any] = [_lookups.value, _lookups.instance]
    else:
        rows = rows.where(_heads.saga == PARAMETER, _heads.status == PARAMETER, *own("instances"))
        by = [_heads.instance] if order is Order.ID else [_MOMENTS[order], _heads.instance]
    place = tuple_(*[PARAMETER] * len(by)) if len(by) > 1 else PARAMETER
    walked = tuple_(*by) if len(by) > 1 else by[0]
    rows = rows.where(walked < place if descending else walked > place)
    if len(by) > 1:
        rows = rows.where(by[0] >= PARAMETER if descending else by[0] <= PARAMETER)
    if is_ordered:
        rows = rows.order_by(*(column.desc() if descending else column for column in by))
    return rows.limit(PARAMETER)
