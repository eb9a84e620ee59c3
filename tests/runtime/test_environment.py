"""What surrounds the runtime misbehaves: forks, exhausted limits, other loops, rude user code."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from perdure import (
    Effects,
    MemoryStore,
    Outcome,
    ProcessManager,
    Runtime,
    Settings,
    SqlStore,
    WorkQueue,
    applies,
    message,
    starts,
)
from perdure.core.draft import EFFECTS_MAX
from perdure.errors import (
    HandlerFailed,
    InvalidEffect,
    PerdureError,
    RuntimeNotRunning,
    StoreError,
    StoreUnavailable,
)
from tests.runtime.errands import Asked, Done, desk, errands, threaded_queue
from tests.runtime.support import add, items, ledgers, open_ledger, quickly, state_of
from tests.sagas import Added, Ledger, Opened, Struck


def url_of(tmp_path: Any) -> str:
    return f"sqlite+aiosqlite:///{tmp_path}/store.db"


# Forks


def in_child(work: Any) -> Any:
    """What the function returns in a forked child."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(theirs, json.dumps(work()).encode())
        os._exit(0)
    os.close(theirs)
    with os.fdopen(ours) as answer:
        found = json.loads(answer.read())
    os.waitpid(child, 0)
    return found


def step(work: Any) -> str:
    """What a coroutine does before it waits for the first time, which here is an error."""
    try:
        work.send(None)
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@quickly
async def test_a_forked_child_is_told_and_its_parent_goes_on(tmp_path):
    store = SqlStore(url_of(tmp_path))
    async with ledgers(store) as runtime:
        ref = await open_ledger(runtime)

        def use() -> list[str]:
            def told() -> str:
                try:
                    ref.tell(Added("x", 1))
                except PerdureError as error:
                    return f"{type(error).__name__}: {error}"
                return "no error"

            return [
                step(runtime.publish(Added("x", 1))),
                told(),
                step(store.load(["Ledger/x"])),
                step(store.write([])),
                step(runtime.stop()),
            ]

        publishing, telling, loading, writing, stopping = in_child(use)
        for said in (publishing, telling):
            assert said.startswith("RuntimeNotRunning")
            assert "forked" in said
            assert "after forking" in said
        for said in (loading, writing):
            assert said.startswith("StoreUnavailable")
            assert "fork" in said
        assert stopping.startswith("StopIteration")  # there is nothing of its own to stop
        await add(runtime, ref, 2)
        assert await items(runtime, ref) == [2]


# Limits of the system


@contextmanager
def no_more_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@quickly
async def test_without_descriptors_a_start_is_refused_and_what_runs_goes_on(tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    async with ledgers(SqlStore(url_of(tmp_path))) as runtime:
        ref = await open_ledger(runtime)
        second = Runtime(SqlStore(url_of(other)), [Ledger])
        with no_more_descriptors():
            with pytest.raises(StoreError) as caught:
                await second.start()
            assert caught.value.remedy
            await add(runtime, ref, 1)
            await open_ledger(runtime, "y")
        await second.start()  # they are there again
        await second.publish(Opened("z"))
        await second.stop()
        assert await items(runtime, ref) == [1]


@quickly
async def test_without_threads_a_start_is_refused_and_what_runs_goes_on(tmp_path, monkeypatch):
    def no_thread(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    where = desk(do=lambda command, job: Done(command.id))
    async with errands(where, threaded_queue(lease_s=0.05)) as runtime:
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", no_thread)
            second = Runtime(SqlStore(url_of(tmp_path)), [Ledger])
            with pytest.raises(StoreUnavailable, match="thread"):
                await second.start()
            await runtime.publish(Asked("e-1"))  # its job waits for a thread
            [receipt] = await runtime.publish(Asked("e-2"))
            assert receipt.outcome is Outcome.APPLIED
        await second.start()
        await second.stop()
        await runtime.settled()
        assert len(where.jobs) == 2


# Loops and threads


def test_a_runtime_used_from_another_loop_or_after_its_end_says_so_at_once():
    runtime = Runtime(MemoryStore(), [Ledger])
    asyncio.run(runtime.start())  # and its loop is closed
    for use in (runtime.publish(Opened("x")), runtime.state(runtime.ref(Ledger, "x"))):
        with pytest.raises(RuntimeNotRunning, match="another event loop"):
            asyncio.run(use)
    with pytest.raises(RuntimeNotRunning, match="closed"):
        runtime.ref(Ledger, "x").tell(Opened("x"))
    with pytest.raises(RuntimeNotRunning, match="closed"):
        runtime.ref(Ledger, "x").ask(Opened("x"), timeout=5)


@quickly
async def test_two_runtimes_of_one_process_do_not_share_a_store_silently(tmp_path):
    store = SqlStore(url_of(tmp_path))
    async with ledgers(store) as runtime:
        for same in (store, SqlStore(url_of(tmp_path))):
            with pytest.raises(StoreError, match=r"open in this very store|held by"):
                await Runtime(same, [Ledger]).start()
        await open_ledger(runtime)


# Rude user code


@pytest.mark.parametrize("how", ["exit", "interrupt", "cancelled"])
@quickly
async def test_whatever_a_handler_raises_costs_its_neighbours_nothing(store, how):
    async with ledgers(store) as runtime:
        refs = [await open_ledger(runtime, f"l-{n}") for n in range(5)]
        sending = [
            asyncio.create_task(runtime.send(ref, content))
            for n in range(20)
            for ref in refs
            for content in (Added(ref.correlation_id, n), Struck(ref.correlation_id, how))
        ]
        outcomes = await asyncio.gather(*sending, return_exceptions=True)
        assert all(type(outcome) is HandlerFailed for outcome in outcomes[1::2])
        assert not [one for one in outcomes[::2] if isinstance(one, BaseException)]
        for ref in refs:
            assert await items(runtime, ref) == list(range(20))


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, asyncio.CancelledError])
@pytest.mark.parametrize("is_async", [False, True])
@quickly
async def test_whatever_a_worker_raises_costs_its_neighbours_nothing(kind, is_async):
    done: list[str] = []

    def deed(command: Any, job: Any) -> Done:
        if command.id == "bad":
            raise kind
        done.append(command.id)
        return Done(command.id)

    queues = [] if is_async else [threaded_queue()]
    async with errands(desk(do=deed), *queues) as runtime:
        await asyncio.gather(*(runtime.publish(Asked(id)) for id in ["bad", *map(str, range(20))]))
        await runtime.settled()
        assert len(done) == 20


@message(name="environment-test.given")
class Given:
    id: str
    how: str = ""
    items: list[int] = field(default_factory=list)


@message(name="environment-test.noted")
class Noted:
    items: list[int]


@message(name="environment-test.carry")
class Carry:
    items: list[int]


@dataclass
class GreedyState:
    items: list[int] = field(default_factory=list)
    noted: list[int] = field(default_factory=list)


ASKED: list[BaseException] = []


class Greedy(ProcessManager[GreedyState]):
    """Does what no handler should."""

    name = "Greedy"
    runtime: Runtime | None = None

    @starts(Given, by="id")
    def begin(self, state: GreedyState, event: Given, do: Effects) -> None:
        self._given(state, event, do)

    def _given(self, state: GreedyState, event: Given, do: Effects) -> None:
        if event.how == "floods":
            for n in range(100_000):
                do.send(Carry([n]))
        elif event.how == "asks itself":
            assert Greedy.runtime is not None
            try:
                Greedy.runtime.ref(Greedy, event.id).ask(Given(event.id))
            except RuntimeError as error:
                ASKED.append(error)
        elif event.how == "changes things":
            noted, carried = Noted([1]), Carry([1])
            do.record(noted)
            do.send(carried)
            KEPT.extend((noted.items, carried.items, event.items, state.items))
            for one in KEPT:
                one.append(666)

    @applies(Given)
    def take(self, state: GreedyState, event: Given) -> None:
        state.items += event.items

    @applies(Noted)
    def note(self, state: GreedyState, event: Noted) -> None:
        state.noted += event.items


def greedy(store: Any) -> Runtime:
    carry = WorkQueue("carry")
    carry.worker(carried)
    Greedy.runtime = Runtime(store, [Greedy, carry], Settings())
    CARRIED.clear()
    KEPT.clear()
    return Greedy.runtime


CARRIED: list[list[int]] = []
KEPT: list[list[int]] = []


async def carried(command: Carry) -> None:
    CARRIED.append(command.items)


@quickly
async def test_a_turn_of_too_many_effects_is_refused_whole(store):
    async with greedy(store) as runtime:
        with pytest.raises(InvalidEffect, match=f"more than {EFFECTS_MAX} effects") as caught:
            await runtime.publish(Given("g", "floods"))
        assert "split the work" in (caught.value.remedy or "")
        assert await store.inner.outbox() == []
        assert await store.inner.journal("Greedy/g") == []
        [receipt] = await runtime.publish(Given("g"))
        assert receipt.sequence_nr == 1


@quickly
async def test_a_saga_that_asks_itself_and_waits_is_refused(store):
    ASKED.clear()
    async with greedy(store) as runtime:
        [receipt] = await runtime.publish(Given("g", "asks itself"))
        assert receipt.outcome is Outcome.APPLIED
        assert "would block the event loop" in str(ASKED[0])


@quickly
async def test_what_a_handler_keeps_and_changes_later_changes_nothing(store):
    """An effect is what it holds when the handler returns: in the state, the journal, the job."""
    async with greedy(store) as runtime:
        given = Given("g", "changes things", [5])
        ref = runtime.ref(Greedy, "g")
        sending = asyncio.create_task(runtime.publish(given))
        while not KEPT:  # noqa: ASYNC110 - the loop's turns are what is waited for
            await asyncio.sleep(0)
        for one in [*KEPT, given.items]:
            one.append(777)
        await sending
        await runtime.settled()
        live = await state_of(runtime, ref)
        ref.stop(block=False)
        assert await state_of(runtime, ref) == live
        assert (live.items, live.noted) == ([5], [1, 666])
        assert CARRIED == [[1, 666]]
