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


@quickly
async def test_however_many_wait_for_a_dead_thread_one_connection_replaces_it(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(sqlite_connection, "LOOK_S", 0.02)
    connected = 0
    connect = ThreadedDriver.connect

    async def counted(driver: ThreadedDriver) -> Any:
        nonlocal connected
        connected += 1
        return await connect(driver)

    before = set(threading.enumerate())
    store = file_store(tmp_path)
    await store.open()
    monkeypatch.setattr(ThreadedDriver, "connect", counted)
    connection: Any = store._open.reader
    gate = threading.Event()
    holding = asyncio.create_task(connection.run(lambda _: gate.wait()))
    await asyncio.sleep(0)
    connection._driver._tx.put_nowait(("no", "such", "call"))
    reading = [asyncio.create_task(store.journal("Order/1")) for _ in range(4)]
    await asyncio.sleep(0)
    gate.set()
    await holding
    await asyncio.wait(reading[:1])
    reading[1].cancel()  # one who waits no more does not take the new connection along
    answers = await asyncio.gather(*reading, return_exceptions=True)
    assert all(isinstance(one, (StoreUnavailable, asyncio.CancelledError)) for one in answers)
    assert await store.journal("Order/1") == []
    assert connected == 1
    await store.close()
    assert set(threading.enumerate()) == before


@quickly
async def test_closing_waits_for_a_connection_that_is_being_made(tmp_path):
    before = set(threading.enumerate())
    store = file_store(tmp_path)
    await store.open()
    kill(store, "reader")
    reading = asyncio.create_task(store.journal("Order/1"))
    await asyncio.sleep(0)
    reading.cancel()
    await asyncio.wait([reading])
    await store.close()
    assert set(threading.enumerate()) == before


@pytest.mark.parametrize("which", WHICH)
@quickly
async def test_a_new_connection_that_cannot_be_set_up_is_not_used(tmp_path, monkeypatch, which):
    store = file_store(tmp_path)
    await store.open()
    call = store._open.write if which == "writer" else store._open.read
    as_it_was = await call(settings_of)

    def locked(connection: sqlite3.Connection, *arguments: Any) -> None:
        connection.execute("PRAGMA query_only=ON")  # got as far as this
        raise sqlite3.OperationalError("database is locked")

    kill(store, which)
    with monkeypatch.context() as patched:
        patched.setattr(sql_connections, f"prepare_{which}", locked)
        for _ in range(2):
            with pytest.raises(StoreUnavailable, match="cannot connect"):
                await call(settings_of)
    with pytest.raises(StoreUnavailable, match="another one is in its place"):
        await call(settings_of)
    assert await call(settings_of) == as_it_was
    await store.close()
