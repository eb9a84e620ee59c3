"""Jobs in the store whose queue the runtime does not have: adopted by who takes them, or named."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure import (
    Effects,
    Fixed,
    MemoryStore,
    OrderedSaga,
    ProcessManager,
    Runtime,
    WorkQueue,
    continues,
    message,
    starts,
)
from perdure.codec import Codec, TypeRegistry
from perdure.core.commit import OutboxKind, OutboxRow, QueueRow, Settlement
from perdure.errors import StoreUnavailable, Unroutable
from perdure.testing import SimulatedClock
from tests.effort import times
from tests.runtime.errands import (
    Asked,
    Do,
    Done,
    Errand,
    ErrandState,
    Noticed,
    Undo,
    desk,
    errand_of,
    errands,
    letters,
    queue_of,
)
from tests.runtime.support import quickly, reopened

DAY = timedelta(days=1)


def runtime_of(store: Any, *members: Any, where: Any = None, clock: Any = None) -> Runtime:
    return Runtime(store, members, resources={"desk": where}, clock=clock)


def failing(command: Do, job: Any) -> None:
    raise ConnectionError("no answer")


@pytest.fixture(autouse=True)
def _logged(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever other tests have done to the loggers."""
    caplog.set_level(logging.WARNING, "perdure.workers")
    caplog.set_level(logging.WARNING, "perdure.saga")


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@quickly
async def test_commands_sent_while_the_queue_was_forgotten_are_performed_when_it_is_there(store):
    where = desk()
    async with runtime_of(store, Errand) as runtime:
        await runtime.publish(Asked("e-1", count=3))
        assert [row.target for row in await runtime.store.outbox()] == ["runtime-test.do"] * 3
    async with runtime_of(reopened(store), Errand, queue_of(), where=where) as runtime:
        await runtime.settled()
        assert (await errand_of(runtime)).done == ("do",) * 3
        assert await runtime.store.outbox() == []
    assert [job.key for job in where.jobs] == [f"{Errand.name}/e-1/1/{n}" for n in range(3)]


@quickly
async def test_the_log_names_the_forgotten_queue_when_sending_and_when_they_are_adopted(
    memory, caplog
):
    async with runtime_of(memory, Errand) as runtime:
        await runtime.publish(Asked("e-1", count=3))
        await runtime.publish(Asked("e-2"))
    (sent,) = said(caplog)
    assert "nobody performs the jobs of queue 'runtime-test.do'" in sent
    caplog.clear()
    async with runtime_of(reopened(memory), Errand) as runtime:
        pass
    (waits,) = said(caplog)
    assert "'runtime-test.do' in this runtime; 4 of them wait" in waits
    caplog.clear()
    async with runtime_of(reopened(memory), Errand, queue_of(), where=desk()) as runtime:
        await runtime.settled()
    assert [line for line in said(caplog) if "attempt" not in line] == [
        "4 jobs of queue 'runtime-test.do', which this runtime does not have, go to queue 'work', "
        "which can take them"
    ]


@quickly
async def test_jobs_of_a_renamed_queue_go_to_the_one_that_takes_them_now(store):
    clock, where = SimulatedClock(), desk(do=failing)
    old, new = (queue_of(name, Fixed(3600, max_attempts=3)) for name in ("mail", "emails"))
    async with errands(where, old, store=store, clock=clock) as runtime:
        await runtime.enqueue(Do("x"), job_id="j-1")
        await runtime.enqueue(Do("y"), job_id="j-2", delay=DAY)
        await runtime.settled()
    assert where.attempts() == [1]
    async with errands(where, new, store=reopened(store), clock=clock) as runtime:
        await runtime.settled()
        assert await runtime.queue("emails").depth() == 2
        await runtime.enqueue(Do("x"), job_id="j-1")
        assert await runtime.queue("emails").depth() == 2
        assert where.attempts() == [1]  # its next try has not come
        await clock.advance(timedelta(hours=1))
        assert where.attempts() == [1, 2]
        where.deeds["do"] = lambda command, job: None
        await clock.advance(DAY)
        assert [(job.key, job.attempt) for job in where.jobs[2:]] == [("j-1", 3), ("j-2", 1)]
        assert await runtime.store.outbox() == []


@quickly
async def test_who_paused_the_old_queue_has_paused_the_new_one(store):
    where = desk()
    async with errands(where, queue_of("mail"), store=store) as runtime:
        await runtime.queue("mail").pause("the provider moves house")
        await runtime.enqueue(Do("x"))
    for _ in range(2):  # it is kept over a restart
        async with errands(where, queue_of("emails"), store=reopened(store)) as runtime:
            await runtime.settled()
            assert runtime.queue("emails").pause_reason == "the provider moves house"
            assert where.jobs == []
    async with errands(where, queue_of("emails"), store=reopened(store)) as runtime:
        await runtime.queue("emails").resume()
        await runtime.settled()
        assert len(where.jobs) == 1
    async with errands(where, queue_of("emails"), store=reopened(store)) as runtime:
        assert not runtime.queue("emails").is_paused


@quickly
async def test_a_command_that_two_queues_take_waits_and_is_named(store, caplog):
    where = desk()
    async with errands(where, queue_of("mail"), store=store) as runtime:
        await runtime.queue("mail").pause()
        await runtime.enqueue(Do("x"))
    caplog.clear()
    async with errands(where, queue_of("a"), queue_of("b"), store=reopened(store)) as runtime:
        await runtime.settled()
        assert [row.target for row in await runtime.store.outbox()] == ["mail"]
        assert where.jobs == []
    assert [line for line in said(caplog) if "'mail'" in line] == [
        "nobody performs the jobs of queue 'mail' in this runtime; 1 of them wait; they are kept "
        "until a runtime has workers for them"
    ]


@quickly
async def test_a_queue_of_the_runtime_keeps_its_jobs_though_another_could_take_them(store):
    where, elsewhere = desk(), WorkQueue("elsewhere")
    async with errands(where, queue_of(), elsewhere, store=store) as runtime:
        await runtime.enqueue(Do("x"), queue="elsewhere")
    async with errands(where, queue_of(), elsewhere, store=reopened(store)) as runtime:
        await runtime.settled()
        assert [row.target for row in await runtime.store.outbox()] == ["elsewhere"]


@quickly
async def test_what_nobody_can_take_is_kept_and_named_once(store, caplog):
    other = WorkQueue("other", retry=Fixed(1))

    @other.worker
    async def hear(command: Asked) -> None: ...

    async with errands(desk(do=failing), queue_of(retry=Fixed(60)), store=store) as runtime:
        await runtime.enqueue(Do("x"), delay=DAY)
        await runtime.settled()
    caplog.clear()
    clock = SimulatedClock()
    async with runtime_of(reopened(store), other, clock=clock) as runtime:
        await clock.advance(36_500 * DAY)
        assert [row.target for row in await runtime.store.outbox()] == ["work"]
    assert len(said(caplog)) == 1


@message(name="adopting-test.asked-for-more")
class AskedForMore:
    id: str


class InOrder(ProcessManager[ErrandState]):
    """One command after another."""

    name = "adopting-test.in-order"

    @starts(AskedForMore, by="id")
    def asked(self, state: ErrandState, event: AskedForMore, do: Effects) -> None:
        for number in range(3):
            do.send(Do(event.id, number=number), after_previous=number > 0)

    @continues(Done, by="id")
    def done(self, state: ErrandState, event: Done, do: Effects) -> None: ...


@quickly
async def test_those_that_follow_one_another_still_do(store):
    order: list[int] = []
    where = desk(do=lambda command, job: order.append(command.number))
    async with runtime_of(store, InOrder) as runtime:
        await runtime.publish(AskedForMore("x"))
    async with runtime_of(reopened(store), InOrder, queue_of(), where=where) as runtime:
        await runtime.settled()
        assert order == [0, 1, 2]
        assert await runtime.store.outbox() == []


@message(name="adopting-test.quote")
class Quote:
    id: str


class Asker(ProcessManager[ErrandState]):
    name = "adopting-test.asker"

    @starts(AskedForMore, by="id")
    def asked(self, state: ErrandState, event: AskedForMore, do: Effects) -> None:
        do.send(Quote(event.id))


class Quoter(ProcessManager[ErrandState]):
    name = "adopting-test.quoter"

    @starts(Quote, by="id")
    def quote(self, state: ErrandState, event: Quote, do: Effects) -> None: ...


@pytest.mark.parametrize("queues", [[], [queue_of()]])
@quickly
async def test_a_saga_that_was_forgotten_takes_its_commands_when_it_is_there(store, queues):
    async with runtime_of(store, Asker) as runtime:
        await runtime.publish(AskedForMore("x"))
    again = runtime_of(reopened(store), Asker, Quoter, *queues, where=desk())
    async with again as runtime:
        await runtime.settled()
        assert await runtime.state(runtime.ref(Quoter, "x")) is not None
        assert await runtime.store.outbox() == []


@quickly
async def test_a_dead_letter_of_a_renamed_queue_is_redriven_into_the_new_one(store):
    where = desk(do=failing)
    once = Fixed(0, max_attempts=1)
    async with errands(where, queue_of("mail", once), store=store) as runtime:
        await runtime.publish(Asked("e-1"))
        await runtime.settled()
        assert [letter.queue for letter in await letters(runtime)] == ["mail"]
    where.deeds["do"] = lambda command, job: Done(command.id)
    async with errands(where, queue_of("emails"), store=reopened(store)) as runtime:
        assert await runtime.dead_letters.redrive_all(queue="mail") == 1
        await runtime.settled()
        assert (await errand_of(runtime)).done == ("do",)
        assert await runtime.store.outbox() == []


@pytest.mark.parametrize("after_commit", [False, True])
@quickly
async def test_a_start_that_fails_while_it_adopts_loses_and_doubles_nothing(store, after_commit):
    where = desk()
    async with runtime_of(store, Errand) as runtime:
        await runtime.publish(Asked("e-1", count=5))
    again = reopened(store)
    again.fail_writes(1, after_commit=after_commit)
    with pytest.raises(StoreUnavailable):
        async with runtime_of(again, Errand, queue_of(), where=where) as runtime:
            raise AssertionError("it cannot have started")
    assert where.jobs == []
    async with runtime_of(reopened(again), Errand, queue_of(), where=where) as runtime:
        await runtime.settled()
        assert (await errand_of(runtime)).done == ("do",) * 5
    assert sorted(job.key for job in where.jobs) == [f"{Errand.name}/e-1/1/{n}" for n in range(5)]


@quickly
async def test_a_damaged_row_among_them_keeps_no_runtime_from_starting(tmp_path, caplog):
    url = f"sqlite+aiosqlite:///{tmp_path}/store.db"
    async with runtime_of(url, Errand) as runtime:
        await runtime.publish(Asked("e-1", count=2))
    with sqlite3.connect(tmp_path / "store.db") as connection:
        connection.execute("UPDATE outbox SET version = 99 WHERE idx = 0")
    connection.close()
    where = desk()
    async with runtime_of(url, Errand, queue_of(), where=where) as runtime:
        await runtime.publish(Asked("e-2"))
        await runtime.settled()
        assert (await errand_of(runtime, "e-2")).done == ("do",)
    assert any("passed over" in line and "e-1" in line for line in said(caplog))
    assert any("1 of them wait" in line for line in said(caplog))


@quickly
async def test_more_than_a_page_of_them_are_adopted(memory):
    where = desk()
    async with runtime_of(memory, Errand) as runtime:
        for number in range(3):
            await runtime.publish(Asked(f"e-{number}", count=900))
    async with runtime_of(reopened(memory), Errand, queue_of(), where=where) as runtime:
        await runtime.settled()
    assert len({job.key for job in where.jobs}) == len(where.jobs) == 2_700


def trip_of(name: str, performed: list[str]) -> OrderedSaga:
    trip = OrderedSaga(name, AskedForMore, by="id")

    @trip.step
    async def go(trip: AskedForMore) -> None:
        performed.append(name)

    @trip.compensates(go)
    async def go_back(trip: AskedForMore) -> None: ...

    return trip


@quickly
async def test_the_steps_of_one_saga_are_not_taken_for_those_of_another(store):
    performed: list[str] = []
    walk, ride = trip_of("walk", performed), trip_of("ride", performed)
    async with Runtime(store, [walk, ride]) as runtime:
        for trip in (walk, ride):
            await runtime.queue(f"{trip.name}.go").pause()
        await runtime.publish(AskedForMore("x"))
        await runtime.settled()
    again = reopened(store)
    async with Runtime(again, [ride]) as runtime:
        await runtime.queue("ride.go").resume()
        await runtime.settled()
        assert performed == ["ride"]
        assert [row.target for row in await again.outbox()] == ["walk.go"]


TARGETS = ["work", "extra", "elsewhere", "gone", "runtime-test.do", "runtime-test.undo"]
waiting_rows = st.lists(
    st.tuples(
        st.sampled_from(TARGETS),
        st.sampled_from([Do("x"), Undo("x", 1), Noticed("x")]),
        st.sampled_from(OutboxKind),
        st.integers(0, 3),
        st.booleans(),
    ),
    max_size=12,
)


@settings(max_examples=times(60))
@given(waiting_rows)
def test_adopting_changes_nothing_of_a_row_but_whose_it_is(drawn):
    """``work`` takes Do and Undo, ``extra`` Undo as well: an Undo of a lost queue has no heir."""
    codec = Codec(TypeRegistry([Do, Undo, Noticed]))
    rows = [
        OutboxRow(
            "", 0, 0, kind, target, *codec.encode(content), 5, number + 1, f"j-{number}",
            attempts=attempts, due_at_ms=7 if is_due else 10**15, error="no" if attempts else "",
        )
        for number, (target, content, kind, attempts, is_due) in enumerate(drawn)
    ]  # fmt: skip
    extra = WorkQueue("extra")
    extra.worker(commands=[Undo])(lambda command: None)

    async def adopted() -> list[OutboxRow]:
        store = MemoryStore()
        await store.open()
        paused = [QueueRow(name, True, "stay", 1) for name in ("work", "extra")]
        await store.write([Settlement("", outbox=tuple(rows)), *paused])
        await store.close()
        members = [queue_of(), extra, WorkQueue("elsewhere")]
        async with runtime_of(store, *members, where=desk()) as runtime:
            await runtime.settled()
            return await runtime.store.outbox()

    def heir(row: OutboxRow) -> str:
        is_lost = row.target not in ("work", "extra", "elsewhere")
        is_taken = row.kind is OutboxKind.COMMAND and row.type == "runtime-test.do"
        return "work" if is_lost and is_taken else row.target

    assert asyncio.run(adopted()) == [replace(row, target=heir(row)) for row in rows]


@pytest.mark.parametrize("queue", [None, "work"])
@quickly
async def test_without_any_queue_nothing_can_be_enqueued(memory, queue):
    async with runtime_of(memory, Errand) as runtime:
        with pytest.raises(Unroutable, match=r"takes runtime-test\.do: .*no work queue; give it"):
            await runtime.enqueue(Do("x"), queue=queue, job_id="j-1")
        assert await runtime.store.outbox() == []
