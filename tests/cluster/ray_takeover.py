"""How long shards of a host on Ray are without an owner: ``python -m tests.cluster.ray_takeover``.

For each tuning of Ray's health checks: a host's process, a whole node, a paused node; and for how
long hosts outlive their head. What hosts run there is a stand-in, so the seconds are Ray's alone.
``answers``: with the real runtimes over PostgreSQL, until all of 48 instances have answered again.
The figures of docs/ray.md are from here. Takes some minutes with Ray's own settings.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from perdure.cluster import Cluster, ClusterSettings, ray
from perdure.cluster.ray import RayStatus
from perdure.store.migrations import upgrade
from tests.cluster.ray_app import APP as REAL_APP
from tests.cluster.ray_standin import APP, stand_ins
from tests.sagas import Added, Ledger, Opened
from tests.servers.databases import new_database
from tests.servers.postgres import Server, found
from tests.servers.ray import TUNING, RayServer

HOSTS = 3
INSTANCES = 48
LIMIT_S = 150.0


def tuning(period_ms: int, timeout_ms: int, misses: int) -> dict[str, str]:
    return {
        "RAY_health_check_initial_delay_ms": "1000",
        "RAY_health_check_period_ms": str(period_ms),
        "RAY_health_check_timeout_ms": str(timeout_ms),
        "RAY_health_check_failure_threshold": str(misses),
    }


RAYS_OWN = tuning(3000, 10000, 5) | {"RAY_health_check_initial_delay_ms": "5000"}
TUNINGS = {
    "own": RAYS_OWN,
    "docs": TUNING,
    "half": tuning(500, 1000, 3),
    "calm": tuning(1000, 2000, 5),
    "eager": tuning(250, 250, 2),
}


def epochs(folder: str) -> dict[int, int]:
    """What the files of the stand-ins say: which life of each host owns its shards."""
    return {
        host: json.loads(Path(folder, f"host-{host}").read_text())["epoch"] for host in range(HOSTS)
    }


def measured(folder: str, hosts: list[int], begin: Callable[[], None]) -> float:
    """From now until all of these hosts have a next life."""
    before = epochs(folder)
    began_s = time.monotonic()
    begin()
    while any(epochs(folder)[host] == before[host] for host in hosts):
        if time.monotonic() > began_s + LIMIT_S:
            return float("inf")
        time.sleep(0.01)
    return time.monotonic() - began_s


def run(name: str, settings: dict[str, str]) -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        RayServer.started(nodes=3, **settings) as server,
    ):

        def spread() -> RayStatus:
            return asyncio.run(ray.rebalance(address=server.address))

        asyncio.run(ray.up(APP, folder, hosts=HOSTS, address=server.address))
        pid = spread().hosts[0].pid
        killed_s = measured(folder, [0], lambda: os.kill(pid, signal.SIGKILL))
        node = spread().hosts[1].node
        node_s = measured(folder, [1], lambda: server.kill_node(node))
        server.add_node()
        node = spread().hosts[2].node
        paused_s = measured(folder, [2], lambda: server.signal_node(node, signal.SIGSTOP))
        server.kill_node(node)
        print(
            f"{name:6} process -9 {killed_s:6.2f} s, node -9 {node_s:6.2f} s, "
            f"node paused {paused_s:6.2f} s, load {os.getloadavg()[0]:.1f}",
            flush=True,
        )


def outlive() -> None:
    """For how long the hosts of a cluster without a head live."""
    with tempfile.TemporaryDirectory() as folder, RayServer.started(nodes=2) as server:
        status = asyncio.run(ray.up(APP, folder, hosts=HOSTS, address=server.address))
        server.kill_head()
        began_s = time.monotonic()
        left = [host.pid for host in status.hosts]
        while left and time.monotonic() < began_s + LIMIT_S:
            left = [pid for pid in left if Path(f"/proc/{pid}").exists()]
            time.sleep(0.05)
        print(f"head -9: hosts gone after {time.monotonic() - began_s:.1f} s", flush=True)


async def answer(url: str, server: RayServer) -> None:
    """Kill a host's process, and a node; say when what was sent meanwhile was answered."""
    await upgrade(url)
    await ray.up(REAL_APP, url, hosts=HOSTS, address=server.address)
    async with Cluster(url, [Ledger], cluster=ClusterSettings(takes_shards=False)) as front:
        refs = [front.ref(Ledger, f"o-{n}") for n in range(INSTANCES)]
        await asyncio.gather(*(front.send(ref, Opened(ref.correlation_id)) for ref in refs))

        async def answered(what: str) -> None:
            began_s = time.monotonic()
            await asyncio.gather(*(front.send(ref, Added(ref.correlation_id, 1)) for ref in refs))
            took_s = time.monotonic() - began_s
            print(f"{what}: answered in {took_s:.2f} s, load {os.getloadavg()[0]:.1f}", flush=True)

        for _ in range(2):
            await answered("nothing killed")
            spread = await ray.rebalance(address=server.address)
            os.kill(spread.hosts[0].pid, signal.SIGKILL)
            await answered("process -9")
            spread = await ray.rebalance(address=server.address)
            server.kill_node(spread.hosts[0].node)
            await answered("node -9")
            server.add_node()
    await ray.down(address=server.address)


def answers() -> None:
    """``answer``, over servers of its own."""
    with Server(found()) as postgres, RayServer.started(nodes=3) as server:
        asyncio.run(answer(postgres.url(new_database(postgres)), server))


if __name__ == "__main__":
    for wanted in sys.argv[1:] or [*TUNINGS, "head", "answers"]:
        if wanted == "answers":
            answers()
            continue
        with stand_ins():
            if wanted == "head":
                outlive()
            else:
                run(wanted, TUNINGS[wanted])
