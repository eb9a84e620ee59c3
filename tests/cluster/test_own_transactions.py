"""Over several processes: users' transactions through any of them, workers' own on each."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from perdure import Letterbox, OwnTransaction, Runtime, Settings
from perdure.cluster import Cluster, ClusterSettings
from tests.runtime.payments import (
    TABLES,
    Charge,
    Order,
    Ordered,
    charging,
    engine_of,
    own_of,
    payments,
    records,
)
from tests.runtime.support import in_loop
from tests.servers.databases import run_sql

COUNT = 12


def pod(url: str, name: str, own: OwnTransaction, takes_shards: bool) -> Cluster:
    return Cluster(
        url,
        [Order, charging()],
        Settings(control_socket=False),
        cluster=ClusterSettings(takes_shards=takes_shards),
        name=name,
        resources={"session": own},
    )


async def charged(runtime: Runtime) -> list[tuple[int, ...]]:
    views = [await runtime.state(runtime.ref(Order, f"o-{n}")) for n in range(COUNT)]
    return [() if view is None else view.state.charged for view in views]


@pytest.mark.parametrize("takes_shards", [True, False], ids=["owner", "front"])
@in_loop(60)
async def test_a_transaction_at_any_process_reaches_the_owners(
    postgres: str, takes_shards: bool
) -> None:
    """The second process has part of the shards, or none; workers charge on both, or on one."""
    await run_sql(postgres, TABLES)
    own = own_of(postgres)
    async with pod(postgres, "a", own, True) as a, pod(postgres, "b", own, takes_shards) as b:
        async with AsyncSession(engine_of(postgres)) as session:
            for n in range(COUNT - 2):
                ref = b.ref(Order, f"o-{n}")
                await b.send(ref, Ordered(f"o-{n}"), transaction=session)
            await b.publish(Ordered(f"o-{COUNT - 2}"), transaction=session)
            await b.enqueue(Charge("by-hand"), transaction=session)
            letters = Letterbox([Order, charging()])
            await session.run_sync(
                lambda plain: letters.publish(Ordered(f"o-{COUNT - 1}"), transaction=plain)
            )
            for _ in range(5):  # each look takes longer than a doorbell
                assert await payments(postgres) == []
            await session.commit()
        while (  # noqa: ASYNC110 - the database tells nobody
            len(await payments(postgres)) <= COUNT or not all(await charged(a))
        ):
            await asyncio.sleep(0.02)
        assert await charged(b) == [(1,)] * COUNT
    found = await payments(postgres)
    assert sorted(found) == sorted([("by-hand", 1), *((f"o-{n}", 1) for n in range(COUNT))])
    assert await records(postgres) == 0
