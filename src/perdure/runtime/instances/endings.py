"""Who waits for an instance to end.

Nobody polls: the turn that ends an instance is heard here when it is committed. What had ended
before is read from the store, so an answer is had after a restart, too.
Next to read: ``running.py``, which asks; ``saga_actor.py``, which tells.
"""

from __future__ import annotations

import asyncio

from perdure.core.commit import Status
from perdure.errors import RuntimeNotRunning

__all__ = ["Endings"]


class Endings:
    """The waiters of one runtime, by the key of the instance."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}

    def heard(self, key: str, status: Status) -> None:
        """The status of an instance has changed, durably."""
        if status is not Status.RUNNING:
            self.stirred(key)

    def stirred(self, key: str) -> None:
        """Whoever waits for the instance must look again."""
        for waiter in self._waiting.pop(key, ()):
            if not waiter.done():
                waiter.set_result(None)

    def expect(self, key: str) -> asyncio.Future[None]:
        """Resolved when the instance has ended or is stuck; ``forget`` follows."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, []).append(waiter)
        return waiter

    def forget(self, key: str, waiter: asyncio.Future[None]) -> None:
        """Nobody waits any more."""
        if waiter.done() and not waiter.cancelled():
            waiter.exception()  # set by a stop after the end was found otherwise: not of interest
        waiters = self._waiting.get(key, [])
        if waiter in waiters:
            waiters.remove(waiter)
            if not waiters:
                del self._waiting[key]

    def close(self) -> None:
        """The runtime stops: nobody will hear of an end."""
        waiting, self._waiting = self._waiting, {}
        for key, waiters in waiting.items():
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_exception(
                        RuntimeNotRunning(
                            f"the runtime stopped before {key} had ended",
                            remedy="ask again when the runtime is up",
                        )
                    )
