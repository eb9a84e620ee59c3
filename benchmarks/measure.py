"""How things are measured: rounds of all variants in turn, so that drift hits all; then medians.

Next to read: ``limit.py`` (the limits), ``load.py`` (our side), ``result.py``.
"""

from __future__ import annotations

import gc
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TypeAlias

from benchmarks.result import Figure, Ratio

__all__ = ["Bench", "Measure", "Rounds", "Stopwatch", "percentile", "run_rounds", "stopwatch"]

Measure: TypeAlias = Callable[[], Mapping[str, float]]
"""Measures once, and says what it found under which names."""


@dataclass
class Bench:
    """Where a benchmark runs: its directory, how many rounds, and who is told of its progress.

    ``server`` is the URL of a PostgreSQL database, where that is measured instead.
    """

    directory: Path
    rounds: int = 3
    tell: Callable[[str], None] = lambda _: None
    server: str | None = None
    _numbers: Iterator[int] = field(default_factory=count)

    @contextmanager
    def fresh(self) -> Iterator[Path]:
        """The path of a new database file; it is removed afterwards."""
        path = self.directory / f"{next(self._numbers)}.db"
        try:
            yield path
        finally:
            for left in self.directory.glob(f"{path.name}*"):
                left.unlink()


class Rounds:
    """The values of all rounds, by name."""

    def __init__(self) -> None:
        self.values: dict[str, list[float]] = {}
        self.others: list[float] = []

    def add(self, found: Mapping[str, float]) -> None:
        """Keep what one measure found in one round."""
        for name, value in found.items():
            self.values.setdefault(name, []).append(value)

    def median(self, name: str) -> float:
        """The median over the rounds."""
        return statistics.median(self.values[name])

    def disturbance(self) -> list[Figure]:
        """How many cores other processes used meanwhile: the less, the more the ratios say."""
        if not self.others:
            return []
        median = statistics.median(self.others)
        return [Figure("others' load", median, "cores", tuple(self.others))]

    def figure(self, name: str, unit: str, label: str | None = None) -> Figure:
        """The median as a figure."""
        return Figure(label or name, self.median(name), unit, tuple(self.values[name]))

    def ratio(
        self,
        label: str,
        name: str,
        base: str,
        target: float | None = None,
        at_least: bool = True,
        floor: float = 0.0,
    ) -> Ratio:
        """The median of each round's ratio; the two were measured right after one another."""
        pairs = zip(self.values[name], self.values[base], strict=True)
        return Ratio(label, statistics.median(a / b for a, b in pairs), target, at_least, floor)


def others_cpu_s() -> float | None:
    """CPU seconds that all processes but this one have used so far; None where unknown."""
    try:
        fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
        ticks = os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError):
        return None
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields)
    return (user + nice + system + irq + softirq + steal) / ticks - time.process_time()


def run_rounds(bench: Bench, measures: Sequence[tuple[str, Measure]]) -> Rounds:
    """Run all measures one after another, as many times as there are rounds."""
    rounds = Rounds()
    for number in range(bench.rounds):
        for name, measure in measures:
            bench.tell(f"round {number + 1} of {bench.rounds}: {name}")
            gc.collect()
            before, started = others_cpu_s(), time.perf_counter()
            rounds.add(measure())
            after, wall_s = others_cpu_s(), time.perf_counter() - started
            if before is not None and after is not None:
                rounds.others.append(max(after - before, 0.0) / wall_s)
    return rounds


@dataclass(slots=True)
class Stopwatch:
    """Wall time and this process's CPU time of a block."""

    wall_s: float = 0.0
    cpu_s: float = 0.0

    def rate(self, items: int) -> float:
        """Items per second."""
        return items / self.wall_s

    def cpu_us(self, items: int) -> float:
        """CPU microseconds per item, of all threads, the driver's included."""
        return self.cpu_s / items * 1e6


@contextmanager
def stopwatch() -> Iterator[Stopwatch]:
    """Time the block."""
    watch = Stopwatch()
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    yield watch
    watch.wall_s = time.perf_counter() - wall_s
    watch.cpu_s = time.process_time() - cpu_s


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]
