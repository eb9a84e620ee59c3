"""Bringing the file of an older perdure up to this schema, inside the transaction that opens it.

What it has not is created; what it has stays, but for the heads, which get a column and with it a
new checksum, page by page. A damaged head stays as it is: damaged. Next to read: ``schema.py``.
"""

from __future__ import annotations

import logging
import sqlite3
from typing import Any

from sqlalchemy import cast, select, update
from sqlalchemy.schema import CreateIndex, CreateTable
from sqlalchemy.types import Text

from perdure.codec.checksum import checksum
from perdure.codec.codec import Codec
from perdure.codec.journal import JournalCodec
from perdure.codec.registry import TypeRegistry
from perdure.core.commit import Status
from perdure.core.outcome import Outcome
from perdure.errors import CodecError, CorruptRecord
from perdure.store import schema
from perdure.store.head_rows import HEADS, SAGAS
from perdure.store.rows import JOURNAL, StoredRow
from perdure.store.sql_heads import read_sagas, read_tally
from perdure.store.statements import PARAMETER, compiled
from perdure.store.write_statements import PUT_TALLIES

__all__ = ["OLDEST", "upgrade"]

logger = logging.getLogger("perdure.store")

OLDEST = 2
"""Files from this version on are upgraded."""

PAGE = 1_000

_CREATE_QUARANTINES = compiled(CreateTable(schema.quarantines))
_CREATE = [
    *[compiled(CreateTable(table)) for table in (schema.sagas, schema.lookups, schema.tombstones)],
    *[
        compiled(CreateIndex(index))
        for table in (schema.instances, schema.tombstones, schema.dead_letters)
        for index in sorted(table.indexes, key=lambda index: str(index.name))
        if index.name not in ("instances_by_status", "dead_letters_by_job")
    ],
]
_ADD_FIELDS = "ALTER TABLE instances ADD COLUMN fields TEXT NOT NULL DEFAULT ''"
_heads = schema.instances.c
_OLD_COLUMNS = [name for name in HEADS.columns if name != "fields"]
_OLD_HEADS = compiled(
    select(*(_heads[name] for name in _OLD_COLUMNS), _heads.checksum)
    .where(_heads.instance > cast(PARAMETER, Text))
    .order_by(_heads.instance)
    .limit(PARAMETER)
)
_SEAL_HEAD = compiled(
    update(schema.instances)
    .values(updated_at_ms=PARAMETER, checksum=PARAMETER)
    .where(_heads.instance == PARAMETER)
)
_LAST_TURNS = compiled(
    select(
        *(schema.journal.c[name] for name in JOURNAL.columns),
        schema.journal.c.body,
        schema.journal.c.checksum,
    )
    .where(schema.journal.c.instance == PARAMETER)
    .order_by(schema.journal.c.sequence_nr.desc())
    .limit(1)
)
_SET_VERSION = compiled(update(schema.meta).values(schema_version=schema.SCHEMA_VERSION))

_journal = JournalCodec(Codec(TypeRegistry()))


def upgrade(connection: sqlite3.Connection, version: int) -> None:
    """Bring a file of this version up to ``SCHEMA_VERSION``. Must run in a transaction."""
    logger.info("upgrading the file from schema version %d", version)
    if version == OLDEST:
        connection.execute(_CREATE_QUARANTINES)
    connection.execute(_ADD_FIELDS)
    _seal_heads(connection)
    for ddl in _CREATE:
        connection.execute(ddl)
    _count(connection)
    connection.execute(_SET_VERSION)


def _seal_heads(connection: sqlite3.Connection) -> None:
    """Give the heads their new checksums, and the moments of their last turns."""
    last: Any = b""
    connection.text_factory = lambda stored: stored.decode("utf-8", "surrogateescape")
    try:
        while True:
            page = connection.execute(_OLD_HEADS, [last, PAGE]).fetchall()
            sealed = []
            for *key, found in page:
                if _is_sound(key, found):
                    key[5] = _updated_at_ms(connection, key)
                    sealed.append((key[5], checksum(b"", *key, ""), key[0]))
            connection.executemany(_SEAL_HEAD, sealed)
            if len(page) < PAGE or not isinstance(page[-1][0], str):
                return
            last = page[-1][0].encode("utf-8", "surrogateescape")
    finally:
        connection.text_factory = str


def _is_sound(key: list[Any], found: object) -> bool:
    try:
        return checksum(b"", *key) == found
    except (TypeError, ValueError, OverflowError):
        return False


def _updated_at_ms(connection: sqlite3.Connection, key: list[Any]) -> int:
    """When the instance had its last turn; for one that has ended, when it did.

    Version 3 wrote a head only when the status changed.
    """
    stored_ms: int = key[5]
    if Status(key[3]).is_over:
        return stored_ms
    for *columns, body, found in connection.execute(_LAST_TURNS, [key[0]]).fetchall():
        turn = StoredRow(0, 0, tuple(columns), body, found)
        try:
            read = _journal.read_turn(JOURNAL.open(turn).body)
        except (CorruptRecord, CodecError):
            break  # its own instance will be told
        if _journal.outcome_of(read) is not Outcome.FINISHED and isinstance(read.at_ms, int):
            return read.at_ms
    return stored_ms


def _count(connection: sqlite3.Connection) -> None:
    tallies = [read_tally(connection, name) for name in read_sagas(connection)]
    for sql, values in PUT_TALLIES.rounds(SAGAS.seal(tallies)):
        connection.execute(sql, values)
