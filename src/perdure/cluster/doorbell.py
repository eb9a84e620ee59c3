"""The doorbell: PostgreSQL's NOTIFY, heard on one connection of the process. Polling is the truth.

Whoever hears nothing looks all the same after a while; so a ring that is lost costs time, nothing
else. Next to read: ``intake.py``, which is rung for; ``router.py``, whose answers come this way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

__all__ = ["Doorbell"]


class Doorbell(Protocol):
    """Hears the notifications of channels, as long as its connection lives, and again after."""

    async def listen(self, channel: str, hear: Callable[[str], None]) -> None:
        """Call ``hear(payload)`` on the loop for each notification, and ``hear("")`` after the
        connection was lost and is there again: something may have been missed."""
        ...

    async def unlisten(self, channel: str) -> None:
        """Hear nothing more of it."""
        ...
