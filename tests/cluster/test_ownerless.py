"""A process that takes no shards says which of them nobody runs."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

import pytest

from perdure.cluster import Cluster, ClusterSettings
from perdure.cluster.ownerless import ownerless
from perdure.store.overview import overview_of
from perdure.store.ownership import HostRow
from tests.runtime.support import in_loop, items
from tests.sagas import Added, Ledger, Opened

TAKES = ClusterSettings(beat_s=0.05, lease_s=2.0, absent_s=0.2, poll_s=0.02)
SENDS = replace(TAKES, takes_shards=False)


def host(name: str, *shards: int, is_gone: bool = False) -> HostRow:
    return HostRow(name, name, 1, "0.1.0", 0.0, is_gone, False, shards)


def test_a_shard_of_nobody_and_of_one_who_is_gone_has_no_owner() -> None:
    assert ownerless(4, []) == {0, 1, 2, 3}
    assert ownerless(4, [host("a", 0, 1), host("b", 3, is_gone=True)]) == {2, 3}
    assert ownerless(4, [host("a", 0, 1), host("b", 2, 3)]) == set()


async def until_told(front: Cluster, is_troubled: bool) -> None:
    while bool(front.vitals().troubles) is not is_troubled:  # noqa: ASYNC110 - a poll is meant
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("ends", ["stopped", "drained"])
def test_without_hosts_the_front_says_so_and_mail_waits(
    postgres: str, ends: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "perdure.cluster")

    @in_loop(30)
    async def run() -> None:
        front = Cluster(postgres, [Ledger], cluster=SENDS)
        async with front:
            ref = front.ref(Ledger, "x")
            async with Cluster(postgres, [Ledger], cluster=TAKES) as owner:
                await front.send(ref, Opened("x"))
                await until_told(front, False)
                if ends == "drained":
                    await owner.drain()
                    await until_told(front, True)
            await until_told(front, True)
            [trouble] = front.vitals().troubles
            assert "shards 0, 1, 2, 3, 4" in trouble.error
            assert "of 16 have no live owner" in trouble.error
            waiting = asyncio.create_task(front.send(ref, Added("x", 7)))
            overview = overview_of(front.store)
            assert overview is not None
            while await overview.mail_for(ref.key) is None:  # noqa: ASYNC110 - a poll is meant
                await asyncio.sleep(0.01)
            assert not waiting.done()
            async with Cluster(postgres, [Ledger], cluster=TAKES):
                await waiting
                await until_told(front, False)
                assert await items(front, ref) == [7]

    run()
    assert "all shards have an owner again" in caplog.text
