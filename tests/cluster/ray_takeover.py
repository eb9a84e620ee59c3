"""How long shards of a host on Ray are without an owner: ``python -m tests.cluster.ray_takeover``.

For each tuning of Ray's health checks: a host's process, a whole node, a paused node; and for how
long hosts outlive their head. What hosts run is a stand-in, so the seconds are Ray's alone; the
figures of docs/ray.md are from here. Takes some minutes with Ray's own settings.
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

from perdure.cluster import ray
from perdure.cluster.ray import RayStatus
from tests.cluster.ray_standin import APP, stand_ins
from tests.servers.ray import TUNING, RayServer

HOSTS = 3
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
        found = spread()
        pid = found.hosts[0].pid
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
        found = asyncio.run(ray.up(APP, folder, hosts=HOSTS, address=server.address))
        server.kill_head()
        began_s = time.monotonic()
        left = [host.pid for host in found.hosts]
        while left and time.monotonic() < began_s + LIMIT_S:
            left = [pid for pid in left if Path(f"/proc/{pid}").exists()]
            time.sleep(0.05)
        print(f"head -9: hosts gone after {time.monotonic() - began_s:.1f} s", flush=True)


if __name__ == "__main__":
    with stand_ins():
        for wanted in sys.argv[1:] or [*TUNINGS, "head"]:
            if wanted == "head":
                outlive()
            else:
                run(wanted, TUNINGS[wanted])
