"""Who repairs: two at once, many at a time, by rehearsal, by mistake, and through failures."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from perdure import (
    Fixed,
    MemoryStore,
    ProcessManager,
    Runtime,
    SqlStore,
    Status,
    Supervision,
    continues,
    starts,
)
from perdure.errors import (
    DefinitionError,
    InstanceMoved,
    InstanceNotFound,
    InstanceQuarantined,
    NotRepairable,
    PerdureError,
    UnknownSaga,
)
from perdure.testing import FaultyStore
from tests.runtime.broken import (
    BAD,
    Noted,
    Order,
    Placed,
    Sale,
    SaleState,
    Scene,
    audited,
    papers,
)
from tests.runtime.support import parts, quickly, rounds, until, view_of


@pytest.fixture(params=["memory", "sqlite"])
def scene(request, tmp_path):
    BAD["text"] = "bad"
    if request.param == "memory":
        return Scene(FaultyStore(MemoryStore()))
    store = SqlStore(f"sqlite+aiosqlite:///{tmp_path}/r.db", synchronous="NORMAL")
    return Scene(FaultyStore(store))


def by_ann(runtime: Runtime):
    return runtime.repair(by="ann", why="bug 4711")


async def trip_at(runtime: Runtime, scene: Scene, broken: str = "fly", id: str = "o-1"):
    scene.shop.breaks(broken)
    ref = runtime.ref(scene.trip, id)
    await runtime.send(ref, Order(id))
    await runtime.settled()
    return ref


@quickly
async def test_of_two_at_once_one_repairs_and_the_other_is_told(scene):
    async with scene.runtime() as runtime:
        ref = await trip_at(runtime, scene)
        bob = runtime.repair(by="bob", why="I was first")
        done = await asyncio.gather(
            by_ann(runtime).mark_done(ref, "fly", {"seat": "ann's"}),
            bob.mark_done(ref, "fly", {"seat": "bob's"}),
            bob.skip(ref, "fly"),
            return_exceptions=True,
        )
        assert [type(one) is NotRepairable for one in done].count(True) == 2
        await runtime.settled()
        assert len(await audited(runtime, ref)) == 1
    assert scene.shop.did == ["book", "pay"]


@quickly
async def test_of_two_at_once_on_one_dead_letter_too(scene):
    async with scene.runtime() as runtime:
        scene.shop.breaks("charge 100", for_good=True)
        await runtime.publish(Placed("s-1"))
        await runtime.settled()
        scene.shop.mend()
        (letter,) = [one async for one in runtime.dead_letters.list()]
        done = await asyncio.gather(
            by_ann(runtime).redrive(letter),
            by_ann(runtime).redrive(letter),
            runtime.dead_letters.redrive(letter.id),
            by_ann(runtime).discard(letter),
            runtime.dead_letters.discard(letter.id),
            return_exceptions=True,
        )
        assert [type(one) is NotRepairable for one in done].count(True) >= 2
        await runtime.settled()
        assert [one async for one in runtime.dead_letters.list()] == []
    assert scene.shop.did.count("charge 100") <= 1


@quickly
async def test_whoever_looked_too_early_is_refused(scene):
    async with scene.runtime() as runtime:
        ref = await trip_at(runtime, scene)
        seen = (await view_of(runtime, ref)).sequence_nr
        await by_ann(runtime).set_deadline(
            ref, "timeout", scene.clock.now + timedelta(days=9), expected=seen
        )
        with pytest.raises(
            InstanceMoved, match=f"o-1 has moved from turn {seen} to {seen + 1} since you looked"
        ):
            await by_ann(runtime).skip(ref, "fly", expected=seen)
        with pytest.raises(InstanceMoved):
            await by_ann(runtime).skip(ref, "fly", expected=seen, dry_run=True)
        with pytest.raises(DefinitionError, match="expected is -1"):
            await by_ann(runtime).skip(ref, "fly", expected=-1)
        await by_ann(runtime).skip(ref, "fly", expected=seen + 1)


@quickly
async def test_repeated_under_its_message_id_it_is_told_and_not_done_again(scene):
    async with scene.runtime() as runtime:
        ref = await trip_at(runtime, scene)
        first = await by_ann(runtime).skip(ref, "fly", message_id="r-1")
        await runtime.settled()
        again = await by_ann(runtime).skip(ref, "fly", message_id="r-1")
        assert (again.duplicate, again.sequence_nr) == (True, first.sequence_nr)
    async with scene.runtime() as runtime:
        ref = runtime.ref(scene.trip, "o-1")
        again = await by_ann(runtime).skip(ref, "fly", message_id="r-1", expected=2)
        assert (again.duplicate, again.text) == (True, first.text)
        assert await audited(runtime, ref) == ["skip by ann"]


@quickly
async def test_a_rehearsal_shows_all_and_changes_nothing(scene):
    async with scene.runtime() as runtime:
        ref = await trip_at(runtime, scene)
        before = await view_of(runtime, ref)
        repair, rows = by_ann(runtime), await everything(scene)
        dry = await repair.skip(ref, "fly", dry_run=True)
        assert str(dry).startswith("repair.trip 'o-1': would be: step 'fly' (running) is skipped")
        assert [sent.content.step for sent in dry.commands] == ["pay"]
        assert dry.jobs == ("repair.trip/o-1/2/0",)
        for rehearsed in (
            repair.retry(ref, dry_run=True),
            repair.mark_done(ref, "fly", dry_run=True),
            repair.compensate(ref, dry_run=True),
            repair.cancel(ref, dry_run=True),
            repair.restart_from(ref, "fly", dry_run=True),
            repair.cancel_deadline(ref, "timeout", dry_run=True),
        ):
            assert (await rehearsed).sequence_nr is None
        await runtime.settled()
        assert await view_of(runtime, ref) == before
        assert await everything(scene) == rows
    assert scene.shop.did == ["book"]


async def everything(scene: Scene):
    store = scene.store
    return (
        await store.journal("repair.trip/o-1"),
        await store.outbox(),
        await store.dead_letters(),
        await store.inbox(),
        await store.deadlines(),
    )


@quickly
async def test_what_a_worker_is_at_is_not_taken_from_it(scene):
    begun, may_end = asyncio.Event(), asyncio.Event()
    function = scene.trip._declared[1].spec.function

    async with scene.runtime() as runtime:
        workers = runtime._running.dispatcher.workers["repair.trip.fly"]
        (worker,) = workers._queue.workers.values()
        perform = worker.function

        async def slowly(command, **given):
            begun.set()
            await may_end.wait()
            return await perform(command, **given)

        object.__setattr__(worker, "function", slowly)
        try:
            ref = runtime.ref(scene.trip, "o-1")
            await runtime.send(ref, Order("o-1"))
            await begun.wait()
            for dry_run in (True, False):
                with pytest.raises(NotRepairable, match="a worker is at it now"):
                    await by_ann(runtime).skip(ref, "fly", dry_run=dry_run)
            may_end.set()
            await runtime.settled()
            assert (await view_of(runtime, ref)).status is Status.COMPLETED
        finally:
            object.__setattr__(worker, "function", perform)
    assert function is not None


# Many


@quickly
async def test_many_are_repaired_each_for_itself(scene):
    async with scene.runtime() as runtime:
        scene.shop.breaks("read", for_good=True)
        for number in range(12):
            await runtime.send(runtime.ref(papers, f"p-{number:02}"), Order(f"p-{number:02}"))
        await runtime.settled()
        scene.shop.mend()
        repair = by_ann(runtime)
        await repair.cancel(runtime.ref(papers, "p-03"))
        stuck = runtime.instances(papers, status="stuck")
        dry = await repair.each(stuck, "retry", dry_run=True)
        assert [one.is_done for one in dry] == [True] * 11
        refs = [runtime.ref(papers, f"p-{number:02}") for number in range(13)]
        tried = await repair.each(refs, "retry", concurrency=3)
        failed = [one for one in tried if one.error is not None]
        assert [one.asked.correlation_id for one in failed] == ["p-03", "p-12"]
        assert isinstance(failed[0].error, NotRepairable)
        assert isinstance(failed[1].error, InstanceNotFound)
        await runtime.settled()
        done = [view async for view in runtime.instances(papers, status="completed")]
        assert len(done) == 11
        for view in done:
            assert await audited(runtime, runtime.ref_to(view)) == ["retry by ann"]


@quickly
async def test_what_is_no_repair_of_many_is_refused_before_any(scene):
    async with scene.runtime() as runtime:
        repair = by_ann(runtime)
        with pytest.raises(DefinitionError, match="'each' is nothing that can be done"):
            await repair.each([], "each")
        with pytest.raises(DefinitionError, match="'_on' is nothing"):
            await repair.each([], "_on")
        with pytest.raises(DefinitionError, match="concurrency is 0"):
            await repair.each([], "retry", concurrency=0)
        assert await repair.each([], "retry") == []
        (one,) = await repair.each(["o-1"], "retry")
        assert isinstance(one.error, DefinitionError)


# Quarantine


class Frail(ProcessManager[SaleState]):
    name = "repair.frail"
    supervision = Supervision.quarantine()
    retry = None

    @starts(Placed, by="id")
    def placed(self, state, event, do): ...

    @continues(Noted, by="id")
    def noted(self, state, event, do):
        if event.text == BAD["text"]:
            raise ValueError(event.text)


@quickly
async def test_a_quarantined_instance_is_released_and_its_journal_says_by_whom(scene):
    scene.members = [Frail]
    async with scene.runtime() as runtime:
        await runtime.publish(Placed("f"))
        ref = runtime.ref(Frail, "f")
        await runtime.send(ref, Noted("f", "bad"))
        repair = by_ann(runtime)
        for refused in (repair.retry(ref), repair.cancel(ref), repair.send(ref, Noted("f"))):
            with pytest.raises(InstanceQuarantined, match="release it"):
                await refused
        (aside,) = [one async for one in runtime.quarantined()]
        dry = await repair.release(aside, dry_run=True)
        assert "ValueError: bad" in dry.text
        assert [one async for one in runtime.quarantined()] != []
        BAD["text"] = ""
        done = await repair.release(aside, message_id="r-1")
        assert done.sequence_nr is not None
        again = await repair.release(ref, message_id="r-1")
        assert again.duplicate
        with pytest.raises(NotRepairable, match="it is not quarantined"):
            await repair.release(ref)
        with pytest.raises(NotRepairable, match="there is no such instance"):
            await repair.release(runtime.ref(Frail, "nobody"))
    async with scene.runtime() as runtime:
        assert await audited(runtime, runtime.ref(Frail, "f")) == ["release by ann"]


# Bad input


@pytest.mark.parametrize("text", ["", "  ", None, 7, "x" * 501, "a\nb", "\x1b[2J", "\u202eevil"])
@quickly
async def test_who_and_why_must_be_said_in_one_plain_line(scene, text):
    async with scene.runtime() as runtime:
        with pytest.raises(DefinitionError):
            runtime.repair(by=text, why="bug 4711")
        with pytest.raises(DefinitionError):
            runtime.repair(by="ann", why=text)


@quickly
async def test_what_is_no_instance_or_letter_is_refused(scene):
    async with scene.runtime() as runtime:
        repair = by_ann(runtime)
        for target in ("o-1", None, 7, Order("o-1")):
            with pytest.raises(DefinitionError, match="is no instance"):
                await repair.retry(target)
            if target != 7:
                with pytest.raises(DefinitionError, match="is no id of a dead letter"):
                    await repair.redrive(target)
        for name in (None, 5, "", print):
            ref = runtime.ref(scene.trip, "o-1")
            for do in (repair.skip, repair.mark_done, repair.restart_from, repair.cancel_deadline):
                with pytest.raises(DefinitionError, match="give its name"):
                    await do(ref, name)
        with pytest.raises(NotRepairable, match="no dead letter 7"):
            await repair.redrive(7)
        with pytest.raises(InstanceNotFound, match="nothing to repair"):
            await repair.retry(runtime.ref(scene.trip, "o/1 ü\u202e"))
    with pytest.raises(PerdureError):
        runtime.repair(by="ann", why="it has stopped")


@quickly
async def test_an_instance_of_a_saga_that_is_not_run_here_is_refused(scene):
    async with scene.runtime() as runtime:
        ref = await trip_at(runtime, scene)
    scene.members = [Sale, *scene.members[4:]]
    async with scene.runtime() as runtime:
        with pytest.raises(UnknownSaga):
            await by_ann(runtime).retry(ref)


# Failures of the store


@quickly
async def test_a_repair_whose_answer_is_lost_is_done_once(scene):
    async with scene.runtime(retry_pause_s=0.001) as runtime:
        ref = await trip_at(runtime, scene)
        scene.store.fail_writes(1, after_commit=True)
        writes = scene.store.writes
        asked = asyncio.create_task(by_ann(runtime).mark_done(ref, "fly", {"seat": "9"}))
        await until(lambda: scene.store.writes > writes)
        await rounds()
        while not asked.done():
            await scene.clock.advance(timedelta(seconds=1))
            await rounds()
        assert (await asked).sequence_nr is not None
        await runtime.settled()
        assert await audited(runtime, ref) == ["mark_done by ann"]
        assert (await view_of(runtime, ref)).status is Status.COMPLETED
    assert scene.shop.did == ["book", "pay"]


@quickly
async def test_whoever_gives_up_waiting_leaves_nothing_half_done(scene):
    async with scene.runtime() as runtime:
        ref = await trip_at(runtime, scene)
        scene.shop.mend()
        asked = asyncio.ensure_future(by_ann(runtime).mark_done(ref, "fly", {"seat": "9"}))
        for _ in range(6):
            await asyncio.sleep(0)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        await until(lambda: not parts(runtime).repairs.mending._tasks)  # it is carried through
        await runtime.settled()
        await scene.clock.advance(timedelta(hours=2))
        view = await view_of(runtime, ref)
        assert view.status is Status.COMPLETED
        done = await audited(runtime, ref)
        assert scene.shop.did == (["book", "pay"] if done else ["book", "fly", "pay"])


def test_the_retry_policy_is_one_that_no_test_waits_for():
    assert Sale.retry == Fixed(1_000, max_attempts=2)
