"""A saga that sends commands, and workers that do what a test says.

``Errand`` asks for a job per ``Asked``; the job's worker calls what ``DEEDS`` has under its name.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from perdure import (
    CommandFailed,
    Effects,
    Fixed,
    Job,
    MemoryStore,
    ProcessManager,
    RetryPolicy,
    Runtime,
    Settings,
    WorkQueue,
    applies,
    compensates,
    continues,
    message,
    starts,
)
from perdure.store.protocol import Store


@message(name="runtime-test.asked")
class Asked:
    id: str
    how: str = "do"
    count: int = 1


@message(name="runtime-test.do")
class Do:
    id: str
    how: str = "do"
    number: int = 0


@message(name="runtime-test.undo")
class Undo:
    id: str
    step: int


@message(name="runtime-test.done")
class Done:
    id: str
    how: str = "do"


@message(name="runtime-test.noticed")
class Noticed:
    id: str
    what: str = ""


@dataclass(frozen=True)
class ErrandState:
    id: str = ""
    done: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    noticed: tuple[str, ...] = ()
    error: str = ""


class Errand(ProcessManager[ErrandState]):
    name = "runtime-test.errand"

    @starts(Asked, by="id")
    def asked(self, state: ErrandState, event: Asked, do: Effects) -> None:
        for number in range(event.count):
            do.send(Do(event.id, event.how, number))

    @continues(Done, by="id")
    def has_been_done(self, state: ErrandState, event: Done, do: Effects) -> None:
        if event.how == "last":
            do.complete()

    @continues(Noticed, by="id")
    def has_noticed(self, state: ErrandState, event: Noticed, do: Effects) -> None: ...

    @applies(Asked)
    def fold_asked(self, state: ErrandState, event: Asked) -> ErrandState:
        return replace(state, id=event.id)

    @applies(Done)
    def fold_done(self, state: ErrandState, event: Done) -> ErrandState:
        return replace(state, done=(*state.done, event.how))

    @applies(Noticed)
    def fold_noticed(self, state: ErrandState, event: Noticed) -> ErrandState:
        return replace(state, noticed=(*state.noticed, event.what))

    @applies(CommandFailed)
    def fold_failed(self, state: ErrandState, event: CommandFailed) -> ErrandState:
        return replace(state, failed=(*state.failed, event.reason), error=event.error)


class Undoing(Errand):
    """Makes up for what has failed."""

    name = "runtime-test.undoing"

    @compensates(Do)
    def undo(self, state: ErrandState, failed: Do) -> list[Undo]:
        return [Undo(state.id, step) for step in (1, 2, 3)]


@dataclass
class Desk:
    """What the workers did, and what they shall do: a resource."""

    deeds: dict[str, Callable[..., Any]]
    jobs: list[Job]
    undone: list[int]

    def attempts(self) -> list[int]:
        return [job.attempt for job in self.jobs]


def desk(**deeds: Callable[..., Any]) -> Desk:
    """``deeds`` by name: ``def deed(command, job)``, plain or a coroutine; its result counts."""
    return Desk({"do": lambda command, job: Done(command.id, command.how), **deeds}, [], [])


def queue_of(name: str = "work", retry: RetryPolicy | None = None, **options: Any) -> WorkQueue:
    """A queue that does what the desk says, on the loop."""
    queue = WorkQueue(name, retry=retry or Fixed(0.001, max_attempts=3), **options)

    @queue.worker
    async def perform(command: Do, job: Job, desk: Desk) -> Any:
        desk.jobs.append(job)
        result = desk.deeds[command.how](command, job)
        return await result if asyncio.iscoroutine(result) else result

    @queue.worker
    async def take_back(command: Undo, job: Job, desk: Desk) -> None:
        deed = desk.deeds.get("take back")
        if deed is not None:
            deed(command, job)
        desk.undone.append(command.step)

    return queue


def threaded_queue(**options: Any) -> WorkQueue:
    """As ``queue_of``, on threads."""
    queue = WorkQueue("work", **{"retry": Fixed(0.001, max_attempts=3), **options})

    @queue.worker
    def perform(command: Do, job: Job, desk: Desk) -> Any:
        desk.jobs.append(job)
        return desk.deeds[command.how](command, job)

    @queue.worker
    def take_back(command: Undo, desk: Desk) -> None:
        desk.undone.append(command.step)

    return queue


@asynccontextmanager
async def errands(
    where: Desk,
    *queues: WorkQueue,
    store: Store | None = None,
    clock: Any = None,
    sagas: tuple[type, ...] = (Errand,),
    resources: Mapping[str, Any] | None = None,
    **settings: Any,
) -> AsyncIterator[Runtime]:
    """A runtime of errands and their queues."""
    async with Runtime(
        store or MemoryStore(),
        [*sagas, *(queues or (queue_of(),))],
        Settings(**settings),
        resources=resources or {"desk": where},
        clock=clock,
    ) as runtime:
        yield runtime


async def errand_of(runtime: Runtime, id: str = "e-1", saga: type = Errand) -> ErrandState:
    """The state of an errand, which must exist."""
    view = await runtime.state(runtime.ref(saga, id))
    assert view is not None
    state: ErrandState = view.state
    return state


async def letters(runtime: Runtime, **filters: Any) -> list[Any]:
    return [letter async for letter in runtime.dead_letters.list(**filters)]
