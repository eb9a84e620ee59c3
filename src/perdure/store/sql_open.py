"""Opening a database: whose it is, which schema it has, and the owner's new epoch.

Synchronous for the reason given in ``sql_write.py``.
Next to read: ``schema.py``, ``sql_positions.py``.
"""

from __future__ import annotations

import logging
import sqlite3

from sqlalchemy import insert, select, update
from sqlalchemy.schema import CreateIndex, CreateTable

import perdure.failpoints as failpoints
from perdure.errors import NotADatabase, SchemaTooNew, SchemaTooOld
from perdure.failpoints import Point
from perdure.store.dialect import roll_back
from perdure.store.rows import JOURNAL, StoredRow
from perdure.store.schema import (
    APPLICATION_ID,
    SCHEMA_VERSION,
    journal,
    meta,
    metadata,
)
from perdure.store.sql_positions import mend_positions
from perdure.store.sql_upgrade import OLDEST, upgrade
from perdure.store.statements import PARAMETER, compiled

__all__ = ["open_schema", "read_epoch"]

logger = logging.getLogger("perdure.store")

_CREATE = [
    *[compiled(CreateTable(table)) for table in metadata.sorted_tables],
    *[compiled(CreateIndex(i)) for table in metadata.sorted_tables for i in table.indexes],
]
_FIRST_META = compiled(insert(meta).values(id=1, schema_version=SCHEMA_VERSION, epoch=0))
_NEXT_EPOCH = compiled(update(meta).values(epoch=PARAMETER))
_READ_META = compiled(select(meta.c.schema_version, meta.c.epoch))
_NEWEST_TURN = compiled(
    select(*(journal.c[name] for name in JOURNAL.columns), journal.c.body, journal.c.checksum)
    .order_by(journal.c.position.desc())
    .limit(1)
)

EPOCH_MAX = 2**22
"""Positions in the outbox begin with the epoch: they have to be numbers of SQLite."""


def open_schema(connection: sqlite3.Connection, last_epoch: int = 0) -> int:
    """Create the schema in an empty file, or check it; raise the epoch and return it.

    One transaction: two owners never get the same epoch. ``last_epoch`` is the one that the last
    owner is known to have had elsewhere; the next one is above it, and above all in the journal.
    Raises NotADatabase for somebody else's file, SchemaTooNew or SchemaTooOld for one of ours.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        if _is_empty(connection):
            _create(connection)
            if last_epoch:
                logger.warning(
                    "the database is new, but its lock file tells of one before it, up to epoch "
                    "%d: whatever that held is not here",
                    last_epoch,
                )
                last_epoch = 0
        else:
            _upgrade(connection)
        stored = read_epoch(connection)
        mend_positions(connection)
        connection.execute(_NEXT_EPOCH, [_newest_epoch(connection, stored, last_epoch) + 1])
        epoch = read_epoch(connection)
        failpoints.reach(Point.OWNING)
        connection.execute("COMMIT")
        failpoints.reach(Point.OWNING)
    except BaseException:
        roll_back(connection)
        raise
    return epoch


def _create(connection: sqlite3.Connection) -> None:
    connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
    for ddl in _CREATE:
        failpoints.reach(Point.CREATING)
        connection.execute(ddl)
    connection.execute(_FIRST_META)


def _newest_epoch(connection: sqlite3.Connection, stored: int, last_epoch: int) -> int:
    """The highest epoch that anything tells of; if that is not the stored one, the log says so."""
    in_journal = _epoch_of_newest_turn(connection)
    newest = max(stored, in_journal, last_epoch if last_epoch < EPOCH_MAX - 1 else 0)
    if in_journal > stored:
        logger.error(
            "the stored epoch %d went back or is damaged: the journal is at epoch %d, which is "
            "taken",
            stored, in_journal,
        )  # fmt: skip
    elif newest > stored:
        logger.error(
            "the database is at epoch %d, but its last owner was at epoch %d: it was restored from "
            "an older copy, or lost its write-ahead log. Turns acknowledged since then are not in "
            "it, and commands that were done since may be done again",
            stored, newest,
        )  # fmt: skip
    return newest


def _epoch_of_newest_turn(connection: sqlite3.Connection) -> int:
    connection.text_factory = bytes  # a damaged one may be no text
    try:
        found = connection.execute(_NEWEST_TURN).fetchone()
    finally:
        connection.text_factory = str
    if found is None:
        return 0
    *key, body, checksum = found
    key = [each.decode("utf-8", "replace") if type(each) is bytes else each for each in key]
    turn = StoredRow(0, 0, tuple(key), body, checksum)
    return int(turn.key[2]) if JOURNAL.is_sound(turn) else 0


def _upgrade(connection: sqlite3.Connection) -> None:
    """Bring an older file up to this version, if it is one that can be."""
    versions = [version for version, _ in _meta_of(connection)]
    if len(versions) == 1 and versions[0] in range(OLDEST, SCHEMA_VERSION):
        upgrade(connection, versions[0])


def read_epoch(connection: sqlite3.Connection) -> int:
    """The epoch in force, of a database whose schema this code understands."""
    rows = _meta_of(connection)
    if len(rows) != 1:
        raise NotADatabase(
            f"the table meta has {len(rows)} rows in place of one",
            remedy="restore the file from a backup",
        )
    version, epoch = rows[0]
    if type(version) is not int:
        raise NotADatabase(
            f"its schema version is {version!r}", remedy="restore the file from a backup"
        )
    if version > SCHEMA_VERSION:
        raise SchemaTooNew(
            f"the store has schema version {version}, this perdure knows {SCHEMA_VERSION}",
            remedy="run the newer perdure that wrote it, or restore a backup from before",
        )
    if version < SCHEMA_VERSION:
        raise SchemaTooOld(
            f"the store has schema version {version}, this perdure reads {SCHEMA_VERSION}",
            remedy=f"of version {OLDEST} or above: open it for writing once, which upgrades it; of "
            "version 1, which was never released: finish its work with the perdure that wrote it, "
            "or start with a new file",
        )
    if type(epoch) is not int or not 0 <= epoch < EPOCH_MAX:
        logger.error("the stored epoch is damaged: %r; it is taken from the journal", epoch)
        return 0
    return epoch


def _meta_of(connection: sqlite3.Connection) -> list[tuple[int, int]]:
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise NotADatabase(
            "the file holds another program's tables",
            remedy="give perdure a file of its own",
        )
    return connection.execute(_READ_META).fetchall()


def _is_empty(connection: sqlite3.Connection) -> bool:
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    marked = connection.execute("PRAGMA application_id").fetchone()[0]
    return not tables and not marked
