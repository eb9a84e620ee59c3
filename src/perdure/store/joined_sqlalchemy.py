"""A session or connection of SQLAlchemy, joined: our statements in it, and its commit heard.

``text`` and not the tables of ``postgres_schema.py``: a user's ``schema_translate_map`` must not
reach our statements. Next to read: ``joined.py``, what this is one of; ``own_transaction.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import ARRAY, BigInteger, LargeBinary, Text, TextClause, bindparam, event, text
from sqlalchemy.engine import Connection, Dialect, Engine
from sqlalchemy.exc import DBAPIError, PendingRollbackError
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from perdure.errors import JobError, NotJoinable
from perdure.store.joined import Joined, aborted, is_aborted, no_transaction

__all__ = ["joined_session", "opener_of", "uncommitted"]


def joined_session(transaction: object) -> Joined | None:
    """The same, joined; None if it is neither a session nor a connection of SQLAlchemy.

    Raises ``NotJoinable`` if messages cannot join it.
    """
    if isinstance(transaction, scoped_session):
        transaction = transaction()
    if isinstance(transaction, Connection):
        return _Joined(transaction, None)
    if isinstance(transaction, Session):
        with _statement_of_ours():
            return _Joined(transaction.connection(), transaction)
    return None


@contextmanager
def _statement_of_ours() -> Iterator[None]:
    """Within it no error shows its parameters, which are a message."""
    try:
        yield
    except PendingRollbackError:
        raise aborted() from None
    except DBAPIError as error:
        error.hide_parameters = True
        if is_aborted(error.orig):
            raise aborted() from None
        raise


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
            raise no_transaction()

    @property
    def engine(self) -> Hashable | None:
        return self._connection.engine

    def rows(self, statement: str, **values: Any) -> Sequence[Sequence[Any]]:
        with _statement_of_ours():
            return self._connection.execute(_clause(statement, values), values).all()

    def put(self, statement: str, values: Sequence[Mapping[str, Any]]) -> None:
        with _statement_of_ours():
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


def _clause(statement: str, values: Mapping[str, Any]) -> TextClause:
    return _typed(statement, tuple((name, type(value)) for name, value in values.items()))


@lru_cache
def _typed(statement: str, types: tuple[tuple[str, type], ...]) -> TextClause:
    found = [bindparam(name, type_=_TYPES[kind]) for name, kind in types if kind in _TYPES]
    return text(statement).bindparams(*found)


_TYPES: dict[type, Any] = {bytes: LargeBinary(), int: BigInteger(), list: ARRAY(Text())}


def opener_of(maker: object) -> tuple[Callable[[], Any], bool, Dialect | None] | None:
    """What opens a session or connection, whether that must be awaited, and the dialect.

    None for what is no maker of SQLAlchemy's; no dialect where no engine is known yet.
    """
    if isinstance(maker, (AsyncEngine, Engine)):
        return maker.connect, isinstance(maker, AsyncEngine), maker.dialect
    if isinstance(maker, (async_sessionmaker, sessionmaker)):
        dialect = getattr(maker.kw.get("bind"), "dialect", None)
        return maker, isinstance(maker, async_sessionmaker), dialect
    return None


@contextmanager
def uncommitted(transaction: Any) -> Iterator[None]:
    """Within it nobody commits: a worker that did would part its rows from its result."""
    plain = getattr(transaction, "sync_session", None)
    if plain is None:
        plain = getattr(transaction, "sync_connection", None) or transaction
    what = "commit" if isinstance(plain, Connection) else "before_commit"
    event.listen(plain, what, _refuse)
    try:
        yield
    finally:
        event.remove(plain, what, _refuse)


def _refuse(plain: Any) -> None:
    if isinstance(plain, Connection) or not plain.in_nested_transaction():
        raise JobError(
            "the worker commits its own transaction",
            remedy="return, and it is committed with the worker's result; a savepoint "
            "(begin_nested) may be used within",
        )
