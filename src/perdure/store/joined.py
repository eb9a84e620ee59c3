"""Somebody else's transaction, and our statements in it.

    await in_transaction(session, put, rows)        # put(joined, rows) runs within the session

Nothing here begins, commits or rolls back: that is the user's. SQLAlchemy is not imported before
somebody has it. Knows no message and no table. Next to read: ``joined_sqlalchemy.py``, its sessions
and connections; ``posting.py``; ``own_transaction.py``.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeAlias, TypeVar

from perdure.errors import NotJoinable
from perdure.store.beside import Asked

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
    from sqlalchemy.orm import Session

__all__ = [
    "Joined",
    "PlainTransaction",
    "Transaction",
    "aborted",
    "in_transaction",
    "is_aborted",
    "joined_to",
    "no_transaction",
]

P = ParamSpec("P")
T = TypeVar("T")

Transaction: TypeAlias = "AsyncSession | AsyncConnection | Session | Connection"
"""What a user's transaction may be given as."""

PlainTransaction: TypeAlias = "Session | Connection | Any"
"""Without a loop: a session or connection of SQLAlchemy, or a connection of psycopg's or Django's.
"""

WANTED = "an AsyncSession, AsyncConnection, Session or Connection of SQLAlchemy"

_ABORTED = "25P02"
_STATES = ("sqlstate", "pgcode")

_NAMED = re.compile(r"(?<![:\w]):([a-z_]+)")


class Joined(Asked, Protocol):
    """A transaction that is not ours. Whatever it raises is its driver's, or SQLAlchemy's."""

    @property
    def engine(self) -> Hashable | None:
        """What is the same for all transactions of one database and user; None: not known."""
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

    if isinstance(transaction, type):
        return call(transaction)  # which says what is wrong with it
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
    if "sqlalchemy" in sys.modules:
        from perdure.store.joined_sqlalchemy import joined_session

        if (joined := joined_session(transaction)) is not None:
            return joined
    if callable(getattr(transaction, "cursor", None)) and not isinstance(transaction, type):
        return _Driven(transaction)
    if callable(getattr(transaction, "run_sync", None)) and not isinstance(transaction, type):
        raise NotJoinable(
            f"{_named(transaction)} must be awaited",
            remedy="within it: await session.run_sync(lambda plain: …(transaction=plain))",
        )
    raise NotJoinable(
        f"{_named(transaction)} is no transaction that a message can join",
        remedy=f"give {WANTED}",
    )


class _Driven:
    """A connection of psycopg's, or Django's, whose statements take ``%(name)s``."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        if getattr(connection, "autocommit", False) and not _is_within(connection):
            raise no_transaction()

    @property
    def engine(self) -> Hashable | None:
        return None

    def rows(self, statement: str, **values: Any) -> Sequence[Sequence[Any]]:
        with _refusing_aborted(), self._connection.cursor() as cursor:
            cursor.execute(_NAMED.sub(r"%(\1)s", statement), values)
            found: Sequence[Sequence[Any]] = cursor.fetchall()
            return found

    def put(self, statement: str, values: Sequence[Mapping[str, Any]]) -> None:
        with _refusing_aborted(), self._connection.cursor() as cursor:
            for each in values:
                cursor.execute(_NAMED.sub(r"%(\1)s", statement), each)

    def flush(self) -> None:
        """It has nothing that was not sent."""

    def on_commit(self, hear: Callable[[Callable[[], bool]], None]) -> None:
        """Nobody says; polling finds what was put."""


def _is_asynchronous(transaction: Any) -> bool:
    """Its driver can only be awaited."""
    bind = getattr(transaction, "bind", None) or getattr(transaction, "engine", None)
    return bool(getattr(getattr(bind, "dialect", None), "is_async", False))


def _is_within(connection: Any) -> bool:
    """A transaction was begun by hand on a connection of psycopg that else commits by itself."""
    status = getattr(getattr(connection, "info", None), "transaction_status", 0)
    return bool(status)


def no_transaction() -> NotJoinable:
    """The error for a connection on which nothing can be rolled back."""
    return NotJoinable(
        "the connection commits each statement by itself: there is no transaction to join",
        remedy="begin one: without AUTOCOMMIT, or within transaction.atomic()",
    )


def aborted() -> NotJoinable:
    """The error for a transaction in which a statement has failed."""
    return NotJoinable(
        "the transaction is aborted: a statement in it has failed, and it can only be rolled back",
        remedy="roll it back first, or to a savepoint from before; then send again",
    )


def is_aborted(error: object) -> bool:
    """A driver's error says that its transaction is."""
    causes = (error, getattr(error, "__cause__", None))  # Django's has psycopg's behind it
    return _ABORTED in [getattr(each, name, "") for each in causes for name in _STATES]


@contextmanager
def _refusing_aborted() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if is_aborted(error):
            raise aborted() from None
        raise


def _named(thing: object) -> str:
    return f"a {type(thing).__name__}" if thing is not None else "None"
