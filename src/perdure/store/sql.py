"""The SQL store: SQLite through SQLAlchemy's async engine and aiosqlite.

An operation crosses to the database thread once, whole: what runs there are the plain functions
of ``sql_write.py`` and ``sql_read.py``. One connection writes, a second one reads; in WAL mode
neither waits for the other. Knows rows, never sagas. Next to read: ``sql_write.py``.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from sqlalchemy.exc import DBAPIError

from perdure.core.commit import Entry
from perdure.errors import DefinitionError, StoreError, StoreLocked, StoreUnavailable
from perdure.store.lock import FileLock
from perdure.store.sql_connections import Connections
from perdure.store.sql_errors import store_error, unreadable
from perdure.store.sql_find import read_size
from perdure.store.sql_open import open_schema, read_epoch
from perdure.store.sql_path import path_of, size_of
from perdure.store.sql_store_reads import SqlReads
from perdure.store.sql_write import write_entries
from perdure.store.sqlite_connection import Driver, Synchronous, ThreadedDriver

__all__ = ["SQLITE_VERSION", "SqlStore"]

logger = logging.getLogger("perdure.store")

Result = TypeVar("Result")

SQLITE_VERSION = sqlite3.sqlite_version

_WAL_RESET_FIXED = (3, 51, 3)


class SqlStore(SqlReads):
    """A store in a SQLite file.

    >>> store = SqlStore("sqlite+aiosqlite:///orders.db")
    >>> epoch = await store.open()
    >>> await store.close()

    ``synchronous="NORMAL"`` does not wait for the disk at each commit: faster, and turns
    acknowledged since the last checkpoint can be lost at power failure. ``read_only`` looks at a
    file beside its live owner: it takes no lock, and ``write`` refuses. ``driver(path, read_only)``
    opens connections some other way, as a simulation does.
    Raises DefinitionError for a URL that names no file.
    """

    def __init__(
        self,
        url: str,
        *,
        synchronous: Synchronous = "FULL",
        read_only: bool = False,
        driver: Callable[[str, bool], Driver] = ThreadedDriver,
    ) -> None:
        if synchronous not in ("FULL", "NORMAL"):
            raise DefinitionError(
                f"synchronous={synchronous!r} is not supported", remedy='use "FULL" or "NORMAL"'
            )
        self.path = path_of(url)
        super().__init__(self.path)
        durability = "read only" if read_only else f"synchronous={synchronous}"
        self.name = f"sqlite {sqlite3.sqlite_version} wal {durability}"
        self._synchronous: Synchronous = synchronous
        self._read_only = read_only
        self._lock = FileLock(self.path)
        self._new_driver = driver
        self._connections: Connections | None = None
        self._epoch = 0

    async def open(self) -> int:
        """Take ownership; see ``Store.open``. Read-only, the epoch is the live owner's."""
        if self._connections is not None:
            raise StoreLocked(f"{self.path!r} is open in this very store", remedy="close it first")
        if not self._read_only:
            self._lock.acquire()
        driver = self._new_driver(self.path, self._read_only)
        synchronous = None if self._read_only else self._synchronous
        self._connections = Connections(self.path, driver, synchronous)
        try:
            self._epoch = await self._connect(self._connections)
        except BaseException as error:
            await self.close()
            if self._read_only and isinstance(error, StoreUnavailable):
                raise unreadable(error, self.path) from error.__cause__
            raise
        if sqlite3.sqlite_version_info < _WAL_RESET_FIXED:
            logger.info(
                "SQLite %s may damage a file that two connections write at once; perdure keeps to "
                "one, and so must whoever else opens the file",
                sqlite3.sqlite_version,
            )
        return self._epoch

    async def _connect(self, connections: Connections) -> int:
        try:
            if self._read_only:
                await connections.open_reader()
                return await connections.read(read_epoch)
            await connections.open_writer()
            epoch = await connections.write(open_schema, self._lock.last_epoch)
            self._lock.tell(epoch)
            await connections.open_reader()
            return epoch
        except sqlite3.Error as error:
            raise store_error(error, self.path) from error
        except RuntimeError as error:
            raise StoreUnavailable(
                f"cannot use {self.path!r}: {error}", remedy="a store needs two threads: find them"
            ) from error
        except DBAPIError as error:
            original = error.orig if isinstance(error.orig, Exception) else error
            raise store_error(original, self.path) from original

    async def close(self) -> None:
        """Give up ownership; see ``Store.close``. The write-ahead log is folded into the file."""
        connections, self._connections = self._connections, None
        try:
            if connections is not None:
                await connections.close()
        finally:
            self._lock.release()

    @property
    def url(self) -> str:
        """Under which another process finds it, wherever that runs."""
        return f"sqlite+aiosqlite:///{self.path}"

    def record_control(self, path: str) -> None:
        """Write beside the lock on which socket the owner listens for operators; "": on none."""
        self._lock.record(path)

    async def write(self, entries: Sequence[Entry]) -> Sequence[StoreError | None]:
        """Write a group in one transaction; see ``Store.write``.

        A cancelled call may have written: the transaction runs to its end on its thread.
        """
        return await self._open.write(write_entries, list(entries), self._epoch)

    async def size(self) -> int:
        """The bytes of the file and of its log; see ``Store.size``."""
        return await self._open.read(read_size) + size_of(f"{self.path}-wal")

    async def _read(self, function: Callable[..., Result], *arguments: Any) -> Result:
        return await self._open.read(function, *arguments)

    @property
    def _open(self) -> Connections:
        if self._connections is None:
            raise StoreUnavailable(f"{self.path!r} is not open", remedy="open the store first")
        return self._connections
