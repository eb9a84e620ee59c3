"""SQLite and PostgreSQL: where the one SQL store has to know on which of the two it is.

Its functions are synchronous and run over a connection: on SQLite that is the driver's own, on
PostgreSQL a ``ServerConnection``, whose calls wait for the server in a greenlet. What differs
between the two, and is no statement, is here.
Knows no tables. Next to read: ``statements.py``; then ``postgres_connection.py``.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from perdure.store.shards import shard_of

if TYPE_CHECKING:
    from perdure.store.read_statements import Query
    from perdure.store.statements import ManyRows

__all__ = [
    "ENTRY_FAULTS",
    "RowRefused",
    "ServerConnection",
    "ServerError",
    "SqlConnection",
    "TallyKey",
    "begin_reading",
    "begin_writing",
    "highest_value",
    "narrowed",
    "remains_of_text",
    "roll_back",
    "run_many",
    "tally_key",
    "tally_keys",
]

TallyKey: TypeAlias = tuple[Any, ...]
"""What names a tally: the saga; on PostgreSQL, the saga and a shard."""


class ServerError(Exception):
    """The server refused a statement, or is not there any more; the cause says which."""


class RowRefused(ServerError):
    """The server refused a statement for what is in one of its rows."""


ENTRY_FAULTS = (
    RowRefused,
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    AttributeError,
    TypeError,
    ValueError,
    OverflowError,
)
"""What a single entry can do wrong: break a constraint, be too large, be no value of a column."""


class Rows(Protocol):
    """What a statement answered."""

    def fetchall(self) -> list[Any]: ...

    def fetchone(self) -> Any: ...

    def __iter__(self) -> Iterator[Any]: ...


class ServerConnection(Protocol):
    """A connection to PostgreSQL, used inside a greenlet.

    ``shards`` are those whose rows it lists; ``shard`` is the one into which it writes, None for
    each row's own; ``shards_in_all`` is how many the database has.
    """

    shards: Sequence[int]
    shard: int | None
    shards_in_all: int

    @property
    def in_transaction(self) -> bool: ...

    def execute(self, sql: str, values: Sequence[Any] = (), /) -> Rows: ...

    def execute_many(
        self, statement: ManyRows, values: list[Any], leading: Sequence[Any]
    ) -> list[Any]: ...

    def execute_query(self, query: Query, values: list[Any]) -> list[Any]: ...

    def narrowed(self, shard: int) -> ServerConnection: ...


SqlConnection: TypeAlias = sqlite3.Connection | ServerConnection


def begin_writing(connection: SqlConnection) -> None:
    """Begin a transaction; on SQLite, as the only one that writes."""
    is_file = isinstance(connection, sqlite3.Connection)
    connection.execute("BEGIN IMMEDIATE" if is_file else "BEGIN")


def begin_reading(connection: SqlConnection) -> None:
    """Begin a transaction in which all reads see one moment."""
    is_file = isinstance(connection, sqlite3.Connection)
    connection.execute("BEGIN" if is_file else "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")


def roll_back(connection: SqlConnection) -> None:
    """End the transaction, if the database has not done so itself."""
    with suppress(sqlite3.Error, ServerError):
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def run_many(
    connection: SqlConnection, statement: ManyRows, values: list[Any], *leading: Any
) -> list[Any]:
    """Run a statement over rows, handed in flat; what it finds.

    ``leading`` are the statement's other parameters: then it is run also over no rows at all.
    """
    if not isinstance(connection, sqlite3.Connection):
        return connection.execute_many(statement, values, leading) if values or leading else []
    if leading and not values:
        values = [None] * statement.width
    found: list[Any] = []
    for sql, filled in statement.rounds(values):
        found += connection.execute(sql, [*leading, *filled] if leading else filled).fetchall()
    return found


def _text_or_remains(stored: bytes) -> str:
    return stored.decode("utf-8", "surrogateescape")


@contextmanager
def remains_of_text(
    connection: SqlConnection, read: Callable[[bytes], Any] = _text_or_remains
) -> Iterator[None]:
    """Read texts also if they are none any more. PostgreSQL has no such."""
    if not isinstance(connection, sqlite3.Connection):
        yield
        return
    connection.text_factory = read
    try:
        yield
    finally:
        connection.text_factory = str


def highest_value(connection: SqlConnection) -> Any:
    """What comes after all index keys; in a file, also after texts that are none any more."""
    return b"" if isinstance(connection, sqlite3.Connection) else "\U0010ffff"


def tally_key(connection: SqlConnection, saga: str, instance: str) -> TallyKey:
    """Which tally counts an instance. On PostgreSQL each shard has one, for its owner to write."""
    if isinstance(connection, sqlite3.Connection):
        return (saga,)
    if connection.shard is not None:
        return (saga, connection.shard)
    return (saga, shard_of(instance, connection.shards_in_all))


def tally_keys(connection: SqlConnection, saga: str) -> list[TallyKey]:
    """All tallies of a saga that this connection writes."""
    if isinstance(connection, sqlite3.Connection):
        return [(saga,)]
    return [(saga, shard) for shard in connection.shards]


def narrowed(connection: SqlConnection, key: TallyKey) -> SqlConnection:
    """The connection, for the instances alone that a tally counts."""
    if isinstance(connection, sqlite3.Connection):
        return connection
    return connection.narrowed(key[1])
