"""Corners of the jobs' machinery that no other test would miss."""

import asyncio
import threading
from datetime import timedelta

import pytest

from perdure import Fixed, Job, NonRetryable, Runtime, WorkQueue, starts
from perdure.core.commit import Settlement
from perdure.errors import UnknownJob
from tests.runtime.errands import (
    Asked,
    Do,
    Done,
    Errand,
    Noticed,
    Undo,
    Undoing,
    desk,
    errand_of,
    errands,
    letters,
    queue_of,
    threaded_queue,
)
from tests.runtime.support import FreeClock, parts, quickly, reopened, rounds, until

SECOND = timedelta(seconds=1)


def failing(command, job):
    raise ConnectionError("no answer")


@quickly
async def test_the_moment_of_a_cancelled_job_is_forgotten(memory):
    clock = FreeClock()
    queue = queue_of(retry=Fixed(3600))
    async with errands(desk(do=failing), queue, store=memory, clock=clock) as runtime:
        await runtime.publish(Asked("e-1"))
        await runtime.settled()
        timer = parts(runtime).dispatcher._timer
        assert len(timer._queue) == 1
        await runtime.queue("work").cancel(f"{Errand.name}/e-1/1/0")
        await runtime.settled()
        assert len(timer._queue) == 0
        assert await memory.inner.outbox() == []


@quickly
async def test_followers_are_not_looked_for_before_it_is_their_turn(memory):
    def declined(command, job):
        raise NonRetryable("no")

    async with errands(desk(do=declined), store=memory, sagas=(Undoing,)) as runtime:
        await runtime.settled()
        reads = memory.calls["jobs_ready"]
        await runtime.publish(Asked("e-1"))
        await runtime.settled()
        assert memory.calls["jobs_ready"] <= reads + 2  # one for each that follows
        assert memory.calls["jobs_after"] == 2


@quickly
async def test_jobs_that_could_not_be_read_are_read_again(store):
    where = desk()
    async with errands(where, store=store) as runtime:
        await runtime.queue("work").pause()
        await runtime.publish(Asked("e-1", count=5))
    store = reopened(store)
    async with errands(where, store=store, retry_pause_s=0.001) as runtime:
        store.fail_reads(3, operation="jobs_ready")
        await runtime.queue("work").resume()
        await until(lambda: len(where.jobs) == 5)
        await runtime.settled()
        assert await store.inner.outbox() == []


@quickly
async def test_where_one_attempt_is_all_there_is_it_is_written_before_it_begins(store):
    seen: list[int] = []

    async def deed(command, job):
        seen.extend(row.attempts for row in await store.inner.outbox())
        return Done(command.id)

    queue = queue_of(retry=Fixed(0, max_attempts=1))
    async with errands(desk(do=deed), queue, store=store) as runtime:
        await runtime.publish(Asked("e-1"))
        await runtime.settled()
        assert (await errand_of(runtime)).done == ("do",)
    assert seen == [1]


@quickly
async def test_a_job_that_was_done_while_it_was_looked_for_is_not_cancelled(memory):
    where = desk()
    async with errands(where, store=memory, sagas=(Undoing,)) as runtime:
        queue = runtime.queue("work")
        await runtime.settled()
        await queue.pause()
        await runtime.publish(Asked("e-1"))
        memory.hold_reads()
        cancelling = asyncio.create_task(queue.cancel(f"{Undoing.name}/e-1/1/0"))
        await memory.reads_held()  # the row is found; the answer grows old
        await queue.resume()
        await until(lambda: bool(where.jobs))
        await rounds()
        memory.release()
        (answer,) = await asyncio.gather(cancelling, return_exceptions=True)
        assert answer is None or isinstance(answer, UnknownJob)
        await runtime.settled()
        state = await errand_of(runtime, saga=Undoing)
        assert (state.done, state.failed) == (("do",), ())
        assert await letters(runtime) == []


@quickly
async def test_a_thread_that_was_given_up_ends_when_its_call_returns():
    gate, running, most = threading.Event(), [0], [0]
    lock = threading.Lock()

    def deed(command, job):
        if command.id == "hangs":
            if job.attempt == 1:
                gate.wait()
            return
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        threading.Event().wait(0.002)
        with lock:
            running[0] -= 1

    clock = FreeClock()
    where = desk(do=deed)
    queue = threaded_queue(lease_s=30, concurrency=10)
    async with errands(where, queue, clock=clock, worker_threads_max=1) as runtime:
        await runtime.enqueue(Do("hangs"))
        await until(lambda: len(where.jobs) == 1)
        await clock.advance(SECOND * 30)
        await runtime.settled()  # by another thread
        gate.set()
        for number in range(20):
            await runtime.enqueue(Do(f"x-{number}"))
        await runtime.settled()
    assert most[0] == 1


@quickly
async def test_a_result_waits_for_a_runtime_that_has_its_saga(store):
    where = desk()
    async with errands(where, store=store) as runtime:
        await runtime.queue("work").pause()
        await runtime.publish(Asked("e-1"))
    store = reopened(store)
    async with Runtime(store, [queue_of()], resources={"desk": where}) as runtime:
        await runtime.queue("work").resume()
        await runtime.settled()
        assert await store.inner.outbox() == []
        assert [row.reason for row in await store.inner.inbox()] == ["held"]
    async with errands(where, store=reopened(store)) as runtime:
        await runtime.publish(Asked("e-1", count=0))
        await runtime.settled()
        assert (await errand_of(runtime)).done == ("do",)
        assert await letters(runtime) == []


@quickly
async def test_a_job_whose_result_was_applied_before_is_closed_and_changes_nothing(store):
    where = desk()
    async with errands(where, store=store) as runtime:
        await runtime.queue("work").pause()
        await runtime.publish(Asked("e-1"))
        (row,) = await store.inner.outbox()
        await runtime.queue("work").resume()
        await runtime.settled()
    store = reopened(store)
    assert await store.inner.open()
    assert await store.inner.write([Settlement("", outbox=(row,))]) == [None]
    await store.inner.close()
    async with errands(where, store=reopened(store)) as runtime:  # as after a doubled delivery
        await runtime.settled()
        assert (await errand_of(runtime)).done == ("do",)
        assert await runtime.queue("work").depth() == 0
    assert len(where.jobs) == 2


class Loud(Errand):
    name = "job-corners.loud"


@quickly
async def test_a_command_for_a_saga_is_delivered_again_where_it_cannot_be_had_now(memory):
    work = WorkQueue("work")

    @work.worker
    def perform(command: Do) -> Asked:
        return Asked(command.id, count=0)

    async with Runtime(memory, [Errand, Loud, work]) as runtime:
        memory.fail_loads(2)
        await runtime.enqueue(Do("e-1"))
        while await memory.inner.outbox():
            await runtime.settled()
            await asyncio.sleep(0.01)
        for saga in (Errand, Loud):  # one event for two instances, one of which could not be had
            assert (await errand_of(runtime, saga=saga)).id == "e-1"
        assert await letters(runtime) == []


@quickly
async def test_an_event_for_several_instances_waits_for_the_quarantined_one(memory):
    work = WorkQueue("work")

    @work.worker
    def perform(command: Do) -> Asked:
        return Asked(command.id, count=0)

    async with Runtime(memory, [Errand, Loud, work]) as runtime:
        await runtime.publish(Asked("e-1", count=0))
    for row in memory.inner._journal[f"{Loud.name}/e-1"]:
        row.body = b"\xc1"
    async with Runtime(reopened(memory), [Errand, Loud, work]) as runtime:
        await runtime.enqueue(Do("e-1"))
        await runtime.settled()
        rows = await memory.inner.inbox()
        assert [(row.instance, row.reason) for row in rows] == [(f"{Loud.name}/e-1", "held")]
        assert await memory.inner.outbox() == []


class Both(Errand):
    name = "job-corners.both"

    @starts(Undo, by=lambda command: [command.id, f"{command.id}-too"])
    def undo(self, state, command, do): ...


@quickly
async def test_a_command_that_two_instances_would_take_is_a_dead_letter(memory):
    work = WorkQueue("work")

    @work.worker
    def perform(command: Do, job: Job) -> None:
        job.send(Undo(command.id, 1))

    async with Runtime(memory, [Both, work]) as runtime:
        await runtime.enqueue(Do("b"))
        await runtime.settled()
        (letter,) = await letters(runtime)
        assert letter.reason == "unroutable"
        assert "2 instances" in letter.error
        assert await runtime.state(runtime.ref(Both, "b")) is None


@quickly
async def test_more_letters_than_a_page_are_listed_and_redriven(memory):
    def declined(command, job):
        raise NonRetryable("no")

    where = desk(do=declined)
    async with errands(where, store=memory) as runtime:
        await runtime.publish(Asked("e-1", count=150))
        await runtime.settled()
        assert len(await letters(runtime)) == 150
        where.deeds["do"] = lambda command, job: Done(command.id)
        assert await runtime.dead_letters.redrive_all() == 150
        await runtime.settled()
        assert (await errand_of(runtime)).done == ("do",) * 150


@quickly
async def test_a_job_that_is_being_cancelled_is_not_begun_meanwhile(memory):
    gate = asyncio.Event()

    async def deed(command, job):
        await gate.wait()

    where = desk(do=deed)
    async with errands(where, queue_of(concurrency=1), store=memory) as runtime:
        for number in range(2):
            await runtime.enqueue(Do(f"x-{number}"), job_id=f"n-{number}")
        await until(lambda: bool(where.jobs))
        memory.hold_writes()
        await runtime.queue("work").cancel("n-1")
        await memory.held()
        gate.set()
        await rounds()
        assert [job.key for job in where.jobs] == ["n-0"]
        memory.release()
        await runtime.settled()
        assert [letter.message_id for letter in await letters(runtime)] == ["n-1"]
    assert [job.key for job in where.jobs] == ["n-0"]


@quickly
async def test_a_job_whose_end_is_being_written_is_too_late_to_cancel(memory):
    where = desk()
    async with errands(where, store=memory) as runtime:
        await runtime.queue("work").pause()
        await runtime.publish(Asked("e-1"))
        await runtime.queue("work").resume()
        memory.hold_writes()
        await memory.held()
        with pytest.raises(UnknownJob):
            await runtime.queue("work").cancel(f"{Errand.name}/e-1/1/0")
        memory.release()


@quickly
async def test_what_was_emitted_goes_out_though_the_answer_of_its_write_was_lost(store):
    def deed(command, job):
        job.emit(Noticed(command.id, "seen"))

    where = desk(do=deed)
    async with errands(where, store=store, retry_pause_s=0.001) as runtime:
        await runtime.queue("work").pause()
        await runtime.publish(Asked("e-1"))
        await runtime.queue("work").resume()
        store.fail_writes(1, after_commit=True)
        while await store.inner.outbox():
            await runtime.settled()
            await asyncio.sleep(0.001)
        assert (await errand_of(runtime)).noticed == ("seen",)
    assert where.attempts() == [1]
