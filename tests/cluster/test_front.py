"""What a service holds of a cluster is a runtime like any other."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from perdure import Runtime
from perdure.cluster import Cluster, ClusterSettings
from perdure.errors import DefinitionError, RuntimeNotRunning, StoreLocked, StoreUnavailable
from perdure.runtime.watching.vitals import Phase
from tests.cluster.hosting import SOON
from tests.runtime.support import add, in_loop, items, open_ledger
from tests.sagas import Ledger, Opened


def on(test):
    """Run the coroutine function over a fresh database."""

    def run(postgres):
        in_loop(30)(test)(postgres)

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


def cluster(url, name, **more):
    return Cluster(url, [Ledger], cluster=more.pop("cluster", SOON), name=name, **more)


@on
async def test_one_process_alone_is_a_runtime_with_sixteen_shards(url):
    runtime = cluster(url, "a")
    assert runtime.phase is Phase.NEW
    async with runtime:
        assert runtime.phase is Phase.RUNNING
        assert len(runtime.host.owned) == 16
        for n in range(20):
            ref = await open_ledger(runtime, f"o-{n}")
            await add(runtime, ref, 1, 2)
            assert await items(runtime, ref) == [1, 2]
        await runtime.settled()
        assert runtime.residents == 20
        vitals = runtime.vitals()
        assert (vitals.residents, vitals.is_ready, vitals.troubles) == (20, True, ())
        [row] = await runtime.hosts()
        assert (row.name, len(row.shards)) == ("a", 16)
    assert runtime.phase is Phase.STOPPED
    async with cluster(url, "again") as runtime:
        assert await items(runtime, runtime.ref(Ledger, "o-7")) == [1, 2]
