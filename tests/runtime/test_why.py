"""Why an instance of a running runtime waits: what its store, its queues and its workers say."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta

import pytest

from perdure import (
    Approval,
    Approvals,
    AskApproval,
    Cron,
    Decide,
    Effects,
    Fixed,
    MemoryStore,
    OrderedSaga,
    Park,
    PauseSchedule,
    ProcessManager,
    Runtime,
    SagaRef,
    Schedule,
    SqlStore,
    Supervision,
    Who,
    WorkQueue,
    continues,
    errors,
    message,
    starts,
)
from perdure.approvals import submit
from perdure.testing import SimulatedClock
from tests.runtime.support import quickly, until, view_of
from tests.runtime.walks import DAY, Met, Trail, runtime_of, set_out, walk
from tests.sagas import Added, Alarm, AlarmState, Armed, Ledger, Opened


@message(name="why-test.Begun")
class Begun:
    id: str
    how: str = ""


@message(name="why-test.Went")
class Went:
    id: str
    how: str = ""


@message(name="why-test.Charge")
class Charge:
    id: str
    n: int = 0


@dataclass(frozen=True)
class Nothing:
    pass


class Order(ProcessManager[Nothing]):
    """Sends commands, or a child, as its message says."""

    name = "Order"
    on_missing = Park(for_s=60)

    @starts(Begun, by="id")
    def begun(self, state: Nothing, event: Begun, do: Effects) -> None:
        if event.how == "child":
            policy = Approval(Who(people=("ann",)), expires=timedelta(days=3))
            do.start_child("boss", Approvals, AskApproval("", Charge("c"), policy, "eve"))
        elif event.how:
            for n in range(int(event.how)):
                do.send(Charge(event.id, n), after_previous=n > 0)

    @continues(Went, by="id")
    def went(self, state: Nothing, event: Went, do: Effects) -> None:
        if event.how == "raise":
            raise ValueError("not so\x1b[1m")


class Retrying(Order):
    name = "Retrying"
    retry = Fixed(30, max_attempts=3)


class Frail(Order):
    name = "Frail"
    supervision = Supervision.quarantine()


async def said(runtime: Runtime, ref: SagaRef) -> list[str]:
    return [one.text for one in await runtime.why_waiting(ref)]


async def kinds(runtime: Runtime, ref: SagaRef) -> list[str]:
    return [one.kind.value for one in await runtime.why_waiting(ref)]


async def begun(runtime: Runtime, how: str = "", saga: type = Order) -> SagaRef:
    ref = runtime.ref(saga, "o")
    await runtime.send(ref, Begun("o", how))
    return ref


class Till:
    """A queue whose worker does as it is told."""

    def __init__(self, **options: object) -> None:
        self.queue = queue = WorkQueue("till", **options)  # type: ignore[arg-type]
        self.fails = False
        self.at_work = 0
        self.may_end = asyncio.Event()

        @queue.worker
        async def charge(command: Charge) -> None:
            if self.fails:
                raise ConnectionError("refused")
            self.at_work += 1
            await self.may_end.wait()


@quickly
async def test_a_command_from_the_queue_to_its_worker():
    clock, till = SimulatedClock(), Till(concurrency=1)
    async with Runtime(MemoryStore(), [Order, till.queue], clock=clock) as runtime:
        await runtime.queue("till").pause("the provider is down")
        ref = await begun(runtime, "1")
        [paused] = await runtime.why_waiting(ref)
        assert 'Command why-test.Charge (Order/o/1/0) in queue "till" waits' in paused.text
        assert "because: the provider is down" in paused.text
        assert "is paused since 2026-01-01 00:00:00 UTC" in paused.text
        assert paused.remedy
        await runtime.queue("till").resume()
        await until(lambda: till.at_work == 1)
        [running] = await runtime.why_waiting(ref)
        assert (
            "is being performed by a worker: attempt 1, since 2026-01-01 00:00:00" in running.text
        )
        other = runtime.ref(Order, "p")
        await runtime.send(other, Begun("p", "1"))
        [full] = await said(runtime, other)
        assert full.endswith("waits for a free worker: all 1 are at work.")
        till.may_end.set()
        await runtime.settled()
        assert await kinds(runtime, ref) == ["message"]


@quickly
async def test_since_when_a_worker_is_at_work_is_told():
    clock, till = SimulatedClock(), Till(lease_s=3_600)
    async with Runtime(MemoryStore(), [Order, till.queue], clock=clock) as runtime:
        ref = await begun(runtime, "1")
        await until(lambda: till.at_work == 1)
        clock._now_ms += 61_000
        [running] = await said(runtime, ref)
        assert "since 2026-01-01 00:00:00 UTC (1 min 1 s ago)" in running
        till.may_end.set()
        await runtime.settled()


@quickly
async def test_a_command_that_fails_and_one_behind_it():
    clock, till = SimulatedClock(), Till(retry=Fixed(90, max_attempts=2))
    till.fails = True
    async with Runtime(MemoryStore(), [Order, till.queue], clock=clock) as runtime:
        ref = await begun(runtime, "2")
        await clock.settle()
        first, second = await said(runtime, ref)
        assert first.endswith(
            "is tried again (attempt 2 of 2) at 2026-01-01 00:01:30 UTC (in 1 min 30 s). Attempt 1 "
            "failed with ConnectionError: refused."
        )
        assert second.endswith("starts when Order/o/1/0, before it, is done.")
        await clock.advance(timedelta(seconds=90))
        letter, behind, *_ = await runtime.why_waiting(ref)
        assert letter.kind == "dead letter"
        assert "failed for good after 2 attempts (exhausted)" in letter.text
        assert behind.text.endswith(f"starts after Order/o/1/0, which is dead letter {letter.id}.")


@quickly
async def test_a_command_that_nobody_performs_here():
    store = MemoryStore()
    async with Runtime(store, [Order]) as runtime:
        ref = await begun(runtime, "1")
        [nobody] = await runtime.why_waiting(ref)
        assert "nobody performs it" in nobody.text
        assert nobody.queue == "why-test.Charge"
        assert nobody.remedy


@quickly
async def test_a_command_of_a_sequential_queue_that_is_not_the_first():
    clock, till = SimulatedClock(), Till(sequential=True, retry=Fixed(60))
    till.fails = True
    async with Runtime(MemoryStore(), [Order, till.queue], clock=clock) as runtime:
        await begun(runtime, "1")
        await clock.settle()
        other = runtime.ref(Order, "p")
        await runtime.send(other, Begun("p", "1"))
        [behind] = await said(runtime, other)
        assert "the queue does one at a time, and is at Order/o/1/0, which is tried again" in behind


@quickly
async def test_a_message_that_is_parked_and_one_for_nobody():
    clock = SimulatedClock()
    async with Runtime(MemoryStore(), [Order], clock=clock) as runtime:
        ref = runtime.ref(Order, "nobody")
        assert await said(runtime, ref) == [
            "There is no such instance, and no message waits for it."
        ]
        await runtime.send(ref, Went("nobody"), message_id="m-1")
        absent, parked = await said(runtime, ref)
        assert absent == "There is no such instance yet; 1 message for it is kept."
        assert parked.startswith("Message why-test.Went (m-1) is parked since 2026-01-01 00:00:00")
        assert "dead letter at 2026-01-01 00:01:00 UTC (in 1 min)" in parked


@quickly
async def test_a_message_that_is_tried_again_and_those_behind_it():
    clock = SimulatedClock()
    async with Runtime(MemoryStore(), [Retrying], clock=clock) as runtime:
        ref = await begun(runtime, saga=Retrying)
        await runtime.send(ref, Went("o", "raise"), message_id="m-1")
        await runtime.send(ref, Went("o"), message_id="m-2")
        retry, behind = await said(runtime, ref)
        assert retry == (
            "Message why-test.Went (m-1) has failed 1 time, at last with ValueError: not "
            "so\\x1b[1m; it is tried again at 2026-01-01 00:00:30 UTC (in 30 s)."
        )
        assert behind == "1 further message waits behind that one, to keep the order."


@quickly
async def test_one_that_is_quarantined():
    async with Runtime(MemoryStore(), [Frail]) as runtime:
        ref = await begun(runtime, saga=Frail)
        await runtime.send(ref, Went("o", "raise"))
        await runtime.send(ref, Went("o"))
        [aside] = await runtime.why_waiting(ref)
        assert aside.kind == "quarantined"
        assert "a handler failed, and its supervision sets it aside then" in aside.text
        assert aside.text.endswith("ValueError: not so\\x1b[1m. 2 messages for it are kept.")
        assert aside.count == 2


@quickly
async def test_one_that_cannot_be_read(tmp_path):
    path = f"sqlite:///{tmp_path}/why.db"
    async with Runtime(path, [Order]) as runtime:
        await begun(runtime)
    store = SqlStore(path)
    await store.open()
    assert store._connections is not None
    await store._connections.write(lambda c: c.execute("UPDATE journal SET body = x'00'"))
    await store.close()
    async with Runtime(path, [Order]) as runtime:
        ref = runtime.ref(Order, "o")
        [unreadable] = await runtime.why_waiting(ref)
        assert (unreadable.kind, bool(unreadable.remedy)) == ("unreadable", True)
        assert "fails its checksum" in unreadable.text


@quickly
async def test_deadlines_and_what_it_takes():
    clock = SimulatedClock()
    async with Runtime(MemoryStore(), [Alarm], clock=clock) as runtime:
        ref = runtime.ref(Alarm, "x")
        await runtime.send(ref, Opened("x"))
        await runtime.send(ref, Armed("x", "a", 3 * 3_600 + 720))
        takes, deadline = await runtime.why_waiting(ref)
        assert takes.names == (
            "runtime-test.added", "runtime-test.closed", "runtime-test.disarmed",
        )  # fmt: skip
        assert deadline.text == 'Deadline "a" is due at 2026-01-01 03:12:00 UTC (in 3 h 12 min).'


class Guarded(ProcessManager[AlarmState]):
    """Takes what its state lets it take."""

    name = "Guarded"

    @starts(Opened, by="id")
    def opened(self, state: AlarmState, event: Opened, do: Effects) -> None: ...

    @continues(Added, by="id", when="on")
    def added(self, state: AlarmState, event: Added, do: Effects) -> None: ...

    @continues(Armed, by="id", when="off")
    def armed(self, state: AlarmState, event: Armed, do: Effects) -> None: ...

    @continues(Begun, by="id", when=lambda state: state.no_such_field)
    def begun(self, state: AlarmState, event: Begun, do: Effects) -> None: ...


class Plainly(Guarded):
    name = "Plainly"

    @continues(Begun, by="id", when="off")
    def begun(self, state: AlarmState, event: Begun, do: Effects) -> None: ...


@pytest.mark.parametrize(
    ("saga", "names"),
    [
        (Plainly, ("runtime-test.added",)),
        (Guarded, ("runtime-test.added", "runtime-test.armed", "why-test.Begun")),
    ],
)
@quickly
async def test_it_says_what_is_taken_in_this_state_as_far_as_its_guards_can_tell(saga, names):
    async with Runtime(MemoryStore(), [saga]) as runtime:
        ref = runtime.ref(saga, "x")
        await runtime.send(ref, Opened("x"))
        [waits] = await runtime.why_waiting(ref)
        assert waits.names == names


@quickly
async def test_an_approval_and_who_asked_for_it():
    clock = SimulatedClock()
    async with Runtime(MemoryStore(), [Order, Approvals], clock=clock) as runtime:
        ref = await begun(runtime, "child")
        await runtime.settled()
        [child] = await said(runtime, ref)
        until_ = "It expires at 2026-01-04 00:00:00 UTC (in 3 d)."
        waits = f"It waits for 1 approval, by ann. {until_}"
        assert child == f'Child "boss" (perdure.approvals/o/boss) is an approval. {waits}'
        asked = runtime.ref(Approvals, "o/boss")
        assert await said(runtime, asked) == [waits]
        view = await view_of(runtime, asked)
        await submit(runtime, Decide("o/boss", "ann", "approve", view.state.digest))
        assert await kinds(runtime, asked) == ["completed"]
        await runtime.settled()
        assert await kinds(runtime, ref) == ["message"]


@quickly
async def test_a_workflow():
    async def body(ctx, begun):
        await ctx.step("a", begun.id)
        await ctx.sleep("nap", days=2)
        return await ctx.wait_event(Met, timeout=3 * DAY, name="x")

    clock, trail = SimulatedClock(), Trail()
    trail.times["a"] = 1
    async with runtime_of(MemoryStore(), walk(body), clock=clock, trail=trail) as runtime:
        ref = await set_out(runtime)
        [step] = await said(runtime, ref)
        assert step.startswith('Step "a", in queue "walk.a", is tried again (attempt 2 of 3)')
        await clock.advance(timedelta(seconds=1))
        assert await said(runtime, ref) == [
            'It sleeps ("nap") until 2026-01-03 00:00:01 UTC (in 2 d).'
        ]
        await clock.advance(2 * DAY)
        assert await said(runtime, ref) == [
            'It waits for event "walk-test.Met" (as "x"), until 2026-01-06 00:00:01 UTC (in 3 d).'
        ]
        await runtime.send(ref, Met("w"))
        assert await kinds(runtime, ref) == ["completed"]


@quickly
async def test_an_ordered_saga_that_is_stuck():
    trip = OrderedSaga("trip", Begun, by="id")

    @trip.step(name="pay", pivot=True)
    def pay(data: Begun) -> None: ...

    @trip.step(name="hotel", retry=Fixed(0, max_attempts=1))
    def hotel(data: Begun) -> None:
        raise ValueError("full")

    async with Runtime(MemoryStore(), [trip]) as runtime:
        ref = runtime.ref(trip, "t")
        await runtime.send(ref, Begun("t"))
        await runtime.settled()
        stuck, letter = await runtime.why_waiting(ref)
        assert stuck.kind == "stuck"
        assert "hotel (failed, and what was done before is not undone): ValueError: full" in (
            stuck.text
        )
        assert stuck.remedy == "see to it, then retry it"
        assert letter.kind == "dead letter"


@quickly
async def test_a_schedule_that_is_paused():
    clock = SimulatedClock()
    nightly = Schedule("nightly", Cron("0 3 * * *"), lambda run: None)
    async with Runtime(MemoryStore(), [nightly], clock=clock) as runtime:
        ref = runtime.ref(nightly, "nightly")
        assert await said(runtime, ref) == [
            "The next run is due at 2026-01-01 03:00:00 UTC (in 3 h)."
        ]
        await runtime.send(ref, PauseSchedule())
        [paused] = await runtime.why_waiting(ref)
        assert paused.text.startswith("The schedule is paused: no runs are made.")
        [view] = await runtime.schedules()
        assert view.is_paused


@quickly
async def test_asking_wakes_nobody_and_writes_nothing():
    store = MemoryStore()
    async with Runtime(store, [Ledger]) as runtime:
        ref = runtime.ref(Ledger, "x")
        await runtime.send(ref, Opened("x"))
        await runtime.send(ref, Added("x", 2))
    async with Runtime(store, [Ledger]) as runtime:
        ref = runtime.ref(Ledger, "x")
        [waits] = await runtime.why_waiting(ref)
        assert waits.kind == "command"
        assert runtime.residents == 0


@quickly
async def test_of_a_saga_that_is_not_here_nothing_is_asked():
    async with Runtime(MemoryStore(), [Order]) as runtime:
        with pytest.raises(errors.UnknownSaga):
            await runtime.why_waiting(runtime.ref("Nobody", "x"))
