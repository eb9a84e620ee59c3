"""The tables. Declares columns and indexes and knows neither statements nor connections.

Every table but ``meta`` ends in a checksum over all other columns, except a ``position`` that
SQLite gives out when the row goes in. Such a position orders rows, and names one only to whoever
has just read it there; nothing stored refers to it. The outbox is another matter: other rows name
a job by its position (``outbox.follows``, ``dead_letters.job``), so its writer gives the position,
and the checksum covers it.
Next to read: ``rows.py``, how a row of ``core/commit.py`` lies in its table.
"""

from __future__ import annotations

from sqlalchemy import (
    CheckConstraint,
    Column,
    ColumnElement,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    literal_column,
)

__all__ = [
    "APPLICATION_ID",
    "SCHEMA_VERSION",
    "dead_letters",
    "deadlines",
    "inbox",
    "instances",
    "journal",
    "lookups",
    "meta",
    "metadata",
    "outbox",
    "quarantines",
    "queues",
    "sagas",
    "snapshots",
    "tombstones",
]

SCHEMA_VERSION = 4
"""Version 3 had no ``sagas``, ``lookups`` and ``tombstones``, and no fields in its heads; version 2
had no ``quarantines`` either; 1 was never released."""

APPLICATION_ID = 0x70657264
"""Marks the file as ours ("perd"), in SQLite's header; other people's databases are refused."""

metadata = MetaData()


def _text(name: str, *, primary_key: bool = False) -> Column[str]:
    return Column(name, Text, nullable=False, primary_key=primary_key)


def _integer(name: str, *, primary_key: bool = False, nullable: bool = False) -> Column[int]:
    return Column(name, Integer, nullable=nullable, primary_key=primary_key, autoincrement=False)


def _position() -> Column[int]:
    return Column("position", Integer, primary_key=True, autoincrement=True)


def _blob(name: str) -> Column[bytes]:
    return Column(name, LargeBinary, nullable=False)


def _body() -> Column[bytes]:
    return _blob("body")


def _where(condition: str) -> ColumnElement[bool]:
    return literal_column(condition)


meta = Table(
    "meta",
    metadata,
    _integer("id", primary_key=True),
    _integer("schema_version"),
    _integer("epoch"),
    CheckConstraint("id = 1", name="meta_has_one_row"),
)

# A table of its own rowids, not WITHOUT ROWID on (instance, sequence_nr): rows are appended at the
# end and only the small index is touched at random. Measured, the difference is a factor of 2.6.
journal = Table(
    "journal",
    metadata,
    _position(),
    _text("instance"),
    _integer("sequence_nr"),
    _integer("epoch"),
    _text("message_id"),
    _body(),
    _integer("checksum"),
    UniqueConstraint("instance", "sequence_nr"),
)

snapshots = Table(
    "snapshots",
    metadata,
    _text("instance", primary_key=True),
    _integer("sequence_nr", primary_key=True),
    _body(),
    _integer("checksum"),
)

instances = Table(
    "instances",
    metadata,
    _text("instance", primary_key=True),
    _text("saga"),
    _text("correlation_id"),
    _text("status"),
    _integer("started_at_ms"),
    _integer("updated_at_ms"),
    _text("fields"),
    _integer("checksum"),
    Index("instances_by_status", "saga", "status", "instance"),
    Index("instances_by_start", "saga", "status", "started_at_ms", "instance"),
    Index("instances_by_update", "saga", "status", "updated_at_ms", "instance"),
    sqlite_with_rowid=False,
)

# One row per saga, kept in the commit of the heads that it counts.
sagas = Table(
    "sagas",
    metadata,
    _text("saga", primary_key=True),
    _integer("started"),
    _integer("completed"),
    _integer("failed"),
    _integer("running"),
    _integer("stuck"),
    _integer("kept_completed"),
    _integer("kept_failed"),
    _integer("duration_ms"),
    _text("indexed"),
    _integer("checksum"),
    sqlite_with_rowid=False,
)

# One row per instance and indexed field: what a head has in ``fields``, the other way round.
lookups = Table(
    "lookups",
    metadata,
    _text("saga", primary_key=True),
    _text("field", primary_key=True),
    _text("value", primary_key=True),
    _text("instance", primary_key=True),
    _integer("checksum"),
    sqlite_with_rowid=False,
)

# What is remembered of an instance whose rows were purged, beside a snapshot without a state. Its
# moment is 0 as long as rows of its journal are to be swept.
tombstones = Table(
    "tombstones",
    metadata,
    _text("instance", primary_key=True),
    _integer("due_at_ms"),
    _integer("until_ms"),
    _integer("sequence_nr"),
    _integer("swept_nr"),
    _integer("checksum"),
    Index("tombstones_by_due", "due_at_ms", "instance"),
    sqlite_with_rowid=False,
)

# AUTOINCREMENT where rows are deleted: a position that came back would be skipped by a reader who
# pages by position.
inbox = Table(
    "inbox",
    metadata,
    _position(),
    _text("instance"),
    _text("message_id"),
    _text("reason"),
    _integer("created_at_ms"),
    _integer("attempts"),
    _integer("due_at_ms", nullable=True),
    _text("error"),
    _body(),
    _integer("checksum"),
    UniqueConstraint("instance", "message_id"),
    Index(
        "inbox_by_due",
        "due_at_ms",
        "instance",
        "message_id",
        sqlite_where=_where("due_at_ms IS NOT NULL"),
    ),
    sqlite_autoincrement=True,
)

# No unique index on the text key: one index touched at random doubles the cost of a turn. The
# journal's unique index already stands for (instance, sequence_nr). Most rows are due at once,
# follow none and have no id of their own: only the first index, written at the end of a queue's
# range, knows them. ``follows`` is ``OutboxRow.after``, which is a word of SQL's.
outbox = Table(
    "outbox",
    metadata,
    _integer("position", primary_key=True),
    _text("instance"),
    _integer("sequence_nr"),
    _integer("idx"),
    _integer("kind"),
    _text("target"),
    _text("type"),
    _integer("version"),
    _integer("created_at_ms"),
    _blob("context"),
    _text("given_id"),
    _integer("attempts"),
    _integer("due_at_ms"),
    _text("error"),
    _integer("follows"),
    _integer("leads"),
    _integer("expires_at_ms"),
    _body(),
    _integer("checksum"),
    CheckConstraint("position > 0", name="outbox_position_is_given"),
    Index("outbox_by_queue", "target", "due_at_ms"),
    Index("outbox_by_due", "due_at_ms", sqlite_where=_where("due_at_ms > 0")),
    Index("outbox_by_follows", "follows", sqlite_where=_where("follows > 0")),
    Index("outbox_by_given_id", "given_id", unique=True, sqlite_where=_where("given_id != ''")),
)

deadlines = Table(
    "deadlines",
    metadata,
    _text("instance", primary_key=True),
    _text("name", primary_key=True),
    _integer("sequence_nr"),
    _integer("due_at_ms"),
    _integer("checksum"),
    Index("deadlines_by_due", "due_at_ms", "instance", "name"),
    sqlite_with_rowid=False,
)

dead_letters = Table(
    "dead_letters",
    metadata,
    _position(),
    _text("instance"),
    _text("message_id"),
    _text("type"),
    _text("reason"),
    _text("error"),
    _integer("attempts"),
    _integer("created_at_ms"),
    _text("queue"),
    _integer("job"),
    _body(),
    _integer("checksum"),
    Index("dead_letters_by_job", "job", sqlite_where=_where("job > 0")),
    Index("dead_letters_by_instance", "instance"),
    sqlite_autoincrement=True,
)

queues = Table(
    "queues",
    metadata,
    _text("name", primary_key=True),
    _integer("is_paused"),
    _text("reason"),
    _integer("changed_at_ms"),
    _integer("checksum"),
    sqlite_with_rowid=False,
)

quarantines = Table(
    "quarantines",
    metadata,
    _text("instance", primary_key=True),
    _text("reason"),
    _text("error"),
    _integer("since_ms"),
    _integer("checksum"),
    sqlite_with_rowid=False,
)
