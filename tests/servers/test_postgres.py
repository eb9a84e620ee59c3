"""The servers of the tests: they come back after a kill, and never outlive who started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers.databases import execute
from tests.servers.postgres import NoServer, found

ROOT = Path(__file__).parent.parent.parent

STARTS_ONE = """
import os, sys, time
from tests.servers.postgres import Server, found
server = Server(found())
server.start()
if not (child := os.fork()):
    os.close(1)
    time.sleep(600)  # does not keep the server alive
print(server.pid, server.directory, child, flush=True)
sys.stdin.read()
"""


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()


def test_what_was_committed_is_there_after_a_kill(own_postgres):
    url = own_postgres.url("postgres")
    execute(url, "CREATE TABLE kept (n bigint)", "INSERT INTO kept VALUES (7)")
    own_postgres.kill()
    with pytest.raises(OSError, match="onnect"):
        execute(url, "SELECT 1")
    own_postgres.start()
    assert execute(url, "SELECT n FROM kept")[0]["n"] == 7
    assert own_postgres.url("postgres") == url


def test_each_test_has_a_database_of_its_own(empty_postgres, postgres_server):
    execute(empty_postgres, "CREATE TABLE mine (n bigint)")
    assert "mine" not in str(execute(postgres_server.url("postgres"), "SELECT * FROM pg_tables"))


def test_a_server_does_not_outlive_a_killed_process(postgres_server):
    # postgres_server only says whether there are servers at all
    with subprocess.Popen(
        [sys.executable, "-c", STARTS_ONE],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        pid, directory, forked = child.stdout.readline().split()
        assert is_running(int(pid))
        child.send_signal(signal.SIGKILL)
        child.stdout.read()  # the watching shell holds it open until it has cleaned up
    os.kill(int(forked), signal.SIGKILL)
    assert not is_running(int(pid))
    assert not Path(directory).exists()


def test_a_version_that_is_not_there_is_told():
    with pytest.raises(NoServer, match=r"no PostgreSQL 9 server .* apt-get install postgresql"):
        found("9")
