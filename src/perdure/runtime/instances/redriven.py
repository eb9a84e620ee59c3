"""Redriven messages that no incarnation has seen yet: each is taken once, by one of two ways.

A redriven message has a row in the inbox, and is delivered to its instance. An incarnation that
begins meanwhile finds the row, and takes it from there; the delivery is nothing then. Next to read:
``letters/redrive.py``, who delivers; ``woken.py``, who finds rows.
"""

from __future__ import annotations

from collections.abc import Iterable

from perdure.core.commit import InboxRow
from perdure.runtime.delivery import Delivery

__all__ = ["Redriven"]


class Redriven:
    """The deliveries of redriven messages, from before their rows are written."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, str], list[Delivery]] = {}

    def __contains__(self, delivery: Delivery) -> bool:
        """Its row was not found by an incarnation yet."""
        return delivery in self._open.get(_place(delivery), ())

    def begin(self, delivery: Delivery) -> None:
        """Its row is about to be written."""
        self._open.setdefault(_place(delivery), []).append(delivery)

    def drop(self, delivery: Delivery) -> None:
        """Its row was not written."""
        there = self._open.get(_place(delivery), [])
        if delivery in there:
            there.remove(delivery)
        if not there:
            self._open.pop(_place(delivery), None)

    def take(self, delivery: Delivery) -> bool:
        """It has arrived: whether it is to be taken. Others of the same row are not, then."""
        is_open = delivery in self
        if is_open:
            del self._open[_place(delivery)]
        return is_open

    def found(self, rows: Iterable[InboxRow]) -> None:
        """An incarnation has these rows of the inbox, and takes them."""
        if self._open:
            for row in rows:
                self._open.pop((row.instance, row.message_id), None)


def _place(delivery: Delivery) -> tuple[str, str]:
    return delivery.key, delivery.message.message_id
