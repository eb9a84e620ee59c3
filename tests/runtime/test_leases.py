"""A worker holds its job under a lease: what hangs loses it, and its late result is refused."""

import asyncio
import functools
import logging
import threading
import time
from datetime import timedelta

import pytest

from perdure import Fixed, MemoryStore
from perdure.errors import LeaseLost
from perdure.testing import FaultyStore, SimulatedClock
from tests.runtime.errands import (
    Asked,
    Do,
    Done,
    Noticed,
    desk,
    errand_of,
    errands,
    letters,
    queue_of,
    threaded_queue,
)
from tests.runtime.support import FreeClock, quickly, until


@quickly
async def test_a_coroutine_that_hangs_is_cancelled_and_its_job_taken_by_another():
    cancelled = []

    async def deed(command, job):
        if job.attempt == 1:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(job.is_cancelled)
                raise
        return Done(command.id, f"attempt {job.attempt}")

    clock = FreeClock()
    where = desk(do=deed)
    async with errands(where, queue_of(lease_s=30), clock=clock) as runtime:
        await runtime.publish(Asked("e-1"))
        await until(lambda: len(where.jobs) == 1)
        await clock.advance(timedelta(seconds=29))
        assert cancelled == []
        await clock.advance(timedelta(seconds=1))
        await runtime.settled()
        assert (await errand_of(runtime)).done == ("attempt 2",)
    assert cancelled == [True]


@quickly
async def test_a_thread_that_hangs_loses_its_job_and_its_late_result_is_refused(caplog):
    gate, late = threading.Event(), threading.Event()

    def deed(command, job):
        if job.attempt == 1:
            gate.wait()
            late.set()
        return Done(command.id, f"attempt {job.attempt}")

    clock = FreeClock()
    where = desk(do=deed)
    store = FaultyStore(MemoryStore())
    queue = threaded_queue(lease_s=30, concurrency=1)
    async with errands(where, queue, store=store, clock=clock, worker_threads_max=1) as runtime:
        await runtime.publish(Asked("e-1"))
        await until(lambda: len(where.jobs) == 1)
        await clock.advance(timedelta(seconds=30))
        await runtime.settled()
        assert (await errand_of(runtime)).done == ("attempt 2",)
        assert where.jobs[0].is_cancelled
        with caplog.at_level(logging.WARNING, "perdure.workers"):
            gate.set()
            await asyncio.to_thread(late.wait)
            await until(lambda: "refused" in caplog.text)
        await runtime.settled()
        assert (await errand_of(runtime)).done == ("attempt 2",)
        assert await store.inner.outbox() == []


def has_begun(where, attempts):
    return len(where.jobs) == attempts


@quickly
async def test_a_job_that_always_hangs_ends_as_a_dead_letter():
    clock = FreeClock()
    where = desk(do=lambda command, job: asyncio.Event().wait())
    queue = queue_of(lease_s=30, retry=Fixed(5, max_attempts=3))
    async with errands(where, queue, clock=clock) as runtime:
        await runtime.publish(Asked("e-1"))
        for attempts in (1, 2, 3):
            await until(functools.partial(has_begun, where, attempts))
            await clock.advance(timedelta(seconds=30))
        await runtime.settled()
        assert (await errand_of(runtime)).failed == ("exhausted",)
        (letter,) = await letters(runtime)
        assert "lease of 30 s ran out" in letter.error
    assert where.attempts() == [1, 2, 3]


@pytest.mark.parametrize("renew", ["heartbeat", "extend"])
@quickly
async def test_a_worker_that_renews_its_lease_keeps_its_job(renew):
    steps: asyncio.Queue[bool] = asyncio.Queue()

    async def deed(command, job):
        while await steps.get():
            job.heartbeat() if renew == "heartbeat" else job.extend(30)
            steps.task_done()
        return Done(command.id)

    clock = FreeClock()
    where = desk(do=deed)
    async with errands(where, queue_of(lease_s=30), clock=clock) as runtime:
        await runtime.publish(Asked("e-1"))
        await until(lambda: len(where.jobs) == 1)
        for _ in range(5):
            await clock.advance(timedelta(seconds=29))
            steps.put_nowait(True)
            await steps.join()
        steps.put_nowait(False)
        await runtime.settled()
        assert (await errand_of(runtime)).done == ("do",)
    assert where.attempts() == [1]


@quickly
async def test_whoever_has_lost_its_lease_can_emit_and_extend_nothing():
    said = []

    async def deed(command, job):
        if job.attempt == 1:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                for attempt in (
                    lambda: job.emit(Noticed(command.id, "late")),
                    lambda: job.send(Do(command.id)),
                    job.heartbeat,
                ):
                    with pytest.raises(LeaseLost) as raised:
                        attempt()
                    said.append(str(raised.value))
                return Done(command.id, "late")  # swallows its cancellation
        return Done(command.id)

    clock = FreeClock()
    where = desk(do=deed)
    async with errands(where, queue_of(lease_s=30), clock=clock) as runtime:
        await runtime.publish(Asked("e-1"))
        await until(lambda: len(where.jobs) == 1)
        await clock.advance(timedelta(seconds=30))
        await runtime.settled()
        state = await errand_of(runtime)
        assert (state.done, state.noticed) == (("do",), ())
    assert len(said) == 3
    assert "runtime-test.errand/e-1/1/0" in said[0]


@quickly
async def test_a_coroutine_that_blocks_the_loop_is_reported_by_its_name(caplog):
    reported = threading.Event()

    class Listening(logging.Handler):
        def emit(self, record):
            if "blocks the event loop" in record.getMessage():
                reported.set()

    listening = Listening()
    logging.getLogger("perdure.watch").addHandler(listening)

    async def deed(command, job):
        await asyncio.to_thread(lambda: None)
        deadline = time.monotonic() + 9
        while not reported.is_set() and time.monotonic() < deadline:
            pass  # blocks, until somebody outside the loop has noticed
        return Done(command.id)

    try:
        async with errands(desk(do=deed), loop_block_limit_s=0.05) as runtime:
            await runtime.publish(Asked("e-1"))
            await runtime.settled()
            await until(lambda: "blocks the event loop" in caplog.text)
    finally:
        logging.getLogger("perdure.watch").removeHandler(listening)
    assert "perform" in caplog.text
    assert "of queue 'work', at runtime-test.do" in caplog.text
    assert "blocks the event loop for more than 0.05 s" in caplog.text
    assert "test_leases.py" in caplog.text  # its stack


@quickly
async def test_hanging_threads_never_stop_a_runtime_from_ending():
    gate = threading.Event()
    clock = SimulatedClock()
    where = desk(do=lambda command, job: gate.wait())
    async with errands(where, threaded_queue(), clock=clock, shutdown_timeout_s=0.05) as runtime:
        await runtime.publish(Asked("e-1"))
        await until(lambda: len(where.jobs) == 1)
    assert where.jobs[0].is_cancelled
    gate.set()
