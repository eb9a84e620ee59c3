"""Our side: runtimes over a SQLite file at synchronous=FULL, and loads through the public API.

Every rate counts turns that were acknowledged, which is after their commit, and every message has
an id by which it is deduplicated. Next to read: ``throughput.py``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks.sagas import Nap, Opened, Order, Worked
from perdure import Runtime, SagaRef, Settings
from perdure.runtime.clock import Clock
from perdure.store.protocol import Store

__all__ = ["OtherWork", "closed_loop", "names", "open_all", "runtime_over", "scattered", "url_of"]

IN_FLIGHT = 1_000


def url_of(path: Path) -> str:
    """The store's URL of a file."""
    return f"sqlite+aiosqlite:///{path}"


def names(instances: int) -> list[str]:
    """Correlation ids."""
    return [f"o-{number:06}" for number in range(instances)]


@asynccontextmanager
async def runtime_over(
    store: Path | str | Store,
    settings: Settings | None = None,
    clock: Clock | None = None,
    **options: Any,
) -> AsyncIterator[Runtime]:
    """A running runtime of the measured sagas. Instances leave memory only when asked to.

    ``options`` are further arguments of ``Runtime``.
    """
    where = url_of(store) if isinstance(store, Path) else store
    chosen = settings or Settings(idle_after_s=None, residents_max=1_000_000, freeze_residents=True)
    async with Runtime(where, [Order, Nap], chosen, clock=clock, **options) as runtime:
        yield runtime


async def open_all(runtime: Runtime, ids: Iterable[str]) -> list[SagaRef]:
    """Start an instance for each id, many at a time."""
    refs = [runtime.ref(Order, id_) for id_ in ids]
    waiting = iter(refs)

    async def worker() -> None:
        for ref in waiting:
            await runtime.send(ref, Opened(ref.correlation_id), message_id="opened")

    await asyncio.gather(*(worker() for _ in range(min(IN_FLIGHT, len(refs)))))
    return refs


async def closed_loop(
    runtime: Runtime, senders: Sequence[SagaRef], turns: int, first: int = 1
) -> None:
    """Each sender sends ``turns`` messages to its ref, the next after the last's acknowledgement.

    The same ref may be given several times: then so many of its messages are in flight.
    """
    numbers = count(first)

    async def worker(ref: SagaRef) -> None:
        id_ = ref.correlation_id
        for _ in range(turns):
            number = next(numbers)
            await runtime.send(ref, Worked(id_, number), message_id=f"{id_}-{number}")

    await asyncio.gather(*(worker(ref) for ref in senders))


async def scattered(runtime: Runtime, targets: Sequence[SagaRef], first: int = 1) -> None:
    """One message to each target in this order, 1,000 in flight."""
    numbers = count(first)
    waiting: Iterator[SagaRef] = iter(targets)

    async def worker() -> None:
        for ref in waiting:
            number = next(numbers)
            await runtime.send(
                ref, Worked(ref.correlation_id, number), message_id=f"{ref.correlation_id}-{number}"
            )

    await asyncio.gather(*(worker() for _ in range(min(IN_FLIGHT, len(targets)))))


class OtherWork:
    """Keeps the running loop busy with other work for a share of the time, 5 ms and more a piece.

    What could not be spun in time, because the loop was late, is made up for.
    """

    PIECE_S = 0.005

    def __init__(self, share: float) -> None:
        self._share = share
        self._loop = asyncio.get_running_loop()
        self._started = time.perf_counter()
        self._spun_s = 0.0
        self._next: asyncio.TimerHandle | None = self._loop.call_later(self.PIECE_S, self._spin)

    @property
    def achieved(self) -> float:
        """The share that was spun so far."""
        return self._spun_s / (time.perf_counter() - self._started)

    def stop(self) -> None:
        """Spin no more."""
        if self._next is not None:
            self._next.cancel()

    def _spin(self) -> None:
        began = time.perf_counter()
        owed = self._share * (began - self._started) - self._spun_s
        until = began + max(owed, 0.0) / (1 - self._share)
        while time.perf_counter() < until:
            pass
        self._spun_s += time.perf_counter() - began
        pause_s = self.PIECE_S * (1 - self._share) / self._share
        self._next = self._loop.call_later(pause_s, self._spin)
