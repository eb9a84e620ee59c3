"""The simulation at length: every story under many seeds, or every planted mistake until found.

    python -m tests.simulation --seeds 2000 --jobs 2
    python -m tests.simulation --story lists,trip --first 5000 --faults crashes
    python -m tests.simulation --story lists --replay 17
    python -m tests.simulation --mutants
    python -m tests.simulation --seeds 200 --mutants --json

``--faults`` gives every story other faults than its own: only crashes, only pauses (with
takeovers), only writes that fail, only answers that are lost. ``before`` are store operations that
failed and were not carried out, ``after`` writes that were, and failed nevertheless. ``at points``
are the crashes at K1 to K20, of ``kills``. A mutant counts as caught by a seed if the run fails
with it and not without it. Ends with 1 if a run fails, or a mutant gets away.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from multiprocessing import get_context
from typing import Any

from perdure.failpoints import Point
from perdure.testing import Counts, Faults, SimulationFailed
from tests.simulation.mutants import MUTANTS, SEEDS_MAX, caught
from tests.simulation.stories import every

AT_ONCE = 50
"""So many seeds are one task; the first of them is played twice, and has to be the same run."""

FAULTS: dict[str, Faults | None] = {
    "swarm": None,
    "none": Faults.none(),
    "crashes": Faults(
        crash_at_boundary=0.03, crash_at_random=0.003, crash_when_idle=0.1, duplicate=0.3
    ),
    "pauses": Faults(
        pause=0.02, pause_at_boundary=0.02, takeover=0.5, duplicate=0.3, slow_worker=0.2
    ),
    "unwritten": Faults(write_fails=0.3, read_fails=0.2, open_fails=0.1, duplicate=0.3),
    "lost": Faults(answer_lost=0.4, duplicate=0.3),
    "doubts": Faults(answer_lost=0.2, read_fails=0.3, write_fails=0.1, crash_at_boundary=0.01),
    "hostile": Faults(hostile=1.0, crash_at_boundary=0.01, answer_lost=0.1, aimed=1.0),
}

BEFORE = ("write fails", "read fails", "open fails")


@dataclass
class Row:
    """What came of the runs of a story."""

    story: str
    counts: Counts = field(default_factory=Counts)
    passed: Counter[str] = field(default_factory=Counter)
    repeated: int = 0
    violations: list[tuple[int, str]] = field(default_factory=list)

    def add(self, other: Row) -> None:
        self.counts += other.counts
        self.passed += other.passed
        self.repeated += other.repeated
        self.violations += other.violations

    @property
    def before(self) -> int:
        return sum(self.counts.faults[kind] for kind in BEFORE)

    @property
    def pauses(self) -> int:
        faults = self.counts.faults
        return sum(count for kind, count in faults.items() if kind.startswith("pause"))

    def cells(self) -> list[str]:
        counts, kills = self.counts, self.counts.kills
        at_points = sum(count for point, count in kills.items() if point in set(Point))
        figures = [
            counts.runs, counts.turns, counts.effects, kills.total(), at_points, self.pauses,
            counts.faults["takeover"], self.before, counts.faults["answer lost"],
            self.passed[Point.PASSIVATING], round(counts.virtual_s), round(counts.wall_s),
            len(self.violations),
        ]  # fmt: skip
        return [self.story, *map(str, figures)]


HEADS = (
    "story", "seeds", "turns", "effects", "kills", "at points", "pauses", "takeovers", "before",
    "after", "passivations", "virtual s", "s", "violations",
)  # fmt: skip


def play(faults: str, story: str, first: int, last: int) -> Row:
    """A story under these seeds."""
    simulation, row = every(FAULTS[faults])[story], Row(story)
    for seed in range(first, last):
        outcome = simulation.outcome(seed)
        row.counts += outcome.counts
        row.passed += Counter(
            name.removeprefix("crash ").partition("#")[0] for name in outcome.boundaries
        )
        if outcome.error is not None:
            row.violations.append((seed, outcome.reason))
        if seed == first:
            row.repeated += 1
            if simulation.outcome(seed).trace.digest() != outcome.trace.digest():
                row.violations.append((seed, "the same seed gave another run"))
    return row


def find(most: int, name: str) -> dict[str, Any]:
    """Which seeds catch a mutant; up to ``SEEDS_MAX`` are tried until one does."""
    planted = MUTANTS[name]
    story = every()[planted.story]
    found = list(caught(planted, story, range(most)))
    if not found:
        found = list(zip(range(1), caught(planted, story, range(most, SEEDS_MAX)), strict=False))
        found = [outcome for _, outcome in found]
    first = found[0] if found else None
    return {
        "mutant": name,
        "story": planted.story,
        "first seed": first.seed if first else None,
        "seeds until caught": first.seed + 1 if first else None,
        "caught by": len(found),
        "of": most if first is None or first.seed < most else first.seed + 1,
        "symptom": first.reason.partition("\n")[0][:100] if first else "",
    }


def table(lines: Iterable[Iterable[str]]) -> str:
    """As text, in columns."""
    cells = [list(line) for line in lines]
    widths = [max(len(line[n]) for line in cells) for n in range(len(cells[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if n == 0 else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in cells
    )


def sweep(given: argparse.Namespace) -> list[Row]:
    """Play the stories, several tasks beside each other."""
    names = given.story.split(",") if given.story else list(every())
    last = given.first + given.seeds
    tasks = [
        (given.faults, name, first, min(first + AT_ONCE, last))
        for first in range(given.first, last, AT_ONCE)
        for name in names
    ]
    rows = {name: Row(name) for name in names}
    with ProcessPoolExecutor(given.jobs, get_context("spawn")) as pool:
        for row in pool.map(play, *zip(*tasks, strict=True)):
            rows[row.story].add(row)
            for seed, reason in row.violations:
                print(f"{row.story}, seed {seed}: {reason}", file=sys.stderr, flush=True)
    return list(rows.values())


def hunt(given: argparse.Namespace) -> list[dict[str, Any]]:
    """Plant all mutants, one after another."""
    with ProcessPoolExecutor(given.jobs, get_context("spawn")) as pool:
        return list(pool.map(partial(find, given.mutant_seeds), MUTANTS))


def as_json(rows: list[Row], total: Row, mutants: list[dict[str, Any]]) -> dict[str, Any]:
    """For the report card."""
    ops = {
        name: value
        for name, value in asdict(total.counts).items()
        if isinstance(value, int | float)
    }
    return {
        "faults": {"kills": dict(total.counts.kills), **total.counts.faults},
        "ops": {**ops, "passed": dict(total.passed), "repeated runs": total.repeated},
        "checks": {row.story: [list(found) for found in row.violations] for row in rows},
        "mutants": {
            "planted": len(mutants),
            "caught": sum(bool(mutant["caught by"]) for mutant in mutants),
            "each": mutants,
        },
    }


def mutants_table(mutants: list[dict[str, Any]]) -> str:
    heads = ["mutant", "story", "seeds until caught", "caught by", "symptom"]
    lines = [
        [
            found["mutant"], found["story"], str(found["seeds until caught"]),
            f"{found['caught by']} of {found['of']}", found["symptom"],
        ]
        for found in mutants
    ]  # fmt: skip
    return table([heads, *lines])


def replay(story: str, seed: int, faults: str) -> int:
    """Play one run, and shrink it if it fails."""
    try:
        every(FAULTS[faults])[story].run(seeds=[seed])
    except SimulationFailed as failure:
        print(failure)
        return 1
    print(f"{story}, seed {seed}: nothing is wrong")
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=0, help="runs of each story")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--story", default="", help="such as lists,trip; else all")
    parser.add_argument("--faults", choices=FAULTS, default="swarm")
    parser.add_argument("--replay", type=int, help="play this seed of the story, and shrink it")
    parser.add_argument("--mutants", action="store_true", help="plant mistakes, and find them")
    parser.add_argument("--mutant-seeds", type=int, default=100, help="runs of each mutant")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--json", action="store_true", help="print JSON in place of the tables")
    return parser.parse_args()


def main() -> int:
    given = arguments()
    if given.replay is not None:
        return replay(given.story, given.replay, given.faults)
    if not given.seeds and not given.mutants:
        given.seeds = 2_000
    begun = time.monotonic()
    rows = sweep(given) if given.seeds else []
    mutants = hunt(given) if given.mutants else []
    total = Row("all")
    for row in rows:
        total.add(row)
    if given.json:
        print(json.dumps(as_json(rows, total, mutants)))
    else:
        if rows:
            print(table([HEADS, *(row.cells() for row in [*rows, total])]))
            rate = total.counts.turns / max(total.counts.wall_s, 0.001)
            print(f"{rate:.0f} turns/s per process, {time.monotonic() - begun:.0f} s")
        if mutants:
            print(mutants_table(mutants))
    got_away = [found["mutant"] for found in mutants if not found["caught by"]]
    if got_away:
        print("got away:", *got_away, sep="\n  ", file=sys.stderr)
    return 1 if total.violations or got_away else 0
