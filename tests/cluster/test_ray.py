"""Hosts on a real cluster of Ray: placed, started again, moved, ended. What they run is a stand-in.

Four hosts are up for all tests of this module, and each leaves them so. Next to read:
``test_ray_messages.py``, with the real runtimes over PostgreSQL.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TypedDict

import pytest

from perdure.cluster import ray, ray_hosts
from perdure.cluster.ray import HostStatus, RayStatus
from perdure.cluster.ray_engine import connected
from perdure.cluster.ray_hosts import RayHosts
from perdure.ops.cli import main
from tests.cluster.ray_standin import APP, BROKEN, stand_ins
from tests.servers.ray import RayServer, skip_without_ray

pytestmark = [pytest.mark.ray, pytest.mark.slow]

LIMIT_S = 30.0
"""Of a machine that does much else; how long it takes is what ``ray_takeover.py`` measures."""


class Where(TypedDict):
    schema: str
    address: str


class Hosts:
    """The hosts of one schema; what a stand-in owns and hears is in files of ``folder``."""

    def __init__(self, server: RayServer, folder: Path) -> None:
        self.server, self.folder = server, folder
        self.where = Where(schema="test", address=server.address)

    def up(self, hosts: int = 4) -> RayStatus:
        return asyncio.run(ray.up(APP, str(self.folder), hosts=hosts, **self.where))

    def status(self) -> RayStatus:
        return asyncio.run(ray.status(**self.where))

    def until(self, holds: Callable[[RayStatus], bool]) -> RayStatus:
        """Wait until this holds of the status."""
        return asyncio.run(self._until(holds))

    async def _until(self, holds: Callable[[RayStatus], bool]) -> RayStatus:
        until_s = time.monotonic() + LIMIT_S
        async with connected(self.server.address):
            while not holds(found := await ray.status(**self.where)):
                assert time.monotonic() < until_s, found
        return found


@pytest.fixture(scope="module")
def server() -> Generator[RayServer, None, None]:
    skip_without_ray()
    with RayServer.started(nodes=2) as started:
        yield started


@pytest.fixture(scope="module")
def hosts(
    server: RayServer, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Hosts, None, None]:
    with stand_ins():
        found = Hosts(server, tmp_path_factory.mktemp("ray"))
        found.up()
        yield found


def spread(found: RayStatus) -> list[int]:
    """How many hosts each node holds that can hold some."""
    held = Counter({node.node: 0 for node in found.nodes if node.takes_hosts})
    held.update(host.node for host in found.hosts)
    return sorted(held.values())


def owned(found: RayStatus) -> list[int]:
    return sorted(shard for host in found.hosts for shard in host.shards)


def identities(found: RayStatus) -> list[tuple[int, str, int]]:
    return [(host.host, host.node, host.pid) for host in found.hosts]


def taken_by_another(found: RayStatus, old: HostStatus) -> bool:
    return found.is_whole and found.hosts[old.host].pid != old.pid


def test_hosts_are_spread_and_own_every_shard_once(hosts: Hosts) -> None:
    found = hosts.status()
    assert spread(asyncio.run(ray.rebalance(**hosts.where))) == [2, 2]
    assert owned(found) == list(range(16))
    assert [host.shards[:2] for host in found.hosts] == [(0, 4), (1, 5), (2, 6), (3, 7)]
    assert len({host.pid for host in found.hosts}) == 4


def test_the_command_line_shows_them(hosts: Hosts, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--schema", "test", "--address", hosts.server.address]
    assert main(["ray", "status", *arguments]) == 0
    shown = capsys.readouterr().out
    assert shown.count("running") == 4
    assert "[1, 5, 9, 13]" in shown
    assert main(["ray", "status", "--schema", "other", "--address", hosts.server.address]) == 1
    assert "no hosts" in capsys.readouterr().err


def test_up_again_changes_nothing(hosts: Hosts) -> None:
    before = hosts.status()
    assert identities(hosts.up()) == identities(before)


@pytest.mark.parametrize("number", [3, 5])
def test_another_number_of_hosts_is_refused_and_nothing_is_changed(
    hosts: Hosts, number: int
) -> None:
    before = hosts.status()
    with pytest.raises(ray.RayError, match=r"of 4 for .*perdure ray down first"):
        hosts.up(number)
    assert identities(hosts.status()) == identities(before)


def test_an_app_that_cannot_run_is_told_and_leaves_no_host(hosts: Hosts) -> None:
    where = Where(schema="broken", address=hosts.server.address)
    with pytest.raises(ray.RayError, match="host 0 is failed: DefinitionError: this app is broken"):
        asyncio.run(ray.up(BROKEN, str(hosts.folder), hosts=1, **where))
    assert not asyncio.run(ray.status(**where)).hosts


def test_a_host_that_misses_is_made_by_up_and_no_other(hosts: Hosts) -> None:
    before = hosts.status()

    async def end_one() -> None:
        async with connected(hosts.server.address) as engine:
            await RayHosts(engine, "test").end(1)

    asyncio.run(end_one())
    assert not hosts.status().is_whole
    after = hosts.up()
    assert [host.pid for host in after.hosts if host.host != 1] == [
        host.pid for host in before.hosts if host.host != 1
    ]
    assert owned(after) == list(range(16))


def test_a_host_that_is_killed_is_back_with_its_shards(hosts: Hosts) -> None:
    victim = hosts.status().hosts[0]
    os.kill(victim.pid, signal.SIGKILL)
    found = hosts.until(lambda now: taken_by_another(now, victim))
    assert found.hosts[0].shards == victim.shards
    assert found.hosts[0].is_restarted


def test_a_host_whose_shards_were_taken_ends_and_ray_makes_it_anew(hosts: Hosts) -> None:
    first = hosts.status().hosts[2]
    thief = hosts.folder / "thief"
    thief.write_text('{"epoch": 77, "what": "taken by another"}')
    thief.rename(hosts.folder / "host-2")
    found = hosts.until(lambda now: taken_by_another(now, first))
    assert found.hosts[2].shards == first.shards


def test_a_doorbell_reaches_the_host_of_the_shard(hosts: Hosts) -> None:
    async def ring() -> None:
        async with connected(hosts.server.address) as engine:
            handle = await RayHosts(engine, "test").handle(1)
            await handle.nudge.remote(5)

    asyncio.run(ring())
    hosts.until(lambda now: (hosts.folder / "looked-5").exists())


def test_a_drained_host_gives_its_shards_up_and_comes_up_anew_where_it_was(hosts: Hosts) -> None:
    before = hosts.status().hosts[3]
    after = asyncio.run(ray.drain("3", **hosts.where)).hosts[3]
    assert (after.node, after.shards) == (before.node, before.shards)
    assert after.pid != before.pid
    assert (hosts.folder / "drained-3").exists()


@pytest.mark.parametrize(("target", "problem"), [("no-such", "no node is"), (9, "no actor")])
def test_what_is_not_there_cannot_be_drained(hosts: Hosts, target: int | str, problem: str) -> None:
    before = hosts.status()
    with pytest.raises(ray.RayError, match=problem):
        asyncio.run(ray.drain(target, **hosts.where))
    assert identities(hosts.status()) == identities(before)


def test_a_drained_node_holds_no_host_until_they_are_spread_again(hosts: Hosts) -> None:
    before = asyncio.run(ray.rebalance(**hosts.where))
    node = before.hosts[0].node
    drained = asyncio.run(ray.drain(node[:12], **hosts.where))
    assert spread(drained) == [0, 4]
    assert owned(drained) == list(range(16))
    for old, now in zip(before.hosts, drained.hosts, strict=True):
        assert (old.pid == now.pid) == (old.node != node)
    again = asyncio.run(ray.rebalance(**hosts.where))
    assert spread(again) == [2, 2]
    pairs = zip(drained.hosts, again.hosts, strict=True)
    assert sum(old.pid != now.pid for old, now in pairs) == 2


def test_a_host_that_hangs_is_killed_by_drain_and_is_back(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_hosts, "PLAN_S", 1.0)
    hanging = hosts.status().hosts[1]
    os.kill(hanging.pid, signal.SIGSTOP)
    found = asyncio.run(ray.drain(1, **hosts.where))
    assert taken_by_another(found, hanging)
    assert found.hosts[1].shards == hanging.shards
