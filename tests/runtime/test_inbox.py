"""Messages that wait: over failing stores, restarts, damage; bounded, at no cost while idle."""

from __future__ import annotations

import asyncio

import pytest

from perdure import Outcome
from perdure.core.commit import InboxReason, InboxRow, Settlement
from perdure.core.correlation import VerdictKind
from perdure.errors import MailboxFull, StoreUnavailable
from perdure.messages import Message
from perdure.runtime.delivery import Delivery
from tests.runtime.flaky import begun, flaky, reasons, seconds, send
from tests.runtime.support import items, parts, quickly, reopened, rounds
from tests.sagas import (
    TRIED,
    Flaky,
    Shaky,
)


@pytest.fixture(autouse=True)
def _nothing_tried():
    TRIED.clear()


@pytest.mark.parametrize("written", [False, True], ids=["before", "after the commit"])
@pytest.mark.parametrize("at", range(4))
@quickly
async def test_failed_writes_lose_and_double_nothing_of_what_waits(store, clock, written, at):
    """A write fails when the message is delayed, queued, tried again, or when it has its turn."""
    async with flaky(store, clock, retry_pause_s=0.5) as runtime:
        ref = await begun(runtime)
        tasks = []
        for step in range(4):
            if step == at:
                store.fail_writes(after_commit=written)
            if step < 2:
                sending = send(runtime, ref, step, fails=2 if step == 0 else 0)
                tasks.append(asyncio.create_task(sending))
                await rounds()
            await clock.advance(seconds(10 if step >= 2 else 0.6))
        await clock.advance(seconds(30))
        await asyncio.gather(*tasks)
        assert await items(runtime, ref) == [0, 1]
        assert await store.inner.inbox() == []
        assert await store.inner.dead_letters() == []


@quickly
async def test_a_store_that_fails_for_long_delays_the_retry_and_loses_nothing(store, clock):
    async with flaky(store, clock, retry_pause_s=0.5) as runtime:
        ref = await begun(runtime)
        await send(runtime, ref, 1, fails=1)
        await send(runtime, ref, 2)
        store.fail_writes(10)
        await clock.advance(seconds(15))
        assert await items(runtime, ref) == []
        refused = asyncio.create_task(send(runtime, ref, 2))
        await clock.advance(seconds(300))
        await asyncio.gather(refused, return_exceptions=True)
        assert await items(runtime, ref) == [1, 2]
        assert await store.inner.inbox() == []


@quickly
async def test_a_repeat_of_a_waiting_message_is_refused_while_the_store_fails(store, clock):
    async with flaky(store, clock, retry_pause_s=0.01) as runtime:
        ref = await begun(runtime)
        await send(runtime, ref, 1, fails=1)
        store.fail_writes(3)
        refused = asyncio.create_task(send(runtime, ref, 1, 1))
        await rounds()
        await clock.advance(seconds(1))
        with pytest.raises(StoreUnavailable):
            await refused


@quickly
async def test_only_so_many_messages_of_an_instance_wait(store, clock):
    async with flaky(store, clock, waiting_max=3) as runtime:
        ref = await begun(runtime)
        for n, outcome in enumerate([Outcome.DELAYED, Outcome.QUEUED, Outcome.QUEUED]):
            assert await send(runtime, ref, n, fails=int(not n)) is outcome
        with pytest.raises(MailboxFull):
            await send(runtime, ref, 3)
        assert await send(runtime, ref, 2) is Outcome.QUEUED
        await clock.advance(seconds(10))
        assert await send(runtime, ref, 3) is Outcome.APPLIED
        assert await items(runtime, ref) == [0, 1, 2, 3]
        missing = runtime.ref(Flaky, "y")
        for n in range(3):
            assert await send(runtime, missing, n) is Outcome.PARKED
        with pytest.raises(MailboxFull):
            await send(runtime, missing, 3)


@quickly
async def test_an_unreadable_message_ends_in_the_dead_letters_with_its_bytes(store, clock):
    async with flaky(store, clock) as runtime:
        ref = await begun(runtime)
        await send(runtime, ref, 1, fails=1)
        await send(runtime, ref, 2)
        body = parts(runtime).services.journal.encode_waiting
        message = Message(None, "gone.Message", 1, b"\x80", "u", 0)
        rows = [
            InboxRow("Flaky/x", "u", InboxReason.DELAYED, body(message, 2, False), 0, 2, 5),
            InboxRow("Flaky/y", "v", InboxReason.MISSING, b"\xc1", 0, 0, 5),
            InboxRow("Flaky/x", "w", InboxReason.QUEUED, body(message, 9, False), 0),
        ]
        await store.write(rows)
    again = reopened(store)
    async with flaky(again, clock) as runtime:
        await clock.advance(seconds(10))
        assert await items(runtime, runtime.ref(Flaky, "x")) == [1, 2]
        assert await again.inner.inbox() == []
        found = await again.inner.dead_letters()
        assert sorted((one.message_id, one.type, one.reason, one.body) for one in found) == [
            ("u", "gone.Message", "undecodable", rows[0].body),
            ("v", "", "undecodable", b"\xc1"),
            ("w", "gone.Message", "undecodable", rows[2].body),
        ]


@quickly
async def test_messages_ready_when_the_process_ended_are_taken_without_further_mail(store, clock):
    async with flaky(store, clock) as runtime:
        await begun(runtime)
        services = parts(runtime).services
        waiting = []
        for n, (id, reason, due) in enumerate(
            [
                ("x", InboxReason.QUEUED, None),
                ("x", InboxReason.MISSING, None),
                ("x", InboxReason.HELD, None),
                ("y", InboxReason.MISSING, None),
                ("y", InboxReason.MISSING, clock.now_ms() + 90_000),
            ]
        ):
            content = Shaky(id, n)
            message = Message(content, *services.codec.encode(content), f"m-{n}", 0)
            body = services.journal.encode_waiting(message, 2, False)
            waiting.append(InboxRow(f"Flaky/{id}", f"m-{n}", reason, body, 0, 0, due))
        await store.write(waiting)
    again = reopened(store)
    async with flaky(again, clock) as runtime:
        await clock.settle()
        await runtime.settled()
        assert await items(runtime, runtime.ref(Flaky, "x")) == [0, 1, 2]
        assert [row.message_id for row in await again.inner.inbox()] == ["m-3", "m-4"]


@quickly
async def test_looking_over_the_inbox_is_tried_again(store, clock):
    async with flaky(store, clock) as runtime:
        await begun(runtime)
        services, content = parts(runtime).services, Shaky("x", 1)
        message = Message(content, *services.codec.encode(content), "m-1", 0)
        body = services.journal.encode_waiting(message, 2, False)
        await store.write([InboxRow("Flaky/x", "m-1", InboxReason.QUEUED, body, 0)])
    again = reopened(store)
    again.fail_reads(operation="inbox")
    again.fail_loads()
    async with flaky(again, clock) as runtime:
        await clock.advance(seconds(20))
        assert await again.inner.inbox() == []
        assert await items(runtime, runtime.ref(Flaky, "x")) == [1]


@quickly
async def test_a_wake_up_that_comes_early_changes_nothing(store, clock):
    async with flaky(store, clock) as runtime:
        ref = await begun(runtime)
        await send(runtime, ref, 1, fails=1)
        definition = runtime._blueprint.routing.definition(Flaky)
        again: list[bool] = []
        parts(runtime).supervisor.wakeups._wake(definition, ref.key, "m-1", again.append)
        await runtime.settled()
        assert (TRIED["x/1"], again) == (1, [False])


@quickly
async def test_settled_includes_those_that_were_behind_a_retry(store, clock):
    async with flaky(store, clock, batch_max=1) as runtime:
        ref = await begun(runtime)
        for n in range(10):
            await send(runtime, ref, n, fails=int(not n))
        await clock.advance(seconds(10))
        assert await items(runtime, ref) == list(range(10))


@quickly
async def test_an_idle_runtime_asks_the_store_nothing_until_the_next_retry_is_due(memory, clock):
    async with flaky(memory, clock) as runtime:
        services = parts(runtime).services
        bodies = []
        for n in range(3_000):
            content = Shaky(f"i{n:05}", n)
            message = Message(content, *services.codec.encode(content), "m", 0)
            bodies.append(services.journal.encode_waiting(message, 1, False))
    now_ms = clock.now_ms()
    await memory.inner.open()
    await memory.inner.write(
        [
            InboxRow(f"Flaky/i{n:05}", "m", InboxReason.DELAYED, body, 0, 1, now_ms + 60_000 + n)
            for n, body in enumerate(bodies)
        ]
    )
    await memory.inner.close()
    again = reopened(memory)
    async with flaky(again, clock, deadline_page=100) as runtime:
        await clock.settle()
        asked, written = again.queries, again.writes
        await clock.advance(seconds(59.999))
        assert (again.queries, again.writes) == (asked, written)
        assert runtime.residents == 0
        await clock.advance(seconds(10))
        assert len(await again.inner.inbox()) == 0


@quickly
async def test_the_result_of_a_job_that_raises_takes_the_end_of_the_job_along(store, clock):
    async with flaky(store, clock) as runtime:
        ref = await begun(runtime)
        assert await send(runtime, ref, 0) is Outcome.APPLIED
        (job,) = await store.inner.outbox()
        services, supervisor = parts(runtime).services, parts(runtime).supervisor
        for n, fails in [(1, 1), (2, 0), (2, 0)]:
            content = Shaky("x", n, fails)
            message = Message(content, *services.codec.encode(content), f"m-{n}", 0)
            delivery = Delivery(
                runtime._blueprint.routing.definition(Flaky), ref.key, message, VerdictKind.CONTINUE
            )
            if n == 1:
                delivery.settlement = Settlement(ref.key, job=job.position)
            supervisor.admit(delivery)
        await runtime.settled()
        assert await store.inner.outbox() == []
        assert await reasons(store) == [
            ("m-1", InboxReason.DELAYED, 1),
            ("m-2", InboxReason.QUEUED, 0),
        ]
        await clock.advance(seconds(10))
        assert await items(runtime, ref) == [0, 1, 2]
