"""A front that stops leaves to the owners what is in their mail, and says so."""

from __future__ import annotations

import asyncio

import pytest

from perdure.cluster import Cluster, ClusterSettings
from perdure.errors import OutcomeUnknown
from perdure.store.overview import overview_of
from tests.runtime.support import in_loop, items
from tests.sagas import Ledger, Opened

TAKES = ClusterSettings(beat_s=0.05, lease_s=2.0, absent_s=0.2, poll_s=0.02)
SENDS = ClusterSettings(beat_s=0.05, poll_s=0.02, takes_shards=False)


def test_what_is_in_the_mail_is_not_waited_for(postgres: str) -> None:
    @in_loop(20)
    async def run() -> None:
        front = Cluster(postgres, [Ledger], cluster=SENDS)
        async with front:
            ref = front.ref(Ledger, "x")
            overview = overview_of(front.store)
            assert overview is not None
            sent = asyncio.create_task(front.send(ref, Opened("x"), message_id="m-1"))
            while await overview.mail_for(ref.key) is None:  # noqa: ASYNC110 - a poll is meant
                await asyncio.sleep(0.01)
            began_s = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - began_s < 10  # not shutdown_timeout_s
        with pytest.raises(OutcomeUnknown, match=r"in the mail of shard .* message id 'm-1'"):
            await sent
        async with Cluster(postgres, [Ledger], cluster=TAKES) as owner:
            again = await owner.send(ref, Opened("x"), message_id="m-1")
            assert again.sequence_nr == 1
            assert await items(owner, ref) == []

    run()
