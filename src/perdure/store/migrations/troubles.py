"""What the server refuses to whoever migrates, in our words.

Knows the codes of SQL's errors. Next to read: ``running.py``.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy.exc import DBAPIError

from perdure.errors import StoreError, StoreNotWritable, StoreUnavailable
from perdure.store.postgres_address import Address

__all__ = ["told"]

_RIGHTS = (
    "connect as the owner of the schema; or have the database's owner do: CREATE SCHEMA {schema} "
    "AUTHORIZATION {user}; or, to use what is there: GRANT USAGE ON SCHEMA {schema} TO {user}; "
    "docs/postgresql.md lists all"
)

_TOLD: dict[str, tuple[type[StoreError], str]] = {
    "28P01": (StoreUnavailable, "check the user and the password in the URL"),
    "28000": (StoreUnavailable, "check the user in the URL, and the server's pg_hba.conf"),
    "3D000": (StoreUnavailable, "create the database: CREATE DATABASE {database}"),
    "42501": (StoreNotWritable, _RIGHTS),
    "25006": (StoreNotWritable, "give the address of the primary: this is a standby"),
    "42P07": (
        StoreError,
        "tables of that name are there that perdure did not make: name another schema, "
        "?schema=perdure",
    ),
    "53100": (StoreUnavailable, "make room on the server's disk"),
    "53300": (StoreUnavailable, "raise max_connections, or end some that are not needed"),
    "55P03": (
        StoreUnavailable,
        "another perdure migrates, or a long transaction holds a table: wait for it, or end it",
    ),
    "08": (StoreUnavailable, "the connection is lost, and nothing was changed: try again"),
    "57": (StoreUnavailable, "the server is starting or stopping: try again"),
}
"""By SQLSTATE, or by its class."""

_UNKNOWN: tuple[type[StoreError], str] = (StoreError, "see the server's log")


def told(error: Exception, address: Address) -> StoreError | None:
    """The StoreError for what asyncpg raised; None if it is no trouble of the server's.

    Raise it ``from`` the original.
    """
    where = f"{address.shown}, schema {address.schema!r}"
    for cause in _causes(error):
        code = getattr(cause, "sqlstate", None)
        if isinstance(code, str):
            kind, remedy = _TOLD.get(code) or _TOLD.get(code[:2], _UNKNOWN)
            said = remedy.format(
                schema=address.quoted_schema,
                user=address.url.username,
                database=address.url.database,
            )
            return kind(f"cannot use {where}: {_first_line(cause)}", remedy=said)
    for cause in _causes(error):
        if isinstance(cause, OSError):  # TimeoutError and every ConnectionError are
            return StoreUnavailable(
                f"cannot reach {where}: {_first_line(cause)}",
                remedy="check the host and the port, and that the server runs",
            )
    if isinstance(error, DBAPIError):
        return StoreUnavailable(
            f"lost {where}: {_first_line(error)}", remedy="try again: nothing was changed"
        )
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        original = getattr(error, "orig", None)
        error = original if isinstance(original, BaseException) else error.__cause__


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
