"""Where a story takes place: a SQLite file, or a PostgreSQL database, whose tables are looked at.

    FilePlace(folder / "7.db")
    PostgresPlace(server, template, folder / "7.db")

Whoever looks is given the raw tables as a SQLite database in either case: those of PostgreSQL are
copied into one, row by row as they are, of one moment. So one set of checks judges both.
Next to read: ``story.py``, ``checks.py``.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, Protocol

from perdure.core.tally import TallyRow
from perdure.store.head_rows import SAGAS
from perdure.store.postgres_schema import SCHEMA
from perdure.store.rows import StoredRow
from perdure.store.schema import meta, metadata, sagas
from perdure.store.sql_open import EPOCH_MAX, open_schema
from tests.servers.databases import AnyServer, drop_database, new_database

__all__ = ["FilePlace", "Place", "PostgresPlace", "copy_of_postgres", "waiting_in"]

TABLES = [table for table in metadata.sorted_tables if table not in (meta, sagas)]
COUNTS = ("started", "completed", "failed", "running", "stuck", "kept_completed", "kept_failed",
          "duration_ms")  # fmt: skip
WAITING = ("outbox", "inbox", "deadlines")


class Place(Protocol):
    """A store that lives come and go on."""

    url: str
    """What a runtime is given."""

    def open(self) -> None:
        """Make it, if somebody has to."""

    def close(self) -> None:
        """Take it away, if nobody else does."""

    def tables(self) -> Path:
        """A SQLite file with what the tables hold, while nobody lives."""

    def without_snapshots(self) -> Path:
        """The same, in which all has to be folded from the journals."""


class FilePlace:
    """A file of its own; it need not be there yet."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.url = f"sqlite+aiosqlite:///{path}"

    def open(self) -> None:
        """See ``Place``."""

    def close(self) -> None:
        """See ``Place``."""

    def tables(self) -> Path:
        """See ``Place``."""
        return self._path

    def without_snapshots(self) -> Path:
        """See ``Place``."""
        return _without_snapshots(self._path)


class PostgresPlace:
    """A database of its own, made as a copy of a template. ``copy`` is the file for who looks."""

    def __init__(self, server: AnyServer, template: str, copy: Path) -> None:
        self._server = server
        self._template = template
        self._copy = copy
        self.url = self._name = ""

    def open(self) -> None:
        """See ``Place``."""
        self._name = new_database(self._server, self._template)
        self.url = self._server.url(self._name)

    def close(self) -> None:
        """See ``Place``."""
        drop_database(self._server, self._name)

    def tables(self) -> Path:
        """See ``Place``."""
        self._copy.unlink(missing_ok=True)
        asyncio.run(copy_of_postgres(self.url, self._copy))
        return self._copy

    def without_snapshots(self) -> Path:
        """See ``Place``."""
        return _without_snapshots(self.tables())


def _without_snapshots(path: Path) -> Path:
    folded = path.with_suffix(".folded.db")
    shutil.copy(path, folded)
    with closing(sqlite3.connect(folded)) as connection, connection:
        connection.execute("DELETE FROM snapshots")
    return folded


async def copy_of_postgres(url: str, path: Path) -> None:
    """Copy the tables into a SQLite file that is not there yet."""
    import asyncpg

    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            with closing(sqlite3.connect(path, isolation_level=None)) as copy:
                open_schema(copy)
                copy.execute("BEGIN")
                for table in TABLES:
                    names = [column.name for column in table.columns]
                    _fill(copy, table.name, names, await _rows(connection, table.name, names))
                names = [column.name for column in sagas.columns]
                tallies = await _rows(connection, sagas.name, names)
                _fill(copy, sagas.name, names, _summed(tallies))
                newest = await connection.fetchval(f'SELECT max(epoch) FROM "{SCHEMA}".shards')
                assert newest < EPOCH_MAX
                copy.execute("UPDATE meta SET epoch = ?", [newest])
                copy.execute("COMMIT")
    finally:
        await connection.close()


async def _rows(connection: Any, table: str, names: Sequence[str]) -> list[Any]:
    columns = ", ".join(f'"{name}"' for name in names)
    found: list[Any] = await connection.fetch(f'SELECT {columns} FROM "{SCHEMA}"."{table}"')
    return [tuple(row) for row in found]


def _fill(
    copy: sqlite3.Connection, table: str, names: Sequence[str], rows: Iterable[Sequence[Any]]
) -> None:
    columns = ", ".join(f'"{name}"' for name in names)
    marks = ", ".join("?" * len(names))
    copy.executemany(f'INSERT INTO "{table}" ({columns}) VALUES ({marks})', rows)


def _summed(rows: Iterable[Sequence[Any]]) -> Iterator[Sequence[Any]]:
    """PostgreSQL has a tally per saga and shard."""
    by_saga: defaultdict[str, list[TallyRow]] = defaultdict(list)
    for row in rows:
        *key, checksum = row
        assert SAGAS.is_sound(StoredRow(0, 0, tuple(key), b"", checksum)), row
        tally = SAGAS.build(0, tuple(key), b"")
        by_saga[tally.saga].append(tally)
    for saga, tallies in by_saga.items():
        total = TallyRow(saga, *(sum(getattr(one, name) for one in tallies) for name in COUNTS))
        kept = [set(one.indexed) for one in tallies if one.kept]
        total.indexed = tuple(sorted(set.intersection(*kept))) if kept else ()
        yield SAGAS.seal([total])


@asynccontextmanager
async def waiting_in(
    url: str, tables: Sequence[str] = WAITING
) -> AsyncIterator[Callable[[], Awaitable[bool]]]:
    """Whether anything waits in the store, to be asked again and again, whoever owns it."""
    if url.startswith("postgresql"):
        import asyncpg

        connection = await asyncpg.connect(url.replace("+asyncpg", ""))
        sql = _any_row(tables, f'"{SCHEMA}".')

        async def in_database() -> bool:
            return bool(await connection.fetch(sql))

        try:
            yield in_database
        finally:
            await connection.close()
        return
    path = url.partition(":///")[2]
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as file:

        async def in_file() -> bool:
            return bool(file.execute(_any_row(tables, "")).fetchall())

        yield in_file


def _any_row(tables: Sequence[str], schema: str) -> str:
    return " UNION ALL ".join(f"SELECT 1 FROM {schema}{table}" for table in tables)
