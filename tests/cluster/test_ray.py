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
from tests.servers.ray import RayServer, SharedRay

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
def hosts(
    shared_ray: SharedRay, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Hosts, None, None]:
    with stand_ins():
        found = Hosts(shared_ray.with_nodes(2), tmp_path_factory.mktemp("ray"))
        found.up()
        yield found
        asyncio.run(ray.down(**found.where))


def spread(found: RayStatus) -> list[int]:
    """How many hosts each node holds that can hold some."""
    held = Counter({node.node: 0 for node in found.nodes if node.takes_hosts})
    held.update(host.node for host in found.hosts)
    return sorted(held.values())


def owned(found: RayStatus) -> list[int]:
    return sorted(shard for host in found.hosts for shard in host.shards)


def identities(found: RayStatus) -> list[tuple[int, str, int]]:
    return [(host.host, host.node, host.pid) for host in found.hosts]


def made_anew(found: RayStatus, old: HostStatus) -> bool:
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
    said = capsys.readouterr().err
    assert "no hosts of schema other (there are some of test: --schema); perdure ray up" in said


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


def test_who_is_killed_or_has_lost_its_shards_is_made_anew_and_has_them_again(
    hosts: Hosts,
) -> None:
    before = hosts.status().hosts
    os.kill(before[0].pid, signal.SIGKILL)
    thief = hosts.folder / "thief"
    thief.write_text('{"epoch": 77, "what": "taken by another"}')
    thief.rename(hosts.folder / "host-2")
    found = hosts.until(lambda now: all(made_anew(now, before[host]) for host in (0, 2)))
    for old, now in zip(before, found.hosts, strict=True):
        assert now.shards == old.shards
        assert now.is_restarted == (old.host in (0, 2))


def test_a_doorbell_reaches_the_host_of_the_shard(hosts: Hosts) -> None:
    async def ring() -> None:
        async with connected(hosts.server.address) as engine:
            handle = await RayHosts(engine, "test").handle(1)
            await handle.nudge.remote(5)

    asyncio.run(ring())
    hosts.until(lambda now: (hosts.folder / "looked-5").exists())


def test_a_drained_host_gives_its_shards_up_and_comes_up_anew_and_one_that_hangs_is_killed(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_hosts, "PLAN_S", 1.0)
    monkeypatch.setattr(ray_hosts, "ANSWER_S", 1.0)
    before = hosts.status().hosts
    os.kill(before[1].pid, signal.SIGSTOP)
    assert "hangs" in (hosts.status().hosts[1].error or "")

    async def drain_both() -> RayStatus:
        async with connected(hosts.server.address):
            await asyncio.gather(*(ray.drain(host, **hosts.where) for host in ("3", 1)))
            return await ray.status(**hosts.where)

    found = asyncio.run(drain_both())
    assert made_anew(found, before[1])
    assert made_anew(found, before[3])
    assert found.hosts[3].node == before[3].node
    assert [host.shards for host in found.hosts] == [host.shards for host in before]
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


def test_up_that_is_cut_short_leaves_nothing_and_what_a_killed_one_left_is_completed(
    hosts: Hosts, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    where = Where(schema="cut", address=hosts.server.address)
    store = hosts.folder / "cut"
    store.mkdir()

    async def cut_short() -> None:
        async with connected(hosts.server.address) as engine:
            seen = RayHosts(engine, "cut")
            starting = asyncio.create_task(ray.up(APP, str(store), hosts=2, **where))
            while not await seen.numbers():  # noqa: ASYNC110 - Ray's to tell
                await asyncio.sleep(0.01)
            starting.cancel()
            await asyncio.wait([starting])

    asyncio.run(cut_short())
    assert not asyncio.run(ray.status(**where)).hosts
    with monkeypatch.context() as patch:  # as after kill -9
        patch.setattr(ray, "_end_all", left_alone)
        asyncio.run(cut_short())
    before = asyncio.run(only_the_first(hosts.server, where))
    assert main(["ray", "status", "--schema", "cut", "--address", hosts.server.address]) == 1
    assert "host 1 is not there; perdure ray up, as before, makes" in capsys.readouterr().err
    found = asyncio.run(ray.up(APP, str(store), hosts=2, **where))
    assert [host.host for host in found.hosts] == [0, 1]
    assert found.hosts[0].pid == before.pid
    assert asyncio.run(ray.down(**where)) == [0, 1]


async def only_the_first(server: RayServer, where: Where) -> HostStatus:
    """End the second of two if it is there; the first one when it runs."""
    async with connected(server.address) as engine:
        if 1 in await RayHosts(engine, where["schema"]).numbers():
            await RayHosts(engine, where["schema"]).end(1)
        while (found := await ray.status(**where)).hosts[0].state != "running":  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return found.hosts[0]


async def left_alone(*_: object) -> None:
    """Ends nothing."""


def test_a_driver_hears_sigterm_as_it_did_before(hosts: Hosts) -> None:
    """Ray has a handler of its own, which prints a stack and aborts."""

    async def told() -> None:
        heard = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, heard.set)
        async with connected(hosts.server.address):
            os.kill(os.getpid(), signal.SIGTERM)
            async with asyncio.timeout(LIMIT_S):
                await heard.wait()

    asyncio.run(told())
