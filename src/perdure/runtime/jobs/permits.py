"""Work queues of several runtimes in one process: their limits hold for the process.

    permits = Permits()                            # one for all of their blueprints
    mine = permits.of(QueuePolicy(name="payments", concurrency=8))
    mine.may_start(runner)                         # False: it is told when there is room

Counts what runs, and lets those that wait take turns: a runtime with much to do does not keep the
others from it. A queue's rate is shared likewise; its order, and what is performed alone, stay each
runtime's own. A runtime that is alone has no permits. Next to read: ``runner.py``.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

from perdure.core.work import QueuePolicy, QueueState

__all__ = ["Permits", "QueuePermits"]


class Sharer(Protocol):
    """A queue of one runtime."""

    state: QueueState

    def pump(self) -> None:
        """Start whatever may start."""
        ...


class Permits:
    """The queues of a process, by name."""

    def __init__(self) -> None:
        self._queues: dict[str, QueuePermits] = {}
        self._missed: set[str] = set()

    def is_first_to_miss(self, queue: str) -> bool:
        """Whether no runtime of the process has said before that nobody performs its jobs."""
        is_first = queue not in self._missed
        self._missed.add(queue)
        return is_first

    def of(self, policy: QueuePolicy) -> QueuePermits:
        """Those of the queue, one for all runtimes."""
        found = self._queues.get(policy.name)
        if found is None:
            found = self._queues[policy.name] = QueuePermits(policy)
        return found


class QueuePermits:
    """So many jobs of one queue at a time, and so many per time."""

    def __init__(self, policy: QueuePolicy) -> None:
        self.starts: deque[float] | None = None
        """When jobs were started of late, where there is a rate."""
        if policy.rate is not None:
            self.starts = deque(maxlen=policy.rate.count)
        self._concurrency = policy.concurrency
        self._sharers: list[Sharer] = []
        self._waiting: dict[Sharer, None] = {}
        self._granted: set[Sharer] = set()

    def enlist(self, sharer: Sharer) -> None:
        """One more runtime has this queue."""
        self._sharers.append(sharer)

    def leave(self, sharer: Sharer) -> None:
        """It has ended, with all that it had started."""
        if sharer in self._sharers:
            self._sharers.remove(sharer)
        self._waiting.pop(sharer, None)
        self.passed(sharer)

    def may_start(self, sharer: Sharer) -> bool:
        """Whether it may start one more job now; else ``pump`` is called when it may."""
        if sharer in self._granted:
            self._granted.discard(sharer)
            return True
        if self._waiting or self._free <= 0:
            self._waiting[sharer] = None
            return False
        return True

    def holds_up(self, sharer: Sharer) -> bool:
        """It would start more, if the others did less."""
        return sharer in self._waiting or sharer in self._granted

    def passed(self, sharer: Sharer) -> None:
        """It has started what it can for now; some of its jobs may have ended: who is next?"""
        self._granted.discard(sharer)
        while self._waiting and self._free > 0:
            next_one = next(iter(self._waiting))
            del self._waiting[next_one]
            self._granted.add(next_one)
            asyncio.get_running_loop().call_soon(next_one.pump)

    @property
    def _free(self) -> int:
        at_work = sum(len(sharer.state.running) for sharer in self._sharers)
        return self._concurrency - at_work - len(self._granted)
