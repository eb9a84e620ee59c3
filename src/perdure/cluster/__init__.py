"""Many processes over one PostgreSQL: any of them takes a message for any instance.

    async with Cluster("postgresql+asyncpg://…/orders", [OrderFulfilment]) as runtime:
        await runtime.publish(OrderPlaced("o-1", 100))   # its one live actor may be elsewhere

    front.py     what a service holds: a ``Runtime`` that owns nothing, over those of its shards
    process.py   what it is made of while it runs
    host.py      takes shards, runs one ``Runtime`` for each, gives them up    shard.py, claiming.py
    orphans.py   shards of who hangs, where an engine says whose each is       ray.py
    router.py    from a message to the runtime of its shard, here or by mail   outlet.py, intake.py

No transport, election or failure detector: rows, doorbells and epochs of PostgreSQL, see
``store/ownership.py``. Start more processes with the same code, and they share the work.
"""

from perdure.cluster.settings import ClusterSettings
from perdure.errors import DefinitionError

try:
    from perdure.cluster.front import Cluster
except ModuleNotFoundError as error:
    if error.name != "asyncpg":
        raise
    raise DefinitionError(
        "PostgreSQL needs asyncpg", remedy="pip install 'perdure[postgres]'"
    ) from error

__all__ = ["Cluster", "ClusterSettings"]
