"""The statements that PostgreSQL has otherwise than SQLite: rows with a shard, and the fence.

Everything else is made of SQLite's by ``postgres_texts.py``.
Next to read: ``postgres_connection.py``, which runs them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Table, literal, literal_column, select
from sqlalchemy.dialects.postgresql import Insert, insert

from perdure.store import schema
from perdure.store import write_statements as sqlite
from perdure.store.head_rows import HEADS, LOOKUPS, SAGAS, TOMBSTONES
from perdure.store.postgres_schema import SHARDED, metadata
from perdure.store.postgres_texts import (
    OWN,
    Text,
    as_text,
    numbered,
    query_text,
    shard_of_key,
    text_of,
)
from perdure.store.read_statements import QUEUE_PAGE, TALLIES_ALL, TALLIES_AT, Query
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
from perdure.store.statements import PARAMETER, ManyRows, Statement, given, given_rows, kinds_of

__all__ = ["BARRIER", "TAKE", "text_for"]

# What an instance causes lies in its shard; what is nobody's, in that of its own id.
_KEYS = {
    OUTBOX.table.name: ("instance", "given_id"),
    DEAD_LETTERS.table.name: ("instance", "message_id"),
}


def _insert(kind: RowKind[Any], columns: Sequence[str], fixed: Mapping[str, Any]) -> Insert:
    table = metadata.tables[kind.table.name]
    names = [*columns, *(["body"] if kind.has_body else []), "checksum"]
    values: list[Any] = [*(given(n + 1) for n in range(len(names))), *map(literal, fixed.values())]
    into = [*names, *fixed]
    if table.name in SHARDED:
        into.append("shard")
        values.append(shard_of_key(_key_of(table, names)))
    return insert(table).from_select(into, select(*values).select_from(given_rows))


def _key_of(table: Table, names: Sequence[str]) -> str:
    instance, *own_id = (
        f"given.column{names.index(name) + 1}" if name in names else "''"
        for name in _KEYS.get(table.name, ("instance",))
    )
    return f"coalesce(nullif({instance}, ''), {own_id[0]})" if own_id else instance


def _upsert(kind: RowKind[Any], *key: str) -> Insert:
    statement = _insert(kind, kind.columns, {})
    table = metadata.tables[kind.table.name]
    keys = key or tuple(column.name for column in table.primary_key.columns)
    others = {
        column.name: statement.excluded[column.name]
        for column in table.columns
        if not column.primary_key
    }
    return statement.on_conflict_do_update(index_elements=list(keys), set_=others)


def _put_if_absent(kind: RowKind[Any]) -> Insert:
    statement = _insert(kind, kind.columns, {})
    return statement.on_conflict_do_nothing(index_elements=["instance", "message_id"])


def _insert_untouched() -> Insert:
    others = OUTBOX.columns[len(SENT_COLUMNS) :]
    return _insert(OUTBOX, SENT_COLUMNS, dict(zip(others, UNTOUCHED, strict=True)))


_INSERTS: dict[ManyRows, Insert] = {
    sqlite.INSERT_JOURNAL: _insert(JOURNAL, JOURNAL.columns, {}),
    sqlite.INSERT_OUTBOX: _insert(OUTBOX, OUTBOX.columns, {}),
    sqlite.INSERT_UNTOUCHED: _insert_untouched(),
    sqlite.INSERT_DEAD_LETTERS: _insert(DEAD_LETTERS, DEAD_LETTERS.columns, {}),
    sqlite.PUT_DEADLINES: _upsert(DEADLINES),
    sqlite.PUT_HEADS: _upsert(HEADS),
    sqlite.PUT_LOOKUPS: _upsert(LOOKUPS),
    sqlite.PUT_INBOX: _put_if_absent(INBOX),
    sqlite.REPLACE_INBOX: _upsert(INBOX, "instance", "message_id"),
    sqlite.PUT_SNAPSHOTS: _upsert(SNAPSHOTS),
    sqlite.PUT_QUEUES: _upsert(QUEUES),
    sqlite.PUT_QUARANTINES: _upsert(QUARANTINES),
    sqlite.PUT_TOMBSTONES: _upsert(TOMBSTONES),
}

# The fence: an owner's rows of ``shards`` are locked for whoever would take them, until the end of
# the transaction. If they changed hands while this waited for them, that is what is seen.
_FIND_LOSERS = f"""
WITH fence AS MATERIALIZED (
    SELECT epoch FROM shards WHERE shard = ANY({OWN}) ORDER BY shard FOR SHARE
)
SELECT NULL::text, coalesce(nullif(max(epoch), $1), 0) FROM fence
HAVING count(*) FILTER (WHERE epoch = $1) <> cardinality({OWN})
UNION ALL
SELECT given.column1, stored.sequence_nr
FROM unnest($2::text[], $3::bigint[]) AS given(column1, column2)
CROSS JOIN LATERAL (
    SELECT coalesce(
        (
            SELECT one.sequence_nr FROM journal one WHERE one.instance = given.column1
            ORDER BY one.sequence_nr DESC LIMIT 1
        ),
        (
            SELECT one.sequence_nr FROM snapshots one WHERE one.instance = given.column1
            ORDER BY one.sequence_nr DESC LIMIT 1
        ),
        0
    ) AS sequence_nr
) AS stored
WHERE stored.sequence_nr <> given.column2 - 1
"""

TAKE = """
WITH mark AS MATERIALIZED (SELECT nextval('epochs') AS epoch)
UPDATE shards SET host = $2, epoch = mark.epoch FROM mark WHERE shard = ANY($1::smallint[])
RETURNING shards.epoch
"""
"""Own these shards, under one new epoch. It waits for a write of their owner that is under way."""

BARRIER = "SELECT shard FROM shards WHERE shard = ANY($1::smallint[]) ORDER BY shard FOR UPDATE"
"""Waits until no earlier write of their owner is under way any more."""

_TALLY = ", ".join(f"sagas.{name}" for name in (*SAGAS.columns, "checksum"))
_TALLIES_AT = f"""
SELECT given.column3, 0, {_TALLY}, ''::bytea FROM {given_rows}
JOIN sagas ON sagas.saga = given.column1 AND sagas.shard = given.column2
"""
_TALLIES_ALL = f"""
SELECT 0, 0, {_TALLY}, ''::bytea FROM sagas WHERE sagas.shard = ANY({OWN}) ORDER BY sagas.saga
"""


def _put_tallies() -> Text:
    """The given rows begin with the shard."""
    table = metadata.tables[SAGAS.table.name]
    names = ["shard", *SAGAS.columns, "checksum"]
    rows = select(*(given(n + 1) for n in range(len(names)))).select_from(given_rows)
    statement = insert(table).from_select(names, rows)
    others = {name: statement.excluded[name] for name in names if name not in ("saga", "shard")}
    put = statement.on_conflict_do_update(index_elements=["saga", "shard"], set_=others)
    return numbered(as_text(put), kinds_of([table.c[name] for name in names]))


def _queue_page() -> Query:
    """Jobs of a queue above a position, by walking all: the queue's own index is not in order.

    The target is asked for so that no index answers to it.
    """
    jobs = schema.outbox
    target: Any = literal_column("(outbox.target || '')")
    rows = select(jobs).where(target == PARAMETER, jobs.c.position > PARAMETER)
    rows = rows.order_by(jobs.c.position).limit(PARAMETER)
    return Query(OUTBOX, lambda own: rows.where(*own(jobs.name)), walked=("position",))


_TEXTS: dict[ManyRows | Query, Text] = {
    **{given_to: numbered(as_text(made), given_to.kinds) for given_to, made in _INSERTS.items()},
    sqlite.FIND_LOSERS: Text(_FIND_LOSERS.replace(OWN, "$4::smallint[]"), width=2, fills=(OWN,)),
    sqlite.PUT_TALLIES: _put_tallies(),
    QUEUE_PAGE: query_text(_queue_page()),
    TALLIES_AT: numbered(_TALLIES_AT, "tnn"),
    TALLIES_ALL: numbered(_TALLIES_ALL),
}


def text_for(statement: Statement | ManyRows | Query) -> Text:
    """What PostgreSQL is given for a statement."""
    if isinstance(statement, Statement):
        return text_of(statement)
    if (otherwise := _TEXTS.get(statement)) is not None:
        return otherwise
    return query_text(statement) if isinstance(statement, Query) else text_of(statement)
