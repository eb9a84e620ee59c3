"""Cut the power at many points of a real run, and see that no acknowledged turn is lost.

    python -m tests.power_cut --points 1000

Runs turns under strace with each durability, rebuilds the disk at so many points and in both ways
(``tests/disk/cutting.py``), opens each image, and compares with what was acknowledged before the
cut. Fails if FULL lost a turn, if NORMAL lost none (then the method sees nothing), or if an image
was damaged or half of a turn.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.disk.cutting import Cut, acknowledged, cut, examine
from tests.disk.tracing import Event, strace, trace

__all__ = ["Cuts", "cuts", "record"]

TURNS = 400
PAGES = 40


@dataclass
class Cuts:
    """Counts over the points of one run, per model of what survives."""

    syncs: int
    turns: int
    losing: dict[str, int] = field(default_factory=lambda: {"none": 0, "torn": 0})
    worst: int = 0
    points: int = 0
    wrong: list[str] = field(default_factory=list)

    def count(self, model: str, place: int, found: Cut) -> None:
        self.points += 1
        self.losing[model] += found.lost > 0
        self.worst = max(self.worst, found.lost)
        if found.wrong:
            self.wrong.append(f"{model} at {place}: {found.wrong}")


def record(directory: Path, synchronous: str, turns: int = TURNS) -> list[Event]:
    """A run of so many turns, with a checkpoint every few pages."""
    directory.mkdir()
    file = directory.resolve() / "cut.db"
    return trace(
        directory.resolve(),
        "tests.disk.turns_child",
        str(file),
        str(turns),
        synchronous,
        str(PAGES),
    )


def cuts(events: list[Event], points: int, seed: int = 0) -> Cuts:
    """Cut the run at so many points, in both ways each."""
    chance = random.Random(seed)
    syncs = sum(event.kind == "sync" for event in events)
    done = Cuts(syncs, len(acknowledged(events)))
    for place in sorted(chance.randrange(1, len(events) + 1) for _ in range(points)):
        before = events[:place]
        told = acknowledged(before)
        for model, tearing in (("none", None), ("torn", random.Random(place))):
            with tempfile.TemporaryDirectory() as directory:
                cut(before, Path(directory), tearing)
                done.count(model, place, examine(Path(directory) / "cut.db", told))
    return done


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--points", type=int, default=1000, help="per durability and model")
    parser.add_argument("--turns", type=int, default=TURNS)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if strace():
        print(strace())
        return 2
    began = time.monotonic()
    found: dict[str, Cuts] = {}
    for level in ("FULL", "NORMAL"):
        with tempfile.TemporaryDirectory() as directory:
            events = record(Path(directory) / "disk", level, given.turns)
        found[level] = done = cuts(events, given.points, given.seed)
        print(
            f"WAL {level:6}  {done.turns} turns, {done.syncs} syncs, {done.points} cuts: "
            f"{done.losing['none']} + {done.losing['torn']} lost acknowledged turns "
            f"(at most {done.worst}); damaged or half a turn: {len(done.wrong)}"
        )
        for line in done.wrong[:10]:
            print("   ", line)
    print(json.dumps({level: vars(done) for level, done in found.items()}))
    print(f"{time.monotonic() - began:.0f} s")
    full, normal = found["FULL"], found["NORMAL"]
    fine = not full.worst and normal.worst and not full.wrong and not normal.wrong
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
