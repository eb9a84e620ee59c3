"""What can happen to a file: every column of every table, rows, and the file's raw bytes.

The tables and columns are read from the file itself: a new one is damaged as the old ones are.
Each ``Damage`` changes a closed copy and says whom it concerned; one that SQLite itself refuses
does not count. Next to read: ``judging.py``.
"""

from __future__ import annotations

import pickle
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

__all__ = ["NOBODY", "Damage", "damages_of", "tables_of"]

NOBODY = frozenset[str]()
INT_BITS = (0, 1, 6, 31, 62, 63)
HUGE = 3_000_000
ALL = frozenset({"*"})


@dataclass(frozen=True)
class Damage:
    """One change. ``apply`` makes it and returns the subjects it concerned; None: impossible."""

    where: str
    how: str
    apply: Callable[[Path], frozenset[str] | None]

    def __str__(self) -> str:
        return f"{self.where}: {self.how}"


def tables_of(path: Path) -> dict[str, list[str]]:
    """The tables of the file and their columns."""
    with closing(sqlite3.connect(path)) as connection:
        names = connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        ).fetchall()
        return {
            name: [row[1] for row in connection.execute(f"PRAGMA table_info({name})")]
            for (name,) in names
        }


def damages_of(path: Path) -> Iterator[Damage]:
    """Everything, for the rows of this file."""
    for table, columns in tables_of(path).items():
        keys = _keys(path, table)
        for key in keys:
            for column in columns:
                yield from _of_value(table, column, key)
            yield from _of_row(table, columns, key)
        for one, other in pairwise(keys):
            for column in columns:
                yield from _of_two(table, (column,), one, other, f"swap {column}")
            if "body" in columns:
                names = ("body", "checksum")
                yield from _of_two(table, names, one, other, "swap body and checksum")
    yield from _of_file(path)


# Rows are named by their rowid, or by their number in the order of the primary key


def _keys(path: Path, table: str) -> list[int]:
    with closing(sqlite3.connect(path)) as connection:
        (count,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
    return list(range(count))


def _edit(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA ignore_check_constraints=ON")
    return connection


def _primary(connection: sqlite3.Connection, table: str) -> list[str]:
    rows = connection.execute(f"PRAGMA table_info({table})").fetchall()
    return [row[1] for row in rows if row[5]]


def _row(
    connection: sqlite3.Connection, table: str, number: int
) -> tuple[dict[str, Any], str, list[Any]]:
    """The row's values, and the condition that finds it."""
    primary = _primary(connection, table)
    connection.row_factory = sqlite3.Row
    sql = f"SELECT * FROM {table} ORDER BY {', '.join(primary)} LIMIT 1 OFFSET {number}"
    values = dict(connection.execute(sql).fetchone())
    connection.row_factory = None
    where = " AND ".join(f"{name} = ?" for name in primary)
    return values, where, [values[name] for name in primary]


def _subject(table: str, values: dict[str, Any]) -> str:
    if table == "meta":
        return "*"
    if table == "queues":
        return f"queue:{values['name']}"
    return str(values.get("instance", "*"))


# One value


def _of_value(table: str, column: str, number: int) -> Iterator[Damage]:
    where = f"{table}.{column} of row {number}"
    for how, change in _CHANGES.items():
        yield Damage(where, how, partial(_change, table, column, number, change))


def _change(
    table: str, column: str, number: int, change: Callable[[Any], Any], path: Path
) -> frozenset[str] | None:
    with closing(_edit(path)) as connection:
        values, where, key = _row(connection, table, number)
        value = values[column]
        try:
            changed = change(value)
        except (TypeError, AttributeError, IndexError):
            return None  # not for values of this kind
        if changed == value and type(changed) is type(value):
            return None
        as_text = isinstance(changed, _Text)
        shown = "CAST(? AS TEXT)" if as_text else "?"
        try:
            connection.execute(
                f"UPDATE {table} SET {column} = {shown} WHERE {where}", [changed, *key]
            )
        except sqlite3.IntegrityError:
            return None
        connection.text_factory = bytes
        rows = connection.execute(f"SELECT {column} FROM {table}").fetchall()
        before = value.encode() if isinstance(value, str) else value
        concerned = frozenset({_subject(table, values)})
        if column == "instance" and isinstance(changed, str | _Text):  # whom it names now, too
            named = changed if isinstance(changed, str) else changed.decode("utf-8", "replace")
            concerned |= {named}
        if (table, column) == ("outbox", "position"):  # a letter whose job had this place
            at_place = "SELECT CAST(instance AS TEXT) FROM dead_letters WHERE job = ?"
            found = connection.execute(at_place, [changed]).fetchall()
            concerned |= {name.decode() for (name,) in found}
        if not any(row[0] == before for row in rows):
            return concerned
        # SQLite's affinity may have turned it back into what it was.
        after, *_ = connection.execute(
            f"SELECT count(*) FROM {table} WHERE {where} AND {column} IS ?", [*key, value]
        ).fetchone()
        return None if after else concerned


class _Text(bytes):
    """Bytes put as text, valid or not."""


def _flip_int(bit: int, value: Any) -> int:
    if type(value) is not int:
        raise TypeError
    flipped = (value & (2**64 - 1)) ^ (1 << bit)
    return flipped - 2**64 if flipped >= 2**63 else flipped


def _flip(place: Callable[[int], int], bit: int, value: Any) -> Any:
    raw = bytearray(value.encode() if isinstance(value, str) else memoryview(value))
    raw[place(len(raw))] ^= 1 << bit
    return _Text(raw) if isinstance(value, str) else bytes(raw)


def _of_kind(kind: type, give: Callable[[Any], Any], value: Any) -> Any:
    if type(value) is not kind:
        raise TypeError
    return give(value)


_PLACES: dict[str, Callable[[int], int]] = {
    "first": lambda size: 0,
    "second": lambda size: 1,
    "middle": lambda size: size // 2,
    "last": lambda size: size - 1,
}
_CHANGES: dict[str, Callable[[Any], Any]] = {
    **{f"flip bit {bit}": partial(_flip_int, bit) for bit in INT_BITS},
    **{
        f"flip bit {bit} of the {name} byte": partial(_flip, place, bit)
        for name, place in _PLACES.items()
        for bit in (0, 5, 7)
    },
    "NULL": lambda value: None,
    "a moment later": partial(_of_kind, int, lambda value: value + 1 if value < 2**63 - 1 else 0),
    "below zero": partial(_of_kind, int, lambda value: -1),
    "zero": partial(_of_kind, int, lambda value: 0),
    "the largest number": partial(_of_kind, int, lambda value: 2**63 - 1),
    "a fraction": partial(_of_kind, int, lambda value: value + 0.5),
    "text for a number": partial(_of_kind, int, lambda value: "no number"),
    "bytes for a number": partial(_of_kind, int, lambda value: b"\x80\x04"),
    "bytes for text": partial(_of_kind, str, lambda value: value.encode() or b"\0"),
    "no text": partial(_of_kind, str, lambda value: _Text(b"\xff\x80\xfe")),
    "empty text": partial(_of_kind, str, lambda value: ""),
    "other case": partial(_of_kind, str, str.swapcase),
    "a NUL in text": partial(_of_kind, str, lambda value: value[:1] + "\0" + value[1:]),
    "huge text": partial(_of_kind, str, lambda value: value + "x" * HUGE),
    "another id": partial(
        _of_kind, str, lambda value: "Ledger/b" if value == "Ledger/a" else "Ledger/a"
    ),
    "empty bytes": partial(_of_kind, bytes, lambda value: b""),
    "shorter": partial(_of_kind, bytes, lambda value: value[:-1]),
    "longer": partial(_of_kind, bytes, lambda value: value + b"\0"),
    "a pickle": partial(_of_kind, bytes, pickle.dumps),
    "huge bytes": partial(_of_kind, bytes, lambda value: value + bytes(HUGE)),
    "text for bytes": partial(_of_kind, bytes, lambda value: "text"),
}


# Whole rows


def _of_row(table: str, columns: list[str], number: int) -> Iterator[Damage]:
    where = f"{table}, row {number}"
    yield Damage(where, "delete", partial(_delete, table, number))
    yield Damage(where, "duplicate", partial(_duplicate, table, columns, number))


def _delete(table: str, number: int, path: Path) -> frozenset[str] | None:
    with closing(_edit(path)) as connection:
        values, where, key = _row(connection, table, number)
        connection.execute(f"DELETE FROM {table} WHERE {where}", key)
        return frozenset({_subject(table, values)})


def _duplicate(table: str, columns: list[str], number: int, path: Path) -> frozenset[str] | None:
    """Under the next number wherever a unique key wants one."""
    with closing(_edit(path)) as connection:
        values, _, _ = _row(connection, table, number)
        for column in ("position", "sequence_nr", "due_at_ms"):
            if column in columns and values[column] is not None:
                highest = f"SELECT max({column}) FROM {table}"
                (values[column],) = connection.execute(highest).fetchone()
                values[column] += 1
        for column in ("message_id", "name", "given_id"):
            if column in columns and values[column]:
                values[column] += "'"
        marks = ",".join("?" * len(values))
        try:
            connection.execute(
                f"INSERT INTO {table} ({','.join(values)}) VALUES ({marks})", [*values.values()]
            )
        except sqlite3.IntegrityError:
            return None
        return frozenset({_subject(table, values)})


def _of_two(
    table: str, columns: tuple[str, ...], one: int, other: int, how: str
) -> Iterator[Damage]:
    where = f"{table}, rows {one} and {other}"
    yield Damage(where, how, partial(_swap, table, columns, one, other))


def _swap(
    table: str, columns: tuple[str, ...], one: int, other: int, path: Path
) -> frozenset[str] | None:
    with closing(_edit(path)) as connection:
        first, _, _ = _row(connection, table, one)
        second, _, _ = _row(connection, table, other)
        if all(first[name] == second[name] for name in columns):
            return None
        primary = _primary(connection, table)
        marks = ",".join("?" * len(first))
        where = " AND ".join(f"{name} = ?" for name in primary)
        try:
            connection.execute("BEGIN")
            for row in (first, second):
                connection.execute(
                    f"DELETE FROM {table} WHERE {where}", [row[name] for name in primary]
                )
            for name in columns:
                first[name], second[name] = second[name], first[name]
            for row in (first, second):
                connection.execute(
                    f"INSERT INTO {table} ({','.join(row)}) VALUES ({marks})", [*row.values()]
                )
            connection.execute("COMMIT")
        except sqlite3.IntegrityError:
            return None
        return frozenset({_subject(table, first), _subject(table, second)})


# The file


def _of_file(path: Path) -> Iterator[Damage]:
    size = path.stat().st_size
    chance = random.Random(20)
    for length in sorted({0, 1, 16, 99, 100, 512, *range(4096, size, 4096), size - 1, size // 2}):
        yield Damage("file", f"truncate to {length}", partial(_truncate, length))
    for byte in range(100):
        for bit in (0, 7):
            yield Damage(
                "file header", f"flip bit {bit} of byte {byte}", partial(_flip_raw, byte, bit)
            )
    for page in range(1, size // 4096):
        for byte in (*range(12), 13, 15):
            yield Damage(
                f"header of page {page + 1}",
                f"flip a bit of byte {byte}",
                partial(_flip_raw, page * 4096 + byte, chance.randrange(8)),
            )
    for _ in range(600):
        place = chance.randrange(size)
        yield Damage(
            "file", f"flip a bit at {place}", partial(_flip_raw, place, chance.randrange(8))
        )
    for page in range(1, size // 4096):
        yield Damage("file", f"page {page + 1} is zeros", partial(_blank, page * 4096))
    yield from _of_log(Path(f"{path}.live-wal").stat().st_size, chance)


def _of_log(size: int, chance: random.Random) -> Iterator[Damage]:
    yield Damage("log", "as a killed process leaves it", partial(_with_log, lambda raw: raw))
    yield Damage("log", "deleted", partial(_with_log, lambda raw: None))
    yield Damage("log", "without its file", _only_log)
    for length in (0, 31, 32, 4000, size // 2, size - 1):
        change = partial(_cut, length)
        yield Damage("log", f"truncated to {length}", partial(_with_log, change))
    for place in (*range(0, 32, 3), *(chance.randrange(size) for _ in range(60))):
        change = partial(_flipped, place, chance.randrange(8))
        yield Damage("log", f"flip a bit at {place}", partial(_with_log, change))


def _cut(length: int, raw: bytearray) -> bytearray:
    return raw[:length]


def _flipped(place: int, bit: int, raw: bytearray) -> bytearray:
    raw[place] ^= 1 << bit
    return raw


def _truncate(length: int, path: Path) -> frozenset[str]:
    with path.open("r+b") as file:
        file.truncate(length)
    return ALL


def _flip_raw(place: int, bit: int, path: Path) -> frozenset[str]:
    path.write_bytes(_flipped(place, bit, bytearray(path.read_bytes())))
    return ALL


def _blank(place: int, path: Path) -> frozenset[str]:
    raw = bytearray(path.read_bytes())
    raw[place : place + 4096] = bytes(4096)
    path.write_bytes(raw)
    return ALL


def _with_log(change: Callable[[bytearray], bytearray | None], path: Path) -> frozenset[str]:
    source = path.with_name("filled.db.live")
    shutil.copy(source, path)
    shutil.copy(f"{source}.lock", f"{path}.lock")
    log = change(bytearray(Path(f"{source}-wal").read_bytes()))
    if log is not None:
        Path(f"{path}-wal").write_bytes(log)
    return ALL


def _only_log(path: Path) -> frozenset[str]:
    _with_log(lambda raw: raw, path)
    path.unlink()
    return ALL
