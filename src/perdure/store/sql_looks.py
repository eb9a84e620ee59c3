"""All that concerns one instance: for whoever looks, not for a turn.

Synchronous for the reason given in ``sql_write.py``. There is no index on ``outbox.instance``: its
upkeep would cost every turn, so the jobs of an instance are found by going through the outbox.
Next to read: ``sql_read.py``.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, func, select

from perdure.core.commit import SnapshotRow
from perdure.errors import CorruptRecord
from perdure.store import schema
from perdure.store.dialect import SqlConnection, begin_reading, roll_back
from perdure.store.head_rows import HEADS
from perdure.store.protocol import InstanceRows
from perdure.store.read_statements import SNAPSHOTS_OF, Query
from perdure.store.rows import (
    DEAD_LETTERS,
    DEADLINES,
    INBOX,
    OUTBOX,
    QUARANTINES,
    SNAPSHOTS,
    RowKind,
)
from perdure.store.sql_read import read_sound, read_stored
from perdure.store.statements import PARAMETER, compiled

__all__ = ["read_rows_of", "read_snapshots"]


def _of(kind: RowKind[Any], *order: str) -> Query:
    """An instance's rows; the parameters are its key and the limit."""
    columns = kind.table.c
    rows: Select[Any] = select(kind.table).where(columns.instance == PARAMETER)
    return Query(kind, rows.order_by(*(columns[name] for name in order)).limit(PARAMETER))


_HEAD = _of(HEADS, "instance")
_DEADLINES = _of(DEADLINES, "due_at_ms", "name")
_INBOX = _of(INBOX, "position")
_JOBS = _of(OUTBOX, "position")
_DEAD_LETTERS = _of(DEAD_LETTERS, "position")
_QUARANTINE = _of(QUARANTINES, "instance")
_NEWEST_TURN = compiled(
    select(func.max(schema.journal.c.sequence_nr)).where(schema.journal.c.instance == PARAMETER)
)
_INBOX_SIZE = compiled(
    select(func.count()).select_from(schema.inbox).where(schema.inbox.c.instance == PARAMETER)
)


def read_rows_of(
    connection: SqlConnection, instance: str, limit: int
) -> tuple[InstanceRows, list[CorruptRecord]]:
    """What concerns the instance, all of one moment, and an error per damaged row."""
    damaged: list[CorruptRecord] = []

    def read(query: Query) -> list[Any]:
        rows, lost = read_sound(connection, query, [instance, limit])
        damaged.extend(lost)
        return rows

    begin_reading(connection)
    try:
        [(newest,)] = connection.execute(_NEWEST_TURN, [instance]).fetchall()
        [(waiting,)] = connection.execute(_INBOX_SIZE, [instance]).fetchall()
        heads, quarantines = read(_HEAD), read(_QUARANTINE)
        rows = InstanceRows(
            instance,
            heads[0] if heads else None,
            newest if isinstance(newest, int) else 0,
            read_snapshots(connection, instance),
            read(_DEADLINES),
            read(_INBOX),
            waiting,
            read(_JOBS),
            read(_DEAD_LETTERS),
            quarantines[0] if quarantines else None,
        )
    finally:
        roll_back(connection)
    return rows, damaged


def read_snapshots(connection: SqlConnection, instance: str) -> list[SnapshotRow]:
    """The sound snapshots of an instance, as ``Store.snapshots`` gives them."""
    return [
        SNAPSHOTS.build(0, stored.key, stored.body)
        for stored in read_stored(connection, SNAPSHOTS_OF, [instance])
        if SNAPSHOTS.is_sound(stored)
    ]
