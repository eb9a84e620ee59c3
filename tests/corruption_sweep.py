"""Damage a file in every way, use it fully, and see that nothing wrong passes for right.

    python -m tests.corruption_sweep                 a sample
    python -m tests.corruption_sweep --all           everything
    python -m tests.corruption_sweep --only outbox   where the damage's name contains this

Prints a table and one line of JSON; fails if anything was SILENT, hurt a neighbour, kept the
runtime from starting though it concerned one instance, or crashed, hung or spun.
Next to read: ``tests/damage/judging.py``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.damage.damages import Damage, damages_of
from tests.damage.filled import fill
from tests.damage.judging import Judgement, Verdict, by_inspection, is_of_bytes, judge
from tests.damage.using import look

__all__ = ["Sweep", "sweep"]

SAMPLE = 400


@dataclass
class Sweep:
    """What a sweep counted, per place and verdict."""

    counts: Counter[tuple[str, Verdict]] = field(default_factory=Counter)
    bad: list[str] = field(default_factory=list)
    impossible: int = 0

    def count(self, damage: Damage, judgement: Judgement) -> None:
        self.counts[_place(damage), judgement.verdict] += 1
        if judgement.verdict.is_bad:
            self.bad.append(f"{judgement.verdict} {damage}: {judgement.why}")

    def total(self, verdict: Verdict | None = None) -> int:
        return sum(n for (_, one), n in self.counts.items() if verdict in (None, one))

    def table(self) -> str:
        places = dict.fromkeys(place for place, _ in self.counts)
        lines = [" ".join(["place".ljust(28), "damages".rjust(9), *(v.rjust(9) for v in Verdict)])]
        for place in places:
            numbers = [self.counts[place, verdict] for verdict in Verdict]
            cells = [f"{number or '':>9}" for number in (sum(numbers), *numbers)]
            lines.append(" ".join([place.ljust(28), *cells]))
        totals = [f"{self.total(verdict):>9}" for verdict in (None, *Verdict)]
        return "\n".join([*lines, " ".join(["all".ljust(28), *totals])])

    def summary(self) -> dict[str, int]:
        return {"damages": self.total(), **{str(one): self.total(one) for one in Verdict}}


def _place(damage: Damage) -> str:
    place = damage.where.partition(",")[0].partition(" of ")[0]
    if "," in damage.where:
        return f"{place}, {damage.how.partition(' ')[0]}"
    return place


def sweep(directory: Path, sample: int | None = None, only: str = "", seed: int = 0) -> Sweep:
    """Do the damages (or so many of them, by chance) one by one, each to a fresh copy."""
    filled = directory / "filled.db"
    asyncio.run(fill(filled))
    truth = look(_copy(filled, directory))
    assert not truth.crash, truth.crash
    assert not truth.refusals, truth.refusals
    damages = [damage for damage in damages_of(filled) if only in str(damage)]
    if sample is not None:
        damages = _spread(damages, seed)
    done = Sweep()
    for damage in damages:
        if done.total() == sample:
            break
        copy = _copy(filled, directory)
        concerned = damage.apply(copy)
        if concerned is None:
            done.impossible += 1
            continue
        judgement = judge(damage, concerned, truth, look(copy))
        if judgement.verdict is Verdict.SILENT and is_of_bytes(damage):
            copy = _copy(filled, directory)
            damage.apply(copy)
            judgement = by_inspection(judgement, copy)
        done.count(damage, judgement)
    return done


def _spread(damages: Iterable[Damage], seed: int) -> list[Damage]:
    """By chance, and at every point as many of each place, as far as they go."""
    chance = random.Random(seed)
    by_place: dict[str, list[Damage]] = {}
    for damage in damages:
        by_place.setdefault(_place(damage), []).append(damage)
    for group in by_place.values():
        chance.shuffle(group)
    found: list[Damage] = []
    while any(by_place.values()):
        for group in by_place.values():
            found += group[:1]
            del group[:1]
    return found


def _copy(filled: Path, directory: Path) -> Path:
    copy = directory / "copy.db"
    for suffix in ("-wal", "-shm", ".lock"):
        Path(f"{copy}{suffix}").unlink(missing_ok=True)
    shutil.copy(filled, copy)
    return copy


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--all", action="store_true", help="everything, not a sample")
    parser.add_argument("--only", default="", metavar="TEXT", help="damages named so")
    parser.add_argument("--sample", type=int, default=None, help=f"so many, not {SAMPLE}")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    given = parser.parse_args()
    began = time.monotonic()
    in_memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=in_memory) as directory:
        sample = None if given.all else given.sample or (None if given.only else SAMPLE)
        done = sweep(Path(directory), sample, given.only, given.seed)
    print(done.table())
    for line in done.bad:
        print(line)
    seconds = round(time.monotonic() - began, 1)
    found = {"seed": given.seed, "seconds": seconds, "impossible": done.impossible}
    print(json.dumps({**found, **done.summary()}))
    return 1 if done.bad else 0


if __name__ == "__main__":
    sys.exit(main())
