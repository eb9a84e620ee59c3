"""Positions that SQLite gives out: one that is damaged must not be the last there can be.

SQLite gives a new row the number after the highest that a table has had, and none at all after the
largest number: a single flipped bit would end every write of a message or dead letter, as if the
disk were full. Their checksums leave the position out, so a damaged one is mended, not refused.
Synchronous for the reason given in ``sql_write.py``. Next to read: ``schema.py``.
"""

from __future__ import annotations

import logging
import sqlite3

from perdure.store.schema import dead_letters, inbox

__all__ = ["mend_positions"]

logger = logging.getLogger("perdure.store")

POSITION_MAX = 2**62
"""No table has ever had so many rows: what is above was not given out."""

_TABLES = (inbox.name, dead_letters.name)


def mend_positions(connection: sqlite3.Connection) -> None:
    """Put rows whose positions cannot be behind all others, and go on counting from there."""
    for table in _TABLES:
        (given,) = connection.execute(
            "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = ?", [table]
        ).fetchone()
        damaged = connection.execute(
            f"SELECT position FROM {table} WHERE position > ? ORDER BY position", [POSITION_MAX]
        ).fetchall()
        if damaged or _is_damaged(given):
            _mend(connection, table, 0 if _is_damaged(given) else given, damaged)


def _is_damaged(given: object) -> bool:
    """It is not the number of a row that there was."""
    return not isinstance(given, int) or given > POSITION_MAX


def _mend(
    connection: sqlite3.Connection, table: str, given: int, damaged: list[tuple[int]]
) -> None:
    (highest,) = connection.execute(
        f"SELECT coalesce(max(position), 0) FROM {table} WHERE position <= ?", [POSITION_MAX]
    ).fetchone()
    last = max(given, highest)
    for position, (found,) in enumerate(damaged, last + 1):
        connection.execute(f"UPDATE {table} SET position = ? WHERE position = ?", [position, found])
    connection.execute(
        "UPDATE sqlite_sequence SET seq = ? WHERE name = ?", [last + len(damaged), table]
    )
    logger.error(
        "positions in the table %s are damaged: %d rows are behind all others now, and their order "
        "may be another",
        table, len(damaged),
    )  # fmt: skip
