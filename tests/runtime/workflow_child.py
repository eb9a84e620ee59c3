"""A process that runs a workflow, and is killed in every one of its steps, the first time each.

python -m tests.runtime.workflow_child URL FOLDER WHEN     WHEN: "before" its work, or "after" it
"""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from perdure import Context, Fixed, Job, Runtime, message, step, workflow

RETRY = Fixed(0.001, max_attempts=None)


@message(name="workflow-child.Begun")
class Begun:
    id: str


@message(name="workflow-child.Part")
class Part:
    id: str


class Ledger:
    """A line for each beginning and end of a step's work; the disk has it when it returns."""

    def __init__(self, folder: Path, when: str) -> None:
        self.path = folder / "ledger"
        self.folder = folder
        self.when = when

    def note(self, line: str) -> None:
        with self.path.open("a") as file:
            file.write(f"{line}\n")

    def work(self, key: str) -> str:
        self.note(f"begin {key}")
        if self.when == "before":
            self.die_once(key)
        self.note(f"done {key}")
        if self.when == "after":
            self.die_once(key)
        return key

    def die_once(self, key: str) -> None:
        mark = self.folder / f"{key.replace('/', '_')}.killed"
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), 9)


def plain(name: str) -> Any:
    @step(name=name, retry=RETRY)
    def work(given: Any, job: Job, ledger: Ledger) -> str:
        return ledger.work(job.key)

    return work


@step(name="on_loop", retry=RETRY)
async def on_loop(given: Any, job: Job, ledger: Ledger) -> str:
    await asyncio.sleep(0)
    return ledger.work(job.key)


@workflow("part", Part, by="id", steps=[plain("inner")])
async def part(ctx: Context, begun: Part) -> Any:
    return await ctx.step("inner")


NAMES = ("first", "second", "left", "right", "last")


@workflow("whole", Begun, by="id", steps=[*map(plain, NAMES), on_loop])
async def whole(ctx: Context, begun: Begun) -> Any:
    found = [await ctx.step("first"), await ctx.step("second")]
    found += await ctx.gather(ctx.step("left"), ctx.step("right"), ctx.step(on_loop))
    await ctx.sleep(seconds=0.05)
    found += [await ctx.child("part", part, Part(f"{begun.id}/part"))]
    for number in range(3):
        found.append(await ctx.step("last", key=number))
    return found


async def run(url: str, folder: Path, when: str) -> None:
    resources = {"ledger": Ledger(folder, when)}
    async with Runtime(url, [whole, part], resources=resources) as runtime:
        await runtime.publish(Begun("w"), message_id="m-1")
        async with asyncio.timeout(timedelta(seconds=30).total_seconds()):
            print(await runtime.result(runtime.ref(whole, "w")))


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], Path(sys.argv[2]), sys.argv[3]))
