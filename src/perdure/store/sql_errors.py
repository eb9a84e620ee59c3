"""SQLite's errors in our words: what failed, and what to do about it.

Knows result codes, no statements. Next to read: ``sql.py``, where every error passes by.
"""

from __future__ import annotations

import os
import sqlite3

from perdure.errors import NotADatabase, StoreError, StoreFull, StoreNotWritable, StoreUnavailable

__all__ = ["is_failed_sync", "store_error", "unreadable"]

_UNWRITABLE = {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM}
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def store_error(error: Exception, path: str) -> StoreError:
    """The StoreError for an error of sqlite3; raise it ``from`` the original.

    >>> str(store_error(sqlite3.OperationalError("disk I/O error"), "orders.db"))
    "cannot use 'orders.db': disk I/O error; check the disk and the file, then open the store again"
    """
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    text = f"cannot use {path!r}: {error}"
    if code == sqlite3.SQLITE_FULL:
        return StoreFull(text, remedy="make room on its disk; reads go on, and writes will")
    if code == sqlite3.SQLITE_NOTADB:
        return NotADatabase(text, remedy="give the path of a perdure database, or of no file yet")
    if code in _UNWRITABLE:
        return StoreNotWritable(
            text, remedy="the directory must exist, and it and the file must be writable"
        )
    if code in _BUSY:
        return StoreUnavailable(
            text, remedy="find the other program that holds the file locked, and end it"
        )
    if code == sqlite3.SQLITE_CORRUPT:
        return StoreUnavailable(text, remedy="restore the file from a backup")
    return StoreUnavailable(text, remedy="check the disk and the file, then open the store again")


def is_failed_sync(error: Exception) -> bool:
    """The disk refused to make bytes durable: what was written before is in doubt, too."""
    return getattr(error, "sqlite_errorcode", 0) in (
        sqlite3.SQLITE_IOERR_FSYNC,
        sqlite3.SQLITE_IOERR_DIR_FSYNC,
    )


def unreadable(error: StoreUnavailable, path: str) -> StoreUnavailable:
    """Why a file could not be opened for reading, and what to do; the error if that says it."""
    if os.path.isdir(path):
        return StoreNotWritable(f"{path!r} is a directory", remedy="give the path of a file in it")
    if not isinstance(error, StoreNotWritable):
        return error
    if not os.path.exists(path):
        return StoreNotWritable(
            f"there is no file {path!r} that this user could see",
            remedy="give the path of a perdure database",
        )
    if not os.access(path, os.R_OK):
        return StoreNotWritable(
            f"{path!r} may not be read by this user", remedy="look as the user of its runtime"
        )
    return StoreNotWritable(
        f"{path!r} cannot be read: SQLite needs the files {path}-wal and {path}-shm beside it, "
        "which this user may not create or use",
        remedy="look as the user of its runtime; or copy the file, and its -wal if there is one, "
        "to a directory of your own, and look at the copy",
    )
