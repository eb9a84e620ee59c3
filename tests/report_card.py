"""The report card: what was injected, what was attempted, what was violated. One command.

    python -m tests.report_card                    about half an hour on two cores
    python -m tests.report_card --small            a minute, to see that it works
    python -m tests.report_card --write            also into docs/report-card.json and the table
                                                   of docs/guarantees.md

Runs the kill sweep, the simulation, the corruption sweep, the power cuts, the overload scenarios
and the planted mistakes, each by its own command, and adds up what they counted. Ends with 1 if a
violation was counted, a kind of fault never happened, or a planted mistake was not caught.
"""

from __future__ import annotations

import argparse
import json
import platform
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from perdure.failpoints import ALONE, Point

__all__ = ["Card", "table", "write"]

ROOT = Path(__file__).parent.parent
JSON_FILE = ROOT / "docs" / "report-card.json"
GUARANTEES = ROOT / "docs" / "guarantees.md"
BEGIN, END = "<!-- report card: written by tests.report_card -->", "<!-- end of report card -->"

CHECKS = (
    "lost", "double", "reordered", "ghost", "torn_turn", "stale_commit", "early_timer",
    "lost_timer", "comp_order", "state_mismatch", "silent_corruption", "vanished", "not_live",
    "simulated",
)  # fmt: skip


@dataclass
class Card:
    """What the parts counted, added up."""

    seed: int
    faults: Counter[str] = field(default_factory=Counter)
    ops: Counter[str] = field(default_factory=Counter)
    checks: Counter[str] = field(default_factory=Counter)
    mutants: dict[str, str] = field(default_factory=dict)
    parts: dict[str, dict[str, Any]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def is_good(self) -> bool:
        return not self.missing and not +self.checks and "not caught" not in self.mutants.values()

    def as_dict(self) -> dict[str, Any]:
        return {
            "version": version("perdure"),
            "commit": _commit(),
            "store": f"sqlite {sqlite3.sqlite_version} wal/full",
            "python": platform.python_version(),
            "os": platform.system(),
            "seed": self.seed,
            "duration_s": round(self.seconds),
            "faults": dict(sorted(self.faults.items())),
            "ops": dict(self.ops),
            "checks": {name: self.checks[name] for name in CHECKS},
            "mutants": {
                "planted": len(self.mutants),
                "caught": sum(how != "not caught" for how in self.mutants.values()),
                "by": self.mutants,
            },
            "parts": self.parts,
            "missing": self.missing,
        }


def command(card: Card, module: str, *options: str) -> dict[str, Any]:
    """The last line of JSON that a command prints; that it failed is noted."""
    said = f"{module} {' '.join(options)}"
    print(f"… {said}", file=sys.stderr, flush=True)
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", module, *options],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    took = round(time.monotonic() - began)
    card.parts[said] = {"seconds": took, "exit": done.returncode}
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        print(done.stdout[-3_000:], done.stderr[-3_000:], file=sys.stderr)
        card.missing.append(f"{said}: exit {done.returncode}")
    return json.loads(lines[-1]) if lines else {}


# The parts


def kills(card: Card, small: bool) -> None:
    hits, random, loop, stops = (1, 10, 10, 5) if small else (25, 300, 100, 50)
    given = {"hits": hits, "random": random, "loop": loop, "stops": stops, "seed": card.seed}
    options = [text for name, value in given.items() for text in (f"--{name}", str(value))]
    found = command(card, "tests.kill_sweep", *options, "--json")
    for row in found.get("rows", []):
        if row["name"] == "all":
            counts = row["counts"]
            card.faults["kill -9"] += counts["kills"]
            card.faults["SIGTERM under load"] += counts.get("stops", 0)
            card.ops["sent"] += counts["tried"]
            for name in ("acknowledged", "refused", "unknown"):
                card.ops[name] += counts.get(name, 0)
            card.ops["turns"] += counts["turns"]
            card.checks.update(row["checks"])
        elif row["name"] in set(Point) and not row["counts"].get("kills"):
            card.missing.append(f"no kill at {row['name']}")


def simulation(card: Card, small: bool) -> None:
    seeds = "5" if small else "500"
    found = command(card, "tests.simulation", "--seeds", seeds, "--json")
    if not found:
        return
    faults, ops, checks = dict(found["faults"]), found["ops"], found["checks"]
    kills: dict[str, int] = faults.pop("kills")
    card.faults["simulated crash"] += sum(kills.values())
    for kind, times in sorted(faults.items()):
        if kind.startswith("pause"):
            card.faults["simulated pause"] += times
        elif not kind.startswith(("setting", "crash")):
            card.faults[f"simulated: {kind}"] += times
    card.ops.update({name: ops[name] for name in ("sent", "refused", "unknown", "turns")})
    card.ops["acknowledged"] += ops["acked"]
    card.checks["simulated"] += sum(map(len, checks.values()))
    if not small:
        card.missing += [
            f"no simulated crash at {point}" for point in ALONE if not kills.get(point)
        ]
    card.parts["simulation"] = {
        "stories": len(checks), "runs": ops["runs"], "turns": ops["turns"],
        "turns per second of a process": round(ops["turns"] / ops["wall_s"]),
        "virtual days": round(ops["virtual_s"] / 86_400), "kills": kills,
        "points passed": ops["passed"],
    }  # fmt: skip


def corruption(card: Card, small: bool) -> None:
    options = ("--sample", "40") if small else ("--sample", "800")
    found = command(card, "tests.corruption_sweep", *options, "--seed", str(card.seed))
    card.faults["damaged file, row or value"] += found.get("damages", 0)
    card.checks["silent_corruption"] += sum(
        found.get(name, 0) for name in ("SILENT", "NEIGHBOUR", "DOWN", "CRASH")
    )
    card.parts["corruption"] = found


def power(card: Card, small: bool) -> None:
    points = "10" if small else "500"
    found = command(card, "tests.power_cut", "--points", points, "--seed", str(card.seed))
    for level, cuts in found.items():
        card.faults[f"power cut, {level}"] += cuts["points"]
        card.checks["torn_turn"] += len(cuts["wrong"])
        if level == "FULL":
            card.checks["lost"] += sum(cuts["losing"].values())
    card.parts["power cut"] = {
        level: {"cuts": cuts["points"], "losing": cuts["losing"], "at most": cuts["worst"]}
        for level, cuts in found.items()
    }


def overload(card: Card, small: bool) -> None:
    names = ("flood", "payloads", "poison")
    found = command(card, "tests.overload", *names, "--json", *(() if small else ("--full",)))
    flood = found.get("flood", {})
    if flood:
        card.faults["flood, messages"] += flood["sent"]
        ended = flood["applied"] + flood["refused"] + flood["dead"]
        card.checks["vanished"] += abs(flood["sent"] - ended)
    card.parts["overload"] = found


def hostile(card: Card, small: bool) -> None:
    found = command(card, "tests.fuzz", "--seconds", "3" if small else "120")
    card.faults["hostile bytes"] += found.get("inputs", 0)
    card.parts["fuzz"] = found


def planted(card: Card, small: bool) -> None:
    if not small:
        found = command(card, "tests.kill_sweep", "--mutants", "--seed", str(card.seed))
        for name, times in found.get("kills until caught", {}).items():
            card.mutants[f"killed: {name}"] = "not caught" if times is None else f"{times} kills"
    found = command(card, "tests.simulation", "--mutants", "--json")
    for one in found.get("mutants", {}).get("each", []):
        seeds = one["seeds until caught"]
        how = "not caught" if seeds is None else f"{seeds} seeds: {one['symptom']}"
        card.mutants[f"simulated: {one['mutant']}"] = how


PARTS: dict[str, Callable[[Card, bool], None]] = {
    "kills": kills,
    "simulation": simulation,
    "corruption": corruption,
    "power": power,
    "overload": overload,
    "hostile": hostile,
    "planted": planted,
}


# What is printed


def table(found: dict[str, Any]) -> str:
    """The card as a table for the documentation."""
    lines = ["| injected | times |", "| --- | --- |"]
    lines += [f"| {name} | {times:,} |" for name, times in found["faults"].items()]
    ops = ", ".join(f"{number:,} {name}" for name, number in found["ops"].items())
    checks = ", ".join(f"{name} {number}" for name, number in found["checks"].items())
    ends = sum(
        times for name, times in found["faults"].items() if "kill" in name or "crash" in name
    )
    mutants = found["mutants"]
    return "\n".join(
        [
            *lines,
            "",
            f"Operations: {ops}. Violations: {checks}. Mistakes planted: {mutants['planted']}, "
            f"caught: {mutants['caught']}.",
            "",
            f"Of {ends:,} ends of processes none lost or doubled anything: at 95 %, fewer than one "
            f"in {ends // 3:,} does (three by n). Seed {found['seed']}, perdure "
            f"{found['version']} at {found['commit']}, {found['store']}, Python "
            f"{found['python']}, {found['duration_s']} s.",
        ]
    )


def write(found: dict[str, Any]) -> None:
    """Into the documentation."""
    JSON_FILE.write_text(json.dumps(found, indent=1) + "\n")
    before, rest = GUARANTEES.read_text().split(BEGIN)
    _, after = rest.split(END)
    GUARANTEES.write_text(f"{before}{BEGIN}\n{table(found)}\n{END}{after}")


def _commit() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    return done.stdout.strip() or "unknown"


def main() -> int:
    """Run the parts; 0 if nothing was violated and everything happened."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--small", action="store_true", help="so little that it takes a minute")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write", action="store_true", help="into docs/")
    given = parser.parse_args()
    card, began = Card(given.seed), time.monotonic()
    for name in given.parts or PARTS:
        PARTS[name](card, given.small)
    card.seconds = time.monotonic() - began
    card.missing += [f"{name}: never happened" for name, n in card.faults.items() if not n]
    found = card.as_dict()
    print(json.dumps(found, indent=1))
    print(table(found))
    if given.write:
        write(found)
    return 0 if card.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
