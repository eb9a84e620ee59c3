"""Creating and migrating the tables in PostgreSQL: ``perdure db``, and the same from Python.

    await upgrade("postgresql+asyncpg://owner:secret@db.example/shop")
    (await current(url)).revision  # "0001"

Each runs in one transaction on a connection of its own. However many do at once, one migrates and
the others wait for it; killed in the midst, it has done nothing. Alembic does the work, with a
version table of ours in our schema: the user's own is left alone. It is imported when something is
migrated, and needs the extra ``postgres``.
SQLite is not migrated here: a file is created and upgraded by whoever opens it for writing.
Next to read: ``running.py``; ``versions/``; ``../revisions.py``, what a store asks when it opens.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, TypeVar

from perdure.errors import DefinitionError
from perdure.store.migrations.others import not_perdures
from perdure.store.migrations.standing import Standing
from perdure.store.postgres_address import Address
from perdure.store.postgres_schema import REVISION
from perdure.store.shards import SHARDS_MAX

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = ["LOCK_WAIT_S", "Standing", "check", "current", "not_perdures", "stamp", "upgrade"]

LOCK_WAIT_S = 120.0
"""So long one waits for another that migrates, or for locks that others hold on a table."""

T = TypeVar("T")


async def upgrade(
    url: str, *, shards: int | None = None, lock_wait_s: float = LOCK_WAIT_S
) -> Standing:
    """Create the tables, or bring them to the revision of this code; where they stand then.

    >>> standing = await upgrade("postgresql+asyncpg://owner:secret@db.example/shop", shards=32)
    >>> standing.came_from, standing.revision, standing.shards
    (None, '0001', 32)

    ``shards``: into how many parts instances fall that different processes may own; 16 unless it
    is given, and for ever what it was when the tables were created. Safe to repeat.
    For ``lock_wait_s`` seconds in all it waits for others, by short tries while somebody holds a
    table, since what runs waits behind whoever waits for one.
    Raises DefinitionError for another number later, SchemaTooNew, StoreError for what the server
    refuses.
    """
    address = Address.of(url)
    if shards is not None and not 1 <= shards <= SHARDS_MAX:
        raise DefinitionError(
            f"{shards} shards are not possible", remedy=f"give a number from 1 to {SHARDS_MAX}"
        )
    _require_alembic()
    from perdure.store.migrations.running import bring_up

    return await _connected(address, lambda each: bring_up(each, address, shards, lock_wait_s))


async def current(url: str) -> Standing:
    """Where the tables stand, whether this code can use them or not. Changes nothing."""
    address = Address.of(url)
    _require_alembic()
    from perdure.store.migrations.running import look

    return await _connected(address, lambda each: look(each, address))


async def check(url: str) -> Standing:
    """Make sure that a runtime of this code could use the tables as the user of the URL.

    Raises SchemaTooNew, SchemaTooOld; StoreError naming what differs from the revision, or which
    rights are missing.
    """
    address = Address.of(url)
    _require_alembic()
    from perdure.store.migrations.running import examine

    return await _connected(address, lambda each: examine(each, address))


async def stamp(url: str, revision: str = REVISION, *, lock_wait_s: float = LOCK_WAIT_S) -> None:
    """Note a revision without migrating: where the tables came by another way, as a copy.

    Raises DefinitionError for a revision that is unknown, SchemaTooNew, StoreError where there are
    no tables.
    """
    address = Address.of(url)
    _require_alembic()
    from perdure.store.migrations.running import note

    await _connected(address, lambda each: note(each, address, revision, lock_wait_s))


async def _connected(address: Address, work: Callable[[Connection], T]) -> T:
    from perdure.store.migrations.running import connected

    return await connected(address, work)


def _require_alembic() -> None:
    if missing := [name for name in ("alembic", "asyncpg") if find_spec(name) is None]:
        raise DefinitionError(
            f"PostgreSQL needs {' and '.join(missing)}", remedy="pip install 'perdure[postgres]'"
        )
