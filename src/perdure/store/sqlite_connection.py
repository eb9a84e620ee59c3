"""SQLite connections on threads of their own, and how one is set up.

The only module that touches names aiosqlite does not promise; a test alarms when they vanish.
Knows nothing of what is read or written. Next to read: ``sql.py``.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from threading import Thread
from typing import Any, Literal, Protocol, TypeAlias, TypeVar

import aiosqlite
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import PoolProxiedConnection

from perdure.errors import StoreUnavailable

__all__ = [
    "Connection",
    "Driver",
    "DriverConnection",
    "Synchronous",
    "ThreadDied",
    "ThreadedDriver",
    "prepare_reader",
    "prepare_writer",
]

Result = TypeVar("Result")

Synchronous: TypeAlias = Literal["FULL", "NORMAL"]

BUSY_TIMEOUT_S = 5.0
CACHE_KIB = 65_536
CHECKPOINT_PAGES = 4_000
WAL_KEPT_BYTES = 67_108_864
STATEMENTS_CACHED = 512
JOIN_TIMEOUT_S = 10.0
LOOK_S = 2.0


class Connection(Protocol):
    """What the store asks of a connection."""

    async def run(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Call ``function(connection, *arguments)``; calls run whole, one after another.

        Cancelling the caller abandons the answer and never the call.
        """
        ...

    def bury(self) -> None:
        """Nobody answers any more (``ThreadDied``): close what is left of it."""
        ...

    def give_back(self) -> None:
        """It is not needed any more; ``Driver.dispose`` closes it."""
        ...

    def join(self) -> None:
        """Wait until nothing of the closed connection is left."""
        ...


class Driver(Protocol):
    """Opens connections to one file: on threads, or (in a simulation) inline."""

    async def connect(self) -> Connection:
        """Open a connection. Raises the errors of SQLAlchemy and of sqlite3."""
        ...

    async def dispose(self) -> None:
        """Close the connections."""
        ...


class ThreadedDriver:
    """Implements ``Driver`` with SQLAlchemy's engine over aiosqlite."""

    def __init__(self, path: str, read_only: bool) -> None:
        self._engine = create_engine(path, read_only=read_only)

    async def connect(self) -> DriverConnection:
        """See ``Driver.connect``."""
        return DriverConnection(await self._engine.raw_connection())

    async def dispose(self) -> None:
        """See ``Driver.dispose``."""
        await self._engine.dispose()


def create_engine(path: str, *, read_only: bool) -> AsyncEngine:
    """An engine whose connections leave transactions to us and keep many statements prepared."""
    quoted = path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    mode = "ro" if read_only else "rwc"

    async def connect() -> aiosqlite.Connection:
        connecting = aiosqlite.connect(
            f"file:{quoted}?mode={mode}",
            uri=True,
            isolation_level=None,
            cached_statements=STATEMENTS_CACHED,
            timeout=BUSY_TIMEOUT_S,
            check_same_thread=False,
        )
        thread = _thread_of(connecting)
        thread.daemon = True
        try:
            return await connecting
        except BaseException:
            # The driver's thread ends by telling the loop, which may be closed a moment later.
            if thread.ident is not None:  # else the system gave none
                thread.join(JOIN_TIMEOUT_S)
            raise

    return create_async_engine(
        URL.create("sqlite+aiosqlite", database=path),
        async_creator=connect,
        pool_size=2,
        pool_reset_on_return=None,
    )


def _thread_of(driver: Any) -> Thread:
    thread: Thread = getattr(driver, "_thread", driver)  # before 0.22 it was the thread itself
    return thread


class ThreadDied(Exception):
    """The thread of a connection has ended: nobody answers what is asked of it."""


_DIED = "the thread of the database connection has ended"


class DriverConnection:
    """The driver's connection of a pooled one: runs whole functions on the driver's thread.

    >>> connection = await ThreadedDriver("orders.db", read_only=False).connect()
    >>> await connection.run(prepare_writer, "FULL")
    """

    def __init__(self, pooled: PoolProxiedConnection) -> None:
        self._pooled = pooled
        self._driver: Any = pooled.driver_connection
        self._asking: set[asyncio.Task[Any]] = set()
        self._told: set[asyncio.Task[Any]] = set()  # that the thread has ended
        self._look: asyncio.TimerHandle | None = None

    async def run(
        self,
        function: Callable[..., Result],
        *arguments: Any,
    ) -> Result:
        """Call ``function(connection, *arguments)`` on the thread; calls run one after another.

        Cancelling the caller abandons the answer and never the call: it was handed over whole.
        """
        if not self.is_alive:
            raise ThreadDied(_DIED)
        asking = asyncio.current_task()
        assert asking is not None
        self._asking.add(asking)
        if self._look is None:
            self._look = asyncio.get_running_loop().call_later(LOOK_S, self._look_after_thread)
        try:
            result: Result = await self._driver._execute(function, self._driver._conn, *arguments)
        except asyncio.CancelledError:
            if asking in self._told and not asking.uncancel():
                raise ThreadDied(_DIED) from None
            raise
        finally:
            self._asking.discard(asking)
            self._told.discard(asking)
        return result

    def _look_after_thread(self) -> None:
        """Whoever waits for a thread that has ended would wait for ever. One look serves many."""
        self._look = None
        if self._asking and self.is_alive:
            self._look = asyncio.get_running_loop().call_later(LOOK_S, self._look_after_thread)
            return
        for asking in self._asking - self._told:
            self._told.add(asking)
            asking.cancel()

    @property
    def is_alive(self) -> bool:
        """Somebody answers what is asked of it."""
        return _thread_of(self._driver).is_alive()

    def bury(self) -> None:
        """Its thread has ended: close what is left of it, and with it the transaction it was in."""
        if self._driver._running:
            self._pooled.detach()
        connection, self._driver._connection = self._driver._connection, None
        self._driver._running = False
        if connection is not None:
            connection.close()

    def give_back(self) -> None:
        """Back to the pool; the engine closes it when it is disposed of, unless it is dead."""
        if self._look is not None:
            self._look.cancel()
        if self.is_alive:
            self._pooled.close()
        else:  # nobody would answer the engine
            self.bury()

    def join(self) -> None:
        """Wait until the thread of a closed connection has ended."""
        _thread_of(self._driver).join(JOIN_TIMEOUT_S)


def prepare_writer(connection: sqlite3.Connection, synchronous: Synchronous) -> None:
    """Set the one writing connection up, and see that the settings are in force.

    NORMAL does not wait for the disk at each commit: turns acknowledged since the last checkpoint
    can be lost at power failure, though not when the process dies. Raises StoreUnavailable.
    """
    connection.execute("PRAGMA query_only=OFF")  # the pool may give one begun for reading
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute(f"PRAGMA synchronous={synchronous}")
    connection.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")
    connection.execute(f"PRAGMA journal_size_limit={WAL_KEPT_BYTES}")
    _prepare(connection)
    mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
    level = connection.execute("PRAGMA synchronous").fetchone()[0]
    if mode != "wal" or level != {"FULL": 2, "NORMAL": 1}[synchronous]:
        raise StoreUnavailable(
            f"journal_mode={mode} and synchronous={level} are in force, not what was set",
            remedy="keep the database on a local disk; WAL does not work on network file systems",
        )


def prepare_reader(connection: sqlite3.Connection) -> None:
    """Set a reading connection up: it never writes, and never moves the write-ahead log."""
    connection.execute("PRAGMA query_only=ON")
    connection.execute("PRAGMA wal_autocheckpoint=0")
    _prepare(connection)


def _prepare(connection: sqlite3.Connection) -> None:
    connection.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
    connection.execute("PRAGMA temp_store=MEMORY")
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute(f"PRAGMA busy_timeout={int(BUSY_TIMEOUT_S * 1000)}")
