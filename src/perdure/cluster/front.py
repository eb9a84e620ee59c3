"""What a service holds of a cluster: a runtime that owns no shard, before those that do.

    async with Cluster(url, [OrderFulfilment], cluster=ClusterSettings(lease_s=20)) as runtime:
        await runtime.send(runtime.ref(OrderFulfilment, "o-1"), PaymentReceived("o-1"))

Its deliveries go through ``Services.elsewhere`` (``router.py``): to the runtime of the key's shard
if that is in this process, else by mail. Its store is read only, and shows the whole database to
whoever looks. Next to read: ``host.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from perdure.cluster.host import Host
from perdure.cluster.settings import ClusterSettings
from perdure.observer import Observer
from perdure.queue import WorkQueue
from perdure.runtime.clock import Clock
from perdure.runtime.definitions import Saga
from perdure.runtime.runtime import Runtime
from perdure.runtime.threads import Threads
from perdure.runtime.watching.tracing import Tracing
from perdure.settings import Settings
from perdure.store.ownership import HostRow
from perdure.store.protocol import Store

__all__ = ["Cluster"]


class Cluster(Runtime):
    """A ``Runtime`` of many processes: what it takes, it takes for any instance of the store.

    ``store``: the URL of a PostgreSQL database. ``name``: this process, for people; the machine's
    name by default. ``assigned``: these shards and no others, taken by force at the start, for an
    engine that places processes itself.
    """

    def __init__(
        self,
        store: str | Store,
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
        raise NotImplementedError

    @property
    def host(self) -> Host:
        """The shards that are in this process."""
        raise NotImplementedError

    async def drain(self) -> None:
        """Give up all shards, and take no more; messages are still taken, and go to the others."""
        raise NotImplementedError

    async def hosts(self) -> list[HostRow]:
        """The processes that take part, and their shards."""
        raise NotImplementedError
