"""Attempts of which nobody knows how they ended, and what is said of them when the job has failed.

Later attempts fail in known ways: that says nothing of the earlier one.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from perdure import (
    CommandFailed,
    Fixed,
    Job,
    NonRetryable,
    Runtime,
    Settings,
    SqlStore,
    WorkQueue,
)
from perdure.core.commit import OutboxRow
from perdure.errors import DefinitionError
from perdure.testing import SimulatedClock
from tests.runtime.support import quickly, reopened
from tests.runtime.test_job_limits import Asked, Errand, failures, queue_of


def raising(error: BaseException | None) -> Callable[[], None]:
    def deed() -> None:
        if error is not None:
            raise error

    return deed


async def forever() -> None:
    await asyncio.Event().wait()


def one_after_another(*deeds: Any) -> Callable[[Job], Any]:
    """The n-th attempt does the n-th of these; the last one stays."""
    left = list(deeds)

    async def deed(job: Job) -> None:
        do = left.pop(0) if len(left) > 1 else left[0]
        found = do()
        if asyncio.iscoroutine(found):
            await found

    return deed


async def failure_of(runtime: Runtime) -> CommandFailed:
    """What the saga is told, as soon as it is; a loop that never slept would hold up the store."""
    while not (found := await failures(runtime)):  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    (failure,) = found
    return failure


async def postponed(runtime: Runtime, attempts: int) -> OutboxRow:
    """The job's row, when so many attempts have failed."""
    while True:
        rows = [row for row in await runtime.store.outbox() if row.attempts == attempts]
        if rows:
            return rows[0]
        await asyncio.sleep(0.001)


@pytest.mark.parametrize(
    ("then", "reason", "is_unknown"),
    [
        (ConnectionError("closed"), "exhausted", True),
        (NonRetryable("never"), "non-retryable", False),
        (KeyError("never"), "non-retryable", False),
    ],
)
@quickly
async def test_a_doubt_stays_when_a_later_attempt_fails_unless_that_knows_better(
    then, reason, is_unknown, store
):
    deed = one_after_another(forever, raising(ConnectionError("busy")), raising(then))
    retry = Fixed(0.001, max_attempts=3)
    queue = queue_of(deed, lease_s=0.02, retry=retry, non_retryable=(KeyError,))
    async with Runtime(store, [Errand, queue]) as runtime:
        await runtime.publish(Asked("e"))
        failure = await failure_of(runtime)
        assert (failure.reason, failure.attempts, failure.is_unknown) == (reason, 3, is_unknown)


@quickly
async def test_a_doubt_ends_when_the_job_is_done(memory):
    deed = one_after_another(forever, raising(None))
    async with Runtime(memory, [Errand, queue_of(deed, lease_s=0.02)]) as runtime:
        await runtime.publish(Asked("e"))
        await runtime.settled()
        assert await failures(runtime) == ()
        workers = runtime._running.dispatcher.workers["limits"]  # type: ignore[union-attr]
        assert not workers._doubts._positions


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("writes", [True, False])
@quickly
async def test_of_an_attempt_that_ended_with_its_process_the_saga_is_told(writes, number, tmp_path):
    """Where attempts are not written first, any job that was due may have been under way."""
    started, may_end = asyncio.Event(), asyncio.Event()

    async def at_work() -> None:
        started.set()
        await may_end.wait()

    def over(path: Path, deed: Callable[[Job], Any]) -> Runtime:
        queue = queue_of(deed, write_first=writes, retry=Fixed(0.001, max_attempts=3))
        store = SqlStore(f"sqlite+aiosqlite:///{path}", synchronous="NORMAL")
        return Runtime(store, [Errand, queue])

    refuse = raising(ConnectionError("closed"))
    before, after = tmp_path / "before.db", tmp_path / "after.db"
    async with over(before, one_after_another(*[refuse] * (number - 1), at_work)) as runtime:
        await runtime.publish(Asked("e"))
        await started.wait()
        shutil.copy(before, after)  # what a crash leaves behind
        shutil.copy(f"{before}-wal", f"{after}-wal")
        may_end.set()
    async with over(after, one_after_another(refuse)) as runtime:
        failure = await failure_of(runtime)
        assert (failure.reason, failure.is_unknown) == ("exhausted", True)


@pytest.mark.parametrize("delay", [None, timedelta(hours=1)])
@quickly
async def test_of_a_job_that_was_not_due_it_is_known_that_it_was_not_under_way(delay, store):
    """It awaits its retry, or was delayed, when its process ends."""
    clock = SimulatedClock()

    def over(store: Any) -> Runtime:
        deed = one_after_another(raising(ConnectionError("closed")))
        queue = queue_of(deed, retry=Fixed(3600, max_attempts=2))
        return Runtime(store, [Errand, queue], clock=clock)

    async with over(store) as runtime:
        await runtime.publish(Asked("e", delay=delay))
        await clock.advance(timedelta(minutes=1))
    async with over(reopened(store)) as runtime:
        await clock.advance(timedelta(hours=3))
        (failure,) = await failures(runtime)
        assert (failure.reason, failure.is_unknown) == ("exhausted", False)


@quickly
async def test_a_doubt_outlives_the_processes_that_come_after(store):
    def over(store: Any, *deeds: Any, delay_s: float, clock: Any = None) -> Runtime:
        retry = Fixed(delay_s, max_attempts=4)
        queue = queue_of(one_after_another(*deeds), lease_s=0.02, retry=retry)
        return Runtime(store, [Errand, queue], clock=clock)

    refuse = raising(ConnectionError("closed"))
    async with over(store, forever, refuse, delay_s=3600) as runtime:
        await runtime.publish(Asked("e"))
        assert (await postponed(runtime, 2)).error == "in doubt: ConnectionError: closed"
    store, later = reopened(store), SimulatedClock(datetime.now(UTC) + timedelta(hours=2))
    async with over(store, refuse, delay_s=3600, clock=later) as runtime:
        await runtime.settled()
    store = reopened(store)
    async with over(store, refuse, delay_s=3600, clock=later) as runtime:
        await later.advance(timedelta(hours=1))
        (failure,) = await failures(runtime)
        assert (failure.reason, failure.attempts, failure.is_unknown) == ("exhausted", 4, True)


@quickly
async def test_an_attempt_that_the_end_of_the_runtime_broke_off_is_in_doubt_and_does_not_count(
    store,
):
    started = asyncio.Event()

    async def at_work() -> None:
        started.set()
        await forever()

    def over(store: Any, deed: Any) -> Runtime:
        queue = queue_of(
            one_after_another(deed), write_first=True, retry=Fixed(0.001, max_attempts=2)
        )
        return Runtime(store, [Errand, queue], Settings(shutdown_timeout_s=0.05))

    async with over(store, at_work) as runtime:
        await runtime.publish(Asked("e"))
        await started.wait()
    async with over(reopened(store), raising(ConnectionError("closed"))) as runtime:
        failure = await failure_of(runtime)
        assert (failure.reason, failure.attempts, failure.is_unknown) == ("exhausted", 2, True)


@quickly
async def test_a_job_in_doubt_that_is_cancelled_while_it_waits_is_in_doubt(store):
    deed = one_after_another(forever, raising(ConnectionError("closed")))
    queue = queue_of(deed, lease_s=0.02, retry=Fixed(3600, max_attempts=9))
    async with Runtime(store, [Errand, queue]) as runtime:
        await runtime.publish(Asked("e"))
        await runtime.queue("limits").cancel((await postponed(runtime, 2)).id)
        failure = await failure_of(runtime)
        assert (failure.reason, failure.is_unknown) == ("cancelled", True)


def test_whether_attempts_are_written_first_is_yes_or_no():
    assert WorkQueue("q", write_first=True).policy.write_first
    with pytest.raises(DefinitionError, match="write_first is 'yes'"):
        WorkQueue("q", write_first="yes")  # type: ignore[arg-type]
