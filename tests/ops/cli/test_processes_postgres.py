"""``perdure run`` over PostgreSQL: one process, several, and what becomes of them."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from perdure.store.shards import SHARDS
from tests.servers.databases import execute

ROOT = Path(__file__).parent.parent.parent.parent
SOON_S = 40.0

SERVICE = """
import atexit, os, signal, sys
from perdure import Runtime, Settings
from perdure.cluster import Cluster, ClusterSettings
from tests.sagas import Ledger

runtime = Runtime("memory://", [Ledger], Settings(mailbox_max=7))

def cluster(store):
    return Cluster(store, [Ledger], cluster=ClusterSettings(lease_s=3), name="mine")

if "--parent" in sys.argv:  # one of several is told once more when it has drained
    atexit.register(lambda: os.kill(os.getpid(), signal.SIGTERM))
"""


class Running:
    """``perdure run``, and what it says."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.said: list[str] = []

    def until(self, pattern: str, times: int = 1) -> list[str]:
        """Read on until so many lines have this in them; what its group found in all so far."""
        assert self.process.stderr is not None
        while len(found := re.findall(pattern, "".join(self.said))) < times:
            line = self.process.stderr.readline()
            assert line, "".join(self.said)
            self.said.append(line)
        return found

    def rest(self) -> str:
        """All that it says before everybody has ended."""
        assert self.process.stderr is not None
        self.said.append(self.process.stderr.read())
        return "".join(self.said)


@contextmanager
def running(directory: Path, url: str, app: str, *options: str) -> Iterator[Running]:
    (directory / "service.py").write_text(SERVICE)
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    process = subprocess.Popen(
        [sys.executable, "-m", "perdure.ops.cli", "run", app, "--store", url, *options],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": path},
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield Running(process)
        finally:
            process.kill()


def owners(url: str) -> dict[str, int]:
    """How many shards each host has, by its name; "" for nobody's."""
    rows = execute(
        url,
        "SELECT coalesce(h.name, '') AS name, count(*) FROM perdure.shards s "
        "LEFT JOIN perdure.hosts h USING (host) GROUP BY 1",
    )
    return {row[0]: row[1] for row in rows}


def wait_until(condition: Callable[[], Any]) -> None:
    until_s = time.monotonic() + SOON_S
    while not condition():
        assert time.monotonic() < until_s
        time.sleep(0.05)


def test_several_share_the_shards_of_a_plain_runtime_and_one_that_dies_comes_back(
    postgres: str, tmp_path: Path
) -> None:
    options = ("--processes", "2", "--name", "shop")
    with running(tmp_path, postgres, "service:runtime", *options) as run:
        pids = run.until(r"is up, pid (\d+)", times=2)
        for each in pids:  # the URL has a password, and everybody sees command lines
            assert "postgresql" not in Path(f"/proc/{each}/cmdline").read_text()
        half = {"shop-1": SHARDS // 2, "shop-2": SHARDS // 2}
        wait_until(lambda: owners(postgres) == half)
        os.kill(int(pids[0]), signal.SIGKILL)
        run.until(r"process 1, pid \d+, was ended by SIGKILL")
        assert len(set(run.until(r"is up, pid (\d+)", times=3))) == 3
        wait_until(lambda: owners(postgres) == half)
        for pid in [int(pids[1]), run.process.pid]:  # as by systemd, which tells a whole group
            os.kill(pid, signal.SIGTERM)
        said = run.rest()
        assert run.process.wait(SOON_S) == 0, said
    assert owners(postgres) == {"": SHARDS}
    assert len(re.findall(r"^shop-2 .* stopping", said, re.MULTILINE)) == 1


def test_one_process_is_one_of_a_cluster_under_its_name(postgres: str, tmp_path: Path) -> None:
    with (
        running(tmp_path, postgres, "service:cluster") as own,
        running(tmp_path, postgres, "service:runtime", "--name", "second") as second,
    ):
        wait_until(lambda: owners(postgres) == {"mine": SHARDS // 2, "second": SHARDS // 2})
        own.process.send_signal(signal.SIGTERM)
        assert own.process.wait(SOON_S) == 0, own.rest()
        wait_until(lambda: owners(postgres) == {"second": SHARDS})
        second.process.send_signal(signal.SIGINT)
        assert second.process.wait(SOON_S) == 0, second.rest()


def test_processes_whose_parent_was_killed_drain_and_end(postgres: str, tmp_path: Path) -> None:
    with running(tmp_path, postgres, "service:runtime", "--processes", "2") as run:
        run.until(r"is up, pid (\d+)", times=2)
        run.process.kill()
        assert run.rest().count("the parent process is gone") == 2
    assert owners(postgres) == {"": SHARDS}


def test_a_database_without_our_tables_ends_all_at_once_with_what_to_do(
    empty_postgres: str, tmp_path: Path
) -> None:
    with running(tmp_path, empty_postgres, "service:runtime", "--processes", "3") as run:
        said = run.rest()
        assert run.process.wait(SOON_S) == 5, said
    assert said.count("error: ") == 1
    assert "perdure db upgrade" in said
    assert "the first process has not come up: it has ended with 5" in said


def test_who_is_told_to_stop_while_the_server_says_nothing_does_so(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql+asyncpg://nobody@127.0.0.1:{silent.getsockname()[1]}/none"
        with running(tmp_path, url, "service:runtime") as run:
            silent.settimeout(SOON_S)
            taken, _ = silent.accept()
            with taken:
                run.process.send_signal(signal.SIGINT)
                began_s = time.monotonic()
                assert "stopped before it was up" in run.rest()
            assert run.process.wait(SOON_S) == 0
            assert time.monotonic() - began_s < 8  # and not the ten seconds of a connect


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_server_that_is_not_there_is_told(processes: str, tmp_path: Path) -> None:
    url = "postgresql+asyncpg://nobody@127.0.0.1:1/none"
    with running(tmp_path, url, "service:runtime", "--processes", processes) as run:
        said = run.rest()
        assert run.process.wait(SOON_S) == 5, said
    assert said.count("error: ") == 1
