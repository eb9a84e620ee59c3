"""Background work that raises is taken up again: nothing it served stops without a word.

One story uses every loop there is: instances that come and go, deadlines beyond the first page,
messages that are retried, jobs that fail, hang and follow each other, writes of unknown outcome.
It comes to the same end whichever loop is struck, once, five times, or by a cancellation.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest

from perdure import (
    DeadlineReached,
    Effects,
    Fixed,
    MemoryStore,
    ProcessManager,
    Runtime,
    Send,
    Settings,
    WorkQueue,
    applies,
    continues,
    message,
    on_deadline,
    starts,
)
from perdure.core.commit import InboxReason, InboxRow
from perdure.core.correlation import VerdictKind
from perdure.core.work import QueueState
from perdure.errors import PerdureError, StoreUnavailable
from perdure.runtime.instances.rehydration import Rehydration
from perdure.runtime.instances.residency import Residency
from perdure.runtime.instances.saga_actor import SagaActor
from perdure.runtime.instances.supervisor import Supervisor
from perdure.runtime.instances.timers import Timer
from perdure.runtime.instances.wakeups import Wakeups
from perdure.runtime.jobs.attempt import Attempt
from perdure.runtime.jobs.read_back import ReadBack
from perdure.runtime.jobs.workers import Workers
from perdure.runtime.supervised import Background, growing_s, insist
from perdure.store.group_commit import GroupCommit
from perdure.testing import FaultyStore, SimulatedClock
from tests.runtime.support import in_loop, ledgers, parts, quickly, rounds
from tests.sagas import Ledger, Opened

IDS = [f"b-{n}" for n in range(3)]


@message(name="supervised-test.begun")
class Begun:
    id: str


@message(name="supervised-test.shaky")
class Shaky:
    id: str


@message(name="supervised-test.added")
class Added:
    id: str
    n: int


@message(name="supervised-test.do")
class Do:
    id: str
    n: int


@message(name="supervised-test.done")
class Done:
    id: str
    n: int


@dataclass(frozen=True)
class BusyState:
    added: tuple[int, ...] = ()
    done: frozenset[int] = frozenset()
    fired: int = 0
    shaken: int = 0


SHAKEN: Counter[str] = Counter()


class Busy(ProcessManager[BusyState]):
    """Uses whatever the runtime has."""

    name = "Busy"
    retry = Fixed(1, max_attempts=5)

    @starts(Begun, by="id")
    def begun(self, state: BusyState, event: Begun, do: Effects) -> Any:
        do.deadline("d", timedelta(seconds=3))
        return [
            Send(Do(event.id, 1)),
            Send(Do(event.id, 2), after_previous=True),
            Send(Do(event.id, 3)),
        ]

    @continues(Shaky, by="id")
    def shaky(self, state: BusyState, event: Shaky, do: Effects) -> None:
        SHAKEN[event.id] += 1
        if SHAKEN[event.id] == 1:
            raise ValueError("not yet")

    @continues(Added, Done, by="id")
    def heard(self, state: BusyState, event: Any, do: Effects) -> None: ...

    @on_deadline("d")
    def due(self, state: BusyState, do: Effects) -> None: ...

    @applies(Added, Done, Shaky, DeadlineReached)
    def fold(self, state: BusyState, event: Any) -> BusyState:
        if isinstance(event, Added):
            return replace(state, added=(*state.added, event.n))
        if isinstance(event, Done):
            return replace(state, done=state.done | {event.n})
        if isinstance(event, Shaky):
            return replace(state, shaken=state.shaken + 1)
        return replace(state, fired=state.fired + 1)


class LooseClock(SimulatedClock):
    """Time passes, settled or not: workers hang here."""

    async def settle(self) -> None:
        await rounds(10)


class Striking:
    """In place of a method: raises so many times, then does what it did."""

    def __init__(self, error: type[BaseException], times: int) -> None:
        self.error, self.left, self.struck = error, times, 0

    def into(self, patch: pytest.MonkeyPatch, owner: type, name: str) -> None:
        whole = getattr(owner, name)
        is_coroutine = asyncio.iscoroutinefunction(whole)

        def strikes() -> None:
            if self.left:
                self.left -= 1
                self.struck += 1
                raise self.error("struck")

        def call(*args: Any, **kwargs: Any) -> Any:
            strikes()
            return whole(*args, **kwargs)

        async def call_async(*args: Any, **kwargs: Any) -> Any:
            strikes()
            return await whole(*args, **kwargs)

        patch.setattr(owner, name, call_async if is_coroutine else call)


def queue(clock: LooseClock, hung: asyncio.Event) -> WorkQueue:
    work = WorkQueue("work", concurrency=2, retry=Fixed(1, max_attempts=9), lease_s=4)

    @work.worker
    async def do(command: Do, job: Any) -> Done:
        if command.n == 1 and job.attempt == 1:
            raise ConnectionError("not now")
        if command.n == 3 and command.id == IDS[0] and job.attempt == 1:
            await hung.wait()
        return Done(command.id, command.n)

    return work


async def insisting_sender(runtime: Runtime, content: Any, message_id: str) -> None:
    """Sends until it is applied, under one id."""
    while True:
        try:
            await runtime.publish(content, message_id=message_id)
            return
        except PerdureError:
            await asyncio.sleep(0)


async def asked_from_a_thread(runtime: Runtime, id: str) -> None:
    ref = runtime.ref(Busy, id)

    def ask() -> None:
        while True:
            try:
                ref.ask(Added(id, 2), timeout=5)
                return
            except PerdureError:
                pass

    await asyncio.to_thread(ask)


async def states(runtime: Runtime) -> dict[str, Any]:
    return {view.correlation_id: view.state async for view in runtime.instances(Busy)}


def is_whole(found: dict[str, Any]) -> bool:
    return len(found) == len(IDS) and all(
        state.done == {1, 2, 3} and state.fired and state.shaken and set(state.added) >= {1, 3}
        for state in found.values()
    )


async def story(strike: Callable[[], None]) -> None:
    """Struck or not, it comes to its end, in simulated minutes."""
    SHAKEN.clear()
    store, clock, hung = FaultyStore(MemoryStore()), LooseClock(), asyncio.Event()
    settings = Settings(
        residents_max=2,
        idle_after_s=1,
        deadline_page=2,
        deadlines_in_flight_max=2,
        queue_window=2,
        write_attempts=50,
        shutdown_timeout_s=0.02,
    )

    async def until(condition: Callable[[], Any]) -> None:
        for _ in range(1500):
            await clock.advance(timedelta(milliseconds=200))
            found = condition()
            if await found if asyncio.iscoroutine(found) else found:
                return
        raise AssertionError("it did not come to its end")

    def runtime() -> Runtime:
        return Runtime(store, [Busy, queue(clock, hung)], settings, clock=clock)

    async with runtime() as first:
        await until_done(clock, [insisting_sender(first, Begun(id), id) for id in IDS[:2]])
        made = first._message(Added(IDS[0], 3), "waits", None, None, None)
        body = parts(first).services.journal.encode_waiting(made, VerdictKind.CONTINUE, False)
    await store.inner.open()
    await store.inner.write([InboxRow("Busy/b-0", "waits", InboxReason.QUEUED, body, 0)])
    await store.inner.close()
    async with runtime() as second:
        strike()
        store.fail_writes(after_commit=True, instance=f"Busy/{IDS[2]}")  # are its commands there?
        await until_done(clock, [insisting_sender(second, Begun(IDS[2]), IDS[2])])
        sending = [insisting_sender(second, Added(id, 1), f"{id}/1") for id in IDS]
        sending += [insisting_sender(second, Added(id, 3), f"{id}/3") for id in IDS[1:]]
        sending += [insisting_sender(second, Shaky(id), f"{id}/s") for id in IDS]
        sending.append(asked_from_a_thread(second, IDS[0]))
        await until_done(clock, sending)
        store.fail_writes()
        store.fail_loads(6)
        await until_done(clock, [insisting_sender(second, Added(IDS[0], 9), "once")])

        async def has_ended() -> bool:
            return is_whole(await states(second))

        await until(has_ended)
        await until(lambda: not store.inner._jobs._outbox)  # type: ignore[attr-defined]
        found = await states(second)
        assert await store.inner.dead_letters() == []
        assert await store.inner.deadlines() == []
    for id, state in found.items():
        assert (state.fired, state.shaken) == (1, 1), id
        assert Counter(state.added)[1] == Counter(state.added)[3] == 1, id


async def until_done(clock: LooseClock, works: list[Any]) -> None:
    tasks = [asyncio.ensure_future(work) for work in works]
    for _ in range(3000):
        if all(task.done() for task in tasks):
            break
        await clock.advance(timedelta(milliseconds=200))
    assert all(task.done() for task in tasks), "some were never answered"
    await asyncio.gather(*tasks)


LOOPS: dict[str, tuple[type, str]] = {
    "the writer, before it takes a group": (GroupCommit, "_take"),
    "the writer, with a group in hand": (MemoryStore, "write"),
    "whoever is told of a commit": (SagaActor, "on_committed"),
    "rehydration": (Rehydration, "_read_group"),
    "rehydration, refusing": (Supervisor, "rehydration_failed"),
    "the look over the inbox": (Wakeups, "_ready"),
    "the timer's next page": (Timer, "_load"),
    "the timer's wake-up": (Timer, "_on_wake"),
    "a deadline that fires": (Wakeups, "deadline"),
    "a waiting message that is woken": (Wakeups, "_wake"),
    "a queue's reading": (QueueState, "begin_refill"),
    "a queue's start of a job": (Workers, "_may_have_begun"),
    "the reading back of doubts": (ReadBack, "_read_doubts_at"),
    "the reading of followers": (ReadBack, "_read_followers_of"),
    "the sweep": (Residency, "passivate_due"),
    "a lost incarnation's retry": (Supervisor, "_retry"),
    "a lease that ends": (Attempt, "on_lease"),
}

STRIKES = {
    "once": (ZeroDivisionError, 1),
    "five times": (ZeroDivisionError, 5),
    "by a cancellation": (asyncio.CancelledError, 1),
}


@quickly
async def test_the_story_comes_to_its_end_by_itself():
    await story(lambda: None)


@pytest.mark.parametrize("how", STRIKES)
@pytest.mark.parametrize("loop", LOOPS)
@in_loop(20)
async def test_a_loop_that_is_struck_goes_on(loop, how, monkeypatch, caplog):
    caplog.set_level(logging.CRITICAL + 1)
    error, times = STRIKES[how]
    striking = Striking(error, times)
    await story(lambda: striking.into(monkeypatch, *LOOPS[loop]))
    assert striking.struck == times


# The mechanism


def failing_work(failures: int, done: list[int]) -> Callable[[], Any]:
    async def work() -> None:
        done.append(1)
        if len(done) <= failures:
            raise ZeroDivisionError

    return work


@quickly
async def test_pauses_double_up_to_a_limit_and_begin_anew_after_a_success():
    clock, done = SimulatedClock(), list[int]()
    background = Background(clock, 0.1, "counting", failing_work(9, done))
    background.start()
    at_s: list[float] = []
    for _ in range(9):
        await rounds(3)
        before = len(done)
        began_s = clock.monotonic_s()
        while len(done) == before:
            await clock.advance(timedelta(milliseconds=100))
            await rounds(3)
        at_s.append(round(clock.monotonic_s() - began_s, 1))
    assert at_s == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 6.4, 6.4]
    assert not background.is_running
    assert [growing_s(0.1, n) for n in (1, 2)] == [0.1, 0.2]


@quickly
async def test_work_that_is_cancelled_by_a_stranger_is_taken_up_again():
    clock, begun = SimulatedClock(), list[int]()

    async def work() -> None:
        begun.append(1)
        await asyncio.Event().wait()

    background = Background(clock, 0.1, "waiting", work)
    background.start()
    for n in (1, 2):  # before its first step, and in the midst of it
        assert background._task is not None
        background._task.cancel()
        await rounds(5)
        assert not background.is_running
        await clock.advance(timedelta(seconds=1))
        await rounds(5)
        assert len(begun) == n
    await background.stop()
    await clock.advance(timedelta(seconds=10))
    await rounds(5)
    assert len(begun) == 2


@quickly
async def test_work_that_pauses_is_not_begun_before_its_time_nor_after_the_stop():
    clock, done = SimulatedClock(), list[int]()
    background = Background(clock, 10, "counting", failing_work(9, done))
    background.start()
    await rounds(3)
    background.start()
    await rounds(3)
    assert len(done) == 1
    await background.stop()
    await clock.advance(timedelta(seconds=100))
    background.start()
    await rounds(3)
    assert len(done) == 1


@quickly
async def test_a_call_that_fails_is_made_again_and_told_with_its_traceback(caplog):
    clock, calls = SimulatedClock(), list[int]()

    def call() -> None:
        calls.append(1)
        if len(calls) < 4:
            raise ZeroDivisionError

    insist(clock, 0.1, "the call", call)()
    await clock.advance(timedelta(seconds=0.65))
    assert len(calls) == 3
    await clock.advance(timedelta(seconds=0.1))
    assert len(calls) == 4
    assert caplog.text.count("Traceback") == 3
    assert "the call failed, and is tried again in 0.4 s" in caplog.text


@quickly
async def test_pauses_grow_also_if_the_store_takes_long_to_say_that_it_is_away():
    clock, done = SimulatedClock(), list[int]()

    async def work() -> None:
        done.append(1)
        await clock.advance(timedelta(seconds=10))
        raise StoreUnavailable("the server is away")

    background = Background(clock, 0.1, "reading", work)
    background.start()
    for pause_s in (0.1, 0.2, 0.4):
        await rounds(5)
        tried = len(done)
        await clock.advance(timedelta(seconds=pause_s / 2))
        await rounds(5)
        assert len(done) == tried
        await clock.advance(timedelta(seconds=pause_s / 2 + 0.001))
        await rounds(5)
        assert len(done) == tried + 1
    await background.stop()


@quickly
async def test_a_store_that_is_away_is_one_line_for_all_that_need_it_and_one_at_the_end(caplog):
    clock, is_away = SimulatedClock(), True

    async def work() -> None:
        if is_away:
            raise StoreUnavailable("the server is away")

    shards = [Background(clock, 0.1, "reading mail", work) for _ in range(16)]
    for shard in shards:
        shard.start()

    async def later(seconds: int) -> None:
        for _ in range(seconds):
            await clock.advance(timedelta(seconds=1))
            await rounds(5)

    await later(50)
    begun = "reading mail fails, and is tried again until it works: the server is away"
    assert [record.getMessage() for record in caplog.records] == [begun]
    await later(30)
    assert [record.getMessage() for record in caplog.records] == [begun, begun]
    await shards[0].stop()
    is_away = False
    await later(10)
    told = [record.getMessage() for record in caplog.records]
    assert told == [begun, begun, "reading mail works again"]
    assert "Traceback" not in caplog.text
    assert {record.levelname for record in caplog.records} == {"WARNING"}


@quickly
async def test_what_comes_from_a_thread_is_answered_also_if_it_cannot_be_let_in(
    memory, monkeypatch
):
    async with ledgers(memory) as runtime:
        admission = parts(runtime).supervisor.admission
        ref = runtime.ref(Ledger, "x")
        striking = Striking(ZeroDivisionError, 1)
        striking.into(monkeypatch, type(admission), "enter")
        with pytest.raises(PerdureError, match="struck"):
            await asyncio.to_thread(lambda: ref.ask(Opened("x"), timeout=5))
        await asyncio.to_thread(lambda: ref.ask(Opened("x"), timeout=5))
        assert admission.accepted == 0
