"""Hosts whose shards live in memory, beside a real server that says whose they are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from perdure import MemoryStore, Runtime
from perdure.cluster.host import Host
from perdure.cluster.settings import ClusterSettings
from perdure.runtime.blueprint import Blueprint
from perdure.runtime.running import Running
from perdure.store.ownership import Beat, Kind
from perdure.store.session import Session
from tests.cluster.support import session_of
from tests.runtime.support import parts
from tests.sagas import Ledger

SOON = ClusterSettings(beat_s=0.05, lease_s=2.0, absent_s=0.2, poll_s=0.05)
RARELY = replace(SOON, poll_s=600.0)
"""Looks only when a doorbell rings."""


class ShardStore(MemoryStore):
    """Opens under the epoch of the claim."""

    def claimed(self, epoch: int) -> ShardStore:
        self._epoch = epoch - 1
        return self


class Watching:
    """Notes which shards come and leave."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int]] = []

    def shard_came(self, shard: int, running: Running) -> None:
        self.told.append(("came", shard))

    def shard_leaves(self, shard: int) -> None:
        self.told.append(("leaves", shard))

    async def shard_gone(self, shard: int) -> None:
        self.told.append(("gone", shard))


class Shards:
    """The stores of all shards, and what their runtimes are made of."""

    def __init__(self, count: int = 8, **settings: Any) -> None:
        self.stores = [ShardStore() for _ in range(count)]
        self.front = Runtime("memory://", [Ledger], **settings)._blueprint

    def blueprint(self, shard: int, epoch: int) -> Blueprint:
        return replace(self.front, store=self.stores[shard].claimed(epoch))

    @asynccontextmanager
    async def host(
        self, url: str, name: str, settings: ClusterSettings = SOON, **more: Any
    ) -> AsyncIterator[Host]:
        """A host that has started."""
        session, host = self.new_host(url, name, settings, **more)
        await session.open()
        try:
            await host.start()
            yield host
        finally:
            await host.stop()
            await session.close()

    def new_host(
        self, url: str, name: str, settings: ClusterSettings = SOON, **more: Any
    ) -> tuple[Session, Host]:
        kind = Kind.HOST if more.get("assigned") is None else Kind.ASSIGNED
        session = session_of(url, name, kind, is_draining=True)
        return session, Host(session, self.blueprint, settings, Watching(), **more)


def epochs_of(host: Host) -> dict[int, int]:
    """The epoch of each shard that it runs."""
    return {number: parts(runtime).services.epoch for number, runtime in host.owned.items()}


def told_by(host: Host) -> list[tuple[str, int]]:
    """Which shards it has said to come and leave."""
    assert isinstance(host._watcher, Watching)
    return host._watcher.told


async def spread(hosts: list[Host], sizes: list[int]) -> None:
    """Wait until the hosts own so many each; the test's own limit ends it otherwise."""
    while sorted(len(host.owned) for host in hosts) != sorted(sizes):  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def beats(host: Host, count: int) -> None:
    """Wait until the host has heard so many more beats, and has done what follows from each."""
    heard: asyncio.Semaphore = asyncio.Semaphore(0)
    on_beat = host.session.on_beat

    def hear(beat: Beat) -> None:
        on_beat(beat)
        heard.release()

    host.session.on_beat = hear
    for _ in range(count):
        await heard.acquire()
