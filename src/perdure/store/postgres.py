"""The SQL store in PostgreSQL, through SQLAlchemy's pool and asyncpg.

    store = PostgresStore("postgresql+asyncpg://app:secret@db.example/shop")

An operation is one function of ``sql_write.py`` or ``sql_read.py``, run whole over one connection.
Who owns what is in the table ``shards``; every write begins by reading its epoch there, and holds
that row until it is committed. Knows rows, never sagas.
Next to read: ``postgres_database.py``; ``ownership.py``.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from os import getpid
from socket import gethostname
from typing import Any, TypeVar

from perdure.core.commit import Entry
from perdure.errors import (
    DefinitionError,
    Fenced,
    StoreError,
    StoreLocked,
    StoreNotWritable,
    StoreUnavailable,
)
from perdure.store.ownership import HostId, Kind, Ownership
from perdure.store.postgres_database import Database
from perdure.store.postgres_errors import DRIVER_ERRORS, LostConnection, told
from perdure.store.postgres_overview import PostgresOverview
from perdure.store.postgres_owning import pass_barrier, read_epoch, read_size, take_shards
from perdure.store.postgres_texts import Fill
from perdure.store.session import SERVER_SETTINGS, Session
from perdure.store.sql_store_reads import SqlReads
from perdure.store.sql_write import write_entries

__all__ = ["PostgresStore"]

Result = TypeVar("Result")

TAKE_POLL_S = 0.1


class PostgresStore(SqlReads):
    """A store in a PostgreSQL database.

    >>> store = PostgresStore("postgresql+asyncpg://app:secret@db.example/shop")
    >>> epoch = await store.open()
    >>> await store.close()

    It owns all shards, and refuses to open while live hosts own some; or one, ``shard``, under the
    ``epoch`` that it was claimed with, or, without one, taken from whoever has it for ``host``.
    What lists rows lists those of its shards. ``read_only`` looks on at all: it owns nothing, and
    ``write`` refuses. Several stores of a process share one ``Database``.
    Raises DefinitionError for a URL that is no PostgreSQL's.
    """

    def __init__(
        self,
        store: str | Database,
        *,
        shard: int | None = None,
        epoch: int | None = None,
        read_only: bool = False,
        host: str | None = None,
    ) -> None:
        if epoch is not None and shard is None:
            raise DefinitionError("an epoch without a shard", remedy="name the shard, too")
        self.database = Database(store, read_only=read_only) if isinstance(store, str) else store
        super().__init__(self.database.shown)
        self.shard = shard
        self.name = "postgresql"
        self._claimed = epoch
        self._read_only = read_only
        self._host = host or f"{gethostname()} pid {getpid()}"
        self._epoch = 0
        self._is_open = False
        self._fill = Fill((), None, 0)
        self._session: Session | None = None
        self._writing: asyncio.Task[Any] | None = None
        self._in_doubt = False
        self._settling = asyncio.Lock()

    @property
    def session(self) -> Session | None:
        """The connection of the owner of all shards, while it is open."""
        return self._session

    @property
    def overview(self) -> PostgresOverview:
        """Whose the shards are, and the mail, for who looks on."""
        return PostgresOverview(self.database)

    @property
    def url(self) -> str:
        """Under which another process finds it, the password included."""
        return self.database.url

    async def open(self) -> int:
        """Take ownership; see ``Store.open``. Read-only, the epoch is the newest owner's.

        The tables must be there: ``perdure db upgrade`` makes them.
        """
        if self._is_open:
            raise StoreLocked(f"{self.shown} is open in this very store", remedy="close it first")
        await self.database.open()
        self._is_open = True
        try:
            self._epoch = await self._own()
        except BaseException:
            await self.close()
            raise
        self.name = f"postgresql {self.database.server}{' read only' if self._read_only else ''}"
        return self._epoch

    async def _own(self) -> int:
        shards = self.database.shards
        if self.shard is not None and not 0 <= self.shard < shards:
            raise DefinitionError(
                f"there is no shard {self.shard} in {self.shown}",
                remedy=f"it has {shards} shards: give a number from 0 to {shards - 1}",
            )
        own = tuple(range(shards)) if self.shard is None else (self.shard,)
        self._fill = Fill(own, self.shard, shards)
        if self._read_only:
            return await self.database.read(read_epoch, fill=self._fill)
        if self.shard is None:
            return await self._take_all()
        if self._claimed is None:
            return await self.database.write(take_shards, self._host, fill=self._fill)
        found = await self.database.read(read_epoch, fill=self._fill)
        if found != self._claimed:
            raise Fenced(
                f"shard {self.shard} was claimed under epoch {self._claimed}, but is at {found}",
                remedy="another host has taken it since",
            )
        return found

    async def _take_all(self) -> int:
        """Be the only one, as a host that beats like any other."""
        name, pid = gethostname(), getpid()
        me = HostId(f"{Kind.ALONE}:{name}:{pid}:{secrets.token_hex(4)}", name, pid)
        session = self._session = Session(
            lambda: self.database.connect(SERVER_SETTINGS),
            Ownership(self.database.address.schema),
            me,
            lambda: round(datetime.now(UTC).timestamp() * 1000),
            version=self._host,
        )
        try:
            await session.open()
            return await _all_taken(session)
        except (StoreError, *DRIVER_ERRORS) as error:
            if isinstance(error, StoreError) and error.remedy:
                raise
            raise told(error, self.database.address) from error

    async def close(self) -> None:
        """Give up ownership; see ``Store.close``."""
        if not self._is_open:
            return
        self._is_open = False
        session, self._session = self._session, None
        try:
            await self._last_write()
        finally:  # also if nobody waits for that any more: it must not seem to be owned for ever
            try:
                if session is not None:
                    await session.close()
            finally:
                await self.database.close()

    async def write(self, entries: Sequence[Entry]) -> Sequence[StoreError | None]:
        """Write a group in one transaction; see ``Store.write``.

        A cancelled call may have written: the transaction runs to its end all the same.
        """
        self._check_open()
        if self._read_only:
            raise StoreNotWritable(
                f"{self.shown} is open for reading only",
                remedy="write through the runtime that owns it",
            )
        await self._settle()
        writing = self._writing = asyncio.create_task(
            self.database.write(write_entries, list(entries), self._epoch, fill=self._fill)
        )
        writing.add_done_callback(_heard)
        try:
            return await asyncio.shield(writing)
        except (LostConnection, asyncio.CancelledError):
            self._in_doubt = True
            raise

    async def size(self) -> int:
        """The bytes of the tables and of their indexes; see ``Store.size``."""
        return await self._read(read_size)

    async def _read(self, function: Callable[..., Result], *arguments: Any) -> Result:
        self._check_open()
        await self._settle()
        return await self.database.read(function, *arguments, fill=self._fill)

    def _check_open(self) -> None:
        if not self._is_open:
            raise StoreUnavailable(f"{self.shown} is not open", remedy="open the store first")

    async def _settle(self) -> None:
        """After a write of which nobody knows the end: wait until it has one.

        The server may still be at it, on a connection that is lost to us. It holds our rows of
        ``shards``: whoever has them for himself knows that it has ended.
        """
        if not self._in_doubt:
            return
        async with self._settling:
            if self._in_doubt:
                await self._last_write()
                await self.database.write(pass_barrier, fill=self._fill)
                self._in_doubt = False

    async def _last_write(self) -> None:
        if self._writing is not None and not self._writing.done():
            await asyncio.wait([self._writing])


async def _all_taken(session: Session) -> int:
    """Take all shards; one that was killed is owner for a moment still, and is waited for.

    Its session is not there any more, but that is believed only when ours is old enough, too.
    """
    loop = asyncio.get_running_loop()
    until_s = loop.time() + 3 * session.owners.absent_s
    while True:
        try:
            return await session.ask(session.owners.take_all)
        except StoreLocked:
            if loop.time() >= until_s:
                raise
        await asyncio.sleep(TAKE_POLL_S)


def _heard(writing: asyncio.Task[Any]) -> None:
    """Its caller may be gone: then what it says is heard by nobody else."""
    if not writing.cancelled():
        writing.exception()
