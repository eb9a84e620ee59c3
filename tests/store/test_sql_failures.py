"""Writes that fail as a whole: nothing half written, a remedy named, and the store goes on."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import threading
from pathlib import Path

import pytest

from perdure.core.commit import TurnRecord
from perdure.errors import StoreFull, StoreUnavailable
from perdure.store import sql
from perdure.testing.sample_rows import outbox_row, turn
from tests.store.databases import file_store, on_writer


def test_a_full_database_refuses_and_works_again(tmp_path):
    def limit(connection, pages):
        connection.execute(f"PRAGMA max_page_count={pages}").fetchall()

    async def scenario() -> None:
        store = file_store(tmp_path)
        epoch = await store.open()
        await on_writer(store, limit, 60)
        written = 0
        with pytest.raises(StoreFull) as caught:  # noqa: PT012
            while True:
                await store.write([fat_turn(written + 1, epoch)])
                written += 1
        assert caught.value.remedy
        assert caught.value.__cause__ is not None
        assert len(await store.journal("Order/1")) == written > 0
        await on_writer(store, limit, 1_000_000)
        assert list(await store.write([fat_turn(written + 1, epoch)])) == [None]
        await store.close()

    asyncio.run(scenario())


def fat_turn(number: int, epoch: int) -> TurnRecord:
    entry = turn("Order/1", number, epoch, outbox=(outbox_row("Order/1", number),))
    entry.row.body = os.urandom(20_000)
    return entry


@pytest.fixture
def small_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("may not mount a small disk")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk_refuses_and_works_again(small_disk: Path):
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(1_500_000))

    async def scenario() -> None:
        store = file_store(small_disk)
        epoch = await store.open()
        written = 0
        with pytest.raises(StoreFull):  # noqa: PT012
            while True:
                await store.write([fat_turn(written + 1, epoch)])
                written += 1
        [loaded] = await store.load(["Order/1"])
        assert len(loaded.turns) == len(await store.outbox()) == written > 0
        ballast.unlink()
        assert list(await store.write([fat_turn(written + 1, epoch)])) == [None]
        await store.close()

    asyncio.run(scenario())


def test_a_lock_held_elsewhere_is_named(tmp_path):
    def no_patience(connection):
        connection.execute("PRAGMA busy_timeout=0").fetchall()

    async def scenario() -> None:
        store = file_store(tmp_path)
        epoch = await store.open()
        await on_writer(store, no_patience)
        other = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="locked") as caught:
            await store.write([turn("Order/1", 1, epoch)])
        assert "other program" in str(caught.value)
        other.execute("ROLLBACK")
        other.close()
        assert list(await store.write([turn("Order/1", 1, epoch)])) == [None]
        await store.close()

    asyncio.run(scenario())


def test_after_a_failed_sync_nothing_more_is_written(tmp_path, monkeypatch):
    def failing(connection, entries, epoch):
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
        raise error

    async def scenario() -> None:
        store = file_store(tmp_path)
        epoch = await store.open()
        with monkeypatch.context() as patched:
            patched.setattr(sql, "write_entries", failing)
            with pytest.raises(StoreUnavailable):
                await store.write([turn("Order/1", 1, epoch)])
        with pytest.raises(StoreUnavailable, match="disk I/O error"):
            await store.write([turn("Order/1", 1, epoch)])
        assert not await store.journal("Order/1")
        await store.close()
        epoch = await store.open()
        assert list(await store.write([turn("Order/1", 1, epoch)])) == [None]
        await store.close()

    asyncio.run(scenario())


def test_a_cancelled_write_runs_to_its_end(tmp_path):
    async def scenario() -> None:
        store = file_store(tmp_path)
        epoch = await store.open()
        gate = threading.Event()
        blocking = asyncio.create_task(on_writer(store, lambda _: gate.wait()))
        writing = asyncio.create_task(store.write([turn("Order/1", 1, epoch)]))
        await asyncio.sleep(0)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        gate.set()
        await blocking
        assert list(await store.write([turn("Order/1", 2, epoch)])) == [None]
        assert len(await store.journal("Order/1")) == 2
        await store.close()

    asyncio.run(scenario())


def test_closing_waits_for_a_cancelled_write(tmp_path):
    async def scenario() -> None:
        store = file_store(tmp_path)
        epoch = await store.open()
        writing = asyncio.create_task(store.write([turn("Order/1", 1, epoch)]))
        await asyncio.sleep(0)
        writing.cancel()
        await store.close()
        await store.open()
        assert len(await store.journal("Order/1")) == 1
        await store.close()

    asyncio.run(scenario())
