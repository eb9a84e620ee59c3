"""Heads and tallies in memory: all are looked at, and sorted. Next to read: ``memory.py``."""

from __future__ import annotations

from copy import copy
from typing import Any

from perdure.core.commit import HeadRow, Status
from perdure.core.head_query import HeadQuery, Order, place_of
from perdure.core.tally import TallyRow, count_head
from perdure.store.changes import Changes

__all__ = ["Heads"]


class Heads:
    """The heads of all instances, and how many there are and were of each saga."""

    def __init__(self) -> None:
        self._heads: dict[str, HeadRow] = {}
        self._tallies: dict[str, TallyRow] = {}

    def apply(self, changes: Changes) -> None:
        """Put the heads of some changes, and count them."""
        for instance, head in changes.heads.items():
            tally = self._tallies.setdefault(head.saga, TallyRow(head.saga))
            count_head(tally, self._heads.get(instance), head)
            self._heads[instance] = copy(head)
        for instance in changes.purged:
            before = self._heads.pop(instance, None)
            if before is not None:
                count_head(self._tallies[before.saga], before, None)
        for saga, entry in changes.indexed.items():
            self._tallies.setdefault(saga, TallyRow(saga)).indexed = entry.names

    def get(self, instance: str) -> HeadRow | None:
        """The head of an instance, if there is one."""
        return copy(self._heads.get(instance))

    def page(
        self, saga: str | None, status: Status | None, after: str, limit: int
    ) -> list[HeadRow]:
        """Heads in order of their key; see ``Store.heads``."""
        found = [
            head
            for head in self._heads.values()
            if head.instance > after and saga in (None, head.saga) and status in (None, head.status)
        ]
        found.sort(key=lambda head: head.instance)
        return [copy(head) for head in found[:limit]]

    def find(self, query: HeadQuery) -> list[HeadRow]:
        """The heads that a query asks for, in its order; see ``Store.find``."""
        order, field = query.order, query.field
        found = [
            (place_of(head, order, field), head)
            for head in self._heads.values()
            if head.saga == query.saga
            and (not query.statuses or order is Order.FIELD or head.status in query.statuses)
            and (order is not Order.FIELD or field in dict(head.fields))
        ]
        found.sort(key=lambda one: one[0], reverse=query.descending)
        within = [copy(head) for place, head in found if _is_asked_for(place, query)]
        return within[: query.limit]

    def tallies(self) -> list[TallyRow]:
        """The tallies by saga."""
        return [copy(self._tallies[saga]) for saga in sorted(self._tallies)]


def _is_asked_for(place: tuple[Any, str], query: HeadQuery) -> bool:
    low, high, after = query.low, query.high, query.after
    if low is not None and place < (low, ""):
        return False
    if high is not None and place[0] > high:
        return False
    if after is None:
        return True
    return place < after if query.descending else place > after
