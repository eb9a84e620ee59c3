"""PostgreSQL's tables: those of ``schema.py`` with a shard, and those of many processes.

Whatever an instance causes lies in its shard, whose owner alone writes it: indexes that are walked
by moment begin with the shard. The number of shards is in ``meta`` and never changes.
Text is ordered by its bytes, as in SQLite. All tables are in one PostgreSQL schema of ours.
Declares, and knows no statements. Next to read: ``shards.py``, ``migrations/``; ``ownership.py``
for ``hosts`` and ``shards``, ``mail.py`` for ``mail``.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Sequence,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    literal_column,
    text,
)

from perdure.store import schema
from perdure.store.sql_open import EPOCH_MAX

__all__ = [
    "REVISION",
    "SCHEMA",
    "SHARDED",
    "VERSION_TABLE",
    "epochs",
    "hosts",
    "mail",
    "meta",
    "metadata",
    "performed",
    "shards",
]

SCHEMA = "perdure"
"""The PostgreSQL schema of our tables, where a URL names no other."""

REVISION = "0001"
"""The migration that this code needs: no earlier one, and no later one."""

VERSION_TABLE = "perdure_version"
"""Where Alembic keeps the revision; not ``alembic_version``, which is the user's."""

SHARDED = frozenset(
    {"instances", "inbox", "outbox", "deadlines", "dead_letters", "quarantines", "tombstones"}
)
"""The tables of ``schema.py`` that have a column ``shard``; ``sagas`` has it in its key."""

_BY_SHARD = frozenset(
    {"inbox_by_due", "outbox_by_queue", "outbox_by_due", "tombstones_by_due", "deadlines_by_due"}
)

_BY_POSITION = frozenset({"outbox_by_queue", "outbox_by_due"})
"""SQLite's indexes end in the row's position by themselves."""

_OFTEN_VACUUMED: dict[str, Any] = {
    "postgresql_with": {
        "autovacuum_vacuum_scale_factor": "0.02",
        "autovacuum_vacuum_threshold": "1000",
    }
}
"""Of tables whose rows come and go, most of what lies there is soon dead."""

_PASSED_THROUGH = frozenset({"inbox", "outbox", "deadlines"})

metadata = MetaData()


def _text(name: str, **more: Any) -> Column[str]:
    return Column(name, Text(collation="C"), nullable=False, **more)


def _shard(**more: Any) -> Column[int]:
    return Column("shard", SmallInteger, nullable=False, autoincrement=False, **more)


def _copied(column: Column[Any], table: Table) -> Column[Any]:
    if column.name == "position" and table.autoincrement_column is column:
        return Column("position", BigInteger, Identity(always=False), primary_key=True)
    key = column.primary_key
    if isinstance(column.type, Text):
        return _text(column.name, primary_key=key)
    type_: Any = LargeBinary if isinstance(column.type, LargeBinary) else BigInteger
    return Column(
        column.name, type_, nullable=column.nullable, primary_key=key, autoincrement=False
    )


def _add(table: Table) -> Table:
    """The table as PostgreSQL has it."""
    columns = [_copied(column, table) for column in table.columns]
    if table.name in SHARDED:
        columns.append(_shard())
    elif table is schema.sagas:
        columns.insert(1, _shard(primary_key=True))
    constraints: list[Any] = [
        UniqueConstraint(*(column.name for column in each.columns), name=_unique_name(table))
        for each in table.constraints
        if isinstance(each, UniqueConstraint)
    ]
    constraints += [
        CheckConstraint(text(str(each.sqltext)), name=each.name)
        for each in table.constraints
        if isinstance(each, CheckConstraint)
    ]
    options = _OFTEN_VACUUMED if table.name in _PASSED_THROUGH else {}
    made = Table(table.name, metadata, *columns, *constraints, **options)
    for index in sorted(table.indexes, key=lambda each: str(each.name)):
        names = [column.name for column in index.columns]
        if index.name in _BY_SHARD:
            names.insert(0, "shard")
        if index.name in _BY_POSITION:
            names.append("position")
        where = index.dialect_options["sqlite"]["where"]
        Index(
            index.name,
            *(made.c[name] for name in names),
            unique=bool(index.unique),
            postgresql_where=None if where is None else literal_column(str(where)),
        )
    return made


def _unique_name(table: Table) -> str:
    return f"{table.name}_by_instance"


for _table in schema.metadata.sorted_tables:
    if _table is not schema.meta:
        _add(_table)

for _name in ("inbox", "outbox", "dead_letters", "quarantines"):  # walked by a shard's owner
    _of = metadata.tables[_name]
    Index(f"{_name}_by_shard", "shard", *_of.primary_key.columns, _table=_of)

Index(
    "instances_by_shard",
    "shard",
    "saga",
    "status",
    "updated_at_ms",
    "instance",
    _table=metadata.tables["instances"],
)

meta = Table(
    "meta",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("shards", SmallInteger, nullable=False),
    CheckConstraint("id = 1", name="meta_has_one_row"),
)

epochs = Sequence("epochs", metadata=metadata, minvalue=1, maxvalue=EPOCH_MAX - 1)
"""Epochs, unique in the database: positions of jobs begin with one."""

# Who takes part. Judged by the database's clock alone; see ``ownership.py``.
hosts = Table(
    "hosts",
    metadata,
    _text("host", primary_key=True),
    _text("name"),
    Column("pid", Integer, nullable=False),
    Column("backend_pid", Integer, nullable=False),
    Column("backend_start", DateTime(timezone=True), nullable=False),
    Column("joined_at", DateTime(timezone=True), nullable=False),
    Column("beat_at", DateTime(timezone=True), nullable=False),
    Column("is_draining", Boolean, nullable=False),
    _text("version"),
)

# One row per shard, made with the schema. An epoch of 0: nobody has owned it yet.
shards = Table(
    "shards",
    metadata,
    _shard(primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    Column("host", Text(collation="C"), nullable=True),
)

# What another process, or a user's transaction, accepted for an instance of this shard.
mail = Table(
    "mail",
    metadata,
    Column("position", BigInteger, Identity(always=False), primary_key=True),
    _shard(),
    _text("instance"),
    _text("message_id"),
    Column("kind", SmallInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),
    _text("reply_to"),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("checksum", BigInteger, nullable=False),
    Index("mail_by_shard", "shard", "position"),
    **_OFTEN_VACUUMED,
)

# What a worker has done in a transaction of its own, until its job is settled. ``job`` is the
# position in the outbox: ids may be used again.
performed = Table(
    "performed",
    metadata,
    Column("job", BigInteger, primary_key=True, autoincrement=False),
    Column("body", LargeBinary, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("checksum", BigInteger, nullable=False),
)
