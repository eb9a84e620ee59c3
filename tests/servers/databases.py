"""Databases that come and go on a test's PostgreSQL server.

    with fresh_database(server) as url, fresh_database(server, template=name) as other: ...

Next to read: ``fixtures.py``.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from sqlalchemy.engine import make_url

__all__ = [
    "AnyServer",
    "ForeignServer",
    "drop_database",
    "execute",
    "fresh_database",
    "new_database",
    "run_sql",
    "until_waiting",
    "wait_aged",
]

MAINTENANCE = "postgres"
AGED_S = 10.5
WAITING = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock' AND state = 'active'
"""


class AnyServer(Protocol):
    """What the fixtures need of a server, ours or another's."""

    def url(self, database: str) -> str:
        """The address of a database, for whoever may create some."""


class ForeignServer:
    """The one that ``TEST_POSTGRES_URL`` names. It is not ours to stop."""

    def __init__(self, url: str) -> None:
        self._url = make_url(url).set(drivername="postgresql+asyncpg")

    def url(self, database: str) -> str:
        """The address of a database of this server."""
        return self._url.set(database=database).render_as_string(hide_password=False)


async def run_sql(url: str, *statements: str) -> list[Any]:
    """Run these on a connection of their own; the rows of the last one."""
    import asyncpg

    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        rows: list[Any] = []
        for statement in statements:
            rows = await connection.fetch(statement)
        return rows
    finally:
        await connection.close()


def execute(url: str, *statements: str) -> list[Any]:
    """``run_sql`` for who has no loop."""
    return asyncio.run(run_sql(url, *statements))


async def until_waiting(url: str, sessions: int = 1) -> None:
    """Until the server says that so many sessions of this database wait for a lock."""
    while (await run_sql(url, WAITING))[0][0] < sessions:
        pass  # each look is a connection of its own


def new_database(server: AnyServer, template: str = "template1") -> str:
    """Create a database, with all that is in the template; its name."""
    name = f"perdure_{secrets.token_hex(6)}"
    execute(server.url(MAINTENANCE), f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    return name


def drop_database(server: AnyServer, name: str) -> None:
    """Drop it, whoever is still connected."""
    execute(server.url(MAINTENANCE), f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def wait_aged(url: str) -> None:
    """Wait until the server has run for a lease: before, nobody is held for gone at once."""
    for _ in range(200):
        [row] = execute(url, f"SELECT pg_postmaster_start_time() < now() - interval '{AGED_S} s'")
        if row[0]:
            return
        time.sleep(0.1)


@contextmanager
def fresh_database(server: AnyServer, template: str = "template1") -> Iterator[str]:
    """The URL of a database that is gone afterwards."""
    name = new_database(server, template)
    try:
        yield server.url(name)
    finally:
        drop_database(server, name)
