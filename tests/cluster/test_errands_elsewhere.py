"""What is done to an instance, or to a job, that another process owns: as if it were here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from perdure import (
    DeadLetter,
    Effects,
    ProcessManager,
    SagaRef,
    Status,
    errors,
    starts,
)
from perdure.core.correlation import instance_key
from perdure.store.shards import shard_of
from tests.cluster.pods import SHARDS, Pod, cluster, key_in
from tests.cluster.ringing import Heard, Ringer, Ringing
from tests.runtime.broken import Order, Shop, trip
from tests.runtime.errands import Asked, Do, Errand, desk, queue_of
from tests.runtime.frail import Born, Hit, Quarantined
from tests.runtime.support import quickly, until
from tests.runtime.test_children import Begin, Bystander, Child, Finish, Parent
from tests.sagas import Opened


@asynccontextmanager
async def trips() -> AsyncIterator[tuple[Pod, Pod, Shop, SagaRef]]:
    """A trip that is stuck where it undoes its second step, owned by the second process."""
    shop = Shop()
    async with cluster(2, [trip()], resources={"shop": shop}) as (a, b):
        await b.own(0, 1, 2, 3)
        shop.breaks("pay", for_good=True)
        shop.breaks("cancel seat", for_good=True)
        ref = a.runtime.ref("repair.trip", key_in(2, "repair.trip"))
        await a.runtime.send(ref, Order(ref.correlation_id))
        with pytest.raises(errors.SagaStuck):
            await a.runtime.result(ref, timeout_s=5)
        shop.mend()
        yield a, b, shop, ref


@quickly
async def test_a_stuck_saga_is_resumed_from_anywhere() -> None:
    async with trips() as (a, b, _, ref):
        assert [one.type async for one in a.runtime.dead_letters.list()]
        receipt = await a.runtime.resume(ref)
        assert receipt.outcome == "applied"
        with pytest.raises(errors.SagaFailed):
            await a.runtime.result(ref, timeout_s=5)
        await b.settled()


@quickly
async def test_an_operator_repairs_from_anywhere() -> None:
    async with trips() as (a, _, _, ref):
        repair = a.runtime.repair(by="ann", why="bug 4711")
        shown = await repair.skip(ref, "fly", dry_run=True)
        assert (shown.dry_run, shown.status_before) == (True, Status.STUCK)
        done = await repair.skip(ref, "fly")
        assert (done.dry_run, done.text, done.commands) == (False, shown.text, shown.commands)
        assert done.sequence_nr is not None
        with pytest.raises(errors.SagaFailed, match="fly is not undone"):
            await a.runtime.result(ref, timeout_s=5)
        assert [one.by async for one in a.runtime.audit(ref)] == ["ann"]
        with pytest.raises(errors.NotRepairable, match="is skipped"):
            await repair.skip(ref, "fly")
        with pytest.raises(errors.InstanceNotFound):
            await repair.cancel(a.runtime.ref("repair.trip", "nobody"))


@quickly
async def test_a_quarantined_instance_is_seen_and_released_from_anywhere() -> None:
    async with cluster(2, [Quarantined]) as (a, b):
        await b.own(0, 1, 2, 3)
        ref = a.runtime.ref(Quarantined, key_in(1, Quarantined.name, "q"))
        await a.runtime.send(ref, Born(ref.correlation_id))
        receipt = await a.runtime.send(ref, Hit(ref.correlation_id, 1, fails=1))
        assert receipt.outcome == "held"
        with pytest.raises(errors.InstanceQuarantined):
            await a.runtime.result(ref, timeout_s=5)
        view = await a.runtime.state(ref)
        assert view is not None
        assert "shaken" in (view.quarantined or "")
        assert [one.held async for one in a.runtime.quarantined()] == [1]
        (listed,) = [one async for one in a.runtime.instances(Quarantined)]
        assert "shaken" in (listed.quarantined or "")
        assert await a.runtime.release(ref) is True
        assert await a.runtime.release(ref) is False
        assert [one async for one in a.runtime.quarantined()] == []
        await b.settled()
        view = await a.runtime.state(ref)
        assert view is not None
        assert view.state.seen == (1,)


def job_in(shard: int) -> str:
    return next(f"job-{n}" for n in range(1_000) if shard_of(f"job-{n}", SHARDS) == shard)


@quickly
async def test_jobs_are_queued_seen_paused_and_cancelled_from_anywhere() -> None:
    where = desk()
    async with cluster(2, [Errand, queue_of()], resources={"desk": where}) as (a, b):
        await a.own(0, 1)
        await b.own(2, 3)
        await asyncio.gather(*(a.runtime.enqueue(Do("e"), job_id=job_in(n)) for n in range(SHARDS)))
        await until(lambda: len(where.jobs) == SHARDS)
        assert sorted(job.key for job in where.jobs) == sorted(map(job_in, range(SHARDS)))
        queue = b.runtime.queue("work")
        await queue.pause("the provider is down")
        assert queue.is_paused
        for n in range(SHARDS):
            await b.runtime.enqueue(Do("e"), job_id=job_in(n))
            await b.runtime.enqueue(Do("e"), job_id=job_in(n))  # the same one
        assert await queue.depth() == SHARDS
        assert {job.id async for job in queue.jobs()} == set(map(job_in, range(SHARDS)))
        await queue.cancel(job_in(0))
        await queue.cancel(job_in(3))
        with pytest.raises(errors.UnknownJob):
            await queue.cancel(job_in(3))
        while await queue.depth() > 2:  # noqa: ASYNC110 - what the store says
            await asyncio.sleep(0)
        assert len(where.jobs) == SHARDS
        letters = [letter async for letter in b.runtime.dead_letters.list()]
        assert sorted(letter.message_id for letter in letters) == sorted([job_in(0), job_in(3)])
        assert await b.runtime.dead_letters.discard(letters[0].id) is True
        await queue.resume()
        await until(lambda: len(where.jobs) == SHARDS + 2)


@quickly
async def test_a_dead_letter_is_redriven_where_it_lies() -> None:
    tried: list[str] = []

    def fail_once(command: Do, job: object) -> None:
        tried.append(command.id)
        if len(tried) == 1:
            raise errors.NonRetryable("not today")

    where = desk(once=fail_once)
    async with cluster(2, [Errand, queue_of()], resources={"desk": where}) as (a, b):
        await b.own(0, 1, 2, 3)
        ref = a.runtime.ref(Errand, key_in(3, Errand.name))
        await a.runtime.send(ref, Asked(ref.correlation_id, "once"))
        letters: list[DeadLetter] = []
        while not letters:
            letters = [letter async for letter in a.runtime.dead_letters.list()]
        assert await a.runtime.dead_letters.redrive(letters[0].id) is True
        await until(lambda: len(tried) == 2)
        assert await a.runtime.dead_letters.redrive(letters[0].id) is False


class Deaf(ProcessManager[Heard]):
    name = "Deaf"

    @starts(Ringing, by="id")
    def rang(self, state: Heard, event: Ringing, do: Effects) -> None:
        raise ValueError("what?")


@quickly
async def test_an_event_that_is_a_dead_letter_elsewhere_is_none_here_too() -> None:
    async with cluster(2, [Ringer, Deaf]) as (a, b):
        stores = a.world.stores
        id_ = next(
            id_ for id_ in map(str, range(100))
            if shard_of(f"Ringer/{id_}", SHARDS) == 0 and shard_of(f"Deaf/{id_}", SHARDS) == 3
        )  # fmt: skip
        await a.own(0)
        await b.own(3)
        await a.runtime.publish(Opened(id_))
        while not (letters := await stores[3].dead_letters()):  # noqa: ASYNC110
            await asyncio.sleep(0)
        await a.settled()
        assert [one.reason for one in letters] == ["ValueError"]
        assert await stores[0].outbox() == []
        assert await stores[0].dead_letters() == []


@quickly
async def test_parents_children_and_what_they_publish_live_anywhere() -> None:
    async with cluster(2, [Parent, Child, Bystander]) as (a, b):
        await a.own(0, 1)
        await b.own(2, 3)
        names = tuple(f"c{n}" for n in range(8))
        shards = {shard_of(instance_key(Child.name, f"p/{one}"), SHARDS) for one in names}
        assert len(shards) > 1
        await a.runtime.publish(Begin("p", names))
        parent = a.runtime.ref(Parent, "p")
        children: list[str] = []
        while len(children) < len(names):
            children = [
                view.correlation_id
                for pod in (a, b)
                for runtime in pod.runtimes.values()
                async for view in runtime.instances(Child)
            ]
        for child in children:
            await b.runtime.send(b.runtime.ref(Child, child), Finish(child))
        ended: tuple[object, ...] = ()
        while len(ended) < len(names):
            view = await a.runtime.state(parent)
            assert view is not None
            ended = view.state.ended
        for pod in (a, b):
            await pod.settled()
        assert len(ended) == len(names)
        jobs = [row for store in a.world.stores for row in await store.outbox()]
        assert jobs == []
        letters = [row for store in a.world.stores for row in await store.dead_letters()]
        assert letters == []
