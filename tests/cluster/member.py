"""A process of a cluster, for tests that kill and pause it: ``python -m tests.cluster.member``.

Its arguments are the URL, its name, and the settings of the cluster as JSON. It says ``up`` when it
has joined, then one line for each change of what it owns; ``send NAME COUNT`` on its input makes it
send so many messages to a ledger, one by one, and say ``sent NAME`` or what went wrong. SIGTERM
ends it as a deployment does.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys

from perdure import Settings
from perdure.cluster import Cluster, ClusterSettings
from perdure.errors import PerdureError
from tests.sagas import Added, Ledger


def say(*words: object) -> None:
    print(*words, flush=True)


async def send(runtime: Cluster, name: str, first: int, count: int) -> None:
    ref = runtime.ref(Ledger, name)
    for n in range(first, first + count):
        message_id = f"{name}-{n}"
        while True:
            try:
                await runtime.send(ref, Added(name, n), message_id=message_id)
                break
            except PerdureError as error:
                say("refused", name, n, type(error).__name__)
                await asyncio.sleep(0.05)
    say("sent", name)


async def tell_owned(runtime: Cluster) -> None:
    told: list[int] = []
    while True:
        owned = sorted(runtime.host.owned)
        if owned != told:
            told = owned
            say("owns", json.dumps(owned))
        await asyncio.sleep(0.01)


async def obey(runtime: Cluster, ended: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        _, name, first, count = line.decode().split()
        tasks.add(loop.create_task(send(runtime, name, int(first), int(count))))
    ended.set()


async def main(url: str, name: str, settings: str) -> None:
    cluster = ClusterSettings(**json.loads(settings))
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    runtime = Cluster(url, [Ledger], Settings(shutdown_timeout_s=5), cluster=cluster, name=name)
    async with runtime:
        say("up")
        telling = asyncio.create_task(tell_owned(runtime))
        obeying = asyncio.create_task(obey(runtime, ended))
        stopped = asyncio.create_task(runtime.stopped())
        await asyncio.wait(
            [stopped, asyncio.create_task(ended.wait())], return_when=asyncio.FIRST_COMPLETED
        )
        for task in (telling, obeying, stopped):
            task.cancel()
    say("down")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
