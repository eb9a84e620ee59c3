"""More than there is room for: what is held stays bounded, everything is answered, nobody starves.

The scenarios, which check their promises themselves, are in ``tests/overload``; here they run at
small sizes. ``python -m tests.overload --full`` runs them at the sizes that are promised.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import subprocess
import sys
import threading
import weakref
from datetime import timedelta
from pathlib import Path

import pytest

import perdure.runtime.clock
from perdure import Runtime
from perdure.errors import CorrelationFailed, HandlerFailed, LimitExceeded, MailboxFull
from perdure.runtime.clock import SystemClock
from tests.overload import backlog, due, floods, histories, payloads, poison
from tests.overload.common import check_numbers
from tests.overload.payloads import LIMIT, OVERHEAD, Blob, Make, Maker, limited, printer
from tests.runtime.support import (
    FreeClock,
    adding,
    in_loop,
    items,
    ledgers,
    open_ledger,
    parts,
    quickly,
    reopened,
    rounds,
    until,
)
from tests.sagas import Added, Ledger, Opened

ROOT = Path(__file__).parent.parent.parent
HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def quiet(caplog):
    """What fails on purpose is no news."""
    caplog.set_level(logging.CRITICAL, "perdure")


# Floods


@in_loop(60)
async def test_in_a_flood_each_senders_messages_are_acknowledged_refused_or_dead_letters():
    figures = await floods.flood()
    assert figures["held at most"] == floods.Sizes().in_flight_max
    assert figures["sent"] == figures["applied"] + figures["refused"] + figures["dead"]


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="asks Linux for its memory")
def test_a_process_under_a_flood_or_with_a_long_history_holds_no_more_than_it_may():
    command = [sys.executable, "-m", "tests.overload", "flood", "history", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    # A message is held as an object and as bytes: twice its size, and half as much for the rest.
    assert found["flood"]["grown / bound"] < 3
    # A page of rows and the turns they hold; all of them would be more than 20 MB.
    assert found["history"]["bytes grown, rehydrating"] < 10_000_000
    assert found["history"]["bytes grown, shown"] < 10_000_000


@in_loop(60)
async def test_one_instance_with_very_many_messages_starves_nobody():
    sizes = floods.Crowd()
    figures = await floods.crowd(sizes)
    # At most one burst of everybody that is let in goes before.
    assert figures["others: longest wait"] <= sizes.in_flight_max
    assert figures["hot: longest wait"] <= 2 * sizes.in_flight_max


@in_loop(60)
async def test_very_many_busy_instances_starve_no_quiet_one():
    sizes = floods.Crowd()
    figures = await floods.reverse(sizes)
    assert figures["quiet: longest wait"] <= sizes.in_flight_max


@in_loop(60)
async def test_messages_for_very_many_strangers_are_kept_on_disk_and_given_up_in_time(store):
    await floods.strangers(store.inner)


@quickly
async def test_letters_of_told_messages_take_room_until_they_are_written(memory):
    async with ledgers(memory, mailbox_max=2, in_flight_max=5, accept_timeout_s=0.001) as runtime:
        ref = await open_ledger(runtime)
        memory.hold_writes()
        refused = []

        def tell() -> None:
            for n in range(200):
                try:
                    ref.tell(Added("x", n))
                except MailboxFull:
                    refused.append(n)

        teller = threading.Thread(target=tell)
        teller.start()
        while teller.is_alive():
            assert len(parts(runtime).services.commit._waiting) <= 2 + 5
            await asyncio.sleep(0)
        memory.release()
        await check_numbers(runtime, memory)
        letters = await memory.inner.dead_letters()
        applied = await items(runtime, ref)
        assert len(letters) + len(applied) + len(refused) == 200
        assert 0 < len(letters) <= 5


@quickly
async def test_a_told_message_leaves_its_room_when_its_letter_is_written_in_the_end(memory):
    clock = FreeClock()
    async with ledgers(memory, clock, mailbox_max=1, accept_timeout_s=5) as runtime:
        ref = await open_ledger(runtime)
        memory.hold_writes()
        first = adding(runtime, ref, 1)
        await memory.held()
        await asyncio.to_thread(ref.tell, Added("x", 2))
        await rounds()
        await clock.advance(timedelta(seconds=5))
        assert parts(runtime).handoff._outstanding == 1
        memory.let_through(1)  # the first message; the letter is in the next group
        await memory.held()
        memory.fail_writes(1)
        memory.release()
        await asyncio.gather(*first)
        await clock.advance(timedelta(seconds=1))  # the letter is written after a pause
        await check_numbers(runtime, memory)
        (letter,) = await memory.inner.dead_letters()
        assert letter.reason == "MailboxFull"


@quickly
async def test_a_refused_message_leaves_memory_with_its_error(memory):
    async with ledgers(memory, mailbox_max=1, accept_timeout_s=0.01) as runtime:
        ref = await open_ledger(runtime)
        memory.hold_writes()
        first = adding(runtime, ref, 1)
        await memory.held()
        gc.disable()
        try:
            alive = []
            for n in range(3):
                message = Added("x", n)
                alive.append(weakref.ref(message))
                with pytest.raises(MailboxFull):
                    await runtime.send(ref, message)
                del message
            await rounds()
            assert [one() for one in alive] == [None, None, None]
        finally:
            gc.enable()
        memory.release()
        await asyncio.gather(*first)


# Deadlines


@in_loop(60)
async def test_overdue_deadlines_fire_in_due_order_bounded_and_beside_other_messages(tmp_path):
    sizes = due.Sizes()
    figures = await due.overdue(tmp_path, sizes)
    assert figures["in flight at most"] == sizes.in_flight
    assert figures["held at most"] <= 2 * sizes.page
    assert figures["beside: sent"] >= sizes.traffic // 2
    assert figures["beside: p99 wait"] <= 4 * sizes.in_flight


@in_loop(60)
async def test_very_many_deadlines_of_one_instance_fire_once_each_in_a_stated_order(store):
    await due.of_one(store, 600)


class SetClock(SystemClock):
    """The system's clock, until somebody sets it."""

    ahead = timedelta(0)

    def now_ms(self) -> int:
        return super().now_ms() + int(self.ahead.total_seconds() * 1000)


@pytest.mark.parametrize("by", [HOUR, -HOUR, 8760 * HOUR, -8760 * HOUR])
@quickly
async def test_setting_the_clock_loses_repeats_and_hastens_no_deadline(store, monkeypatch, by):
    monkeypatch.setattr(perdure.runtime.clock, "RECHECK_S", 0.005)
    clock = SetClock()
    due.FIRED.clear()
    async with Runtime(store, [due.Rest], clock=clock) as runtime:
        for n in range(10):
            await runtime.publish(due.Rested(f"soon-{n}", 0.01))
            await runtime.publish(due.Rested(f"later-{n}", 1_800))
        await until(lambda: len(due.FIRED) == 10)
        clock.ahead += by
        if by > timedelta(0):
            await until(lambda: len(due.FIRED) == 20)  # half an hour has passed, says the clock
        for n in range(10):
            await runtime.publish(due.Rested(f"after-{n}", 0.01))
        fired = 30 if by > timedelta(0) else 20
        await until(lambda: len(due.FIRED) == fired)
        await asyncio.sleep(0.05)
        assert len(due.FIRED) == fired
        clock.ahead += abs(by) + HOUR  # it is set right, and goes on
        await until(lambda: len(due.FIRED) == 30)
        await runtime.settled()
        assert await store.inner.deadlines() == []
    assert len({id for _, id in due.FIRED}) == len(due.FIRED) == 30


@pytest.mark.parametrize("by", [HOUR, -HOUR])
@quickly
async def test_a_deadline_fires_after_a_restart_under_a_clock_that_was_set(store, by):
    clock = FreeClock()
    due.FIRED.clear()
    async with Runtime(store, [due.Rest], clock=clock) as runtime:
        await runtime.publish(due.Rested("x", 1_800))
    clock._now_ms += by.total_seconds() * 1000
    async with Runtime(reopened(store), [due.Rest], clock=clock) as runtime:
        await runtime.settled()
        assert len(due.FIRED) == (by > timedelta(0))
        await clock.advance(2 * HOUR)
        await runtime.settled()
        assert len(due.FIRED) == 1


# Long histories


@in_loop(60)
async def test_a_very_long_history_is_rehydrated_page_by_page_while_others_go_on(tmp_path):
    sizes = histories.Sizes(turns=8_000)
    figures = await histories.long_history(tmp_path, sizes)
    assert figures["pages"] == sizes.turns // histories.PAGE
    assert figures["others' turns meanwhile"] >= 2


@in_loop(30)
async def test_rehydrations_of_long_histories_are_limited_too(store):
    async with ledgers(store, snapshot_every=10_000) as runtime:
        for id in "abc":
            ref = await open_ledger(runtime, id)
            await asyncio.gather(*adding(runtime, ref, *range(1_100)))
    again = reopened(store)
    async with ledgers(again, rehydrations_max=2) as runtime:
        again.hold_reads()
        sending = [asyncio.create_task(runtime.publish(Added(id, -1))) for id in "abc"]
        await again.reads_held(2)
        await rounds()
        assert again.calls["journal"] == 2
        assert parts(runtime).supervisor.active["Ledger/c"].committed is None
        again.release()
        await asyncio.gather(*sending)
        for id in "abc":
            assert await items(runtime, runtime.ref(Ledger, id)) == [*range(1_100), -1]


@quickly
async def test_stopping_does_not_wait_for_a_long_rehydration(memory):
    async with ledgers(memory, snapshot_every=10_000) as runtime:
        ref = await open_ledger(runtime)
        await asyncio.gather(*adding(runtime, ref, *range(1_100)))
    again = reopened(memory)
    async with ledgers(again, shutdown_timeout_s=0.05) as runtime:
        again.hold_reads()
        sending = asyncio.create_task(runtime.publish(Added("x", -1)))
        await again.reads_held()
    (outcome,) = await asyncio.gather(sending, return_exceptions=True)
    assert "stopped" in str(outcome)


# Payloads


@in_loop(60)
async def test_huge_payloads_are_refused_at_the_door_by_every_way_in():
    figures = await payloads.payloads()
    assert figures["ways in"] == 18
    # Its bytes, in a buffer that has grown by doubling.
    assert figures["memory, multiple of the payload"] < 3.2


@pytest.mark.parametrize("what", ["event", "command", "reply", "result"])
@quickly
async def test_what_a_turn_makes_is_refused_above_the_limit_and_kept_just_below(what, store):
    async with limited(store) as runtime:
        with pytest.raises(HandlerFailed) as caught:
            await runtime.publish(Make("x", what, LIMIT + 1))
        assert isinstance(caught.value.__cause__, LimitExceeded)
        assert await runtime.state(runtime.ref(Maker, "x")) is None
        assert len(await store.inner.dead_letters()) == 1
        await runtime.publish(Make("y", what, LIMIT - OVERHEAD))
        await check_numbers(runtime, store)


@pytest.mark.parametrize("what", ["event", "command"])
@quickly
async def test_all_that_one_turn_makes_is_limited_and_its_neighbours_are_not_held_up(what, store):
    async with limited(store) as runtime:
        size = LIMIT - OVERHEAD
        beside = asyncio.create_task(runtime.publish(Make("z", what, 1)))
        with pytest.raises(HandlerFailed) as caught:
            await runtime.publish(Make("x", what, size, count=6))
        assert isinstance(caught.value.__cause__, LimitExceeded)
        assert "turn_bytes_max" in str(caught.value.__cause__)
        await beside
        await runtime.publish(Make("y", what, size, count=5))
        await check_numbers(runtime, store)
        jobs = await store.inner.outbox()
        assert len(jobs) == (6 if what == "command" else 0)


@quickly
async def test_a_state_above_the_limit_has_no_snapshot_and_lives_on_by_its_journal(store):
    async with limited(store) as runtime:
        await runtime.publish(Make("x", "state", LIMIT + 1))
        await runtime.publish(Make("x", "reply", 1))
    again = reopened(store)
    async with limited(again) as runtime:
        [receipt] = await runtime.publish(Make("x", "reply", 2))
        assert (receipt.sequence_nr, receipt.reply) == (3, "xx")
        view = await runtime.state(runtime.ref(Maker, "x"))
        assert view is not None
        assert len(view.state.text) == LIMIT + 1
        [loaded] = await again.inner.load([f"{Maker.name}/x"])
        assert (loaded.snapshot, len(loaded.turns)) == (None, 3)


@pytest.mark.parametrize(("size", "letters"), [(LIMIT - OVERHEAD, 0), (LIMIT + 1, 1)])
@quickly
async def test_a_jobs_result_is_refused_above_the_limit(size, letters, store):
    async with limited(store, printer(size)) as runtime:
        await runtime.enqueue(Blob(""))
        await check_numbers(runtime, store)
        assert len(await store.inner.dead_letters()) == letters
        assert await store.inner.outbox() == []


@pytest.mark.parametrize("count", [100, 101])
@quickly
async def test_a_message_has_a_hundred_headers_at_most(count, memory):
    async with ledgers(memory) as runtime:
        headers = {f"h-{n}": "x" for n in range(count)}
        if count <= 100:
            await runtime.publish(Opened("x"), headers=headers)
        else:
            with pytest.raises(CorrelationFailed, match="101 headers"):
                await runtime.publish(Opened("x"), headers=headers)


# Poison


@pytest.mark.parametrize("saga", poison.ATTEMPTS)
@pytest.mark.parametrize("why", ["no", "never"])
@in_loop(60)
async def test_poison_slows_nobody_and_ends_after_exactly_its_attempts(saga, why):
    figures = await poison.poison(saga, why=why)
    assert figures["p99 ratio"] <= 1.2
    assert figures["turns ratio"] <= 1.1
    assert figures["commits ratio"] <= 1.2


# Receivers that are down, and starts


@in_loop(60)
async def test_the_jobs_of_a_receiver_that_is_down_wait_on_disk_and_hold_up_no_other_queue(
    tmp_path,
):
    await backlog.receiver_down(tmp_path)


@in_loop(60)
async def test_a_start_over_very_many_jobs_and_instances_does_not_read_them_all(tmp_path):
    sizes = backlog.Sizes()
    figures = await backlog.start_over_backlog(tmp_path, sizes)
    assert figures["rows read"] <= 4 * sizes.window
