"""A command that another saga takes later than at once: its sender hears what became of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, ClassVar

import pytest

from perdure import (
    Effects,
    Fixed,
    MemoryStore,
    Park,
    ProcessManager,
    Runtime,
    Supervision,
    applies,
    compensates,
    continues,
    message,
    starts,
)
from perdure.messages import CommandFailed
from perdure.testing import SimulatedClock
from tests.runtime.support import quickly

FAILS: Counter[str] = Counter()
TRIED: Counter[str] = Counter()


@message(name="asked-test.begin")
class Begin:
    id: str


@message(name="asked-test.open")
class Open:
    id: str


@message(name="asked-test.question")
class Question:
    id: str


@message(name="asked-test.answer")
class Answer:
    id: str
    n: int


@dataclass(frozen=True)
class Heard:
    answers: tuple[int, ...] = ()
    failures: int = 0


class Asker(ProcessManager[Heard]):
    name = "asked-test.asker"

    @starts(Begin, by="id")
    def begin(self, state: Heard, event: Begin, do: Effects) -> None:
        do.send(Question(event.id))

    @continues(Answer, by="id")
    def answered(self, state: Heard, event: Answer, do: Effects) -> None:
        pass

    @applies(Answer)
    def took(self, state: Heard, event: Answer) -> Heard:
        return replace(state, answers=(*state.answers, event.n))

    @applies(CommandFailed)
    def failed(self, state: Heard, event: CommandFailed) -> Heard:
        return replace(state, failures=state.failures + 1)

    @compensates(Question)
    def nothing(self, state: Heard, command: Question) -> list[Any]:
        return []


class Delaying(ProcessManager[Heard]):
    name = "asked-test.answerer"
    retry: ClassVar[Any] = Fixed(5, max_attempts=3)

    @starts(Question, by="id")
    def question(self, state: Heard, event: Question, do: Effects) -> None:
        TRIED[event.id] += 1
        if TRIED[event.id] <= FAILS[event.id]:
            raise ValueError("shaken")
        do.reply(Answer(event.id, 7))


class Quarantining(Delaying):
    retry = None
    supervision = Supervision.quarantine()


class Restarting(Delaying):
    retry = None
    supervision = Supervision.restart(backoff=Fixed(5))


class Parking(ProcessManager[Heard]):
    name = "asked-test.answerer"
    on_missing = Park(for_s=30)

    @starts(Open, by="id")
    def open(self, state: Heard, event: Open, do: Effects) -> None:
        pass

    @continues(Question, by="id")
    def question(self, state: Heard, event: Question, do: Effects) -> None:
        do.reply(Answer(event.id, 7))


class Ending(Parking):
    """The first failure is tried again, the second ends it."""

    retry = Fixed(5, max_attempts=2)
    supervision = Supervision.stop()

    @continues(Question, by="id")
    def question(self, state: Heard, event: Question, do: Effects) -> None:
        raise ValueError("shaken")


@pytest.fixture(autouse=True)
def _forgotten():
    FAILS.clear()
    TRIED.clear()


async def heard(runtime: Runtime) -> tuple[tuple[int, ...], int]:
    view = await runtime.state(runtime.ref(Asker, "x"))
    assert view is not None
    return view.state.answers, view.state.failures


async def later(clock: SimulatedClock, runtime: Runtime, seconds: float) -> None:
    await clock.advance(timedelta(seconds=seconds))
    await runtime.settled()


@pytest.mark.parametrize("saga", [Delaying, Restarting, Quarantining])
@quickly
async def test_the_reply_of_a_turn_that_succeeds_later_is_heard(saga):
    FAILS["x"] = 2 if saga is not Quarantining else 1
    store, clock = MemoryStore(), SimulatedClock()
    async with Runtime(store, [Asker, saga], clock=clock) as runtime:
        await runtime.publish(Begin("x"))
        await runtime.settled()
        assert await heard(runtime) == ((), 0)
        if saga is Quarantining:
            await later(clock, runtime, 1000)
            assert len(await store.outbox()) == 1
            assert await runtime.release(runtime.ref(saga, "x"))
        await later(clock, runtime, 100)
        assert await heard(runtime) == ((7,), 0)
        assert TRIED["x"] == FAILS["x"] + 1
        assert await store.outbox() == []
        assert await store.inbox() == []


@quickly
async def test_a_command_that_waits_is_asked_for_by_the_next_runtime():
    FAILS["x"] = 1
    store, clock = MemoryStore(), SimulatedClock()
    async with Runtime(store, [Asker, Quarantining], clock=clock) as runtime:
        await runtime.publish(Begin("x"))
        await later(clock, runtime, 10)
    async with Runtime(store, [Asker, Quarantining], clock=clock) as runtime:
        assert await runtime.release(runtime.ref(Quarantining, "x"))
        await later(clock, runtime, 100)
        assert await heard(runtime) == ((7,), 0)
        assert TRIED["x"] == 2


@quickly
async def test_a_command_whose_retries_are_used_up_has_failed_and_is_not_tried_anew():
    FAILS["x"] = 100
    store, clock = MemoryStore(), SimulatedClock()
    async with Runtime(store, [Asker, Delaying], clock=clock) as runtime:
        await runtime.publish(Begin("x"))
        await later(clock, runtime, 200)
        assert await heard(runtime) == ((), 1)
        assert TRIED["x"] == 3
        assert await store.outbox() == []
        assert await store.inbox() == []


@pytest.mark.parametrize("opens", [True, False])
@quickly
async def test_a_parked_command_is_answered_or_given_up_when_it_expires(opens):
    store, clock = MemoryStore(), SimulatedClock()
    async with Runtime(store, [Asker, Parking], clock=clock) as runtime:
        await runtime.publish(Begin("x"))
        await later(clock, runtime, 10)
        assert await heard(runtime) == ((), 0)
        if opens:
            await runtime.publish(Open("x"))
        await later(clock, runtime, 200)
        assert await heard(runtime) == (((7,), 0) if opens else ((), 1))
        assert await store.outbox() == []
        assert await store.inbox() == []


@quickly
async def test_a_command_that_ended_its_instance_at_a_later_attempt_has_failed():
    store, clock = MemoryStore(), SimulatedClock()
    async with Runtime(store, [Asker, Ending], clock=clock) as runtime:
        await runtime.publish(Open("x"))
        await runtime.publish(Begin("x"))
        await later(clock, runtime, 100)
        assert await heard(runtime) == ((), 1)
        assert await store.outbox() == []
