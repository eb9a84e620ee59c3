"""Finding instances in a store by what their heads say: no code of the user's is needed.

    wanted = Wanted("Order", (Status.STUCK,), {"country": "CH"}, idle_for=timedelta(hours=2))
    async for head in find_heads(store, wanted, now_ms):
        print(head.correlation_id)

As ``Runtime.find`` does, but by the heads alone. The values of indexed fields come as text, as
people type them: "7" finds the number and the text. Moments are right to the minute, as in the
heads. Next to read: ``core/routes.py``; ``runtime/looking/finding.py``, which also looks at the
instances themselves.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from operator import attrgetter
from typing import Any
from uuid import UUID

from perdure.core.commit import HeadRow, Status
from perdure.core.criteria import Criteria, FieldTest, Span
from perdure.core.head_query import Order
from perdure.core.index_key import KINDS, index_key
from perdure.core.indexed import IndexedField
from perdure.core.routes import Place, Route, route_of
from perdure.errors import DefinitionError, EncodeError
from perdure.runtime.looking.finding import heads_along
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
    """The heads, behind an instance: by the moment asked for; by id for a field, or for neither.

    Raises ``DefinitionError`` for a field without an index, and for an ``after`` that has changed
    since, so that nobody knows behind which moment to go on.
    """
    await _check_indexed(store, wanted)
    criteria = Criteria(
        wanted.saga,
        wanted.statuses,
        tuple(_test(name, text) for name, text in wanted.fields.items()),
        started=_up_to(wanted.older_than, now_ms),
        updated=_up_to(wanted.idle_for, now_ms),
    )
    route = route_of(criteria, None, False)
    place = await _behind(store, route, after) if after else None
    async for heads in heads_along(store, criteria, route, place, PAGE):
        for head in heads:
            yield head


async def _behind(store: Store, route: Route, after: str) -> Place:
    [query, *_] = route.queries
    if query.order in (Order.ID, Order.FIELD):
        return "", after
    head = (await store.rows_of(after, 1)).head
    place = None if head is None else route.place(head)
    if place is None or (query.high is not None and place > (query.high, after)):
        raise DefinitionError(
            f"{after} has changed since it was shown, or is not there",
            remedy="begin anew, without it: what it stood behind is not known any more",
        )
    return place


def _test(name: str, text: str) -> FieldTest:
    """The field holds something that is written so, of whatever type."""
    return FieldTest(IndexedField(name, attrgetter(name), KINDS), frozenset(keys_of(text)))


def _up_to(age: timedelta | None, now_ms: int) -> Span:
    if age is None:
        return Span()
    return Span(high=now_ms - age // timedelta(milliseconds=1) + 1)


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
