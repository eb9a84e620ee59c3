"""The doorbell: PostgreSQL's NOTIFY, heard on one connection of the process. Polling is the truth.

Whoever hears nothing looks all the same after a while; so a ring that is lost costs time, nothing
else. ``store/session.py`` is one. Next to read: ``intake.py``, which is rung for; ``posting.py``,
whose answers come this way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

__all__ = ["Doorbell", "bell_of"]


class Doorbell(Protocol):
    """Rings and hears channels, as long as its connection lives, and again after."""

    async def listen(self, channel: str, hear: Callable[[str], None]) -> None:
        """Call ``hear(payload)`` on the loop for each ring, and ``hear("")`` after the connection
        was lost and is there again: something may have been missed."""
        ...

    async def unlisten(self, channel: str) -> None:
        """Hear nothing more of it."""
        ...

    def notify(self, channel: str, payload: str = "") -> None:
        """Ring soon. Never waits and never fails; while there is no connection nothing rings."""
        ...


def bell_of(shard: int) -> str:
    """The name of the channel at which the owner of a shard is rung for, see ``channel_of``."""
    return f"shard-{shard}"
