"""PostgreSQL's errors in our words: what failed, and what to do about it.

Knows SQLSTATE codes, no statements. Next to read: ``postgres_database.py``, where errors pass by.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import asyncpg
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from perdure.errors import (
    NotADatabase,
    StoreError,
    StoreFull,
    StoreNotWritable,
    StoreUnavailable,
)
from perdure.store.dialect import ServerError
from perdure.store.postgres_address import Address

__all__ = [
    "DRIVER_ERRORS",
    "RETRIED",
    "LostConnection",
    "is_lost",
    "lost",
    "said",
    "sqlstate_of",
    "told",
]

RETRIED = frozenset({"40001", "40P01"})
"""Serialization failure and deadlock: the transaction is rolled back, and may succeed if it is
done again."""

_ENDED = frozenset({"57P01", "57P02", "57P03", "57P05", "25P03"})
"""The server has ended the session, or will have none."""


DRIVER_ERRORS = (
    ServerError,
    OSError,
    SQLAlchemyError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)
"""What comes of a server and its network. Anything else is a mistake in the code."""

_BROKEN = (
    asyncpg.ConnectionDoesNotExistError,
    asyncpg.PostgresConnectionError,
    asyncpg.InternalClientError,
    ConnectionResetError,
    BrokenPipeError,
    TimeoutError,
)


class LostConnection(StoreUnavailable):
    """The connection was lost in the midst of something."""


_UNDO = "nothing was written"
_TOLD: dict[str, tuple[type[StoreError], str]] = {
    "28P01": (StoreUnavailable, "check the user and the password in the URL"),
    "28000": (StoreUnavailable, "check the user in the URL, and the server's pg_hba.conf"),
    "3D000": (StoreUnavailable, "create the database: CREATE DATABASE {database}"),
    "42501": (
        StoreNotWritable,
        "as the owner of the tables, grant what `perdure db check` says is missing",
    ),
    "42P01": (
        NotADatabase,
        "create the tables: perdure db upgrade; or restore the one that is gone",
    ),
    "42703": (NotADatabase, "undo what was changed by hand: `perdure db check` names it"),
    "2200H": (StoreUnavailable, "it has had more owners than there are epochs: use a new schema"),
    "25006": (StoreNotWritable, "give the address of the primary: this is a standby"),
    "40001": (StoreUnavailable, f"{_UNDO}; it was tried several times: see what else writes here"),
    "40P01": (StoreUnavailable, f"{_UNDO}; it was tried several times: see what else writes here"),
    "53100": (StoreFull, "make room on the server's disk; reads go on, and writes will"),
    "53200": (StoreUnavailable, "the server is out of memory: see its log"),
    "53300": (StoreUnavailable, "raise max_connections, or end some that are not needed"),
    "55P03": (StoreUnavailable, "a long transaction holds a row or a table of ours: end it"),
    "57014": (
        StoreUnavailable,
        "the server is overloaded, or a lock is held for long: see its log",
    ),
    "57P01": (StoreUnavailable, "the server is stopping: it is tried again when it is back"),
    "57P02": (StoreUnavailable, "the server has crashed: it is tried again when it is back"),
    "57P03": (StoreUnavailable, "the server is starting or stopping: try again"),
    "25P03": (StoreUnavailable, "this process was stopped or too busy in the midst of a write"),
}


def lost(error: BaseException, address: Address) -> LostConnection:
    """What is said of an error that came with the end of a connection in use."""
    return LostConnection(
        f"lost the connection to {address.shown}: {said(error)}",
        remedy="it is made anew; what was under way is read back",
    )


def told(error: BaseException, address: Address) -> StoreError:
    """The StoreError for one of ``DRIVER_ERRORS``; raise it ``from`` the original.

    One that has lost its connection is a ``LostConnection``.
    """
    where = f"{address.shown}, schema {address.schema!r}"
    if isinstance(error, PoolTimeout):
        return StoreUnavailable(
            f"all connections to {where} are busy",
            remedy="see what takes so long; or allow more connections",
        )
    if state := sqlstate_of(error):
        return _of_state(state, error, where, address)
    for cause in _causes(error):
        if isinstance(cause, OSError):  # TimeoutError and every ConnectionError are
            why = said(cause)
            if address.url.username is None:  # see Address.shown
                why = re.sub(r"', \d+", "', ***", why)
            return StoreUnavailable(
                f"cannot reach {where}: {why}",
                remedy="check the host and the port, and that the server runs; what is special in "
                "a password is percent-encoded",
            )
    return StoreUnavailable(
        f"cannot use {where}: {said(error)}", remedy="see the cause; and check the URL"
    )


def _of_state(state: str, error: BaseException, where: str, address: Address) -> StoreError:
    kind, remedy = _TOLD.get(state, (StoreUnavailable, "see the server's log"))
    if kind is StoreUnavailable and state in _ENDED:
        kind = LostConnection
    what_to_do = remedy.format(database=address.url.database)
    return kind(f"cannot use {where}: {said(error)}", remedy=what_to_do)


def sqlstate_of(error: BaseException) -> str:
    """The code of the server's error that is behind this one, "" if there is none."""
    for cause in _causes(error):
        state = getattr(cause, "sqlstate", None)
        if isinstance(state, str) and state[:2] != "08":
            return state
    return ""


def is_lost(error: BaseException) -> bool:
    """The connection broke while it was used, or was given up because nothing came back."""
    return any(isinstance(cause, _BROKEN) for cause in _causes(error))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        original = getattr(error, "orig", None)
        error = original if isinstance(original, BaseException) else error.__cause__


def said(error: BaseException) -> str:
    """The first line of what is behind an error; SQLAlchemy puts names of classes before it."""
    for cause in _causes(error):
        if type(cause) is asyncpg.InternalClientError:  # it says what it could not do then
            return "the server has ended the session"
        if isinstance(cause, (asyncpg.PostgresError, asyncpg.InterfaceError)):
            error = cause
    return (str(error).splitlines() or [f"{type(error).__name__}, nothing was answered"])[0]
