"""A database without a store around it: the plain functions over a sqlite3 connection."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from perdure.core.commit import Entry
from perdure.store.sql import SqlStore
from perdure.store.sql_open import open_schema
from perdure.store.sql_write import write_entries
from perdure.store.sqlite_connection import prepare_writer


def file_store(directory: Path, **settings) -> SqlStore:
    return SqlStore(f"sqlite+aiosqlite:///{directory}/store.db", **settings)


async def on_writer(store: SqlStore, function: Callable[..., Any], *arguments: Any) -> Any:
    """Run a function on the writing connection's thread."""
    assert store._open.writer is not None
    return await store._open.writer.run(function, *arguments)


def database(path: Path) -> tuple[sqlite3.Connection, int]:
    """A prepared connection to a file, and the new epoch."""
    connection = sqlite3.connect(path, isolation_level=None)
    prepare_writer(connection, "FULL")
    return connection, open_schema(connection)


def write_all(connection: sqlite3.Connection, entries: Sequence[Entry], epoch: int) -> None:
    answers = write_entries(connection, entries, epoch)
    assert answers == [None] * len(entries)
