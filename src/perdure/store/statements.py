"""How SQL is made here: written with SQLAlchemy Core, compiled once to text, spread over rows.

sqlite3 gives up Python's lock and takes it back for every row it steps through, and while another
thread is busy that costs milliseconds each time. So a statement takes all its rows at once: the
given rows are one table of values, filled up with NULLs to one of a few sizes, so that few texts
exist and all of them stay prepared. PostgreSQL is given the same rows as one array per column, and
its texts are made where they are run (``postgres_texts.py``).
Knows no tables. Next to read: ``write_statements.py`` and ``read_statements.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, TypeAlias

from sqlalchemy import LargeBinary, Text, literal_column, text
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql.elements import ColumnClause, ColumnElement
from sqlalchemy.sql.expression import ClauseElement

__all__ = [
    "PARAMETER",
    "Made",
    "ManyRows",
    "Own",
    "Statement",
    "clause_of",
    "compiled",
    "given",
    "given_rows",
    "in_a_file",
    "kinds_of",
    "spread",
]

VARIABLES_MAX = 32_766
"""SQLite's default limit of parameters in one statement."""

PARAMETER: ColumnClause[Any] = literal_column("?")

_ROWS = "__rows__"
_DIALECT = sqlite.dialect(paramstyle="qmark")

given_rows = text(f"(VALUES {_ROWS}) AS given")
"""The rows handed in, as a table with the columns ``given(1)``, ``given(2)``, …"""

Own: TypeAlias = Callable[[str], tuple[ColumnElement[bool], ...]]
"""What narrows a table, by its name, to the rows of its store's shards: in a file, nothing does."""

Made: TypeAlias = ClauseElement | Callable[[Own], Any]
"""A statement, or what makes it of the condition that narrows it."""


def in_a_file(_: str) -> tuple[ColumnElement[bool], ...]:
    """Nothing narrows a table: all its rows are the owner's."""
    return ()


def clause_of(made: Made, own: Own) -> Any:
    """The statement itself."""
    return made if isinstance(made, ClauseElement) else made(own)


def given(number: int) -> ColumnClause[Any]:
    """A column of the rows handed in, from 1 on."""
    return literal_column(f"given.column{number}")


class Statement(str):
    """SQLite's text of a statement, and in ``made`` what PostgreSQL's is made of."""

    __slots__ = ("made",)

    made: Made


def compiled(made: Made) -> Statement:
    """The statement as SQLite's SQL; literal values are written out."""
    clause = clause_of(made, in_a_file)
    statement = Statement(clause.compile(dialect=_DIALECT, compile_kwargs={"literal_binds": True}))
    statement.made = made
    return statement


def kinds_of(columns: Iterator[Any] | list[Any]) -> str:
    """A letter for the type of each column: t for text, b for bytes, n for a number."""
    return "".join(
        "b" if isinstance(each.type, LargeBinary) else "t" if isinstance(each.type, Text) else "n"
        for each in columns
    )


def spread(sql: str, width: int, values: list[Any]) -> tuple[str, list[Any]]:
    """The statement for these rows, handed in flat, and the values filled up to its size."""
    size = _size_for(len(values) // width)
    missing = size * width - len(values)
    return _spread_text(sql, width, size), values + [None] * missing if missing else values


class ManyRows:
    """A statement over any number of rows.

    >>> list(ManyRows(select(given(1)).select_from(given_rows), "t").rounds(["Order/o-1"]))
    [('SELECT given.column1 \\nFROM (VALUES (?)) AS given', ['Order/o-1'])]

    ``kinds`` has a letter for the type of each given column, see ``kinds_of``. The statement must
    pass over rows that are all NULL.
    """

    def __init__(self, statement: Made, kinds: str) -> None:
        self.sql = compiled(statement)
        self.kinds = kinds
        self.width = width = len(kinds)
        rows = VARIABLES_MAX // width - 1  # one row's room is left for leading parameters
        self._values_max = width << (rows.bit_length() - 1)

    def rounds(self, values: list[Any]) -> Iterator[tuple[str, list[Any]]]:
        """The statements to run, nearly always one, each with its values."""
        if len(values) <= self._values_max:
            if values:
                yield spread(self.sql, self.width, values)
            return
        for start in range(0, len(values), self._values_max):
            yield spread(self.sql, self.width, values[start : start + self._values_max])


def _size_for(rows: int) -> int:
    """The next of 1, 2, 3, 4, 6, 8, 12, 16, …: at most half as much again, and few sizes."""
    power = 1 << (rows - 1).bit_length()
    between = power * 3 // 4
    return between if power >= 4 and rows <= between else power


@cache
def _spread_text(sql: str, width: int, size: int) -> str:
    return sql.replace(_ROWS, ",".join([f"({','.join('?' * width)})"] * size))
