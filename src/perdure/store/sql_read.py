"""Reading, over a plain sqlite3 connection: pages of one kind of row, and instances whole.

Synchronous for the reason given in ``sql_write.py``. Every row's checksum is verified before the
row is used. Knows nothing of threads or event loops.
Next to read: ``read_statements.py`` for the queries, ``sql.py`` for who calls.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

from perdure.core.commit import (
    HeadRow,
    OutboxRow,
    QuarantineRow,
    QueueRow,
    Status,
)
from perdure.errors import CorruptRecord
from perdure.store.dialect import SqlConnection, remains_of_text, run_many
from perdure.store.read_statements import (
    INBOX_SIZES,
    JOBS_AT,
    QUARANTINES_ALL,
    QUEUE_DEPTHS,
    QUEUES_ALL,
    Query,
    heads_page,
)
from perdure.store.rows import QUEUES, StoredRow
from perdure.store.statements import spread

__all__ = [
    "read_depths",
    "read_heads",
    "read_inbox_sizes",
    "read_jobs_at",
    "read_page",
    "read_quarantines",
    "read_queues",
    "read_sound",
    "read_stored",
]

logger = logging.getLogger("perdure.store")

JOBS_PER_QUERY = 1_000

_AFTER_SLASH = chr(ord("/") + 1)


def read_page(connection: SqlConnection, query: Query, values: list[Any]) -> list[Any]:
    """The rows of a query, each verified. Raises CorruptRecord at a damaged one."""
    open_row = query.kind.open
    return [open_row(stored) for stored in read_stored(connection, query, values)]


def read_sound(
    connection: SqlConnection, query: Query, values: list[Any]
) -> tuple[list[Any], list[CorruptRecord]]:
    """The sound rows of a query whose last value is its limit, and an error per damaged one.

    Damaged rows do not count towards the limit: they must not stand in the way of the others.
    """
    *narrowed, limit = values
    damaged: list[CorruptRecord] = []
    while True:
        passed_over = len(damaged)
        stored = read_stored(connection, query, [*narrowed, limit + passed_over])
        rows, damaged = _sorted_out(query, stored)
        if len(damaged) <= passed_over or len(stored) < limit + passed_over:
            return rows, damaged


def _sorted_out(query: Query, stored: Iterable[StoredRow]) -> tuple[list[Any], list[CorruptRecord]]:
    rows: list[Any] = []
    damaged: list[CorruptRecord] = []
    for each in stored:
        try:
            rows.append(query.kind.open(each))
        except CorruptRecord as damage:
            damaged.append(damage)
    return rows, damaged


def read_jobs_at(
    connection: SqlConnection, positions: Sequence[int]
) -> tuple[list[OutboxRow], list[CorruptRecord]]:
    """The jobs at these positions that exist, in order of position, as ``read_sound`` does."""
    wanted = sorted(set(positions))
    stored: list[StoredRow] = []
    for start in range(0, len(wanted), JOBS_PER_QUERY):
        some = wanted[start : start + JOBS_PER_QUERY]
        keys = [value for position in some for value in (position, 0)]
        stored += read_stored(connection, JOBS_AT, keys)
    rows, damaged = _sorted_out(JOBS_AT, stored)
    rows.sort(key=lambda row: row.position)
    return rows, damaged


def read_depths(connection: SqlConnection) -> dict[str, int]:
    """How many jobs each queue holds, as ``Store.queue_depths`` gives it."""
    with remains_of_text(connection):
        return dict(connection.execute(QUEUE_DEPTHS).fetchall())


def read_inbox_sizes(connection: SqlConnection, instances: Sequence[str]) -> dict[str, int]:
    """How many messages wait per instance, as ``Store.inbox_sizes`` gives it."""
    return dict(run_many(connection, INBOX_SIZES, sorted(set(instances))))


def read_quarantines(
    connection: SqlConnection,
) -> tuple[list[QuarantineRow], list[CorruptRecord]]:
    """All quarantines by key, and an error per damaged row, whose key, if it is one, still counts.

    As ``Store.quarantines`` gives them.
    """
    rows: list[QuarantineRow] = []
    damaged: list[CorruptRecord] = []
    for stored in read_stored(connection, QUARANTINES_ALL, []):
        try:
            rows.append(QUARANTINES_ALL.kind.open(stored))
        except CorruptRecord as damage:
            damaged.append(damage)
            if _is_key(stored.key[0]):
                rows.append(QuarantineRow(stored.key[0], "unknown", damage.problem, 0))
    return rows, damaged


def _is_key(found: Any) -> bool:
    return isinstance(found, str) and not any("\ud800" <= char <= "\udfff" for char in found)


def read_heads(
    connection: SqlConnection,
    saga: str | None,
    status: Status | None,
    after: str,
    limit: int,
) -> tuple[list[HeadRow], list[CorruptRecord]]:
    """Heads in order of their key, as ``Store.heads`` gives them, and an error per damaged one.

    All heads of a saga are found by their keys alone: a damaged status or saga hides none.
    """
    query = heads_page(saga is not None, status is not None)
    if saga is None:
        values: list[Any] = [after] if status is None else [after, status.value]
    elif status is None:
        values = [max(after, f"{saga}/"), f"{saga}{_AFTER_SLASH}"]
    else:
        values = [after, saga, status.value]
    return read_sound(connection, query, [*values, limit])


def read_queues(connection: SqlConnection) -> tuple[list[QueueRow], list[CorruptRecord]]:
    """What is known of queues; one with a damaged row counts as paused, in case it was."""
    stored = read_stored(connection, QUEUES_ALL, [])
    rows, damaged = _sorted_out(QUEUES_ALL, stored)
    for each in stored:
        if not QUEUES.is_sound(each):
            why = "its row in the store is damaged; resume it if its jobs may start"
            rows.append(QueueRow(str(each.key[0]), True, why, 0))
    return rows, damaged


def read_stored(connection: SqlConnection, query: Query, values: list[Any]) -> list[StoredRow]:
    """The rows of a query, not yet verified."""
    if not isinstance(connection, sqlite3.Connection):
        return _stored_rows(connection.execute_query(query, values))
    packed, filled = _filled(query.packed, query, values)
    try:
        [(described, bodies)] = connection.execute(packed, filled).fetchall()
        return _unpacked(described, bodies or b"", query.kind.blobs)
    except (sqlite3.DataError, sqlite3.OperationalError, ValueError, TypeError):
        # More than SQLite puts into one value, or a column so damaged that it cannot be packed.
        # Row by row, the damage stays with its row. An error of the disk comes up again.
        return _one_by_one(connection, *_filled(query.one_by_one, query, values))


def _filled(sql: str, query: Query, values: list[Any]) -> tuple[str, list[Any]]:
    return spread(sql, query.width, values) if query.width else (sql, values)


def _unpacked(described: bytes, bodies: bytes, blobs: Sequence[int]) -> list[StoredRow]:
    rows: list[StoredRow] = []
    start = 0
    for asked, position, *key, stored, length in json.loads(
        described.decode("utf-8", "surrogateescape")
    ):
        end = start + length
        for number in blobs:
            key[number] = bytes.fromhex(key[number])
        rows.append(StoredRow(asked, position, tuple(key), bodies[start:end], stored))
        start = end
    if start != len(bodies):
        raise ValueError("the bodies do not have the lengths of their rows")
    return rows


def _one_by_one(connection: sqlite3.Connection, sql: str, values: list[Any]) -> list[StoredRow]:
    with remains_of_text(connection):
        found = connection.execute(sql, values).fetchall()
    return _stored_rows(found)


def _stored_rows(found: Iterable[Sequence[Any]]) -> list[StoredRow]:
    return [
        StoredRow(asked, position, tuple(key), body, stored)
        for asked, position, *key, stored, body in found
    ]
