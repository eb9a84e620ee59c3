"""Messages through PostgreSQL to hosts on Ray, while nodes are killed, paused and woken.

The sender is no driver of Ray. ``PERDURE_RAY_MESSAGES=3000`` is how many (a multiple of 300).
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from perdure import SagaRef, errors
from perdure.cluster import Cluster, ClusterSettings, ray
from perdure.cluster.ray import RayStatus
from perdure.cluster.ray_bell import RayCluster
from perdure.cluster.ray_engine import connected
from tests.cluster.ray_app import APP
from tests.runtime.support import in_loop, items
from tests.sagas import Added, Ledger, Opened
from tests.servers.databases import run_sql
from tests.servers.ray import PATHS, RayServer, skip_without_ray

pytestmark = [pytest.mark.ray, pytest.mark.slow]

INSTANCES = 100
MESSAGES = int(os.environ.get("PERDURE_RAY_MESSAGES", "3000"))
EACH = MESSAGES // INSTANCES
LIMIT_S = 40.0
"""For what a third of the test waits for, on a machine that does much else."""
TAKES_NONE = ClusterSettings(takes_shards=False)
AGAIN = (errors.SendTimeout, errors.OutcomeUnknown, errors.MailboxFull)


@pytest.fixture(scope="module")
def server() -> Generator[RayServer, None, None]:
    skip_without_ray()
    with RayServer.started(nodes=3) as started:
        yield started


@asynccontextmanager
async def hosts_of(server: RayServer, url: str, hosts: int = 4) -> AsyncIterator[RayStatus]:
    """Hosts over this database; ended afterwards."""
    yield await ray.up(APP, url, hosts=hosts, address=server.address)
    await ray.down(address=server.address)


def front_of(url: str) -> Cluster:
    return Cluster(url, [Ledger], cluster=TAKES_NONE)


class Sender:
    """Sends to many ledgers at once; to each one after the other, under ids that stay the same."""

    def __init__(self, front: Cluster) -> None:
        self.front = front
        self.refs = [front.ref(Ledger, f"o-{n}") for n in range(INSTANCES)]
        self.applied = 0
        self.slowest_s = 0.0
        self._moved = asyncio.Event()

    async def open(self) -> None:
        opening = (self.front.send(ref, Opened(ref.correlation_id)) for ref in self.refs)
        await asyncio.gather(*opening)

    def begin(self, numbers: Iterable[int]) -> asyncio.Task[None]:
        """Send these to each."""
        return asyncio.create_task(self._send_all(list(numbers)))

    async def reached(self, applied: int) -> None:
        """Wait until so many were acknowledged."""
        while self.applied < applied:
            self._moved.clear()
            await self._moved.wait()

    async def _send_all(self, numbers: list[int]) -> None:
        sending = [asyncio.create_task(self._send_each(ref, numbers)) for ref in self.refs]
        _, left = await asyncio.wait(sending, timeout=LIMIT_S)
        if left:
            waiting = [
                ref.key for ref, task in zip(self.refs, sending, strict=True) if task in left
            ]
            troubles, hosts = self.front.vitals().troubles, await self.front.hosts()
            raise AssertionError(f"no answer to {waiting}: {troubles}, {hosts}")
        await asyncio.gather(*sending)

    async def _send_each(self, ref: SagaRef, numbers: list[int]) -> None:
        for n in numbers:
            began_s = time.monotonic()
            while not await self._is_sent(ref, n):
                pass
            self.slowest_s = max(self.slowest_s, time.monotonic() - began_s)
            self.applied += 1
            self._moved.set()

    async def _is_sent(self, ref: SagaRef, n: int) -> bool:
        try:
            message = Added(ref.correlation_id, n)
            await self.front.send(ref, message, message_id=f"{ref.correlation_id}-{n}")
        except AGAIN:
            return False
        return True


async def gone(server: RayServer, node: str) -> RayStatus:
    """Wait until all hosts run, and none of them there."""
    until_s = time.monotonic() + LIMIT_S
    while True:
        found = await ray.status(address=server.address)
        if found.is_whole and node not in {host.node for host in found.hosts}:
            return found
        assert time.monotonic() < until_s, found


def ended(pid: int) -> None:
    """Wait until this process has ended."""
    until_s = time.monotonic() + LIMIT_S
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < until_s, f"process {pid} goes on"
        time.sleep(0.02)


@in_loop(110)
async def send_through_losses(server: RayServer, url: str) -> None:
    async with hosts_of(server, url), front_of(url) as front:
        spread = await ray.rebalance(address=server.address)
        sender = Sender(front)
        await sender.open()
        third = EACH // 3

        sending = sender.begin(range(third))
        await sender.reached(MESSAGES // 6)
        server.kill_node(spread.hosts[0].node)
        await sending
        killed_s, sender.slowest_s = sender.slowest_s, 0.0

        paused = (await ray.status(address=server.address)).hosts[1]
        sending = sender.begin(range(third, 2 * third))
        await sender.reached(MESSAGES // 2)
        server.signal_node(paused.node, signal.SIGSTOP)
        await sending
        paused_s = sender.slowest_s
        await gone(server, paused.node)

        sending = sender.begin(range(2 * third, EACH))
        server.signal_node(paused.node, signal.SIGCONT)
        await sending
        await asyncio.to_thread(ended, paused.pid)  # superseded, it ends itself

        for ref in sender.refs:
            assert await items(front, ref) == list(range(EACH))
        assert sender.applied == MESSAGES
        await send_as_driver(server, url)
        print(f"slowest: {killed_s:.2f} s over the kill, {paused_s:.2f} s over the pause")


async def send_as_driver(server: RayServer, url: str) -> None:
    """Through a front that rings by Ray."""
    async with connected(server.address), RayCluster(url, [Ledger], cluster=TAKES_NONE) as driver:
        ref = driver.ref(Ledger, "of-a-driver")
        await driver.send(ref, Opened(ref.correlation_id))
        receipts = [await driver.send(ref, Added(ref.correlation_id, n)) for n in range(10)]
        assert [receipt.reply for receipt in receipts] == list(range(1, 11))


def test_every_message_is_applied_once_and_in_order_and_no_stale_host_commits(
    server: RayServer, postgres: str
) -> None:
    send_through_losses(server, postgres)
    turns = asyncio.run(
        run_sql(
            postgres,
            "SELECT instance, array_agg(epoch ORDER BY sequence_nr) AS epochs, "
            "count(DISTINCT message_id) AS ids FROM perdure.journal "
            "WHERE instance LIKE 'Ledger/o-%' GROUP BY instance",
        )
    )
    assert len(turns) == INSTANCES
    for row in turns:
        assert row["epochs"] == sorted(row["epochs"])  # an owner that was superseded wrote nothing
        assert (len(row["epochs"]), row["ids"]) == (EACH + 1, EACH + 1)
    assert len({epoch for row in turns for epoch in row["epochs"]}) >= 6


class Service:
    """``ray_service.py`` in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.applied = 0
        self.troubles: list[str] = []

    async def until(self, holds: Callable[[Service], bool]) -> None:
        """Read what it says until this holds."""
        assert self._process.stdout is not None
        while not holds(self):
            line = await self._process.stdout.readline()
            assert line, "the service has ended"
            said = json.loads(line)
            self.applied, self.troubles = said["applied"], said["troubles"]

    async def more(self, count: int = 5) -> None:
        """Wait until so many more were applied."""
        wanted = self.applied + count
        await self.until(lambda service: service.applied >= wanted)


@asynccontextmanager
async def service_over(url: str) -> AsyncIterator[Service]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.cluster.ray_service", url),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": PATHS},
    )
    try:
        yield Service(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        assert await process.wait() == 0


@in_loop(80)
async def outlive_the_head(url: str) -> None:
    gives_up_soon = {"RAY_gcs_rpc_server_reconnect_timeout_s": "2"}
    with RayServer.started(nodes=1, **gives_up_soon) as server:
        await ray.up(APP, url, hosts=2, address=server.address)
        async with service_over(url) as service:
            await service.more()
            assert not service.troubles
            server.kill_head()
            await service.more()  # hosts need no head to work
            with pytest.raises(ray.RayError, match="cannot be reached"):
                await ray.status(address=server.address)
            # The nodes give up, and end the hosts: the service lives on, and says so.
            await service.until(lambda service: bool(service.troubles))
            assert "of 16 have no live owner" in service.troubles[0]
            async with Cluster(url, [Ledger]) as other:  # as `perdure run` does
                await service.more()
                await service.until(lambda service: not service.troubles)
                numbers = await items(other, other.ref(Ledger, "x"))
                assert numbers == list(range(len(numbers)))
                assert len(numbers) >= service.applied


def test_a_service_outlives_the_head_and_says_that_nobody_owns_the_shards(postgres: str) -> None:
    skip_without_ray()
    outlive_the_head(postgres)
