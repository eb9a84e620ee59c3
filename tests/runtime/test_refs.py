"""A ref names an instance for as long as the runtime runs; pykka's verbs work on it."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pykka
import pytest

from perdure import MemoryStore, Runtime, SagaRef, Settings, errors
from tests.runtime.support import items, ledgers, open_ledger, quickly, rounds, until
from tests.sagas import Added, Ledger, Opened, Struck


@quickly
async def test_tell_and_ask_on_the_loop(store):
    async with ledgers(store) as runtime:
        ref = runtime.ref(Ledger, "x")
        ref.tell(Opened("x"))
        assert await ref.ask(Added("x", 1), block=False) == 1
        ref.tell(Added("x", 2))
        assert await ref.ask(Added("x", 3), block=False) == 3
        assert await items(runtime, ref) == [1, 2, 3]


@quickly
async def test_tell_and_ask_from_other_threads_keep_each_threads_order(store):
    async with ledgers(store) as runtime:
        ref = await open_ledger(runtime)
        replies: list[Any] = []

        def work(sender: int) -> None:
            for n in range(50):
                ref.tell(Added("x", sender * 100 + n))
            replies.append(ref.ask(Added("x", sender * 100 + 50), timeout=10))

        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        await asyncio.gather(*(asyncio.to_thread(thread.join) for thread in threads))
        found = await items(runtime, ref)
        for sender in range(4):
            mine = [n for n in found if n // 100 == sender]
            assert mine == list(range(sender * 100, sender * 100 + 51))
        assert max(replies) == 204


@quickly
async def test_an_ask_can_be_awaited_on_another_loop(store):
    async with ledgers(store) as runtime:
        ref = await open_ledger(runtime)

        def other_loop() -> Any:
            async def ask() -> Any:
                ref.tell(Added("x", 1))
                return await ref.ask(Added("x", 2), block=False)

            return asyncio.run(ask())

        assert await asyncio.to_thread(other_loop) == 2


@quickly
async def test_sending_from_another_loop_is_refused_and_changes_nothing(memory):
    async with ledgers(memory) as runtime:
        ref = await open_ledger(runtime)

        def other_loop() -> None:
            async def send() -> None:
                async with asyncio.timeout(2):
                    await runtime.send(ref, Added("x", 1))

            asyncio.run(send())

        with pytest.raises(errors.RuntimeNotRunning):
            await asyncio.to_thread(other_loop)
        await rounds()
        assert await items(runtime, ref) == []


@quickly
async def test_blocking_on_the_loop_raises_instead_of_hanging(store):
    async with ledgers(store) as runtime:
        ref = await open_ledger(runtime)
        with pytest.raises(RuntimeError, match="nothing was sent"):
            ref.ask(Added("x", 1), block=True)
        await runtime.settled()
        assert await items(runtime, ref) == []


@quickly
async def test_errors_reach_who_asked(store):
    async with ledgers(store) as runtime:
        ref = await open_ledger(runtime)
        with pytest.raises(errors.HandlerFailed, match="struck") as caught:
            await ref.ask(Struck("x", "error"), block=False)
        assert isinstance(caught.value.__cause__, ValueError)
        with pytest.raises(errors.HandlerFailed):
            await asyncio.to_thread(ref.ask, Struck("x", "error"))
        for wrong in (object(), 42, {"type": "runtime-test.nobody-knows", "data": {}}):
            with pytest.raises(errors.PerdureError):
                ref.tell(wrong)
            with pytest.raises(errors.PerdureError):
                await asyncio.to_thread(ref.tell, wrong)


@quickly
async def test_an_outside_event_keeps_its_id_when_told(memory):
    async with ledgers(memory) as runtime:
        ref = await open_ledger(runtime)
        event = {"type": "runtime-test.added", "id": "evt-1", "data": {"id": "x", "n": 1}}
        assert await ref.ask(event, block=False) == 1
        assert await ref.ask(event, block=False) == 1
        assert await items(runtime, ref) == [1]


@quickly
async def test_stop_lets_an_instance_leave_memory_and_the_ref_lives_on(store):
    async with ledgers(store) as runtime:
        ref = await open_ledger(runtime)
        assert ref.is_alive()
        await asyncio.to_thread(ref.stop)
        assert runtime.residents == 0
        assert ref.is_alive()
        assert await ref.ask(Added("x", 1), block=False) == 1
        ref.stop(block=False)
        assert runtime.residents == 0
        assert await items(runtime, ref) == [1]


@quickly
async def test_an_instance_seen_in_a_listing_or_a_receipt_can_be_addressed(memory):
    async with ledgers(memory) as runtime:
        ref = runtime.ref(Ledger, ("legal", 7))
        receipt = await runtime.send(ref, Opened("x"))
        views = [view async for view in runtime.instances(Ledger)]
        assert runtime.ref_to(receipt) == ref
        assert [runtime.ref_to(view) for view in views] == [ref]


@quickly
async def test_refs_are_values_that_name_an_instance(memory):
    async with ledgers(memory) as runtime:
        ref = runtime.ref(Ledger, "x")
        assert isinstance(ref, SagaRef)
        assert isinstance(ref, pykka.ActorRef)
        assert ref == runtime.ref("Ledger", "x")
        assert ref != runtime.ref(Ledger, "y")
        assert len({ref, runtime.ref(Ledger, "x"), runtime.ref(Ledger, 1)}) == 2
        assert (ref.saga, ref.correlation_id) == ("Ledger", "x")
        assert "Ledger" in repr(ref)
        assert "'x'" in repr(ref)
        with pytest.raises(TypeError, match="past the journal"):
            ref.proxy()
        assert runtime.residents == 0


@quickly
async def test_after_the_runtime_stopped_a_ref_is_dead(memory):
    async with ledgers(memory) as runtime:
        ref = await open_ledger(runtime)
    assert not ref.is_alive()
    with pytest.raises(pykka.ActorDeadError):
        ref.tell(Added("x", 1))
    with pytest.raises((pykka.ActorDeadError, errors.RuntimeNotRunning)):
        await ref.ask(Added("x", 1), block=False)
    with pytest.raises((pykka.ActorDeadError, errors.RuntimeNotRunning)):
        await asyncio.to_thread(ref.ask, Added("x", 1), timeout=5)
    await asyncio.to_thread(ref.stop)
    with pytest.raises(errors.RuntimeNotRunning):
        await runtime.send(ref, Added("x", 1))
    with pytest.raises(errors.RuntimeNotRunning):
        runtime.ref(Ledger, "x")


def test_nobody_hangs_on_a_runtime_whose_loop_is_gone():
    kept: list = []

    async def leave_it_running() -> None:
        runtime = Runtime(MemoryStore(), [Ledger])
        await runtime.start()
        kept.extend([runtime, await open_ledger(runtime)])

    asyncio.run(leave_it_running())
    for _ in range(3):
        with pytest.raises((errors.RuntimeNotRunning, pykka.ActorDeadError)):
            kept[1].ask(Added("x", 1), timeout=2)
        with pytest.raises((errors.RuntimeNotRunning, pykka.ActorDeadError)):
            kept[1].tell(Added("x", 1))


@quickly
async def test_stopping_all_actors_stops_the_runtime(memory):
    runtime = Runtime(memory, [Ledger], Settings(shutdown_timeout_s=2))
    await runtime.start()
    ref = await open_ledger(runtime)
    tasks = [asyncio.create_task(runtime.send(ref, Added("x", n))) for n in range(20)]
    await rounds(2)
    pykka.ActorRegistry.stop_all(block=False)
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    applied = [o for o in outcomes if not isinstance(o, BaseException)]
    assert all(isinstance(o, errors.RuntimeNotRunning) for o in outcomes if o not in applied)
    await until(lambda: not ref.is_alive())
    with pytest.raises(errors.RuntimeNotRunning):
        await runtime.send(ref, Added("x", 99))
    await runtime.stop()
    async with ledgers(memory) as again:
        assert len(await items(again, again.ref(Ledger, "x"))) == len(applied)


@quickly
async def test_an_ask_handed_over_while_the_runtime_stops_is_answered(memory):
    runtime = Runtime(memory, [Ledger], Settings(mailbox_max=1, shutdown_timeout_s=0.05))
    await runtime.start()
    ref = await open_ledger(runtime)
    memory.hold_writes()
    first = asyncio.create_task(runtime.send(ref, Added("x", 1)))
    await memory.held()
    asked: list = []
    stopping = asyncio.create_task(runtime.stop())
    await asyncio.sleep(0)  # the stop begins in the loop's next round
    thread = threading.Thread(target=lambda: asked.append(ref.ask(Added("x", 2), block=False)))
    thread.start()
    thread.join()
    async with asyncio.timeout(2):
        with pytest.raises(errors.RuntimeNotRunning):
            await asked[0]
    memory.release()
    await stopping
    await asyncio.gather(first, return_exceptions=True)
