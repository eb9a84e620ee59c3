"""From one process to another: how long an answer takes, and how much mail goes through.

    python -m benchmarks across --store postgresql+asyncpg://…

One process owns all shards, this one owns none: every message is put into the mail, taken by the
other, applied, and answered. Next to read: ``member.py``, the other process.
"""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks.load import closed_loop, names, open_all
from benchmarks.measure import Bench, percentile, run_rounds, stopwatch
from benchmarks.postgres import fresh_schema
from benchmarks.result import Result
from benchmarks.sagas import Nap, Order, Worked
from perdure import SagaRef, Settings
from perdure.cluster import Cluster, ClusterSettings

__all__ = ["QUICK", "Sizes", "run"]

ASK_MS = 5.0


@dataclass(frozen=True, slots=True)
class Sizes:
    """``asks`` one after another; then ``turns`` of each instance, one of each in flight; then
    ``told`` messages, for which nobody waits."""

    asks: int = 500
    instances: int = 1_000
    turns: int = 20
    told: int = 20_000


QUICK = Sizes(asks=50, turns=3, told=2_000)


def run(bench: Bench, sizes: Sizes = Sizes()) -> Result:
    """Milliseconds to an answer, and messages per second, from a process that owns nothing."""
    rounds = run_rounds(bench, [("across", lambda: _across(bench, sizes))])
    result = Result("across")
    result.figures += [
        rounds.figure("ask p50", "ms", "an answer from another process, p50"),
        rounds.figure("ask p99", "ms", "… p99"),
        rounds.figure("sent", "msg/s", f"answered, {sizes.instances:,} in flight"),
        rounds.figure("sent cpu", "us/msg", "… cpu of the sender"),
        rounds.figure("told", "msg/s", "told and applied"),
    ]
    result.ratios.append(rounds.ratio("ask p50 / 5 ms", "ask p50", "ask limit", 1.0, False))
    result.notes.append("one process sends and owns nothing, another one owns all shards")
    return result


def _across(bench: Bench, sizes: Sizes) -> Mapping[str, float]:
    assert bench.server is not None, "it needs --store"
    with fresh_schema(bench.server) as url, _owner(url):
        return {**asyncio.run(_measured(url, sizes)), "ask limit": ASK_MS}


@contextmanager
def _owner(url: str) -> Iterator[None]:
    """A process that owns all shards."""
    command = [sys.executable, "-m", "benchmarks.member", url]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(["have", 1]) + "\n")
            process.stdin.flush()
            assert process.stdout.readline(), "the owner has ended"
            yield
        finally:
            process.terminate()


async def _measured(url: str, sizes: Sizes) -> dict[str, float]:
    logging.getLogger("perdure").setLevel(logging.ERROR)  # nobody performs what is sent
    none = ClusterSettings(takes_shards=False)
    async with Cluster(url, [Order, Nap], Settings(), cluster=none) as client:
        refs = await open_all(client, names(sizes.instances))
        took_ms = [await _ask(client, refs[n % 100], n) for n in range(sizes.asks)]
        with stopwatch() as watch:
            await closed_loop(client, refs, sizes.turns)
        sent = sizes.turns * sizes.instances
        return {
            "ask p50": percentile(took_ms, 0.5),
            "ask p99": percentile(took_ms, 0.99),
            "sent": watch.rate(sent),
            "sent cpu": watch.cpu_us(sent),
            "told": await _told(client, refs, sizes.told),
        }


async def _ask(client: Cluster, ref: SagaRef, number: int) -> float:
    began_s = time.perf_counter()
    await client.send(ref, Worked(ref.correlation_id, number))
    return (time.perf_counter() - began_s) * 1000


async def _told(client: Cluster, refs: Sequence[SagaRef], count: int) -> float:
    """Messages per second: told in turn, then one is asked of each, which comes behind them."""
    began_s = time.perf_counter()
    for number in range(count):
        ref = refs[number % len(refs)]
        ref.tell(Worked(ref.correlation_id, number))
        if number % 1_000 == 0:
            await client.settled()  # on the loop, whoever tells does not wait for room
    await asyncio.gather(*(client.send(one, Worked(one.correlation_id, -1)) for one in refs))
    return count / (time.perf_counter() - began_s)
