"""Many jobs, small windows, hanging neighbours, odd failures: all are done, and nothing grows."""

import asyncio
import gc
import logging
import threading
from collections import defaultdict
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure import Fixed, MemoryStore, NonRetryable, Runtime, WorkQueue, starts
from perdure.errors import StoreError
from perdure.runtime.threads import WorkerThreads
from perdure.testing import FaultyStore
from tests.effort import times
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
from tests.runtime.support import FreeClock, in_loop, parts, quickly, reopened, rounds, until

SECOND = timedelta(seconds=1)


def sizes(runtime):
    """How much the dispatching parts hold, by name; all of it, whatever they are made of."""
    running = parts(runtime)
    dispatcher = running.dispatcher
    looked_into = {"dispatcher": dispatcher, "read_back": dispatcher._read_back}
    found = {"accepted": running.supervisor.admission.accepted}
    found["timer"] = len(dispatcher._timer._in_flight) + len(dispatcher._timer._queue)
    threads = dispatcher._threads
    assert isinstance(threads, WorkerThreads)
    found["threads"] = len(threads._waiting)
    for name, runner in dispatcher.runners.items():
        state = runner.state
        found[f"{name}: window"] = state.waiting_count + state.settling_count + len(state.running)
        found[f"{name}: heaps"] = len(state._heap) + len(state._awaited_heap)
        found[f"{name}: changed"] = len(state._changed)
    looked_into |= dispatcher.workers
    for name, part in looked_into.items():
        for attribute, value in vars(part).items():
            is_fixed = attribute in ("runners", "workers", "_unknown", "_resources")
            if isinstance(value, (dict, set, list)) and not is_fixed:
                found[f"{name}: {attribute}"] = len(value)
    return found


async def work_through(runtime, where, count):
    """So many jobs, a part of which fails, hangs, or is cancelled."""
    for start in range(0, count, 100):
        await asyncio.gather(
            *(
                runtime.publish(Asked(f"e-{n % 40}", "fails" if n % 50 == 0 else "do"))
                for n in range(start, start + 100)
            )
        )
        await runtime.settled()
    await runtime.dead_letters.discard_all()
    await runtime.settled()  # what followed the discarded ones has been looked for


async def check_that_nothing_grows(count):
    def fails(command, job):
        raise NonRetryable("no")

    where = desk(fails=fails)
    logging.getLogger("perdure").setLevel(logging.CRITICAL)
    try:
        async with errands(where, queue_of(), queue_window=50, residents_max=20) as runtime:
            await work_through(runtime, where, 200)
            before, threads = sizes(runtime), threading.active_count()
            tasks = len(asyncio.all_tasks())
            await work_through(runtime, where, count)
            where.jobs.clear()
            gc.collect()
            assert sizes(runtime) == before
            assert max(before.values()) <= 1  # a heap may keep one entry that is over
            assert len(asyncio.all_tasks()) <= tasks
            assert threading.active_count() <= threads
            assert await runtime.queue("work").depth() == 0
    finally:
        logging.getLogger("perdure").setLevel(logging.NOTSET)


@quickly
async def test_nothing_grows_with_the_jobs_that_were_done():
    await check_that_nothing_grows(1_000)


@pytest.mark.slow
@in_loop(100)
async def test_nothing_grows_with_thousands_of_jobs():
    await check_that_nothing_grows(times(5_000))


@in_loop(20)
async def test_thousands_of_jobs_pass_through_a_window_of_three():
    where = desk()
    store = FaultyStore(MemoryStore())
    async with errands(where, queue_of(concurrency=2), store=store, queue_window=3) as runtime:
        await runtime.queue("work").pause()
        for number in range(20):
            await runtime.publish(Asked(f"e-{number}", count=50))
        await runtime.queue("work").resume()
        await runtime.settled()
        assert await store.inner.outbox() == []
    keys = [job.key for job in where.jobs]
    assert len(keys) == len(set(keys)) == 1_000


@pytest.mark.parametrize("window", [1, 3, 1_000])
@given(
    counts=st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 4)), max_size=8),
    faults=st.lists(st.tuples(st.integers(0, 6), st.booleans()), max_size=3),
)
@settings(max_examples=times(25), deadline=None)
def test_first_attempts_of_an_instance_are_in_the_order_of_its_commits(window, counts, faults):
    async def run():
        store = FaultyStore(MemoryStore())
        where = desk(do=lambda command, job: Done(command.id) if job.attempt > 1 else 1 / 0)
        queue = queue_of(concurrency=1, retry=Fixed(0.001))
        async with errands(
            where, queue, store=store, queue_window=window, retry_pause_s=0.0005, write_attempts=9
        ) as runtime:
            sends = []
            for number, (id, count) in enumerate(counts):
                for at, after_commit in faults:
                    if at == number:
                        store.fail_writes(1, after_commit=after_commit)
                        store.fail_reads(1, operation="jobs_at")
                sends.append(asyncio.create_task(runtime.publish(Asked(id, count=count))))
                await rounds(number % 3 * 5)
            await asyncio.gather(*sends)
            store.heal()
            while await store.inner.outbox():
                await runtime.settled()
                await asyncio.sleep(0.001)
            history = {
                id: [
                    f"{Errand.name}/{id}/{entry.sequence_nr}/{index}"
                    async for entry in runtime.history(runtime.ref(Errand, id))
                    for index, _ in enumerate(entry.sent)
                ]
                for id in {id for id, _ in counts}
            }
        first = defaultdict(list)
        for job in where.jobs:
            if job.attempt == 1:
                first[job.instance_id].append(job.key)
        assert dict(first) == {id: keys for id, keys in history.items() if keys}

    async def limited():
        async with asyncio.timeout(10):
            await run()

    asyncio.run(limited())


@quickly
async def test_threads_that_hang_for_ever_do_not_keep_the_other_queue_from_its_work():
    gate = threading.Event()
    clock = FreeClock()
    begun: list[str] = []
    hanging = WorkQueue("hanging", lease_s=10, retry=Fixed(5, max_attempts=2))

    @hanging.worker
    def hang(command: Asked) -> None:
        begun.append(command.id)
        gate.wait()

    where = desk()
    async with errands(
        where, threaded_queue(lease_s=10_000), hanging, clock=clock, worker_threads_max=2
    ) as runtime:
        try:
            for number in range(2):
                await runtime.enqueue(Asked(f"h-{number}"), queue="hanging")
            await until(lambda: len(begun) == 2)
            for number in range(5):
                await runtime.enqueue(Do(f"x-{number}"))
            assert where.jobs == []  # both threads hang
            await clock.advance(SECOND * 10)
            await until(lambda: len(where.jobs) == 5)
            await clock.advance(SECOND * 60)
        finally:
            gate.set()
        await runtime.settled()


class Unprintable(Exception):
    def __str__(self):
        raise ValueError("cannot be printed")

    __repr__ = __str__


def too_deep():
    too_deep()


def raised(make):
    def deed(command, job):
        raise make()

    return deed


ODD = [
    Unprintable,
    StopIteration,
    GeneratorExit,
    MemoryError,
    lambda: ExceptionGroup("many", [ValueError("a"), Unprintable()]),
    lambda: ValueError("x" * 5_000_000),
    lambda: ValueError("\ud800 and \0"),
    lambda: type("Odd\nName", (Exception,), {})("line\nbreak"),
]


@pytest.mark.parametrize("make", [queue_of, threaded_queue])
@pytest.mark.parametrize("error", ODD)
@quickly
async def test_whatever_is_raised_ends_in_a_dead_letter_that_can_be_read(make, error, store):
    where = desk(do=raised(error))
    async with errands(where, make(retry=Fixed(0, max_attempts=2)), store=store) as runtime:
        await runtime.publish(Asked("e-1"))
        await runtime.settled()
        assert (await errand_of(runtime)).failed == ("exhausted",)
        (letter,) = await letters(runtime)
        assert 0 < len(letter.error) < 10_000
        assert await store.inner.outbox() == []


@quickly
async def test_a_worker_without_end_of_recursion_only_fails_its_job():
    where = desk(do=lambda command, job: too_deep(), fine=lambda command, job: Done(command.id))
    async with errands(where, queue_of(retry=Fixed(0, max_attempts=2))) as runtime:
        await runtime.publish(Asked("e-1"))
        await runtime.publish(Asked("e-2", "fine"))
        await runtime.settled()
        assert (await errand_of(runtime)).failed == ("exhausted",)
        assert (await errand_of(runtime, "e-2")).done == ("do",)


@quickly
async def test_a_result_that_is_too_large_fails_for_good(store):
    where = desk(do=lambda command, job: Done(command.id, "x" * 3_000))
    async with errands(where, store=store, message_bytes_max=2_000) as runtime:
        await runtime.publish(Asked("e-1"))
        await runtime.settled()
        assert (await errand_of(runtime)).failed == ("non-retryable",)
        assert await store.inner.outbox() == []


@quickly
async def test_emitted_nonsense_fails_for_good(store):
    def deed(command, job):
        job.emit(Do(command.id, how="x" * 3_000))
        return Done(command.id)

    async with errands(desk(do=deed), store=store, message_bytes_max=2_000) as runtime:
        await runtime.publish(Asked("e-1"))
        await runtime.settled()
        assert (await errand_of(runtime)).failed == ("non-retryable",)
        assert (await errand_of(runtime)).done == ()


@quickly
async def test_results_reach_instances_that_have_left_memory(store):
    clock = FreeClock()
    where = desk()
    async with errands(
        where, store=store, clock=clock, residents_max=1, idle_after_s=0.001
    ) as runtime:
        for number in range(20):
            await runtime.publish(Asked(f"e-{number}", count=3))
        await runtime.settled()
        await clock.advance(SECOND)
        for number in range(20):
            assert (await errand_of(runtime, f"e-{number}")).done == ("do",) * 3


@pytest.mark.parametrize("after_commit", [True, False])
@quickly
async def test_a_result_waits_for_an_instance_that_cannot_be_loaded(store, after_commit):
    async with errands(desk(), store=store, retry_pause_s=0.001) as runtime:
        await runtime.queue("work").pause()
        await runtime.publish(Asked("e-1", count=3))
    store = reopened(store)
    async with errands(desk(), store=store, retry_pause_s=0.001) as runtime:
        store.fail_loads(4)
        store.fail_writes(2, after_commit=after_commit, instance=f"{Errand.name}/e-1")
        await runtime.queue("work").resume()
        while await store.inner.outbox():
            await runtime.settled()
            await asyncio.sleep(0.001)
        store.heal()
        assert (await errand_of(runtime)).done == ("do",) * 3


@quickly
async def test_a_result_for_a_quarantined_instance_is_held_and_its_job_is_gone(memory):
    async with errands(desk(), store=memory) as runtime:
        await runtime.queue("work").pause()
        await runtime.publish(Asked("e-1", count=2))
    key = f"{Errand.name}/e-1"
    sound = [row.body for row in memory.inner._journal[key]]
    for row in memory.inner._journal[key]:
        row.body = b"\xc1"
    async with errands(desk(), store=reopened(memory)) as runtime:
        await runtime.queue("work").resume()
        await runtime.settled()
        assert await memory.inner.outbox() == []
        rows = await memory.inner.inbox()
        assert [(row.instance, row.reason) for row in rows] == [(key, "held")] * 2
        assert await letters(runtime) == []
    for row, body in zip(memory.inner._journal[key], sound, strict=True):
        row.body = body
    async with errands(desk(), store=reopened(memory)) as runtime:  # repaired, and released
        await runtime.publish(Asked("e-1", count=0))
        await runtime.settled()
        assert (await errand_of(runtime)).done == ("do", "do")
        assert await memory.inner.inbox() == []


@quickly
async def test_results_are_taken_by_an_instance_whose_mailbox_is_full(memory):
    where = desk()
    async with errands(where, store=memory, mailbox_max=1, in_flight_max=2) as runtime:
        await asyncio.gather(*(runtime.publish(Asked("e-1", count=2)) for _ in range(10)))
        await runtime.settled()
        assert (await errand_of(runtime)).done == ("do",) * 20


@pytest.mark.parametrize("after_commit", [True, False])
@quickly
async def test_a_job_id_is_performed_once_though_every_second_write_fails(store, after_commit):
    where = desk(do=lambda command, job: None)
    async with errands(where, store=store, retry_pause_s=0.001) as runtime:
        await runtime.queue("work").pause()
        done = 0
        while done < 5:
            store.fail_writes(done % 2, after_commit=after_commit)
            try:
                await runtime.enqueue(Do("x"), job_id="n-1")
            except StoreError:
                store.heal()
            done += 1
        await runtime.queue("work").resume()
        await runtime.settled()
        assert await store.inner.outbox() == []
    assert [job.key for job in where.jobs] == ["n-1"]


@quickly
async def test_a_job_redriven_into_a_paused_queue_waits_there(store):
    where = desk(do=raised(lambda: NonRetryable("no")))
    async with errands(where, store=store) as runtime:
        await runtime.publish(Asked("e-1"))
        await runtime.settled()
        await runtime.queue("work").pause()
        where.deeds["do"] = lambda command, job: Done(command.id)
        assert await runtime.dead_letters.redrive_all() == 1
        await runtime.settled()
        assert await runtime.queue("work").depth() == 1
        await runtime.queue("work").resume()
        await runtime.settled()
        assert (await errand_of(runtime)).done == ("do",)


@quickly
async def test_a_job_beyond_the_window_can_be_cancelled(store):
    where = desk()
    async with errands(where, store=store, sagas=(Undoing,), queue_window=3) as runtime:
        await runtime.queue("work").pause()
        await runtime.publish(Asked("e-1", count=30))
        await runtime.queue("work").cancel(f"{Undoing.name}/e-1/1/27")
        await runtime.settled()
        await runtime.queue("work").resume()
        await runtime.settled()
        assert (await errand_of(runtime, saga=Undoing)).failed == ("cancelled",)
        assert await store.inner.outbox() == []
    keys = {job.key for job in where.jobs}
    assert len(keys) == 29
    assert f"{Undoing.name}/e-1/1/27" not in keys


@quickly
async def test_a_job_cancelled_while_it_is_claimed_is_not_begun(store):
    where = desk()
    async with errands(where, store=store, sagas=(Undoing,)) as runtime:
        await runtime.queue("work").pause()
        await runtime.publish(Asked("e-1"))
    store = reopened(store)
    async with errands(where, store=store, sagas=(Undoing,)) as runtime:
        queue = runtime.queue("work")
        await queue.resume()
        store.hold_writes()
        await store.held()  # the claim
        await queue.cancel(f"{Undoing.name}/e-1/1/0")
        store.release()
        await runtime.settled()
        assert where.jobs == []
        assert where.undone == [1, 2, 3]
        assert max(sizes(runtime).values()) <= 1


@quickly
async def test_the_lease_and_the_result_at_the_same_moment_give_one_result():
    gates: list[asyncio.Event] = []

    async def deed(command, job):
        gates.append(asyncio.Event())
        await gates[-1].wait()
        return Done(command.id, f"attempt {job.attempt}")

    clock = FreeClock()
    where = desk(do=deed)
    async with errands(where, queue_of(lease_s=30), clock=clock) as runtime:
        await runtime.publish(Asked("e-1"))
        await until(lambda: len(gates) == 1)
        clock.call_later(30, gates[0].set)
        gates[0].set()  # it returns in the loop's next turn, and its lease ends now
        clock._now_ms += 30_000
        clock._wake_due()
        await until(lambda: len(gates) == 2)
        gates[1].set()
        await runtime.settled()
        assert (await errand_of(runtime)).done == ("attempt 2",)


class Crowd(Errand):
    """Five hundred instances hear of the event; some of them raise."""

    name = "job-load.crowd"

    @starts(Asked, by="id")
    def asked(self, state, event, do): ...

    @starts(Noticed, by=lambda event: [str(n) for n in range(500)])
    def has_noticed(self, state, event, do):
        if state.failed:
            raise ValueError("the handler is broken")


@in_loop(20)
async def test_an_event_reaches_five_hundred_instances_over_a_store_that_falters():
    store = FaultyStore(MemoryStore())
    where = desk(do=lambda command, job: Noticed(command.id, "x"))
    async with Runtime(store, [Crowd, queue_of()], resources={"desk": where}) as runtime:
        store.fail_loads(3)
        await runtime.enqueue(Do("x"))
        store.fail_writes(1)
        while await store.inner.outbox():
            await runtime.settled()
            await asyncio.sleep(0.01)
        seen = [view async for view in runtime.instances(Crowd)]
        assert [view.state.noticed for view in seen] == [("x",)] * 500
        assert await letters(runtime) == []
