"""Waiting for the end of an instance: its result, or why there is none, also after a restart."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from perdure import Effects, ProcessManager, Runtime, continues, message, starts
from perdure.errors import RuntimeNotRunning, SagaFailed, SagaStuck, SendTimeout
from tests.runtime.support import quickly, reopened, rounds


@message(name="results-test.Begin")
class Begin:
    id: str


@message(name="results-test.End")
class End:
    id: str
    how: str = "complete"


@dataclass(frozen=True)
class Nothing:
    pass


class Errand(ProcessManager[Nothing]):
    name = "results-test.Errand"

    @starts(Begin, by="id")
    def begun(self, state: Nothing, event: Begin, do: Effects) -> None: ...

    @continues(End, by="id")
    def ended(self, state: Nothing, event: End, do: Effects) -> None:
        if event.how == "fail":
            do.fail("ValueError: no")
        elif event.how == "stuck":
            do.stuck("a key is missing")
        elif event.how == "complete":
            do.complete(event)


@quickly
async def test_a_waiter_hears_the_result_when_the_instance_ends_and_not_before(store):
    async with Runtime(store, [Errand]) as runtime:
        ref = runtime.ref(Errand, "e")
        waiting = asyncio.create_task(runtime.result(ref))
        await runtime.publish(Begin("e"))
        await runtime.send(ref, End("e", "not yet"))
        await rounds()
        assert not waiting.done()
        await runtime.send(ref, End("e"))
        assert await waiting == End("e")


@quickly
async def test_what_has_ended_is_answered_after_a_restart(store):
    async with Runtime(store, [Errand]) as runtime:
        for id in ("good", "bad"):
            await runtime.publish(Begin(id))
        await runtime.publish(End("good"))
        await runtime.publish(End("bad", "fail"))
    async with Runtime(reopened(store), [Errand]) as runtime:
        assert await runtime.result(runtime.ref(Errand, "good")) == End("good")
        with pytest.raises(SagaFailed, match="ValueError: no") as raised:
            await runtime.result(runtime.ref(Errand, "bad"))
        assert (raised.value.saga, raised.value.correlation_id) == (Errand.name, "bad")


@quickly
async def test_a_waiter_is_told_that_an_instance_is_stuck_and_may_wait_again(store):
    async with Runtime(store, [Errand]) as runtime:
        ref = runtime.ref(Errand, "e")
        await runtime.publish(Begin("e"))
        await runtime.publish(End("e", "stuck"))
        with pytest.raises(SagaStuck, match="a key is missing"):
            await runtime.result(ref)
        await runtime.publish(End("e", "go on"))
        waiting = asyncio.create_task(runtime.result(ref))
        await rounds()
        await runtime.publish(End("e"))
        assert await waiting == End("e")


@quickly
async def test_waiting_has_a_limit_and_ends_with_the_runtime(memory):
    async with Runtime(memory, [Errand]) as runtime:
        ref = runtime.ref(Errand, "e")
        with pytest.raises(SendTimeout, match="has not ended within"):
            await runtime.result(ref, timeout_s=0.01)
        waiting = asyncio.create_task(runtime.result(ref))
        await rounds()
    with pytest.raises(RuntimeNotRunning, match=r"before results-test\.Errand/e had ended"):
        await waiting


@quickly
async def test_a_waiter_that_gives_up_leaves_nothing_behind(memory):
    async with Runtime(memory, [Errand]) as runtime:
        ref = runtime.ref(Errand, "e")
        first = asyncio.create_task(runtime.result(ref))
        second = asyncio.create_task(runtime.result(ref))
        await rounds()
        first.cancel()
        await rounds()
        await runtime.publish(Begin("e"))
        await runtime.publish(End("e"))
        assert await second == End("e")
        assert runtime._running is not None
        assert not runtime._running.supervisor.endings._waiting
