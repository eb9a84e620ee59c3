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

from perdure.core.commit import (
    DeadLetterRow,
    DeadlineRow,
    Entry,
    HeadRow,
    InboxRow,
    JournalRow,
    OutboxRow,
    QuarantineRow,
    QueueRow,
    SnapshotRow,
    Status,
    TombstoneRow,
)
from perdure.core.head_query import HeadQuery
from perdure.core.tally import TallyRow
from perdure.errors import (
    CorruptRecord,
    DefinitionError,
    StoreError,
    StoreLocked,
    StoreUnavailable,
)
from perdure.store.backlog import Backlog
from perdure.store.lock import FileLock
from perdure.store.protocol import InstanceRows, LoadedInstance
from perdure.store.read_statements import (
    DEAD_LETTERS_PAGE,
    DEADLINES_PAGE,
    INBOX_DUE,
    INBOX_PAGE,
    JOBS_AFTER,
    JOBS_DUE,
    JOBS_READY,
    JOURNAL_PAGE,
    OUTBOX_PAGE,
    QUEUE_PAGE,
    TOMBSTONES_PAGE,
)
from perdure.store.sql_backlog import read_backlog, read_retried
from perdure.store.sql_connections import Connections
from perdure.store.sql_errors import store_error, unreadable
from perdure.store.sql_find import read_count, read_found, read_size, read_tallies
from perdure.store.sql_load import load_instances
from perdure.store.sql_looks import read_rows_of, read_snapshots
from perdure.store.sql_open import open_schema, read_epoch
from perdure.store.sql_path import path_of, size_of
from perdure.store.sql_read import (
    read_depths,
    read_heads,
    read_inbox_sizes,
    read_jobs_at,
    read_page,
    read_quarantines,
    read_queues,
    read_sound,
)
from perdure.store.sql_write import write_entries
from perdure.store.sqlite_connection import (
    Driver,
    Synchronous,
    ThreadedDriver,
)

__all__ = ["SQLITE_VERSION", "SqlStore"]

logger = logging.getLogger("perdure.store")

Result = TypeVar("Result")

SQLITE_VERSION = sqlite3.sqlite_version
_NO_LIMIT = 2**62

_WAL_RESET_FIXED = (3, 51, 3)


class SqlStore:
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
        durability = "read only" if read_only else f"synchronous={synchronous}"
        self.name = f"sqlite {sqlite3.sqlite_version} wal {durability}"
        self._synchronous: Synchronous = synchronous
        self._read_only = read_only
        self._lock = FileLock(self.path)
        self._new_driver = driver
        self._connections: Connections | None = None
        self._epoch = 0
        self._damage_named: set[str] = set()

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

    def record_control(self, path: str) -> None:
        """Write beside the lock on which socket the owner listens for operators; "": on none."""
        self._lock.record(path)

    async def write(self, entries: Sequence[Entry]) -> Sequence[StoreError | None]:
        """Write a group in one transaction; see ``Store.write``.

        A cancelled call may have written: the transaction runs to its end on its thread.
        """
        return await self._open.write(write_entries, list(entries), self._epoch)

    async def load(self, instances: Sequence[str]) -> Sequence[LoadedInstance]:
        """Read several instances at once; see ``Store.load``."""
        return await self._open.read(load_instances, list(instances))

    async def journal(self, instance: str, after: int = 0, limit: int = 1000) -> list[JournalRow]:
        """Turns of an instance; see ``Store.journal``."""
        return await self._open.read(read_page, JOURNAL_PAGE, [instance, after, limit])

    async def snapshots(self, instance: str) -> list[SnapshotRow]:
        """The sound snapshots of an instance; see ``Store.snapshots``."""
        return await self._open.read(read_snapshots, instance)

    async def heads(
        self,
        saga: str | None = None,
        status: Status | None = None,
        after: str = "",
        limit: int = 1000,
    ) -> list[HeadRow]:
        """Instances in order of their key; see ``Store.heads``."""
        return await self._sound(read_heads, saga, status, after, limit)

    async def find(self, query: HeadQuery) -> list[HeadRow]:
        """Instances by status, moment or field; see ``Store.find``."""
        return await self._sound(read_found, query)

    async def count(self, query: HeadQuery) -> int:
        """How many ``find`` would give; see ``Store.count``."""
        return await self._open.read(read_count, query)

    async def tallies(self) -> list[TallyRow]:
        """How many instances there are and were; see ``Store.tallies``."""
        return await self._sound(read_tallies)

    async def tombstones(
        self, after: tuple[int, str] = (-1, ""), limit: int = 1000
    ) -> list[TombstoneRow]:
        """Tombstones in order of their moment; see ``Store.tombstones``."""
        return await self._sound(read_sound, TOMBSTONES_PAGE, [*after, limit])

    async def size(self) -> int:
        """The bytes of the file and of its log; see ``Store.size``."""
        return await self._open.read(read_size) + size_of(f"{self.path}-wal")

    async def deadlines(
        self, after: tuple[int, str, str] = (-1, "", ""), limit: int = 1000
    ) -> list[DeadlineRow]:
        """Armed deadlines in order of their moment; see ``Store.deadlines``."""
        return await self._sound(read_sound, DEADLINES_PAGE, [*after, limit])

    async def inbox(self, after: int = 0, limit: int = 1000) -> list[InboxRow]:
        """Waiting messages in order of arrival; see ``Store.inbox``."""
        return await self._sound(read_sound, INBOX_PAGE, [after, limit])

    async def inbox_due(
        self, after: tuple[int, str, str] = (-1, "", ""), limit: int = 1000
    ) -> list[InboxRow]:
        """Waiting messages in order of their moment; see ``Store.inbox_due``."""
        return await self._sound(read_sound, INBOX_DUE, [*after, limit])

    async def outbox(
        self, after: int = 0, limit: int = 1000, queue: str | None = None
    ) -> list[OutboxRow]:
        """Commands and events that wait; see ``Store.outbox``."""
        if queue is None:
            return await self._sound(read_sound, OUTBOX_PAGE, [after, limit])
        return await self._sound(read_sound, QUEUE_PAGE, [queue, after, limit])

    async def jobs_ready(self, queue: str, now_ms: int, limit: int = 1000) -> list[OutboxRow]:
        """Jobs of a queue that may start; see ``Store.jobs_ready``."""
        return await self._sound(read_sound, JOBS_READY, [queue, now_ms, limit])

    async def jobs_due(self, after: tuple[int, int] = (0, 0), limit: int = 1000) -> list[OutboxRow]:
        """Jobs in order of their moment; see ``Store.jobs_due``."""
        return await self._sound(read_sound, JOBS_DUE, [*after, limit])

    async def jobs_at(self, positions: Sequence[int]) -> list[OutboxRow]:
        """The jobs at these positions; see ``Store.jobs_at``."""
        return await self._sound(read_jobs_at, list(positions))

    async def jobs_after(self, position: int) -> list[OutboxRow]:
        """The jobs that follow one; see ``Store.jobs_after``."""
        return await self._sound(read_sound, JOBS_AFTER, [position, _NO_LIMIT])

    async def queues(self) -> list[QueueRow]:
        """What was written of work queues; see ``Store.queues``."""
        return await self._sound(read_queues)

    async def queue_depths(self) -> dict[str, int]:
        """Jobs per queue; see ``Store.queue_depths``."""
        return await self._open.read(read_depths)

    async def backlog(self) -> Backlog:
        """How much waits; see ``Store.backlog``."""
        return await self._open.read(read_backlog)

    async def quarantines(self) -> list[QuarantineRow]:
        """Instances that are set aside; see ``Store.quarantines``."""
        return await self._sound(read_quarantines)

    async def inbox_sizes(self, instances: Sequence[str]) -> dict[str, int]:
        """Messages that wait, per instance; see ``Store.inbox_sizes``."""
        return await self._open.read(read_inbox_sizes, list(instances))

    async def dead_letters(self, after: int = 0, limit: int = 1000) -> list[DeadLetterRow]:
        """Dead letters in order of arrival; see ``Store.dead_letters``."""
        return await self._sound(read_sound, DEAD_LETTERS_PAGE, [after, limit])

    async def rows_of(self, instance: str, limit: int = 1000) -> InstanceRows:
        """What concerns an instance beside its turns; see ``Store.rows_of``."""
        return await self._sound(read_rows_of, instance, limit)

    async def retried(self) -> dict[str, int]:
        """Jobs that have failed before; see ``Store.retried``."""
        return await self._open.read(read_retried)

    async def _sound(
        self, read: Callable[..., tuple[Result, list[CorruptRecord]]], *arguments: Any
    ) -> Result:
        """The sound rows that a read finds; each damaged one is named in the log, once."""
        rows, damaged = await self._open.read(read, *arguments)
        for damage in damaged:
            if str(damage) not in self._damage_named:
                self._damage_named.add(str(damage))
                logger.error("passed over in %r: %s", self.path, damage)
        return rows

    @property
    def _open(self) -> Connections:
        if self._connections is None:
            raise StoreUnavailable(f"{self.path!r} is not open", remedy="open the store first")
        return self._connections
