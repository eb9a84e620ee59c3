"""Threads of connections end: closing, many who wait, and a new one that cannot be set up."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from typing import Any

import pytest

from perdure import SqlStore
from perdure.errors import StoreUnavailable
from perdure.store import sql_connections, sqlite_connection
from perdure.store.sqlite_connection import ThreadedDriver
from perdure.testing.sample_rows import turn
from tests.runtime.support import quickly
from tests.store.databases import file_store

pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnhandledThreadExceptionWarning"  # that is how they die
)

WHICH = ["writer", "reader"]


def kill(store: SqlStore, which: str) -> None:
    connection: Any = getattr(store._open, which)
    connection._driver._tx.put_nowait(("no", "such", "call"))  # it cannot take this apart
    sqlite_connection._thread_of(connection._driver).join()


def settings_of(connection: sqlite3.Connection) -> dict[str, Any]:
    names = ("synchronous", "query_only", "foreign_keys", "cache_size", "wal_autocheckpoint")
    return {name: connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names}


@pytest.mark.parametrize("dead", [["writer"], ["reader"], WHICH])
@quickly
async def test_closing_leaves_nothing_also_when_threads_have_ended(tmp_path, dead):
    before = set(threading.enumerate())
    store = file_store(tmp_path)
    epoch = await store.open()
    await store.write([turn("Order/1", 1, epoch)])
    for which in dead:
        kill(store, which)
    await store.close()
    assert set(threading.enumerate()) == before
    assert not (tmp_path / "store.db-wal").exists()
    await store.open()
    assert len(await store.journal("Order/1")) == 1
    await store.close()
