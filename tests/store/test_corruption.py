"""Damage in the file: found at its row, named, and kept from its neighbours."""

from __future__ import annotations

import random
import sqlite3
from dataclasses import replace
from typing import Any

import pytest

from perdure.core.commit import Entry, SnapshotRow, TurnRecord
from perdure.errors import CorruptRecord
from perdure.store import read_statements as queries
from perdure.store import rows, schema
from perdure.store.sql_load import load_instances
from perdure.store.sql_read import read_page, read_quarantines
from perdure.store.sql_write import write_entries
from perdure.testing.sample_rows import (
    dead_letter,
    deadline,
    head,
    inbox_row,
    outbox_row,
    quarantine_row,
    queue_row,
    settlement,
    snapshot,
    turn,
    turns,
)
from tests.store.databases import database, write_all

HIT, NEAR = "Order/hit", "Order/near"


def everything(epoch: int) -> list[Entry]:
    found: list[Entry] = []
    for name in (NEAR, HIT):
        found += turns(name, 1, 4, epoch)
        found.append(
            turn(
                name,
                5,
                epoch,
                outbox=(outbox_row(name, 5), outbox_row(name, 5, 1, error="")),
                deadlines_set=(deadline(name, "pay", 5, 500),),
                head=head(name),
            )
        )
        found += [snapshot(name, 1, b"older"), snapshot(name, 3, b"newer")]
        found += [inbox_row(name, "waits"), dead_letter(name, "dead"), queue_row(name)]
        found.append(settlement(quarantine=quarantine_row(name)))
    return found


@pytest.fixture
def damaged(tmp_path):
    connection, epoch = database(tmp_path / "store.db")
    write_all(connection, everything(epoch), epoch)
    yield connection
    connection.close()


def columns(table) -> list[tuple[str, str]]:
    return [
        (column.name, how)
        for column in table.columns
        for how in ("bit", "bytes")
        if column.name != "position" or (table is schema.outbox and how == "bit")
    ]


def damage(connection, table: str, where: str, column: str, how: str) -> None:
    """Flip one bit of a value, or put bytes that are no value of its type in its place."""
    [(value, type_)] = connection.execute(
        f"SELECT {column}, typeof({column}) FROM {table} WHERE {where}"
    ).fetchall()
    if how == "bytes":
        hurt = "CAST(x'ff80fe' AS TEXT)" if type_ == "text" else "'no such value'"
        connection.execute(f"UPDATE {table} SET {column} = {hurt} WHERE {where}")
        return
    if type_ == "integer":
        flipped: Any = value ^ 64
    elif type_ == "null":
        flipped = 0
    else:
        raw = (value.encode() if type_ == "text" else value) or b"x"
        flipped = raw[:-1] + bytes([raw[-1] ^ 1])
        flipped = flipped.decode() if type_ == "text" else flipped
    connection.execute(f"UPDATE {table} SET {column} = ? WHERE {where}", [flipped])


@pytest.mark.parametrize(("column", "how"), columns(schema.journal))
def test_journal(damaged, column, how):
    damage(damaged, "journal", f"instance = '{HIT}' AND sequence_nr = 4", column, how)
    hit, near = load_instances(damaged, [HIT, NEAR])
    assert hit.corrupt is not None
    assert (hit.corrupt.saga, hit.corrupt.correlation_id) == ("Order", "hit")
    assert "4" in hit.corrupt.problem
    assert not hit.turns
    assert (near.corrupt, len(near.turns)) == (None, 2)
    if column not in ("instance", "sequence_nr"):
        with pytest.raises(CorruptRecord, match="sequence_nr 4"):
            read_page(damaged, queries.JOURNAL_PAGE, [HIT, 0, 100])


@pytest.mark.parametrize(("column", "how"), columns(schema.snapshots))
def test_snapshots_fall_back(damaged, column, how, caplog):
    damage(damaged, "snapshots", f"instance = '{HIT}' AND sequence_nr = 3", column, how)
    hit, near = load_instances(damaged, [HIT, NEAR])
    assert hit.corrupt is None
    assert hit.snapshot == snapshot(HIT, 1, b"older")
    assert [row.sequence_nr for row in hit.turns] == [2, 3, 4, 5]
    assert near.snapshot == snapshot(NEAR, 3, b"newer")
    if column != "instance":
        assert "a snapshot of" in caplog.text
        damage(damaged, "snapshots", f"instance = '{HIT}' AND sequence_nr = 1", "body", "bit")
        [hit] = load_instances(damaged, [HIT])
        assert (hit.corrupt, hit.snapshot, len(hit.turns)) == (None, None, 5)


PAGES: dict[str, tuple[queries.Query, list[Any]]] = {
    "outbox": (queries.OUTBOX_PAGE, [0, 1000]),
    "inbox": (queries.INBOX_PAGE, [0, 1000]),
    "dead_letters": (queries.DEAD_LETTERS_PAGE, [0, 1000]),
    "deadlines": (queries.DEADLINES_PAGE, [-1, "", "", 1000]),
    "queues": (queries.QUEUES_ALL, []),
    "instances": (queries.heads_page(False, False), ["", 1000]),
}

ONE_ROW = {
    "outbox": [f"instance = '{HIT}' AND idx = {index}" for index in (0, 1)],
    "queues": [f"name = '{HIT}'"],
}


@pytest.mark.parametrize(
    ("table", "where", "column", "how"),
    [
        (name, where, column, how)
        for name in PAGES
        for where in ONE_ROW.get(name, [f"instance = '{HIT}'"])
        for column, how in columns(schema.metadata.tables[name])
    ],
)
def test_pages(damaged, table, where, column, how):
    damage(damaged, table, where, column, how)
    query, values = PAGES[table]
    with pytest.raises(CorruptRecord, match=table) as caught:
        read_page(damaged, query, values)
    assert caught.value.remedy
    if table == "inbox" and column != "instance":
        hit, near = load_instances(damaged, [HIT, NEAR])
        assert hit.corrupt is not None
        assert (near.corrupt, len(near.inbox)) == (None, 1)


@pytest.mark.parametrize(("column", "how"), columns(schema.quarantines))
def test_a_damaged_quarantine_is_named_and_its_instance_stays_set_aside(damaged, column, how):
    damage(damaged, "quarantines", f"instance = '{HIT}'", column, how)
    rows, problems = read_quarantines(damaged)
    assert len(problems) == 1
    assert quarantine_row(NEAR) in rows
    others = [(row.instance, row.reason) for row in rows if row.instance != NEAR]
    if column != "instance":
        assert others == [(HIT, "unknown")]
        over = [settlement(quarantine=replace(row, is_over=True)) for row in rows]
        assert write_entries(damaged, over, 1) == [None, None]
        assert read_quarantines(damaged) == ([], [])
    elif how == "bytes":
        assert others == []
    else:
        assert [reason for _, reason in others] == ["unknown"]


def test_jobs_that_changed_places(damaged):
    damaged.executescript(
        f"""
        UPDATE outbox SET position = position + 900000 WHERE instance = '{HIT}';
        UPDATE outbox SET position = (SELECT 900001 + 2 * position FROM outbox AS other
            WHERE other.instance = '{NEAR}' AND other.idx = outbox.idx) WHERE instance = '{HIT}';
        """
    )
    with pytest.raises(CorruptRecord, match="outbox"):
        read_page(damaged, queries.OUTBOX_PAGE, [0, 100])


def test_text_that_became_bytes(damaged):
    damaged.execute(
        f"UPDATE journal SET message_id = CAST(message_id AS BLOB) WHERE instance = '{HIT}'"
    )
    hit, near = load_instances(damaged, [HIT, NEAR])
    assert hit.corrupt is not None
    assert near.corrupt is None


def test_rows_that_changed_places(damaged):
    damaged.executescript(
        f"""
        UPDATE journal SET sequence_nr = 99 WHERE instance = '{HIT}' AND sequence_nr = 4;
        UPDATE journal SET sequence_nr = 4 WHERE instance = '{HIT}' AND sequence_nr = 5;
        UPDATE journal SET sequence_nr = 5 WHERE instance = '{HIT}' AND sequence_nr = 99;
        """
    )
    assert load_instances(damaged, [HIT])[0].corrupt is not None


def test_a_missing_turn(damaged):
    damaged.execute(f"DELETE FROM journal WHERE instance = '{HIT}' AND sequence_nr = 4")
    [hit] = load_instances(damaged, [HIT])
    assert hit.corrupt is not None
    assert "journal row 4 is missing" in hit.corrupt.problem


def test_a_journal_that_ends_before_its_snapshot(damaged):
    damaged.execute(f"DELETE FROM journal WHERE instance = '{HIT}' AND sequence_nr > 2")
    [hit] = load_instances(damaged, [HIT])
    assert hit.corrupt is not None
    assert "ends before the snapshot" in hit.corrupt.problem


def test_an_archived_journal_is_no_damage(damaged):
    damaged.execute(f"DELETE FROM journal WHERE instance = '{HIT}'")
    write_all(damaged, [turn(HIT, 4, 1)], 1)
    [hit] = load_instances(damaged, [HIT])
    assert hit.corrupt is None
    assert [row.sequence_nr for row in hit.turns] == [4]


def test_an_epoch_that_goes_back(tmp_path):
    connection, epoch = database(tmp_path / "store.db")
    write_all(connection, [turn("Order/1", 1, epoch)], epoch)
    older = rows.JOURNAL.seal([turn("Order/1", 2, epoch - 1).row])
    connection.execute("INSERT INTO journal VALUES (NULL, ?, ?, ?, ?, ?, ?)", older)
    [loaded] = load_instances(connection, ["Order/1"])
    assert loaded.corrupt is not None
    assert "epoch" in loaded.corrupt.problem
    connection.close()


def test_more_than_one_value_holds_is_read_row_by_row(tmp_path):
    connection, epoch = database(tmp_path / "store.db")
    entries = turns("Order/1", 1, 5, epoch)
    for entry in entries:
        entry.row.body = bytes(40_000)
    write_all(connection, entries, epoch)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 100_000)
    [loaded] = load_instances(connection, ["Order/1"])
    assert [len(row.body) for row in loaded.turns] == [40_000] * 5
    assert loaded.corrupt is None
    connection.close()


def test_no_flipped_bit_in_the_file_comes_back_as_data(tmp_path):
    connection, epoch = database(tmp_path / "store.db")
    entries = everything(epoch)
    for number in range(60):
        entries += turns(f"Order/{number}", 1, 3, epoch)
        entries.append(inbox_row(f"Order/{number}", "m"))
    write_all(connection, entries, epoch)
    right = {repr(row) for row in read_back(connection)}
    right |= {repr(entry.row) for entry in entries if isinstance(entry, TurnRecord)}
    right |= {repr(entry) for entry in entries if isinstance(entry, SnapshotRow)} | {"None"}
    connection.execute("PRAGMA journal_mode=DELETE")
    connection.close()
    sound = (tmp_path / "store.db").read_bytes()
    chance = random.Random(20)
    damaged_file = tmp_path / "damaged.db"
    noticed = 0
    for _ in range(400):
        bit = chance.randrange(len(sound) * 8)
        hurt = bytearray(sound)
        hurt[bit // 8] ^= 1 << bit % 8
        damaged_file.write_bytes(hurt)
        connection = sqlite3.connect(damaged_file, isolation_level=None)
        try:
            wrong = {repr(row) for row in read_back(connection)} - right
            assert not wrong, (bit, wrong)
        except (CorruptRecord, sqlite3.Error, UnicodeError):
            noticed += 1
        finally:
            connection.close()
    assert noticed > 50


def read_back(connection) -> list[Any]:
    """Everything in the file, without positions, which only order it."""
    found: list[Any] = []
    for query, values in PAGES.values():
        found += read_page(connection, query, values)
    for row in found:
        if hasattr(row, "position"):
            row.position = 0
    for loaded in load_instances(connection, [HIT, NEAR, *(f"Order/{n}" for n in range(60))]):
        if loaded.corrupt is not None:
            raise loaded.corrupt
        found += [*loaded.turns, loaded.snapshot]
    return found
