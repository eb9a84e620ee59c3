"""Rings through Ray: one under way for each shard, none lost, and by PostgreSQL when Ray fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from perdure.cluster import ClusterSettings
from perdure.cluster.doorbell import bell_of
from perdure.cluster.ray_bell import RayBell, RayCluster
from perdure.cluster.ray_engine import RayError
from tests.runtime.support import quickly, rounds
from tests.sagas import Ledger

CHANNELS = [bell_of(shard) for shard in range(8)]


class Other:
    """PostgreSQL's."""

    def __init__(self) -> None:
        self.rung: list[tuple[str, str]] = []
        self.heard: list[str] = []

    async def listen(self, channel: str, hear: Callable[[str], None]) -> None:
        self.heard.append(channel)

    async def unlisten(self, channel: str) -> None:
        self.heard.remove(channel)

    def notify(self, channel: str, payload: str = "") -> None:
        self.rung.append((channel, payload))


class Hosts:
    """Two hosts whose calls end when the test says so."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, int, asyncio.Future[bool]]] = []
        self.present = [0, 1]

    async def numbers(self) -> list[int]:
        return self.present

    async def handle(self, host: int) -> Any:
        hosts = self

        class Nudge:
            def remote(self, shard: int) -> asyncio.Future[bool]:
                future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
                hosts.calls.append((host, shard, future))
                return future

        class Handle:
            nudge = Nudge()

        return Handle()

    def rung(self) -> list[tuple[int, int]]:
        return [(host, shard) for host, shard, _ in self.calls]


def bell() -> tuple[RayBell, Other, Hosts]:
    other, hosts = Other(), Hosts()
    made: Any = hosts
    return RayBell(other, made, str, 8), other, hosts


@quickly
async def test_a_ring_goes_to_the_host_of_the_shard() -> None:
    ray_bell, other, hosts = bell()
    for shard in (0, 3, 5):
        ray_bell.notify(CHANNELS[shard])
    await rounds()
    assert hosts.rung() == [(0, 0), (1, 3), (1, 5)]
    assert not other.rung


@quickly
async def test_one_call_is_under_way_and_what_was_rung_meanwhile_is_one_more() -> None:
    ray_bell, _, hosts = bell()
    for _ in range(1_000):
        ray_bell.notify(CHANNELS[4])
    await rounds()
    ray_bell.notify(CHANNELS[4])
    assert hosts.rung() == [(0, 4)]
    hosts.calls[0][2].set_result(True)
    await rounds()
    assert hosts.rung() == [(0, 4), (0, 4)]
    hosts.calls[1][2].set_result(True)
    await rounds()
    assert len(hosts.calls) == 2
    ray_bell.notify(CHANNELS[4])
    await rounds()
    assert len(hosts.calls) == 3


@quickly
async def test_what_ray_does_not_take_is_rung_by_postgresql() -> None:
    ray_bell, other, hosts = bell()
    ray_bell.notify(CHANNELS[4])
    await rounds()
    hosts.calls[0][2].set_exception(RuntimeError("the actor is away"))
    await rounds()
    assert other.rung == [(CHANNELS[4], "")]
    hosts.present = []
    ray_bell.notify(CHANNELS[5])
    await rounds()
    assert other.rung[1:] == [(CHANNELS[5], "")]


@quickly
async def test_a_shard_that_another_host_has_taken_over_is_rung_by_postgresql() -> None:
    ray_bell, other, hosts = bell()
    ray_bell.notify(CHANNELS[4])
    await rounds()
    hosts.calls[0][2].set_result(False)
    await rounds()
    assert other.rung == [(CHANNELS[4], "")]
    assert len(hosts.calls) == 1


@quickly
async def test_answers_and_what_is_heard_go_by_postgresql() -> None:
    ray_bell, other, hosts = bell()
    ray_bell.notify("replies-pod-1", "x")
    assert other.rung == [("replies-pod-1", "x")]
    await ray_bell.listen("replies-pod-1", lambda payload: None)
    assert other.heard == ["replies-pod-1"]
    await ray_bell.unlisten("replies-pod-1")
    assert not other.heard
    assert not hosts.calls


def test_whoever_is_no_driver_is_told_so(postgres: str) -> None:
    pytest.importorskip("ray")

    @quickly
    async def run() -> None:
        settings = ClusterSettings(takes_shards=False)
        with pytest.raises(RayError, match=r"no driver of Ray; call ray\.init"):
            await RayCluster(postgres, [Ledger], cluster=settings).start()

    run()
