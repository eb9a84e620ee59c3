"""Finding instances in a store by what their heads say: no code of the user's is needed.

    wanted = Wanted("Order", (Status.STUCK,), {"country": "CH"}, idle_for=timedelta(hours=2))
    async for head in find_heads(store, wanted, now_ms):
        print(head.correlation_id)

One condition chooses the index that is walked, the others are looked at in each head. The values of
indexed fields come as text, as people type them: "7" finds the number and the text. Moments are
right to the minute, as in the heads. Next to read: ``core/head_query.py``;
``runtime/looking/finding.py``, which also looks at the instances themselves.
"""

from __future__ import annotations

import heapq
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID

from perdure.core.commit import HeadRow, Status
from perdure.core.head_query import HeadQuery, Key, Order, place_of
from perdure.core.index_key import index_key
from perdure.errors import DefinitionError, EncodeError
from perdure.store.protocol import Store

__all__ = ["Wanted", "find_heads", "keys_of"]

PAGE = 1_000


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which instances of a saga. ``statuses``: none means any; ``fields`` by name, as text."""

    saga: str
    statuses: tuple[Status, ...] = ()
    fields: Mapping[str, str] = field(default_factory=dict)
    idle_for: timedelta | None = None
    older_than: timedelta | None = None


async def find_heads(
    store: Store, wanted: Wanted, now_ms: int, after: str = ""
) -> AsyncIterator[HeadRow]:
    """The heads, behind an instance: by id for a field, else by the moment asked for.

    Raises ``DefinitionError`` for a field without an index, and for an ``after`` that has changed
    since, so that nobody knows behind which moment to go on.
    """
    await _check_indexed(store, wanted)
    keys = {name: keys_of(text) for name, text in wanted.fields.items()}
    started, updated = _latest(wanted.older_than, now_ms), _latest(wanted.idle_for, now_ms)
    queries = _queries(wanted, keys, started, updated)
    if after:
        queries = await _from(store, queries, after)
    async for head in _merged(store, queries):
        if _fits(head, wanted, keys, started, updated):
            yield head


def _queries(
    wanted: Wanted, keys: Mapping[str, set[str]], started: int | None, updated: int | None
) -> list[HeadQuery]:
    """No head is in two of them."""
    if keys:
        name, values = next(iter(keys.items()))
        return [
            HeadQuery(wanted.saga, (), Order.FIELD, name, low=key, high=key, limit=PAGE)
            for key in values
        ]
    statuses = wanted.statuses or tuple(Status)
    order = Order.STARTED if updated is None else Order.UPDATED
    high = started if updated is None else updated
    return [HeadQuery(wanted.saga, (one,), order, high=high, limit=PAGE) for one in statuses]


async def _from(store: Store, queries: list[HeadQuery], after: str) -> list[HeadQuery]:
    [query, *_] = queries
    if query.order is Order.FIELD:
        return [replace(one, after=(_value(one), after)) for one in queries]
    head = (await store.rows_of(after, 1)).head
    place = None if head is None else place_of(head, query.order, "")
    if place is None or (query.high is not None and place > (query.high, after)):
        raise DefinitionError(
            f"{after} has changed since it was shown, or is not there",
            remedy="begin anew, without it: what it stood behind is not known any more",
        )
    return [replace(one, after=place) for one in queries]


def _value(query: HeadQuery) -> Key:
    assert query.low is not None
    return query.low


async def _merged(store: Store, queries: list[HeadQuery]) -> AsyncIterator[HeadRow]:
    """The heads of all queries, in their order."""
    waiting: list[tuple[Any, int, HeadRow]] = []
    walks = [_walked(store, query) for query in queries]
    for number, walk in enumerate(walks):
        await _next(waiting, queries, walk, number)
    while waiting:
        _, number, head = heapq.heappop(waiting)
        yield head
        await _next(waiting, queries, walks[number], number)


async def _next(
    waiting: list[tuple[Any, int, HeadRow]],
    queries: list[HeadQuery],
    walk: AsyncIterator[HeadRow],
    number: int,
) -> None:
    query, head = queries[number], await anext(walk, None)
    if head is not None:
        by_id = query.order is Order.FIELD  # one value each
        place = head.instance if by_id else place_of(head, query.order, "")
        heapq.heappush(waiting, (place, number, head))


async def _walked(store: Store, query: HeadQuery) -> AsyncIterator[HeadRow]:
    while True:
        heads = await store.find(query)
        for head in heads:
            yield head
        if len(heads) < query.limit:
            return
        query = replace(query, after=place_of(heads[-1], query.order, query.field))


def _fits(
    head: HeadRow,
    wanted: Wanted,
    keys: Mapping[str, set[str]],
    started: int | None,
    updated: int | None,
) -> bool:
    fields = dict(head.fields)
    return (
        (not wanted.statuses or head.status in wanted.statuses)
        and (started is None or head.started_at_ms <= started)
        and (updated is None or head.updated_at_ms <= updated)
        and all(fields.get(name) in values for name, values in keys.items())
    )


def _latest(age: timedelta | None, now_ms: int) -> int | None:
    return None if age is None else now_ms - age // timedelta(milliseconds=1)


async def _check_indexed(store: Store, wanted: Wanted) -> None:
    if not wanted.fields:
        return
    for tally in await store.tallies():
        missing = sorted(set(wanted.fields) - set(tally.indexed))
        if tally.saga == wanted.saga and missing:
            indexed = ", ".join(sorted(tally.indexed)) or "none"
            raise DefinitionError(
                f"{wanted.saga} has no index on {', '.join(missing)}",
                remedy=f"indexed are {indexed}; declare others as Indexed[…] in its state",
            )


def keys_of(text: str) -> set[str]:
    """The index keys of everything that is written so: a text, a number, a moment, …

    >>> sorted(keys_of("true")), len(keys_of("7"))
    (['b1', 'strue'], 2)
    """
    found = {index_key(text)}
    for read in _READ:
        try:
            found.add(index_key(read(text)))
        except (ValueError, KeyError, InvalidOperation, EncodeError):
            continue
    return found


_WORDS: Mapping[str, Any] = {"true": True, "false": False, "null": None}
_READ = (Decimal, UUID, datetime.fromisoformat, date.fromisoformat, _WORDS.__getitem__)
