"""The SQL that PostgreSQL is given, made of the same statements as SQLite's.

    text_of(QUEUE_DEPTHS).sql   # SELECT … FROM outbox WHERE outbox.shard = ANY($1) GROUP BY …

Rows that are handed in are one array per column, ``unnest`` together; parameters have numbers; what
lists rows is narrowed to the shards of its store: where an index is walked, one shard after
another. Statements that have to differ altogether are in ``postgres_statements.py``.
Names no schema: each connection's search path does. Next to read: ``postgres_connection.py``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import exists, literal_column
from sqlalchemy.dialects.postgresql import asyncpg
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.expression import ClauseElement

from perdure.store import schema
from perdure.store.read_statements import Query
from perdure.store.shards import SHARD_SQL
from perdure.store.statements import ManyRows, Own, Statement, clause_of, given, given_rows

__all__ = [
    "OWN",
    "Fill",
    "Text",
    "arrays",
    "as_text",
    "numbered",
    "query_text",
    "shard_of_key",
    "text_of",
]

OWN, _SHARD, _SHARDS, _LIMIT = "__own__", "__shard__", "__shards__", "__limit__"
_ROWS = str(given_rows)
_TOKEN = re.compile(rf"\?|{re.escape(_ROWS)}|{_LIMIT}")
_DIALECT = asyncpg.dialect()  # type: ignore[no-untyped-call]
_TYPES = {"t": "text[]", "b": "bytea[]", "n": "bigint[]"}


@dataclass(frozen=True, slots=True)
class Fill:
    """What a connection fills in: the shards it lists, the one it writes, how many there are."""

    own: Sequence[int]
    shard: int | None
    shards: int


@dataclass(frozen=True, slots=True)
class Text:
    """A statement, how many columns its rows have that are handed in, and what of a ``Fill`` comes
    after its parameters."""

    sql: str
    width: int = 0
    fills: tuple[str, ...] = ()

    def values(self, given: list[Any], fill: Fill) -> list[Any]:
        """The statement's parameters."""
        for each in self.fills:
            given.append(fill.own if each == OWN else fill.shard if each == _SHARD else fill.shards)
        return given


def arrays(values: list[Any], width: int) -> list[list[Any]]:
    """Rows handed in flat, as columns."""
    return [values[column::width] for column in range(width)]


def numbered(sql: str, kinds: str = "") -> Text:
    """The text with its parameters numbered in the order in which they come."""
    number = 0
    rows = ""

    def place(found: re.Match[str]) -> str:
        nonlocal number, rows
        if found[0] == _LIMIT:  # it is the last one
            return f"${number}"
        if found[0] == "?":
            number += 1
            return f"${number}"
        if not rows:
            columns = [f"${number + n}::{_TYPES[kind]}" for n, kind in enumerate(kinds, 1)]
            names = ", ".join(f"column{n}" for n in range(1, len(kinds) + 1))
            rows = f"unnest({', '.join(columns)}) AS given({names})"
            number += len(kinds)
        return rows

    sql = _TOKEN.sub(place, sql)
    fills = []
    for token, type_ in ((OWN, "smallint[]"), (_SHARD, "smallint"), (_SHARDS, "int")):
        if token in sql:
            number += 1
            sql = sql.replace(token, f"${number}::{type_}")
            fills.append(token)
    return Text(sql, len(kinds), tuple(fills))


def _any_of_own(table: str) -> tuple[ColumnElement[bool], ...]:
    if table == schema.lookups.name:
        heads = schema.instances
        is_own: ColumnElement[bool] = literal_column(f"instances.shard = ANY({OWN})")
        return (exists().where(heads.c.instance == schema.lookups.c.instance, is_own),)
    return (literal_column(f"{table}.shard = ANY({OWN})"),)


def _this_one(table: str) -> tuple[ColumnElement[bool], ...]:
    return (literal_column(f"{table}.shard = own.shard"),)


def as_text(clause: ClauseElement) -> str:
    """The statement as PostgreSQL's SQL, its parameters not yet numbered."""
    return str(clause.compile(dialect=_DIALECT, compile_kwargs={"literal_binds": True}))


@cache
def text_of(statement: Statement | ManyRows) -> Text:
    """A statement for PostgreSQL."""
    if isinstance(statement, ManyRows):
        return numbered(as_text(clause_of(statement.sql.made, _any_of_own)), statement.kinds)
    return numbered(as_text(clause_of(statement.made, _any_of_own)))


@cache
def query_text(query: Query) -> Text:
    """A query whose rows are asked, position, the key columns, checksum, body.

    Where an index is walked, each shard gives as many rows as are wanted, in order; the first ones
    of these are the first ones of all.
    """
    kind = query.kind
    own: Own = _this_one if query.walked else _any_of_own
    asked: Any = given(query.width) if query.width else literal_column("0")
    rows = as_text(clause_of(query.made, own).add_columns(asked.label("asked")))
    columns = ", ".join(
        [
            "found.asked",
            "found.position" if kind.has_position else "0",
            *(f"found.{name}" for name in kind.columns),
            "found.checksum",
            "found.body" if kind.has_body else "''::bytea",
        ]
    )
    if not query.walked:
        return numbered(f"SELECT {columns} FROM ({rows}) AS found", query.kinds)
    order = ", ".join(f"found.{name}" for name in query.walked)
    return numbered(
        f"SELECT {columns} FROM unnest({OWN}) AS own(shard) CROSS JOIN LATERAL ({rows}) AS found"
        f" ORDER BY {order} LIMIT {_LIMIT}"
    )


def shard_of_key(key: str) -> ColumnElement[int]:
    """The shard into which a row goes: the connection's own, or that of the key."""
    own_one = SHARD_SQL.format(key=key, shards=_SHARDS)
    return literal_column(f"coalesce({_SHARD}, {own_one})")
