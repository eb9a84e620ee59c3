"""The kill sweep: a runtime under load is killed at every point, restarted, and looked at.

    python -m tests.kill_sweep --hits 25 --random 500 --loop 100 --stops 100
    python -m tests.kill_sweep --points K5,K6 --seed 7 --json
    python -m tests.kill_sweep --mutants
    python -m tests.kill_sweep --store postgresql --hits 25 --random 200

Each row of the table is one story or more (``tests/survival/story.py``): a file, on which a process
is killed, another goes on, and so forth, up to 25 times; after every kill the raw tables and the
ledgers are looked at, at last everything has to come to its end. ``random`` are kills up to 200 ms
after a runtime has started; ``loop`` is one file whose processes all die, half of them up to 200 ms
after their birth, started or not; ``stops`` are graceful ones under load. ``hits`` are the lives
that ended as they were meant to, ``open`` the operations under way in those that were killed.
``--store postgresql`` starts a server for it; the URL of another one names a user who may create
databases there. Ends with 1 if anything was found, or hit less often than asked.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from perdure.failpoints import ALONE, Point
from perdure.store import sql_open
from perdure.store.migrations import upgrade
from tests.servers.databases import AnyServer, ForeignServer, drop_database, new_database, wait_aged
from tests.servers.postgres import Server, found
from tests.survival.checks import CHECKS
from tests.survival.mutants import MUTANTS
from tests.survival.places import FilePlace, Place, PostgresPlace
from tests.survival.story import Story, Zygote

LIVES = 25
"""So many kills on one file; then everything has to come to its end, and another file begins."""

HITS = {
    "K9": 25, "K10": 25, "K11": 20, "K12": 15, "K13": 6, "K14": 20, "K15": 20, "K16": 15, "K17": 2,
    "K18": 5, "K19": len(sql_open._CREATE), "K20": 2, "K26": 2,
}  # fmt: skip
"""Up to so many times a point is reached in a life, about; 60 the others."""

TRIES = 6
BRIEFLY = {"K18": 15, "K19": 15, "K20": 15, "K26": 15}
"""Where a life comes to its point only at its end, it has so many operations; 60 the others."""
WHILE_SERVING = [point for point in ALONE if point is not Point.CREATING]
NOT_IN_POSTGRES = (Point.CREATING, Point.CHECKPOINT)
WITH_POSTGRES = [point for point in (*ALONE, Point.RELEASING) if point not in NOT_IN_POSTGRES]
"""Its schema is there before, and its write-ahead log is not ours; but its shards are given up."""

WHOLE_JOURNALS = {"snapshot_every": 1_000_000}
COUNTS = (
    "lives", "hits", "kills", "open", "tried", "copies", "acknowledged", "refused", "unknown",
    "effects", "turns", "stops",
)  # fmt: skip


@dataclass
class Row:
    """What came of one kind of kill."""

    name: str
    wanted: int
    counts: Counter[str] = field(default_factory=Counter)
    checks: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    stop_max_s: float = 0.0
    seconds: float = 0.0

    @property
    def is_good(self) -> bool:
        """Nothing was found, and so much has happened that this says something."""
        counts = self.counts
        answered = counts["acknowledged"] + counts["refused"]
        is_much = answered == counts["tried"] and 2 * counts["acknowledged"] > counts["tried"]
        return counts["hits"] >= self.wanted and is_much and not self.checks

    def as_dict(self) -> dict[str, Any]:
        """For JSON; with the counters at which nothing was found."""
        return {**vars(self), "checks": {name: self.checks[name] for name in CHECKS}}

    def add(self, other: Row) -> None:
        self.wanted += other.wanted
        self.counts += other.counts
        self.checks += other.checks
        self.problems += other.problems
        self.stop_max_s = max(self.stop_max_s, other.stop_max_s)
        self.seconds += other.seconds


@dataclass(frozen=True)
class Task:
    """A story to be told: what kills, how often."""

    name: str
    times: int
    seed: str
    mutant: str = ""
    server: str = ""
    """Of PostgreSQL; a SQLite file without it."""
    template: str = ""

    def place(self, path: Path) -> Place:
        """Where it takes place."""
        if not self.server:
            return FilePlace(path)
        return PostgresPlace(ForeignServer(self.server), self.template, path)


def kill_at(story: Story, point: str, chance: random.Random) -> bool:
    """A life that is killed at the point, at a hit of its own; False if it is not reached."""
    nth = chance.randint(1, HITS.get(point, 60))
    for _ in range(TRIES):
        if story.live(point=point, nth=nth, quota=BRIEFLY.get(point, 60)) == -signal.SIGKILL:
            return True
        nth = 1 + nth // 3
    return False


def moment(chance: random.Random) -> float:
    """So many seconds after a start."""
    return chance.uniform(0, 0.2)


def hit(story: Story, name: str, chance: random.Random) -> bool:
    """A life, or two, of this kind; whether it ended as it should."""
    anywhen: dict[str, Any] = {"kill_after_s": moment(chance), "quota": 10_000}
    match name:
        case "random":
            return story.live(**anywhen, when_ready=True) == -signal.SIGKILL
        case "loop":
            return story.live(**anywhen, when_ready=chance.random() < 0.5) == -signal.SIGKILL
        case "stops":
            anywhen["signal"] = signal.SIGTERM
            return story.live(**anywhen, when_ready=True, serves=True) == 0
        case "mixed":
            return kill_at(story, chance.choice(WHILE_SERVING), chance)
        case Point.OWNING:  # by itself it leaves nothing to be owned
            story.live(point=Point.VISIBLE, nth=chance.randint(1, 20))
    return kill_at(story, name, chance)


def tell(task: Task, zygote: Zygote, folder: Path) -> Row:
    """One story, from the first life to the end."""
    begun, chance, hits = time.monotonic(), random.Random(task.seed), 0
    settings = WHOLE_JOURNALS if task.name == Point.REPLAYING else None
    with Story(zygote, folder, task.seed, settings, task.mutant, task.place) as story:
        if task.name == Point.REPLAYING:
            story.live(quota=500, kinds=("append",))
        for _ in range(task.times):
            hits += hit(story, task.name, chance)
            if task.mutant and story.findings:
                break
        if not story.told.ops:
            story.live()
        if not (task.mutant and story.findings):
            story.end()
    row = Row(task.name, task.times, story.counted(), seconds=time.monotonic() - begun)
    row.counts["hits"] = hits
    row.checks = Counter(counter for counter, _ in story.findings)
    row.problems = [f"[seed {task.seed}] {counter}: {what}" for counter, what in story.findings]
    row.stop_max_s = max(story.told.stops, default=0.0)
    return row


def tell_alone(task: Task) -> Row:
    """A story in a process of the pool."""
    with tempfile.TemporaryDirectory() as folder, Zygote() as zygote:
        return tell(task, zygote, Path(folder))


def tasks_of(name: str, times: int, seed: int) -> Iterator[Task]:
    """Stories of up to so many lives; a crash loop is one."""
    lives = max(1, times) if name == "loop" else LIVES
    for number, start in enumerate(range(0, times, lives)):
        yield Task(name, min(lives, times - start), f"{seed}-{name}-{number}")


def catch(mutant: str, zygote: Zygote, folder: Path, seed: int, most: int = 200) -> int | None:
    """How many kills it took until a planted mistake was found; None if it was not."""
    kills = number = 0
    (folder / mutant).mkdir()
    while True:
        row = tell(Task("mixed", 5, f"{seed}-{number}", mutant), zygote, folder / mutant)
        kills += row.counts["kills"]
        if row.checks or kills >= most:
            print(f"{mutant}: {kills} kills; {row.problems[0] if row.problems else 'not found'}")
            return kills if row.checks else None
        number += 1


def table(rows: list[Row]) -> str:
    """As text, one row per point."""
    heads = ["", *COUNTS[1:], *CHECKS, "s"]
    lines = [
        [row.name, *(str(row.counts[name]) for name in COUNTS[1:]),
         *(str(row.checks[name]) for name in CHECKS), f"{row.seconds:.0f}"]
        for row in rows
    ]  # fmt: skip
    widths = [max(len(line[n]) for line in [heads, *lines]) for n in range(len(heads))]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in [heads, *lines]
    )


def sweep(tasks: list[Task], jobs: int) -> list[Row]:
    """Tell all stories, some beside each other."""
    rows: dict[str, Row] = {}
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        for row in pool.map(tell_alone, tasks):
            rows.setdefault(row.name, Row(row.name, 0)).add(row)
            print(f"{row.name}: {row.counts['kills']} kills", file=sys.stderr)
    return list(rows.values())


@contextmanager
def served(store: str) -> Iterator[tuple[str, str]]:
    """The URL of a server, and the name of a database with our schema on it; or nothing."""
    if not store:
        yield "", ""
        return
    with ExitStack() as stack:
        if store == "postgresql":
            server: AnyServer = stack.enter_context(Server(found()))
        else:
            server = ForeignServer(store)
        template = new_database(server)
        stack.callback(drop_database, server, template)
        asyncio.run(upgrade(server.url(template)))
        wait_aged(server.url(template))
        yield server.url("postgres"), template


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--hits", type=int, default=25, help="kills at each point")
    parser.add_argument("--points", help="such as K1,K5; by default all that there are")
    parser.add_argument(
        "--store", default="", metavar="URL", help="postgresql, or the URL of a server"
    )
    parser.add_argument("--random", type=int, default=0, help="kills at random moments")
    parser.add_argument("--loop", type=int, default=0, help="kills in a crash loop on one file")
    parser.add_argument("--stops", type=int, default=0, help="graceful stops under load")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--jobs", type=int, default=2, help="stories beside each other")
    parser.add_argument("--json", action="store_true", help="print JSON in place of the table")
    parser.add_argument("--mutants", action="store_true", help="plant mistakes, and find them")
    return parser.parse_args()


def main() -> int:
    given = arguments()
    if given.mutants:
        with tempfile.TemporaryDirectory() as folder, Zygote() as zygote:
            caught = {name: catch(name, zygote, Path(folder), given.seed) for name in MUTANTS}
        print(json.dumps({"seed": given.seed, "kills until caught": caught}))
        return 1 if None in caught.values() else 0
    points = WITH_POSTGRES if given.store else list(ALONE)
    chosen = points if given.points is None else [name for name in given.points.split(",") if name]
    kinds = dict.fromkeys(chosen, given.hits)
    kinds |= {"random": given.random, "loop": given.loop, "stops": given.stops}
    tasks = [task for name, times in kinds.items() for task in tasks_of(name, times, given.seed)]
    begun = time.monotonic()
    with served(given.store) as (server, template):
        tasks = [replace(task, server=server, template=template) for task in tasks]
        rows = sweep(tasks, given.jobs)
    total = Row("all", 0)
    for row in rows:
        total.add(row)
    if given.json:
        print(json.dumps({"seed": given.seed, "rows": [row.as_dict() for row in [*rows, total]]}))
    else:
        print(table([*rows, total]))
        print(*total.problems[:50], sep="\n")
        print(f"seed {given.seed}, {time.monotonic() - begun:.0f} s")
        if total.stop_max_s:
            print(f"longest stop {total.stop_max_s:.3f} s")
    missed = [row.name for row in rows if not row.is_good]
    if missed:
        print("not good:", *missed, file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
