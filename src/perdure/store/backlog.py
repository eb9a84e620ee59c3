"""How much waits in a store: jobs by queue, dead letters, messages. For whoever looks on.

Knows no database. Next to read: ``protocol.py``, ``Store.backlog``; ``sql_backlog.py``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from perdure.core.commit import OutboxRow

__all__ = ["Backlog", "QueueBacklog", "backlog_of"]


@dataclass(frozen=True, slots=True)
class QueueBacklog:
    """How many jobs a queue holds, those at work included, and since when its oldest is there."""

    jobs: int
    oldest_at_ms: int


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits. ``queues`` by name, without the empty ones; ``dead_jobs`` are dead letters, too.

    ``messages`` wait in the inbox: parked, delayed, behind another, or held.
    """

    queues: Mapping[str, QueueBacklog] = field(default_factory=dict)
    dead_letters: int = 0
    dead_jobs: int = 0
    messages: int = 0


def backlog_of(
    jobs: Iterable[OutboxRow], letters: Collection[int], messages: Collection[object]
) -> Backlog:
    """The same of rows by position; ``letters`` are those of their jobs, 0 for a message."""
    queues: dict[str, QueueBacklog] = {}
    for row in jobs:
        found = queues.get(row.target) or QueueBacklog(0, row.created_at_ms)
        queues[row.target] = QueueBacklog(found.jobs + 1, found.oldest_at_ms)
    return Backlog(queues, len(letters), sum(job > 0 for job in letters), len(messages))
