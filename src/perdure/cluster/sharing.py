"""What the runtimes of one process share though each is made as if it were alone.

    shared = SharedThreads(SystemThreads(), settings.worker_threads_max)
    blueprint = replace(front, threads=shared, observing=Echo(front.observing))

Threads of workers are one pool, traces have one budget, memory is parted among the shards. The
event loop is watched once, by the front: it sees whose code stands on the loop, whichever runtime
called it. Observers hear what all of them do, and of one start and one stop. Next to read:
``front.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from perdure.observer import Observer
from perdure.runtime.clock import Clock
from perdure.runtime.runtime import Runtime
from perdure.runtime.threads import Call, Calls, Threads
from perdure.runtime.watching.observing import Hook, Observing, Recorders
from perdure.runtime.watching.tracing import Spans, Tracing

__all__ = ["Echo", "SharedThreads", "SharedTracing", "share_room"]


def share_room(owned: Mapping[int, Runtime]) -> None:
    """``residents_max`` is the process's: the runtime of each shard has its part."""
    for runtime in owned.values():
        if runtime.running is not None:
            supervisor = runtime.running.supervisor
            limit = supervisor.services.settings.residents_max
            supervisor.residency.limit(max(1, limit // len(owned)))
            supervisor.on_quiet()


class SharedThreads:
    """Implements ``Threads`` for several runtimes; ``close`` when all of them have stopped."""

    def __init__(self, threads: Threads, threads_max: int) -> None:
        self._calls = threads.calls(threads_max)

    def calls(self, threads_max: int) -> Calls:
        """See ``Threads.calls``; the limit is that of the process."""
        return _Share(self._calls)

    def start(self, function: Callable[[], None], name: str) -> None:
        """Not here: it is the watch over the loop, and the front has one."""

    def close(self) -> None:
        """Take no further calls."""
        self._calls.close()


class _Share:
    """One runtime's way to the common threads."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def run(self, function: Callable[[], None]) -> Call:
        """See ``Calls.run``."""
        return self._calls.run(function)

    def urge(self) -> None:
        """See ``Calls.urge``."""
        self._calls.urge()

    def give_up(self, call: Call) -> None:
        """See ``Calls.give_up``."""
        self._calls.give_up(call)

    def close(self) -> None:
        """The others go on."""


class SharedTracing:
    """Implements ``Tracing`` for several runtimes: how many spans a second, is the process's."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing
        self._spans: Spans | None = None
        self._has_begun = False

    def start(self, clock: Clock) -> Spans | None:
        """See ``Tracing.start``; the same spans for all."""
        if not self._has_begun:
            self._has_begun = True
            self._spans = self._tracing.start(clock)
        return self._spans


class Echo(Observing):
    """The front's observers, also those that come later, for one of its runtimes of shards."""

    def __init__(self, front: Observing) -> None:
        # Not super().__init__(): whoever observes is the front's to know.
        self._front = front

    @property
    def hooks(self) -> Mapping[type, tuple[Hook, ...]]:  # type: ignore[override]
        """Who hears an event."""
        return self._front.hooks

    @property
    def on_turn(self) -> Recorders:  # type: ignore[override]
        """Who counts turns."""
        return self._front.on_turn

    @property
    def on_end(self) -> Recorders:  # type: ignore[override]
        """Who counts ends."""
        return self._front.on_end

    @property
    def on_attempt(self) -> Recorders:  # type: ignore[override]
        """Who counts attempts."""
        return self._front.on_attempt

    @property
    def counts_turns(self) -> bool:  # type: ignore[override]
        """Somebody counts."""
        return self._front.counts_turns

    @property
    def hears_all(self) -> bool:  # type: ignore[override]
        """Somebody hears nearly every turn."""
        return self._front.hears_all

    def add(self, observer: Observer) -> None:
        """For all."""
        self._front.add(observer)

    def remove(self, observer: Observer) -> None:
        """For all."""
        self._front.remove(observer)

    def tell(self, event: Any) -> None:
        """Through the front, which remembers who has failed."""
        self._front.tell(event)

    def record(self, recorders: Recorders, *values: Any) -> None:
        """Through the front."""
        self._front.record(recorders, *values)

    def started(self) -> None:
        """The front says so, once."""

    def stopped(self) -> None:
        """The front says so, once."""
