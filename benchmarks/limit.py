"""The limits: what plain sqlite3 does with the same disk, one thread, and no perdure.

The journal is reduced to one row per turn. Durability is the same: WAL, synchronous=FULL, one sync
per commit. Next to read: ``load.py``, the other side of each comparison.
"""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeAlias

import msgpack

from benchmarks.measure import Bench, stopwatch

__all__ = ["ROWS_PER_COMMIT", "batched_rows", "made_rows", "one_by_one_reads", "one_row_commits"]

ROWS_PER_COMMIT = 500
BODY_BYTES = 250

_CREATE = """CREATE TABLE journal (
    position INTEGER PRIMARY KEY, instance TEXT NOT NULL, sequence_nr INTEGER NOT NULL,
    message_id TEXT NOT NULL, body BLOB NOT NULL, checksum INTEGER NOT NULL,
    UNIQUE (instance, sequence_nr))"""
_INSERT = (
    "INSERT INTO journal (instance, sequence_nr, message_id, body, checksum) VALUES (?, ?, ?, ?, ?)"
)
_SNAPSHOT = (
    "SELECT sequence_nr, body FROM snapshots WHERE instance = ? ORDER BY sequence_nr DESC LIMIT 1"
)
_TAIL = (
    "SELECT sequence_nr, message_id, body FROM journal "
    "WHERE instance = ? AND sequence_nr > ? ORDER BY sequence_nr"
)

Row: TypeAlias = tuple[str, int, str, bytes, int]


def batched_rows(bench: Bench, rows: int, instances: int) -> dict[str, float]:
    """Rows per second in commits of 500; the rows are made beforehand."""
    made = list(made_rows(rows, instances))
    groups = [made[at : at + ROWS_PER_COMMIT] for at in range(0, rows, ROWS_PER_COMMIT)]
    with _journal(bench) as connection, stopwatch() as watch:
        for group in groups:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(_INSERT, group)
            connection.execute("COMMIT")
    return {"limit": watch.rate(rows), "limit cpu": watch.cpu_us(rows)}


@contextmanager
def one_row_commits(bench: Bench, most: int) -> Iterator[Callable[[], float]]:
    """A function that commits one row, and answers with the seconds that took; ``most`` times."""
    rows = made_rows(most, 1)
    with _journal(bench) as connection:

        def commit() -> float:
            row = next(rows)
            started = time.perf_counter()
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(_INSERT, row)
            connection.execute("COMMIT")
            return time.perf_counter() - started

        yield commit


def one_by_one_reads(path: Path, keys: Sequence[str], name: str) -> dict[str, float]:
    """Instances per second: newest snapshot, the rows after it, each unpacked, nothing checked."""
    ordered = random.Random(1).sample(keys, len(keys))
    with closing(sqlite3.connect(path)) as connection, stopwatch() as watch:
        for key in ordered:
            found = connection.execute(_SNAPSHOT, (key,)).fetchone()
            if found is not None:
                msgpack.unpackb(found[1])
            base = 0 if found is None else found[0]
            for row in connection.execute(_TAIL, (key, base)).fetchall():
                msgpack.unpackb(row[2])
    return {name: watch.rate(len(keys))}


@contextmanager
def _journal(bench: Bench) -> Iterator[sqlite3.Connection]:
    with bench.fresh() as path, closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(_CREATE)
        yield connection


def made_rows(count: int, instances: int) -> Iterator[Row]:
    """Rows as a journal has them: one after another of all instances, then their next ones."""
    body = random.Random(0).randbytes(BODY_BYTES)
    for number in range(count):
        turn, instance = divmod(number, instances)
        key = f"Order/o-{instance:06}"
        yield key, turn + 1, f"{key}-{turn + 1}", body, 0xDEAD_BEEF
