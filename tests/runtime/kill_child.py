"""A process under load that is killed; a pipe tells what it tries and what was acknowledged.

    python -m tests.runtime.kill_child URL FIRST_NUMBER UNSETTLED

``UNSETTLED`` are numbers an earlier life tried and was not answered for: sent again, same ids.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys

from perdure import Runtime, Settings
from tests.sagas import Added, Ledger, Opened

INSTANCES = 5
SENDERS = 12
SETTINGS = Settings(
    snapshot_every=3, residents_max=2, idle_after_s=0.001, mailbox_max=4, batch_max=5
)


def report(word: str, number: int) -> None:
    os.write(1, f"{word} {number}\n".encode())  # one write: in the pipe whole, whatever happens


async def run(url: str, first: int, unsettled: list[int]) -> None:
    numbers = itertools.chain(unsettled, itertools.count(first))
    async with Runtime(url, [Ledger], SETTINGS) as runtime:
        for id in range(INSTANCES):
            await runtime.publish(Opened(str(id)), message_id=f"open-{id}")

        async def send() -> None:
            for number in numbers:
                report("try", number)
                content = Added(str(number % INSTANCES), number)
                await runtime.publish(content, message_id=f"n-{number}")
                report("ack", number)

        await asyncio.gather(*(send() for _ in range(SENDERS)))


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], int(sys.argv[2]), [int(n) for n in sys.argv[3].split()]))
