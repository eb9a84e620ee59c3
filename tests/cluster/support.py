"""What the tests of ownership need: a database with shards, sessions that come and go."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from typing import Any

import asyncpg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from perdure.store.ownership import Connection, HostId, Kind, Ownership
from perdure.store.postgres_schema import metadata
from perdure.store.session import SERVER_SETTINGS, Session

SCHEMA = "perdure"
_numbers = itertools.count(1)


async def connected(url: str, **settings: str) -> Connection:
    """A connection of its own."""
    return await asyncpg.connect(url.replace("+asyncpg", ""), server_settings=settings or None)


async def shards_of(url: str, count: int = 8) -> None:
    """Make the tables, with so many shards."""
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        await connection.execute(text(f"CREATE SCHEMA {SCHEMA}"))
        translated = await connection.execution_options(schema_translate_map={None: SCHEMA})
        await translated.run_sync(metadata.create_all)
        await connection.execute(text(f"INSERT INTO {SCHEMA}.meta VALUES (1, {count})"))
        await connection.execute(
            text(f"INSERT INTO {SCHEMA}.shards SELECT n, 0 FROM generate_series(0, {count - 1}) n")
        )
    await engine.dispose()


async def judged(connection: Connection, lease_s: float) -> None:
    """Wait until hosts are judged by their sessions: the server must be older than a lease."""
    asked = "SELECT extract(epoch FROM clock_timestamp() - pg_postmaster_start_time())::float8"
    while await connection.fetchval(asked) < lease_s:  # noqa: ASYNC110
        await asyncio.sleep(0.05)


def host_named(name: str, kind: Kind = Kind.HOST) -> HostId:
    """A host that nobody has been yet."""
    return HostId(f"{kind}:{name}:{os.getpid()}:{next(_numbers)}", name, os.getpid())


def now_ms() -> int:
    """The wall clock of this machine."""
    return time.time_ns() // 1_000_000


def cut(session: Session) -> None:
    """End it without a word, as a process does that is killed."""
    session._is_closing = True
    if session._task is not None:
        session._task.cancel()
    if session._connection is not None:
        session._connection.terminate()


def hang(session: Session) -> Connection:
    """Keep its connection, and beat no more, as a process that stands still."""
    connection, session._connection = session._connection, None
    assert connection is not None
    assert session._task is not None
    session._task.cancel()
    return connection


def wake(session: Session, connection: Connection) -> None:
    """It goes on where it stood."""
    session._connection = connection
    session._task = asyncio.get_running_loop().create_task(session._serve())


def session_of(
    url: str, name: str = "a", kind: Kind = Kind.HOST, owners: Ownership | None = None, **more: Any
) -> Session:
    """A session, not open yet, that beats often."""
    owners = owners or Ownership(SCHEMA, lease_s=2.0, absent_s=0.2)
    more.setdefault("beat_s", 0.05)
    return Session(
        lambda: connected(url, **SERVER_SETTINGS),
        owners,
        host_named(name, kind),
        now_ms,
        version="0",
        **more,
    )
