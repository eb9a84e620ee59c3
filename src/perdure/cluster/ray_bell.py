"""For services that are drivers of Ray anyway: a cluster's front that rings at its hosts by Ray.

    ray.init(...)
    async with RayCluster(url, [OrderFulfilment], cluster=ClusterSettings(takes_shards=False)) as c:
        await c.send(...)

Messages go the way they always go, into PostgreSQL; only "look" goes through Ray, in place of
NOTIFY, and through NOTIFY when Ray does not take it. Each shard has one call under way at most: Ray
keeps calls for an actor that is away, without bound. A bell that is lost costs one poll.

Ray ends its drivers a minute after their head is gone. So this is for whoever has chosen that; an
ordinary ``Cluster`` lives on. Next to read: ``doorbell.py``; ``ray_host.py``, who is rung at.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from perdure.cluster.doorbell import Doorbell, bell_of
from perdure.cluster.front import Cluster
from perdure.cluster.ray_engine import RayError, engine
from perdure.cluster.ray_hosts import RayHosts
from perdure.store.session import Session, channel_of

__all__ = ["RayBell", "RayCluster"]

logger = logging.getLogger("perdure.ray")

RING_S = 5.0
"""So long a host may take to be rung at; then it is rung at by PostgreSQL."""


class RayCluster(Cluster):
    """A ``Cluster`` in a process that is a driver of Ray: ``ray.init`` was called before its start.

    Its start raises ``RayError`` if it was not.
    """

    def _bell(self, session: Session) -> Doorbell:
        ray = engine()
        if not ray.is_initialized():
            raise RayError(
                "this process is no driver of Ray",
                remedy="call ray.init before, or use Cluster, which needs no Ray",
            )
        schema = session.owners.schema
        hosts = RayHosts(ray, schema)
        return RayBell(session, hosts, partial(channel_of, schema), self._database.shards)


class RayBell:
    """Rings at the hosts of shards by Ray; all else goes by ``other``."""

    def __init__(
        self, other: Doorbell, hosts: RayHosts, channel: Callable[[str], str], shards: int
    ) -> None:
        self._other = other
        self._hosts = hosts
        self._shards = {channel(bell_of(shard)): shard for shard in range(shards)}
        self._again: dict[int, bool] = {}
        """Shards that are rung at just now, and whether there was a ring since."""
        self._handles: dict[int, Any] = {}
        self._ringing: set[asyncio.Task[None]] = set()

    async def listen(self, channel: str, hear: Callable[[str], None]) -> None:
        """See ``Doorbell``."""
        await self._other.listen(channel, hear)

    async def unlisten(self, channel: str) -> None:
        """See ``Doorbell``."""
        await self._other.unlisten(channel)

    def notify(self, channel: str, payload: str = "") -> None:
        """See ``Doorbell``."""
        shard = self._shards.get(channel)
        if shard is None:
            self._other.notify(channel, payload)
        elif shard in self._again:
            self._again[shard] = True
        else:
            self._again[shard] = True
            task = asyncio.get_running_loop().create_task(self._ring(shard, channel))
            self._ringing.add(task)
            task.add_done_callback(self._ringing.discard)

    async def _ring(self, shard: int, channel: str) -> None:
        try:
            while self._again[shard]:
                self._again[shard] = False
                try:
                    if not await asyncio.wait_for(self._nudge(shard), RING_S):
                        self._other.notify(channel)  # another host has taken it over
                except Exception as error:  # whatever it is, PostgreSQL rings
                    logger.info("shard %d is rung at by PostgreSQL, not by Ray: %s", shard, error)
                    self._handles.clear()
                    self._other.notify(channel)
        finally:
            del self._again[shard]

    async def _nudge(self, shard: int) -> bool:
        if not self._handles:
            for host in await self._hosts.numbers():
                self._handles[host] = await self._hosts.handle(host)
        if not self._handles:
            raise RayError("there are no hosts", remedy="perdure ray up")
        is_there: bool = await self._handles[shard % len(self._handles)].nudge.remote(shard)
        return is_there
