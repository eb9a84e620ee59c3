"""What a host of Ray runs: the user's runtime, as a ``Cluster`` that is told its shards.

    hosted = await hosted_of(plan)
    await hosted.start()        # takes them from whoever has them

Next to read: ``front.py``; ``ray_life.py``, who starts and stops it; ``runtime/loading.py``.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Self

from perdure.cluster.front import Cluster
from perdure.cluster.ray_places import assigned, check_share
from perdure.errors import DefinitionError
from perdure.runtime.loading import load_runtime
from perdure.runtime.runtime import Runtime
from perdure.store.postgres import PostgresStore

if TYPE_CHECKING:
    from perdure.cluster.ray_host import HostPlan

__all__ = ["HostedCluster", "hosted_of"]


class HostedCluster(Cluster):
    """A cluster's process whose shards are assigned, made of the runtime that an app names."""

    @classmethod
    def made_of(cls, runtime: Runtime, name: str, shards: Sequence[int]) -> Self:
        """The same sagas, queues, settings, resources and observers, over these shards."""
        made = cls.of(runtime._blueprint)
        if isinstance(runtime, Cluster):
            made.cluster = runtime.cluster
        made.name, made._assigned = name, tuple(shards)
        return made

    @property
    def shards(self) -> Collection[int]:
        """Those that it owns now."""
        return () if self._process is None else list(self._process.host.owned)

    def look(self, shard: int) -> None:
        """There may be mail for this shard."""
        intake = None if self._process is None else self._process.router.intake(shard)
        if intake is not None:
            intake.ring()


async def hosted_of(plan: HostPlan) -> HostedCluster:
    """What is run for this plan, not started.

    Raises ``DefinitionError`` for an app that cannot run so, ``StoreUnavailable`` and its like.
    """
    runtime = await load_runtime(plan.app, plan.store)
    store = runtime.store
    if not isinstance(store, PostgresStore):
        raise DefinitionError(
            f"{plan.app!r} runs over {store.name}, which several hosts cannot share",
            remedy="give the URL of a PostgreSQL database: --store postgresql+asyncpg://…",
        )
    await store.database.open()  # how many shards there are is in the database
    try:
        check_share(plan.hosts, store.database.shards)
        shards = sorted(assigned(plan.host, plan.hosts, store.database.shards))
    finally:
        await store.database.close()
    name = f"ray-{plan.schema}-{plan.host}"
    return HostedCluster.made_of(runtime, name, shards)
