"""Opening and closing the SQL store: settings in force, whose file, which schema."""

from __future__ import annotations

import asyncio
import sqlite3
import threading

import aiosqlite
import pytest

from perdure import failpoints
from perdure.codec.checksum import checksum
from perdure.codec.codec import Codec
from perdure.codec.journal import JournalCodec
from perdure.codec.registry import TypeRegistry
from perdure.core.commit import JournalRow, Status
from perdure.core.instance import Instance
from perdure.core.outcome import Outcome, Turn
from perdure.core.tally import TallyRow
from perdure.errors import (
    DefinitionError,
    NotADatabase,
    SchemaTooNew,
    SchemaTooOld,
    StoreLocked,
    StoreNotWritable,
    StoreUnavailable,
)
from perdure.messages import Message
from perdure.store import sqlite_connection
from perdure.store.memory import MemoryStore
from perdure.store.rows import JOURNAL
from perdure.store.schema import SCHEMA_VERSION
from perdure.store.sql import SqlStore
from perdure.store.sql_open import open_schema
from perdure.store.urls import store_from_url
from perdure.testing.sample_rows import (
    NOW_MS,
    head,
    quarantine_row,
    queue_row,
    settlement,
    turn,
)
from tests.store.databases import database, file_store, on_writer, write_all


def pragma(connection, name):
    return connection.execute(f"PRAGMA {name}").fetchone()[0]


@pytest.mark.parametrize(("setting", "level"), [("FULL", 2), ("NORMAL", 1)])
def test_settings_are_in_force(tmp_path, setting, level):
    async def scenario() -> None:
        store = file_store(tmp_path, synchronous=setting)
        await store.open()
        assert setting in store.name
        assert sqlite3.sqlite_version in store.name
        assert await on_writer(store, pragma, "journal_mode") == "wal"
        assert await on_writer(store, pragma, "synchronous") == level
        assert await on_writer(store, pragma, "busy_timeout") == 5000
        assert store._open.reader is not None
        assert await store._open.reader.run(pragma, "query_only") == 1
        assert await store._open.reader.run(pragma, "wal_autocheckpoint") == 0
        await store.close()

    asyncio.run(scenario())


def test_settings_that_do_not_take_are_refused(tmp_path):
    with sqlite3.connect(":memory:", isolation_level=None) as connection:
        with pytest.raises(StoreUnavailable, match="journal_mode=memory") as caught:
            sqlite_connection.prepare_writer(connection, "FULL")
        assert caught.value.remedy
    connection.close()


def test_the_driver_still_has_the_names_we_borrow():
    assert callable(aiosqlite.Connection._execute)
    assert isinstance(aiosqlite.Connection._conn, property)


def test_closing_leaves_no_thread_and_no_log(tmp_path):
    async def scenario() -> None:
        before = set(threading.enumerate())
        store = file_store(tmp_path)
        epoch = await store.open()
        await store.write([turn("Order/1", 1, epoch)])
        assert len(set(threading.enumerate()) - before) == 2
        await store.close()
        assert set(threading.enumerate()) == before

    asyncio.run(scenario())
    assert not (tmp_path / "store.db-wal").exists()


@pytest.mark.parametrize("content", [b"something else\n" * 500, b"SQLite format 4\0" * 500])
def test_a_file_that_is_no_database(tmp_path, content):
    (tmp_path / "store.db").write_bytes(content)

    async def scenario() -> None:
        store = file_store(tmp_path)
        for _ in range(2):  # a failed open holds neither lock nor connection
            with pytest.raises(NotADatabase) as caught:
                await store.open()
            assert caught.value.remedy
            assert isinstance(caught.value.__cause__, sqlite3.Error)

    asyncio.run(scenario())
    assert (tmp_path / "store.db").read_bytes() == content


def test_a_database_of_somebody_else(tmp_path):
    with sqlite3.connect(tmp_path / "store.db") as other:
        other.execute("CREATE TABLE journal (theirs)")
    other.close()

    async def scenario() -> None:
        with pytest.raises(NotADatabase, match="another program"):
            await file_store(tmp_path).open()

    asyncio.run(scenario())


def test_a_newer_schema(tmp_path):
    connection, _ = database(tmp_path / "store.db")
    connection.execute("UPDATE meta SET schema_version = ?", [SCHEMA_VERSION + 41])
    connection.close()

    async def scenario() -> None:
        store = file_store(tmp_path)
        with pytest.raises(SchemaTooNew) as caught:
            await store.open()
        assert str(SCHEMA_VERSION + 41) in str(caught.value)
        assert f"knows {SCHEMA_VERSION}" in str(caught.value)
        assert caught.value.remedy

    asyncio.run(scenario())
    unchanged = sqlite3.connect(tmp_path / "store.db")
    assert unchanged.execute("SELECT epoch FROM meta").fetchall() == [(1,)]
    unchanged.close()


def test_an_older_schema(tmp_path):
    connection, _ = database(tmp_path / "store.db")
    connection.execute("UPDATE meta SET schema_version = 1")
    connection.close()

    async def scenario() -> None:
        for read_only in (False, True):
            with pytest.raises(SchemaTooOld, match="version 1") as caught:
                await file_store(tmp_path, read_only=read_only).open()
            assert "new file" in str(caught.value.remedy)

    asyncio.run(scenario())
    unchanged = sqlite3.connect(tmp_path / "store.db")
    assert unchanged.execute("SELECT epoch FROM meta").fetchall() == [(1,)]
    unchanged.close()


OLD_INSTANCES = """
CREATE TABLE instances (
    instance TEXT NOT NULL, saga TEXT NOT NULL, correlation_id TEXT NOT NULL, status TEXT NOT NULL,
    started_at_ms INTEGER NOT NULL, updated_at_ms INTEGER NOT NULL, checksum INTEGER NOT NULL,
    PRIMARY KEY (instance)
) WITHOUT ROWID;
CREATE INDEX instances_by_status ON instances (saga, status, instance);
"""


def as_version_3(path):
    """A file as the perdure of schema version 3 left it."""
    connection, epoch = database(path)
    write_all(connection, [turn("Order/1", 1, epoch), queue_row("payments")], epoch)
    connection.executescript(
        "DROP TABLE instances; DROP TABLE sagas; DROP TABLE lookups; DROP TABLE tombstones;"
        "DROP INDEX dead_letters_by_instance; UPDATE meta SET schema_version = 3;" + OLD_INSTANCES
    )
    return connection


def put_old_head(connection, row):
    names = (row.instance, row.saga, row.correlation_id, row.status.value)
    key = (*names, row.started_at_ms, row.updated_at_ms)
    connection.execute(
        "INSERT INTO instances VALUES (?, ?, ?, ?, ?, ?, ?)", [*key, checksum(b"", *key)]
    )


def as_version_2(path):
    """A file as the perdure of schema version 2 left it."""
    connection = as_version_3(path)
    connection.executescript("DROP TABLE quarantines; UPDATE meta SET schema_version = 2")
    return connection


def test_a_file_of_version_3_has_its_heads_sealed_anew_and_counted(tmp_path):
    connection = as_version_3(tmp_path / "store.db")
    rows = [head(f"Order/{number:04}") for number in range(1001)]
    rows += [head("Order/9", Status.COMPLETED, updated_at_ms=NOW_MS + 70)]
    rows += [head("Trip/1", Status.STUCK), head("Trip/2", Status.FAILED)]
    for row in rows:
        put_old_head(connection, row)
    connection.execute("UPDATE instances SET started_at_ms = 5 WHERE instance = 'Order/0500'")
    connection.close()

    async def scenario() -> None:
        store = file_store(tmp_path)
        await store.open()
        sound = [row for row in rows if row.instance != "Order/0500"]
        assert await store.heads(limit=2000) == sorted(sound, key=lambda row: row.instance)
        assert await store.tallies() == [
            TallyRow("Order", 1002, 1, 0, 1001, 0, 1, 0, 70),
            TallyRow("Trip", 2, 0, 1, 0, 1, 0, 1),
        ]
        await store.close()

    asyncio.run(scenario())
    upgraded, fresh = layout(tmp_path / "store.db"), layout(tmp_path / "fresh.db", new=True)
    assert upgraded == fresh


def test_a_head_of_version_3_learns_when_its_last_turn_was(tmp_path):
    connection = as_version_3(tmp_path / "store.db")
    journal = JournalCodec(Codec(TypeRegistry()))
    for id_, status in (("2", Status.RUNNING), ("3", Status.COMPLETED)):
        key = f"Order/{id_}"
        put_old_head(connection, head(key, status))
        for number, outcome in ((1, Outcome.APPLIED), (2, Outcome.UNHANDLED)):
            at_ms = NOW_MS + number * 1_000_000
            told = Message(None, "x", 1, b"", f"m-{number}", at_ms)
            body = journal.encode_turn(Turn(told, outcome, at_ms, Instance(key, id_, None, number)))
            row = JournalRow(key, number, 1, told.message_id, body)
            connection.execute(
                "INSERT INTO journal (instance, sequence_nr, epoch, message_id, body, checksum)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                [key, number, 1, told.message_id, body, checksum(body, *JOURNAL.key_of(row))],
            )
    connection.close()

    async def scenario() -> None:
        store = file_store(tmp_path)
        await store.open()
        updated = [row.updated_at_ms for row in await store.heads()]
        assert updated == [NOW_MS + 2_000_000, NOW_MS + 1]
        await store.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("damaged", [b"Or\xffder", b"Or\x80der", b"\xff", b"", b"\x00"])
def test_a_saga_whose_name_is_damaged_stops_no_upgrade(tmp_path, damaged):
    connection = as_version_3(tmp_path / "store.db")
    for row in [head("Order/1"), head("Order/2"), head("Trip/1")]:
        put_old_head(connection, row)
    change = "UPDATE instances SET saga = CAST(? AS TEXT) WHERE instance = 'Order/2'"
    connection.execute(change, [damaged])
    connection.close()

    async def scenario() -> None:
        store = file_store(tmp_path)
        await asyncio.wait_for(store.open(), 10)
        kept = {tally.saga: tally.kept for tally in await store.tallies()}
        assert (kept["Order"], kept["Trip"]) == (1, 1)
        await store.close()

    asyncio.run(scenario())


def layout(path, new=False):
    """The tables with their columns, and the indexes."""
    connection = database(path)[0] if new else sqlite3.connect(path)
    names = "SELECT name FROM sqlite_master WHERE type = ? AND sql IS NOT NULL"
    tables = [name for (name,) in connection.execute(names, ["table"])]
    found = {
        name: sorted(column[1:4] for column in connection.execute(f"PRAGMA table_info({name})"))
        for name in tables
    }
    indexes = {name for (name,) in connection.execute(names, ["index"])}
    connection.close()
    return found, indexes


def test_a_file_of_version_2_is_upgraded_by_opening_it(tmp_path):
    as_version_2(tmp_path / "store.db").close()

    async def scenario() -> None:
        with pytest.raises(SchemaTooOld, match="version 2"):
            await file_store(tmp_path, read_only=True).open()
        for epoch in (2, 3):
            store = file_store(tmp_path)
            assert await store.open() == epoch
            assert len(await store.journal("Order/1")) == 1
            assert await store.queues() == [queue_row("payments")]
            assert len(await store.quarantines()) == epoch - 2
            await store.write([settlement(quarantine=quarantine_row("Order/1"))])
            await store.close()
        watcher = file_store(tmp_path, read_only=True)
        await watcher.open()
        assert await watcher.quarantines() == [quarantine_row("Order/1")]
        await watcher.close()

    asyncio.run(scenario())


def test_an_upgrade_that_is_interrupted_has_not_begun(tmp_path, monkeypatch):
    connection = as_version_2(tmp_path / "store.db")

    def die(point):
        raise KeyboardInterrupt

    monkeypatch.setattr(failpoints, "listener", die)
    with pytest.raises(KeyboardInterrupt):
        open_schema(connection)
    monkeypatch.undo()
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    assert "quarantines" not in tables
    assert connection.execute("SELECT schema_version, epoch FROM meta").fetchall() == [(2, 1)]
    assert open_schema(connection) == 2
    assert connection.execute("SELECT schema_version FROM meta").fetchall() == [(SCHEMA_VERSION,)]
    connection.close()


def test_a_path_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()

    async def scenario() -> None:
        for path in (tmp_path / "none" / "store.db", tmp_path / "file" / "store.db"):
            store = SqlStore(f"sqlite+aiosqlite:///{path}")
            with pytest.raises(StoreNotWritable):
                await store.open()
        (tmp_path / "store.db").mkdir()
        with pytest.raises(StoreNotWritable):
            await file_store(tmp_path).open()

    asyncio.run(scenario())


def test_paths_with_signs_that_mean_something_in_urls(tmp_path):
    async def scenario() -> None:
        directory = tmp_path / "100% #1 and more"
        directory.mkdir()
        store = file_store(directory)
        await store.open()
        await store.close()
        assert (directory / "store.db").exists()

    asyncio.run(scenario())


def test_read_only_beside_its_owner(tmp_path):
    async def scenario() -> None:
        owner, watcher = file_store(tmp_path), file_store(tmp_path, read_only=True)
        epoch = await owner.open()
        assert await watcher.open() == epoch
        await owner.write([turn("Order/1", 1, epoch)])
        assert len(await watcher.journal("Order/1")) == 1
        with pytest.raises(StoreUnavailable, match="reading only") as caught:
            await watcher.write([turn("Order/1", 2, epoch)])
        assert caught.value.remedy
        await watcher.close()
        assert list(await owner.write([turn("Order/1", 2, epoch)])) == [None]
        await owner.close()

    asyncio.run(scenario())


def test_read_only_creates_nothing(tmp_path):
    async def scenario() -> None:
        with pytest.raises(StoreNotWritable):
            await file_store(tmp_path, read_only=True).open()

    asyncio.run(scenario())
    assert not [*tmp_path.iterdir()]


def test_a_store_open_already(tmp_path):
    async def scenario() -> None:
        store = file_store(tmp_path)
        await store.open()
        with pytest.raises(StoreLocked, match="this very store"):
            await store.open()
        await store.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("url", ["sqlite+aiosqlite:///a.db", "sqlite:///a.db"])
def test_urls_of_files(url):
    store = store_from_url(url)
    assert isinstance(store, SqlStore)
    assert store.path.endswith("/a.db")


def test_url_of_memory():
    assert isinstance(store_from_url("memory://"), MemoryStore)


@pytest.mark.parametrize(
    "url",
    [
        "sqlite+aiosqlite://",
        "sqlite+aiosqlite:///:memory:",
        "sqlite:///:memory:",
        "sqlite+aiosqlite:///file:x?mode=memory&uri=true",
        "sqlite+aiosqlite:///a.db?timeout=1",
        "mysql://localhost/x",
        "a.db",
        "",
    ],
)
def test_other_urls_are_refused_with_what_is_supported(url):
    with pytest.raises(DefinitionError) as caught:
        store_from_url(url)
    assert "memory://" in str(caught.value)
    assert "sqlite+aiosqlite:///" in str(caught.value)


def test_an_unknown_durability_is_refused(tmp_path):
    with pytest.raises(DefinitionError, match="OFF"):
        file_store(tmp_path, synchronous="OFF")
