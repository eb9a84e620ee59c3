"""The statements of a write, each compiled once and each taking all its rows at once.

Knows tables, not the order in which they are written.
Next to read: ``sql_write.py``, which runs them in one transaction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import and_, delete, func, literal, null, select, tuple_, union_all
from sqlalchemy.dialects.sqlite import insert

from perdure.store import schema
from perdure.store.head_rows import HEADS, LOOKUPS, SAGAS, TOMBSTONES
from perdure.store.rows import (
    DEAD_LETTERS,
    DEADLINES,
    INBOX,
    JOURNAL,
    OUTBOX,
    QUARANTINES,
    QUEUES,
    SENT_COLUMNS,
    SNAPSHOTS,
    UNTOUCHED,
    RowKind,
)
from perdure.store.statements import PARAMETER, ManyRows, given, given_rows, kinds_of

__all__ = [
    "CLEAR_DEADLINES",
    "CLEAR_LOOKUPS",
    "CLEAR_QUARANTINES",
    "CLEAR_SNAPSHOTS",
    "CLEAR_TOMBSTONES",
    "CONSUME_INBOX",
    "FIND_GIVEN_IDS",
    "FIND_JOBS",
    "FIND_LETTERS",
    "FIND_LOSERS",
    "FIND_TOMBSTONES",
    "INSERT_DEAD_LETTERS",
    "INSERT_JOURNAL",
    "INSERT_OUTBOX",
    "INSERT_UNTOUCHED",
    "PRUNE_SNAPSHOTS",
    "PUT_DEADLINES",
    "PUT_HEADS",
    "PUT_INBOX",
    "PUT_LOOKUPS",
    "PUT_QUARANTINES",
    "PUT_QUEUES",
    "PUT_SNAPSHOTS",
    "PUT_TALLIES",
    "PUT_TOMBSTONES",
    "REMOVE_HEADS",
    "REMOVE_JOBS",
    "REMOVE_LETTERS",
    "REPLACE_INBOX",
    "SWEEP_JOURNAL",
]


def _insert(kind: RowKind[Any]) -> tuple[Any, str]:
    """INSERT … SELECT of the given rows; a row without checksum is a filler."""
    return _insert_columns(kind, kind.columns, {})


def _insert_columns(
    kind: RowKind[Any], columns: Sequence[str], fixed: Mapping[str, Any]
) -> tuple[Any, str]:
    names = [*columns, *(["body"] if kind.has_body else []), "checksum"]
    width = len(names)
    values = [*(given(n + 1) for n in range(width)), *map(literal, fixed.values())]
    rows = select(*values).select_from(given_rows).where(given(width).is_not(None))
    statement = insert(kind.table).from_select([*names, *fixed], rows)
    return statement, kinds_of([kind.table.c[name] for name in names])


def _insert_untouched() -> ManyRows:
    others = OUTBOX.columns[len(SENT_COLUMNS) :]
    fixed = dict(zip(others, UNTOUCHED, strict=True))
    return ManyRows(*_insert_columns(OUTBOX, SENT_COLUMNS, fixed))


def _append(kind: RowKind[Any]) -> ManyRows:
    return ManyRows(*_insert(kind))


def _upsert(kind: RowKind[Any], *key: str) -> ManyRows:
    """Put rows; one whose key is there is replaced, in its place. The key is the primary one."""
    statement, kinds = _insert(kind)
    keys = [kind.table.c[name] for name in key] or list(kind.table.primary_key.columns)
    others = {
        column.name: statement.excluded[column.name]
        for column in kind.table.columns
        if not column.primary_key
    }
    return ManyRows(statement.on_conflict_do_update(index_elements=keys, set_=others), kinds)


def _put_if_absent(kind: RowKind[Any]) -> ManyRows:
    statement, kinds = _insert(kind)
    key = [kind.table.c.instance, kind.table.c.message_id]
    return ManyRows(statement.on_conflict_do_nothing(index_elements=key), kinds)


def _present(column: Any, *more: Any, where: Any = None) -> ManyRows:
    """The given values of a column that are there, with what else is asked of their rows."""
    rows = select(column, *more).where(column.in_(select(given(1)).select_from(given_rows)))
    return ManyRows(rows if where is None else rows.where(where), kinds_of([column]))


def _delete(kind: RowKind[Any], *columns: str) -> ManyRows:
    found = [kind.table.c[name] for name in columns]
    rows = select(*(given(n + 1) for n in range(len(columns)))).select_from(given_rows)
    return ManyRows(delete(kind.table).where(tuple_(*found).in_(rows)), kinds_of(found))


def _newest(table: Any, instance: Any) -> Any:
    """The highest sequence number of an instance: one step in an index, however long it is."""
    numbered = select(table.c.sequence_nr).where(table.c.instance == instance)
    return numbered.order_by(table.c.sequence_nr.desc()).limit(1).scalar_subquery()


def _losers() -> ManyRows:
    """(instance, stored number) of those whose given number is not the next one.

    A first row (NULL, epoch) says that the store's epoch is another than the leading parameter.
    An instance whose journal was archived goes on after its snapshot.
    """
    stored = func.coalesce(
        _newest(schema.journal, given(1)), _newest(schema.snapshots, given(1)), 0
    )
    overtaken = select(null(), schema.meta.c.epoch).where(schema.meta.c.epoch != PARAMETER)
    losing = select(given(1), stored).select_from(given_rows).where(stored != given(2) - 1)
    return ManyRows(union_all(overtaken, losing), "tn")


def _sweep_journal() -> ManyRows:
    """Of each given (instance, number) the turns up to that one."""
    journal = schema.journal
    swept = and_(journal.c.instance == given(1), journal.c.sequence_nr <= given(2))
    positions = select(journal.c.position).select_from(given_rows).join(journal, swept)
    return ManyRows(delete(journal).where(journal.c.position.in_(positions)), "tn")


def _prune_snapshots() -> ManyRows:
    """Of the given instances, all snapshots but the newest two."""
    snapshots, kept = schema.snapshots, schema.snapshots.alias("kept")
    second = (
        select(kept.c.sequence_nr)
        .where(kept.c.instance == snapshots.c.instance)
        .order_by(kept.c.sequence_nr.desc())
        .limit(1)
        .offset(1)
        .scalar_subquery()
        .correlate(snapshots)
    )
    instances = select(given(1)).select_from(given_rows)
    return ManyRows(
        delete(snapshots).where(
            snapshots.c.instance.in_(instances), snapshots.c.sequence_nr < second
        ),
        "t",
    )


FIND_LOSERS = _losers()
FIND_JOBS = _present(schema.outbox.c.position)
FIND_LETTERS = _present(schema.dead_letters.c.position)
FIND_GIVEN_IDS = _present(
    schema.outbox.c.given_id, schema.outbox.c.position, where=schema.outbox.c.given_id != ""
)
INSERT_JOURNAL = _append(JOURNAL)
INSERT_OUTBOX = _append(OUTBOX)
INSERT_UNTOUCHED = _insert_untouched()
REMOVE_JOBS = _delete(OUTBOX, "position")
INSERT_DEAD_LETTERS = _append(DEAD_LETTERS)
REMOVE_LETTERS = _delete(DEAD_LETTERS, "position")
PUT_DEADLINES = _upsert(DEADLINES)
CLEAR_DEADLINES = _delete(DEADLINES, "instance", "name")
PUT_HEADS = _upsert(HEADS)
REMOVE_HEADS = _delete(HEADS, "instance")
PUT_TALLIES = _upsert(SAGAS)
PUT_LOOKUPS = _upsert(LOOKUPS)
CLEAR_LOOKUPS = _delete(LOOKUPS, "saga", "field", "value", "instance")
PUT_INBOX = _put_if_absent(INBOX)
REPLACE_INBOX = _upsert(INBOX, "instance", "message_id")
CONSUME_INBOX = _delete(INBOX, "instance", "message_id")
PUT_SNAPSHOTS = _upsert(SNAPSHOTS)
PRUNE_SNAPSHOTS = _prune_snapshots()
PUT_QUEUES = _upsert(QUEUES)
PUT_QUARANTINES = _upsert(QUARANTINES)
CLEAR_QUARANTINES = _delete(QUARANTINES, "instance")
FIND_TOMBSTONES = _present(schema.tombstones.c.instance)
SWEEP_JOURNAL = _sweep_journal()
CLEAR_SNAPSHOTS = _delete(SNAPSHOTS, "instance")
PUT_TOMBSTONES = _upsert(TOMBSTONES)
CLEAR_TOMBSTONES = _delete(TOMBSTONES, "instance")
