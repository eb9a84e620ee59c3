"""Several processes over one PostgreSQL: two against one, and how soon one takes over from another.

Every process sends to instances of its own, as many in flight in all as in ``throughput``. With
handlers that do nothing, the database and the processes share the machine, and the database is
soon the limit; with handlers that compute, it is not. Next to read: ``member.py``.
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any

from benchmarks.measure import Bench, percentile, run_rounds
from benchmarks.postgres import fresh_schema
from benchmarks.result import Result
from benchmarks.sagas import Nap, Opened, Order, Worked
from perdure import SagaRef
from perdure.cluster import Cluster, ClusterSettings
from perdure.store.shards import SHARDS, shard_of

__all__ = ["QUICK", "QUICK_TAKEOVER", "Sizes", "TakeoverSizes", "run", "run_takeover"]

TARGET = 1.3
TAKEOVER_S = 2.0
ASK_MS = 5.0
ENDS_S = 30.0


@dataclass(frozen=True, slots=True)
class Sizes:
    """``instances`` of all processes; ``turns`` of each; ``spin_us`` of computing in a busy one.

    ``within`` are words put before the command of each process.
    """

    instances: int = 1_000
    turns: int = 40
    turns_busy: int = 15
    spin_us: float = 300.0
    within: tuple[str, ...] = ()


QUICK = Sizes(turns=10, turns_busy=4)


@dataclass(frozen=True, slots=True)
class TakeoverSizes:
    """``asks``: messages, one after another, to instances of another process."""

    asks: int = 500


QUICK_TAKEOVER = TakeoverSizes(asks=50)


def run(bench: Bench, processes: int, sizes: Sizes = Sizes()) -> Result:
    """Turns per second of several processes against one; also busy ones, if ``spin_us`` says so."""
    many = f"{processes} processes"
    computing = f"{sizes.spin_us / 1000:g} ms of computing a turn"
    kinds = [("one", "one process", 1, 0.0), (many, many, processes, 0.0)]
    if sizes.spin_us:
        kinds += [
            ("one busy", f"one, {computing}", 1, sizes.spin_us),
            ("busy", f"{processes}, {computing}", processes, sizes.spin_us),
        ]
    rounds = run_rounds(
        bench,
        [
            (name, partial(_together, bench, number, sizes, spin_us, name))
            for name, _, number, spin_us in kinds
        ],
    )
    result = Result("processes")
    for name, label, _, _ in kinds:
        result.figures.append(rounds.figure(name, "turns/s", label))
        result.figures.append(rounds.figure(f"{name} cpu", "us/turn", f"{label}: cpu of perdure"))
    result.ratios.append(rounds.ratio(f"{processes} / 1, nothing computed", many, "one"))
    if sizes.spin_us:
        result.ratios.append(
            rounds.ratio(f"{processes} / 1, {computing}", "busy", "one busy", TARGET)
        )
    result.notes += [
        f"{sizes.instances:,} instances in all, one message of each in flight",
        "where nothing is computed, the server takes what the processes leave of the cores",
    ]
    return result


def _together(
    bench: Bench, processes: int, sizes: Sizes, spin_us: float, name: str
) -> Mapping[str, float]:
    """Turns per second of so many processes, from the first's begin to the last's end."""
    each = sizes.turns_busy if spin_us else sizes.turns
    with _members(bench, processes, spin_us, sizes.within) as members:
        opened = _all(members, "open", sizes.instances // processes)
        turns = sum(opened) * each
        times = _all(members, "load", each)
    wall_s = max(end for _, end, _ in times) - min(begin for begin, _, _ in times)
    return {name: turns / wall_s, f"{name} cpu": sum(cpu for _, _, cpu in times) / turns * 1e6}


@contextmanager
def _members(
    bench: Bench, processes: int, spin_us: float = 0, within: Sequence[str] = ()
) -> Iterator[list[_Member]]:
    """Processes over a new schema, with equal shares of its shards."""
    assert bench.server is not None, "it needs --store"
    with ExitStack() as stack:
        url = stack.enter_context(fresh_schema(bench.server))
        members = [
            stack.enter_context(_Member.over(url, spin_us, within)) for _ in range(processes)
        ]
        _all(members, "have", processes)
        yield members


class _Member:
    """A process that is measured, and told what to do."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process = process
        self.url = url

    @classmethod
    @contextmanager
    def over(cls, url: str, spin_us: float, within: Sequence[str]) -> Iterator[_Member]:
        member = [sys.executable, "-m", "benchmarks.member", url, "--spin-us", str(spin_us)]
        command = [*within, *member]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
            try:
                yield cls(process, url)
            finally:
                if process.poll() is None:
                    process.terminate()
                    process.wait(ENDS_S)

    def tell(self, *line: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(line) + "\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"a member has ended with {self.process.wait()}")
        return json.loads(line)


def _all(members: list[_Member], *line: Any) -> list[Any]:
    """Tell all of them at once, and take the answers."""
    for member in members:
        member.tell(*line)
    return [member.answer() for member in members]


# Takeover


def run_takeover(bench: Bench, sizes: TakeoverSizes = TakeoverSizes()) -> Result:
    """Seconds from a kill -9 until every instance of the killed process answers elsewhere."""
    rounds = run_rounds(bench, [("takeover", lambda: _takeover(bench, sizes))])
    result = Result("takeover")
    result.figures += [
        rounds.figure("takeover", "s", "from the kill to the last shard's first answer"),
        rounds.figure("ask p50", "ms", "an answer from another process, p50"),
        rounds.figure("ask p99", "ms", "… p99"),
        rounds.figure("own p50", "ms", "an answer within a process, p50"),
    ]
    result.ratios += [
        rounds.ratio("takeover / 2 s", "takeover", "takeover limit", 1.0, at_least=False),
        rounds.ratio("ask p50 / 5 ms", "ask p50", "ask limit", 1.0, at_least=False),
    ]
    result.notes.append("two processes own the shards, a third one sends and owns none")
    return result


def _takeover(bench: Bench, sizes: TakeoverSizes) -> Mapping[str, float]:
    with _members(bench, 2) as members:
        [own_ms] = _all(members[1:], "ask", sizes.asks)
        found = asyncio.run(_taken_over(members[0], sizes))
    return {**found, "own p50": own_ms, "takeover limit": TAKEOVER_S, "ask limit": ASK_MS}


async def _taken_over(victim: _Member, sizes: TakeoverSizes) -> dict[str, float]:
    none = ClusterSettings(takes_shards=False)
    async with Cluster(victim.url, [Order, Nap], cluster=none) as client:
        refs = [client.ref(Order, name) for name in _one_per_shard()]
        for ref in refs:
            await client.send(ref, Opened(ref.correlation_id))
        took_ms = [await _ask(client, refs[n % SHARDS], n) for n in range(sizes.asks)]
        victim.process.send_signal(signal.SIGKILL)
        began_s = time.monotonic()
        await asyncio.gather(*(_ask(client, ref, -1) for ref in refs))
        takeover_s = time.monotonic() - began_s
    return {
        "takeover": takeover_s,
        "ask p50": percentile(took_ms, 0.5),
        "ask p99": percentile(took_ms, 0.99),
    }


def _one_per_shard() -> list[str]:
    found: dict[int, str] = {}
    for number in count():
        found.setdefault(shard_of(f"{Order.name}/t-{number}", SHARDS), f"t-{number}")
        if len(found) == SHARDS:
            return list(found.values())
    raise AssertionError


async def _ask(client: Cluster, ref: SagaRef, number: int) -> float:
    """Milliseconds to the acknowledgement."""
    began_s = time.perf_counter()
    await client.send(ref, Worked(ref.correlation_id, number))
    return (time.perf_counter() - began_s) * 1000
