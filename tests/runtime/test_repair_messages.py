"""Messages, commands, dead letters and deadlines of process managers, repaired by hand."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

import pytest

from perdure import (
    HistoryEntry,
    Job,
    MemoryStore,
    Outcome,
    Runtime,
    SqlStore,
    Status,
    WorkQueue,
    compensates,
    starts,
)
from perdure.errors import (
    DefinitionError,
    EncodeError,
    HandlerFailed,
    InstanceFinished,
    InstanceNotFound,
    InvalidResult,
    NotRepairable,
    UnknownMessageType,
)
from perdure.testing import FaultyStore
from tests.runtime.broken import (
    BAD,
    RARELY,
    Charge,
    Charged,
    Noted,
    Order,
    Placed,
    Refund,
    Sale,
    Scene,
    Shop,
    audited,
    papers,
)
from tests.runtime.support import quickly, view_of


@pytest.fixture(params=["memory", "sqlite"])
def scene(request, tmp_path):
    BAD["text"] = "bad"
    if request.param == "memory":
        return Scene(FaultyStore(MemoryStore()))
    store = SqlStore(f"sqlite+aiosqlite:///{tmp_path}/r.db", synchronous="NORMAL")
    return Scene(FaultyStore(store))


def by_ann(runtime: Runtime):
    return runtime.repair(by="ann", why="bug 4711")


async def begun(runtime: Runtime, id: str = "s-1"):
    await runtime.publish(Placed(id))
    await runtime.settled()
    return runtime.ref(Sale, id)


async def letters(runtime: Runtime):
    return [letter async for letter in runtime.dead_letters.list()]


async def note(runtime: Runtime, ref, text: str):
    try:
        return await runtime.send(ref, Noted(ref.correlation_id, text), message_id=text)
    except HandlerFailed:
        return None


@quickly
async def test_a_message_that_waits_for_its_retry_has_its_turn_now_and_those_behind_it(scene):
    async with scene.runtime() as runtime:
        ref = await begun(runtime)
        await note(runtime, ref, "bad")
        await note(runtime, ref, "good")
        assert (await view_of(runtime, ref)).state.notes == ()
        BAD["text"] = ""
        repaired = await by_ann(runtime).retry(ref)
        assert repaired.text == "tried again now: message bad after attempt 1"
        await scene.clock.advance(timedelta(0))
        await runtime.settled()
        assert (await view_of(runtime, ref)).state.notes == ("bad", "good")
    async with scene.runtime() as runtime:
        ref = runtime.ref(Sale, "s-1")
        assert (await view_of(runtime, ref)).state.notes == ("bad", "good")
        assert await audited(runtime, ref) == ["retry by ann"]


@quickly
async def test_a_message_is_taken_at_once_before_those_that_wait(scene):
    async with scene.runtime() as runtime:
        ref = await begun(runtime)
        await note(runtime, ref, "bad")
        repaired = await by_ann(runtime).send(ref, Noted("s-1", "by hand"))
        assert repaired.text == "sent repair-test.noted"
        assert (await view_of(runtime, ref)).state.notes == ("by hand",)
        with pytest.raises(UnknownMessageType):
            await by_ann(runtime).send(ref, Order("s-1"))
        with pytest.raises(EncodeError):
            await by_ann(runtime).send(ref, "hello")
        with pytest.raises(HandlerFailed, match="poison"):
            await by_ann(runtime).send(ref, Noted("s-1", "poison"))
        assert await letters(runtime) == []
        named = {"type": "repair-test.noted", "data": {"id": "s-1", "text": "named"}}
        await by_ann(runtime).send(ref, named)
    async with scene.runtime() as runtime:
        state = (await view_of(runtime, runtime.ref(Sale, "s-1"))).state
        assert state.notes == ("by hand", "named")


@quickly
async def test_a_command_that_somebody_has_carried_out_gives_its_result(scene):
    scene.shop.breaks("charge 100")
    async with scene.runtime() as runtime:
        ref = await begun(runtime)
        with pytest.raises(NotRepairable, match=r"there is repair\.sale/s-1/1/0"):
            await by_ann(runtime).mark_done(ref, "repair.sale/s-1/7/0", Charged("s-1"))
        repaired = await by_ann(runtime).mark_done(ref, "repair.sale/s-1/1/0", Charged("s-1", 90))
        assert repaired.deadlines_cleared == ("remind",)
        assert repaired.jobs == ("repair.sale/s-1/1/0",)
        scene.shop.mend()
        await scene.clock.advance(timedelta(hours=3))
        assert (await view_of(runtime, ref)).state.charged == 90
    async with scene.runtime() as runtime:
        assert (await view_of(runtime, runtime.ref(Sale, "s-1"))).state.charged == 90
        assert await runtime.queue("repair.till").depth() == 0
    assert scene.shop.did == []


@quickly
async def test_a_sequential_queue_keeps_its_order_while_its_first_job_is_repaired(scene):
    row = WorkQueue("repair.row", sequential=True, retry=RARELY)

    @row.worker
    async def charge_in_a_row(command: Charge, job: Job, shop: Shop) -> Charged:
        shop.do(f"charge {command.id}", job)
        return Charged(command.id)

    scene.members = [Sale, row]
    scene.shop.breaks("charge s-1")
    async with scene.runtime(queue_window=1) as runtime:
        ref = await begun(runtime, "s-1")
        for number in range(2, 6):
            await begun(runtime, f"s-{number}")
        assert scene.shop.did == []
        await by_ann(runtime).set_deadline(ref, "remind", scene.clock.now + timedelta(days=9))
        with pytest.raises(NotRepairable):
            await by_ann(runtime).mark_done(ref, "other")
        await by_ann(runtime).mark_done(runtime.ref(Sale, "s-3"), "repair.sale/s-3/1/0")
        await runtime.settled()
        assert scene.shop.did == []
        scene.shop.mend()
        await by_ann(runtime).retry(ref)
        await scene.clock.advance(timedelta(0))
        await runtime.settled()
    assert scene.shop.did == ["charge s-1", "charge s-2", "charge s-4", "charge s-5"]


@quickly
async def test_a_retry_where_nothing_waits_names_the_dead_letter_that_can_be_redriven(scene):
    scene.shop.breaks("charge 100", for_good=True)
    async with scene.runtime() as runtime:
        ref = await begun(runtime)
        (letter,) = await letters(runtime)
        with pytest.raises(NotRepairable) as raised:
            await by_ann(runtime).retry(ref)
        assert f"perdure dead redrive {letter.id}" in (raised.value.remedy or "")


@quickly
async def test_a_command_that_is_a_dead_letter_is_done_by_hand_too(scene):
    scene.shop.breaks("charge 100", for_good=True)
    async with scene.runtime() as runtime:
        ref = await begun(runtime)
        (letter,) = await letters(runtime)
        await by_ann(runtime).mark_done(ref, letter.message_id)
        assert await letters(runtime) == []
        assert (await view_of(runtime, ref)).state.charged == 0


@quickly
async def test_what_it_has_sent_is_made_up_for_and_it_has_failed(scene):
    async with scene.runtime() as runtime:
        ref = await begun(runtime)
        repaired = await by_ann(runtime).compensate(ref)
        assert [sent.content for sent in repaired.commands] == [Refund("s-1")]
        await runtime.settled()
        view = await view_of(runtime, ref)
        assert (view.status, view.failure) == (
            Status.FAILED,
            "compensated: bug 4711 (by ann)",
        )
        with pytest.raises(InstanceFinished):
            await by_ann(runtime).compensate(ref)
    assert scene.shop.did == ["charge 100", "refund"]


@quickly
async def test_what_waits_for_its_next_attempt_is_not_tried_again_after_it_was_made_up_for(scene):
    scene.shop.breaks("charge 100")
    async with scene.runtime() as runtime:
        ref = await begun(runtime)
        scene.shop.mend()
        repaired = await by_ann(runtime).compensate(ref)
        assert repaired.jobs == ("repair.sale/s-1/1/0",)
        assert repaired.text.endswith("; not tried again: repair.sale/s-1/1/0")
        await scene.clock.advance(timedelta(hours=1))
        await runtime.settled()
    async with scene.runtime() as runtime:
        await scene.clock.advance(timedelta(hours=1))
        await runtime.settled()
    assert scene.shop.did == ["refund"]


class Twice(Sale):
    name = "repair.twice"

    @starts(Placed, by="id")
    def placed(self, state, event, do):
        do.send(Charge(event.id, 1))
        do.send(Charge(event.id, 2))

    @compensates(Charge)
    def undo(self, state, failed):
        return [Refund(f"{failed.cents}")]


@quickly
async def test_commands_are_made_up_for_one_after_the_other_the_latest_first(scene):
    queue, attempts = WorkQueue("repair.undoing", retry=RARELY), []

    @queue.worker
    async def take(command: Charge) -> None: ...

    @queue.worker
    async def give_back(command: Refund) -> None:
        attempts.append(command.id)
        if len(attempts) == 1:
            raise ValueError("not now")

    scene.members = [Twice, queue]
    async with scene.runtime() as runtime:
        await runtime.publish(Placed("s-1"))
        await runtime.settled()  # what a worker is at is not taken from it
        await by_ann(runtime).compensate(runtime.ref(Twice, "s-1"))
        await runtime.settled()
        assert attempts == ["2"]
        await scene.clock.advance(timedelta(hours=1))
        await runtime.settled()
        assert attempts == ["2", "2", "1"]


@quickly
async def test_what_was_made_up_for_when_it_failed_is_not_made_up_for_again(scene):
    scene.shop.breaks("charge 100", for_good=True)
    async with scene.runtime() as runtime:
        ref = await begun(runtime)
        assert scene.shop.did == ["refund"]
        with pytest.raises(NotRepairable, match="declares them for Charge"):
            await by_ann(runtime).compensate(ref)


@quickly
async def test_a_cancelled_one_has_failed_with_who_and_why(scene):
    async with scene.runtime() as runtime:
        ref = await begun(runtime)
        await by_ann(runtime).cancel(ref)
        view = await view_of(runtime, ref)
        assert view.failure == "cancelled: bug 4711 (by ann)"
    async with scene.runtime() as runtime:
        ref = runtime.ref(Sale, "s-1")
        assert await audited(runtime, ref) == ["cancel by ann"]
        assert (await view_of(runtime, ref)).failure == "cancelled: bug 4711 (by ann)"


# Dead letters


@quickly
async def test_a_dead_message_is_edited_and_taken_once_under_its_own_id(scene):
    async with scene.runtime() as runtime:
        ref = await begun(runtime)
        await note(runtime, ref, "poison")
        (letter,) = await letters(runtime)
        with pytest.raises(HandlerFailed, match="poison"):
            await by_ann(runtime).redrive(letter)
        assert await letters(runtime) == [letter]
        repaired = await by_ann(runtime).redrive(letter, Noted("s-1", "antidote"))
        assert (repaired.letters, await letters(runtime)) == ((letter.id,), [])
        again = await runtime.send(ref, Noted("s-1", "poison"), message_id="poison")
        assert again.duplicate
        with pytest.raises(NotRepairable, match="no dead letter"):
            await by_ann(runtime).redrive(letter)
    async with scene.runtime() as runtime:
        ref = runtime.ref(Sale, "s-1")
        assert (await view_of(runtime, ref)).state.notes == ("antidote",)
        assert await audited(runtime, ref) == ["redrive by ann"]
        entry = [entry async for entry in runtime.history(ref)][-1]
        assert (entry.by, entry.why, entry.message_id) == ("ann", "bug 4711", "poison")


@quickly
async def test_a_dead_message_that_came_again_meanwhile_is_not_taken_twice(scene):
    async with scene.runtime() as runtime:
        ref = await begun(runtime)
        BAD["text"] = "odd"
        await note(runtime, ref, "odd")
        await scene.clock.advance(timedelta(hours=1))
        (letter,) = await letters(runtime)
        BAD["text"] = ""
        await note(runtime, ref, "odd")
        with pytest.raises(NotRepairable, match=r"is in turn \d+ already"):
            await by_ann(runtime).redrive(letter, dry_run=True)
        with pytest.raises(NotRepairable, match=r"is in turn \d+ already"):
            await by_ann(runtime).redrive(letter)
        await by_ann(runtime).discard(letter)
        assert await letters(runtime) == []
        assert (await view_of(runtime, ref)).state.notes == ("odd",)


@quickly
async def test_a_dead_command_is_edited_and_performed_under_its_id(scene):
    scene.shop.breaks("charge 100", for_good=True)
    async with scene.runtime() as runtime:
        ref = await begun(runtime)
        (letter,) = await letters(runtime)
        with pytest.raises(InvalidResult):
            await begun_papers_letter(runtime, scene)
        await by_ann(runtime).redrive(letter, Charge("s-1", 80))
        await runtime.settled()
        assert (await view_of(runtime, ref)).state.charged == 80
    assert scene.shop.did[-1] == "charge 80"
    assert scene.shop.keys[-1] == letter.message_id


async def begun_papers_letter(runtime: Runtime, scene: Scene):
    """Redrive a step of a list with data that is none."""
    scene.shop.breaks("scan", for_good=True)
    await runtime.send(runtime.ref(papers, "p"), Order("p"))
    await runtime.settled()
    (letter,) = [one for one in await letters(runtime) if one.saga == "repair.papers"]
    return await by_ann(runtime).redrive(letter, Charge("p"))


@quickly
async def test_a_step_is_redriven_with_other_data(scene):
    scene.shop.breaks("read", for_good=True)
    async with scene.runtime() as runtime:
        ref = runtime.ref(papers, "p")
        await runtime.send(ref, Order("p"))
        await runtime.settled()
        (letter,) = await letters(runtime)
        scene.shop.mend()
        await by_ann(runtime).redrive(letter, Order("p", room="mended"))
        await runtime.settled()
        view = await view_of(runtime, ref)
        assert (view.status, view.state.data.seat) == (Status.COMPLETED, "mended, read")


@quickly
async def test_a_step_whose_saga_has_ended_is_performed_for_nobody(scene):
    scene.shop.breaks("fly", for_good=True)
    async with scene.runtime() as runtime:
        ref = runtime.ref(scene.trip, "t")
        await runtime.send(ref, Order("t"))
        await runtime.settled()
        (letter,) = await letters(runtime)
        scene.shop.mend()
        for do in (by_ann(runtime).redrive, lambda one: runtime.dead_letters.redrive(one.id)):
            with pytest.raises(InstanceFinished, match="nobody waits"):
                await do(letter)
        assert await runtime.dead_letters.redrive_all() == 0
        assert len(await letters(runtime)) == 1
    async with scene.runtime() as runtime:
        with pytest.raises(InstanceFinished, match="nobody waits"):
            await runtime.dead_letters.redrive(letter.id)
        ref = runtime.ref(scene.trip, "t")
        ended_at = (await view_of(runtime, ref)).updated_at
        await scene.clock.advance(timedelta(hours=1))
        await by_ann(runtime).discard(letter)
        assert await letters(runtime) == []
        assert (await view_of(runtime, ref)).updated_at == ended_at  # it is still known when
        assert await audited(runtime, ref) == ["discard by ann"]


@quickly
async def test_of_a_job_that_no_saga_sent_the_log_tells_who_redrove_it(scene, caplog):
    scene.shop.breaks("charge 100", for_good=True)
    async with scene.runtime() as runtime:
        await runtime.enqueue(Charge("nobody's"))
        await runtime.settled()
        (letter,) = await letters(runtime)
        dry = await by_ann(runtime).redrive(letter, Charge("nobody's", 5), dry_run=True)
        assert (dry.dry_run, dry.sequence_nr) == (True, None)
        with caplog.at_level(logging.WARNING, "perdure.repair"):
            await by_ann(runtime).redrive(letter, Charge("nobody's", 5))
        assert "ann (bug 4711): dead letter 1 (repair-test.charge) is redriven, edited" in (
            caplog.text
        )
        await runtime.settled()
    assert scene.shop.did == ["charge 5"]


@quickly
async def test_of_a_message_that_found_no_instance_too(scene, caplog):
    async with scene.runtime() as runtime:
        await runtime.send(runtime.ref(Sale, "late"), Noted("late", "early"))
        await scene.clock.advance(timedelta(hours=2))
        (letter,) = await letters(runtime)
        with caplog.at_level(logging.WARNING, "perdure.repair"):
            await by_ann(runtime).redrive(letter)
        assert "belongs to no instance here" in caplog.text
        ref = await begun(runtime, "late")
        assert (await view_of(runtime, ref)).state.notes == ("early",)


@quickly
async def test_many_letters_are_redriven_by_filter(scene):
    scene.shop.breaks("charge 100", for_good=True)
    async with scene.runtime() as runtime:
        for number in range(5):
            await begun(runtime, f"s-{number}")
        scene.shop.mend()
        repair, found = by_ann(runtime), runtime.dead_letters.list(queue="repair.till")
        tried = await repair.each(found, "redrive")
        assert [one.is_done for one in tried] == [True] * 5
        await runtime.settled()
        assert await letters(runtime) == []
        for number in range(5):
            ref = runtime.ref(Sale, f"s-{number}")
            assert (await view_of(runtime, ref)).state.charged == 100
            assert await audited(runtime, ref) == ["redrive by ann"]


def test_who_and_why_are_shown_also_when_nobody_can_read_the_rest():
    plain = {"action": "send", "by": "ann", "why": "so", "text": "sent x", "content": object()}
    at, kind = datetime.now(UTC), "perdure.Intervention"
    entry = HistoryEntry(
        1, at, "m", kind, plain, Outcome.APPLIED, False, [], [], {}, [], None, None, None, None
    )
    assert (entry.by, entry.why) == ("ann", "so")
    assert str(entry.intervention) == "send by ann (so): sent x"


# Deadlines


@quickly
async def test_a_deadline_is_set_to_another_moment_or_cancelled(scene):
    async with scene.runtime() as runtime:
        scene.shop.breaks("charge 100")
        ref = await begun(runtime)
        at = scene.clock.now + timedelta(days=1)
        repaired = await by_ann(runtime).set_deadline(ref, "remind", at)
        assert repaired.deadlines_set == {"remind": at}
        await scene.clock.advance(timedelta(hours=2))
        assert (await view_of(runtime, ref)).status is Status.RUNNING
    async with scene.runtime() as runtime:
        ref = runtime.ref(Sale, "s-1")
        assert (await view_of(runtime, ref)).deadlines == {"remind": at}
        await by_ann(runtime).cancel_deadline(ref, "remind")
        assert (await view_of(runtime, ref)).deadlines == {}
        with pytest.raises(NotRepairable, match="no deadline 'remind' is set"):
            await by_ann(runtime).cancel_deadline(ref, "remind")
        await by_ann(runtime).set_deadline(ref, "remind", scene.clock.now - timedelta(days=1))
        await scene.clock.advance(timedelta(0))
        assert (await view_of(runtime, ref)).status is Status.COMPLETED
        with pytest.raises(InstanceFinished):
            await by_ann(runtime).set_deadline(ref, "remind", at)


@quickly
async def test_the_timeout_of_a_stuck_saga_is_put_off_and_it_stays_stuck(scene):
    scene.trip = scene.trip
    scene.shop.breaks("pay", for_good=True)
    scene.shop.breaks("cancel seat")
    async with scene.runtime() as runtime:
        ref = runtime.ref(scene.trip, "t")
        await runtime.send(ref, Order("t"))
        await runtime.settled()
        before = await view_of(runtime, ref)
        assert before.status is Status.STUCK
        at = datetime(2099, 1, 1, tzinfo=UTC)
        await by_ann(runtime).set_deadline(ref, "timeout", at)
        view = await view_of(runtime, ref)
        assert view.deadlines == {"perdure.timeout": at}
        assert (view.status, view.failure) == (before.status, before.failure)


@pytest.mark.parametrize("at", [datetime(2030, 1, 1), "tomorrow", None])
@quickly
async def test_what_is_no_moment_is_refused(scene, at):
    async with scene.runtime() as runtime:
        scene.shop.breaks("charge 100")
        ref = await begun(runtime)
        with pytest.raises(DefinitionError, match="aware datetime"):
            await by_ann(runtime).set_deadline(ref, "remind", at)
        with pytest.raises(NotRepairable, match="there is remind"):
            await by_ann(runtime).set_deadline(ref, "other", datetime.now(UTC))
        with pytest.raises(InstanceNotFound):
            await by_ann(runtime).set_deadline(runtime.ref(Sale, "x"), "remind", datetime.now(UTC))


@quickly
async def test_a_letter_of_nobody_is_edited_by_whoever_has_no_classes(scene):
    scene.shop.breaks("charge 100", for_good=True)
    async with scene.runtime() as runtime:
        await runtime.enqueue(Charge("nobody's"), queue="repair.till")
        await runtime.settled()
        [letter] = await letters(runtime)
        edited = {"type": "repair-test.charge", "data": {"id": "nobody's", "cents": 7}}
        await by_ann(runtime).redrive(letter, edited)
        await runtime.settled()
    assert scene.shop.did == ["charge 7"]


@quickly
async def test_a_number_that_no_letter_can_have_is_that_of_none(scene):
    async with scene.runtime() as runtime:
        for number in (2**63, -(2**63), 0, 10**30):
            with pytest.raises(NotRepairable, match="there is no dead letter"):
                await by_ann(runtime).discard(number)
            assert not await runtime.dead_letters.redrive(number)
