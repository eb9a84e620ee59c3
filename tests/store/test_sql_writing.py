"""Writing in SQL: few statements, faults that stay with their entry, failures that end well."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import threading
from pathlib import Path

import pytest

from perdure.core.commit import TurnRecord
from perdure.errors import (
    Fenced,
    SequenceConflict,
    StoreError,
    StoreFull,
    StoreUnavailable,
)
from perdure.store import sql, write_statements
from perdure.store.sql_read import load_instances
from perdure.store.sql_write import write_entries
from perdure.store.statements import ManyRows
from perdure.testing.sample_rows import (
    dead_letter,
    deadline,
    head,
    inbox_row,
    outbox_row,
    snapshot,
    turn,
)
from tests.store.databases import database, file_store


@pytest.fixture
def opened(tmp_path):
    connection, epoch = database(tmp_path / "store.db")
    yield connection, epoch
    connection.close()


def full_turns(count: int, epoch: int) -> list[TurnRecord]:
    """One turn each of many instances, with everything a turn can have."""
    names = [f"Order/{number:05}" for number in range(count)]
    return [
        turn(
            name,
            1,
            epoch,
            outbox=(outbox_row(name, 1),),
            deadlines_set=(deadline(name, "pay", 1, 5),),
            deadlines_cleared=("ship",),
            head=head(name),
            consumes_inbox=True,
            dead_letter=dead_letter(name, "m-1"),
        )
        for name in names
    ]


def traced(connection, call) -> list[str]:
    statements: list[str] = []
    connection.set_trace_callback(statements.append)
    call()
    connection.set_trace_callback(None)
    return statements


@pytest.mark.parametrize("count", [1, 2, 37, 1000])
def test_the_number_of_statements_is_constant(opened, count):
    connection, epoch = opened
    group = [
        *full_turns(count, epoch),
        *(inbox_row(f"Trip/{number}", "m") for number in range(count)),
        *(snapshot(f"Order/{number:05}", 1) for number in range(count)),
    ]
    statements = traced(connection, lambda: write_entries(connection, group, epoch))
    # BEGIN, the check, two for deadlines, inbox and snapshots each, four inserts, COMMIT;
    # executemany would show up here once per row.
    assert len(statements) == 13


def test_a_plain_turn_takes_five_statements(opened):
    connection, epoch = opened
    group = [turn("Order/1", 1, epoch, outbox=(outbox_row("Order/1", 1),))]
    statements = traced(connection, lambda: write_entries(connection, group, epoch))
    assert [text.split()[0] for text in statements] == [
        "BEGIN",
        "SELECT",
        "INSERT",
        "INSERT",
        "COMMIT",
    ]


def test_no_hot_statement_scans_a_table(opened):
    connection, _ = opened
    for name in write_statements.__all__:
        statement = getattr(write_statements, name)
        assert isinstance(statement, ManyRows)
        width = statement._width
        [(text, values)] = statement.rounds(["x"] * width * 3)
        leading = text.count("?") - len(values)
        plan = connection.execute(f"EXPLAIN QUERY PLAN {text}", [0] * leading + values)
        scanned = [row[3] for row in plan if row[3].startswith("SCAN ")]
        assert all(
            "CONSTANT ROW" in step or step.endswith(("given", "meta", "VALUES CLAUSE"))
            for step in scanned
        ), (name, scanned)


def test_groups_beyond_one_statement(opened):
    connection, epoch = opened
    group = [turn(f"Order/{number}", 1, epoch) for number in range(9000)]
    assert write_entries(connection, group, epoch) == [None] * 9000
    assert connection.execute("SELECT count(*) FROM journal").fetchone() == (9000,)
    again = write_entries(connection, group[-1:] + group[:1], epoch)
    assert [type(answer) for answer in again] == [SequenceConflict] * 2


def test_only_the_newest_two_snapshots_are_kept(opened):
    connection, epoch = opened
    for number in (1, 2, 3, 4):
        write_entries(
            connection, [snapshot("Order/1", number), snapshot("Order/2", 9 - number)], epoch
        )
    kept = connection.execute("SELECT instance, sequence_nr FROM snapshots ORDER BY 1, 2")
    assert kept.fetchall() == [("Order/1", 3), ("Order/1", 4), ("Order/2", 7), ("Order/2", 8)]


def test_an_overtaken_owner_writes_nothing_at_all(opened):
    connection, epoch = opened
    connection.execute("UPDATE meta SET epoch = epoch + 1")
    group = [turn("Order/1", 1, epoch), snapshot("Order/1", 1), inbox_row("Order/1", "m")]
    answers = write_entries(connection, group, epoch)
    assert [type(answer) for answer in answers] == [Fenced] * 3
    assert load_instances(connection, ["Order/1"])[0].inbox == []


# -- faults of one entry


def broken(entry: TurnRecord) -> TurnRecord:
    entry.row.body = None  # type: ignore[assignment]
    return entry


def test_a_broken_constraint_leaves_only_its_entry_out(opened):
    connection, epoch = opened
    connection.execute(
        "CREATE TEMP TRIGGER refuse BEFORE INSERT ON outbox WHEN NEW.target = 'refused'"
        " BEGIN SELECT RAISE(ABORT, 'refused'); END"
    )
    culprit = turn("Order/2", 1, epoch, outbox=(outbox_row("Order/2", 1, target="refused"),))
    group = [
        turn("Order/1", 1, epoch, outbox=(outbox_row("Order/1", 1),)),
        culprit,
        turn("Order/3", 5, epoch),
        turn("Order/2", 2, epoch),
        turn("Order/1", 2, epoch),
        inbox_row("Order/2", "waits"),
    ]
    answers = write_entries(connection, group, epoch)
    assert [type(answer) for answer in answers] == [
        type(None),
        StoreError,
        SequenceConflict,
        SequenceConflict,
        type(None),
        type(None),
    ]
    assert isinstance(answers[1].__cause__, sqlite3.IntegrityError)
    assert answers[1].correlation_id == "2"
    one, two = load_instances(connection, ["Order/1", "Order/2"])
    assert (len(one.turns), len(two.turns), len(two.inbox)) == (2, 0, 1)
    assert connection.execute("SELECT count(*) FROM outbox").fetchone() == (1,)


@pytest.mark.parametrize(
    "culprit",
    [
        lambda epoch: broken(turn("Order/bad", 1, epoch)),
        lambda epoch: turn("Order/\ud800", 1, epoch),
        lambda epoch: snapshot("Order/bad", 2**70),
        lambda epoch: inbox_row("Order/bad", "m", created_at_ms=object()),
        lambda epoch: dead_letter("Order/bad", None),
    ],
)
def test_a_value_that_cannot_be_stored_leaves_only_its_entry_out(opened, culprit):
    connection, epoch = opened
    group = [turn("Order/1", 1, epoch), culprit(epoch), turn("Order/1", 2, epoch)]
    answers = write_entries(connection, group, epoch)
    assert [type(answer) for answer in answers] == [type(None), StoreError, type(None)]
    assert answers[1].remedy
    assert len(load_instances(connection, ["Order/1"])[0].turns) == 2


# -- failures of the whole


def test_a_full_database_refuses_and_works_again(tmp_path):
    def limit(connection, pages):
        connection.execute(f"PRAGMA max_page_count={pages}").fetchall()

    async def scenario() -> None:
        store = file_store(tmp_path)
        epoch = await store.open()
        await store._writer.run(limit, 60)
        written = 0
        with pytest.raises(StoreFull) as caught:  # noqa: PT012
            while True:
                await store.write([fat_turn(written + 1, epoch)])
                written += 1
        assert caught.value.remedy
        assert caught.value.__cause__ is not None
        assert len(await store.journal("Order/1")) == written > 0
        await store._writer.run(limit, 1_000_000)
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
        await store._writer.run(no_patience)
        other = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="locked") as caught:
            await store.write([turn("Order/1", 1, epoch)])
        assert "other program" in caught.value.remedy
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
        blocking = asyncio.create_task(store._writer.run(lambda _: gate.wait()))
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
