"""Migrating while processes run: they go on, and what is newer than its code is not begun with."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import psycopg
import pytest

from perdure import Runtime, SagaRef
from perdure.cluster import Cluster, ClusterSettings
from perdure.errors import SchemaTooNew
from perdure.store.migrations import current, upgrade
from tests.cluster.members import member, owns
from tests.runtime.support import add, in_loop, items, open_ledger
from tests.sagas import Ledger
from tests.servers.databases import run_sql

ROOT = Path(__file__).parents[2]
QUICK = ClusterSettings(beat_s=0.1, lease_s=4.0, absent_s=0.5, poll_s=0.1)
STALL_S = 5.0
"""A migration waits for a table for 2 s, and a turn behind it."""


class Traffic:
    """Numbers sent to a ledger one after another, and how long the slowest one has taken."""

    def __init__(self, runtime: Cluster, ref: SagaRef) -> None:
        self.sent = 0
        self.slowest_s = 0.0
        self._runtime = runtime
        self._ref = ref
        self._is_over = False
        self._task = asyncio.create_task(self._flow())

    async def _flow(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._is_over:
            began_s = loop.time()
            await add(self._runtime, self._ref, self.sent)
            self.sent += 1
            self.slowest_s = max(self.slowest_s, loop.time() - began_s)
            await asyncio.sleep(0.03)

    async def goes_on(self, count: int = 5) -> None:
        """Wait for further turns."""
        until = self.sent + count
        while self.sent < until:
            assert not self._task.done(), self._task
            await asyncio.sleep(0.01)

    async def is_whole(self) -> None:
        """Everything that was sent is there once, in order, and nothing took long."""
        self._is_over = True
        await self._task
        assert await items(self._runtime, self._ref) == list(range(self.sent))
        assert self.slowest_s < STALL_S


async def next_release(url: str, *more: str) -> asyncio.subprocess.Process:
    """`perdure db upgrade` of the next release."""
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.store.next_release", url, *more,
        cwd=ROOT, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def said(process: asyncio.subprocess.Process) -> str:
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out.decode().strip()


async def is_waiting(url: str) -> None:
    """Wait until a migration waits for a table."""
    asked = (
        "SELECT FROM pg_stat_activity WHERE application_name = 'perdure db'"
        " AND wait_event_type = 'Lock' AND wait_event = 'relation'"
    )
    while not await run_sql(url, asked):  # noqa: ASYNC110 - the state of the server
        await asyncio.sleep(0.2)


def test_what_runs_goes_on_while_the_tables_are_migrated_and_afterwards(postgres: str) -> None:
    @in_loop(90)
    async def run() -> None:
        async with (
            Cluster(postgres, [Ledger], cluster=QUICK, name="live") as runtime,
            member(postgres, "other", QUICK) as other,
        ):
            await owns(runtime, 8)
            await other.owns(8)
            traffic = [Traffic(runtime, await open_ledger(runtime, f"l-{n}")) for n in range(2)]

            assert (await upgrade(postgres)).came_from == "0001"  # each pod may run it
            await traffic[0].goes_on()

            killed = await next_release(postgres, "die")
            assert await killed.wait() == -signal.SIGKILL
            assert (await current(postgres)).revision == "0001"
            await traffic[0].goes_on()

            with psycopg.connect(postgres.replace("+asyncpg", "")) as reader:
                reader.execute("SELECT count(*) FROM perdure.journal")  # and holds it
                upgrades = [await next_release(postgres) for _ in range(2)]
                for _ in range(2):
                    await is_waiting(postgres)
                    await traffic[1].goes_on()
                assert (await current(postgres)).revision == "0001"
            told = sorted(await asyncio.gather(*map(said, upgrades)))
            assert told == ["0001 0002", "0002 0002"]
            await traffic[1].goes_on()

            for new in (Cluster(postgres, [Ledger], name="new"), Runtime(postgres, [Ledger])):
                with pytest.raises(SchemaTooNew, match="at revision 0002, this perdure knows 0001"):
                    await new.start()
            other.signal(signal.SIGKILL)  # who runs takes over, too
            await owns(runtime, 16)
            for one in traffic:
                await one.goes_on()
                await one.is_whole()

    run()
