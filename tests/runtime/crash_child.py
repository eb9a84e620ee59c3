"""A process whose workers keep a ledger file per key, and one of whose jobs ends the process.

python -m tests.runtime.crash_child URL FOLDER KIND     KIND: loop, threads or slow
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from perdure import Fixed, Job, Runtime, Settings, WorkQueue
from tests.runtime.errands import Asked, Do, Done, Undo, Undoing

ERRANDS = 12
MAX_ATTEMPTS = 3


def queue_of(folder: Path, kind: str) -> WorkQueue:
    queue = WorkQueue("work", concurrency=3, retry=Fixed(0.001, max_attempts=MAX_ATTEMPTS))

    def note(key: str, what: str) -> None:
        with (folder / f"{key.replace('/', '_')}.ledger").open("a") as file:
            file.write(f"{what}\n")

    def perform(command: Do, job: Job) -> Done:
        note(job.key, f"{job.attempt}")
        if command.how == "kill":
            os.kill(os.getpid(), 9)
        return Done(command.id)

    @queue.worker
    def take_back(command: Undo, job: Job) -> None:
        note(job.key, f"{job.attempt}")

    if kind == "threads":
        queue.worker(perform)
        return queue

    @queue.worker
    async def perform_on_loop(command: Do, job: Job) -> Done:
        if command.how != "kill":
            await asyncio.sleep(0.2 if kind == "slow" else 0)  # so long its neighbours are at risk
        return perform(command, job)

    return queue


async def run(url: str, folder: Path, kind: str) -> None:
    async with Runtime(url, [Undoing, queue_of(folder, kind)], Settings()) as runtime:
        for number in range(ERRANDS):
            how = "kill" if number == 4 else "do"
            await runtime.publish(Asked(str(number), how), message_id=f"m-{number}")
        await runtime.settled()


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], Path(sys.argv[2]), sys.argv[3]))
