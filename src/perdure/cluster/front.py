"""What a service holds of a cluster: a runtime that owns no shard, before those that do.

    async with Cluster(url, [OrderFulfilment], cluster=ClusterSettings(lease_s=20)) as runtime:
        await runtime.send(runtime.ref(OrderFulfilment, "o-1"), PaymentReceived("o-1"))

Its deliveries go through ``Services.elsewhere`` (``router.py``): to the runtime of the key's shard
if that is in this process, else by mail. Its store is read only, and shows the whole database to
whoever looks. Next to read: ``process.py``, what it is made of; ``host.py``.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from perdure.cluster.host import Host
from perdure.cluster.process import Process
from perdure.cluster.settings import ClusterSettings, checked_settings
from perdure.errors import RuntimeNotRunning
from perdure.observer import Observer
from perdure.queue import WorkQueue
from perdure.runtime.clock import Clock
from perdure.runtime.companions import Companion
from perdure.runtime.definitions import Saga
from perdure.runtime.running import Running
from perdure.runtime.runtime import Runtime
from perdure.runtime.threads import Threads
from perdure.runtime.watching.tracing import Tracing
from perdure.runtime.watching.vitals import Vitals
from perdure.settings import Settings
from perdure.store.ownership import HostRow

__all__ = ["Cluster"]


class Cluster(Runtime):
    """A ``Runtime`` of many processes: what it takes, it takes for any instance of the store.

    ``store``: the URL of a PostgreSQL database. ``name``: this process, for people; the machine's
    name by default. ``assigned``: these shards and no others, taken by force at the start, for an
    engine that places processes itself. Everything else is as with ``Runtime``; ``settings`` hold
    for the process where they bound memory and work (``residents_max``, ``worker_threads_max``, a
    queue's ``concurrency``), else for each shard.

    ``start`` raises StoreLocked while a ``Runtime`` owns the store alone.
    """

    def __init__(
        self,
        store: str,
        members: Iterable[Saga | WorkQueue],
        settings: Settings | None = None,
        *,
        cluster: ClusterSettings | None = None,
        name: str | None = None,
        assigned: Sequence[int] | None = None,
        resources: Mapping[str, Any] | None = None,
        messages: Iterable[type] = (),
        clock: Clock | None = None,
        new_id: Callable[[], str] | None = None,
        random: Callable[[], float] | None = None,
        threads: Threads | None = None,
        observers: Iterable[Observer] = (),
        tracing: Tracing | None = None,
    ) -> None:
        self._url = store
        super().__init__(
            front_store(store),
            members,
            settings,
            resources=resources,
            messages=messages,
            clock=clock,
            new_id=new_id,
            random=random,
            threads=threads,
            observers=observers,
            tracing=tracing,
        )
        self.cluster = checked_settings(cluster)
        self.name = name or socket.gethostname()
        self._assigned = None if assigned is None else tuple(assigned)
        self._process: Process | None = None

    @property
    def host(self) -> Host:
        """The shards that are in this process. Raises ``RuntimeNotRunning``."""
        return self._joined.host

    @property
    def _joined(self) -> Process:
        if self._process is None:
            raise RuntimeNotRunning(
                "the process has not joined the cluster",
                remedy="use it inside `async with Cluster(…)`",
            )
        return self._process

    async def drain(self) -> None:
        """Give up all shards, and take no more; messages are still taken, and go to the others."""
        await self.host.drain()

    async def hosts(self) -> list[HostRow]:
        """The processes that take part, and their shards. Raises StoreUnavailable."""
        return await self._joined.hosts()
