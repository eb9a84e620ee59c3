"""A host's own connection to PostgreSQL: it registers, beats, listens, and rings doorbells.

    session = Session(connect, Ownership("perdure"), host, version="0.1.0")
    session.listen("perdure_perdure_3", look)       # look("") also after each reconnect: something
    await session.open()                            # may have been missed
    session.notify("perdure_perdure_7")             # with whatever else is to be rung, at once
    claimed = await session.ask(owners.claim, 4)
    await session.close()

One connection and one task: what is asked of it is done one after another. It is not taken from a
pool, so that a pool in use, or full, delays no beat. A connection that is lost is made again; the
host stays the same, and hears in ``on_beat`` what it still owns. A doorbell says "look"; the rows
are the truth, so nothing waits for one that could not be rung.

``synchronous_commit`` is off here: a doorbell must not wait for the disk. A claim that a crash of
the server forgets is one under which nothing durable was written.
Next to read: ``ownership.py``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from perdure.store.ownership import Beat, Connection, HostId, Ownership

if TYPE_CHECKING:
    import asyncpg

__all__ = ["Session", "channel_of"]

Asked = ParamSpec("Asked")
Answer = TypeVar("Answer")


def channel_of(schema: str, name: str) -> str:
    """The channel of this name beside the tables of a schema.

    >>> channel_of("perdure", "shard-3")
    'perdure.perdure.shard-3'
    """
    raise NotImplementedError


class Session:
    """The connection of one host.

    ``connect`` makes an asyncpg connection. ``beat_s``: seconds between two beats. ``on_beat`` is
    called with what the database answered to each, on the loop.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[asyncpg.Connection[Any]]],
        owners: Ownership,
        host: HostId,
        *,
        version: str,
        beat_s: float = 0.5,
        on_beat: Callable[[Beat], None] | None = None,
    ) -> None:
        self.owners = owners
        self.host = host
        self.skew_s = 0.0
        """How far this machine's clock is ahead of the database's, as the last beat showed."""

    async def open(self) -> Beat:
        """Connect and register. Raises StoreUnavailable and its like."""
        raise NotImplementedError

    def listen(self, channel: str, hear: Callable[[str], None]) -> None:
        """Call ``hear(payload)`` on the loop when the channel rings; at any time, also before open.

        Called with "" after each reconnect: something may have been missed.
        """
        raise NotImplementedError

    def unlisten(self, channel: str) -> None:
        """Hear that channel no more."""
        raise NotImplementedError

    def notify(self, channel: str, payload: str = "") -> None:
        """Ring a channel soon; all that gathers goes in one statement, the same one once.

        Never waits and never fails: while there is no connection nothing is rung.
        """
        raise NotImplementedError

    async def ask(
        self,
        function: Callable[Concatenate[Connection, HostId, Asked], Awaitable[Answer]],
        *arguments: Asked.args,
        **named: Asked.kwargs,
    ) -> Answer:
        """Call a method of ``Ownership`` with this connection and host; waits for its turn.

        Raises StoreUnavailable while there is no connection.
        """
        raise NotImplementedError

    async def close(self) -> None:
        """Leave (whatever the host still owns is free), and disconnect."""
        raise NotImplementedError
