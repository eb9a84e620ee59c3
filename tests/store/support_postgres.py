"""What the tests of the store in PostgreSQL share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import wraps

from perdure.store.postgres import PostgresStore

__all__ = ["numbers", "on_loop", "opened"]

LIMIT_S = 60.0


def on_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """A pytest test of one that awaits."""

    @wraps(test)
    def run(*arguments: object, **named: object) -> None:
        async def within() -> None:
            async with asyncio.timeout(LIMIT_S):
                await test(*arguments, **named)

        asyncio.run(within())

    return run


@asynccontextmanager
async def opened(*stores: PostgresStore) -> AsyncIterator[list[int]]:
    """Open these, and close them; their epochs."""
    try:
        yield [await store.open() for store in stores]
    finally:
        for store in stores:
            await store.close()


async def numbers(store: PostgresStore, instance: str = "Order/1") -> list[int]:
    """The turns that a load of the instance gives."""
    [loaded] = await store.load([instance])
    return [row.sequence_nr for row in loaded.turns]
