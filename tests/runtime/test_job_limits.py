"""Commands with a time within which they must be done, and attempts that are not repeated."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest

from perdure import (
    CommandFailed,
    Effects,
    Fixed,
    Job,
    MemoryStore,
    ProcessManager,
    Runtime,
    SqlStore,
    WorkQueue,
    applies,
    message,
    starts,
)
from perdure.errors import InvalidEffect
from perdure.testing import SimulatedClock
from tests.runtime.support import FreeClock, quickly, until

MINUTE = timedelta(minutes=1)


@message(name="limits-test.Asked")
class Asked:
    id: str
    within: timedelta | None = None
    delay: timedelta | None = None


@message(name="limits-test.Do")
class Do:
    id: str


@dataclass(frozen=True)
class Seen:
    failures: tuple[CommandFailed, ...] = ()


class Errand(ProcessManager[Seen]):
    name = "limits-test.Errand"

    @starts(Asked, by="id")
    def asked(self, state: Seen, event: Asked, do: Effects) -> None:
        do.send(Do(event.id), within=event.within, delay=event.delay)

    @applies(CommandFailed)
    def failed(self, state: Seen, event: CommandFailed) -> Seen:
        return replace(state, failures=(*state.failures, event))


def queue_of(deed: Callable[[Job], Any], **options: Any) -> WorkQueue:
    queue = WorkQueue("limits", **options)

    @queue.worker
    async def perform(command: Do, job: Job) -> None:
        await deed(job)

    return queue


async def failures(runtime: Runtime, id: str = "e") -> tuple[CommandFailed, ...]:
    view = await runtime.state(runtime.ref(Errand, id))
    assert view is not None
    found: tuple[CommandFailed, ...] = view.state.failures
    return found


@quickly
async def test_a_retry_that_would_come_too_late_is_not_waited_for(store):
    attempts = []

    async def deed(job: Job) -> None:
        attempts.append(job.attempt)
        raise ConnectionError("no answer")

    clock = SimulatedClock()
    queue = queue_of(deed, retry=Fixed(60, max_attempts=9))
    async with Runtime(store, [Errand, queue], clock=clock) as runtime:
        await runtime.publish(Asked("e", within=1.5 * MINUTE))
        await clock.advance(MINUTE)
        (failure,) = await failures(runtime)
        assert attempts == [1, 2]
        assert (failure.reason, failure.attempts, failure.is_unknown) == ("expired", 2, False)
        assert "no answer" in failure.error


@quickly
async def test_a_worker_still_at_work_loses_its_job_when_the_time_is_up():
    started = asyncio.Event()

    async def deed(job: Job) -> None:
        started.set()
        job.extend(3600)
        await asyncio.Event().wait()

    clock = FreeClock()  # the worker never ends by itself
    async with Runtime("memory://", [Errand, queue_of(deed)], clock=clock) as runtime:
        await runtime.publish(Asked("e", within=MINUTE))
        await started.wait()
        await clock.advance(MINUTE)
        await runtime.settled()
        (failure,) = await failures(runtime)
        assert (failure.reason, failure.is_unknown) == ("expired", True)


@quickly
async def test_a_job_that_finds_no_worker_in_time_is_given_up_without_an_attempt(store):
    attempts = []

    async def deed(job: Job) -> None:
        attempts.append(job.attempt)

    clock = SimulatedClock()
    async with Runtime(store, [Errand, queue_of(deed)], clock=clock) as runtime:
        await runtime.queue("limits").pause()
        await runtime.publish(Asked("e", within=MINUTE))
        await clock.advance(MINUTE)
        assert await failures(runtime) == ()
        await runtime.queue("limits").resume()
        await runtime.settled()
        (failure,) = await failures(runtime)
        assert (failure.reason, failure.attempts, failure.is_unknown) == ("expired", 0, False)
        assert attempts == []


@pytest.mark.parametrize(
    ("within", "delay"), [(timedelta(0), None), (-MINUTE, None), (MINUTE, MINUTE), ("soon", None)]
)
@quickly
async def test_a_time_that_cannot_be_kept_fails_the_turn(within, delay):
    class Rash(ProcessManager[Seen]):
        name = "limits-test.Rash"

        @starts(Asked, by="id")
        def asked(self, state: Seen, event: Asked, do: Effects) -> None:
            do.send(Do(event.id), within=within, delay=delay)

    async with Runtime("memory://", [Rash]) as runtime:
        with pytest.raises(InvalidEffect, match="is to be done within"):
            await runtime.publish(Asked("e"))


@quickly
async def test_an_attempt_whose_lease_ran_out_is_not_repeated_where_that_is_said():
    attempts = []

    async def deed(job: Job) -> None:
        attempts.append(job.attempt)
        await asyncio.Event().wait()

    queue = queue_of(deed, lease_s=0.02, repeat_unknown=False, retry=Fixed(0, max_attempts=5))
    async with Runtime("memory://", [Errand, queue]) as runtime:
        await runtime.publish(Asked("e"))
        await runtime.settled()
        (failure,) = await failures(runtime)
        assert (failure.reason, failure.attempts, failure.is_unknown) == ("unknown", 1, True)
        assert attempts == [1]


@quickly
async def test_a_known_failure_is_repeated_all_the_same():
    attempts = []

    async def deed(job: Job) -> None:
        attempts.append(job.attempt)
        if job.attempt < 3:
            raise ConnectionError

    queue = queue_of(deed, repeat_unknown=False, retry=Fixed(0.001, max_attempts=5))
    async with Runtime("memory://", [Errand, queue]) as runtime:
        await runtime.publish(Asked("e"))
        await runtime.settled()
        await until(lambda: len(attempts) == 3)
        await runtime.settled()
        assert await failures(runtime) == ()
    assert attempts == [1, 2, 3]


@pytest.mark.parametrize("repeats", [True, False])
@quickly
async def test_after_a_crash_in_an_attempt_it_is_repeated_or_given_up_as_declared(
    repeats, tmp_path
):
    attempts = []
    started, may_end = asyncio.Event(), asyncio.Event()

    async def deed(job: Job) -> None:
        attempts.append(job.attempt)
        started.set()
        await may_end.wait()

    def runtime_over(path: Any) -> Runtime:
        queue = queue_of(deed, repeat_unknown=repeats)
        store = SqlStore(f"sqlite+aiosqlite:///{path}", synchronous="NORMAL")
        return Runtime(store, [Errand, queue])

    before, after = tmp_path / "before.db", tmp_path / "after.db"
    async with runtime_over(before) as runtime:
        await runtime.publish(Asked("e"))
        await started.wait()
        shutil.copy(before, after)  # what a crash leaves behind
        shutil.copy(f"{before}-wal", f"{after}-wal")
        may_end.set()
        await runtime.settled()
    async with runtime_over(after) as runtime:
        await runtime.settled()
        found = await failures(runtime)
    if repeats:
        assert (attempts, found) == ([1, 1], ())
    else:
        assert attempts == [1]
        assert [(one.reason, one.attempts, one.is_unknown) for one in found] == [
            ("unknown", 1, True)
        ]


@quickly
async def test_a_job_that_was_never_begun_is_no_unknown_one_after_a_crash():
    store = MemoryStore()
    attempts = []

    async def deed(job: Job) -> None:
        attempts.append(job.attempt)

    async with Runtime(store, [Errand, queue_of(deed, repeat_unknown=False)]) as runtime:
        await runtime.queue("limits").pause()
        await runtime.publish(Asked("e"))
    async with Runtime(store, [Errand, queue_of(deed, repeat_unknown=False)]) as runtime:
        await runtime.queue("limits").resume()
        await runtime.settled()
        assert (attempts, await failures(runtime)) == ([1], ())
