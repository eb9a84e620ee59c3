"""Somebody else's transaction, and our statements in it: SQLAlchemy's sessions and connections.

    await in_transaction(session, put, rows)        # put(joined, rows) runs within the session

Nothing here begins, commits or rolls back: that is the user's. ``text`` and not the tables of
``postgres_schema.py``: a user's ``schema_translate_map`` must not reach our statements.
Knows no message and no table. Next to read: ``posting.py``; ``own_transaction.py``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeAlias, TypeVar
from weakref import WeakKeyDictionary

from sqlalchemy import ARRAY, BigInteger, LargeBinary, Text, TextClause, bindparam, event, text
from sqlalchemy.engine import Connection

from perdure.errors import NotJoinable

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
    from sqlalchemy.orm import Session

__all__ = ["Joined", "Transaction", "in_transaction", "joined_to"]

P = ParamSpec("P")
T = TypeVar("T")

Transaction: TypeAlias = "AsyncSession | AsyncConnection | Session | Connection"
"""What a user's transaction may be given as."""

WANTED = "an AsyncSession, AsyncConnection, Session or Connection of SQLAlchemy"

_NAMED = re.compile(r"(?<![:\w]):([a-z_]+)")


class Joined(Protocol):
    """A transaction that is not ours. Whatever it raises is its driver's, or SQLAlchemy's."""

    @property
    def engine(self) -> Hashable | None:
        """What is the same for all transactions of one database and user; None: not known."""
        ...

    def rows(self, statement: str, **values: Any) -> Sequence[Sequence[Any]]:
        """The rows that a statement with ``:name`` parameters gives."""
        ...

    def put(self, statement: str, values: Sequence[Mapping[str, Any]]) -> None:
        """Run a statement for each of these, in their order."""
        ...

    def flush(self) -> None:
        """Send the changed objects of a session, if it is one."""
        ...

    def on_commit(self, hear: Callable[[Callable[[], bool]], None]) -> None:
        """Call ``hear(is_done)`` once when it is being committed; not if it is rolled back."""
        ...


async def in_transaction(
    transaction: Any,
    function: Callable[Concatenate[Joined, P], T],
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    """Call ``function(joined, …)`` within an asynchronous transaction, or a plain one.

    Raises ``NotJoinable`` for anything else, and for one that commits each statement by itself.
    """

    def call(plain: Any) -> T:
        return function(joined_to(plain), *args, **kwargs)

    if callable(getattr(transaction, "run_sync", None)):
        found: T = await transaction.run_sync(call)
        return found
    if _is_asynchronous(transaction):  # the session within an AsyncSession, out of its run_sync
        from sqlalchemy.util.concurrency import greenlet_spawn

        found = await greenlet_spawn(call, transaction)
        return found
    return call(transaction)


def joined_to(transaction: Any) -> Joined:
    """A plain transaction: a ``Session``, a ``Connection``, or a driver's own connection.

    Raises ``NotJoinable``.
    """
    if isinstance(transaction, Connection):
        return _Joined(transaction, None)
    if callable(getattr(transaction, "get_bind", None)) and callable(
        getattr(transaction, "connection", None)
    ):
        return _Joined(transaction.connection(), transaction)
    if callable(getattr(transaction, "cursor", None)):
        return _Driven(transaction)
    raise NotJoinable(
        f"{_named(transaction)} is no transaction that a message can join",
        remedy=f"give {WANTED}",
    )


class _Joined:
    """One of SQLAlchemy's. The session's own objects are not flushed by what happens here."""

    def __init__(self, connection: Connection, session: Any) -> None:
        self._connection = connection
        self._session = session
        if connection.dialect.name != "postgresql":
            raise NotJoinable(
                f"the transaction is one of {connection.dialect.name}, and messages are in "
                "PostgreSQL",
                remedy="give a session or connection of the store's own database",
            )
        if getattr(connection.connection.dbapi_connection, "autocommit", False):
            raise _no_transaction()

    @property
    def engine(self) -> Hashable | None:
        return self._connection.engine

    def rows(self, statement: str, **values: Any) -> Sequence[Sequence[Any]]:
        return self._connection.execute(_clause(statement, values), values).all()

    def put(self, statement: str, values: Sequence[Mapping[str, Any]]) -> None:
        self._connection.execute(_clause(statement, values[0]), list(values))

    def flush(self) -> None:
        if self._session is not None:
            self._session.flush()

    def on_commit(self, hear: Callable[[Callable[[], bool]], None]) -> None:
        whose = self._connection if self._session is None else self._session
        ear = _ears.get(whose)
        if ear is None:
            ear = _ears[whose] = _Ear(whose)
        ear.hears.append(hear)


class _Ear:
    """Hears that the outermost transaction of a session or connection was committed, or not."""

    def __init__(self, whose: Any) -> None:
        self.hears: list[Callable[[Callable[[], bool]], None]] = []
        if isinstance(whose, Connection):
            event.listen(whose, "commit", self._committing)
            event.listen(whose, "rollback", self._rolled_back)
        else:
            event.listen(whose, "after_commit", self._committed)
            event.listen(whose, "after_rollback", self._rolled_back)

    def _committing(self, connection: Connection) -> None:
        transaction = connection.get_transaction()  # its COMMIT is yet to be sent
        self._tell(lambda: transaction is None or not transaction.is_active)

    def _committed(self, session: Any) -> None:
        if not session.in_nested_transaction():
            self._tell(lambda: True)

    def _tell(self, is_done: Callable[[], bool]) -> None:
        hears, self.hears = self.hears, []
        for hear in hears:
            hear(is_done)

    def _rolled_back(self, whose: Any) -> None:
        if not whose.in_nested_transaction():
            self.hears.clear()


_ears: WeakKeyDictionary[Any, _Ear] = WeakKeyDictionary()


class _Driven:
    """A connection of psycopg's, or Django's, whose statements take ``%(name)s``."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        if getattr(connection, "autocommit", False) and not _is_within(connection):
            raise _no_transaction()

    @property
    def engine(self) -> Hashable | None:
        return None

    def rows(self, statement: str, **values: Any) -> Sequence[Sequence[Any]]:
        with self._connection.cursor() as cursor:
            cursor.execute(_NAMED.sub(r"%(\1)s", statement), values)
            found: Sequence[Sequence[Any]] = cursor.fetchall()
            return found

    def put(self, statement: str, values: Sequence[Mapping[str, Any]]) -> None:
        with self._connection.cursor() as cursor:
            for each in values:
                cursor.execute(_NAMED.sub(r"%(\1)s", statement), each)

    def flush(self) -> None:
        """It has nothing that was not sent."""

    def on_commit(self, hear: Callable[[Callable[[], bool]], None]) -> None:
        """Nobody says; polling finds what was put."""


def _clause(statement: str, values: Mapping[str, Any]) -> TextClause:
    return text(statement).bindparams(
        *(
            bindparam(name, type_=_TYPES[type(value)])
            for name, value in values.items()
            if type(value) in _TYPES
        )
    )


_TYPES: dict[type, Any] = {bytes: LargeBinary(), int: BigInteger(), list: ARRAY(Text())}


def _is_asynchronous(transaction: Any) -> bool:
    """Its driver can only be awaited."""
    bind = getattr(transaction, "bind", None) or getattr(transaction, "engine", None)
    return bool(getattr(getattr(bind, "dialect", None), "is_async", False))


def _is_within(connection: Any) -> bool:
    """A transaction was begun by hand on a connection of psycopg that else commits by itself."""
    status = getattr(getattr(connection, "info", None), "transaction_status", 0)
    return bool(status)


def _no_transaction() -> NotJoinable:
    return NotJoinable(
        "the connection commits each statement by itself: there is no transaction to join",
        remedy="begin one: without AUTOCOMMIT, or within transaction.atomic()",
    )


def _named(thing: object) -> str:
    return f"a {type(thing).__name__}" if thing is not None else "None"
