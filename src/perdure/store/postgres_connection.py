"""A connection to PostgreSQL as the SQL store's functions use it: synchronous, in a greenlet.

    await greenlet_spawn(load_instances, PostgresConnection(raw, fill), ["Order/o-1"])

Each call waits for asyncpg there, while the loop goes on. What asyncpg raises becomes one of the
two errors that those functions know; its own stays the cause.
Next to read: ``postgres_database.py``, which has the connections.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import asyncpg
from sqlalchemy.util.concurrency import await_only

from perdure.store.dialect import RowRefused, ServerError
from perdure.store.postgres_copy import Copy, copy_for
from perdure.store.postgres_statements import text_for
from perdure.store.postgres_texts import Fill, arrays
from perdure.store.read_statements import Query
from perdure.store.statements import ManyRows, Statement

__all__ = ["PostgresConnection"]

ROW_CLASSES = ("22", "23", "54")
"""Of errors that a value causes: it is none, it breaks a constraint, it is too large."""

_NO_CHARACTER = "22021"

_ERRORS = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # the server has ended the session between two statements
    OSError,
)


class PostgresConnection:
    """Implements ``dialect.ServerConnection`` over a connection of asyncpg's."""

    __slots__ = ("_fill", "raw", "shard", "shards", "shards_in_all")

    def __init__(self, raw: Any, fill: Fill) -> None:
        self.raw = raw
        self._fill = fill
        self.shards = fill.own
        self.shard = fill.shard
        self.shards_in_all = fill.shards

    def narrowed(self, shard: int) -> PostgresConnection:
        """The same connection, for one shard alone."""
        return PostgresConnection(self.raw, Fill([shard], shard, self.shards_in_all))

    @property
    def in_transaction(self) -> bool:
        """A transaction is under way, or was when the connection was lost."""
        return bool(self.raw.is_in_transaction())

    def execute(self, sql: str, values: Sequence[Any] = (), /) -> Answer:
        """Run one statement: one of ours, or a command of PostgreSQL's without parameters."""
        if isinstance(sql, Statement):
            text = text_for(sql)
            return Answer(self._fetch(text.sql, text.values(list(values), self._fill)))
        if values:
            return Answer(self._fetch(sql, values))
        self._command(sql)
        return _NOTHING

    def execute_many(
        self, statement: ManyRows, values: list[Any], leading: Sequence[Any]
    ) -> list[Any]:
        """Run one statement over rows, handed in flat."""
        if (copy := copy_for(statement, len(values) // statement.width)) is not None:
            self._copy(copy, values)
            return []
        text = text_for(statement)
        given = [*leading, *arrays(values, text.width)]
        return self._fetch(text.sql, text.values(given, self._fill))

    def execute_query(self, query: Query, values: list[Any]) -> list[Any]:
        """The rows of a query: asked, position, the key columns, checksum, body."""
        text = text_for(query)
        given = arrays(values, text.width) if text.width else list(values)
        return self._fetch(text.sql, text.values(given, self._fill))

    def _fetch(self, sql: str, values: Sequence[Any]) -> list[Any]:
        try:
            rows: list[Any] = await_only(self.raw.fetch(sql, *values))
        except _ERRORS as error:
            raise _told(error) from error
        return rows

    def _copy(self, copy: Copy, values: list[Any]) -> None:
        rows = copy.rows(values, self._fill)
        try:
            await_only(
                self.raw.copy_records_to_table(copy.table, columns=copy.columns, records=rows)
            )
        except _ERRORS as error:
            raise _told(error) from error

    def _command(self, sql: str) -> None:
        try:
            done = await_only(self.raw.execute(sql))
        except _ERRORS as error:
            raise _told(error) from error
        if sql == "COMMIT" and done != sql:  # a transaction that has failed is rolled back instead
            raise ServerError(f"COMMIT was answered with {done}")


def _told(error: Exception) -> ServerError:
    state = getattr(error, "sqlstate", None) or ""
    if state == _NO_CHARACTER and "0x00" in str(error):
        return RowRefused("PostgreSQL keeps no text with a NUL character")
    is_about_a_row = isinstance(error, ValueError) or state[:2] in ROW_CLASSES
    return RowRefused(str(error)) if is_about_a_row else ServerError(str(error))


class Answer:
    """The rows that a statement found."""

    __slots__ = ("_rows",)

    def __init__(self, rows: list[Any]) -> None:
        self._rows = rows

    def fetchall(self) -> list[Any]:
        """All rows."""
        return self._rows

    def fetchone(self) -> Any:
        """The first row, None if there is none."""
        return self._rows[0] if self._rows else None

    def __iter__(self) -> Iterator[Any]:
        return iter(self._rows)


_NOTHING = Answer([])
