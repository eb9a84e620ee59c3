"""The command line as real processes: run, stopped, killed; and the incident from start to end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import warm
from tests.ops.cli.support import Live, filled
from tests.sagas import Ledger, Opened

ROOT = Path(__file__).parent.parent.parent.parent

SERVICE = """
import asyncio, os
from perdure import Runtime
from tests.sagas import Ledger

def runtime():
    return Runtime("sqlite+aiosqlite:///store.db", [Ledger])
"""


def typed(directory: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own."""
    return warm.run("-m", "perdure.ops.cli", *words, cwd=directory, env=environment())


def environment() -> dict[str, str]:
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    return {**os.environ, "PYTHONPATH": path, "PERDURE_STORE": "store.db"}


@contextmanager
def running(directory: Path) -> Iterator[subprocess.Popen[str]]:
    """``perdure run``, up."""
    (directory / "service.py").write_text(SERVICE)
    child = subprocess.Popen(
        [sys.executable, "-m", "perdure.ops.cli", "run", "service:runtime"],
        cwd=directory,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    with child:
        try:
            assert child.stderr is not None
            for line in child.stderr:
                if "running over" in line:
                    break
            yield child
        finally:
            child.kill()


def test_a_service_is_run_killed_looked_at_and_repaired_without_it(tmp_path):
    opened = ("runtime-test.opened", '{"id": "x"}')
    with running(tmp_path) as child:
        sent = typed(tmp_path, "send", "Ledger/x", *opened)
        assert (sent.returncode, sent.stdout) == (0, "Ledger/x: applied in turn 1\n")
        second = typed(tmp_path, "run", "service:runtime")
        assert second.returncode == 5
        assert f"is held by pid {child.pid}" in second.stderr
        child.kill()
    refused = typed(tmp_path, "cancel", "Ledger/x", "--why", "it is gone")
    assert refused.returncode == 5
    assert "no runtime holds" in refused.stderr
    words = ("cancel", "Ledger/x", "--why", "it is gone", "--app", "service:runtime")
    assert typed(tmp_path, *words).returncode == 0
    assert sorted(path.name for path in tmp_path.glob("store.db*")) == ["store.db", "store.db.lock"]


def test_a_service_that_is_told_to_stop_stops_in_order(tmp_path):
    with running(tmp_path) as child:
        child.send_signal(signal.SIGTERM)
        _, said = child.communicate(timeout=30)
    assert child.returncode == 0, said
    assert "stopping" in said
    assert not (tmp_path / "store.db.control").exists()


def test_several_processes_over_a_file_are_refused_with_what_to_do(tmp_path):
    (tmp_path / "service.py").write_text(SERVICE)
    command = [sys.executable, "-m", "perdure.ops.cli", "run", "service:runtime"]
    for store in ("store.db", "sqlite+aiosqlite:///store.db", None):
        asked = {**environment(), "PERDURE_STORE": store or ""}
        refused = subprocess.run(
            [*command, "--processes", "3"],
            cwd=tmp_path,
            env=asked,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (refused.returncode, refused.stdout) == (2, "")
        assert refused.stderr.count("error: several processes cannot share the store") == 1
        assert "--store postgresql+asyncpg://" in refused.stderr
    assert not (tmp_path / "store.db").exists()


def test_the_incident_is_found_understood_mended_and_audited():
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "incident.py"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    printed = done.stdout
    assert "50 dead letters" in printed
    assert re.search(r"^Order +50 +10$", printed, re.MULTILINE)
    assert "50 of 50 done" in printed
    assert re.search(r"^Order +60$", printed, re.MULTILINE)
    assert "perdure.Intervention  applied  ann (bug 4711: the rate of CHF was missing)" in printed
    assert printed.rstrip().endswith("kill %1")


def test_without_its_extra_the_command_line_says_what_to_install():
    program = (
        "import sys; sys.modules['typer'] = None\n"
        "from importlib import util\n"
        "found = util.find_spec\n"
        "import perdure.ops.cli as cli\n"
        "cli.find_spec = lambda name: None if name == 'typer' else found(name)\n"
        "sys.exit(cli.main(['version']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "pip install 'perdure[cli]'" in done.stderr


def test_whatever_stdout_is_the_command_ends_in_order(tmp_path):
    filled(tmp_path / "store.db", lambda live: live.send(Ledger, "\u00fc-1", Opened("\u00fc-1")))
    command = [sys.executable, "-m", "perdure.ops.cli", "instances", "list"]

    def ended(how: str, **more: str) -> tuple[int, str, str]:
        done = subprocess.run(
            ["sh", "-c", f'exec "$@" {how}', "sh", *command],
            cwd=tmp_path,
            env={**environment(), **more},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    code, out, err = ended("", PYTHONIOENCODING="ascii")
    assert (code, "Ledger/\\xfc-1" in out, "Traceback" in err) == (0, True, False), err
    assert ended(">&-") == (0, "", "")
    if os.path.exists("/dev/full"):
        assert ended("> /dev/full") == (1, "", "error: [Errno 28] No space left on device\n")


def test_an_interrupt_ends_the_question_at_once_and_nothing_is_done(tmp_path):
    def fill(live: Live) -> None:
        live.send(Ledger, "a", Opened("a"))
        live.send(Ledger, "b", Opened("b"))

    filled(tmp_path / "store.db", fill)
    (tmp_path / "service.py").write_text(SERVICE)
    words = ["cancel", "--saga", "Ledger", "--why", "none", "--app", "service:runtime"]
    end, terminal = os.openpty()
    child = subprocess.Popen(
        [sys.executable, "-m", "perdure.ops.cli", *words],
        cwd=tmp_path,
        env=environment(),
        stdin=terminal,
        stdout=subprocess.PIPE,
        stderr=terminal,
    )
    os.close(terminal)
    said = b""
    with child:
        while b"[y/N]" not in said:
            said += os.read(end, 4096)
        child.send_signal(signal.SIGINT)
        assert child.wait(20) == 130
    os.close(end)
    assert typed(tmp_path, "instances", "count", "--json").stdout.count('"running": 2') == 1
