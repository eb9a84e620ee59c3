"""Real processes that are killed, paused and ended, while others go on."""

import asyncio
import signal

from perdure.cluster import Cluster, ClusterSettings
from tests.cluster.members import member, owns
from tests.cluster.support import connected, judged
from tests.runtime.support import add, in_loop, items, open_ledger
from tests.sagas import Ledger

PROMPT = ClusterSettings(lease_s=3.0)
"""Else as it is by default: what is measured here is what a user gets."""


def on(test):
    """Run the coroutine function over a fresh database."""

    def run(postgres):
        in_loop(60)(test)(postgres)

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


@on
async def test_the_instances_of_a_killed_process_go_on_elsewhere_within_two_seconds(url):
    async with (
        Cluster(url, [Ledger], cluster=PROMPT, name="survivor") as runtime,
        member(url, "killed", PROMPT) as killed,
    ):
        await owns(runtime, 8)
        await killed.owns(8)
        connection = await connected(url)
        await judged(connection, PROMPT.lease_s)
        await connection.close()
        refs = [await open_ledger(runtime, f"o-{n}") for n in range(20)]
        theirs = [ref for ref in refs if shard_at(runtime, ref) in killed.owned]
        assert theirs
        loop = asyncio.get_running_loop()
        killed.signal(signal.SIGKILL)
        began_s = loop.time()
        await asyncio.gather(*(add(runtime, ref, 1) for ref in refs))
        took_s = loop.time() - began_s
        print(f"takeover after kill -9: {took_s:.2f} s")
        assert took_s < 2.0
        assert len(runtime.host.owned) == 16
        for ref in refs:
            assert await items(runtime, ref) == [1]


def shard_at(runtime, ref):
    return runtime._joined.router.shard_of(ref.key)


@on
async def test_a_paused_process_loses_its_shards_commits_nothing_more_and_joins_again(url):
    async with (
        Cluster(url, [Ledger], cluster=PROMPT, name="survivor") as runtime,
        member(url, "paused", PROMPT) as paused,
    ):
        await owns(runtime, 8)
        await paused.owns(8)
        refs = {f"o-{n}": await open_ledger(runtime, f"o-{n}") for n in range(10)}
        for name in refs:
            paused.send(name, 0, 60)
        for name in refs:
            await until_it_has(runtime, refs[name], 5)
        paused.signal(signal.SIGSTOP)
        await owns(runtime, 16)
        for ref in refs.values():
            await add(runtime, ref, -1)
        paused.signal(signal.SIGCONT)
        for name in refs:
            await paused.says(f"sent {name}")
        await paused.owns(8)
        await owns(runtime, 8)
        for ref in refs.values():
            found = await items(runtime, ref)
            assert [n for n in found if n >= 0] == list(range(60)), "once each, and in order"
            assert found.count(-1) == 1
            await epochs_grow(runtime, ref)


async def until_it_has(runtime, ref, count):
    while len(await items(runtime, ref)) < count:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def epochs_grow(runtime, ref):
    """No turn of an earlier owner comes after one of a later owner."""
    rows = await runtime.store.journal(ref.key, 0, 1000)
    epochs = [row.epoch for row in rows]
    assert epochs == sorted(epochs)


@on
async def test_what_a_process_owned_that_ends_is_taken_over_at_once(url):
    async with (
        Cluster(url, [Ledger], cluster=PROMPT, name="survivor") as runtime,
        member(url, "deployed", PROMPT) as deployed,
    ):
        await deployed.owns(8)
        ref = await open_ledger(runtime, "x")
        loop = asyncio.get_running_loop()
        deployed.signal(signal.SIGTERM)
        began_s = loop.time()
        await owns(runtime, 16)
        took_s = loop.time() - began_s
        print(f"takeover after SIGTERM: {took_s:.2f} s")
        assert took_s < 1.0
        await add(runtime, ref, 1)
        assert await deployed.ended() == 0
        assert deployed.said[-1] == "down"
        assert [row.name for row in await runtime.hosts()] == ["survivor"]
