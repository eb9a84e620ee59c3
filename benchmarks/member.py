"""One process of a cluster that is measured: it has instances, and sends to them.

    python -m benchmarks.member URL --spin-us 0

It is told what to do by lines on standard input, each a JSON array, and answers each with one:

    ["have", processes]        wait until the shards are spread evenly over so many
    ["open", instances]        start so many instances, all of which are in this process
    ["load", turns]            send so many messages to each, one after another: when, how many
    ["ask", times]             send so many messages to one of them, one after another: the p50
    ["end"]

Next to read: ``cluster.py``, which starts such processes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import sys
import time
from collections.abc import Iterator
from itertools import count
from typing import Any, ClassVar

from benchmarks.load import closed_loop, open_all
from benchmarks.measure import percentile
from benchmarks.sagas import Nap, Order, Worked
from perdure import Effects, SagaRef, Settings, continues
from perdure.cluster import Cluster
from perdure.store.shards import SHARDS, shard_of

POLL_S = 0.02


class Thoughtful(Order):
    """The same orders; each message takes some computing."""

    name: ClassVar[str] = Order.name
    spin_s: ClassVar[float] = 0.0

    @continues(Worked, by="order_id")
    def worked(self, state: Any, event: Worked, do: Effects) -> None:
        until_s = time.thread_time() + self.spin_s  # computing, not waiting for a processor
        while time.thread_time() < until_s:
            pass
        super().worked(state, event, do)


class Member:
    """What is done on each line."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._refs: list[SagaRef] = []
        self._first = 1

    async def have(self, processes: int) -> int:
        """How many shards are here, once they are spread."""
        share = SHARDS // processes
        for pause_s in iter(lambda: POLL_S, None):
            if share <= len(self._cluster.host.owned) <= share + 1:
                break
            await asyncio.sleep(pause_s)
        return len(self._cluster.host.owned)

    async def open(self, instances: int) -> int:
        """Start them."""
        self._refs = await open_all(self._cluster, self._ours(instances))
        return len(self._refs)

    def _ours(self, instances: int) -> Iterator[str]:
        found = 0
        for number in count():
            name = f"{os.getpid()}-{number}"
            if shard_of(f"{Order.name}/{name}", SHARDS) in self._cluster.host.owned:
                yield name
                found += 1
            if found == instances:
                return

    async def load(self, turns: int) -> tuple[float, float, float]:
        """From when to when, of a clock that all processes share, and the CPU seconds it took."""
        began_s, began_cpu_s = time.monotonic(), time.process_time()
        await closed_loop(self._cluster, self._refs, turns, self._first)
        self._first += turns * len(self._refs)
        return began_s, time.monotonic(), time.process_time() - began_cpu_s

    async def ask(self, times: int) -> float:
        """The median of the milliseconds to the acknowledgement, of an instance in this process."""
        [ref] = await open_all(self._cluster, self._ours(1))
        took_ms = []
        for number in range(times):
            began_s = time.perf_counter()
            await self._cluster.send(ref, Worked(ref.correlation_id, number))
            took_ms.append((time.perf_counter() - began_s) * 1000)
        return percentile(took_ms, 0.5)


async def main(url: str, spin_us: float) -> None:
    logging.getLogger("perdure").setLevel(logging.ERROR)  # nobody performs what is sent
    Thoughtful.spin_s = spin_us / 1e6
    settings = Settings(
        idle_after_s=None, residents_max=1_000_000, freeze_residents=True, loop_block_limit_s=60.0
    )
    async with Cluster(url, [Thoughtful if spin_us else Order, Nap], settings) as cluster:
        member = Member(cluster)
        loop = asyncio.get_running_loop()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            do, *arguments = json.loads(line)
            if do == "end":
                break
            print(json.dumps(await getattr(member, do)(*arguments)), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--spin-us", type=float, default=0)
    given = parser.parse_args()
    asyncio.run(main(given.url, given.spin_us))
