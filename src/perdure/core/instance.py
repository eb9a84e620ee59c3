"""One run of a saga as a value, and the memory of which messages it has processed.

An ``Instance`` is never changed; a turn makes the next one. So an incarnation can hold two heads
at no cost: what is committed, and what the next turn starts from. Next to read: ``turn.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from perdure.core.commit import Fields, Status
from perdure.core.family import Family

__all__ = ["Armed", "Instance", "ProcessedMessages"]


@dataclass(frozen=True, slots=True)
class Armed:
    """A deadline that is set: when it is due, and the turn that armed it."""

    due_at_ms: int
    sequence_nr: int


def _no(name: str, armed: Armed) -> bool:
    return False


@dataclass(slots=True)
class Instance:
    """One run of a saga at a sequence number. Number 0 means that it does not exist (yet).

    ``detail`` is what a finished instance said at its end: the encoded result, or the reason as
    text; of a stuck one, why it is. ``family`` is None for an instance without parent or children.
    ``updated_at_ms`` is when it had its last turn before its end, or at it. ``fields`` are the
    indexed ones, None if it is not known how they are stored. The state of one that was purged is
    None.
    Treat as immutable.
    """

    key: str
    correlation_id: str
    state: Any
    sequence_nr: int = 0
    status: Status = Status.RUNNING
    deadlines: dict[str, Armed] = field(default_factory=dict)
    next_due_ms: int | None = None
    started_at_ms: int = 0
    updated_at_ms: int = 0
    detail: bytes | str | None = None
    family: Family | None = None
    fields: Fields | None = None

    @property
    def exists(self) -> bool:
        """At least one turn was taken."""
        return self.sequence_nr > 0

    @property
    def is_purged(self) -> bool:
        """It has ended, and is not known any more but for its tombstone."""
        return self.state is None

    def due_deadlines(
        self, now_ms: int, armed_by: int, is_awaited: Callable[[str, Armed], bool] = _no
    ) -> list[tuple[str, Armed]]:
        """The deadlines due at ``now_ms``, in the order of (due, name).

        Only those that were armed by turn ``armed_by`` or before count, and whose firing is not
        ``is_awaited`` already.
        """
        if self.next_due_ms is None or self.next_due_ms > now_ms:
            return []
        due = [
            item
            for item in self.deadlines.items()
            if item[1].due_at_ms <= now_ms
            and item[1].sequence_nr <= armed_by
            and not is_awaited(*item)
        ]
        return sorted(due, key=lambda item: (item[1].due_at_ms, item[0]))


_due_at_ms = attrgetter("due_at_ms")


def next_due(deadlines: dict[str, Armed]) -> int | None:
    """The earliest moment any of the deadlines is due (ms), or None."""
    return min(map(_due_at_ms, deadlines.values()), default=None)


class ProcessedMessages:
    """The ids of the last processed messages, with the turn that processed each.

    Remembers at least ``window`` ids and at most twice as many, in two generations: adding and
    looking up cost the same however long the instance has lived. (A dict trimmed at its front
    would have to skip the holes left there.)
    """

    __slots__ = ("_older", "_recent", "window")

    def __init__(self, window: int) -> None:
        self.window = window
        self._recent: dict[str, int] = {}
        self._older: dict[str, int] = {}

    def add(self, message_id: str, sequence_nr: int) -> None:
        """Remember that this turn processed this message."""
        if len(self._recent) >= self.window:
            self._older = self._recent
            self._recent = {}
        self._recent[message_id] = sequence_nr

    def turn_of(self, message_id: str) -> int | None:
        """The sequence number of the turn that processed the message, or None."""
        found = self._recent.get(message_id)
        return self._older.get(message_id) if found is None else found

    def items(self, up_to: int) -> list[tuple[str, int]]:
        """(message id, sequence number), oldest first, of turns up to this sequence number."""
        return [
            (message_id, sequence_nr)
            for generation in (self._older, self._recent)
            for message_id, sequence_nr in generation.items()
            if sequence_nr <= up_to
        ]
