"""What is asked of the store's own PostgreSQL beside its rows: where it is, what workers recorded.

    beside = beside_of(store)                     # None: the store is not in PostgreSQL
    await beside.run(forget, beside.schema, [17])

The functions are those that run in a user's transaction, too. Next to read: ``posting.py``;
``performed.py``; ``postgres_database.py``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

__all__ = ["Asked", "Beside", "beside_of"]

P = ParamSpec("P")
T = TypeVar("T")

_NAMED = re.compile(r"(?<![:\w]):([a-z_]+)")


class Asked(Protocol):
    """A database that can be asked, in whosever transaction."""

    def rows(self, statement: str, **values: Any) -> Sequence[Sequence[Any]]:
        """The rows that a statement with ``:name`` parameters, at least one, gives."""
        ...


class Beside:
    """The connections of a store, for other statements. ``database``: a ``Database``, open."""

    def __init__(self, database: Any) -> None:
        self.schema: str = database.address.schema
        self.database = database

    async def run(
        self, function: Callable[Concatenate[Asked, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Call ``function(asked, …)``; each statement is a transaction. Raises ``StoreError``."""

        def call(connection: Any) -> T:
            return function(_Asked(connection), *args, **kwargs)

        found: T = await self.database.write(call)
        return found


class _Asked:
    """A ``PostgresConnection``, in its greenlet."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def rows(self, statement: str, **values: Any) -> Sequence[Sequence[Any]]:
        names = list(values)
        sql = _NAMED.sub(lambda found: f"${names.index(found[1]) + 1}", statement)
        rows: Sequence[Sequence[Any]] = self._connection.execute(sql, [*values.values()]).fetchall()
        return rows


def beside_of(store: object) -> Beside | None:
    """That of a store in PostgreSQL; None for any other."""
    database = getattr(store, "database", None)
    return None if getattr(database, "address", None) is None else Beside(database)
