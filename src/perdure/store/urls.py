"""From a URL to a store. The one place that knows which stores there are.

Next to read: ``sql.py`` and ``memory.py``.
"""

from __future__ import annotations

from perdure.errors import DefinitionError
from perdure.store.memory import MemoryStore
from perdure.store.protocol import Store

__all__ = ["store_from_url", "store_of"]


def store_from_url(url: str) -> Store:
    """The store a URL names, not yet open.

    >>> store = store_from_url("sqlite+aiosqlite:///orders.db")   # a file; relative to here
    >>> store = store_from_url("sqlite:////var/lib/orders.db")    # the same driver
    >>> store = store_from_url("memory://")                       # nothing is kept

    Raises DefinitionError naming what is supported.
    """
    if url == "memory://":
        return MemoryStore()
    if url.startswith(("sqlite:", "sqlite+aiosqlite:")):
        from perdure.store.sql import SqlStore  # SQLAlchemy takes longer than all the rest

        return SqlStore(url)
    raise DefinitionError(
        f"{url!r} names no store",
        remedy='supported are "sqlite+aiosqlite:///path/to/file.db" and "memory://"',
    )


def store_of(given: str | Store) -> Store:
    """The store itself, or the one its URL names."""
    if isinstance(given, str):
        return store_from_url(given)
    if not hasattr(given, "journal"):  # a Path, say, which has an open() too
        raise DefinitionError(
            f"{given!r} is no store", remedy='give a URL, "sqlite+aiosqlite:///path/to/file.db"'
        )
    return given
