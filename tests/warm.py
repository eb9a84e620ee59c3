"""Python programs that start warm: forks of a process that has imported what they need.

    done = run("-m", "tests.runtime.workflow_child", url, timeout_s=60)
    assert done.returncode == -9, done.stderr

A start of Python and its imports cost several times what most of these programs do. A fork does not
pay for them, and is a process like any other: with its own memory and loop, its signals, its exit
code. Programs whose start itself is in question are started cold, with ``subprocess``.

Each process of pytest has one that forks, with neither a thread nor a loop, and ends it.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import types
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["run"]

ROOT = Path(__file__).parents[1]
LIMIT_S = 100
WARM = (
    "aiosqlite", "argparse", "asyncpg", "doctest", "logging.handlers", "perdure", "perdure.cluster",
    "perdure.ops.cli", "perdure.store.postgres", "perdure.store.sql", "perdure.testing", "rich",
    "sqlalchemy.dialects.postgresql.asyncpg", "sqlalchemy.dialects.sqlite.aiosqlite",
    "sqlalchemy.ext.asyncio", "typer", "xml.etree.ElementTree",
)  # fmt: skip


def run(
    *arguments: str | Path,
    cwd: Path = ROOT,
    env: Mapping[str, str] | None = None,
    timeout_s: int = LIMIT_S,
) -> subprocess.CompletedProcess[str]:
    """What ``python`` would do with these arguments: ``-c``, ``-m`` or a script, and its own.

    A program that takes longer ends with SIGALRM. Stands for ``subprocess.run`` with
    ``capture_output``, ``text`` and without a terminal.
    """
    words = [*map(str, arguments)]
    with tempfile.TemporaryDirectory(prefix="perdure-warm-") as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        wanted = {
            "arguments": words,
            "cwd": str(cwd),
            "env": dict(os.environ if env is None else env),
            "out": str(out),
            "err": str(err),
            "limit_s": timeout_s,
        }
        code = _asked(json.dumps(wanted))
        return subprocess.CompletedProcess(words, code, out.read_text(), err.read_text())


@cache
def _forking() -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.warm"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True,
    )  # fmt: skip
    atexit.register(process.communicate)
    return process


def _asked(line: str) -> int:
    process = _forking()
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()
    answer = process.stdout.readline()
    if not answer:
        raise RuntimeError(f"{process.args!r} has ended with {process.wait()}")
    return int(answer)


# The process that forks


def fork_all() -> dict[str, Any] | None:
    """Answer each line with the end of its program; in a fork, the program that it is to be."""
    for line in sys.stdin:
        wanted: dict[str, Any] = json.loads(line)
        pid = os.fork()
        if not pid:
            return wanted
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
    return None


def become(wanted: Mapping[str, Any], installed: list[str]) -> None:
    """Be the program; whatever it raises ends this process as it would end its own."""
    signal.alarm(wanted["limit_s"])
    for number, path, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, wanted["out"], os.O_WRONLY | os.O_CREAT),
        (2, wanted["err"], os.O_WRONLY | os.O_CREAT),
    ):
        file = os.open(path, flags)
        os.dup2(file, number)
        os.close(file)
    os.chdir(wanted["cwd"])
    os.environ.clear()
    os.environ.update(wanted["env"])
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    kind, *rest = wanted["arguments"]
    match kind:
        case "-c":
            sys.path[:] = ["", *paths, *installed]
            sys.argv[:] = ["-c", *rest[1:]]
            main = sys.modules["__main__"] = types.ModuleType("__main__")
            exec(compile(rest[0], "<string>", "exec"), main.__dict__)
        case "-m":
            sys.path[:] = [wanted["cwd"], *paths, *installed]
            sys.argv[:] = rest
            runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        case script:
            sys.path[:] = [str(Path(script).resolve().parent), *paths, *installed]
            sys.argv[:] = [script, *rest]
            runpy.run_path(script, run_name="__main__")


def main() -> None:
    """Be warm, and fork."""
    for name in WARM:
        importlib.import_module(name)
    ours = {str(ROOT), "", *os.environ.get("PYTHONPATH", "").split(os.pathsep)}
    installed = [path for path in sys.path if path not in ours]
    gc.collect()
    gc.freeze()
    wanted = fork_all()
    if wanted is not None:
        become(wanted, installed)


if __name__ == "__main__":
    main()
