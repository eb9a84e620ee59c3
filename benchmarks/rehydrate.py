"""How many cold instances per second come back from the store.

Waking cannot be seen alone from outside: a message that wakes an instance also takes a turn. So the
same message is sent twice to each of the instances, first cold, then resident, and the difference
of the two times is the waking. ``Runtime.state`` of a passive instance reads and folds it without a
turn, singly; it is measured beside. Next to read: ``limit.py``.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.limit import one_by_one_reads
from benchmarks.load import closed_loop, names, open_all, runtime_over, scattered
from benchmarks.measure import Bench, Rounds, run_rounds, stopwatch
from benchmarks.result import Figure, Ratio, Result
from benchmarks.sagas import Order
from perdure import Runtime, SagaRef, Settings

__all__ = ["QUICK", "Sizes", "run"]

TARGET = 0.15
TAIL = 20


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many instances each store holds; each measure wakes all of them."""

    instances: int = 3_000


QUICK = Sizes(instances=500)

_VARIANTS = {"events": 0, "snapshot": TAIL + 1}
"""Turns before the 20 that are folded; where there are any, the last of them has a snapshot."""


def run(bench: Bench, sizes: Sizes = Sizes()) -> Result:
    """Instances per second, 20 events each, without and with a snapshot before them."""
    with ExitStack() as files:
        paths = {name: files.enter_context(bench.fresh()) for name in _VARIANTS}
        for name, path in paths.items():
            bench.tell(f"filling the store ({name})")
            asyncio.run(_fill(path, sizes, _VARIANTS[name]))
        rounds = run_rounds(
            bench, [(name, partial(_measure, path, name, sizes)) for name, path in paths.items()]
        )
    return _result(rounds, sizes)


def _result(rounds: Rounds, sizes: Sizes) -> Result:
    figures: list[Figure] = rounds.disturbance()
    ratios: list[Ratio] = []
    for name, label in (("events", "20 events"), ("snapshot", "snapshot + 20")):
        for what in ("limit", "wake", "cold send", "resident send", "state"):
            figures.append(rounds.figure(f"{name} {what}", "instances/s", f"{label}: {what}"))
        ratios += [
            rounds.ratio(f"{label}: wake / limit", f"{name} wake", f"{name} limit", TARGET),
            rounds.ratio(f"{label}: cold send / limit", f"{name} cold send", f"{name} limit"),
            rounds.ratio(f"{label}: state / limit", f"{name} state", f"{name} limit"),
        ]
    notes = [
        f"{sizes.instances:,} instances in random order, page cache warm",
        "limit: plain sqlite3 one by one, snapshot row and 20 rows, msgpack only",
        "wake = 1 / (1/cold send - 1/resident send), 1,000 sends in flight",
        "cold send includes the turn and its commit; state: 100 callers, one read per instance",
        "each round adds a turn or two to the tail",
    ]
    return Result("rehydrate", figures, ratios, notes)


def _measure(path: Path, name: str, sizes: Sizes) -> Mapping[str, float]:
    keys = [f"{Order.name}/{id_}" for id_ in names(sizes.instances)]
    found = one_by_one_reads(path, keys, f"{name} limit")
    state, cold, resident = asyncio.run(_wake(path, sizes))
    found |= {
        f"{name} state": sizes.instances / state,
        f"{name} cold send": sizes.instances / cold,
        f"{name} resident send": sizes.instances / resident,
        f"{name} wake": sizes.instances / max(cold - resident, 1e-9),
    }
    return found


async def _fill(path: Path, sizes: Sizes, before: int) -> None:
    every = max(before, 1) if before else 1_000_000
    async with runtime_over(path, _settings(every)) as runtime:
        refs = await open_all(runtime, names(sizes.instances))
        await closed_loop(runtime, refs, before + TAIL - 1)


async def _wake(path: Path, sizes: Sizes) -> tuple[float, float, float]:
    """Seconds to look at all, to send to all while they are cold, and again while resident."""
    async with runtime_over(path, _settings(1_000_000)) as runtime:
        refs = [runtime.ref(Order, id_) for id_ in names(sizes.instances)]
        random.Random(2).shuffle(refs)
        with stopwatch() as looking:
            waiting = iter(refs)
            await asyncio.gather(*(_look(runtime, waiting) for _ in range(100)))
        first = random.randrange(1 << 40)
        with stopwatch() as cold:
            await scattered(runtime, refs, first)
        with stopwatch() as resident:
            await scattered(runtime, refs, first + len(refs))
        _expect_all(runtime, refs)
        return looking.wall_s, cold.wall_s, resident.wall_s


async def _look(runtime: Runtime, waiting: Iterator[SagaRef]) -> None:
    for ref in waiting:
        if await runtime.state(ref) is None:
            raise AssertionError(f"{ref} is not there")


def _expect_all(runtime: Runtime, refs: Sequence[SagaRef]) -> None:
    if runtime.residents != len(refs):
        raise AssertionError(f"{runtime.residents} are resident, not {len(refs)}")


def _settings(snapshot_every: int) -> Settings:
    return Settings(idle_after_s=None, residents_max=1_000_000, snapshot_every=snapshot_every)
