"""What user code may do wrong, and that it harms nobody else."""

from __future__ import annotations

import asyncio

import pytest

from perdure import Outcome, ProcessManager, Runtime, Settings, applies, errors, starts
from tests.runtime.support import (
    add,
    adding,
    items,
    ledgers,
    open_ledger,
    parts,
    quickly,
    reopened,
    view_of,
)
from tests.sagas import (
    STRIKES,
    Added,
    Basket,
    Filled,
    Ledger,
    LedgerState,
    Opened,
    Struck,
)

KINDS = {
    "error": (errors.HandlerFailed, ValueError),
    "exit": (errors.HandlerFailed, SystemExit),
    "interrupt": (errors.HandlerFailed, KeyboardInterrupt),
    "cancelled": (errors.HandlerFailed, asyncio.CancelledError),
    "unprintable": (errors.HandlerFailed, Exception),
    "surrogate": (errors.HandlerFailed, ValueError),
    "nul": (errors.HandlerFailed, ValueError),
    "nonsense": (errors.InvalidEffect, None),
    "text": (errors.InvalidEffect, None),
    "mixed": (errors.InvalidEffect, None),
    "unregistered": (errors.HandlerFailed, errors.UnregisteredType),
    "twice": (errors.InvalidEffect, None),
}


@pytest.mark.parametrize("how", STRIKES)
@quickly
async def test_a_turn_that_fails_leaves_nothing_but_a_dead_letter(store, how):
    kind, cause = KINDS[how]
    async with ledgers(store, retry_pause_s=0.001, shutdown_timeout_s=0.5) as runtime:
        ref, other = await open_ledger(runtime), await open_ledger(runtime, "y")
        await add(runtime, ref, 2)
        before = await runtime.state(ref)
        striking = asyncio.create_task(runtime.send(ref, Struck("x", how), message_id="bad"))
        beside = adding(runtime, other, 1) + adding(runtime, ref, 4)
        async with asyncio.timeout(3):
            with pytest.raises(kind) as caught:
                await striking
            assert [r.outcome for r in await asyncio.gather(*beside)] == [Outcome.APPLIED] * 2
        assert (caught.value.saga, caught.value.correlation_id) == ("Ledger", "x")
        assert caught.value.remedy
        if cause is not None:
            assert isinstance(caught.value.__cause__, cause)
        (letter,) = await store.inner.dead_letters()
        assert (letter.instance, letter.message_id, letter.type) == (
            "Ledger/x", "bad", "runtime-test.struck",
        )  # fmt: skip
        assert letter.reason
        assert letter.error
        after = await runtime.state(ref)
        assert after is not None
        assert before is not None
        assert (after.sequence_nr, after.deadlines) == (before.sequence_nr + 1, {})
        assert (after.state.items, after.state.doubled) == ((2, 4), 0)
        assert await store.inner.deadlines() == []
        assert {row.instance for row in await store.inner.outbox()} == {"Ledger/x", "Ledger/y"}
        assert len(await store.inner.outbox()) == 3
        ref.stop(block=False)
        assert await items(runtime, ref) == [2, 4]


@quickly
async def test_a_dead_letter_holds_the_message_whole(store):
    async with ledgers(store) as runtime:
        ref = await open_ledger(runtime)
        with pytest.raises(errors.HandlerFailed):
            await runtime.send(
                ref, Struck("x", "error"), correlation_id="k", headers={"tenant": "blue"}
            )
        (letter,) = await store.inner.dead_letters()
        waiting = parts(runtime).services.journal.decode_waiting(letter.message_id, letter.body)
        assert waiting.message.content == Struck("x", "error")
        assert (waiting.message.correlation_id, waiting.message.headers) == (
            "k", {"tenant": "blue"},
        )  # fmt: skip
        assert "Traceback" in letter.error
        assert "ValueError: struck" in letter.error
        assert letter.attempts == 1


@quickly
async def test_a_state_changed_in_place_is_as_before_when_the_turn_fails(store):
    async with Runtime(store, [Basket]) as runtime:
        ref = runtime.ref(Basket, "b")
        await runtime.publish(Filled("b", [1]))
        for _ in range(3):
            with pytest.raises(errors.HandlerFailed):
                await runtime.publish(Filled("b", [2], fails=True))
        view = await runtime.state(ref)
        assert view is not None
        assert view.state.items == [1]
        view.state.items.append(77)  # the looker's own
        await runtime.publish(Filled("b", [3]))
        live = await runtime.state(ref)
        assert live is not None
        assert live.state.items == [1, 3]
        ref.stop(block=False)
        assert await runtime.state(ref) == live


class BadFold(ProcessManager[LedgerState]):
    name = "BadFold"

    @starts(Opened, Added, by="id")
    def any(self, state, event, do): ...

    @applies(Added)
    def fold(self, state, event):
        if event.n == 0:
            raise ZeroDivisionError("cannot fold")
        return None if event.n == 1 else LedgerState((event.n,), status="\ud800" * (event.n == 2))


@quickly
async def test_a_fold_that_raises_or_gives_nonsense_is_refused_before_it_is_written(store):
    async with Runtime(
        store, [BadFold], Settings(snapshot_every=1, shutdown_timeout_s=0.5)
    ) as runtime:
        await runtime.publish(Opened("x"))
        with pytest.raises(errors.HandlerFailed, match="cannot fold"):
            await runtime.publish(Added("x", 0))
        with pytest.raises(errors.InvalidEffect, match="apply returned None"):
            await runtime.publish(Added("x", 1))
        async with asyncio.timeout(2):
            await runtime.publish(Added("x", 2))  # its state cannot be a snapshot
            await runtime.publish(Added("x", 3))
        assert len(await store.inner.journal("BadFold/x")) == 3
    async with Runtime(reopened(store), [BadFold]) as runtime:
        assert (await view_of(runtime, runtime.ref(BadFold, "x"))).state.items == (3,)


@quickly
async def test_a_start_that_fails_starts_nothing(store):
    async with Runtime(store, [BadFold, Basket]) as runtime:
        with pytest.raises(errors.HandlerFailed):
            await runtime.publish(Added("x", 0))
        assert await runtime.state(runtime.ref(BadFold, "x")) is None
        with pytest.raises(errors.HandlerFailed):
            await runtime.publish(Filled("b", [1], fails=True))
        assert [view async for view in runtime.instances(Basket)] == []
        assert len(await store.inner.dead_letters()) == 2
        (receipt,) = await runtime.publish(Added("x", 3))
        assert receipt.sequence_nr == 1


@quickly
async def test_one_poisonous_instance_among_many(store):
    async with ledgers(store) as runtime:
        refs = [await open_ledger(runtime, str(n)) for n in range(20)]
        poison = [runtime.send(refs[0], Struck("0", "error")) for _ in range(50)]
        healthy = [task for ref in refs for task in adding(runtime, ref, 1, 2, 3)]
        failed = await asyncio.gather(*poison, return_exceptions=True)
        assert {type(one) for one in failed} == {errors.HandlerFailed}
        assert {r.outcome for r in await asyncio.gather(*healthy)} == {Outcome.APPLIED}
        assert len(await store.inner.dead_letters()) == 50
        for ref in refs:
            assert await items(runtime, ref) == [1, 2, 3]


@quickly
async def test_recorded_events_are_folded_also_after_a_restart(store):
    async with ledgers(store) as runtime:
        ref = await open_ledger(runtime)
        await add(runtime, ref, 1, 2, 3)
        before = await runtime.state(ref)
        assert before is not None
        assert before.state.doubled == 8
    async with ledgers(reopened(store)) as runtime:
        assert await runtime.state(runtime.ref(Ledger, "x")) == before


@pytest.mark.parametrize("written", [False, True])
@quickly
async def test_a_dead_letter_whose_write_fails_is_written_in_the_end(store, written):
    async with ledgers(store, retry_pause_s=0.001) as runtime:
        ref = await open_ledger(runtime)
        store.fail_writes(after_commit=written)
        striking = asyncio.create_task(runtime.send(ref, Struck("x", "error")))
        later = adding(runtime, ref, 1)
        with pytest.raises(errors.HandlerFailed):
            await striking
        await asyncio.gather(*later)
        assert len(await store.inner.dead_letters()) in ((1,), (1, 2))[written]
        assert await items(runtime, ref) == [1]
