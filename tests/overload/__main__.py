"""``python -m tests.overload [SCENARIO …] [--full] [--json]``: each in a process of its own."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from perdure import SqlStore
from tests.overload import backlog, due, floods, histories, payloads, poison
from tests.overload.common import Figures


def sql(path: Path) -> SqlStore:
    """A store in this directory."""
    return SqlStore(f"sqlite+aiosqlite:///{path}/store.db", synchronous="NORMAL")


Scenario = Callable[[Path, bool], Coroutine[Any, Any, Figures]]

SCENARIOS: dict[str, Scenario] = {
    "flood": lambda _, full: floods.flood(floods.FULL if full else floods.Sizes()),
    "hot": lambda _, full: floods.crowd(floods.FULL_CROWD if full else floods.Crowd()),
    "quiet": lambda _, full: floods.reverse(floods.FULL_CROWD if full else floods.Crowd()),
    "strangers": lambda path, full: floods.strangers(sql(path), *((20_000, 1_000) if full else ())),
    "overdue": lambda path, full: due.overdue(path, due.FULL if full else due.Sizes()),
    "due-of-one": lambda path, full: due.of_one(sql(path), 9_999 if full else 900),
    "history": lambda path, full: histories.long_history(
        path, histories.FULL if full else histories.Sizes()
    ),
    "payloads": lambda _, full: payloads.payloads(),
    "poison": lambda _, full: poison.poison(
        poison.Stubborn, poison.FULL if full else poison.Sizes()
    ),
    "receiver-down": lambda path, full: backlog.receiver_down(
        path, backlog.FULL_DOWN if full else backlog.Sizes()
    ),
    "start": lambda path, full: backlog.start_over_backlog(
        path, backlog.FULL if full else backlog.Sizes()
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the scenarios; 0 if all kept what they promise."""
    parser = argparse.ArgumentParser(prog="python -m tests.overload")
    parser.add_argument("names", nargs="*", metavar="SCENARIO", help=", ".join(SCENARIOS))
    parser.add_argument("--full", action="store_true", help="the sizes of the promises")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - SCENARIOS.keys():
        parser.error(f"no scenario {', '.join(sorted(unknown))}; there are {', '.join(SCENARIOS)}")
    if options.inside:
        print(json.dumps(_run(options.names[0], options.full)))
        return 0
    found = {name: _in_a_child(name, options.full) for name in options.names or SCENARIOS}
    if options.json:
        print(json.dumps(found))
    else:
        _print(found)
    return int(any("failed" in figures for figures in found.values()))


def _run(name: str, full: bool) -> Figures:
    logging.getLogger("perdure").setLevel(logging.CRITICAL)  # poison is no news here
    with tempfile.TemporaryDirectory(prefix="perdure-overload-") as directory:
        started, cpu = time.perf_counter(), time.process_time()
        figures = asyncio.run(SCENARIOS[name](Path(directory), full))
        figures["seconds"] = time.perf_counter() - started
        figures["cpu seconds"] = time.process_time() - cpu
        return figures


def _in_a_child(name: str, full: bool) -> dict[str, Any]:
    """A process of its own, so that its memory is its own."""
    command = [sys.executable, "-m", "tests.overload", name, "--inside"]
    done = subprocess.run(command + ["--full"] * full, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"failed": done.stderr.strip().splitlines()[-1:]}
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _print(found: dict[str, dict[str, Any]]) -> None:
    for name, figures in found.items():
        print(name)
        for figure, value in figures.items():
            shown = (
                f"{value:,.2f}"
                if isinstance(value, float)
                else f"{value:,}"
                if isinstance(value, int)
                else str(value)
            )
            print(f"    {figure:34} {shown:>18}")


if __name__ == "__main__":
    sys.exit(main())
