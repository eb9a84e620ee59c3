"""What a runtime knows of the other runtimes of a cluster: whose an instance is, and the way there.

    if elsewhere is not None and not elsewhere.owns(key):
        elsewhere.deliver(delivery)

An embedded runtime owns all and has None of it. Made by ``perdure.cluster``; knows no transport.
Next to read: ``instances/supervisor.py``, which asks first; ``cluster/router.py``, which carries.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from perdure.core.commit import OutboxRow

if TYPE_CHECKING:
    from perdure.runtime.delivery import Delivery

__all__ = ["Elsewhere", "Errand"]


@dataclass(frozen=True, slots=True)
class Errand:
    """Something to be done where ``key`` is owned that is no message to it; see ``errands.py``.

    ``arguments`` are values that can be stored: plain ones, or messages.
    """

    key: str
    name: str
    arguments: tuple[Any, ...] = ()


class Elsewhere(Protocol):
    """The instances that other runtimes own. On the loop of its runtime."""

    @property
    def owns_nothing(self) -> bool:
        """The runtime is a front: it takes messages, and has no instance, deadline or job."""
        ...

    def owns(self, key: str) -> bool:
        """The instance, or the job without one, of this key is this runtime's own."""
        ...

    def deliver(self, delivery: Delivery) -> None:
        """Hand over a delivery that is not this runtime's; it is answered here, exactly once.

        Those of one instance arrive in the order in which they are handed over. A settlement does
        not travel: it is left in the delivery, and whoever hears the answer writes it.
        """
        ...

    def enqueue(self, row: OutboxRow, is_named: bool) -> Awaitable[None]:
        """Have a job that no saga sent put where its id belongs, durably."""
        ...

    def expect(self, key: str) -> asyncio.Future[None]:
        """Resolved when the instance may have ended: then look again; ``forget`` follows."""
        ...

    def forget(self, key: str, waiter: asyncio.Future[None]) -> None:
        """Nobody waits any more."""
        ...

    def run(self, errand: Errand) -> Awaitable[Any]:
        """Have something done where it belongs. Raises what it raises there."""
        ...

    def run_everywhere(self, name: str, *arguments: Any) -> Awaitable[list[Any]]:
        """Have the same done by the runtime of every shard, as each of them gets an owner."""
        ...

    def ring(self, shards: Collection[int]) -> None:
        """Mail for these shards is there, put by a transaction of the user's."""
        ...

    def drain(self) -> None:
        """The runtime begins to stop: what its own jobs have sent is left to the next owner."""
        ...

    def close(self) -> None:
        """The runtime stops: refuse what is not answered yet."""
        ...
