"""A PostgreSQL database as a process uses it: one pool of connections, shared by its stores.

    database = Database("postgresql+asyncpg://app@db.example/shop")
    await database.open()
    loaded = await database.read(load_instances, ["Order/o-1"])
    await database.close()

What is run are synchronous functions, each whole, in a greenlet over one connection; so the SQL
store's functions are the same as on SQLite. A connection that breaks, or that somebody leaves in
the midst of a transaction, is thrown away. Knows neither rows nor shards' owners.
Next to read: ``postgres_connection.py``; ``postgres.py``, the store.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar
from weakref import WeakSet

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import PoolProxiedConnection
from sqlalchemy.util.concurrency import greenlet_spawn

from perdure.errors import StoreError, StoreUnavailable
from perdure.store.forks import REMEDY, here
from perdure.store.postgres_address import Address
from perdure.store.postgres_connecting import connect
from perdure.store.postgres_connection import PostgresConnection
from perdure.store.postgres_errors import (
    DRIVER_ERRORS,
    RETRIED,
    LostConnection,
    is_lost,
    lost,
    sqlstate_of,
    told,
)
from perdure.store.postgres_texts import Fill
from perdure.store.revisions import HAS_VERSION, judge, read_revision_sql

__all__ = ["CONNECTIONS", "Database"]

logger = logging.getLogger("perdure.store")

Result = TypeVar("Result")

CONNECTIONS = 8
"""So many a process has at most, beside those it listens on."""

CONNECT_S = 10.0
CLOSE_S = 2.0
STATEMENT_S = 30.0
LOCK_S = 10.0
IDLE_S = 2.0
ANSWER_S = STATEMENT_S + 5.0
"""So long one waits for a server that says nothing, not even that a statement takes too long."""

_SHARDS = """
SELECT meta.shards, (SELECT max(shard) + 1 FROM shards), (SELECT max(epoch) FROM shards), (
    SELECT coalesce(q.last_value, 0) FROM pg_sequences q
    WHERE q.schemaname = current_schema() AND q.sequencename = 'epochs'
        AND has_sequence_privilege(format('%I.%I', q.schemaname, q.sequencename), 'USAGE, SELECT')
)
FROM meta WHERE $1
"""

TRIES = 5
STATEMENTS_CACHED = 512


def _settings(address: Address, is_read_only: bool) -> dict[str, str]:
    """Of every connection. All our statements walk indexes: whatever the server believes of tables
    that grow faster than it looks, it must not plan otherwise."""
    return {
        "application_name": "perdure",
        "search_path": f"{address.quoted_schema}, pg_temp",
        "statement_timeout": _ms(STATEMENT_S),
        "lock_timeout": _ms(LOCK_S),
        "idle_in_transaction_session_timeout": _ms(IDLE_S),
        "default_transaction_isolation": "read committed",
        "default_transaction_read_only": "on" if is_read_only else "off",
        "plan_cache_mode": "force_generic_plan",
        "enable_seqscan": "off",
        "enable_bitmapscan": "off",
        "enable_sort": "off",
        "enable_hashjoin": "off",
        "enable_mergejoin": "off",
        "jit": "off",
    }


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f}"


class Database:
    """The connections of this process to one database, and the schema of ours in it.

    >>> database = Database("postgresql+asyncpg://app@db.example/shop?schema=perdure_eu")
    >>> stores = [PostgresStore(database, shard=shard) for shard in (3, 7)]

    ``connections``: at most so many at once; who finds none free waits. ``read_only``: the server
    refuses every write. Opened by as many as use it, and closed by the last one. For one event
    loop at a time. Raises DefinitionError for a URL of something else.
    """

    def __init__(
        self, url: str, *, connections: int = CONNECTIONS, read_only: bool = False
    ) -> None:
        self.url = url
        self.address = Address.of(url)
        self.shards = 0
        """How many there are, once it is open."""
        self.server = ""
        """The server's version, once it is open."""
        self._connections = connections
        self._settings = _settings(self.address, read_only)
        self._engine: AsyncEngine | None = None
        self._users = 0
        self._lock = asyncio.Lock()
        self._generation = here.generation
        self._seen: WeakSet[Any] = WeakSet()

    @property
    def shown(self) -> str:
        """Which database and schema it is, for people; without the password."""
        return f"{self.address.shown}, schema {self.address.schema!r}"

    async def open(self) -> None:
        """Connect, and see that the tables are those that this code knows; once for each user.

        Raises StoreUnavailable, StoreNotWritable, SchemaTooOld, SchemaTooNew.
        """
        async with self._lock:
            if not self._users:
                await self._start()
            self._users += 1

    async def _start(self) -> None:
        self._generation = here.generation
        self._engine = create_async_engine(
            self.address.url,
            pool_size=self._connections,
            max_overflow=0,
            pool_timeout=CONNECT_S,
            pool_reset_on_return=None,
            async_creator=partial(self._connect, self._settings),
        )
        try:
            revision, self.shards, self.server = await self._run(_look, self.address)
            judge(revision, self.address)
        except BaseException:
            await self._dispose()
            raise

    async def _connect(self, settings: Mapping[str, str]) -> asyncpg.Connection[Any]:
        return await connect(
            self.address,
            timeout=CONNECT_S,
            command_timeout=ANSWER_S,
            statement_cache_size=STATEMENTS_CACHED,
            max_cached_statement_lifetime=0,
            server_settings=dict(settings),
        )

    async def close(self) -> None:
        """Close the connections, if nobody else uses them."""
        async with self._lock:
            if self._users:
                self._users -= 1
                if not self._users:
                    await self._dispose()

    async def _dispose(self) -> None:
        """Close what there is; a server that does not answer is not waited for."""
        engine, self._engine = self._engine, None
        is_child = here.generation != self._generation
        seen, self._seen = self._seen, WeakSet()
        if not is_child:
            closing = (raw.close(timeout=CLOSE_S) for raw in seen if not raw.is_closed())
            await asyncio.gather(*closing, return_exceptions=True)
        if engine is not None:
            await engine.dispose(close=not is_child)

    async def read(
        self, function: Callable[..., Result], *arguments: Any, fill: Fill | None = None
    ) -> Result:
        """Run ``function(connection, *arguments)``; again if the connection was lost meanwhile."""
        try:
            return await self._run(function, *arguments, fill=fill)
        except LostConnection as error:
            logger.info("reading again: %s", error)
        return await self._run(function, *arguments, fill=fill)

    async def write(
        self, function: Callable[..., Result], *arguments: Any, fill: Fill | None = None
    ) -> Result:
        """Run ``function(connection, *arguments)``, which is one transaction.

        Done again if the server has certainly rolled it back for others' sake.
        Raises LostConnection if nobody knows what became of it.
        """
        for attempt in range(1, TRIES):
            try:
                return await self._run(function, *arguments, fill=fill)
            except StoreError as error:
                if sqlstate_of(error) not in RETRIED:
                    raise
                logger.info("writing again: %s", error)
                await asyncio.sleep(0.005 * attempt)
        return await self._run(function, *arguments, fill=fill)

    async def _run(
        self, function: Callable[..., Result], *arguments: Any, fill: Fill | None = None
    ) -> Result:
        self._refuse_child()
        pooled = await self._borrow()
        raw: Any = pooled.driver_connection
        connection = PostgresConnection(raw, fill or Fill(range(self.shards), None, self.shards))
        try:
            result: Result = await greenlet_spawn(function, connection, *arguments)
        except BaseException as error:
            was_lost = raw.is_closed() or is_lost(error) or not isinstance(error, Exception)
            if was_lost or connection.in_transaction:
                pooled.invalidate()
            pooled.close()
            if not isinstance(error, DRIVER_ERRORS):
                raise
            raise self._failure(error, was_lost) from error
        if connection.in_transaction:
            pooled.invalidate()
        pooled.close()
        return result

    def _failure(self, error: Exception, was_lost: bool = False) -> StoreError:
        failure = told(error, self.address)
        if was_lost and not isinstance(failure, LostConnection):
            return lost(error, self.address)
        return failure

    async def _borrow(self) -> PoolProxiedConnection:
        """A connection that was alive when last heard of."""
        if self._engine is None:
            raise StoreUnavailable(f"{self.shown} is not open", remedy="open the store first")
        while True:
            try:
                pooled = await self._engine.raw_connection()
            except Exception as error:  # SQLAlchemy's adapter has errors of its own
                raise self._failure(error) from error
            raw: Any = pooled.driver_connection
            if not raw.is_closed():
                self._seen.add(raw)
                return pooled
            pooled.invalidate()
            pooled.close()

    async def connect(self, settings: Mapping[str, str] | None = None) -> asyncpg.Connection[Any]:
        """A connection of its own, beside the pool, with these settings over ours.

        For whoever listens, or holds one for long: closing it is theirs.
        Raises StoreUnavailable and its like.
        """
        self._refuse_child()
        try:
            return await self._connect({**self._settings, **(settings or {})})
        except DRIVER_ERRORS as error:
            raise self._failure(error) from error

    def _refuse_child(self) -> None:
        if here.generation != self._generation:
            raise StoreUnavailable(f"{self.shown} was opened before this fork", remedy=REMEDY)


def _look(connection: PostgresConnection, address: Address) -> tuple[str | None, int, str]:
    """The revision of the tables, the number of shards, the server's version."""
    raw = connection.raw
    server = ".".join(str(part) for part in raw.get_server_version()[:2])
    if not connection.execute(HAS_VERSION, [address.schema]).fetchone()[0]:
        return None, 0, server
    found = connection.execute(f"{read_revision_sql(address)} WHERE $1", [True]).fetchone()
    revision = None if found is None else str(found[0])
    judge(revision, address)
    shards, made, newest, last = connection.execute(_SHARDS, [True]).fetchone()
    if made != shards:  # of another number, every key would belong elsewhere
        raise StoreError(
            f"the number of shards of {address.shown} was changed: it is {shards} in the table "
            f"meta of the schema {address.schema!r}, and {made} in the table shards",
            remedy="it is fixed when the tables are made; restore both tables from a backup",
        )
    if last is not None and last < newest:  # of two owners under one epoch, both pass the fence
        raise StoreError(
            f"epoch {newest} was given out in {address.shown}, and will be again: the tables were "
            f"restored or copied without the sequence {address.schema}.epochs, which is at {last}",
            remedy="stop every process; `perdure db check` says how to mend it",
        )
    return revision, shards, server
