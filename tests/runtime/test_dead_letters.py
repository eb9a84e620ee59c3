"""Dead letters: kept whole, listed, redriven once however often it is pressed, discarded."""

import asyncio
from datetime import timedelta

import pytest

from perdure import MemoryStore, NonRetryable, SqlStore
from perdure.errors import HandlerFailed
from perdure.testing import FaultyStore, SimulatedClock
from tests.runtime.errands import Asked, Do, Done, desk, errand_of, errands, letters
from tests.runtime.support import items, ledgers, open_ledger, quickly, reopened
from tests.sagas import STRIKES, Ledger, Struck


@pytest.fixture(params=["memory", "sqlite"])
def store(request, tmp_path):
    if request.param == "memory":
        return FaultyStore(MemoryStore())
    return FaultyStore(SqlStore(f"sqlite+aiosqlite:///{tmp_path}/d.db", synchronous="NORMAL"))


def declined(command, job):
    raise NonRetryable("declined")


@quickly
async def test_a_redriven_command_begins_anew_and_its_result_is_applied(store):
    where = desk(do=declined)
    async with errands(where, store=store) as runtime:
        await runtime.publish(Asked("e-1"))
        await runtime.settled()
        (letter,) = await letters(runtime)
    where.deeds["do"] = lambda command, job: Done(command.id)
    async with errands(where, store=reopened(store)) as runtime:
        assert await runtime.dead_letters.redrive(letter.id)
        await runtime.settled()
        state = await errand_of(runtime)
        assert (state.failed, state.done) == (("non-retryable",), ("do",))
        assert await letters(runtime) == []
    assert where.attempts() == [1, 1]
    assert where.jobs[0].key == where.jobs[1].key


@quickly
async def test_pressed_twice_or_at_once_a_redrive_applies_once(store):
    where = desk(do=declined)
    async with errands(where, store=store) as runtime:
        await runtime.publish(Asked("e-1"))
        await runtime.settled()
        (letter,) = await letters(runtime)
        where.deeds["do"] = lambda command, job: Done(command.id)
        pressed = await asyncio.gather(*(runtime.dead_letters.redrive(letter.id) for _ in range(5)))
        assert sorted(pressed) == [False] * 4 + [True]
        await runtime.settled()
        assert not await runtime.dead_letters.redrive(letter.id)
        assert (await errand_of(runtime)).done == ("do",)


@quickly
async def test_letters_are_listed_and_redriven_by_filter(store):
    where = desk(do=declined, other=declined)
    async with errands(where, store=store) as runtime:
        for number in range(3):
            await runtime.publish(Asked(f"e-{number}"))
        await runtime.enqueue(Do("free"))
        await runtime.settled()
        assert len(await letters(runtime)) == 4
        assert [found.content.id for found in await letters(runtime, saga="")] == ["free"]
        assert len(await letters(runtime, queue="work", reason="non-retryable")) == 4
        where.deeds["do"] = lambda command, job: Done(command.id)
        assert await runtime.dead_letters.redrive_all(saga="runtime-test.errand") == 3
        await runtime.settled()
        assert [found.saga for found in await letters(runtime)] == [""]
        assert await runtime.dead_letters.discard_all() == 1
        assert await letters(runtime) == []


@quickly
async def test_a_discarded_letter_is_gone(store):
    async with errands(desk(do=declined), store=store) as runtime:
        await runtime.publish(Asked("e-1"))
        await runtime.settled()
        (letter,) = await letters(runtime)
        assert await runtime.dead_letters.discard(letter.id)
        assert not await runtime.dead_letters.discard(letter.id)
        assert not await runtime.dead_letters.redrive(letter.id)
        assert await letters(runtime) == []


@quickly
async def test_a_redriven_message_is_applied_once(store):
    def fail(state):
        raise ValueError("not yet")

    STRIKES["redriven"] = fail
    async with ledgers(store) as runtime:
        ref = await open_ledger(runtime)
        with pytest.raises(HandlerFailed):
            await runtime.send(ref, Struck("x", "redriven"), message_id="m-1")
        (letter,) = await letters(runtime)
        assert (letter.saga, letter.correlation_id, letter.message_id) == (Ledger.name, "x", "m-1")
        assert letter.content == Struck("x", "redriven")
        STRIKES["redriven"] = lambda state: None
        pressed = await asyncio.gather(*(runtime.dead_letters.redrive(letter.id) for _ in range(3)))
        assert sorted(pressed) == [False, False, True]
        await runtime.settled()
        entries = [entry async for entry in runtime.history(ref)]
        assert [entry.message_id for entry in entries].count("m-1") == 1
        assert await store.inner.inbox() == []
        assert await letters(runtime) == []


@quickly
async def test_a_redriven_message_that_fails_again_is_one_letter_again(store):
    def fail(state):
        raise ValueError("still not")

    STRIKES["redriven"] = fail
    async with ledgers(store) as runtime:
        ref = await open_ledger(runtime)
        with pytest.raises(HandlerFailed):
            await runtime.send(ref, Struck("x", "redriven"), message_id="m-1")
        (letter,) = await letters(runtime)
        await runtime.dead_letters.redrive(letter.id)
        await runtime.settled()
        (again,) = await letters(runtime)
        assert again.message_id == "m-1"
        assert again.id != letter.id
        assert await store.inner.inbox() == []
        assert await items(runtime, ref) == []


@pytest.mark.parametrize("after_commit", [True, False])
@quickly
async def test_a_failure_whose_commit_has_no_answer_is_told_and_buried_once(after_commit, store):
    where = desk(do=declined)
    clock = SimulatedClock()
    async with errands(where, store=store, clock=clock) as runtime:
        await runtime.queue("work").pause()
        await runtime.publish(Asked("e-1"))
        await runtime.queue("work").resume()
        store.fail_writes(1, after_commit=after_commit)
        await clock.advance(timedelta(seconds=10))
        assert (await errand_of(runtime)).failed == ("non-retryable",)
        assert len(await letters(runtime)) == 1
        assert await store.inner.outbox() == []
