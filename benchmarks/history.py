"""What message 10,000 of an instance costs against message 10.

Both are measured in turns of one block each, so that drift hits both. Next to read: ``latency.py``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from benchmarks.load import closed_loop, open_all, runtime_over
from benchmarks.measure import Bench, percentile, run_rounds, stopwatch
from benchmarks.result import Result
from benchmarks.sagas import Worked
from perdure import Runtime, SagaRef

__all__ = ["QUICK", "Sizes", "run"]

TARGET = 1.2


@dataclass(frozen=True, slots=True)
class Sizes:
    """The old instance's turns before, the young ones', and how many are timed, in blocks."""

    old: int = 10_000
    young: int = 10
    block: int = 100
    blocks: int = 10


QUICK = Sizes(old=2_500, blocks=4)


def run(bench: Bench, sizes: Sizes = Sizes()) -> Result:
    """Time and CPU per message of an old instance against young ones."""
    rounds = run_rounds(bench, [("history", lambda: _compare(bench, sizes))])
    return Result(
        "history",
        [
            *rounds.disturbance(),
            rounds.figure("young p50", "ms", f"message {sizes.young:,}, p50"),
            rounds.figure("old p50", "ms", f"message {sizes.old:,}, p50"),
            rounds.figure("young cpu", "us/turn", f"message {sizes.young:,}, cpu"),
            rounds.figure("old cpu", "us/turn", f"message {sizes.old:,}, cpu"),
            rounds.figure("young busy", "us/turn", f"message {sizes.young:,}, 100 in flight"),
            rounds.figure("old busy", "us/turn", f"message {sizes.old:,}, 100 in flight"),
        ],
        [
            rounds.ratio("p50", "old p50", "young p50", TARGET, at_least=False),
            rounds.ratio("cpu", "old cpu", "young cpu", TARGET, at_least=False),
            rounds.ratio("100 in flight", "old busy", "young busy", TARGET, at_least=False),
        ],
        ["p50 and cpu: one message in flight; both sides take a snapshot per 100 turns"],
    )


class _Side:
    """What was measured of the young instances, or of the old one."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.cpu_s = 0.0
        self.busy_s = 0.0
        self.turns_busy = 0

    async def block(self, runtime: Runtime, ref: SagaRef, size: int) -> None:
        """So many messages one by one, then as many 100 in flight."""
        with stopwatch() as watch:
            for _ in range(size):
                number = next(_numbers)
                started = time.perf_counter()
                await runtime.send(ref, Worked(ref.correlation_id, number), message_id=str(number))
                self.times.append(time.perf_counter() - started)
        self.cpu_s += watch.cpu_s
        with stopwatch() as watch:
            self.turns_busy += await _pipelined(runtime, ref, size)
        self.busy_s += watch.wall_s

    def found(self, name: str) -> dict[str, float]:
        return {
            f"{name} p50": percentile(self.times, 0.5) * 1e3,
            f"{name} cpu": self.cpu_s / len(self.times) * 1e6,
            f"{name} busy": self.busy_s / self.turns_busy * 1e6,
        }


_numbers = count()


async def _pipelined(runtime: Runtime, ref: SagaRef, turns: int) -> int:
    depth = min(turns, 100)
    await closed_loop(runtime, [ref] * depth, turns // depth, next(_numbers) * 1_000_000)
    return turns // depth * depth


def _compare(bench: Bench, sizes: Sizes) -> Mapping[str, float]:
    young, old = _Side(), _Side()

    async def main(path: Path) -> None:
        async with runtime_over(path) as runtime:
            [aged] = await open_all(runtime, ["old"])
            await _pipelined(runtime, aged, sizes.old)
            for number in range(sizes.blocks):
                [fresh] = await open_all(runtime, [f"young-{number}"])
                await _pipelined(runtime, fresh, sizes.young)
                await young.block(runtime, fresh, sizes.block)
                await old.block(runtime, aged, sizes.block)

    with bench.fresh() as path:
        asyncio.run(main(path))
    return young.found("young") | old.found("old")
