"""Dead letters: kept whole, listed, redriven once however often it is pressed, discarded."""

import asyncio
import logging
from datetime import timedelta
from typing import Any

import pytest

from perdure import (
    Fixed,
    MemoryStore,
    NonRetryable,
    ProcessManager,
    Runtime,
    SqlStore,
    WorkQueue,
    message,
    starts,
)
from perdure.errors import (
    DefinitionError,
    HandlerFailed,
    StoreError,
    UnknownMessageType,
    UnknownQueue,
    UnknownSaga,
    UnregisteredType,
    Unroutable,
)
from perdure.testing import FaultyStore, SimulatedClock
from tests.runtime.errands import (
    Asked,
    Do,
    Done,
    Errand,
    ErrandState,
    Noticed,
    desk,
    errand_of,
    errands,
    letters,
    queue_of,
)
from tests.runtime.support import items, ledgers, open_ledger, parts, quickly, reopened
from tests.sagas import STRIKES, Added, Closed, Ledger, Struck


@pytest.fixture(params=["memory", "sqlite"])
def store(request, tmp_path):
    if request.param == "memory":
        return FaultyStore(MemoryStore())
    return FaultyStore(SqlStore(f"sqlite+aiosqlite:///{tmp_path}/d.db", synchronous="NORMAL"))


@message(name="letters-test.astray")
class Astray:
    id: str


class Lost(ProcessManager[ErrandState]):
    name = "letters-test.lost"

    @starts(Astray, by="id")
    def astray(self, state, event, do):
        do.send(Closed("nobody takes it"))


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
async def test_letters_are_asked_for_by_what_they_are_of_or_by_its_name(store):
    where, queue = desk(do=declined), queue_of()
    async with errands(where, queue, store=store) as runtime:
        await runtime.publish(Asked("e-1"))
        await runtime.settled()
        (letter,) = await letters(runtime)
        known: list[dict[str, Any]] = [
            {"saga": Errand},
            {"saga": Errand.name},
            {"queue": queue},
            {"queue": "work"},
            {"type": Do},
            {"type": "runtime-test.do"},
            {"saga": Errand, "queue": queue, "type": Do, "reason": "non-retryable"},
        ]
        for filters in known:
            assert await letters(runtime, **filters) == [letter]
        others: list[dict[str, Any]] = [
            {"saga": ""},
            {"queue": ""},
            {"type": Done},
            {"reason": "exhausted"},
            {"after": letter.id, "queue": "another"},
        ]
        for filters in others:
            assert await letters(runtime, **filters) == []
        assert await runtime.dead_letters.redrive_all(queue=queue, type=Do) == 1
        await runtime.settled()
        assert await runtime.dead_letters.discard_all(saga=Errand) == 1


@pytest.mark.parametrize(
    ("filters", "kind", "said"),
    [
        ({"saga": "Order"}, UnknownSaga, "does not run 'Order'"),
        ({"saga": Ledger}, UnknownSaga, "does not run 'Ledger'"),
        ({"saga": 5}, UnknownSaga, "does not run 5"),
        ({"queue": "wrok"}, UnknownQueue, "'wrok', and no dead letter is of it"),
        ({"queue": WorkQueue("other")}, UnknownQueue, "'other'"),
        ({"type": "Shp"}, UnknownMessageType, "no class for type 'Shp'"),
        ({"type": int}, UnregisteredType, "int"),
        ({"saga": "Order", "queue": "work"}, UnknownSaga, "'Order'"),
    ],
)
@quickly
async def test_a_name_that_nothing_bears_is_refused_before_anything_is_done(filters, kind, said):
    async with errands(desk(do=declined)) as runtime:
        await runtime.publish(Asked("e-1"))
        await runtime.settled()
        for do in (runtime.dead_letters.redrive_all, runtime.dead_letters.discard_all):
            with pytest.raises(kind, match=said):
                await do(**filters)
        with pytest.raises(kind, match=said):
            await letters(runtime, **filters)
        assert len(await letters(runtime)) == 1


@quickly
async def test_letters_of_what_is_gone_from_the_code_are_found_by_its_name(store):
    async with errands(desk(do=declined), queue_of("mail"), store=store) as runtime:
        await runtime.publish(Asked("e-1"))
        await runtime.settled()
    async with Runtime(reopened(store), [Ledger, WorkQueue("other")]) as runtime:
        assert len(await letters(runtime, saga=Errand.name, queue="mail")) == 1
        assert len(await letters(runtime, saga=Errand)) == 1
        assert await runtime.dead_letters.discard_all(queue="mail") == 1


@pytest.mark.parametrize("wrong", ["1", None, 1.5])
@quickly
async def test_what_is_no_id_of_a_letter_is_refused(wrong):
    async with errands(desk()) as runtime:
        for do in (runtime.dead_letters.redrive, runtime.dead_letters.discard):
            with pytest.raises(
                DefinitionError, match=r"is no id of a dead letter; give letter\.id"
            ):
                await do(wrong)


@quickly
async def test_a_letter_says_whether_an_instance_was_told_of_the_failure(store):
    heard = WorkQueue("heard", retry=Fixed(1, max_attempts=1))

    @heard.subscriber
    async def hear(event: Noticed) -> None:
        raise NonRetryable("deaf")

    def told(command, job):
        job.emit(Noticed(command.id), anyway=True)
        raise NonRetryable("declined")

    where = desk(do=told)
    async with errands(where, queue_of(), heard, store=store, sagas=(Errand, Lost)) as runtime:
        await runtime.publish(Asked("e-1"))
        await runtime.enqueue(Do("free"))
        await runtime.settled()
        found = [(letter.queue, letter.saga, letter.is_told) for letter in await letters(runtime)]
        assert sorted(found) == [
            ("heard", "", False),
            ("heard", Errand.name, False),
            ("work", "", False),
            ("work", Errand.name, True),
        ]
        with pytest.raises(Unroutable):
            await runtime.publish(Astray("a"))
        (letter,) = await letters(runtime, type=Astray)
        assert not letter.is_told


@quickly
async def test_a_result_that_comes_after_the_end_is_named_in_the_log(caplog):
    caplog.set_level(logging.INFO, "perdure.workers")
    where = desk(last=lambda command, job: Done(command.id, "last"))
    async with errands(where, queue_of(concurrency=1)) as runtime:
        await runtime.publish(Asked("e-1", how="last", count=2))
        await runtime.settled()
    (line,) = [one.getMessage() for one in caplog.records if "had ended" in one.getMessage()]
    assert line == (
        "the result runtime-test.done of job runtime-test.errand/e-1/1/1 came after "
        "runtime-test.errand/e-1 had ended, and changes nothing"
    )


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
async def test_a_redrive_whose_answer_is_lost_is_read_back_until_the_store_answers(store):
    """Found by the simulation: after one failed read it lay in the inbox till a restart."""

    def fail(state):
        raise ValueError("not yet")

    STRIKES["redriven"] = fail
    async with ledgers(store) as runtime:
        ref = await open_ledger(runtime)
        with pytest.raises(HandlerFailed):
            await runtime.send(ref, Struck("x", "redriven"), message_id="m-1")
        (letter,) = await letters(runtime)
        STRIKES["redriven"] = lambda state: None
        store.fail_writes(1, after_commit=True)
        store.fail_loads(3)
        with pytest.raises(StoreError):
            await runtime.dead_letters.redrive(letter.id)
        async with asyncio.timeout(10):
            while await store.inner.inbox():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        entries = [entry async for entry in runtime.history(ref)]
        assert [entry.message_id for entry in entries].count("m-1") == 1
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


@quickly
async def test_a_redriven_message_of_a_passive_instance_is_tried_once(store):
    tried = []

    def fail(state):
        tried.append(1)
        raise ValueError("still not")

    STRIKES["redriven"] = fail
    async with ledgers(store) as runtime:
        ref = await open_ledger(runtime)
        with pytest.raises(HandlerFailed):
            await runtime.send(ref, Struck("x", "redriven"), message_id="m-1")
        for count in (2, 3, 4):
            assert parts(runtime).supervisor.passivate(ref.key)
            assert await runtime.dead_letters.redrive_all() == 1
            await runtime.settled()
            assert len(await letters(runtime)) == 1
            assert len(tried) == count
            assert await store.inner.inbox() == []


@quickly
async def test_a_redriven_message_is_tried_once_though_its_instance_is_read_meanwhile(store):
    """The instance begins between the write and the delivery, as often as the loop allows."""
    tried = []

    def fail(state):
        tried.append(1)
        raise ValueError("still not")

    STRIKES["redriven"] = fail
    async with ledgers(store) as runtime:
        ref = await open_ledger(runtime)
        with pytest.raises(HandlerFailed):
            await runtime.send(ref, Struck("x", "redriven"), message_id="m-1")
        for turns in range(12):
            assert parts(runtime).supervisor.passivate(ref.key)
            redriving = asyncio.create_task(runtime.dead_letters.redrive_all())
            for _ in range(turns):
                await asyncio.sleep(0)
            await runtime.publish(Added("x", turns))
            assert await redriving == 1
            await runtime.settled()
            assert len(await letters(runtime)) == 1
            assert len(tried) == turns + 2
            assert await store.inner.inbox() == []


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
