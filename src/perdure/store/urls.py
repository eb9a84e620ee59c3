"""From a URL to a store. The one place that knows which stores there are.

Next to read: ``sql.py``, ``postgres.py`` and ``memory.py``.
"""

from __future__ import annotations

from importlib.util import find_spec

from perdure.errors import DefinitionError
from perdure.store.memory import MemoryStore
from perdure.store.postgres_address import is_postgres, shown
from perdure.store.protocol import Store

__all__ = ["store_from_url", "store_of", "store_to_look_at", "url_of"]


def store_from_url(url: str) -> Store:
    """The store a URL names, not yet open.

    >>> store = store_from_url("sqlite+aiosqlite:///orders.db")   # a file; relative to here
    >>> store = store_from_url("sqlite:////var/lib/orders.db")    # the same driver
    >>> store = store_from_url("postgresql+asyncpg://app@db.example/shop")  # see docs/postgresql.md
    >>> store = store_from_url("memory://")                       # nothing is kept

    Raises DefinitionError naming what is supported.
    """
    if url == "memory://":
        return MemoryStore()
    if url.startswith(("sqlite:", "sqlite+aiosqlite:")):
        from perdure.store.sql import SqlStore  # SQLAlchemy takes longer than all the rest

        return SqlStore(url)
    if is_postgres(url):
        return _postgres_store(url, read_only=False)
    raise DefinitionError(
        f"{shown(url)!r} names no store",
        remedy='supported are "sqlite+aiosqlite:///path/to/file.db", '
        '"postgresql+asyncpg://user@host/database" and "memory://"',
    )


def store_to_look_at(url: str) -> Store:
    """The store a URL names, for reading only: beside its live owner, or after its end.

    Raises DefinitionError naming what is supported.
    """
    if is_postgres(url):
        return _postgres_store(url, read_only=True)
    from perdure.store.sql import SqlStore

    return SqlStore(url, read_only=True)


def _postgres_store(url: str, *, read_only: bool) -> Store:
    if find_spec("asyncpg") is None:
        raise DefinitionError("PostgreSQL needs asyncpg", remedy="pip install 'perdure[postgres]'")
    from perdure.store.postgres import PostgresStore

    return PostgresStore(url, read_only=read_only)


def url_of(store: object) -> str:
    """The URL under which another process finds a store; "" if none does."""
    return str(getattr(store, "url", ""))


def store_of(given: str | Store) -> Store:
    """The store itself, or the one its URL names."""
    if isinstance(given, str):
        return store_from_url(given)
    if not hasattr(given, "journal"):  # a Path, say, which has an open() too
        raise DefinitionError(
            f"{given!r} is no store", remedy='give a URL, "sqlite+aiosqlite:///path/to/file.db"'
        )
    return given
