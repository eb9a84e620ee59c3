"""A process that is killed right after the commit of its worker's own transaction, or before it.

python -m tests.runtime.payment_child URL WHEN ATTEMPTS_MAX     WHEN: committed, recorded or never
"""

from __future__ import annotations

import asyncio
import os
import sys

from sqlalchemy import event
from sqlalchemy.orm import Session

from perdure import Fixed, WorkQueue
from tests.runtime.payments import charging, order, running, settled


def queue_of(attempts_max: int) -> WorkQueue:
    return charging(retry=Fixed(0.001, max_attempts=attempts_max))


async def run(url: str, when: str, attempts_max: int) -> None:
    moment = {"committed": "after_commit", "recorded": "before_commit"}.get(when)
    if moment is not None:
        event.listen(Session, moment, lambda session: os.kill(os.getpid(), 9))
    async with running(url, queue_of(attempts_max)) as runtime:
        state = await (settled(runtime) if when == "never" else order(runtime))
        print(*state.charged, *state.receipts, *state.failed)


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], sys.argv[2], int(sys.argv[3])))
