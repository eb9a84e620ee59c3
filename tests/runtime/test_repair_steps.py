"""Steps repaired by hand: retried, skipped, marked as done, undone, restarted; over restarts."""

from __future__ import annotations

from datetime import timedelta

import pytest

from perdure import (
    Job,
    MemoryStore,
    OrderedSaga,
    Retention,
    Runtime,
    SqlStore,
    Status,
)
from perdure.errors import (
    EncodeError,
    InstanceFinished,
    InstancePurged,
    InvalidResult,
    NotRepairable,
)
from perdure.runtime.repair.measures import Measures
from perdure.testing import FaultyStore
from tests.runtime.broken import (
    Account,
    Order,
    Placed,
    Sale,
    Scene,
    Shop,
    audited,
    joining,
    papers,
    till,
    trip,
)
from tests.runtime.support import quickly, view_of


@pytest.fixture(params=["memory", "sqlite"])
def scene(request, tmp_path):
    if request.param == "memory":
        return Scene(FaultyStore(MemoryStore()))
    store = SqlStore(f"sqlite+aiosqlite:///{tmp_path}/r.db", synchronous="NORMAL")
    return Scene(FaultyStore(store))


def by_ann(runtime: Runtime):
    return runtime.repair(by="ann", why="bug 4711")


async def begun(runtime: Runtime, saga, id: str = "o-1"):
    ref = runtime.ref(saga, id)
    await runtime.send(ref, Order(id))  # published, it would start one of each saga
    await runtime.settled()
    return ref


async def ended(runtime: Runtime, ref):
    await runtime.settled()
    return await view_of(runtime, ref)


@quickly
async def test_a_step_that_waits_for_its_next_attempt_has_it_now(scene):
    scene.shop.breaks("fly")
    async with scene.runtime() as runtime:
        ref = await begun(runtime, scene.trip)
        scene.shop.mend()
        repaired = await by_ann(runtime).retry(ref)
        assert repaired.text == "tried again now: step 'fly' after attempt 1"
        assert repaired.jobs == ("repair.trip/o-1/2/0",)
        assert (await ended(runtime, ref)).status is Status.COMPLETED
        assert scene.shop.did == ["book", "fly", "pay"]
    async with scene.runtime() as runtime:
        ref = runtime.ref(scene.trip, "o-1")
        assert await audited(runtime, ref) == ["retry by ann"]
        assert (await view_of(runtime, ref)).state.data.paid == 5


@quickly
async def test_it_is_tried_now_also_when_it_was_the_store_that_kept_it(scene):
    scene.shop.breaks("fly")
    async with scene.runtime() as runtime:
        await begun(runtime, scene.trip)
    scene.shop.mend()
    async with scene.runtime() as runtime:
        ref = runtime.ref(scene.trip, "o-1")
        await by_ann(runtime).retry(ref)
        assert (await ended(runtime, ref)).status is Status.COMPLETED
        with pytest.raises(NotRepairable, match="it is completed, and nothing of it waits"):
            await by_ann(runtime).retry(ref)


@quickly
async def test_a_list_that_is_stuck_tries_its_step_again_in_place_of_the_dead_letter(scene):
    scene.shop.breaks("read", for_good=True)
    async with scene.runtime() as runtime:
        ref = await begun(runtime, papers)
        assert (await view_of(runtime, ref)).status is Status.STUCK
        scene.shop.mend()
        repaired = await by_ann(runtime).retry(ref)
        assert (repaired.status_before, repaired.status_after) == (Status.STUCK, Status.RUNNING)
        assert repaired.letters == (1,)
        assert [letter async for letter in runtime.dead_letters.list()] == []
        assert (await ended(runtime, ref)).status is Status.COMPLETED
    assert scene.shop.did == ["scan", "read"]


@quickly
async def test_a_step_that_is_skipped_counts_as_done_and_is_never_undone(scene):
    scene.shop.breaks("fly")
    async with scene.runtime() as runtime:
        ref = await begun(runtime, scene.trip)
        scene.shop.breaks("pay")
        repaired = await by_ann(runtime).skip(ref, "fly")
        assert "step 'fly' (running) is skipped" in repaired.text
        await runtime.settled()
        assert (await view_of(runtime, ref)).state.steps["fly"] == "left out"
    scene.shop.breaks("pay", for_good=True)
    async with scene.runtime() as runtime:
        ref = runtime.ref(scene.trip, "o-1")
        await by_ann(runtime).retry(ref)
        view = await ended(runtime, ref)
        assert (view.status, view.state.outcome) == (Status.FAILED, "compensated")
    assert scene.shop.did == ["book", "cancel r-book"]


@quickly
async def test_a_step_that_has_not_begun_may_be_skipped_before_its_turn_comes(scene):
    scene.shop.breaks("book")
    async with scene.runtime() as runtime:
        ref = await begun(runtime, scene.trip)
        await by_ann(runtime).skip(ref, "fly")
        scene.shop.mend()
        await by_ann(runtime).retry(ref)
        view = await ended(runtime, ref)
        assert view.status is Status.COMPLETED
    assert scene.shop.did == ["book", "pay"]


@quickly
async def test_a_step_that_somebody_has_done_gives_what_they_say(scene):
    scene.shop.breaks("fly")
    async with scene.runtime() as runtime:
        ref = await begun(runtime, scene.trip)
        repaired = await by_ann(runtime).mark_done(ref, "fly", {"seat": "12a"})
        assert repaired.text == "step 'fly' (running) was done by hand, with seat"
        assert [sent.content.step for sent in repaired.commands] == ["pay"]
        view = await ended(runtime, ref)
        assert (view.status, view.state.data.seat) == (Status.COMPLETED, "12a")
    async with scene.runtime() as runtime:
        assert (await view_of(runtime, runtime.ref(scene.trip, "o-1"))).state == view.state
        await scene.clock.advance(timedelta(hours=3))
    assert scene.shop.did == ["book", "pay"]


@quickly
async def test_it_may_be_named_by_the_id_of_its_command(scene):
    scene.shop.breaks("fly")
    async with scene.runtime() as runtime:
        ref = await begun(runtime, scene.trip)
        await by_ann(runtime).mark_done(ref, "repair.trip/o-1/2/0", {"seat": "12a"})
        assert (await ended(runtime, ref)).state.data.seat == "12a"


@pytest.mark.parametrize(
    ("result", "error"),
    [
        ({"seat": 5}, EncodeError),
        ({"seats": "5"}, InvalidResult),
        ({"id": "o-2"}, InvalidResult),
        ("5", InvalidResult),
    ],
)
@quickly
async def test_a_result_that_no_step_could_give_is_refused_before_anything_is_written(
    scene, result, error
):
    scene.shop.breaks("fly")
    async with scene.runtime() as runtime:
        ref = await begun(runtime, scene.trip)
        before = await view_of(runtime, ref)
        for dry_run in (True, False):
            with pytest.raises(error):
                await by_ann(runtime).mark_done(ref, "fly", result, dry_run=dry_run)
        assert await view_of(runtime, ref) == before
        scene.shop.mend()
        await by_ann(runtime).retry(ref)
        assert (await ended(runtime, ref)).status is Status.COMPLETED


@quickly
async def test_compensating_from_here_undoes_what_is_done_latest_first(scene):
    scene.shop.breaks("pay")
    async with scene.runtime() as runtime:
        ref = await begun(runtime, scene.trip)
        repaired = await by_ann(runtime).compensate(ref)
        assert repaired.text == (
            "it turns back here, once 'pay' has ended: to be undone is 'fly', 'book'"
        )
        await by_ann(runtime).skip(ref, "pay")
        view = await ended(runtime, ref)
        assert view.failure == "called off: bug 4711 (by ann) (compensated)"
        with pytest.raises(InstanceFinished):
            await by_ann(runtime).compensate(ref)
    assert scene.shop.did == ["book", "fly", "cancel seat", "cancel r-book"]


@quickly
async def test_past_the_pivot_there_is_no_way_back(scene):
    scene.trip = scene.members[0] = trip(pivot=True)
    scene.shop.breaks("thank", for_good=True)
    async with scene.runtime() as runtime:
        ref = await begun(runtime, scene.trip)
        with pytest.raises(NotRepairable, match="past its pivot 'pay'"):
            await by_ann(runtime).compensate(ref)
        with pytest.raises(NotRepairable, match="does not heed a cancellation"):
            await by_ann(runtime).cancel(ref)
        await by_ann(runtime).skip(ref, "thank")
        assert (await ended(runtime, ref)).status is Status.COMPLETED


@quickly
async def test_an_undoing_that_fails_may_be_done_by_hand_or_left(scene):
    scene.shop.breaks("pay", for_good=True)
    scene.shop.breaks("cancel seat")
    async with scene.runtime() as runtime:
        first, second = await begun(runtime, scene.trip), await begun(runtime, scene.trip, "o-2")
        assert (await view_of(runtime, first)).status is Status.STUCK
        await by_ann(runtime).mark_done(first, "fly")
        await by_ann(runtime).skip(second, "fly")
        assert (await ended(runtime, first)).state.outcome == "compensated"
        view = await ended(runtime, second)
        assert view.failure == (
            "pay: perdure.errors.NonRetryable: broken (compensated with residue: fly is not undone)"
        )
        assert [letter.queue async for letter in runtime.dead_letters.list()] == [
            "repair.trip.pay"
        ] * 2


@quickly
async def test_a_saga_that_was_undone_starts_again_from_its_first_step_under_new_keys(scene):
    scene.shop.breaks("pay", for_good=True)
    async with scene.runtime() as runtime:
        ref = await begun(runtime, scene.trip)
        assert (await view_of(runtime, ref)).status is Status.FAILED
        scene.shop.mend()
        with pytest.raises(NotRepairable, match="'book' is compensated, and would stay so"):
            await by_ann(runtime).restart_from(ref, "fly")
        repaired = await by_ann(runtime).restart_from(ref, "book")
        assert (repaired.status_before, repaired.status_after) == (Status.FAILED, Status.RUNNING)
        view = await ended(runtime, ref)
        assert view.status is Status.COMPLETED
    keys = scene.shop.keys
    assert keys[:2] == ["repair.trip/o-1/book", "repair.trip/o-1/fly"]
    assert keys[4].startswith("repair.trip/o-1/book~")
    assert keys[5].startswith("repair.trip/o-1/fly~")
    assert keys[6] == "repair.trip/o-1/pay"  # it had never been done
    async with scene.runtime() as runtime:
        assert (await view_of(runtime, runtime.ref(scene.trip, "o-1"))).state == view.state


@quickly
async def test_it_has_its_timeout_again_when_it_starts_again(scene):
    scene.shop.breaks("pay", for_good=True)
    async with scene.runtime() as runtime:
        ref = await begun(runtime, scene.trip)
        scene.shop.broken.clear()
        scene.shop.breaks("book")
        repaired = await by_ann(runtime).restart_from(ref, "book")
        assert list(repaired.deadlines_set) == ["perdure.timeout"]
    async with scene.runtime() as runtime:
        view = await view_of(runtime, runtime.ref(scene.trip, "o-1"))
        assert list(view.deadlines) == ["perdure.timeout"]


@quickly
async def test_a_restart_forgets_the_results_of_the_steps_behind(scene):
    async with scene.runtime() as runtime:
        scene.shop.breaks("read", for_good=True)
        ref = await begun(runtime, papers)
        assert (await view_of(runtime, ref)).state.data.room == "scanned"
        scene.shop.breaks("scan")
        await by_ann(runtime).restart_from(ref, "scan")
        view = await ended(runtime, ref)
        assert (view.state.data.room, view.state.steps) == ("", {"scan": "running"})
        assert [letter async for letter in runtime.dead_letters.list()] == []
        scene.shop.mend()
        await by_ann(runtime).retry(ref)
        assert (await ended(runtime, ref)).status is Status.COMPLETED


@quickly
async def test_a_completed_saga_is_not_restarted(scene):
    async with scene.runtime() as runtime:
        ref = await begun(runtime, scene.trip)
        with pytest.raises(InstanceFinished, match="it has completed"):
            await by_ann(runtime).restart_from(ref, "book")


@quickly
async def test_a_workflow_that_failed_goes_on_from_the_step_that_did(scene):
    scene.shop.breaks("fund 7", for_good=True)
    async with scene.runtime() as runtime:
        ref = await begun(runtime, joining)
        await scene.clock.advance(timedelta(hours=2))
        assert (await ended(runtime, ref)).status is Status.FAILED
        scene.shop.mend()
        repaired = await by_ann(runtime).restart_from(ref, "fund")
        assert repaired.text == "it goes on from step 'fund'"
        assert list(repaired.deadlines_set) == ["perdure.timeout"]
        assert (await ended(runtime, ref)).result == 100
    assert scene.shop.did == ["open", "fund 7"]
    assert scene.shop.keys == ["repair.joining/o-1/open_account", "repair.joining/o-1/fund"]


@quickly
async def test_a_workflow_does_again_what_it_had_done_under_another_key(scene):
    scene.shop.breaks("fund 7", for_good=True)
    async with scene.runtime() as runtime:
        ref = await begun(runtime, joining)
        await scene.clock.advance(timedelta(hours=2))
        scene.shop.mend()
        await by_ann(runtime).restart_from(ref, "open_account")
        view = await ended(runtime, ref)
        assert view.result == 100, view  # what has passed stays so: it does not sleep again
    assert scene.shop.keys[1].startswith("repair.joining/o-1/open_account~")
    async with scene.runtime() as runtime:
        assert (await view_of(runtime, runtime.ref(joining, "o-1"))).state == view.state


@quickly
async def test_a_workflow_that_was_cancelled_goes_on_where_it_waited(scene):
    async with scene.runtime() as runtime:
        ref = await begun(runtime, joining)
        await by_ann(runtime).cancel(ref)
        assert (await view_of(runtime, ref)).failure == "cancelled: bug 4711 (by ann)"
    async with scene.runtime() as runtime:
        ref = runtime.ref(joining, "o-1")
        repaired = await by_ann(runtime).skip(ref, "fund")
        assert "sleep/rest" in repaired.deadlines_set
        await scene.clock.advance(timedelta(hours=2))
        view = await ended(runtime, ref)
        assert (view.status, view.result) == (Status.COMPLETED, None)
        assert await audited(runtime, ref) == ["cancel by ann", "skip by ann"]


@quickly
async def test_a_step_of_a_workflow_is_done_by_hand_with_what_its_function_returns(scene):
    scene.shop.breaks("open")
    async with scene.runtime() as runtime:
        ref = await begun(runtime, joining)
        with pytest.raises(InvalidResult, match="returns Account, and not 5"):
            await by_ann(runtime).mark_done(ref, "open_account", 5)
        named = {"type": "repair-test.account", "data": {"number": 9}}
        dry = await by_ann(runtime).mark_done(ref, "open_account", named, dry_run=True)
        assert Account(9) in [getattr(event, "message", None) for event in dry.events]
        await by_ann(runtime).mark_done(ref, "open_account", Account(9))
        await scene.clock.advance(timedelta(hours=2))
        assert (await ended(runtime, ref)).result == 100
    assert scene.shop.did == ["fund 9"]


@quickly
async def test_a_step_of_a_workflow_is_skipped_with_none(scene):
    scene.shop.breaks("open", for_good=True)
    async with scene.runtime() as runtime:
        ref = await begun(runtime, joining)
        assert (await view_of(runtime, ref)).status is Status.FAILED
        repaired = await by_ann(runtime).skip(ref, "open_account")
        assert repaired.text == "step 'open_account' (failed) is skipped: its result is None"
        await scene.clock.advance(timedelta(hours=2))
        assert (await ended(runtime, ref)).result == 100
    assert scene.shop.did == ["fund None"]


@quickly
async def test_unknown_steps_are_refused_with_those_that_there_are(scene):
    scene.shop.breaks("book")
    scene.shop.breaks("open")
    scene.shop.breaks("scan")
    async with scene.runtime() as runtime:
        await runtime.publish(Order("o-1"))
        await runtime.publish(Placed("o-1"))
        await runtime.settled()
        repair = by_ann(runtime)
        for saga, steps in (
            (scene.trip, "book, fly, pay"),
            (papers, "scan, read"),
            (joining, "open_account, fund"),
        ):
            ref = runtime.ref(saga, "o-1")
            for do in (repair.skip, repair.mark_done, repair.restart_from):
                with pytest.raises(NotRepairable, match=rf"no step 'dance'.*{steps}"):
                    await do(ref, "dance")
        with pytest.raises(NotRepairable, match="a process manager, whose steps nobody knows"):
            await repair.skip(runtime.ref(Sale, "o-1"), "charge")


@quickly
async def test_steps_that_stand_otherwise_are_refused(scene):
    scene.shop.breaks("pay")
    async with scene.runtime() as runtime:
        ref = await begun(runtime, scene.trip)
        repair = by_ann(runtime)
        with pytest.raises(NotRepairable, match=r"step 'book' is completed.*cannot be skipped"):
            await repair.skip(ref, "book")
        with pytest.raises(NotRepairable, match=r"step 'book' is completed.*marked as done"):
            await repair.mark_done(ref, "book")
        scene.shop.breaks("scan")
        scene.shop.breaks("open")
        with pytest.raises(NotRepairable, match="nothing that undoes them"):
            await repair.compensate(await begun(runtime, papers))
        with pytest.raises(NotRepairable, match="does not say what undoes its steps"):
            await repair.compensate(await begun(runtime, joining))
        assert await audited(runtime, ref) == []


@quickly
async def test_of_one_that_was_purged_there_is_nothing_left_to_repair(scene):
    short = OrderedSaga(
        "repair.short", Order, by="id", retention=Retention.delete(tombstone=timedelta(days=9))
    )

    @short.step(nothing_to_undo=True)
    async def fly(order: Order, job: Job, shop: Shop) -> None:
        shop.do("fly", job)

    scene.members = [short]
    scene.shop.breaks("fly", for_good=True)
    async with scene.runtime() as runtime:
        ref = await begun(runtime, short)
        await scene.clock.advance(timedelta(hours=1))
        assert (await view_of(runtime, ref)).purged
        scene.shop.mend()
        repair = by_ann(runtime)
        for doing in (
            repair.restart_from(ref, "fly"),
            repair.skip(ref, "fly", dry_run=True),
            repair.mark_done(ref, "fly"),
            repair.compensate(ref),
            repair.retry(ref),
            repair.cancel(ref, message_id="m-1"),
        ):
            with pytest.raises(InstancePurged, match="it has failed, and its state is not kept"):
                await doing
        [letter] = [one async for one in runtime.dead_letters.list()]
        with pytest.raises(InstanceFinished):
            await repair.redrive(letter)
        assert (await repair.discard(letter)).sequence_nr is None
        assert (await view_of(runtime, ref)).sequence_nr == 2
    assert scene.shop.did == []


@quickly
async def test_a_repair_whose_turn_is_not_kept_any_more_is_not_done_again(scene):
    class Short(Sale):
        name = "repair.short-sale"
        retention = Retention.delete(tombstone=timedelta(days=9))

    scene.members = [Short, till]
    async with scene.runtime() as runtime:
        await runtime.publish(Placed("s-1"))
        await runtime.settled()
        ref = runtime.ref(Short, "s-1")
        await by_ann(runtime).cancel(ref, message_id="m-1")
        assert (await by_ann(runtime).cancel(ref, message_id="m-1")).duplicate
        await scene.clock.advance(timedelta(hours=1))
        with pytest.raises(InstancePurged, match="which had message id 'm-1', is not kept"):
            await by_ann(runtime).cancel(ref, message_id="m-1")


@quickly
async def test_one_that_is_purged_while_somebody_decides_is_not_repaired(scene, monkeypatch):
    short = OrderedSaga(
        "repair.racing", Order, by="id", retention=Retention.delete(tombstone=timedelta(days=9))
    )

    @short.step(nothing_to_undo=True)
    async def fly(order: Order, job: Job, shop: Shop) -> None:
        shop.do("fly", job)

    scene.members = [short]
    scene.shop.breaks("fly", for_good=True)
    async with scene.runtime() as runtime:
        ref = await begun(runtime, short)
        restart_from = Measures.restart_from

        async def slowly(self, *arguments):
            measure = await restart_from(self, *arguments)
            await scene.clock.advance(timedelta(hours=1))
            return measure

        monkeypatch.setattr(Measures, "restart_from", slowly)
        repair = by_ann(runtime)
        with pytest.raises(InstancePurged):
            await repair.restart_from(ref, "fly")
        assert (await view_of(runtime, ref)).purged
