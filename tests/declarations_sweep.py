"""The figures of ``examples/declarations.py`` over PostgreSQL, by processes that are killed.

    python -m tests.declarations_sweep --processes 3 --every 4 --log big.xes.gz --expected big.json
    python -m tests.declarations_sweep --processes 3 --kills 5
    python -m tests.declarations_sweep --processes 1 --kills 10

With several processes, ``perdure run`` keeps them alive, one is killed with -9 every few seconds,
or so many times, evenly over the log,
and this program, which owns no instance, delivers the events and keeps the simulated time for all:
it goes on only when nothing that is due waits any more, whoever has to do it. One process is the
example itself, killed at random moments and started again over the same store. ``--expected`` are
the figures as JSON; by default those of the same log in memory. Ends with 1 if any of them is
another, or a notice is missing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import groupby
from pathlib import Path
from typing import Any

from perdure import Settings
from perdure.cluster import Cluster, ClusterSettings
from tests.cluster_sweep import Nemesis, crew, healed
from tests.kill_sweep import served
from tests.servers.databases import ForeignServer, fresh_database
from tests.survival.declared import CLOCK, EXAMPLES, LEASE_S, NOTICES, FollowedClock, declarations

DUE = "SELECT min(due_at_ms) FROM perdure.deadlines"
POLL_S = 0.005


class Time:
    """The simulated time of all processes, kept by this one."""

    def __init__(self, start_ms: int, database: Any) -> None:
        self._now_ms = start_ms
        self._database = database
        self._peers: dict[asyncio.StreamWriter, asyncio.StreamReader] = {}

    async def joined(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A process has come: it begins at the time that it is."""
        writer.write(b"%d\n" % self._now_ms)
        self._peers[writer] = reader

    async def advance_to(self, at_ms: int) -> None:
        """From one deadline to the next: each is done, by whomever, before time goes on."""
        while (due_ms := await self._database.fetchval(DUE)) is not None and due_ms <= at_ms:
            if due_ms > self._now_ms:
                await self._step(due_ms)
            else:  # its owner has died, and another one is to come
                await asyncio.sleep(POLL_S)
        await self._step(at_ms)

    async def close(self) -> None:
        """Nobody follows any more."""
        for writer in self._peers:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _step(self, at_ms: int) -> None:
        self._now_ms = at_ms
        peers = list(self._peers.items())
        await asyncio.gather(*(self._tell(*peer, at_ms) for peer in peers))

    async def _tell(
        self, writer: asyncio.StreamWriter, reader: asyncio.StreamReader, at_ms: int
    ) -> None:
        try:
            writer.write(b"%d\n" % at_ms)
            if await reader.readline():
                return
        except ConnectionError:
            pass
        self._peers.pop(writer, None)  # it was killed
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


@asynccontextmanager
async def timed(url: str, start_ms: int, address: str) -> AsyncIterator[Time]:
    """A time for others to follow."""
    import asyncpg

    database = await asyncpg.connect(url.replace("+asyncpg", ""))
    time = Time(start_ms, database)
    server = await asyncio.start_unix_server(time.joined, address)
    try:
        yield time
    finally:
        server.close()
        await time.close()
        await database.close()


async def several(
    url: str, log: Path, folder: Path, processes: int, every_s: float, kills: int, seed: str
) -> tuple[Any, int]:
    """The figures, and how many were killed on the way."""
    example = declarations()
    events = example.read_log(log)
    moments = [(at, list(together)) for at, together in groupby(events, key=lambda e: e.at_ms)]
    last = {len(moments) * (n + 1) // (kills + 1) for n in range(kills)}
    address = str(folder / "clock")
    os.environ |= {CLOCK: address, NOTICES: str(folder / "notices")}
    async with (
        timed(url, events[0].at_ms, address) as time,
        crew(url, processes, folder, app="tests.survival.declared:app") as running,
        Cluster(
            url,
            [example.Declaration, example.notifying],
            Settings(idle_after_s=None),
            clock=FollowedClock(events[0].at),
            cluster=ClusterSettings(lease_s=LEASE_S, takes_shards=False),
            resources={"notices": None},
        ) as runtime,
    ):
        nemesis = Nemesis(running, every_s, ["kill"], seed)
        harming = asyncio.create_task(nemesis.run()) if every_s else None
        for number, (at_ms, left) in enumerate(moments):
            if number in last:
                await nemesis.strike("kill")
            await time.advance_to(at_ms)
            while left:
                await example.deliver(runtime, left[: example.TOGETHER_MAX])
                del left[: example.TOGETHER_MAX]
        if harming is not None:
            harming.cancel()
            await asyncio.gather(harming, return_exceptions=True)
        await healed(url, ("outbox", "inbox"))
        found = await example.figures(runtime, len(events))
        assert await running.stop() == 0, "perdure run did not end in order"
    return found, nemesis.done["kill"]


def alone(url: str, log: Path, folder: Path, kills: int, seed: str) -> tuple[Any, int]:
    """The example itself, killed so often; then it is let come to its end."""
    command = _replay(log)
    command += ["--store", url, "--notices", str(folder / "notices.alone")]
    chance = random.Random(seed)
    for _ in range(kills):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        time.sleep(chance.uniform(0.5, 8))
        process.kill()
        process.wait()
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout), kills


def _replay(log: Path) -> list[str]:
    return [sys.executable, str(EXAMPLES / "declarations.py"), "--json", "--log", str(log)]


def missing_notices(folder: Path, found: dict[str, Any]) -> int:
    """How many commands nobody has carried out; one may be carried out by two, under one key."""
    keys = {
        json.loads(line)["key"]
        for path in folder.glob("notices.*")
        for line in path.read_text().splitlines()
        if line.endswith("}")  # a worker may be killed while it writes
    }
    return int(found["reminders"]) + int(found["escalations"]) - len(keys)


def in_memory(log: Path) -> Any:
    """The figures of the log as the example finds them without a store."""
    return json.loads(subprocess.run(_replay(log), stdout=subprocess.PIPE, check=True).stdout)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--store", default="postgresql", metavar="URL", help="of a server; or ours")
    parser.add_argument("--log", type=Path, default=EXAMPLES / "data" / "declarations_sample.xes")
    parser.add_argument("--expected", type=Path, metavar="JSON")
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument("--every", type=float, default=0.0, help="seconds between two kills")
    parser.add_argument("--kills", type=int, default=0, help="evenly over the log")
    parser.add_argument("--seed", default=str(random.randrange(1_000_000)))
    return parser.parse_args()


def main() -> int:
    given = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    expected = json.loads(given.expected.read_text()) if given.expected else in_memory(given.log)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary, served(given.store) as (server, template):
        folder = Path(temporary)
        with fresh_database(ForeignServer(server), template) as url:
            if given.processes == 1:
                found, kills = alone(url, given.log, folder, given.kills, given.seed)
            else:
                playing = several(
                    url, given.log, folder, given.processes, given.every, given.kills, given.seed
                )
                found, kills = asyncio.run(playing)
        missing = missing_notices(folder, found)
    other = {name: value for name, value in found.items() if value != expected.get(name)}
    print(json.dumps({
        "figures": found, "kills": kills, "notices missing": missing,
        "seconds": round(time.monotonic() - begun, 1), "seed": given.seed,
    }))  # fmt: skip
    for name, value in other.items():
        print(f"{name} is {value}, expected {expected.get(name)}", file=sys.stderr)
    return 1 if other or missing else 0


if __name__ == "__main__":
    sys.exit(main())
