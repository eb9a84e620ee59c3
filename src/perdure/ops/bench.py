"""A small benchmark that comes with perdure: turns, one turn alone, rehydrations. In a new store.

    found = await measure("/mnt/disk/new.db", instances=1_000, messages=10)
    print(found.turns_per_s)

Acknowledged after the commit, with ``synchronous=FULL``, as it is by default. Next to read:
``cli/bench.py``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from perdure.core.correlation import Start, Verdicts
from perdure.messages import Metadata, message
from perdure.process_manager import ProcessManager
from perdure.runtime.runtime import Runtime
from perdure.settings import Settings

__all__ = ["Measured", "measure"]

ALONE = 200
IN_FLIGHT = 2_000
"""Messages under way at a time: many senders, each of which waits for its answer."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What was found; ``alone``: one message at a time, each after the answer to the one before."""

    store: str
    turns: int
    took_s: float
    turns_per_s: float
    alone_p50_ms: float
    alone_p99_ms: float
    rehydrations_per_s: float
    bytes_per_turn: float

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


async def measure(
    path: str,
    instances: int,
    messages: int,
    advance: Callable[[int], None] = lambda count: None,
) -> Measured:
    """Measure in a new file at ``path``; ``advance`` is told of turns that are done."""
    names = [f"i-{number}" for number in range(instances)]
    async with _runtime(path) as runtime:
        took_s = await _time(_send_all(runtime, names, messages, advance))
        alone_ms = sorted([1000 * await _time(_send(runtime, "alone", n)) for n in range(ALONE)])
        name = runtime.store.name
    turns = instances * messages + ALONE
    size = _size(path)
    async with _runtime(path) as runtime:
        woken_s = await _time(_send_all(runtime, names, 1, lambda count: None))
    return Measured(
        name,
        instances * messages,
        took_s,
        instances * messages / took_s,
        alone_ms[len(alone_ms) // 2],
        alone_ms[len(alone_ms) * 99 // 100],
        instances / woken_s,
        size / turns,
    )


@message(name="perdure.bench.Counted")
@dataclass(frozen=True, slots=True)
class _Counted:
    id: str
    n: int


@message(name="perdure.bench.Count")
@dataclass(frozen=True, slots=True)
class _Count:
    total: int = 0


class _Counting(ProcessManager[_Count]):
    name = "perdure-bench"

    def interested_in(self) -> tuple[type, ...]:
        return (_Counted,)

    def correlate(self, event: Any, metadata: Metadata) -> Verdicts:
        return Start(event.id)

    def apply(self, state: _Count, event: Any, metadata: Metadata | None = None) -> _Count:
        return _Count(state.total + event.n)

    def handle(self, state: _Count, event: Any, metadata: Metadata) -> None:
        return None


def _runtime(path: str) -> Runtime:
    settings = Settings(control_socket=False)
    return Runtime(f"sqlite+aiosqlite:///{path}", [_Counting], settings)


async def _send(runtime: Runtime, name: str, n: int) -> None:
    await runtime.send(runtime.ref(_Counting, name), _Counted(name, n))


async def _send_all(
    runtime: Runtime, names: Sequence[str], messages: int, advance: Callable[[int], None]
) -> None:
    """Every message to every instance, so many senders at a time."""
    left = iter([(name, n) for n in range(messages) for name in names])

    async def sender() -> None:
        for name, n in left:
            await _send(runtime, name, n)
            advance(1)

    senders = min(IN_FLIGHT, len(names) * messages)
    await asyncio.gather(*(sender() for _ in range(senders)))


def _size(path: str) -> int:
    return Path(path).stat().st_size


async def _time(work: Awaitable[None]) -> float:
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    await work
    return max(loop.time() - began_s, 1e-9)
