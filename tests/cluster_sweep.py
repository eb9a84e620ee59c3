"""Processes of a cluster are killed under load; in the end everything is there, once, in order.

    python -m tests.cluster_sweep --processes 3 --every 3 --operations 2000
    python -m tests.cluster_sweep --every 3 --messages 3000 --instances 100
    python -m tests.cluster_sweep --points K1,K5,K6,K7 --hits 3 --operations 300
    python -m tests.cluster_sweep --points all --operations 300
    python -m tests.cluster_sweep --every 5 --how stop --how pause

``perdure run --processes N`` runs the workload (``survival/crowd.py``) over PostgreSQL; a process
without shards sends to it, at times twice, and keeps the ledger. Every few seconds one of the
processes is killed with -9, or stopped in order, or paused for longer than its lease and woken; or
they kill themselves at points of ``failpoints.py``, at each as often as is said, and as long as
that takes, more operations are sent. At last nothing is killed any more, everything has to come to
its end, and the tables, the ledger and the states are held against each other, as in
``kill_sweep.py``. Ends with 1 if anything was found, or a point was not reached.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from perdure.failpoints import Point
from perdure.runtime.runtime import Runtime
from tests.kill_sweep import NOT_IN_POSTGRES, served
from tests.servers.databases import AnyServer, ForeignServer, execute
from tests.survival.books import ENTRIES, TABLE, entered
from tests.survival.checks import CHECKS, Finding, Tables, Told, ended, kept, live, sound
from tests.survival.crowd import DEATHS, LEDGER, crowd
from tests.survival.deaths import Deaths
from tests.survival.ledger import Shared
from tests.survival.life import KINDS, Clients, Life, operations_of
from tests.survival.places import WAITING, PostgresPlace, waiting_in
from tests.survival.sagas import Op
from tests.survival.story import read_states

ROOT = Path(__file__).parents[1]
HOWS = ("kill", "stop", "pause")
PAUSED_S = 5.0
"""Longer than the lease of the crowd."""

MAIL = "mail"
HEAL_S = 60.0
UP_S = 120.0
DEALT_S = 600.0
"""So long more is sent for those who have not come to their points."""

POINTS = [point for point in Point if point not in NOT_IN_POSTGRES]
"""Where the processes of a cluster come by."""


class Crew:
    """``perdure run --processes N``, and who of its processes is up."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log
        self.up: dict[int, int] = {}
        self.lives = 0
        self._changed = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self._process.stderr is not None
        with self._log.open("ab") as log:
            async for line in self._process.stderr:
                log.write(line)
                if came := re.search(rb"process (\d+) of \d+ is up, pid (\d+)", line):
                    self.up[int(came[1])] = int(came[2])
                    self.lives += 1
                elif went := re.search(rb"process (\d+), pid \d+, (was|has) ended", line):
                    self.up.pop(int(went[1]), None)
                self._changed.set()

    async def wait_up(self, processes: int) -> None:
        """Wait until so many are up."""
        async with asyncio.timeout(UP_S):
            while len(self.up) < processes:
                self._changed.clear()
                await self._changed.wait()

    async def stop(self) -> int:
        """Have it drain; what it ends with."""
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(HEAL_S):
                return await self._process.wait()
        finally:
            self._reading.cancel()
            if self._process.returncode is None:
                self._process.kill()


@asynccontextmanager
async def crew(
    url: str, processes: int, folder: Path, app: str = "tests.survival.crowd:app"
) -> AsyncIterator[Crew]:
    """Run the workload; stopped at the end, if it was not before."""
    environment = {**os.environ, LEDGER: str(folder / "ledger"), DEATHS: str(folder / "deaths")}
    (folder / "deaths").mkdir(exist_ok=True)
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    command = [sys.executable, "-m", "tests.survival.parent", "run", app, "--store", url]
    command += ["--processes", str(processes), "--restarts", "1000"]
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    running = Crew(process, folder / "log")
    try:
        await running.wait_up(processes)
        yield running
    finally:
        await running.stop()


@dataclass
class Nemesis:
    """Does harm every few seconds, or operations; counts it."""

    crew: Crew
    every_s: float
    hows: list[str]
    seed: str
    done: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)
        self._strikes: list[asyncio.Future[None]] = []

    async def run(self) -> None:
        """Until cancelled. Nobody is left paused."""
        while True:
            await asyncio.sleep(self._chance.uniform(0.5, 1.5) * self.every_s)
            await self.strike(self._chance.choice(self.hows))

    def among(self, ops: Iterator[Op], every: int) -> Iterator[Op]:
        """The operations; before some of them somebody is struck."""
        for number, op in enumerate(ops, 1):
            if every and number % every == 0:
                how = self._chance.choice(self.hows)
                self._strikes.append(asyncio.ensure_future(self.strike(how)))
            yield op

    async def strike(self, how: str) -> None:
        """Now, if anybody is up."""
        if self.crew.up:
            pid = self.crew.up[self._chance.choice(sorted(self.crew.up))]
            with suppress(ProcessLookupError):
                await self._harm(pid, how)
                self.done[how] += 1

    async def _harm(self, pid: int, how: str) -> None:
        match how:
            case "kill":
                os.kill(pid, signal.SIGKILL)
            case "stop":
                os.kill(pid, signal.SIGTERM)
            case "pause":
                os.kill(pid, signal.SIGSTOP)
                try:
                    await asyncio.sleep(PAUSED_S)
                finally:
                    os.kill(pid, signal.SIGCONT)


@dataclass
class Sent:
    """What is sent: so many operations of the workload, or numbered messages to some lists."""

    operations: int = 0
    messages: int = 0
    instances: int = 100

    def ops(self, life: Life, deaths: Deaths) -> Iterator[Op]:
        """All of them, and more as long as somebody is to die."""
        until_s, endless = time.monotonic() + DEALT_S, operations_of(life)
        yield from itertools.islice(endless, self.operations)
        for number in range(self.messages):
            target = f"n-{number % self.instances}"
            yield Op(f"{life.seed}.m{number}", "append", target, number)
        while deaths.left and time.monotonic() < until_s:
            yield next(endless)


@dataclass
class Outcome:
    """What has happened, and what was found."""

    counts: Counter[str]
    findings: list[Finding]
    seconds: float
    deaths: Counter[str]

    def as_dict(self) -> dict[str, Any]:
        """For JSON; with the counters at which nothing was found."""
        found = Counter(counter for counter, _ in self.findings)
        checks = {name: found[name] for name in CHECKS}
        deaths = dict(sorted(self.deaths.items(), key=lambda death: int(death[0][1:])))
        seconds = round(self.seconds, 1)
        return {
            "counts": dict(self.counts), "deaths": deaths, "checks": checks, "seconds": seconds,
        }  # fmt: skip


async def drive(url: str, life: Life, ops: Iterator[Op], told: Told, clients: int) -> None:
    """Send all, again and again what nobody knows of, until everything is answered."""
    outside = Shared(life.outside)
    async with crowd(url, takes_shards=False) as runtime:
        await _sent(runtime, outside, life, ops, clients)
        told.read()
        for turn in itertools.count():
            again = [*told.unsettled, *(told.one_sided if not turn else ())]
            if not again:
                return
            await _sent(runtime, outside, life, iter(again), clients)
            told.read()


async def _sent(
    runtime: Runtime, outside: Shared, life: Life, ops: Iterator[Op], clients: int
) -> None:
    await asyncio.gather(*(Clients(runtime, outside, life, ops).done() for _ in range(clients)))


async def healed(url: str, tables: Sequence[str] = WAITING) -> None:
    """Wait until nothing waits, mail neither; for so long at most."""
    async with waiting_in(url, [*tables, MAIL]) as waiting, asyncio.timeout(HEAL_S):
        for pause_s in itertools.repeat(0.05):
            if not await waiting():
                return
            await asyncio.sleep(pause_s)


async def play(
    url: str, folder: Path, sent: Sent, *, processes: int, seed: str, every_s: float = 0.0,
    every: int = 0, hows: list[str] | None = None, points: Sequence[str] = (), hits: int = 1,
    clients: int = 4,
) -> tuple[Counter[str], Told, list[Finding]]:  # fmt: skip
    """The story, from the start of all processes to their end."""
    ledger = folder / "ledger"
    os.environ[LEDGER] = str(ledger)
    Shared(str(ledger))
    told, findings = Told(ledger), []
    deaths = Deaths(folder / "deaths")
    async with crew(url, processes, folder) as running:
        deaths.deal(points, hits)
        nemesis = Nemesis(running, every_s, hows or ["kill"], seed)
        harming = asyncio.create_task(nemesis.run()) if every_s else None
        life = Life(url, str(ledger), seed, kinds=(*KINDS, "book", "book"))
        await drive(url, life, nemesis.among(sent.ops(life, deaths), every), told, clients)
        findings += [("not_reached", f"nobody has died at {point}") for point in deaths.left]
        deaths.withdraw()
        if harming is not None:
            harming.cancel()
            await asyncio.gather(harming, return_exceptions=True)
        try:
            await healed(url)
        except TimeoutError:
            findings.append(("not_live", f"something waits still after {HEAL_S:g} s"))
        code = await running.stop()
        if code:
            findings.append(("not_live", f"perdure run has ended with {code}"))
        counts = Counter(nemesis.done) + Counter(lives=running.lives)
    return counts, told, findings


def judged(place: PostgresPlace, told: Told) -> tuple[Counter[str], list[Finding]]:
    """Nobody lives any more: what is broken, what is lost?"""
    told.read()
    with closing(sqlite3.connect(place.tables(), isolation_level=None)) as connection:
        findings = list(sound(connection))
        tables = Tables.read(connection)
    findings += kept(told, tables)
    findings += live(told, tables)
    states = asyncio.run(read_states(place.url))
    folded = asyncio.run(read_states(f"sqlite+aiosqlite:///{place.without_snapshots()}"))
    findings += [
        ("state_mismatch", f"{instance}: with snapshots it is another")
        for instance in states.keys() | folded.keys()
        if states.get(instance) != folded.get(instance)
    ]
    findings += ended(told, tables, states)
    findings += entered([job for (job,) in execute(place.url, ENTRIES)], tables)
    counts = Counter(
        tried=len(told.ops), copies=told.tries.total(), acknowledged=len(told.acks),
        refused=sum(1 for id in told.refused if id not in told.acks),
        unknown=told.unknown.total(), effects=len(told.effects), turns=tables.turns,
    )  # fmt: skip
    return counts, findings


def story(server: AnyServer, template: str, folder: Path, sent: Sent, **how: Any) -> Outcome:
    """A whole one, over a database of its own."""
    begun = time.monotonic()
    place = PostgresPlace(server, template, folder / "copy.db")
    place.open()
    execute(place.url, TABLE)
    try:
        counts, told, findings = asyncio.run(play(place.url, folder, sent, **how))
        more, found = judged(place, told)
    finally:
        place.close()
    return Outcome(counts + more, [*findings, *found], time.monotonic() - begun, told.deaths)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--store", default="postgresql", metavar="URL", help="of a server; or ours")
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument("--every", type=float, default=0.0, help="seconds between two kills")
    parser.add_argument("--how", action="append", choices=HOWS, help="kill, if not said")
    parser.add_argument("--points", default="", help="to die at, such as K1,K5; or all")
    parser.add_argument("--hits", type=int, default=1, help="deaths at each point")
    parser.add_argument("--operations", type=int, default=0, help="of all kinds")
    parser.add_argument("--messages", type=int, default=0, help="in order, to some instances")
    parser.add_argument("--instances", type=int, default=100)
    parser.add_argument("--clients", type=int, default=4, help="times six")
    parser.add_argument("--seed", default=str(random.randrange(1_000_000)))
    parser.add_argument("--keep", type=Path, help="leave ledger, log and tables here")
    return parser.parse_args()


def main() -> int:
    given = arguments()
    points = POINTS if given.points == "all" else [one for one in given.points.split(",") if one]
    sent = Sent(given.operations, given.messages, given.instances)
    with tempfile.TemporaryDirectory() as temporary, served(given.store) as (url, template):
        folder = given.keep or Path(temporary)
        folder.mkdir(exist_ok=True)
        outcome = story(
            ForeignServer(url), template, folder, sent, processes=given.processes, seed=given.seed,
            every_s=given.every, hows=given.how, points=points, hits=given.hits,
            clients=given.clients,
        )  # fmt: skip
    print(json.dumps({"seed": given.seed, "processes": given.processes, **outcome.as_dict()}))
    print(*(f"{counter}: {what}" for counter, what in outcome.findings[:50]), sep="\n")
    return 1 if outcome.findings else 0


if __name__ == "__main__":
    sys.exit(main())
