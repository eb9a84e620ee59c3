"""A connection of asyncpg's to a database: made whole, or not at all.

    raw = await connect(Address.of(url), timeout=10.0)

Whoever is cancelled while asyncpg asks a server about TLS leaves a future behind that nobody
retrieves, and asyncio says so on stderr, long after. So one that is told to end waits out that
moment, and closes what has come of it. Next to read: ``postgres_database.py``.
"""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg

from perdure.store.postgres_address import Address

__all__ = ["connect"]

HANDSHAKE_S = 0.5
"""So long whoever is cancelled waits for a server that has taken the connection."""


async def connect(address: Address, **arguments: Any) -> asyncpg.Connection[Any]:
    """Connect; ``arguments`` are asyncpg's, over those of the URL. Raises what asyncpg does."""
    own, named = address.url.get_dialect()().create_connect_args(address.url)
    connecting = asyncio.ensure_future(asyncpg.connect(*own, **{**named, **arguments}))
    try:
        await asyncio.wait([connecting])
    except asyncio.CancelledError:
        try:
            await asyncio.wait([connecting], timeout=HANDSHAKE_S)
        finally:
            connecting.cancel()
            connecting.add_done_callback(_drop)
        raise
    return connecting.result()


def _drop(connecting: asyncio.Task[asyncpg.Connection[Any]]) -> None:
    """Nobody wants it any more."""
    if not connecting.cancelled() and connecting.exception() is None:
        connecting.result().terminate()
