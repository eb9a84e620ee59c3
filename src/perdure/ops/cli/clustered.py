"""A runtime over PostgreSQL as one of many processes, whatever the user's code has made.

    runtime = one_of_many(await load_runtime("shop:runtime", url), name="shop-1")

Next to read: ``running.py`` and ``targets.py``, who run it; ``cluster/front.py``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

from perdure.errors import DefinitionError
from perdure.runtime.runtime import Runtime
from perdure.store.postgres_address import is_postgres
from perdure.store.urls import url_of

__all__ = ["check_shared", "is_shared", "looking_in", "one_of_many"]


def is_shared(runtime: Runtime) -> bool:
    """Several processes can be over its store."""
    return is_postgres(url_of(runtime.store))


def check_shared(url: str, named: str) -> None:
    """Raises ``DefinitionError`` for a store, ``named`` so, that one process owns at a time."""
    if not is_postgres(url):
        raise DefinitionError(
            f"several processes cannot share the store {named}, which one process owns at a time",
            remedy="leave --processes away, or move to PostgreSQL: --store postgresql+asyncpg://…",
        )


def one_of_many(
    runtime: Runtime, *, name: str | None = None, takes_shards: bool | None = None
) -> Runtime:
    """The runtime itself; over PostgreSQL, a ``Cluster`` of the same members and settings.

    ``name`` and ``takes_shards`` are put in the place of its own, if they are given.
    """
    if not is_shared(runtime):
        return runtime
    from perdure.cluster.front import Cluster  # needs asyncpg

    cluster = runtime if isinstance(runtime, Cluster) else Cluster.of(runtime.blueprint)
    if name is not None:
        cluster.name = name
    if takes_shards is not None:
        cluster.cluster = replace(cluster.cluster, takes_shards=takes_shards)
    return cluster


@asynccontextmanager
async def looking_in(make: Callable[[], Awaitable[Runtime]]) -> AsyncIterator[Runtime]:
    """A running runtime beside those that live, of which it takes nothing; alone, if none does."""
    from perdure.cluster.front import Cluster

    guest = one_of_many(await make(), takes_shards=False)
    assert isinstance(guest, Cluster)
    async with guest:
        if any(row.shards and not row.is_gone for row in await guest.hosts()):
            yield guest
            return
    async with one_of_many(await make(), takes_shards=True) as host:
        yield host
