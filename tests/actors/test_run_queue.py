"""Turns: one callback for all, bursts, fairness, and walls between actors."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from perdure.actors import RunQueue, loop_thread
from tests.actors.until import until


class Job:
    """Something to run: ``remaining`` envelopes' worth of work."""

    def __init__(self, log: list[Any], name: str, remaining: int = 1) -> None:
        self.log, self.name, self.remaining = log, name, remaining

    def run_burst(self, limit: int) -> bool:
        done = min(limit, self.remaining)
        self.remaining -= done
        self.log.append((self.name, done))
        return self.remaining > 0


class Broken(Job):
    def run_burst(self, limit: int) -> bool:
        raise KeyboardInterrupt


def on_a_loop(test: Callable[[], Any]) -> Any:
    async def main() -> Any:
        return await asyncio.wait_for(test(), timeout=10)

    return asyncio.run(main())


def test_many_actors_cost_one_callback(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        loop, log = asyncio.get_running_loop(), list[Any]()
        run_queue, calls = RunQueue(loop), list[Any]()
        call_soon = loop.call_soon

        def counting(callback: Any, *args: Any, **kwargs: Any) -> Any:
            calls.append(callback)
            return call_soon(callback, *args, **kwargs)

        monkeypatch.setattr(loop, "call_soon", counting)
        for number in range(100):
            run_queue.schedule(Job(log, str(number)))
        assert calls == [run_queue._drain]
        await asyncio.sleep(0)
        assert len(log) == 100

    on_a_loop(test)


def test_a_long_burst_goes_to_the_back_and_the_loop_gets_its_turn() -> None:
    async def test() -> None:
        log: list[Any] = []
        run_queue = RunQueue(asyncio.get_running_loop(), burst_max=4)
        run_queue.schedule(Job(log, "long", remaining=10))
        run_queue.schedule(Job(log, "short"))
        asyncio.get_running_loop().call_soon(log.append, "loop")
        await until(lambda: ("long", 2) in log)
        assert log == [("long", 4), ("short", 1), "loop", ("long", 4), ("long", 2)]

    on_a_loop(test)


def test_what_one_actor_raises_reaches_no_other(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        log: list[Any] = []
        run_queue = RunQueue.current()
        for job in (Job(log, "a"), Broken(log, "b"), Job(log, "c")):
            run_queue.schedule(job)
        run_queue.post(Broken(log, "d").run_burst)  # type: ignore[arg-type]
        run_queue.post(lambda: log.append("posted"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert sorted(map(str, log)) == ["('a', 1)", "('c', 1)", "posted"]

    on_a_loop(test)
    assert "is not run again" in caplog.text


def test_other_threads_are_heard_and_share_a_wake_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        loop, log = asyncio.get_running_loop(), list[Any]()
        run_queue, calls = RunQueue(loop), list[Any]()
        call = loop.call_soon_threadsafe

        def counting(*args: Any, **kwargs: Any) -> Any:
            calls.append(args)
            return call(*args, **kwargs)

        monkeypatch.setattr(loop, "call_soon_threadsafe", counting)

        def schedule_all() -> None:
            for number in range(50):
                run_queue.schedule_threadsafe(Job(log, str(number)))

        thread = threading.Thread(target=schedule_all)
        thread.start()
        thread.join()  # Blocks the loop on purpose: it must not answer in between.
        assert len(calls) == 1
        await until(lambda: len(log) == 50)
        assert log == [(str(number), 1) for number in range(50)]

    on_a_loop(test)


def test_context_variables_of_senders_do_not_leak_into_actors() -> None:
    sender = contextvars.ContextVar("sender", default="nobody")
    seen: list[str] = []

    class Looking(Job):
        def run_burst(self, limit: int) -> bool:
            seen.append(sender.get())
            return False

    async def test() -> None:
        sender.set("somebody")
        RunQueue.current().schedule(Looking([], ""))
        await asyncio.sleep(0)

    on_a_loop(test)
    assert seen == ["nobody"]


def test_a_loop_has_one_run_queue_and_takes_it_along() -> None:
    async def test() -> weakref.ref[RunQueue]:
        assert RunQueue.current() is RunQueue.of(asyncio.get_running_loop())
        return weakref.ref(RunQueue.current())

    kept = on_a_loop(test)
    gc.collect()
    assert kept() is None
    with pytest.raises(RuntimeError):
        RunQueue.current()


def test_what_is_posted_to_a_closed_loop_is_called_by_the_sender() -> None:
    async def test() -> RunQueue:
        return RunQueue.current()

    run_queue = on_a_loop(test)
    called: list[int] = []
    run_queue.post(lambda: called.append(threading.get_ident()))
    assert called == [threading.get_ident()]


def test_the_loop_thread_is_one_per_process(monkeypatch: pytest.MonkeyPatch) -> None:
    first = loop_thread.run_queue()
    assert loop_thread.run_queue() is first
    monkeypatch.setattr(os, "getpid", lambda: -1)
    monkeypatch.setattr(loop_thread, "_loop_thread", loop_thread._loop_thread)
    second = loop_thread.run_queue()
    assert second is not first
    answered = threading.Event()
    second.post(answered.set)
    assert answered.wait(5)
    (thread,) = (thread for thread in threading.enumerate() if thread.ident == second.thread_id)
    second.loop.call_soon_threadsafe(second.loop.stop)
    thread.join(5)
    second.loop.close()
