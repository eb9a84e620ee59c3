"""A process that runs a saga or a list workflow, and is killed in each step, the first time each.

python -m tests.runtime.steps_child URL FOLDER WHEN WHAT
    WHEN: "before" its work, or "after" it
    WHAT: "saga", which fails and is undone; "workflow"; or "retry" and "compensate": a saga with a
        step that ends every process which performs it, and what becomes of it then
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

from perdure import Fixed, Job, NonRetryable, OrderedSaga, Runtime, Workflow, message, step
from perdure.errors import SagaFailed, SagaStuck
from tests.runtime.workflow_child import Ledger

RETRY = Fixed(0.001, max_attempts=None)
STEPS = ("visa", "hotel", "train")


@message(name="steps-child.Trip")
class Trip:
    id: str
    done: tuple[str, ...] = ()


def working(name: str) -> Any:
    @step(name=name, retry=RETRY)
    def work(trip: Trip, job: Job, ledger: Ledger) -> dict[str, Any]:
        ledger.work(job.key)
        return {"done": (*trip.done, name)}

    return work


def saga_of() -> OrderedSaga:
    saga = OrderedSaga("steps-child", Trip, by="id")
    for name in STEPS:
        saga.step(nothing_to_undo=name == "visa")(working(name))
        if name != "visa":
            saga.compensates(name, retry=RETRY)(working(f"no-{name}"))

    @saga.step(nothing_to_undo=True)
    def fly(trip: Trip) -> None:
        raise NonRetryable("full")

    return saga


def deadly(unknown: Any) -> OrderedSaga:
    saga = OrderedSaga("steps-child", Trip, by="id")

    @saga.step(unknown=unknown, write_first=True, retry=Fixed(0.001, max_attempts=3))
    def fly(trip: Trip, job: Job, ledger: Ledger) -> None:
        ledger.note(f"begin {job.key}")
        os.kill(os.getpid(), 9)

    @saga.compensates(fly)
    def land(trip: Trip, job: Job, ledger: Ledger) -> None:
        ledger.note(f"done {job.key}")

    return saga


def member(what: str) -> Any:
    if what in ("retry", "compensate"):
        return deadly(what)
    if what == "saga":
        return saga_of()
    return Workflow("steps-child", Trip, by="id", steps=[*map(working, STEPS)])


async def run(url: str, folder: Path, when: str, what: str) -> None:
    saga, resources = member(what), {"ledger": Ledger(folder, when)}
    async with Runtime(url, [saga], resources=resources) as runtime:
        await runtime.publish(Trip("t"), message_id="m-1")
        async with asyncio.timeout(30):
            try:
                print(await runtime.result(runtime.ref(saga, "t")))
            except (SagaFailed, SagaStuck) as error:
                print(error.problem)


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], Path(sys.argv[2]), sys.argv[3], sys.argv[4]))
