"""What is said of jobs that go wrong: by name, with what to do, and how often they were tried."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from perdure import Effects, Fixed, ProcessManager, Runtime, WorkQueue, continues, message, starts
from perdure.errors import (
    CorrelationFailed,
    DefinitionError,
    HandlerFailed,
    JobError,
    LeaseLost,
    UnregisteredType,
    Unroutable,
)
from tests.runtime.errands import (
    Asked,
    Do,
    Done,
    Errand,
    ErrandState,
    Undo,
    Undoing,
    desk,
    errands,
    letters,
    queue_of,
)
from tests.runtime.support import FreeClock, quickly, reopened, until

JOB = f"{Errand.name}/e-1/1/0"


@pytest.fixture(autouse=True)
def _logged(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever other tests have done to the loggers."""
    caplog.set_level(logging.WARNING, "perdure.workers")
    caplog.set_level(logging.WARNING, "perdure.saga")


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


async def forgotten() -> None:
    raise AssertionError("nobody awaits this")


@pytest.mark.parametrize(
    ("result", "problem"),
    [
        (lambda: [Done("x")], "it returned what cannot be stored: an object of type list is no"),
        (lambda: "done", "it returned what cannot be stored: an object of type str is no"),
        (lambda: Done, r"it returned what cannot be stored: the class Done is no message"),
        (forgotten, "it returned a coroutine; declare it as async def, or await what it calls"),
    ],
)
@quickly
async def test_a_result_that_is_no_message_names_worker_and_queue(result, problem, memory, caplog):
    work = WorkQueue("work", retry=Fixed(1))

    @work.worker
    def perform(command: Do) -> Any:
        return result()

    async with errands(desk(), work, store=memory) as runtime:
        await runtime.publish(Asked("e-1"))
        await runtime.settled()
        (letter,) = await letters(runtime)
    (line,) = said(caplog)
    start = f"job {JOB} of queue 'work' has failed for good (non-retryable, attempts: 1): "
    assert line.startswith(start)
    for text in (line, letter.error):
        assert f"InvalidResult: worker perform: {problem}" in text


@quickly
async def test_a_failed_attempt_is_logged_with_queue_and_worker(memory, caplog):
    where = desk(do=lambda command, job: Done(command.id) if job.attempt > 1 else 1 / 0)
    async with errands(where, store=memory) as runtime:
        await runtime.publish(Asked("e-1"))
        await until(lambda: len(where.jobs) == 2)
        await runtime.settled()
    (line,) = said(caplog)
    assert line.startswith(f"job {JOB} of queue 'work', worker perform: attempt 1 failed, the next")


@quickly
async def test_a_worker_that_comes_too_late_is_told_why_it_lost_the_job(memory):
    clock, told, gate = FreeClock(), [], asyncio.Event()

    async def deed(command: Do, job: Any) -> None:
        if job.attempt == 1:
            try:
                await gate.wait()
            except asyncio.CancelledError:
                for verb in (job.heartbeat, lambda: job.emit(Done("late"))):
                    with pytest.raises(LeaseLost) as caught:
                        verb()
                    told.append(caught.value.problem)

    async with errands(desk(do=deed), queue_of(lease_s=30), store=memory, clock=clock) as runtime:
        await runtime.publish(Asked("e-1"))
        await until(lambda: bool(runtime.queue("work").running))
        await clock.advance(timedelta(seconds=30))
        await runtime.settled()
    assert len(told) == 2
    assert all("not this worker's any more: the lease of 30 s ran out" in one for one in told)


@quickly
async def test_the_letter_of_a_cancelled_job_says_so_and_how_often_it_was_tried(store):
    gate = asyncio.Event()

    async def deed(command: Do, job: Any) -> None:
        await gate.wait()

    where = desk(do=deed)
    async with errands(where, queue_of(concurrency=1), store=store) as runtime:
        await runtime.publish(Asked("e-1", count=2))
        await until(lambda: bool(where.jobs))
        for number in (1, 0):
            await runtime.queue("work").cancel(f"{Errand.name}/e-1/1/{number}")
        await runtime.settled()
        ran, waited = sorted(await letters(runtime), key=lambda letter: letter.message_id)
    for letter in (waited, ran):
        assert letter.reason == "cancelled"
        assert "JobError: the job was cancelled" in letter.error
        assert "LeaseLost" not in letter.error
    assert (waited.attempts, ran.attempts) == (0, 1)


@quickly
async def test_one_that_is_cancelled_before_its_attempt_begins_has_had_none(store):
    heard = []

    class Hearing(Undoing):
        name = "job-messages-test.hearing"

        def compensate(self, state: Any, failed: Any) -> None: ...

        def handle(self, state: Any, event: Any, metadata: Any) -> Any:
            heard.append(event)
            return super().handle(state, event, metadata)

    where = desk()
    async with errands(where, store=store, sagas=(Hearing,)) as runtime:
        await runtime.queue("work").pause()
        await runtime.publish(Asked("e-1"))
    again = reopened(store)
    async with errands(where, store=again, sagas=(Hearing,)) as runtime:
        await runtime.queue("work").resume()
        again.hold_writes()
        await again.held()  # it is written that an attempt is about to begin
        await runtime.queue("work").cancel(f"{Hearing.name}/e-1/1/0")
        again.release()
        await runtime.settled()
        (letter,) = await letters(runtime)
        assert (letter.reason, letter.attempts) == ("cancelled", 0)
    failure = heard[-1]
    assert failure.attempts == 0
    assert failure.is_unknown, "the owner before may have been at it"
    assert where.jobs == []


@quickly
async def test_what_nobody_could_perform_was_not_attempted(store, caplog):
    async with errands(desk(), WorkQueue("work"), store=store) as runtime:
        await runtime.enqueue(Do("x"), queue="work")
    other = WorkQueue("work")
    other.worker(commands=[Asked])(lambda command: None)
    caplog.clear()
    async with errands(desk(), other, store=reopened(store)) as runtime:
        await runtime.settled()
        (letter,) = await letters(runtime, reason="unroutable")
        assert letter.attempts == 0
    assert "(unroutable, attempts: 0)" in said(caplog)[0]


class Both(ProcessManager[ErrandState]):
    name = "job-messages-test.both"

    @starts(Undo, by=lambda command: [command.id, f"{command.id}-too"])
    def undo(self, state: ErrandState, command: Undo, do: Effects) -> None: ...


@quickly
async def test_nor_was_what_its_saga_never_saw(memory):
    where = desk(do=lambda command, job: job.send(Undo("b", 1)))
    work = WorkQueue("work")

    @work.worker
    def perform(command: Do, job: Any) -> Any:
        return where.deeds[command.how](command, job)

    async with errands(where, work, store=memory, sagas=(Errand, Both)) as runtime:
        await runtime.publish(Asked("e-1"))
        await runtime.settled()
        where.deeds["do"] = lambda command, job: Do("it does not know such a result")
        await runtime.publish(Asked("e-2"))
        await runtime.settled()
        found = [(one.type, one.attempts) for one in await letters(runtime, reason="unroutable")]
        assert found == [("runtime-test.undo", 0), ("runtime-test.do", 0)]


# Ids


@quickly
async def test_a_job_id_that_a_command_of_a_saga_could_have_is_refused(memory):
    async with errands(desk(), store=memory) as runtime:
        for job_id in (JOB, f"{Errand.name}/"):
            with pytest.raises(JobError, match=r"a saga's command has; let it begin"):
                await runtime.enqueue(Do("x"), job_id=job_id)
        for job_id in (Errand.name, "Order/o-1/1/0", "/", f"job/{Errand.name}/e-1/1/0"):
            assert await runtime.enqueue(Do("x"), job_id=job_id) == job_id
        await runtime.settled()


@pytest.mark.parametrize("wrong", [5, b"x", "x" * 501, ["x"]])
@quickly
async def test_an_id_that_is_no_text_is_shown_as_it_is_by_its_own_name(wrong, memory):
    async with errands(desk(), store=memory) as runtime:
        shown = repr(wrong)[:10].replace("[", r"\[")
        with pytest.raises(CorrelationFailed, match=f"^job_id {shown}.*such as job_id='17'"):
            await runtime.enqueue(Do("x"), job_id=wrong)
        with pytest.raises(CorrelationFailed, match=f"^message_id {shown}"):
            await runtime.publish(Asked("x"), message_id=wrong)
        with pytest.raises(CorrelationFailed, match=r"'perdure\.x' is no job_id"):
            await runtime.enqueue(Do("x"), job_id="perdure.x")


# What is sent


@pytest.mark.parametrize("wrong", [Do, "hello", None])
@quickly
async def test_what_is_no_message_is_refused_as_such_wherever_it_is_sent(wrong, memory):
    said_of = "the class Do is" if wrong is Do else f"an object of type {type(wrong).__name__} is"
    async with errands(desk(), store=memory) as runtime:
        for send in (runtime.publish, runtime.enqueue):
            with pytest.raises(UnregisteredType, match=f"^{said_of} no message"):
                await send(wrong)
        with pytest.raises(UnregisteredType, match=f"^{said_of} no message"):
            await runtime.send(runtime.ref(Errand, "e-1"), wrong)


@quickly
async def test_a_command_that_two_queues_take_is_told_what_to_write(memory):
    async with errands(desk(), queue_of("a"), queue_of("b"), store=memory) as runtime:
        with pytest.raises(Unroutable, match=r"taken by .* a, b; say which one, as queue='a'$"):
            await runtime.enqueue(Do("x"))


@message(name="job-messages-test.strange")
class Strange:
    id: str
    how: str


WAYS: dict[str, Callable[[Effects, Any], None]] = {
    "Send": lambda do, what: do.send(what),
    "Publish": lambda do, what: do.publish(what),
    "Record": lambda do, what: do.record(what),
    "Reply": lambda do, what: do.reply(what),
    "Complete": lambda do, what: do.complete(what),
}


class Stranger(ProcessManager[ErrandState]):
    name = "job-messages-test.stranger"

    @starts(Asked, by="id")
    def asked(self, state: ErrandState, event: Asked, do: Effects) -> None: ...

    @continues(Strange, by="id")
    def strange(self, state: ErrandState, event: Strange, do: Effects) -> None:
        WAYS[event.how](do, (1, 2))


@pytest.mark.parametrize("effect", WAYS)
@quickly
async def test_an_effect_that_cannot_be_stored_is_named(effect, memory):
    async with errands(desk(), store=memory, sagas=(Stranger,)) as runtime:
        await runtime.publish(Asked("x"))
        with pytest.raises(HandlerFailed) as caught:
            await runtime.publish(Strange("x", effect))
        assert f"{effect}: an object of type tuple is no " in caught.value.problem


# What is asked


@quickly
async def test_what_is_no_ref_or_status_is_refused_with_what_to_give(memory):
    runtime: Any
    async with Runtime(memory, [Errand]) as runtime:
        await runtime.publish(Asked("x"))
        for ask in (runtime.state, lambda ref: runtime.send(ref, Done("x"))):
            with pytest.raises(DefinitionError, match=r"'x' is no ref; give runtime\.ref\("):
                await ask("x")
        with pytest.raises(DefinitionError, match="'x' is no ref"):
            runtime.history("x")
        with pytest.raises(DefinitionError, match=r"'runing' is no status; .*running, stuck, comp"):
            runtime.instances(Errand, status="runing")
        assert [view.correlation_id async for view in runtime.instances(Errand, status="running")]
