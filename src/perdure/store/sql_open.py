"""Opening a database: whose it is, which schema it has, and the owner's new epoch.

Synchronous for the reason given in ``sql_write.py``. Next to read: ``schema.py``.
"""

from __future__ import annotations

import sqlite3

from sqlalchemy import insert, select, update
from sqlalchemy.schema import CreateIndex, CreateTable

import perdure.failpoints as failpoints
from perdure.errors import NotADatabase, SchemaTooNew, SchemaTooOld
from perdure.failpoints import Point
from perdure.store.schema import APPLICATION_ID, SCHEMA_VERSION, meta, metadata, quarantines
from perdure.store.sql_write import roll_back
from perdure.store.statements import compiled

__all__ = ["open_schema", "read_epoch"]

_CREATE = [
    *[compiled(CreateTable(table)) for table in metadata.sorted_tables],
    *[compiled(CreateIndex(i)) for table in metadata.sorted_tables for i in table.indexes],
]
_FIRST_META = compiled(insert(meta).values(id=1, schema_version=SCHEMA_VERSION, epoch=0))
_NEXT_EPOCH = compiled(update(meta).values(epoch=meta.c.epoch + 1))
_CREATE_QUARANTINES = compiled(CreateTable(quarantines))
_SET_VERSION = compiled(update(meta).values(schema_version=SCHEMA_VERSION))
_READ_META = compiled(select(meta.c.schema_version, meta.c.epoch))


def open_schema(connection: sqlite3.Connection) -> int:
    """Create the schema in an empty file, or check it; raise the epoch by one and return it.

    One transaction: two owners never get the same epoch.
    Raises NotADatabase for somebody else's file, SchemaTooNew or SchemaTooOld for one of ours.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        if _is_empty(connection):
            connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
            for ddl in _CREATE:
                failpoints.reach(Point.CREATING)
                connection.execute(ddl)
            connection.execute(_FIRST_META)
        else:
            _upgrade(connection)
        read_epoch(connection)
        connection.execute(_NEXT_EPOCH)
        epoch = read_epoch(connection)
        failpoints.reach(Point.OWNING)
        connection.execute("COMMIT")
        failpoints.reach(Point.OWNING)
    except BaseException:
        roll_back(connection)
        raise
    return epoch


def _upgrade(connection: sqlite3.Connection) -> None:
    """Bring a file of version 2 up to this one: what it has not is created, the rest stays."""
    if [version for version, _ in _meta_of(connection)] == [2]:
        connection.execute(_CREATE_QUARANTINES)
        connection.execute(_SET_VERSION)


def read_epoch(connection: sqlite3.Connection) -> int:
    """The epoch in force, of a database whose schema this code understands."""
    rows = _meta_of(connection)
    if len(rows) != 1:
        raise NotADatabase(
            f"the table meta has {len(rows)} rows in place of one",
            remedy="restore the file from a backup",
        )
    version, epoch = rows[0]
    if version > SCHEMA_VERSION:
        raise SchemaTooNew(
            f"the store has schema version {version}, this perdure knows {SCHEMA_VERSION}",
            remedy="run the newer perdure that wrote it, or restore a backup from before",
        )
    if version < SCHEMA_VERSION:
        raise SchemaTooOld(
            f"the store has schema version {version}, this perdure reads {SCHEMA_VERSION}",
            remedy="of version 2: open it for writing once, which upgrades it; of version 1, which "
            "was never released: finish its work with the perdure that wrote it, or start with a "
            "new file",
        )
    return int(epoch)


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
