"""What the scenarios share: a saga that counts, a store that is slow and counts, memory, order."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from perdure import Effects, ProcessManager, Runtime, applies, message, starts
from perdure.store.protocol import Store
from perdure.testing import FaultyStore
from tests.runtime.support import parts

Figures = dict[str, float]


@message(name="overload-test.hit")
class Hit:
    """Number ``n`` of this sender; ``padding`` gives it weight."""

    id: str
    sender: str
    n: int
    padding: str = ""

    @property
    def name(self) -> str:
        return f"{self.sender}:{self.n}"


@dataclass(frozen=True)
class CountState:
    hits: int = 0


HANDLED: list[str] = []
"""The hits in the order in which their turns were taken, by name."""


class Tally(ProcessManager[CountState]):
    """Counts hits: a message applied twice shows."""

    name = "overload-test.tally"

    @starts(Hit, by="id")
    def hit(self, state: CountState, event: Hit, do: Effects) -> None:
        HANDLED.append(event.name)
        do.reply(state.hits)

    @applies(Hit)
    def count(self, state: CountState, event: Hit) -> CountState:
        return replace(state, hits=state.hits + 1)


class SlowStore(FaultyStore):
    """Each write takes its time; ``rows`` counts what reads have brought into memory."""

    def __init__(self, store: Store, latency_s: float = 0.0) -> None:
        super().__init__(store)
        self.latency_s = latency_s
        self.rows: Counter[str] = Counter()

    async def write(self, entries: Sequence[Any]) -> Sequence[Any]:
        if self.latency_s:
            await asyncio.sleep(self.latency_s)
        return await super().write(entries)

    async def load(self, instances: Sequence[str]) -> Sequence[Any]:
        found = await super().load(instances)
        self.rows["load"] += sum(len(one.turns) + len(one.inbox) for one in found)
        return found

    async def _read(self, operation: Any, read: Any, *instances: str) -> Any:
        found = await super()._read(operation, read, *instances)
        self.rows[operation] += len(found)
        return found


class Peak:
    """How far this process's memory in use rises above what it was, as the kernel counts it."""

    def __init__(self) -> None:
        Path("/proc/self/clear_refs").write_text("5")  # the highest mark is the present
        self._before = _status("VmRSS")

    @property
    def grown_bytes(self) -> int:
        return max(_status("VmHWM") - self._before, 0)


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"no {name} in /proc/self/status")


def share(values: Sequence[float], part: float) -> float:
    """The value below which this part of them lies."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * part), len(ordered) - 1)]


def shuffled(values: Sequence[Any], seed: int = 1) -> list[Any]:
    return random.Random(seed).sample(values, len(values))


async def at_once(count: int, coroutines: Any) -> None:
    """Run the coroutines (a generator of them), so many at a time."""
    waiting = iter(coroutines)

    async def work() -> None:
        for one in waiting:
            await one

    await asyncio.gather(*(work() for _ in range(count)))


async def check_numbers(runtime: Runtime, store: FaultyStore) -> None:
    """What the runtime counts is what is there (G27); everything sent must have been answered."""
    running = parts(runtime)
    supervisor, commit = running.supervisor, running.services.commit
    await runtime.settled()
    admission = supervisor.admission
    assert (admission.accepted, admission._depth, admission._at_instance) == (0, {}, {})
    assert not admission._at_common
    assert (running.handoff._outstanding, len(running.handoff._waiting)) == (0, 0)
    assert commit.is_idle
    assert runtime.residents == len(supervisor.active)
    assert runtime.residents <= running.services.settings.residents_max
    assert all(actor.in_flight is None and actor.is_idle for actor in supervisor.active.values())
    heads = {head.instance for head in await store.inner.heads(limit=1_000_000)}
    for key, actor in supervisor.active.items():
        assert (key in heads) == actor.head.exists
        assert actor.head is actor.committed
    depths = await store.inner.queue_depths()
    for name in running.dispatcher.workers:
        held = running.dispatcher.runners[name].state.waiting_count
        assert await runtime.queue(name).depth() == depths.get(name, 0) >= held
