"""A cluster of Ray on this machine: a head and several nodes, which tests kill, pause and add to.

    with RayServer.started(nodes=2) as server:
        await ray.up(…, address=server.address)
        server.kill_node(0)

All its processes are one session of the operating system, by which they are found and ended: also
those that a killed parent has left. ``python -m tests.servers.ray 2`` is the process that starts
them, and reaps them: a killed raylet that nobody has waited for keeps its workers alive.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import pytest

ROOT = Path(__file__).parent.parent.parent
PATHS = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
"""Where other processes find perdure and the tests."""

TUNING = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "250",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "4",
}
"""As docs/ray.md recommends."""

REAP_S = 0.05

STORE_BYTES = 80 * 1024 * 1024
"""Of each node's object store: about the least that Ray takes."""


class RayServer:
    """A head without CPUs, and nodes with one each."""

    def __init__(self, process: subprocess.Popen[str], folder: str) -> None:
        self._process = process
        self._folder = folder
        self.address: str = self._answer()["address"]
        self.nodes: list[str] = []
        """Those that were not killed."""
        self.has_head = True

    @classmethod
    @contextmanager
    def started(cls, nodes: int, **tuning: str) -> Iterator[Self]:
        """Started, and ended with every process of it, also those it has lost."""
        folder = tempfile.mkdtemp(prefix="ray-")
        os.makedirs(f"{folder}/ray")
        env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        env |= {"RAY_TMPDIR": folder, "RAY_USAGE_STATS_ENABLED": "0"} | TUNING | tuning
        env["PYTHONPATH"] = PATHS
        with open(f"{folder}/log", "w") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.servers.ray"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=env,
                cwd=ROOT,
                text=True,
                start_new_session=True,
            )
        try:
            server = cls(process, folder)
            for _ in range(nodes):
                server.add_node()
            yield server
        finally:
            _end_session(process)
            shutil.rmtree(folder, ignore_errors=True)

    def add_node(self, **tuning: str) -> str:
        """One more node; its id. ``tuning``: variables of this one alone."""
        node: str = self._ask("add", tuning)["node"]
        self.nodes.append(node)
        return node

    def kill_node(self, node: str) -> None:
        """End all processes of a node with SIGKILL."""
        self._ask("kill", node)
        self.nodes.remove(node)

    def kill_head(self) -> None:
        """End all processes of the head with SIGKILL."""
        self._ask("kill", "head")
        self.has_head = False

    def keep(self, nodes: int) -> None:
        """Have so many nodes: some are added, or the latest killed."""
        for node in self.nodes[nodes:]:
            self.kill_node(node)
        while len(self.nodes) < nodes:
            self.add_node()

    def signal_node(self, node: str, signum: int) -> None:
        """Send a signal to all processes of a node, such as SIGSTOP."""
        self._ask("signal", node, int(signum))

    def _ask(self, *command: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise AssertionError(Path(self._folder, "log").read_text()[-4000:])
        found: dict[str, Any] = json.loads(line)
        return found


def _end_session(process: subprocess.Popen[str]) -> None:
    """End whatever belongs to the session that the process leads."""
    while left := [pid for pid, _, session in processes() if session == process.pid]:
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()
    for stream in (process.stdin, process.stdout):
        assert stream is not None
        with suppress(BrokenPipeError):
            stream.close()


def processes() -> Iterator[tuple[int, int, int]]:
    """(pid, parent, session) of all processes of this machine that have not ended."""
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            with suppress(OSError):
                fields = Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()
                if fields[0] != "Z":
                    yield int(entry), int(fields[1]), int(fields[3])


def family(pid: int) -> list[int]:
    """A process and all that it has started, and those have."""
    children: dict[int, list[int]] = {}
    for one, parent, _ in processes():
        children.setdefault(parent, []).append(one)
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


class SharedRay:
    """A cluster that several modules use, one after the other; another one if its head is gone."""

    def __init__(self) -> None:
        self._servers = ExitStack()
        self._server: RayServer | None = None

    def with_nodes(self, nodes: int) -> RayServer:
        """It, with so many nodes. Skips the test where Ray is not installed."""
        skip_without_ray()
        if self._server is None or not self._server.has_head:
            self.close()
            self._server = self._servers.enter_context(RayServer.started(nodes))
        self._server.keep(nodes)
        return self._server

    def close(self) -> None:
        """End it."""
        self._servers.close()


def skip_without_ray() -> None:
    """Skip the test where Ray is not installed; in CI it has to be."""
    if find_spec("ray") is None:
        if os.environ.get("PERDURE_REQUIRE_SERVERS") == "1":
            pytest.fail("Ray is not installed: pip install 'perdure[ray]'")
        pytest.skip("Ray is not installed")


def _serve() -> None:
    from ray.cluster_utils import Cluster

    without = {"include_dashboard": False, "include_log_monitor": False, "no_monitor": True}
    head = {"num_cpus": 0, "object_store_memory": STORE_BYTES} | without
    cluster = Cluster(initialize_head=True, head_node_args=head)
    nodes: dict[str, Any] = {"head": cluster.head_node}
    threading.Thread(target=_reap, args=(nodes,), daemon=True).start()
    print(json.dumps({"address": cluster.address}), flush=True)
    for line in sys.stdin:
        command, *arguments = json.loads(line)
        answer: dict[str, Any] = {}
        if command == "add":
            os.environ |= arguments[0]
            node = cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
            nodes[node.node_id] = node
            answer["node"] = node.node_id
            for name in arguments[0]:
                del os.environ[name]
        elif command == "kill":
            _signal(nodes[arguments[0]], signal.SIGKILL)
            nodes[arguments[0]].kill_all_processes(
                check_alive=False, allow_graceful=False, wait=True
            )
        elif command == "signal":
            _signal(nodes[arguments[0]], arguments[1])
        print(json.dumps(answer), flush=True)


def _reap(nodes: dict[str, Any]) -> None:
    """Wait for whatever ends by itself, as a raylet does that has lost its head."""
    while True:
        for node in list(nodes.values()):
            for process in _processes_of(node):
                process.poll()
        time.sleep(REAP_S)


def _processes_of(node: Any) -> list[subprocess.Popen[bytes]]:
    return [one.process for kind in list(node.all_processes.values()) for one in kind]


def _signal(node: Any, signum: int) -> None:
    started = [process.pid for process in _processes_of(node)]
    for pid in [member for one in started for member in family(one)]:
        with suppress(ProcessLookupError):
            os.kill(pid, signum)


if __name__ == "__main__":
    _serve()
