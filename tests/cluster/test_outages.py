"""The database goes away, for all processes of a cluster at once."""

import asyncio

from perdure.cluster import Cluster, ClusterSettings
from perdure.errors import PerdureError
from perdure.store.migrations import upgrade
from tests.cluster.hosting import epochs_of
from tests.runtime.support import add, in_loop, items, open_ledger
from tests.sagas import Added, Ledger
from tests.servers.databases import fresh_database

SETTINGS = ClusterSettings(beat_s=0.1, lease_s=3.0, absent_s=0.5, poll_s=0.1)


async def insist(runtime, ref, count):
    """Send these numbers one by one, each again until it is acknowledged."""
    for n in range(count):
        while True:
            try:
                await runtime.send(
                    ref, Added(ref.correlation_id, n), message_id=f"{ref.correlation_id}-{n}"
                )
                break
            except PerdureError:
                await asyncio.sleep(0.02)


def test_a_server_that_is_killed_and_comes_again_costs_nobody_its_shards(own_postgres):
    async def run(url):
        await upgrade(url)
        async with (
            Cluster(url, [Ledger], cluster=SETTINGS, name="a") as a,
            Cluster(url, [Ledger], cluster=SETTINGS, name="b") as b,
        ):
            while (len(a.host.owned), len(b.host.owned)) != (8, 8):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            before = epochs_of(a.host) | epochs_of(b.host)
            refs = [await open_ledger(a, f"o-{n}") for n in range(8)]
            sending = [
                asyncio.create_task(insist(through, through.ref(Ledger, ref.correlation_id), 20))
                for ref, through in zip(refs, [a, b] * 4, strict=True)
            ]
            while not await items(a, refs[0]):  # noqa: ASYNC110 - another process is asked
                await asyncio.sleep(0.01)
            await asyncio.to_thread(own_postgres.kill)
            while a.vitals().is_ready and not a.vitals().troubles:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            await asyncio.to_thread(own_postgres.start)
            await asyncio.gather(*sending)
            for ref in refs:
                assert await items(a, ref) == list(range(20))
                await add(b, b.ref(Ledger, ref.correlation_id), 99)
            after = epochs_of(a.host) | epochs_of(b.host)
            assert after == before, "nothing changed hands"
            assert sorted(row.name for row in await a.hosts()) == ["a", "b"]
            assert a.vitals().is_ready
            assert not a.vitals().troubles

    with fresh_database(own_postgres) as url:
        in_loop(60)(run)(url)
