"""Finding heads by status, moment or indexed field, over a plain sqlite3 connection.

Several statuses are one small query each, merged: so each walks its index, and nothing is sorted.
Synchronous for the reason given in ``sql_write.py``. Next to read: ``find_statements.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from heapq import merge
from itertools import islice
from typing import Any

from sqlalchemy import literal_column, select

from perdure.core.commit import HeadRow, LookupRow, Status
from perdure.core.head_query import HeadQuery, Order, place_of
from perdure.core.tally import TallyRow
from perdure.errors import CorruptRecord
from perdure.store.dialect import SqlConnection, begin_reading, highest_value, roll_back
from perdure.store.find_statements import counting, finding
from perdure.store.head_rows import HEADS, SAGAS
from perdure.store.read_statements import HEADS_AT, TALLIES_ALL
from perdure.store.schema import instances
from perdure.store.sql_heads import ASKED_MAX, added, read_sagas, read_tally
from perdure.store.sql_read import read_sound, read_stored
from perdure.store.statements import PARAMETER, compiled

__all__ = ["read_count", "read_found", "read_size", "read_tallies"]

_ANY_OF_SAGA = compiled(
    lambda own: (
        select(literal_column("1"))
        .where(
            instances.c.instance > PARAMETER,
            instances.c.instance < PARAMETER,
            instances.c.saga == PARAMETER,
            *own("instances"),
        )
        .limit(1)
    )
)

_MS_MIN, _MS_MAX = -(2**63), 2**63 - 1
_AFTER_SLASH = chr(ord("/") + 1)


def read_found(
    connection: SqlConnection, query: HeadQuery
) -> tuple[list[HeadRow], list[CorruptRecord]]:
    """The heads a query asks for, as ``Store.find`` gives them, and an error per damaged row."""
    with _one_moment(connection):
        if query.order is Order.FIELD:
            return _by_field(connection, query)
        damaged: list[CorruptRecord] = []
        found: list[list[HeadRow]] = []
        for status in query.statuses or tuple(Status):
            bounds = _bounds(connection, query, query.after)
            values = [query.saga, status.value, *bounds, query.limit]
            rows, some = read_sound(connection, finding(query.order, query.descending), values)
            found.append(rows)
            damaged += some
    merged = merge(
        *found, key=lambda head: place_of(head, query.order, ""), reverse=query.descending
    )
    return list(islice(merged, query.limit)), damaged


def read_count(connection: SqlConnection, query: HeadQuery) -> int:
    """How many heads there are to be found, as ``Store.count`` gives it."""
    count, sql = 0, counting(query.order)
    forwards = HeadQuery(query.saga, low=query.low, high=query.high, order=query.order)
    bounds = _bounds(connection, forwards, None)
    if query.order is Order.FIELD:
        values = [query.saga, query.field, *bounds, query.limit]
        return int(connection.execute(sql, values).fetchone()[0])
    with _one_moment(connection):
        for status in query.statuses or tuple(Status):
            values = [query.saga, status.value, *bounds, query.limit - count]
            count += connection.execute(sql, values).fetchone()[0]
    return count


def read_tallies(
    connection: SqlConnection,
) -> tuple[list[TallyRow], list[CorruptRecord]]:
    """All tallies, those that are damaged counted anew, as ``Store.tallies`` gives them."""
    known: dict[str, TallyRow] = {}
    lost: set[object] = set()
    damaged: list[CorruptRecord] = []
    for stored in read_stored(connection, TALLIES_ALL, []):
        try:
            row = SAGAS.open(stored)
        except CorruptRecord as damage:
            damaged.append(damage)
            lost.add(stored.key[0])
        else:
            known[row.saga] = added(known[row.saga], row) if row.saga in known else row
    rows = [row for row in known.values() if row.saga not in lost]
    for saga in read_sagas(connection):
        is_one = [f"{saga}/", f"{saga}{_AFTER_SLASH}", saga]  # else a damaged row says so
        is_known = saga in known and saga not in lost
        if not is_known and connection.execute(_ANY_OF_SAGA, is_one).fetchall():
            rows.append(read_tally(connection, saga))
            damaged.append(CorruptRecord("its tally is damaged or missing", saga=saga))
    rows.sort(key=lambda row: row.saga)
    return rows, damaged


def read_size(connection: SqlConnection) -> int:
    """The bytes of the file, without its log."""
    [pages] = connection.execute("PRAGMA page_count").fetchone()
    [page_size] = connection.execute("PRAGMA page_size").fetchone()
    return int(pages * page_size)


@contextmanager
def _one_moment(connection: SqlConnection) -> Iterator[None]:
    begin_reading(connection)
    try:
        yield
    finally:
        roll_back(connection)


def _bounds(
    connection: SqlConnection, query: HeadQuery, after: tuple[Any, str] | None
) -> list[Any]:
    """The place from which the index is walked, and the bound at its other end."""
    last = f"{query.saga}{_AFTER_SLASH}"  # above all keys of the saga
    if query.order is Order.ID:
        if query.descending:
            return [last if after is None else after[1]]
        return ["" if after is None else after[1]]
    by_field = query.order is Order.FIELD
    lowest, highest = ("", highest_value(connection)) if by_field else (_MS_MIN, _MS_MAX)
    low: Any = lowest if query.low is None else query.low
    high: Any = highest if query.high is None else query.high
    if query.descending:
        place, bound = (high, last), low
        is_behind = after is not None and (query.high is None or after < place)
    else:
        place, bound = (low, ""), high
        is_behind = after is not None and (query.low is None or after > place)
    return [*(after if after is not None and is_behind else place), bound]


def _by_field(
    connection: SqlConnection, query: HeadQuery
) -> tuple[list[HeadRow], list[CorruptRecord]]:
    """The lookups first, then their heads; where the two do not agree, the heads are right."""
    found: list[HeadRow] = []
    damaged: list[CorruptRecord] = []
    statement, after = finding(Order.FIELD, query.descending), query.after
    while len(found) < query.limit:
        wanted = min(query.limit - len(found), ASKED_MAX)
        values = [query.saga, query.field, *_bounds(connection, query, after), wanted]
        lookups, some = read_sound(connection, statement, values)
        heads, more = _heads_of(connection, lookups)
        found += heads
        damaged += [*some, *more]
        if len(lookups) < wanted:
            break
        after = (lookups[-1].value, lookups[-1].instance)
    return found, damaged


def _heads_of(
    connection: SqlConnection, lookups: Sequence[LookupRow]
) -> tuple[list[HeadRow], list[CorruptRecord]]:
    values = [value for number, row in enumerate(lookups) for value in (row.instance, number)]
    found: list[HeadRow | None] = [None] * len(lookups)
    damaged: list[CorruptRecord] = []
    for stored in read_stored(connection, HEADS_AT, values) if values else ():
        lookup = lookups[stored.asked]
        try:
            head = HEADS.open(stored)
        except CorruptRecord as damage:
            damaged.append(damage)
            continue
        if (lookup.field, lookup.value) in head.fields:
            found[stored.asked] = head
    return [head for head in found if head is not None], damaged
