"""A process of release one: ``python -m tests.cluster.releases.process``, of ``members.member``.

Its arguments are the URL, its name, and the settings of the cluster as JSON. It says ``up``, what
it owns, and each line of its log. ``Paid ID 1`` on its input has it send that message of release
one to that order, and say what came of it. SIGTERM ends it as a deployment does.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys

from perdure import Settings
from perdure.cluster import Cluster, ClusterSettings
from perdure.errors import PerdureError
from tests.cluster.member import say, tell_owned
from tests.cluster.releases import one


class Said(logging.Handler):
    """What is logged, as one line of output."""

    def emit(self, record: logging.LogRecord) -> None:
        say(record.levelname, record.getMessage().replace("\n", " "))


async def send(runtime: Cluster, kind: str, id_: str, *more: str) -> None:
    content = getattr(one, kind)(id_, *map(json.loads, more))
    try:
        receipt = await runtime.send(runtime.ref(one.Order, id_), content, timeout_s=20)
    except PerdureError as error:
        say(kind, id_, type(error).__name__, error)
    else:
        say(kind, id_, receipt.outcome, receipt.reply)


async def obey(runtime: Cluster, ended: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        tasks.add(loop.create_task(send(runtime, *line.decode().split())))
    ended.set()


async def main(url: str, name: str, settings: str) -> None:
    logging.getLogger("perdure").addHandler(Said())
    cluster = ClusterSettings(**json.loads(settings))
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    its = Settings(shutdown_timeout_s=5, snapshot_every=2)
    async with Cluster(url, one.MEMBERS, its, cluster=cluster, name=name) as runtime:
        say("up")
        tasks = [
            asyncio.create_task(tell_owned(runtime)),
            asyncio.create_task(obey(runtime, ended)),
        ]
        await ended.wait()
        for task in tasks:
            task.cancel()
    say("down")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
