"""Mistakes that were made in performing jobs, and are not made again; each test failed once."""

import asyncio
import contextvars
import threading
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest

from perdure import (
    CommandFailed,
    Continue,
    Effects,
    Fixed,
    Job,
    MemoryStore,
    NonRetryable,
    ProcessManager,
    RetryLater,
    RetryPolicy,
    Runtime,
    Send,
    Settings,
    SqlStore,
    Start,
    WorkQueue,
    applies,
    continues,
    message,
    starts,
)
from perdure.core.commit import OutboxRow
from perdure.errors import HandlerFailed, StoreError
from perdure.testing import FaultyStore, SimulatedClock
from tests.runtime.errands import (
    Asked,
    Do,
    Done,
    Errand,
    ErrandState,
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
from tests.runtime.support import FreeClock, quickly, reopened, rounds, until

FAR = timedelta(days=3)
SECOND = timedelta(seconds=1)


@pytest.fixture(params=["memory", "sqlite"])
def store(request, tmp_path):
    if request.param == "memory":
        return FaultyStore(MemoryStore())
    url = f"sqlite+aiosqlite:///{tmp_path}/jobs.db"
    return FaultyStore(SqlStore(url, synchronous="NORMAL"))


def always(error):
    def deed(command, job):
        raise error()

    return deed


# cancelling a job whose result is on its way
@quickly
async def test_a_job_cancelled_while_its_result_is_being_written_has_one_end_only(store):
    where = desk()
    async with errands(where, store=store, sagas=(Undoing,)) as runtime:
        store_ = store
        queue = runtime.queue("work")
        await queue.pause()
        await runtime.publish(Asked("e-1"))
        await queue.resume()
        store_.hold_writes()
        await store_.held()  # the result stands at the gate
        cancelling = asyncio.create_task(queue.cancel("runtime-test.undoing/e-1/1/0"))
        await rounds()
        store_.release()
        await asyncio.gather(cancelling, return_exceptions=True)
        await runtime.settled()
        state = await errand_of(runtime, saga=Undoing)
        assert (state.done, state.failed) == (("do",), ())
        assert await letters(runtime) == []


# a waiting job that is cancelled: the saga is told of a command it does not know
@quickly
async def test_a_waiting_job_that_is_cancelled_is_compensated(store):
    where = desk()
    async with errands(where, store=store, sagas=(Undoing,)) as runtime:
        queue = runtime.queue("work")
        await queue.pause()
        await runtime.publish(Asked("e-1"))
        await queue.cancel("runtime-test.undoing/e-1/1/0")
        await queue.resume()
        await runtime.settled()
        assert where.undone == [1, 2, 3]


# the same for a job that killed its process at its last attempt
@quickly
async def test_a_job_whose_process_died_at_the_last_attempt_is_compensated(store):
    where = desk()
    async with errands(where, queue_of(), store=store, sagas=(Undoing,)) as runtime:
        await runtime.queue("work").pause()
        await runtime.publish(Asked("e-1"))
    store = reopened(store)
    assert await store.inner.open()
    (row,) = await store.inner.outbox()
    assert await store.inner.write([replace(row, attempts=3)]) == [None]
    await store.inner.close()
    async with errands(where, queue_of(), store=reopened(store), sagas=(Undoing,)) as runtime:
        await runtime.queue("work").resume()
        await runtime.settled()
        assert where.jobs == []
        (letter,) = await letters(runtime)
        assert letter.reason == "exhausted"
        assert where.undone == [1, 2, 3]


# a follower that was read from the store, and fails once, is never tried again
@quickly
async def test_a_follower_found_at_the_start_is_retried_like_any_other(store):
    clock = SimulatedClock()
    where = desk(do=always(lambda: NonRetryable("no")))
    broken = [False]

    def take_back(command, job):
        if command.step == 2 and not broken[0]:
            broken[0] = True
            raise ConnectionError

    where.deeds["take back"] = take_back
    queue = queue_of(retry=Fixed(3600, max_attempts=3))
    async with errands(where, queue, store=store, clock=clock, sagas=(Undoing,)) as runtime:
        await runtime.publish(Asked("e-1"))
        # Step 1 is done and step 2 not begun when the process ends.
        await until(lambda: where.undone == [1])
        await runtime.queue("work").pause()
        await runtime.settled()
    async with errands(
        where, queue, store=reopened(store), clock=clock, sagas=(Undoing,)
    ) as runtime:
        await runtime.queue("work").resume()
        await clock.advance(FAR)
        assert where.undone == [1, 2, 3]


@message(name="job-bugs.chained")
class Chained:
    id: str


class Chain(ProcessManager[ErrandState]):
    name = "job-bugs.chain"

    @starts(Chained, by="id")
    def chained(self, state: ErrandState, event: Chained, do: Effects) -> None:
        do.send(Undo(event.id, 1))
        do.send(Undo(event.id, 2), after_previous=True, delay=timedelta(hours=1))

    @applies(CommandFailed)
    def fold_failed(self, state: ErrandState, event: CommandFailed) -> ErrandState:
        return replace(state, failed=(*state.failed, event.reason))


# a follower with a delay forgets, over a restart, that it follows
@quickly
async def test_a_delayed_follower_keeps_its_place_over_a_restart(store):
    clock = SimulatedClock()
    where = desk(**{"take back": always(lambda: NonRetryable("no"))})
    async with errands(where, store=store, clock=clock, sagas=(Chain,)) as runtime:
        await runtime.publish(Chained("e-1"))
        await runtime.settled()
        assert len(await letters(runtime)) == 1
    where.deeds["take back"] = lambda command, job: None
    async with errands(where, store=reopened(store), clock=clock, sagas=(Chain,)) as runtime:
        await clock.advance(FAR)
        assert where.undone == []


# cancelled, then redriven, a follower forgets that it follows
@quickly
async def test_a_follower_that_is_cancelled_and_redriven_still_follows():
    clock = SimulatedClock()
    where = desk(do=always(lambda: NonRetryable("no")))

    def take_back(command, job):
        if command.step == 1 and job.attempt == 1:
            raise ConnectionError

    where.deeds["take back"] = take_back
    queue = queue_of(retry=Fixed(3600, max_attempts=3))
    async with errands(where, queue, clock=clock, sagas=(Undoing,)) as runtime:
        await runtime.publish(Asked("e-1"))
        await runtime.settled()
        await runtime.queue("work").cancel("runtime-test.undoing/e-1/2/1")
        await runtime.settled()
        (letter,) = await letters(runtime, reason="cancelled")
        await runtime.dead_letters.redrive(letter.id)
        await runtime.settled()
        assert where.undone == []
        await clock.advance(FAR)
        assert where.undone == [1, 2, 3]


@message(name="job-bugs.begun")
class Begun:
    id: str


@message(name="job-bugs.told")
class Told:
    to: tuple[str, ...]


class Teller(ProcessManager[ErrandState]):
    name = "job-bugs.teller"

    @starts(Begun, by="id")
    def begun(self, state: ErrandState, event: Begun, do: Effects) -> None:
        do.publish(Told(tuple(event.id.split("+"))))


class Hearer(ProcessManager[ErrandState]):
    name = "job-bugs.hearer"

    @starts(Told, by=lambda event: list(event.to))
    def told(self, state: ErrandState, event: Told, do: Effects) -> None: ...

    @applies(Told)
    def fold_told(self, state: ErrandState, event: Told) -> ErrandState:
        return replace(state, noticed=(*state.noticed, "told"))


def corrupt(store, key):
    """Damage the journal of an instance in memory."""
    for row in store.inner._journal[key]:
        row.body = b"\xc1"


# an event for one quarantined instance waits in the inbox of the one that published it
@quickly
async def test_an_event_for_a_quarantined_instance_waits_for_that_instance(memory):
    async with Runtime(memory, [Teller, Hearer]) as runtime:
        await runtime.publish(Told(("h-1",)))
    corrupt(memory, "job-bugs.hearer/h-1")
    async with Runtime(memory, [Teller, Hearer]) as runtime:
        await runtime.publish(Begun("h-1"))
        await runtime.settled()
        assert await memory.inner.outbox() == []
        (row,) = await memory.inner.inbox()
        assert row.instance == "job-bugs.hearer/h-1"


class Choosy(Hearer):
    name = "job-bugs.choosy"

    @starts(Told, by=lambda event: list(event.to), strict=True)
    def told(self, state: ErrandState, event: Told, do: Effects) -> None: ...


# … and its dead letter is filed under the publisher, where a redrive sends it
@quickly
async def test_an_event_that_one_instance_refuses_is_a_dead_letter_of_that_instance(memory):
    async with Runtime(memory, [Teller, Choosy]) as runtime:
        await runtime.publish(Told(("h-1",)))
        await runtime.publish(Begun("h-1"))
        await runtime.settled()
        for letter in await letters(runtime):
            assert (letter.saga, letter.correlation_id) == ("job-bugs.choosy", "h-1")


# an event is lost when the runtime stops before all instances have it
@quickly
async def test_an_event_on_its_way_to_several_instances_survives_a_stop(store):
    async with Runtime(store, [Hearer]) as runtime:
        await runtime.publish(Told(("a", "b")))
    store = reopened(store)
    async with Runtime(store, [Teller, Hearer], Settings(shutdown_timeout_s=0.05)) as runtime:
        await runtime.publish(Begun("a+b"), message_id="m-1")
        await runtime.settled()
    store = reopened(store)
    async with Runtime(store, [Teller, Hearer], Settings(shutdown_timeout_s=0.05)) as runtime:
        sending = runtime.publish(Begun("b+a"))
        store_gate = asyncio.create_task(hold_loads_after(store, sending))
        await store_gate
    store.release()
    async with Runtime(reopened(store), [Teller, Hearer]) as runtime:
        await runtime.settled()
        for id in "ab":
            assert (await errand_of(runtime, id, Hearer)).noticed == ("told",) * 3


async def hold_loads_after(store, sending):
    """Let the publisher be loaded, and nobody after it."""
    store.hold_loads()
    task = asyncio.create_task(sending)
    await store.loads_held()
    store._loads_gate.let_through(1)
    await task
    await store.loads_held()


class Beginner(Hearer):
    """Takes a command that a worker sent."""

    name = "job-bugs.beginner"

    @starts(Undo, by="id")
    def undo(self, state: ErrandState, event: Undo, do: Effects) -> None: ...


# a command from a free job to a saga becomes a dead letter because the runtime stops
@quickly
async def test_a_command_on_its_way_to_a_saga_is_no_dead_letter_because_the_runtime_stops(memory):
    def deed(command, job):
        job.send(Undo("b-1", 1))

    work = WorkQueue("work")

    @work.worker
    async def perform(command: Do, job: Job) -> None:
        deed(command, job)

    settings = Settings(shutdown_timeout_s=0.05)
    async with Runtime(memory, [Beginner, work], settings) as runtime:
        memory.hold_loads()
        await runtime.enqueue(Do("x"))
        await memory.loads_held()
    memory.release()
    async with Runtime(reopened(memory), [Beginner, work]) as runtime:
        await runtime.settled()
        assert await letters(runtime) == []
        assert await runtime.state(runtime.ref(Beginner, "b-1")) is not None


# a command queued in a write whose answer was lost is started by nobody
@quickly
async def test_a_job_enqueued_again_after_a_lost_answer_is_performed(store):
    where = desk()
    async with errands(where, store=store, retry_pause_s=0.001) as runtime:
        await runtime.settled()
        store.fail_writes(1, after_commit=True)
        with pytest.raises(StoreError):
            await runtime.enqueue(Do("x"), job_id="n-1")
        await runtime.enqueue(Do("x"), job_id="n-1")
        await runtime.settled()
        assert [job.key for job in where.jobs] == ["n-1"]
        assert await store.inner.outbox() == []


# a redrive whose answer was lost
@quickly
async def test_a_job_redriven_in_a_write_whose_answer_was_lost_is_performed(store):
    where = desk(do=always(lambda: NonRetryable("no")))
    async with errands(where, store=store, retry_pause_s=0.001) as runtime:
        await runtime.publish(Asked("e-1"))
        await runtime.settled()
        (letter,) = await letters(runtime)
        where.deeds["do"] = lambda command, job: Done(command.id)
        store.fail_writes(1, after_commit=True)
        with pytest.raises(StoreError):
            await runtime.dead_letters.redrive(letter.id)
        await runtime.dead_letters.redrive(letter.id)
        await runtime.settled()
        assert (await errand_of(runtime)).done == ("do",)


# a discard whose answer was lost
@quickly
async def test_followers_go_on_after_a_discard_whose_answer_was_lost(store):
    def take_back(command, job):
        if command.step == 1:
            raise NonRetryable("closed")

    where = desk(do=always(lambda: NonRetryable("no")), **{"take back": take_back})
    async with errands(where, store=store, sagas=(Undoing,)) as runtime:
        await runtime.publish(Asked("e-1"))
        await runtime.settled()
        (letter,) = await letters(runtime, type="runtime-test.undo")
        store.fail_writes(1, after_commit=True)
        with pytest.raises(StoreError):
            await runtime.dead_letters.discard(letter.id)
        await runtime.dead_letters.discard(letter.id)
        await runtime.settled()
        assert where.undone == [2, 3]


# a message redriven in a write whose answer was lost waits for the next rehydration
@quickly
async def test_a_message_redriven_in_a_write_whose_answer_was_lost_is_applied(store):
    where = desk()
    async with errands(where, store=store, sagas=(Fragile,)) as runtime:
        ref = runtime.ref(Fragile, "e-1")
        await runtime.send(ref, Asked("e-1", count=0))
        BROKEN.add("e-1")
        with pytest.raises(HandlerFailed):
            await runtime.send(ref, Noticed("e-1", "x"))
        BROKEN.clear()
        (letter,) = await letters(runtime)
        store.fail_writes(1, after_commit=True)
        with pytest.raises(StoreError):
            await runtime.dead_letters.redrive(letter.id)
        await runtime.dead_letters.redrive(letter.id)
        await runtime.settled()
        assert (await errand_of(runtime, saga=Fragile)).noticed == ("x",)
        assert await store.inner.inbox() == []


BROKEN: set[str] = set()


class Fragile(Errand):
    name = "job-bugs.fragile"

    @continues(Noticed, by="id")
    def has_noticed(self, state: ErrandState, event: Noticed, do: Effects) -> None:
        if event.id in BROKEN:
            raise ValueError("the handler is broken")


class Stumbling(Errand):
    name = "job-bugs.stumbling"

    @continues(Done, by="id")
    def has_been_done(self, state: ErrandState, event: Done, do: Effects) -> None:
        raise ValueError("the handler is broken")


# a result that its saga cannot handle, written with a lost answer, is delivered for ever
@quickly
async def test_a_result_that_is_a_dead_letter_settles_though_the_answer_was_lost(store):
    clock = SimulatedClock()
    where = desk()
    async with errands(where, store=store, sagas=(Stumbling,), clock=clock) as runtime:
        queue = runtime.queue("work")
        await queue.pause()
        await runtime.publish(Asked("e-1"))
        await queue.resume()
        store.fail_writes(1, after_commit=True)
        await clock.advance(SECOND * 60)
        calls = store.queries
        await clock.advance(SECOND * 600)
        assert store.queries == calls
        assert len(await letters(runtime)) == 1
        assert await store.inner.outbox() == []


# no thread can be started
@quickly
async def test_a_thread_that_cannot_be_started_fails_no_turn_and_the_job_is_done_later(
    monkeypatch, memory
):
    real = threading.Thread.start
    left = [1]

    def start(thread):
        if thread.name == "perdure-worker" and left[0]:
            left[0] -= 1
            raise RuntimeError("can't start new thread")
        real(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    where = desk()
    async with errands(where, threaded_queue(), store=memory, worker_threads_max=1) as runtime:
        async with asyncio.timeout(3):
            await runtime.publish(Asked("e-1"))
        await runtime.publish(Asked("e-2"))
        async with asyncio.timeout(3):
            await runtime.settled()
        assert (await errand_of(runtime)).done == ("do",)
        assert (await errand_of(runtime, "e-2")).done == ("do",)


# jobs that wait for a thread use up their attempts without one
@quickly
async def test_a_job_that_waits_for_a_thread_does_not_lose_attempts():
    gate = threading.Event()
    clock = FreeClock()
    slow = WorkQueue("slow", lease_s=86_400)

    @slow.worker
    def hang(command: Undo) -> None:
        gate.wait()

    where = desk()
    queue = threaded_queue(lease_s=10)
    async with errands(where, queue, slow, clock=clock, worker_threads_max=1) as runtime:
        try:
            await runtime.enqueue(Undo("u", 1), queue="slow")
            await rounds()
            await runtime.enqueue(Do("x"), queue="work")
            for _ in range(6):
                await rounds()
                await clock.advance(SECOND * 10)
            await rounds()
            assert await letters(runtime) == []
        finally:
            gate.set()
        await runtime.settled()
    assert where.attempts() == [1]


class Odd(ProcessManager[ErrandState]):
    """Written by hand; its correlation breaks for results."""

    name = "job-bugs.odd"

    def interested_in(self):
        return [Asked, Done]

    def correlate(self, event, metadata):
        return Start(event.id) if isinstance(event, Asked) else Continue(object())

    def apply(self, state, event, metadata=None):
        return replace(state, done=(*state.done, type(event).__name__))

    def handle(self, state, event, metadata):
        return [Send(Do(event.id))] if isinstance(event, Asked) else None

    def initial(self):
        return ErrandState()


# a saga whose correlate is broken for the result
@quickly
async def test_a_result_that_the_saga_cannot_correlate_ends_its_job(memory):
    async with errands(desk(), store=memory, sagas=(Odd,)) as runtime:
        await runtime.publish(Asked("e-1"))
        async with asyncio.timeout(2):
            await runtime.settled()
        assert await memory.inner.outbox() == []


@dataclass(frozen=True)
class Broken(RetryPolicy):
    @property
    def longest_s(self) -> float:
        return 10.0

    def plain_delay_s(self, attempts: int) -> float:
        raise ZeroDivisionError


# a retry policy of one's own that raises; the same for RetryLater with nonsense
@pytest.mark.parametrize(
    ("retry", "error"),
    [
        (Broken(), ConnectionError),
        (Fixed(1), lambda: RetryLater("x", after_s=float("inf"))),
        (Fixed(1), lambda: RetryLater("x", after_s=float("nan"))),
        (Fixed(1), lambda: RetryLater("x", after_s=1e30)),
        (Fixed(1), lambda: RetryLater("x", after_s="soon")),  # type: ignore[arg-type]
        (Fixed(1), lambda: RetryLater("x", after_s=-1e30)),
    ],
)
@quickly
async def test_nonsense_about_the_next_attempt_leaves_no_job_hanging(store, retry, error):
    where = desk(do=always(error))
    queue = queue_of(retry=retry)
    async with errands(where, queue, store=store, retry_pause_s=0.001) as runtime:
        await runtime.publish(Asked("e-1"))
        async with asyncio.timeout(3):
            await runtime.settled()
        await runtime.publish(Asked("e-2", how="fine"))
        assert (await errand_of(runtime, "e-2")).id == "e-2"
        where.deeds["fine"] = where.deeds["do"] = lambda command, job: Done(command.id)


@message(name="job-bugs.mutable")
@dataclass
class Mutable:
    id: str
    items: list[str]


class Careless(ProcessManager[ErrandState]):
    name = "job-bugs.careless"

    @starts(Asked, by="id")
    def asked(self, state: ErrandState, event: Asked, do: Effects) -> None:
        do.send(Mutable(event.id, ["a"]))

    @applies(CommandFailed)
    def fold_failed(self, state: ErrandState, event: CommandFailed) -> ErrandState:
        return replace(state, failed=tuple(event.command.items))


# the saga is told of the command as its worker has left it
@quickly
async def test_a_worker_that_changes_its_command_does_not_change_what_the_saga_is_told():
    queue = WorkQueue("work")

    @queue.worker
    def perform(command: Mutable) -> None:
        command.items.append("b")
        raise NonRetryable("no")

    async with Runtime("memory://", [Careless, queue]) as runtime:
        await runtime.publish(Asked("e-1"))
        await runtime.settled()
        assert (await errand_of(runtime, saga=Careless)).failed == ("a",)


# what a redriven job emits has the ids of what was emitted anyway
@quickly
async def test_what_a_redriven_job_emits_is_not_taken_for_what_it_emitted_anyway(store):
    def deed(command, job):
        job.emit(Noticed(command.id, "declined"), anyway=True)
        raise NonRetryable("no")

    def better(command, job):
        job.emit(Noticed(command.id, "charged"))
        job.send(Do(command.id, "more"))

    where = desk(do=deed, more=lambda command, job: Done(command.id, "more"))
    async with errands(where, store=store) as runtime:
        await runtime.publish(Asked("e-1"))
        await runtime.settled()
        where.deeds["do"] = better
        assert await runtime.dead_letters.redrive_all() == 1
        await runtime.settled()
        state = await errand_of(runtime)
        assert state.noticed == ("declined", "charged")


# whoever waits for a write when the runtime stops waits for ever
@quickly
async def test_an_enqueue_that_the_stop_cuts_off_is_told(memory):
    async with errands(desk(), store=memory, shutdown_timeout_s=0.02) as runtime:
        await runtime.settled()
        memory.hold_writes()
        first = asyncio.create_task(runtime.enqueue(Do("x")))
        await memory.held()
        second = asyncio.create_task(runtime.enqueue(Do("y")))
        await rounds()
    memory.release()
    async with asyncio.timeout(2):
        await asyncio.gather(first, second, return_exceptions=True)


VAR: contextvars.ContextVar[str] = contextvars.ContextVar("VAR", default="none")


# a worker sees the context variables of whoever came by when it was started
@quickly
async def test_a_worker_does_not_see_the_context_of_whoever_resumed_the_queue():
    seen = []
    where = desk(do=lambda command, job: seen.append(VAR.get()))
    async with errands(where) as runtime:
        await runtime.queue("work").pause()
        await runtime.publish(Asked("e-1"))
        VAR.set("somebody's request")
        await runtime.queue("work").resume()
        await runtime.settled()
    assert seen == ["none"]


class Late(FaultyStore):
    """Its first answer to ``jobs_at`` is kept back until a test lets it go."""

    def __init__(self, store):
        super().__init__(store)
        self.gate = asyncio.Event()
        self.asked = asyncio.Event()

    async def jobs_at(self, positions):
        found: list[OutboxRow] = await super().jobs_at(positions)
        self.asked.set()
        await self.gate.wait()
        return found


# the pause of a poisoned queue is written after the resume of its operator
@quickly
async def test_a_resume_is_not_overtaken_by_an_older_pause(memory):
    clock = FreeClock()
    where = desk(do=always(lambda: NonRetryable("no")))
    queue = queue_of(pause_after=1, concurrency=1)
    async with errands(where, queue, store=memory, clock=clock) as runtime:
        await runtime.settled()
        memory.hold_writes()
        task = asyncio.create_task(runtime.enqueue(Do("x")))
        await memory.held()
        memory.let_through()
        await task
        await memory.held()  # the dead letter, and the pause with it
        memory.fail_writes(1)
        memory.release()
        await until(lambda: memory.writes >= 2)
        await rounds()
        await runtime.queue("work").resume()
        await clock.advance(SECOND)
        await runtime.settled()
        assert not runtime.queue("work").is_paused
    async with errands(where, queue, store=reopened(memory)) as runtime:
        assert not runtime.queue("work").is_paused


# first attempts in the order of commits, though the rows must be read back
@quickly
async def test_commands_whose_commit_had_no_answer_start_before_later_ones(memory):
    clock = FreeClock()
    where = desk()
    async with errands(where, queue_of(concurrency=1), store=memory, clock=clock) as runtime:
        await runtime.publish(Asked("e-1", count=0))
        await runtime.settled()
        memory.fail_writes(1, after_commit=True)
        memory.fail_reads(2, operation="jobs_at")
        first = asyncio.create_task(runtime.publish(Asked("e-1", count=1), message_id="m-1"))
        await rounds()
        second = asyncio.create_task(runtime.publish(Asked("e-1", count=1), message_id="m-2"))
        for _ in range(20):
            await clock.advance(timedelta(milliseconds=10))
        await asyncio.gather(first, second)
        await runtime.settled()
    assert [job.key for job in where.jobs] == [f"runtime-test.errand/e-1/{n}/0" for n in (2, 3)]


# a lease that ends at an odd moment: on a simulated clock the timer comes again for ever
@quickly
async def test_a_lease_that_begins_at_an_odd_moment_ends():
    clock = FreeClock()
    where = desk(do=lambda command, job: asyncio.Event().wait())
    queue = queue_of(lease_s=30, retry=Fixed(1, max_attempts=2))
    async with errands(where, queue, clock=clock, shutdown_timeout_s=0.1) as runtime:
        await runtime.settled()
        await clock.advance(timedelta(milliseconds=1))
        await runtime.publish(Asked("e-1"))
        await until(lambda: bool(where.jobs))
        async with asyncio.timeout(2):
            await clock.advance(SECOND * 100)
        assert len(await letters(runtime)) == 1


# no thread could be started, and no other job comes: nobody tries again
@quickly
async def test_a_job_for_which_there_was_no_thread_is_done_without_another_job(monkeypatch):
    real = threading.Thread.start
    left = [1]

    def start(thread):
        if thread.name == "perdure-worker" and left[0]:
            left[0] -= 1
            raise RuntimeError("can't start new thread")
        real(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    clock = FreeClock()
    where = desk()
    async with errands(
        where, threaded_queue(lease_s=10), clock=clock, shutdown_timeout_s=0.1
    ) as runtime:
        await runtime.publish(Asked("e-1"))
        await rounds()
        await clock.advance(SECOND * 60)
        async with asyncio.timeout(2):
            await runtime.settled()
        assert (await errand_of(runtime)).done == ("do",)


# what was read back is old when it arrives: the job has been done meanwhile
@quickly
async def test_a_job_that_was_done_while_it_was_read_back_has_one_end_only():
    store = Late(MemoryStore())
    clock = FreeClock()
    where = desk()
    async with errands(where, store=store, clock=clock, sagas=(Undoing,)) as runtime:
        await runtime.queue("work").pause()
    async with errands(where, store=store, clock=clock, sagas=(Undoing,)) as runtime:
        store.fail_writes(1, after_commit=True)
        asking = asyncio.create_task(runtime.publish(Asked("e-1")))
        await store.asked.wait()  # the row is read, its answer is on its way
        await clock.advance(SECOND)
        await asking
        await runtime.queue("work").resume()
        await until(lambda: bool(where.jobs))
        for _ in range(5):
            await rounds()
        where.deeds["do"] = always(lambda: NonRetryable("performed twice"))
        store.gate.set()
        await runtime.settled()
        state = await errand_of(runtime, saga=Undoing)
        assert (state.done, state.failed) == (("do",), ())
        assert await letters(runtime) == []


# a caller of settled() that gives up takes the reading of the timers with it
@quickly
async def test_whoever_gives_up_waiting_until_all_is_settled_stops_no_timer(memory):
    clock = FreeClock()
    where = desk()
    async with errands(where, store=memory, clock=clock, deadline_page=2) as runtime:
        for number in range(9):
            await runtime.enqueue(Do(f"x-{number}"), delay=SECOND * (number + 1))
        memory.hold_reads()
        await clock.advance(SECOND * 2)
        waiting = asyncio.create_task(runtime.settled())
        await rounds()
        waiting.cancel()
        await rounds()
        memory.release()
        for _ in range(20):
            await clock.advance(SECOND)
            await rounds()
        await runtime.settled()
    assert len(where.jobs) == 9


# a late end that cannot be printed
@quickly
async def test_a_late_failure_that_cannot_be_printed_is_refused_quietly(caplog):
    class Unprintable(Exception):
        def __repr__(self):
            raise ZeroDivisionError

        __str__ = __repr__

    async def deed(command, job):
        if job.attempt == 1:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise Unprintable from None
        return Done(command.id)

    clock = FreeClock()
    where = desk(do=deed)
    async with errands(where, queue_of(lease_s=30), clock=clock) as runtime:
        await runtime.publish(Asked("e-1"))
        await until(lambda: len(where.jobs) == 1)
        await clock.advance(SECOND * 30)
        await runtime.settled()
        await until(lambda: "refused" in caplog.text)
        await rounds()
        assert (await errand_of(runtime)).done == ("do",)
    assert "never retrieved" not in caplog.text


# what goes on after the stop and writes then is never answered
@quickly
async def test_a_redrive_that_outlives_the_runtime_is_told(memory):
    where = desk(do=always(lambda: NonRetryable("no")))
    async with errands(where, store=memory) as runtime:
        await runtime.publish(Asked("e-1", count=2))
        await runtime.settled()
        memory.hold_reads()
        redriving = asyncio.create_task(runtime.dead_letters.redrive_all())
        await memory.reads_held()
        memory.release()
        memory.hold_reads()
        await memory.reads_held()  # the first letter is being looked up
    memory.release()
    async with asyncio.timeout(2):
        await asyncio.gather(redriving, return_exceptions=True)


# while the store is slow, a poisoned queue goes on far beyond its pause
@quickly
async def test_no_job_starts_after_the_last_failure_that_pauses_its_queue(memory):
    where = desk(do=always(lambda: NonRetryable("poison")))
    queue = queue_of(pause_after=3, concurrency=1)
    async with errands(where, queue, store=memory) as runtime:
        await runtime.queue("work").pause()
        for number in range(20):
            await runtime.enqueue(Do(f"x-{number}"))
        await runtime.queue("work").resume()
        memory.hold_writes()
        await memory.held()
        await rounds(100)
        memory.release()
        await runtime.settled()
        assert runtime.queue("work").is_paused
    assert len(where.jobs) == 3
