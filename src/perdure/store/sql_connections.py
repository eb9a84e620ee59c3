"""The two connections to a database file: one writes, a second one reads, each run whole functions.

What goes wrong on the way is told in our words. A connection whose thread has ended is replaced;
after a sync that failed nothing is written any more; a forked child is refused.
Knows neither rows nor ownership. Next to read: ``sqlite_connection.py``, ``sql.py``.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import perdure.failpoints as failpoints
from perdure.errors import StoreError, StoreUnavailable
from perdure.failpoints import Point
from perdure.store.forks import REMEDY, here
from perdure.store.sql_errors import is_failed_sync, store_error
from perdure.store.sqlite_connection import (
    Connection,
    Driver,
    Synchronous,
    ThreadDied,
    prepare_reader,
    prepare_writer,
)

__all__ = ["Connections"]

logger = logging.getLogger("perdure.store")

Result = TypeVar("Result")


class Connections:
    """Both connections of a store that is open; without ``synchronous`` there is no writer.

    >>> connections = Connections("orders.db", ThreadedDriver("orders.db", False), "FULL")
    >>> await connections.open_writer()
    >>> epoch = await connections.write(open_schema, 0)
    """

    def __init__(self, path: str, driver: Driver, synchronous: Synchronous | None) -> None:
        self.path = path
        self.driver = driver
        self.writer: Connection | None = None
        self.reader: Connection | None = None
        self._synchronous = synchronous
        self._generation = here.generation
        self._failed_sync: StoreError | None = None
        self._replacing: dict[Connection, asyncio.Task[None]] = {}

    async def open_writer(self) -> None:
        """Connect for writing. Raises sqlite3's and SQLAlchemy's errors, and StoreError."""
        assert self._synchronous is not None
        self.writer = await self._connect(prepare_writer, self._synchronous)

    async def open_reader(self) -> None:
        """Connect for reading. Raises sqlite3's and SQLAlchemy's errors, and StoreError."""
        self.reader = await self._connect(prepare_reader)

    async def _connect(self, prepare: Callable[..., None], *arguments: Any) -> Connection:
        """One that is set up: nobody may use another."""
        connection = await self.driver.connect()
        try:
            await self._run(connection, prepare, *arguments)
        except BaseException:
            connection.give_back()
            raise
        return connection

    async def close(self) -> None:
        """Close both; the write-ahead log is folded into the file.

        Cancelled, because a thread is stuck, it leaves everything as it is.
        """
        if self._replacing:
            await asyncio.wait(self._replacing.values())
        both = [connection for connection in (self.writer, self.reader) if connection is not None]
        if self.writer is not None:
            with suppress(ThreadDied):  # then SQLite does it, as the last connection closes
                await self.writer.run(_checkpoint)
        for connection in both:
            connection.give_back()
        await self.driver.dispose()
        for connection in both:
            connection.join()

    async def write(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Run a function that writes. Cancelled, it runs to its end all the same."""
        if self.writer is None:
            raise StoreUnavailable(
                f"{self.path!r} is open for reading only",
                remedy="write through the runtime that owns the file",
            )
        if self._failed_sync is not None:
            raise self._failed_sync
        return await self._run(self.writer, function, *arguments)

    async def read(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Run a function that reads."""
        assert self.reader is not None
        return await self._run(self.reader, function, *arguments)

    async def _run(
        self, connection: Connection, function: Callable[..., Result], *arguments: Any
    ) -> Result:
        if here.generation != self._generation:
            raise StoreUnavailable(f"{self.path!r} was opened before this fork", remedy=REMEDY)
        try:
            return await connection.run(function, *arguments)
        except ThreadDied as error:
            await self._replace(connection)
            raise StoreUnavailable(
                f"cannot use {self.path!r}: {error}, and another one is in its place",
                remedy="nothing is to be done; what was under way is read back",
            ) from error
        except (sqlite3.Error, UnicodeError) as error:
            # UnicodeError: sqlite3 trips over its own message about a damaged schema.
            failure = store_error(error, self.path)
            if is_failed_sync(error):
                # The kernel may have dropped the pages it could not write: a later sync that
                # succeeds would prove nothing. Only opening the file again does.
                self._failed_sync = failure
                logger.critical(
                    "%s; nothing more is written before the store is opened again: stop this "
                    "runtime, see to the disk, and start it anew",
                    failure,
                )
            raise failure from error

    async def _replace(self, dead: Connection) -> None:
        """See that there is another one in its place: once, however many were waiting for it."""
        if dead is not self.writer and dead is not self.reader:
            return  # replaced already
        replacing = self._replacing.get(dead)
        if replacing is None:
            replacing = asyncio.get_running_loop().create_task(self._connect_anew(dead))
            self._replacing[dead] = replacing
            replacing.add_done_callback(lambda _: self._replacing.pop(dead))
        await asyncio.shield(replacing)

    async def _connect_anew(self, dead: Connection) -> None:
        """Connect in the place of one whose thread has ended; it stays if that fails."""
        logger.error("the thread of a connection to %r has ended; connecting anew", self.path)
        dead.bury()
        try:
            await (self.open_writer() if dead is self.writer else self.open_reader())
        except Exception as error:  # tried again by the next call
            raise StoreUnavailable(f"cannot connect to {self.path!r}: {error}") from error


def _checkpoint(connection: sqlite3.Connection) -> None:
    failpoints.reach(Point.CHECKPOINT)
    try:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    except sqlite3.Error as error:
        logger.info("the write-ahead log stays as it is: %s", error)
    failpoints.reach(Point.CHECKPOINT)
