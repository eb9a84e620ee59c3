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
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from perdure import SagaRef, errors
from perdure.cluster import Cluster, ClusterSettings, ray
from perdure.cluster.ray import RayStatus
from perdure.cluster.ray_bell import RayCluster
from perdure.cluster.ray_engine import connected
from perdure.cluster.ray_places import assigned
from tests.cluster.ray_app import APP
from tests.runtime.support import items
from tests.sagas import Added, Ledger, Opened
from tests.servers.databases import run_sql
from tests.servers.ray import PATHS, RayServer, SharedRay, processes

pytestmark = [pytest.mark.ray, pytest.mark.slow]

HOSTS, SHARDS = 4, 16
INSTANCES = 100
MESSAGES = int(os.environ.get("PERDURE_RAY_MESSAGES", "3000"))
EACH = MESSAGES // INSTANCES
PARTS = [range(EACH * part // 3, EACH * (part + 1) // 3) for part in range(3)]
"""What each is sent while a node is killed; a host hangs, and a node stands still; both wake."""
PATIENCE_S = 30.0
"""Without any progress, on an idle machine, where four hosts are up in some seconds."""
UP_S = 6.0
TAKES_NONE = ClusterSettings(takes_shards=False)
AGAIN = (errors.SendTimeout, errors.OutcomeUnknown, errors.MailboxFull)


def front_of(url: str) -> Cluster:
    return Cluster(url, [Ledger], cluster=TAKES_NONE)


class Sender:
    """Sends to many ledgers at once; to each one after the other, under ids that stay the same."""

    def __init__(self, front: Cluster, patience_s: float) -> None:
        self.front = front
        self.refs = [front.ref(Ledger, f"o-{n}") for n in range(INSTANCES)]
        self.applied = 0
        self.slowest_s = 0.0
        self._patience_s = patience_s
        self._moved = asyncio.Event()

    async def open(self) -> None:
        opening = (self.front.send(ref, Opened(ref.correlation_id)) for ref in self.refs)
        await asyncio.gather(*opening)

    @asynccontextmanager
    async def part(self, numbers: range) -> AsyncIterator[None]:
        """Send these to each; entered when half of them are acknowledged, left when all are."""
        self.slowest_s = 0.0
        sending = [asyncio.create_task(self._send_each(ref, numbers)) for ref in self.refs]
        await self._reached(INSTANCES * (numbers.start + len(numbers) // 2))
        yield
        await self._reached(INSTANCES * numbers.stop)
        await asyncio.gather(*sending)

    async def _reached(self, applied: int) -> None:
        """Wait until so many were acknowledged; fail when none is for too long."""
        while self.applied < applied:
            self._moved.clear()
            try:
                async with asyncio.timeout(self._patience_s):
                    await self._moved.wait()
            except TimeoutError:
                troubles, hosts = self.front.vitals().troubles, await self.front.hosts()
                problem = f"{self.applied} applied, then none for {self._patience_s:.0f} s"
                raise AssertionError(f"{problem}: {troubles}, {hosts}") from None

    async def _send_each(self, ref: SagaRef, numbers: range) -> None:
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


class Losses:
    """What happens to the hosts, one after the other; ``patience_s`` for Ray to see to it."""

    def __init__(self, server: RayServer, patience_s: float) -> None:
        self.server, self._patience_s = server, patience_s

    async def until(self, holds: Callable[[RayStatus], bool]) -> RayStatus:
        """Wait until all hosts run, and this holds of them."""
        until_s = time.monotonic() + self._patience_s
        async with connected(self.server.address):
            while True:
                found = await ray.status(address=self.server.address)
                if found.is_whole and holds(found):
                    return found
                assert time.monotonic() < until_s, found

    async def ended(self, pid: int) -> None:
        """Wait until this process has ended."""
        until_s = time.monotonic() + self._patience_s
        while pid in {pid for pid, _, _ in processes()}:
            assert time.monotonic() < until_s, f"process {pid} goes on"
            await asyncio.sleep(0.05)


async def send_through_losses(server: RayServer, url: str) -> None:
    began_s = time.monotonic()
    await ray.up(APP, url, hosts=HOSTS, address=server.address)
    patience_s = PATIENCE_S * max(1, (time.monotonic() - began_s) / UP_S)  # of a busy machine
    spread = await ray.rebalance(address=server.address)
    losses = Losses(server, patience_s)
    async with front_of(url) as front:
        sender = Sender(front, patience_s)
        await sender.open()
        await lose_all(sender, losses, spread)
        for ref in sender.refs:
            assert await items(front, ref) == list(range(EACH))
        assert sender.applied == MESSAGES
    await send_as_driver(server, url)
    await ray.down(address=server.address)


async def lose_all(sender: Sender, losses: Losses, spread: RayStatus) -> None:
    """Each time with messages on their way."""
    killed = spread.hosts[0].node
    async with sender.part(PARTS[0]):
        losses.server.kill_node(killed)
    print(f"slowest: {sender.slowest_s:.2f} s over the node that was killed")

    found = await losses.until(lambda now: killed not in {host.node for host in now.hosts})
    held = Counter(host.node for host in found.hosts)
    stopped = min(found.hosts, key=lambda host: held[host.node])
    hanging = next(host for host in found.hosts if host.node != stopped.node)
    async with sender.part(PARTS[1]):
        os.kill(hanging.pid, signal.SIGSTOP)  # which Ray does not notice
        losses.server.signal_node(stopped.node, signal.SIGSTOP)
    print(f"slowest: {sender.slowest_s:.2f} s over a host that hung and a node that stood still")
    owners = {host.pid: host.shards for host in await sender.front.hosts() if host.shards}
    assert not {hanging.pid, stopped.pid} & owners.keys()

    async with sender.part(PARTS[2]):
        os.kill(hanging.pid, signal.SIGCONT)
        losses.server.signal_node(stopped.node, signal.SIGCONT)
    await losses.ended(hanging.pid)  # superseded, it ends itself, and Ray makes it anew
    await losses.ended(stopped.pid)
    await losses.until(has_own_shards)
    losses.server.kill_node(stopped.node)


def has_own_shards(found: RayStatus) -> bool:
    """Whether nobody has those of others any more."""
    return all(set(host.shards) == assigned(host.host, HOSTS, SHARDS) for host in found.hosts)


async def send_as_driver(server: RayServer, url: str) -> None:
    """Through a front that rings by Ray."""
    async with connected(server.address), RayCluster(url, [Ledger], cluster=TAKES_NONE) as driver:
        ref = driver.ref(Ledger, "of-a-driver")
        await driver.send(ref, Opened(ref.correlation_id))
        receipts = [await driver.send(ref, Added(ref.correlation_id, n)) for n in range(10)]
        assert [receipt.reply for receipt in receipts] == list(range(1, 11))


@pytest.mark.timeout(600)  # what stands still is seen sooner
def test_every_message_is_applied_once_and_in_order_and_no_stale_host_commits(
    shared_ray: SharedRay, postgres: str
) -> None:
    asyncio.run(send_through_losses(shared_ray.with_nodes(3), postgres))
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


async def outlive_the_head(server: RayServer, url: str) -> None:
    server.add_node(RAY_gcs_rpc_server_reconnect_timeout_s="2")  # it gives up soon
    await ray.up(APP, url, hosts=2, address=server.address)
    async with service_over(url) as service:
        await service.more()
        assert not service.troubles
        server.kill_head()
        await service.more()  # hosts need no head to work
        with pytest.raises(ray.RayError, match="cannot be reached: nobody listens there"):
            await ray.status(address=server.address)
        # The node gives up, and ends the hosts: the service lives on, and says so.
        await service.until(lambda service: bool(service.troubles))
        assert "of 16 have no live owner" in service.troubles[0]
        async with Cluster(url, [Ledger]) as other:  # as `perdure run` does
            await service.more()
            await service.until(lambda service: not service.troubles)
            numbers = await items(other, other.ref(Ledger, "x"))
            assert numbers == list(range(len(numbers)))
            assert len(numbers) >= service.applied


def test_a_service_outlives_the_head_and_says_that_nobody_owns_the_shards(
    shared_ray: SharedRay, postgres: str
) -> None:
    asyncio.run(outlive_the_head(shared_ray.with_nodes(0), postgres))
