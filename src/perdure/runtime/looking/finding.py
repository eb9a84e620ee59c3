"""Finding instances, live and passive alike: heads along an index, then the instances themselves.

What is shown is committed, and fits what was asked at that moment: heads only say who may. Wakes
nobody. Next to read: ``core/criteria.py``, ``core/routes.py``; ``searching.py`` and
``ops/search.py``, who ask.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, replace
from typing import Any

from perdure.core.commit import HeadRow
from perdure.core.criteria import Criteria
from perdure.core.described import shown
from perdure.core.head_query import Order
from perdure.core.routes import Place, Route
from perdure.core.saga import Definition
from perdure.errors import InvalidQuery, NotIndexed
from perdure.messages import milliseconds_of
from perdure.runtime.looking.views import InstanceView, Views
from perdure.store.protocol import Store

__all__ = ["Search", "found", "heads_along", "place_after"]

PAGE, PAGE_MAX = 100, 1_000
_MS_MAX = 2**62


@dataclass(frozen=True, slots=True)
class Search:
    """A search that was checked: who is wanted, along which route, from where on, how many."""

    definition: Definition
    criteria: Criteria
    route: Route
    after: Place | None
    limit: int | None


async def found(store: Store, views: Views, search: Search) -> AsyncIterator[InstanceView]:
    """The instances, in the order of the route. Raises ``NotIndexed``."""
    await _check_indexed(store, search)
    left, criteria, route = search.limit, search.criteria, search.route
    async for heads in heads_along(store, criteria, route, search.after):
        places = {head.instance: route.place(head) for head in heads}
        for some in _chunks(heads, PAGE if left is None else min(PAGE, left)):
            async for view in views.page(search.definition, some):
                if not _fits(criteria, view):
                    continue
                key = f"{view.saga}/{view.correlation_id}"
                yield replace(view, cursor=_cursor(route, places[key]))
                if left is not None:
                    left -= 1
                    if not left:
                        return


async def heads_along(
    store: Store, criteria: Criteria, route: Route, place: Place | None = None, page: int = PAGE
) -> AsyncIterator[list[HeadRow]]:
    """The heads of those that may fit, page by page, in the order of the route, behind a place.

    ``page``: so many heads are read at a time, and more where few of them fit.
    """
    size = page
    while True:
        heads, has_more = await _page(store, route, place, size)
        wanted = [head for head in heads if criteria.may_fit(head)]
        if wanted:
            yield wanted
        if not has_more:
            return
        place = route.place(heads[-1])
        size = page if len(wanted) * 2 > len(heads) else min(size * 2, PAGE_MAX)


async def _page(
    store: Store, route: Route, place: Place | None, page: int
) -> tuple[list[HeadRow], bool]:
    """The next heads of a route, and whether more follow."""
    heads: list[HeadRow] = []
    is_full = False
    for query in route.after(place, page):
        some = await store.find(query)
        is_full |= len(some) >= page
        heads += some
    heads.sort(key=route.merged_by(), reverse=route.queries[0].descending)
    return heads[:page], is_full or len(heads) > page


def _chunks(heads: list[HeadRow], size: int) -> Iterable[list[HeadRow]]:
    return (heads[start : start + size] for start in range(0, len(heads), size))


def _fits(criteria: Criteria, view: InstanceView) -> bool:
    """The instance is as wanted; of one that cannot be read, its head has said so."""
    if not view.sequence_nr:
        return True
    return criteria.fits(
        view.status, milliseconds_of(view.started_at), milliseconds_of(view.updated_at), view.state
    )


async def _check_indexed(store: Store, search: Search) -> None:
    names = {test.field.name for test in search.criteria.tests}
    names |= {query.field for query in search.route.queries if query.order is Order.FIELD}
    if not names:
        return
    for tally in await store.tallies():
        missing = sorted(names.difference(tally.indexed))
        if tally.saga == search.definition.name and tally.kept and missing:
            raise NotIndexed(
                f"{', '.join(missing)}: some instances were last written before that was indexed",
                saga=tally.saga,
                remedy=f"await runtime.reindex({tally.saga!r}) once, beside live work",
            )


def _cursor(route: Route, place: Place) -> str:
    text = json.dumps([route.name, *place], separators=(",", ":"))
    return urlsafe_b64encode(text.encode()).decode()


def place_after(route: Route, saga: str, after: InstanceView | str | None) -> Place | None:
    """The place of the last instance that was seen. Raises ``InvalidQuery``."""
    if after is None:
        return None
    if isinstance(after, InstanceView) and not after.cursor and route.name == "id":
        return "", f"{saga}/{after.correlation_id}"
    cursor = after.cursor if isinstance(after, InstanceView) else after
    try:
        name, by, key = json.loads(urlsafe_b64decode(cursor))
        f"{by}{key}".encode()  # no store has a place for what is no text
        is_ours = isinstance(key, str) and key.startswith(f"{saga}/")
        is_right = name == route.name and is_ours and _is_place(route, by)
    except (ValueError, TypeError, RecursionError):  # it may come from anybody
        is_right = False
    if not is_right:
        raise InvalidQuery(
            f"after={shown(after)} is no place in the order by {route.name} of {saga}",
            remedy="give an instance (or its cursor) that was found by the same question",
        )
    return by, key


def _is_place(route: Route, by: Any) -> bool:
    if route.queries[0].order in (Order.STARTED, Order.UPDATED):
        return type(by) is int and abs(by) <= _MS_MAX
    return type(by) is str
