"""Commands get done: from the turn that sends one to the turn that takes its result."""

import asyncio
import threading

import pytest

from perdure import MemoryStore, Runtime, Settings, SqlStore, WorkQueue
from perdure.errors import DefinitionError, Unroutable
from perdure.testing import FaultyStore
from tests.runtime.errands import (
    Asked,
    Do,
    Done,
    Errand,
    Noticed,
    Undoing,
    desk,
    errand_of,
    errands,
    letters,
    queue_of,
    threaded_queue,
)
from tests.runtime.support import parts, quickly, reopened


@pytest.fixture(params=["memory", "sqlite"])
def store(request, tmp_path):
    if request.param == "memory":
        return FaultyStore(MemoryStore())
    url = f"sqlite+aiosqlite:///{tmp_path}/jobs.db"
    return FaultyStore(SqlStore(url, synchronous="NORMAL"))


@quickly
async def test_a_command_is_performed_and_its_result_is_applied(store):
    where = desk()
    async with errands(where, store=store) as runtime:
        await runtime.publish(Asked("e-1"))
        await runtime.settled()
        assert (await errand_of(runtime)).done == ("do",)
        assert await store.inner.outbox() == []
    (job,) = where.jobs
    assert (job.key, job.attempt, job.queue) == ("runtime-test.errand/e-1/1/0", 1, "work")
    assert (job.saga, job.instance_id) == ("runtime-test.errand", "e-1")


@quickly
async def test_the_result_is_a_turn_like_any_other_and_tells_where_it_comes_from(store):
    async with errands(desk(), store=store) as runtime:
        await runtime.publish(Asked("e-1"), message_id="m-1", correlation_id="cart-7")
        await runtime.settled()
        entries = [entry async for entry in runtime.history(runtime.ref(Errand, "e-1"))]
    result = entries[1]
    assert result.message == Done("e-1")
    assert result.message_id == "perdure.result/runtime-test.errand/e-1/1/0"
    assert result.correlation_id == "cart-7"
    assert result.causation_id == "runtime-test.errand/e-1/1/0"


@quickly
async def test_a_worker_starts_only_after_the_commit():
    store = FaultyStore(MemoryStore())
    where = desk()
    async with errands(where, store=store) as runtime:
        store.hold_writes()
        sending = runtime.publish(Asked("e-1"))
        task = asyncio.create_task(sending)
        await store.held()
        assert where.jobs == []
        store.release()
        await task
        await runtime.settled()
        assert len(where.jobs) == 1


@quickly
async def test_a_plain_function_performs_on_a_thread_of_its_own():
    threads = []
    where = desk(do=lambda command, job: threads.append(threading.current_thread()))
    async with errands(where, threaded_queue()) as runtime:
        await runtime.publish(Asked("e-1"))
        await runtime.settled()
    assert threads[0] is not threading.main_thread()
    assert threads[0].daemon


@quickly
async def test_all_commands_of_a_turn_are_performed_each_under_its_own_key(store):
    where = desk()
    async with errands(where, store=store) as runtime:
        await runtime.publish(Asked("e-1", count=25))
        await runtime.settled()
        assert (await errand_of(runtime)).done == ("do",) * 25
    assert len({job.key for job in where.jobs}) == 25


@quickly
async def test_what_was_not_performed_is_performed_by_the_next_runtime(store):
    async with Runtime(store, [Errand]) as runtime:  # without queues: the commands wait
        await runtime.publish(Asked("e-1", count=3))
        await runtime.settled()
        assert len(await store.inner.outbox()) == 3
    where = desk()
    queue = queue_of("runtime-test.do")
    async with errands(where, queue, store=reopened(store)) as runtime:
        await runtime.settled()
        assert (await errand_of(runtime)).done == ("do",) * 3
    assert where.attempts() == [1, 1, 1]


@quickly
async def test_more_jobs_than_fit_the_window_are_read_from_the_store(store):
    where = desk()
    async with errands(where, store=store, queue_window=7) as runtime:
        for number in range(20):
            await runtime.publish(Asked(f"e-{number}", count=10))
        await runtime.settled()
        assert await store.inner.outbox() == []
        for number in range(20):
            assert (await errand_of(runtime, f"e-{number}")).done == ("do",) * 10
    assert len(where.jobs) == 200


@quickly
async def test_no_query_is_made_for_jobs_that_are_handed_over_directly():
    store = FaultyStore(MemoryStore())
    async with errands(desk(), store=store) as runtime:
        await runtime.settled()
        reads = store.calls["jobs_ready"]
        for number in range(50):
            await runtime.publish(Asked(f"e-{number}"))
        await runtime.settled()
        assert store.calls["jobs_ready"] == reads


@quickly
async def test_a_command_that_no_queue_takes_fails_its_turn_and_nothing_is_kept(store):
    async with errands(desk(), WorkQueue("other"), store=store) as runtime:
        with pytest.raises(Unroutable) as raised:
            await runtime.publish(Asked("e-1"))
        assert raised.value.saga == Errand.name
        assert raised.value.correlation_id == "e-1"
        assert "Do" in str(raised.value)
        assert await store.inner.outbox() == []
        assert [letter.type for letter in await letters(runtime)] == ["runtime-test.asked"]


def test_a_missing_resource_is_an_error_of_the_definition():
    with pytest.raises(DefinitionError, match=r"needs desk.*resources"):
        Runtime("memory://", [Errand, queue_of()])


@pytest.mark.parametrize("wrong", [["desk"], "desk", ("desk",), {1: "desk"}, []])
def test_resources_that_have_no_names_are_an_error_of_the_definition(wrong):
    with pytest.raises(DefinitionError, match=r"resources are a .*; .*resources=\{"):
        Runtime("memory://", [Errand, queue_of()], resources=wrong)


@pytest.mark.parametrize("wrong", [{"desk": 1}, {}, 5, Settings])
def test_settings_that_are_none_are_an_error_of_the_definition(wrong):
    with pytest.raises(DefinitionError, match=r"settings are a .*Settings\(…\).*resources=\{"):
        Runtime("memory://", [Errand], wrong)


@quickly
async def test_a_resource_that_goes_away_later_is_still_given():
    where = desk()
    resources = {"desk": where}
    async with errands(where, resources=resources) as runtime:
        resources.clear()
        await runtime.publish(Asked("e-1"))
        await runtime.settled()
        assert (await errand_of(runtime)).done == ("do",)


def test_a_compensated_command_that_no_queue_takes_is_an_error_of_the_definition():
    other = WorkQueue("other")
    other.subscriber(events=[Noticed])(lambda event: None)
    with pytest.raises(DefinitionError, match=r"compensates Do"):
        Runtime("memory://", [Undoing, other])


@quickly
async def test_a_result_that_the_saga_does_not_know_is_a_dead_letter():
    where = desk(do=lambda command, job: Do(command.id))
    async with errands(where) as runtime:
        await runtime.publish(Asked("e-1"))
        await runtime.settled()
        (letter,) = await letters(runtime)
        assert (letter.type, letter.reason) == ("runtime-test.do", "unroutable")
        assert letter.content == Do("e-1")
        assert await parts(runtime).services.store.outbox() == []


@quickly
async def test_a_worker_that_returns_nothing_ends_its_job_quietly(store):
    where = desk(do=lambda command, job: None)
    async with errands(where, store=store) as runtime:
        await runtime.publish(Asked("e-1"))
        await runtime.settled()
        assert (await errand_of(runtime)).done == ()
        assert await store.inner.outbox() == []


@quickly
async def test_what_a_worker_emits_and_sends_goes_out_with_its_result(store):
    def deed(command, job):
        job.emit(Noticed(command.id, "seen"))
        job.send(Do(command.id, "more"))
        return Done(command.id)

    where = desk(do=deed, more=lambda command, job: Done(command.id, "more"))
    async with errands(where, store=store) as runtime:
        await runtime.publish(Asked("e-1"))
        await runtime.settled()
        state = await errand_of(runtime)
        assert state.done == ("do", "more")
        assert state.noticed == ("seen",)
        assert await store.inner.outbox() == []
