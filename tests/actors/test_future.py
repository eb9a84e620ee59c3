"""A future that threads wait for and coroutines await."""

from __future__ import annotations

import asyncio
import queue
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pykka
import pytest

from perdure.actors import Future
from tests.actors.until import until

SECONDS = 5.0


async def value_of(future: Future[Any]) -> Any:
    async with asyncio.timeout(SECONDS):
        return await future


async def until_awaited(future: Future[Any], by: int = 1) -> None:
    await until(lambda: len(future._callbacks or ()) >= by)


def failed_with(error: Exception) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_exception((type(error), error, None))
    return future


def test_a_value_is_had_many_times_and_set_once() -> None:
    future: Future[int] = Future()
    future.set(1)
    assert [future.get(), future.get(timeout=0)] == [1, 1]
    with pytest.raises(queue.Full):
        future.set(2)
    with pytest.raises(queue.Full):
        future.set_exception((ValueError, ValueError(), None))
    with pytest.raises(queue.Full):
        future.set_get_hook(lambda _: 2)


def test_an_exception_is_raised_each_time() -> None:
    future = failed_with(LookupError("gone"))
    for _ in range(2):
        with pytest.raises(LookupError, match="gone"):
            future.get()
    with pytest.raises(LookupError, match="gone"):
        asyncio.run(value_of(future))


def test_the_exception_being_handled_is_the_default() -> None:
    future: Future[Any] = Future()
    with pytest.raises(ValueError, match="no exception"):
        future.set_exception()
    try:
        raise LookupError
    except LookupError:
        future.set_exception()
    with pytest.raises(LookupError):
        future.get()


def test_get_waits_and_times_out() -> None:
    future: Future[int] = Future()
    with pytest.raises(pykka.Timeout):
        future.get(timeout=0)
    assert not future._callbacks
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(future.get, timeout=SECONDS) for _ in range(4)]
        future.set(7)
        assert [waiter.result() for waiter in waiting] == [7] * 4


def test_get_on_a_loop_raises_unless_resolved() -> None:
    async def test() -> None:
        future: Future[int] = Future()
        with pytest.raises(RuntimeError, match="await it instead"):
            future.get(timeout=0)
        with pytest.raises(RuntimeError, match="await it instead"):
            future.map(str).get(timeout=0)
        future.set(1)
        assert future.get() == 1

    asyncio.run(test())


def test_many_awaiters_on_two_loops_are_woken_by_a_third_thread() -> None:
    future: Future[int] = Future()

    async def several() -> list[Any]:
        return list(await asyncio.gather(*(value_of(future) for _ in range(3))))

    async def test() -> None:
        other = asyncio.create_task(asyncio.to_thread(asyncio.run, several()))
        here = asyncio.create_task(several())
        await until_awaited(future, by=6)
        await asyncio.to_thread(future.set, 5)
        assert [await here, await other] == [[5] * 3] * 2

    asyncio.run(test())


def test_awaiting_does_not_block_the_loop() -> None:
    async def test() -> None:
        future: Future[int] = Future()
        waiting = asyncio.create_task(value_of(future))
        await until_awaited(future)
        asyncio.get_running_loop().call_soon(future.set, 3)
        assert await waiting == 3

    asyncio.run(test())


def test_a_hook_runs_once_in_a_worker_thread() -> None:
    threads = []

    def hook(_: float | None) -> str:
        threads.append(threading.get_ident())
        return "hooked"

    async def test() -> None:
        future: Future[str] = Future()
        future.set_get_hook(hook)
        seen: list[object] = []
        future.add_done_callback(seen.append)
        assert await asyncio.gather(*(value_of(future) for _ in range(3))) == ["hooked"] * 3
        assert future.get() == "hooked"
        assert seen == [future]
        with pytest.raises(queue.Full):
            future.set("late")

    asyncio.run(test())
    assert len(threads) == 1
    assert threads[0] != threading.get_ident()


def test_a_hook_that_times_out_is_run_again() -> None:
    source: Future[int] = Future()
    mapped = source.map(lambda number: number + 1)
    with pytest.raises(pykka.Timeout):
        mapped.get(timeout=0)
    source.set(1)
    assert mapped.get(timeout=0) == 2


def test_waiting_for_a_hook_that_another_thread_runs_times_out() -> None:
    future: Future[int] = Future()
    is_running, release = threading.Event(), threading.Event()

    def hook(_: float | None) -> int:
        is_running.set()
        release.wait(SECONDS)
        return 1

    future.set_get_hook(hook)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(future.get)
        assert is_running.wait(SECONDS)
        with pytest.raises(pykka.Timeout):
            future.get(timeout=0)
        release.set()
        assert first.result(SECONDS) == 1


def test_callbacks_are_called_once_by_whoever_resolves_and_their_errors_go_nowhere(
    caplog: pytest.LogCaptureFixture,
) -> None:
    future: Future[int] = Future()
    seen: list[int] = []

    def fail(_: object) -> None:
        raise SystemExit

    future.add_done_callback(fail)
    future.add_done_callback(lambda done: seen.append(done.get()))
    future.set(1)
    future.add_done_callback(lambda done: seen.append(done.get() + 1))
    assert seen == [1, 2]
    assert "failed" in caplog.text


def test_an_awaiter_that_gave_up_leaves_nothing_behind() -> None:
    async def test() -> None:
        future: Future[int] = Future()
        waiting = asyncio.create_task(value_of(future))
        await until_awaited(future)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert not future._callbacks
        future.set(1)

    asyncio.run(test())


def test_the_loop_of_an_awaiter_may_be_closed_meanwhile() -> None:
    future: Future[int] = Future()
    loop = asyncio.new_event_loop()
    waiting = future.__await__()

    async def begin() -> None:
        next(waiting)

    loop.run_until_complete(begin())
    loop.close()
    future.set(1)
    assert future.get() == 1
    waiting.close()


def test_an_unresolved_future_owns_no_dict() -> None:
    future: Future[int] = Future()
    assert vars(future) == {}
