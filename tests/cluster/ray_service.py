"""A service that is no driver of Ray: sends one number after the other, says what was applied.

``python -m tests.cluster.ray_service URL`` prints a line of JSON whenever something changes:
``{"applied": 12, "troubles": []}``. It ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import json
import sys

from perdure import Settings
from perdure.cluster import Cluster, ClusterSettings
from tests.sagas import Added, Ledger, Opened

PAUSE_S = 0.02


async def serve(url: str) -> None:
    applied = 0

    async def send() -> None:
        nonlocal applied
        ref = front.ref(Ledger, "x")
        await front.send(ref, Opened("x"), message_id="x-opened")
        while True:
            await front.send(ref, Added("x", applied), message_id=f"x-{applied}")
            applied += 1
            await asyncio.sleep(PAUSE_S)

    async def say() -> None:
        said = None
        while True:
            troubles = [trouble.error for trouble in front.vitals().troubles]
            now = json.dumps({"applied": applied, "troubles": troubles})
            if now != said:
                print(now, flush=True)
                said = now
            await asyncio.sleep(PAUSE_S)

    takes_none, soon = ClusterSettings(takes_shards=False), Settings(shutdown_timeout_s=1)
    async with Cluster(url, [Ledger], soon, cluster=takes_none) as front:
        working = [asyncio.create_task(send()), asyncio.create_task(say())]
        ended = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
        await asyncio.wait([*working, ended], return_when=asyncio.FIRST_COMPLETED)
        for task in working:
            task.cancel()
        await asyncio.gather(*working, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
