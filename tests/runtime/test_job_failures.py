"""Jobs that fail: retries that survive restarts, dead letters, and the instance that is told."""

import asyncio
from datetime import timedelta
from itertools import pairwise

import pytest

from perdure import CommandFailed, Fixed, MemoryStore, NonRetryable, RetryLater, SqlStore, WorkQueue
from perdure.errors import InvalidResult
from perdure.testing import FaultyStore, SimulatedClock
from tests.runtime.errands import (
    Asked,
    Do,
    Done,
    Errand,
    Noticed,
    Undoing,
    desk,
    errand_of,
    errands,
    letters,
    queue_of,
    threaded_queue,
)
from tests.runtime.support import quickly, reopened, until

FAR = timedelta(days=3)
SECOND = timedelta(seconds=1)


@pytest.fixture(params=["memory", "sqlite"])
def store(request, tmp_path):
    if request.param == "memory":
        return FaultyStore(MemoryStore())
    url = f"sqlite+aiosqlite:///{tmp_path}/jobs.db"
    return FaultyStore(SqlStore(url, synchronous="NORMAL"))


def failing(times, error=lambda: ConnectionError("no answer")):
    left = [times]

    def deed(command, job):
        if left[0]:
            left[0] -= 1
            raise error()
        return Done(command.id, "do")

    return deed


@quickly
async def test_a_job_that_fails_is_tried_again_and_succeeds(store):
    where = desk(do=failing(2))
    clock = SimulatedClock()
    async with errands(where, store=store, clock=clock) as runtime:
        await runtime.publish(Asked("e-1"))
        await clock.advance(FAR)
        assert (await errand_of(runtime)).done == ("do",)
        assert await letters(runtime) == []
    assert where.attempts() == [1, 2, 3]
    assert len({job.key for job in where.jobs}) == 1


@quickly
async def test_the_delay_between_attempts_is_the_policys():
    clock = SimulatedClock()
    times = []

    def deed(command, job):
        times.append(clock.now)
        raise ConnectionError

    where = desk(do=deed)
    queue = queue_of(retry=Fixed(30, max_attempts=3))
    async with errands(where, queue, clock=clock) as runtime:
        await runtime.publish(Asked("e-1"))
        await clock.advance(FAR)
    gaps = [(b - a).total_seconds() for a, b in pairwise(times)]
    assert gaps == [30, 30]


@quickly
async def test_attempts_and_next_try_survive_a_restart(store):
    clock = SimulatedClock()
    where = desk(do=failing(2))
    queue = queue_of(retry=Fixed(3600, max_attempts=3))
    async with errands(where, queue, store=store, clock=clock) as runtime:
        await runtime.publish(Asked("e-1"))
        await runtime.settled()
        (row,) = await store.inner.outbox()
        assert (row.attempts, row.due_at_ms - clock.now_ms()) == (1, 3_600_000)
        assert "no answer" in row.error
    store = reopened(store)
    async with errands(where, queue, store=store, clock=clock) as runtime:
        await runtime.settled()
        assert where.attempts() == [1]  # not before its time
        await clock.advance(FAR)
        assert (await errand_of(runtime)).done == ("do",)
    assert where.attempts() == [1, 2, 3]


@quickly
async def test_a_job_that_keeps_failing_is_a_dead_letter_and_its_instance_is_told(store):
    clock = SimulatedClock()
    where = desk(do=failing(99))
    async with errands(where, store=store, clock=clock) as runtime:
        await runtime.publish(Asked("e-1"))
        await clock.advance(FAR)
        state = await errand_of(runtime)
        assert state.failed == ("exhausted",)
        assert state.error == "ConnectionError: no answer"
        (letter,) = await letters(runtime)
        assert (letter.queue, letter.reason, letter.attempts) == ("work", "exhausted", 3)
        assert letter.content == Do("e-1")
        assert "Traceback" in letter.error
        assert "ConnectionError: no answer" in letter.error
        assert letter.message_id == where.jobs[0].key
        assert await store.inner.outbox() == []
    assert where.attempts() == [1, 2, 3]


@pytest.mark.parametrize("error", [NonRetryable("card declined"), KeyError("declared")])
@quickly
async def test_what_cannot_succeed_is_not_tried_again(store, error):
    where = desk(do=failing(99, lambda: error))
    queue = queue_of(non_retryable=(KeyError,))
    async with errands(where, queue, store=store) as runtime:
        await runtime.publish(Asked("e-1"))
        await runtime.settled()
        assert (await errand_of(runtime)).failed == ("non-retryable",)
        (letter,) = await letters(runtime)
        assert letter.attempts == 1
    assert where.attempts() == [1]


@quickly
async def test_a_worker_may_say_when_to_try_again():
    clock = SimulatedClock()
    where = desk(do=failing(1, lambda: RetryLater("too many requests", after_s=90)))
    async with errands(where, clock=clock) as runtime:
        await runtime.publish(Asked("e-1"))
        await clock.advance(SECOND * 89)
        assert where.attempts() == [1]
        await clock.advance(SECOND)
        assert where.attempts() == [1, 2]
        assert (await errand_of(runtime)).done == ("do",)


@quickly
async def test_compensating_commands_run_one_after_another_in_the_order_given(store):
    clock = SimulatedClock()
    tries = []

    def take_back(command, job):
        tries.append((command.step, job.attempt))
        if command.step == 1 and job.attempt < 3:
            raise ConnectionError

    where = desk(do=failing(99), **{"take back": take_back})
    async with errands(where, store=store, clock=clock, sagas=(Undoing,)) as runtime:
        await runtime.publish(Asked("e-1"))
        await clock.advance(FAR)
        assert where.undone == [1, 2, 3]
        assert tries == [(1, 1), (1, 2), (1, 3), (2, 1), (3, 1)]  # 2 waited for the retries of 1
        assert await store.inner.outbox() == []


@quickly
async def test_compensation_goes_on_after_a_restart_in_the_same_order(store):
    clock = SimulatedClock()
    where = desk(do=failing(99), **{"take back": failing(1)})
    queue = queue_of(retry=Fixed(3600, max_attempts=3))
    async with errands(where, queue, store=store, clock=clock, sagas=(Undoing,)) as runtime:
        await runtime.publish(Asked("e-1"))
        await clock.advance(SECOND * 7300)  # three attempts, then one failed compensation
        assert where.undone == []
        assert len(await store.inner.outbox()) == 3
    async with errands(
        where, queue, store=reopened(store), clock=clock, sagas=(Undoing,)
    ) as runtime:
        await clock.advance(FAR)
        assert where.undone == [1, 2, 3]


@quickly
async def test_a_compensation_that_fails_for_good_holds_the_later_ones_until_it_is_redriven(store):
    clock = SimulatedClock()
    broken = [True]

    def take_back(command, job):
        if command.step == 2 and broken[0]:
            raise NonRetryable("closed")

    where = desk(do=failing(99), **{"take back": take_back})
    async with errands(where, store=store, clock=clock, sagas=(Undoing,)) as runtime:
        await runtime.publish(Asked("e-1"))
        await clock.advance(FAR)
        assert where.undone == [1]
        (stuck,) = await letters(runtime, type="runtime-test.undo")
    store = reopened(store)
    async with errands(where, store=store, clock=clock, sagas=(Undoing,)) as runtime:
        await runtime.settled()
        assert where.undone == [1]  # it holds over a restart, too
        broken[0] = False
        assert await runtime.dead_letters.redrive(stuck.id)
        await runtime.settled()
        assert where.undone == [1, 2, 3]
        assert await store.inner.outbox() == []


@quickly
async def test_discarding_a_stuck_compensation_lets_the_later_ones_go_on():
    def take_back(command, job):
        if command.step == 2:
            raise NonRetryable("closed")

    where = desk(do=failing(99, lambda: NonRetryable("no")), **{"take back": take_back})
    async with errands(where, sagas=(Undoing,)) as runtime:
        await runtime.publish(Asked("e-1"))
        await runtime.settled()
        (stuck,) = await letters(runtime, type="runtime-test.undo")
        assert await runtime.dead_letters.discard(stuck.id)
        await runtime.settled()
        assert where.undone == [1, 3]


@quickly
async def test_a_result_that_cannot_be_stored_fails_for_good_and_says_so():
    where = desk(do=lambda command, job: object())
    async with errands(where) as runtime:
        await runtime.publish(Asked("e-1"))
        await runtime.settled()
        (letter,) = await letters(runtime)
        assert letter.reason == "non-retryable"
        assert "returned what cannot be stored" in letter.error
        assert InvalidResult.__name__ in (await errand_of(runtime)).error


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, asyncio.CancelledError])
@pytest.mark.parametrize("make", [queue_of, threaded_queue])
@quickly
async def test_whatever_a_worker_raises_only_fails_its_job(kind, make):
    where = desk(do=failing(99, lambda: kind("stop")))
    clock = SimulatedClock()
    async with errands(where, make(), clock=clock) as runtime:
        await runtime.publish(Asked("e-1"))
        await runtime.publish(Asked("e-2", how="fine"))
        where.deeds["fine"] = lambda command, job: Done(command.id)
        await clock.advance(FAR)
        assert (await errand_of(runtime)).failed == ("exhausted",)
        assert (await errand_of(runtime, "e-2")).done == ("do",)


@quickly
async def test_what_is_emitted_anyway_goes_out_once_when_the_job_has_failed_for_good():
    def deed(command, job):
        job.emit(Noticed(command.id, "declined"), anyway=True)
        job.emit(Noticed(command.id, "charged"))
        raise ConnectionError("no answer")

    clock = SimulatedClock()
    async with errands(desk(do=deed), clock=clock) as runtime:
        await runtime.publish(Asked("e-1"))
        await clock.advance(FAR)
        state = await errand_of(runtime)
        assert state.noticed == ("declined",)
        assert state.failed == ("exhausted",)


@quickly
async def test_an_attempt_that_is_tried_again_emits_nothing():
    def deed(command, job):
        job.emit(Noticed(command.id, f"attempt {job.attempt}"), anyway=True)
        if job.attempt < 3:
            raise ConnectionError
        return Done(command.id)

    clock = SimulatedClock()
    async with errands(desk(do=deed), clock=clock) as runtime:
        await runtime.publish(Asked("e-1"))
        await clock.advance(FAR)
        assert (await errand_of(runtime)).noticed == ("attempt 3",)


@quickly
async def test_a_job_that_nobody_can_decode_is_a_dead_letter_with_its_bytes(store):
    waiting = WorkQueue("work")
    async with errands(desk(), waiting, store=store) as runtime:
        await runtime.enqueue(Do("e-1"), queue="work")
        await runtime.settled()
        (row,) = await store.inner.outbox()
    row.version = 99
    await spoil(store, row)
    async with errands(desk(), store=reopened(store)) as runtime:
        await runtime.settled()
        (letter,) = await letters(runtime)
        assert (letter.reason, letter.type) == ("undecodable", "runtime-test.do")
        assert letter.content == {"id": "e-1", "how": "do", "number": 0}


@quickly
async def test_a_job_for_which_its_queue_has_no_worker_any_more_is_a_dead_letter(store):
    waiting = WorkQueue("work")
    async with errands(desk(), waiting, store=store) as runtime:
        await runtime.enqueue(Do("e-1"), queue="work")
    other = WorkQueue("work")

    @other.worker(commands=[Asked])
    def other_work(command):
        raise AssertionError

    async with errands(desk(), other, store=reopened(store)) as runtime:
        await runtime.settled()
        (letter,) = await letters(runtime)
        assert letter.reason == "unroutable"
        assert "has no worker for runtime-test.do" in letter.error


@quickly
async def test_the_failure_is_in_the_history_with_the_command():
    async with errands(desk(do=failing(9, lambda: NonRetryable("no")))) as runtime:
        await runtime.publish(Asked("e-1"))
        await runtime.settled()
        entries = [entry async for entry in runtime.history(runtime.ref(Errand, "e-1"))]
    failure = entries[1].message
    assert isinstance(failure, CommandFailed)
    assert failure.command == Do("e-1")
    assert failure.reason == "non-retryable"


@quickly
async def test_a_finished_instance_is_not_revived_by_a_late_failure():
    gate = asyncio.Event()

    async def deed(command, job):
        await gate.wait()
        raise NonRetryable("too late")

    where = desk(late=deed, last=lambda command, job: Done(command.id, "last"))
    async with errands(where) as runtime:
        await runtime.publish(Asked("e-1", "late"))
        await until(lambda: bool(where.jobs))
        await runtime.publish(Asked("e-1", "last"))
        gate.set()
        await runtime.settled()
        view = await runtime.state(runtime.ref(Errand, "e-1"))
        assert view is not None
        assert view.status == "completed"
        assert len(await letters(runtime)) == 1


async def spoil(store, row):
    """Change the stored row behind the runtime's back."""
    epoch = await store.inner.open()
    assert epoch
    assert await store.inner.write([row]) == [None]
    await store.inner.close()
