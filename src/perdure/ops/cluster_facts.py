"""Whose the shards of a cluster are, as one of its processes sees it, and which are nobody's.

    facts = await facts_of_cluster(runtime)      # None: the runtime is no cluster's
    print(facts.here, "of", facts.shards, facts.unowned)

Asked of the database, at its own time. Judges nothing. Next to read: ``health.py``;
``cluster/host.py``, who takes shards.
"""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from perdure.runtime.runtime import Runtime
from perdure.store.overview import overview_of, owner_of
from perdure.store.protocol import Store

if TYPE_CHECKING:
    from perdure.cluster.front import Cluster

__all__ = ["ClusterFacts", "facts_of_cluster", "facts_of_shards"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterFacts:
    """A cluster of ``hosts`` live processes, this one of them.

    Of ``shards``, numbered from 0, those ``here`` are this process's; ``unowned`` have no live
    owner: nothing happens to their instances until one takes them. ``name`` is "" for who only
    looks at the store.
    """

    name: str
    shards: int
    hosts: int
    here: tuple[int, ...]
    unowned: tuple[int, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain data, as ``/health/ready`` shows it."""
        return asdict(self)


async def facts_of_cluster(runtime: Runtime) -> ClusterFacts | None:
    """How the shards are spread; None for a runtime that owns its whole store.

    Raises ``StoreUnavailable`` while there is no connection to the database.
    """
    cluster = _cluster(runtime)
    if cluster is None:
        return None
    session = cluster.host.session
    shards = await session.ask(session.owners.shards)
    live = [row for row in await cluster.hosts() if not row.is_gone]
    owned = {shard for row in live for shard in row.shards}
    return ClusterFacts(
        name=session.host.name,
        shards=shards,
        hosts=len(live),
        here=tuple(sorted(cluster.host.owned)),
        unowned=tuple(shard for shard in range(shards) if shard not in owned),
    )


async def facts_of_shards(store: Store) -> ClusterFacts | None:
    """How the shards are spread, for who is no part of it; None if one process owns the store."""
    overview = overview_of(store)
    if overview is None:
        return None
    hosts = await overview.hosts()
    return ClusterFacts(
        name="",
        shards=overview.shards,
        hosts=sum(not row.is_gone for row in hosts),
        here=(),
        unowned=tuple(n for n in range(overview.shards) if owner_of(n, hosts) is None),
    )


def _cluster(runtime: Runtime) -> Cluster | None:
    if "perdure.cluster.front" not in sys.modules:  # who has no cluster does not pay for one
        return None
    from perdure.cluster.front import Cluster

    return runtime if isinstance(runtime, Cluster) else None
