"""A damaged position is mended when the file is opened: it would end all writes to its table."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing

import pytest

from perdure.core.commit import Entry
from perdure.testing.sample_rows import dead_letter, inbox_row
from tests.store.databases import database, write_all

LARGEST = 2**63 - 1
ROW: dict[str, Callable[[str, str], Entry]] = {"inbox": inbox_row, "dead_letters": dead_letter}
DAMAGE = {
    "of a row": "UPDATE {table} SET position = {largest} WHERE message_id = 'm-1'",
    "of two rows": "UPDATE {table} SET position = {largest} - position WHERE position < 3",
    "that was given last": "UPDATE sqlite_sequence SET seq = {largest} WHERE name = '{table}'",
    "of a row, by its highest bit but one": (
        "UPDATE {table} SET position = position | (1 << 62) WHERE message_id = 'm-1'"
    ),
    "that is no number": "UPDATE sqlite_sequence SET seq = 'odd' WHERE name = '{table}'",
}


@pytest.mark.parametrize("what", DAMAGE)
@pytest.mark.parametrize("table", ROW)
def test_a_damaged_position_does_not_end_the_writing(table, what, tmp_path, caplog):
    connection, epoch = database(tmp_path / "store.db")
    with closing(connection):
        write_all(connection, [ROW[table]("Order/1", f"m-{n}") for n in (1, 2, 3)], epoch)
        assert connection.execute(DAMAGE[what].format(table=table, largest=LARGEST)).rowcount
    connection, epoch = database(tmp_path / "store.db")
    with closing(connection):
        assert f"positions in the table {table} are damaged" in caplog.text
        write_all(connection, [ROW[table]("Order/1", "m-4")], epoch)
        rows = connection.execute(f"SELECT message_id, position FROM {table} ORDER BY position")
        ids, positions = zip(*rows.fetchall(), strict=True)
    assert sorted(ids) == ["m-1", "m-2", "m-3", "m-4"]
    assert ids[-1] == "m-4"
    assert positions[-1] < 10


@pytest.mark.parametrize("table", ROW)
def test_a_position_that_was_given_out_does_not_come_again(table, tmp_path, caplog):
    connection, epoch = database(tmp_path / "store.db")
    with closing(connection):
        write_all(connection, [ROW[table]("Order/1", f"m-{n}") for n in (1, 2, 3)], epoch)
        connection.execute(f"DELETE FROM {table} WHERE message_id = 'm-3'")
        connection.execute(f"UPDATE {table} SET position = {LARGEST} WHERE message_id = 'm-2'")
    connection, epoch = database(tmp_path / "store.db")
    with closing(connection):
        mended = connection.execute(f"SELECT max(position) FROM {table}").fetchone()
    assert mended == (4,)


def test_a_sound_file_is_left_as_it_is(tmp_path, caplog):
    path = tmp_path / "store.db"
    connection, epoch = database(path)
    with closing(connection):
        write_all(connection, [inbox_row("Order/1", f"m-{n}") for n in (1, 2, 3)], epoch)
        connection.execute("DELETE FROM inbox")
    database(path)[0].close()
    with closing(sqlite3.connect(path)) as found:
        assert found.execute("SELECT seq FROM sqlite_sequence").fetchall() == [(3,)]
    assert not caplog.records
