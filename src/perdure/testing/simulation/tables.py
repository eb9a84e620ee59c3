"""The file of a run, looked at from outside: a connection of its own, which only reads.

It knows tables, and that instances and jobs are in them; it shares no code with the store.
Next to read: ``checks.py``.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

__all__ = ["Tables"]


_OF_MESSAGE = "instance = ? AND message_id = ?"

_IS_READY = """
    reason = 'held'
    OR instance NOT IN (SELECT instance FROM inbox WHERE reason = 'delayed')
    AND (reason = 'queued' OR reason = 'missing' AND instance IN (SELECT instance FROM journal))
"""
"""Of a waiting message: it waits for no moment, behind no other one, and for no start."""


class Tables:
    """What is committed in the file at ``path``."""

    def __init__(self, path: str) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, timeout=0)

    def close(self) -> None:
        """Look no more."""
        self._connection.close()

    @property
    def connection(self) -> sqlite3.Connection:
        """For checks of other people over the same tables."""
        return self._connection

    def all(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """The rows of a query; none as long as there is no schema."""
        try:
            return self._connection.execute(sql, values).fetchall()
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                return []
            raise

    def one(self, sql: str, *values: Any) -> Any:
        """The first value of a query, None if it has no row."""
        rows = self.all(sql, *values)
        return rows[0][0] if rows else None

    def has_job(self, key: str) -> bool:
        """Somebody committed asked for this job: a turn, or who enqueued it.

        "order/o-1/3/0" is a command of a turn, "trip/t-1/hotel" a step of an instance.
        """
        parts = key.split("/")
        if len(parts) >= 4 and parts[-1].isdecimal() and parts[-2].isdecimal():
            sql = "SELECT 1 FROM journal WHERE instance = ? AND sequence_nr = ?"
            return bool(self.one(sql, "/".join(parts[:-2]), int(parts[-2])))
        if self.one("SELECT 1 FROM outbox WHERE given_id = ?", key):
            return True
        prefixes = ["/".join(parts[:count]) for count in range(2, len(parts))]
        marks = ", ".join("?" * len(prefixes))
        sql = f"SELECT 1 FROM journal WHERE instance IN ({marks})"
        return bool(self.one(sql, *prefixes))

    def has_message(self, instance: str, message_id: str) -> bool:
        """It had its turn, waits for it, or is a dead letter."""
        return any(
            self.one(f"SELECT 1 FROM {table} WHERE {_OF_MESSAGE}", instance, message_id)
            for table in ("journal", "inbox", "dead_letters")
        )

    def is_purged(self, instance: str, sequence_nr: int) -> bool:
        """The turn was swept after its instance was purged, or that is forgotten by now."""
        sql = "SELECT swept_nr FROM tombstones WHERE instance = ?"
        swept_nr: int | None = self.one(sql, instance)
        if swept_nr is not None:
            return swept_nr >= sequence_nr
        kept = "running + stuck + kept_completed + kept_failed"
        sql = f"SELECT 1 FROM sagas WHERE saga = ? AND started > {kept}"
        return bool(self.one(sql, instance.partition("/")[0]))

    def letters(self) -> set[tuple[str, str]]:
        """Instance and id of messages that are dead letters now."""
        return set(self.all("SELECT instance, message_id FROM dead_letters WHERE queue = ''"))

    def next_deadline_ms(self) -> int | None:
        """The wall time at which the next deadline is due."""
        found: int | None = self.one("SELECT min(due_at_ms) FROM deadlines")
        return found

    def overdue(self, now_ms: int, is_paused: Mapping[str, bool]) -> list[str]:
        """What should be done by now and is not. ``is_paused`` holds the queues that are worked.

        Deadlines and messages of who is quarantined are kept for the release. A message that waits
        behind a delayed one is not late.
        """
        late = [
            f"deadline {name!r} of {instance}"
            for instance, name in self.all(
                "SELECT instance, name FROM deadlines WHERE due_at_ms <= ?"
                " AND instance NOT IN (SELECT instance FROM quarantines)",
                now_ms,
            )
        ]
        late += [
            f"message {message_id} for {instance}"
            for instance, message_id in self.all(
                f"SELECT instance, message_id FROM inbox WHERE (due_at_ms <= ? OR {_IS_READY})"
                " AND instance NOT IN (SELECT instance FROM quarantines)",
                now_ms,
            )
        ]
        jobs = self.all(
            "SELECT position, instance, sequence_nr, idx, target, type, error FROM outbox WHERE"
            " due_at_ms <= ? AND follows NOT IN (SELECT position FROM outbox)"
            " AND follows NOT IN (SELECT job FROM dead_letters)",
            now_ms,
        )
        late += [
            f"job {instance}/{sequence_nr}/{index} ({type_} in queue {target!r}; {error or 'new'})"
            for _, instance, sequence_nr, index, target, type_, error in jobs
            if not is_paused.get(target, True)
        ]
        sweeping = self.all("SELECT instance FROM tombstones WHERE due_at_ms <= ?", now_ms)
        late += [f"the tombstone of {instance}" for (instance,) in sweeping]
        return late
