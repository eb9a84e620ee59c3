"""Workflows that are lists of steps: a checkpoint at each, resumed behind the last good one."""

from __future__ import annotations

import asyncio
import shutil
from datetime import timedelta
from typing import Any

import pytest

from perdure import (
    Fixed,
    Job,
    NonRetryable,
    Runtime,
    Settings,
    SqlStore,
    Status,
    Workflow,
    message,
    step,
)
from perdure.errors import InstanceFinished, SagaFailed, SagaStuck
from perdure.testing import SimulatedClock
from tests.runtime.support import FreeClock, quickly, reopened, until, view_of

NAME = "list-test.documents"
ONCE = Fixed(0.001, max_attempts=1)


@message(name="list-test.Document")
class Document:
    id: str
    text: str = ""
    pages: int = 0
    summary: str = ""


class Desk:
    """What steps do by name, and what they did."""

    def __init__(self, **deeds: Any) -> None:
        self.deeds = deeds
        self.log: list[str] = []
        self.keys: set[str] = set()

    async def do(self, name: str, document: Document, job: Job) -> Any:
        self.log.append(name)
        self.keys.add(job.key)
        deed = self.deeds.get(name)
        if isinstance(deed, Exception):
            raise deed
        found = deed(document, job) if callable(deed) else deed
        return await found if asyncio.iscoroutine(found) else found


def workflow(*names: str, timeout: timedelta | None = None, **options: Any) -> Workflow:
    def declared(name: str) -> Any:
        @step(name=name, **{"retry": ONCE, **options.get(name, {})})
        async def perform(document: Document, job: Job, desk: Desk) -> Any:
            return await desk.do(name, document, job)

        return perform

    steps = [*map(declared, names)]
    return Workflow(NAME, Document, by="id", steps=steps, timeout=timeout)


def over(store: Any, flow: Workflow, desk: Desk, clock: Any = None, **given: Any) -> Runtime:
    return Runtime(store, [flow], Settings(**given), resources={"desk": desk}, clock=clock)


def ref(runtime: Runtime, id: str = "d") -> Any:
    return runtime.ref(NAME, id)


async def ended(runtime: Runtime, id: str = "d") -> str:
    try:
        await runtime.result(ref(runtime, id))
    except SagaFailed as error:
        return error.problem
    except SagaStuck as error:
        return f"stuck: {error.problem}"
    return "completed"


DEEDS = {
    "upload": {"text": "two pages"},
    "extract": lambda document, job: {"pages": len(document.text.split())},
    "summarise": lambda document, job: {"summary": f"{document.pages}: {document.text[:3]}"},
}
STEPS = tuple(DEEDS)


@quickly
async def test_there_is_a_checkpoint_before_and_after_each_step_with_the_data_as_it_was(store):
    desk = Desk(**DEEDS)
    async with over(store, workflow(*STEPS), desk) as runtime:
        await runtime.publish(Document("d"))
        done = await runtime.result(ref(runtime))
        assert done == Document("d", "two pages", 2, "2: two")
        turns = [turn async for turn in runtime.history(ref(runtime))]
        assert [[type(one).__name__ for one in turn.events] for turn in turns] == [
            ["Document", "StepStarted"],
            ["StepCompleted", "StepAdvanced", "StepStarted"],
            ["StepCompleted", "StepAdvanced", "StepStarted"],
            ["StepCompleted", "Completed"],
        ]
        before = [sent.content.data for turn in turns for sent in turn.sent]
        after = [turn.message.data for turn in turns[1:]]
        assert before == [Document("d"), *after[:-1]]
        assert after == [
            Document("d", "two pages"),
            Document("d", "two pages", 2),
            Document("d", "two pages", 2, "2: two"),
        ]
        view = await view_of(runtime, ref(runtime))
        assert (view.status, view.state.outcome) == (Status.COMPLETED, "completed")
    async with over(reopened(store), workflow(*STEPS), desk) as runtime:
        assert await runtime.result(ref(runtime)) == done
    assert desk.log == list(STEPS)


@pytest.mark.parametrize("snapshot_every", [1, 100])
@quickly
async def test_a_failed_step_waits_listed_and_is_tried_again_behind_the_last_checkpoint(
    snapshot_every, store
):
    desk = Desk(**{**DEEDS, "extract": KeyError("no key")})
    given = {"snapshot_every": snapshot_every}
    async with over(store, workflow(*STEPS), desk, **given) as runtime:
        await runtime.publish(Document("d"))
        why = "extract (failed, and what was done before is not undone): KeyError: 'no key'"
        assert await ended(runtime) == f"stuck: {why}"
    async with over(reopened(store), workflow(*STEPS), desk, **given) as runtime:
        assert await ended(runtime) == f"stuck: {why}"
        (stuck,) = [one async for one in runtime.instances(NAME, status="stuck")]
        assert (stuck.correlation_id, stuck.state.stuck_steps) == ("d", ("extract",))
        assert stuck.state.data == Document("d", "two pages"), "it keeps what it has"
        await runtime.resume(runtime.ref_to(stuck))
        assert await ended(runtime) == f"stuck: {why}"
        desk.deeds["extract"] = DEEDS["extract"]
        await runtime.resume(ref(runtime))
        assert (await runtime.result(ref(runtime))).summary == "2: two"
        assert [letter async for letter in runtime.dead_letters.list()] == []
    assert desk.log == ["upload", "extract", "extract", "extract", "summarise"]
    assert len(desk.keys) == 3, "each step has one key"


@quickly
async def test_redriving_the_dead_letter_of_a_step_goes_on_as_well(store):
    desk = Desk(**{**DEEDS, "extract": NonRetryable("no key")})
    async with over(store, workflow(*STEPS), desk) as runtime:
        await runtime.publish(Document("d"))
        assert "stuck" in await ended(runtime)
        desk.deeds["extract"] = DEEDS["extract"]
        assert await runtime.dead_letters.redrive_all() == 1
        await runtime.settled()
        assert (await runtime.result(ref(runtime))).summary == "2: two"


async def hang(document: Document, job: Job) -> None:
    await asyncio.Event().wait()


@quickly
async def test_an_attempt_without_an_end_is_repeated_and_in_the_end_waits(memory):
    desk = Desk(**{**DEEDS, "extract": hang})
    options = {"lease_s": 0.02, "retry": Fixed(0, max_attempts=2)}
    async with over(memory, workflow(*STEPS, extract=options), desk) as runtime:
        await runtime.publish(Document("d"))
        assert "extract (failed, and nobody knows whether it had its effect)" in await ended(
            runtime
        )
        desk.deeds["extract"] = DEEDS["extract"]
        await runtime.resume(ref(runtime))
        assert await ended(runtime) == "completed"
    assert desk.log.count("extract") == 3


@pytest.mark.parametrize("repeats", [True, False])
@quickly
async def test_after_a_crash_in_a_step_it_is_repeated_unless_it_says_otherwise(repeats, tmp_path):
    started, may_end = asyncio.Event(), asyncio.Event()

    async def at_work(document: Document, job: Job) -> None:
        started.set()
        await may_end.wait()

    desk = Desk(**{**DEEDS, "extract": at_work})
    before, after = tmp_path / "before.db", tmp_path / "after.db"
    flow = workflow(*STEPS, extract={"repeat_unknown": repeats, "retry": Fixed(0.001)})

    def at(path: Any) -> Runtime:
        return over(SqlStore(f"sqlite+aiosqlite:///{path}", synchronous="NORMAL"), flow, desk)

    async with at(before) as runtime:
        await runtime.publish(Document("d"))
        await started.wait()
        shutil.copy(before, after)  # what a crash leaves behind
        shutil.copy(f"{before}-wal", f"{after}-wal")
        may_end.set()
    desk.log.clear()
    async with at(after) as runtime:
        end = await ended(runtime)
    assert desk.log == (["extract", "summarise"] if repeats else [])
    assert end == "completed" if repeats else "nobody knows" in end


@quickly
async def test_cancelled_it_ends_where_it_is_whatever_is_still_done(memory):
    may_end = asyncio.Event()

    async def at_work(document: Document, job: Job) -> Any:
        await may_end.wait()
        return {"pages": 7}

    desk = Desk(**{**DEEDS, "extract": at_work})
    async with over(memory, workflow(*STEPS), desk) as runtime:
        await runtime.publish(Document("d"))
        await until(lambda: "extract" in desk.log)
        await runtime.cancel(ref(runtime), "not needed")
        assert await ended(runtime) == "cancelled: not needed"
        may_end.set()
        await runtime.settled()
        view = await view_of(runtime, ref(runtime))
        assert (view.status, view.state.outcome) == (Status.FAILED, "stopped")
        assert (view.state.data.pages, view.state.error) == (0, "cancelled: not needed")
        with pytest.raises(InstanceFinished):
            await runtime.resume(ref(runtime))
    assert desk.log == ["upload", "extract"]


@quickly
async def test_a_stuck_one_may_be_cancelled_or_times_out(store):
    clock = SimulatedClock()
    desk = Desk(extract=NonRetryable("no key"))
    flow = workflow(*STEPS, timeout=timedelta(days=3))
    async with over(store, flow, desk, clock) as runtime:
        for id in ("d", "e"):
            await runtime.publish(Document(id))
        await clock.advance(timedelta(days=1))
        await runtime.cancel(ref(runtime), "lost")
        assert await ended(runtime) == "cancelled: lost"
        assert "stuck" in await ended(runtime, "e")
        await clock.advance(timedelta(days=2))
        assert await ended(runtime, "e") == "timed out"
        assert [one async for one in runtime.instances(NAME, status="stuck")] == []


@quickly
async def test_a_step_past_its_deadline_waits_for_somebody(memory):
    clock, desk = FreeClock(), Desk(**{**DEEDS, "extract": hang})
    flow = workflow(*STEPS, extract={"deadline": timedelta(minutes=1), "retry": Fixed(1)})
    async with over(memory, flow, desk, clock) as runtime:
        await runtime.publish(Document("d"))
        await until(lambda: "extract" in desk.log)
        await clock.advance(timedelta(minutes=1))
        assert "the time within which the command had to be done is up" in await ended(runtime)
        desk.deeds["extract"] = DEEDS["extract"]
        await runtime.resume(ref(runtime))
        assert await ended(runtime) == "completed"


@quickly
async def test_a_result_that_is_no_good_waits_for_better_code(store):
    desk = Desk(**{**DEEDS, "extract": {"page": 2}})
    async with over(store, workflow(*STEPS), desk) as runtime:
        await runtime.publish(Document("d"))
        end = await ended(runtime)
        assert "step 'extract' returned 'page', which Document does not take" in end
        assert "return some of id, pages, summary, text" in end
        desk.deeds["extract"] = DEEDS["extract"]
        await runtime.resume(ref(runtime))
        assert await ended(runtime) == "completed"


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (("extract", "summarise"), "step 'upload', completed, is not in the definition any more"),
        (("upload2", "extract", "summarise"), "step 'upload', completed, is not in the definition"),
        (("upload", "scan", *STEPS[1:]), "step 'scan' is new, and comes before 'extract'"),
        (("upload", "summarise", "extract"), "step 'summarise' is new, and comes before 'extract'"),
    ],
)
@quickly
async def test_a_definition_that_does_not_fit_leaves_it_stuck_until_it_does(names, why, store):
    desk = Desk(**DEEDS)
    async with over(store, workflow(*STEPS), desk) as runtime:
        await runtime.queue(f"{NAME}.extract").pause()
        await runtime.publish(Document("d"))
        await runtime.settled()
    store = reopened(store)
    async with over(store, workflow(*names), desk) as runtime:
        await runtime.queue(f"{NAME}.extract").resume()
        assert why in await ended(runtime)
        await runtime.resume(ref(runtime))
        assert why in await ended(runtime)
    async with over(reopened(store), workflow(*STEPS), desk) as runtime:
        await runtime.resume(ref(runtime))
        assert (await runtime.result(ref(runtime))).summary == "2: two"
    assert desk.log == list(STEPS), "nothing was guessed, nothing done twice"


@quickly
async def test_steps_may_be_added_at_the_end_and_where_nobody_has_come_yet(store):
    desk = Desk(**DEEDS)
    async with over(store, workflow(*STEPS), desk) as runtime:
        await runtime.queue(f"{NAME}.extract").pause()
        await runtime.publish(Document("d"))
        await runtime.settled()
    async with over(reopened(store), workflow(*STEPS[:2], "check", "summarise", "send"), desk) as r:
        await r.queue(f"{NAME}.extract").resume()
        assert await ended(r) == "completed"
    assert desk.log == ["upload", "extract", "check", "summarise", "send"]


@quickly
async def test_a_step_that_was_sent_and_is_gone_waits_for_its_return(store):
    desk = Desk(**DEEDS)
    async with over(store, workflow(*STEPS), desk) as runtime:
        await runtime.queue(f"{NAME}.extract").pause()
        await runtime.publish(Document("d"))
        await runtime.settled()
    store = reopened(store)
    async with over(store, workflow("upload", "summarise"), desk) as runtime:
        await runtime.settled()
        assert (await view_of(runtime, ref(runtime))).status is Status.RUNNING
        assert len(await runtime.store.outbox()) == 1
    async with over(reopened(store), workflow(*STEPS), desk) as runtime:
        await runtime.queue(f"{NAME}.extract").resume()
        assert await ended(runtime) == "completed"
    assert desk.log == list(STEPS)


@quickly
async def test_long_lists_are_walked_through_many_processes(store):
    names = [f"s{number}" for number in range(60)]
    desk, given = Desk(), {"snapshot_every": 7, "idle_after_s": 0.001}
    flow = workflow(*names)
    for number in range(0, 60, 15):
        async with over(store, flow, desk, **given) as runtime:
            await runtime.queue(f"{NAME}.s{number}").resume()
            if number < 45:
                await runtime.queue(f"{NAME}.s{number + 15}").pause()
            await runtime.publish(Document("d"), message_id="m-1")
            await runtime.settled()
        store = reopened(store)
    async with over(store, flow, desk) as runtime:
        assert await ended(runtime) == "completed"
    assert desk.log == names


@quickly
async def test_a_step_that_returns_another_id_waits_and_goes_on_when_it_is_mended(store):
    desk = Desk(upload={"id": "other"})
    async with over(store, workflow("upload", "check"), desk) as runtime:
        await runtime.publish(Document("d"))
        with pytest.raises(SagaStuck, match="returned another 'id', by which"):
            await runtime.result(ref(runtime))
        desk.deeds["upload"] = {"id": "d", "pages": 3}
        await runtime.resume(ref(runtime))
        assert await runtime.result(ref(runtime)) == Document("d", pages=3)
