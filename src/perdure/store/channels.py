"""Channels of a PostgreSQL database, on which sessions ring and listen.

Names, and two small pieces of ``session.py``, which is next to read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import md5
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perdure.store.ownership import Connection

__all__ = ["RING", "Hearer", "channel_of"]

CHANNEL_BYTES_MAX = 63

RING = (
    "SELECT pg_notify(bell.channel, bell.payload), set_config('synchronous_commit', 'off', true) "
    "FROM unnest($1::text[], $2::text[]) AS bell(channel, payload)"
)
"""Rings channels ($1) with payloads ($2); does not wait for the server's disk."""


def channel_of(schema: str, name: str) -> str:
    """The channel of this name beside the tables of a schema; PostgreSQL cuts long ones short.

    >>> channel_of("perdure", "shard-3")
    'perdure.perdure.shard-3'
    """
    channel = f"perdure.{schema}.{name}"
    if len(channel.encode()) <= CHANNEL_BYTES_MAX:
        return channel
    return f"perdure.{md5(channel.encode(), usedforsecurity=False).hexdigest()}"


@dataclass(slots=True, eq=False)
class Hearer:
    """Who hears a channel."""

    channel: str
    hear: Callable[[str], None]

    async def begin(self, connection: Connection) -> None:
        """Listen, on this connection."""
        await connection.add_listener(self.channel, self)

    async def end(self, connection: Connection) -> None:
        """Listen no more."""
        await connection.remove_listener(self.channel, self)

    def __call__(self, connection: Any, pid: int, channel: str, payload: Any) -> None:
        self.hear(str(payload))
