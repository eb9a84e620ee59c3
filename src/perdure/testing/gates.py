"""The two things a faulty store is made of: failures that are used up, and gates that hold calls.

Knows no store. Next to read: ``faults.py``.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Fault", "Gate", "strike"]


@dataclass(slots=True)
class Fault:
    """A failure asked for: how often, of which operation, for which instance (None: any)."""

    left: int
    operation: str | None
    instance: str | None
    error: Exception

    def strikes(self, operation: str, instances: Iterable[str]) -> bool:
        """Whether it concerns this call; if so, it is used up by one."""
        if self.left <= 0 or self.operation not in (None, operation):
            return False
        if self.instance is not None and self.instance not in instances:
            return False
        self.left -= 1
        return True


def strike(faults: Iterable[Fault], operation: str, instances: Iterable[str]) -> None:
    """Raise the error of the first that concerns this call, if one does."""
    for fault in faults:
        if fault.strikes(operation, instances):
            raise fault.error


class Gate:
    """Where calls wait while it is closed; first come, first let through."""

    def __init__(self) -> None:
        self.is_closed = False
        self.waiting: deque[asyncio.Future[None]] = deque()
        self._watching: list[tuple[int, asyncio.Future[None]]] = []

    async def passed(self) -> None:
        """Wait here while the gate is closed."""
        if not self.is_closed:
            return
        here: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting.append(here)
        self._tell()
        try:
            await here
        finally:
            if here in self.waiting:
                self.waiting.remove(here)

    def let_through(self, count: int) -> None:
        """Let so many of the waiting pass, closed or not."""
        while self.waiting and count > 0:
            count -= 1
            here = self.waiting.popleft()
            if not here.done():
                here.set_result(None)

    async def reached(self, count: int) -> None:
        """Wait until so many wait here."""
        watching: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._watching.append((count, watching))
        self._tell()
        await watching

    def _tell(self) -> None:
        for count, watching in self._watching:
            if len(self.waiting) >= count and not watching.done():
                watching.set_result(None)
        self._watching = [entry for entry in self._watching if not entry[1].done()]
