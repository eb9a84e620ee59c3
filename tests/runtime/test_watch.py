"""User code that blocks the loop is noticed from outside; a turn that took too long is fenced."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest

from perdure import (
    Effects,
    Fixed,
    MemoryStore,
    Outcome,
    ProcessManager,
    Runtime,
    Settings,
    applies,
    continues,
    message,
    on_deadline,
    on_timeout,
    starts,
)
from perdure.errors import HandlerFailed, TurnTooLong
from perdure.runtime.watching.loop_watch import LOOKS_PER_LIMIT, LoopWatch
from perdure.testing import SimulatedClock
from tests.runtime.errands import Asked, Done, desk, errands
from tests.runtime.support import in_loop, parts, quickly, state_of

LIMIT_S = 0.4
LONG = 11.0
"""Seconds, in a turn whose limit is the default of ten."""


@message(name="watch-test.begun")
class Begun:
    id: str


@message(name="watch-test.took")
class Took:
    id: str
    where: str = ""
    n: int = 0


@message(name="watch-test.go")
class Go:
    id: str


@dataclass(frozen=True)
class SlowState:
    seen: tuple[int, ...] = ()


class Slowness:
    """What the saga's code waits for, and where."""

    def __init__(self) -> None:
        self.wait: Callable[[], None] = lambda: None

    def at(self, where: str, wanted: str) -> None:
        if where == wanted:
            self.wait()


SLOW = Slowness()


class Slow(ProcessManager[SlowState]):
    """Takes its time where a message says."""

    name = "Slow"
    timeout = timedelta(hours=1)

    @starts(Begun, by="id")
    def begun(self, state: SlowState, event: Begun, do: Effects) -> None: ...

    @continues(Took, by="id")
    def took(self, state: SlowState, event: Took, do: Effects) -> None:
        do.record(Go(event.id))
        do.deadline("soon", timedelta(seconds=5))
        SLOW.at(event.where, "handle")

    @applies(Took)
    def apply_took(self, state: SlowState, event: Took) -> SlowState:
        SLOW.at(event.where, "apply")
        return replace(state, seen=(*state.seen, event.n))

    @on_deadline("soon")
    def soon(self, state: SlowState, do: Effects) -> None:
        SLOW.at("deadline", "deadline" if 7 in state.seen else "")

    @on_timeout
    def too_late(self, state: SlowState, do: Effects) -> None:
        SLOW.at("timeout", "timeout" if 8 in state.seen else "")


class Patient(Slow):
    name = "Patient"
    retry = Fixed(1, max_attempts=3)


class SlowToCorrelate(Slow):
    name = "SlowToCorrelate"

    def correlate(self, event: Any, metadata: Any) -> Any:
        if isinstance(event, Took):
            SLOW.at(event.where, "correlate")
        return super().correlate(event, metadata)


@pytest.fixture
def slow() -> Iterator[Slowness]:
    yield SLOW
    SLOW.wait = lambda: None


class Reports(logging.Handler):
    """Hears the watch; ``heard`` is set by the report, on the thread that reports."""

    def __init__(self) -> None:
        super().__init__()
        self.heard = threading.Event()
        self.texts: list[str] = []
        self.at_s: list[float] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.at_s.append(time.monotonic())
        self.texts.append(record.getMessage())
        self.heard.set()


@pytest.fixture
def reports() -> Iterator[Reports]:
    found = Reports()
    watch = logging.getLogger("perdure.watch")
    watch.addHandler(found)
    yield found
    watch.removeHandler(found)


# Seen from outside


def spinning(reports: Reports) -> None:
    deadline = time.monotonic() + 9
    while not reports.heard.is_set() and time.monotonic() < deadline:
        pass


def sleeping(reports: Reports) -> None:
    deadline = time.monotonic() + 9
    while not reports.heard.is_set() and time.monotonic() < deadline:
        time.sleep(0.01)


def waiting(reports: Reports) -> None:
    reports.heard.wait(9)


@pytest.mark.parametrize(
    ("where", "how"),
    [("handle", spinning), ("apply", sleeping), ("correlate", waiting)],
)
@quickly
async def test_whatever_blocks_the_loop_is_reported_once_within_twice_the_limit(
    where: str, how: Callable[[Reports], None], reports: Reports, slow: Slowness
) -> None:
    began_s: list[float] = []

    def wait() -> None:
        began_s.append(time.monotonic())
        how(reports)
        time.sleep(0.1)  # and goes on: it is told once

    slow.wait = wait
    settings = Settings(loop_block_limit_s=LIMIT_S)
    async with Runtime(MemoryStore(), [SlowToCorrelate], settings) as runtime:
        await runtime.publish(Begun("w-1"))
        await runtime.publish(Took("w-1", where))
        assert parts(runtime)._watch.blocks == 1
    [text] = reports.texts
    assert LIMIT_S < reports.at_s[0] - began_s[0] < 2 * LIMIT_S
    assert "saga 'SlowToCorrelate'" in text
    assert "watch-test.took" in text
    assert "test_watch.py" in text  # the stack
    assert how.__name__ in text
    if where != "correlate":
        assert "correlation id 'w-1'" in text


@quickly
async def test_a_coroutine_that_blocks_is_reported_with_its_job(reports: Reports) -> None:
    async def deed(command: Any, job: Any) -> Done:
        await asyncio.to_thread(lambda: None)
        spinning(reports)
        return Done(command.id)

    async with errands(desk(do=deed), loop_block_limit_s=0.05) as runtime:
        await runtime.publish(Asked("e-1"))
        await runtime.settled()
    assert "queue 'work', at runtime-test.do, job runtime-test.errand/e-1/1/0" in reports.texts[0]
    assert "saga 'runtime-test.errand', correlation id 'e-1'" in reports.texts[0]


@quickly
async def test_a_fold_that_blocks_the_loop_is_reported(reports: Reports, slow: Slowness) -> None:
    store = MemoryStore()
    async with Runtime(store, [Slow]) as runtime:
        await runtime.publish(Begun("w-1"))
        await runtime.publish(Took("w-1", "apply"))
    slow.wait = lambda: waiting(reports)
    async with Runtime(store, [Slow], Settings(loop_block_limit_s=0.05)) as runtime:
        assert (await state_of(runtime, runtime.ref(Slow, "w-1"))).seen == (0,)
    assert "folding 2 turns of saga 'Slow', correlation id 'w-1'" in reports.texts[0]


@quickly
async def test_an_idle_or_busy_loop_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is at work, so nobody is asked: an idle runtime wakes nobody."""
    looked = threading.Semaphore(0)
    asked: list[None] = []
    scene = LoopWatch._scene

    def look(self: LoopWatch, frame: Any = None) -> Any:
        looked.release()
        return scene(self, frame)

    monkeypatch.setattr(LoopWatch, "_scene", look)
    monkeypatch.setattr(LoopWatch, "_ask", lambda self: asked.append(None))
    async with Runtime(MemoryStore(), [Slow], Settings(loop_block_limit_s=0.02)):
        for _ in range(3):
            assert await asyncio.to_thread(looked.acquire, timeout=5)
    assert asked == []


@quickly
async def test_a_runtime_starts_also_if_nobody_can_watch(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_thread(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_thread)
    async with Runtime(MemoryStore(), [Slow]) as runtime:
        [receipt] = await runtime.publish(Begun("w-1"))
    assert receipt.outcome is Outcome.APPLIED
    assert "nobody watches the event loop" in caplog.text


def test_a_block_is_told_within_twice_its_limit() -> None:
    """At worst it begins just after a look; it is asked at the next one, told so many later."""
    assert (1 + LOOKS_PER_LIMIT) / LOOKS_PER_LIMIT < 2


# Fenced


class SlowClock(SimulatedClock):
    """Seconds pass while the saga's code is at work."""

    def passes(self, seconds: float) -> Callable[[], None]:
        def wait() -> None:
            self._now_ms += seconds * 1000

        return wait


async def rows(store: Any) -> tuple[int, int, int, int]:
    inner = store.inner
    journal = [row for key in ("Slow/w-1", "Patient/w-1") for row in await inner.journal(key)]
    deadlines = [row for row in await inner.deadlines() if row.name == "soon"]
    found = (journal, deadlines, await inner.outbox(), await inner.dead_letters())
    return tuple(len(one) for one in found)  # type: ignore[return-value]


@pytest.mark.parametrize("where", ["handle", "apply"])
@quickly
async def test_a_turn_that_took_too_long_leaves_nothing(store, slow, where):
    clock = SlowClock()
    async with Runtime(store, [Slow], clock=clock) as runtime:
        ref = runtime.ref(Slow, "w-1")
        await runtime.publish(Begun("w-1"))
        slow.wait = clock.passes(LONG)
        with pytest.raises(TurnTooLong, match=r"longer than turn_limit_s=10 ") as caught:
            await runtime.send(ref, Took("w-1", where, 1), message_id="m-1")
        error = caught.value
        assert (error.saga, error.correlation_id) == ("Slow", "w-1")
        assert "worker" in (error.remedy or "")
        assert "dead letter" in (error.remedy or "")
        assert isinstance(error, HandlerFailed)
        assert await rows(store) == (1, 0, 0, 1)
        assert (await state_of(runtime, ref)).seen == ()
        [letter] = await store.inner.dead_letters()
        assert (letter.reason, letter.message_id) == ("TurnTooLong", "m-1")
        slow.wait = lambda: None
        await runtime.send(ref, Took("w-1", where, 1), message_id="m-1")
        assert (await state_of(runtime, ref)).seen == (1,)


@quickly
async def test_a_turn_within_its_limit_is_committed(store, slow):
    clock = SlowClock()
    async with Runtime(store, [Slow], Settings(turn_limit_s=20), clock=clock) as runtime:
        await runtime.publish(Begun("w-1"))
        slow.wait = clock.passes(LONG)
        [receipt] = await runtime.publish(Took("w-1", "handle", 1))
        assert receipt.outcome is Outcome.APPLIED


@quickly
async def test_a_turn_that_took_too_long_is_tried_again_where_the_saga_says_so(store, slow):
    clock = SlowClock()
    async with Runtime(store, [Patient], clock=clock) as runtime:
        await runtime.publish(Begun("w-1"))
        slow.wait = clock.passes(LONG)
        [receipt] = await runtime.publish(Took("w-1", "handle", 1))
        assert receipt.outcome is Outcome.DELAYED
        slow.wait = lambda: None
        await clock.advance(timedelta(seconds=2))
        assert (await state_of(runtime, runtime.ref(Patient, "w-1"))).seen == (1,)
        assert await rows(store) == (2, 1, 0, 0)


@pytest.mark.parametrize(("n", "after"), [(7, timedelta(seconds=5)), (8, timedelta(hours=1))])
@quickly
async def test_a_deadline_whose_turn_takes_too_long_is_gone_and_told(store, slow, n, after):
    clock = SlowClock()
    async with Runtime(store, [Slow], clock=clock) as runtime:
        await runtime.publish(Begun("w-1"))
        await runtime.publish(Took("w-1", n=n))
        slow.wait = clock.passes(LONG)
        await clock.advance(after)
        letters = await store.inner.dead_letters()
        assert [letter.reason for letter in letters] == ["TurnTooLong"]
        [receipt] = await runtime.publish(Took("w-1", n=1))
        assert receipt.outcome is Outcome.APPLIED


@in_loop(10)
async def test_what_blocked_the_real_loop_cannot_commit(slow, store):
    """Also where nothing could see it from outside: a call into C that keeps Python's lock."""
    slow.wait = lambda: time.sleep(0.06)
    async with Runtime(store, [Slow], Settings(turn_limit_s=0.05)) as runtime:
        await runtime.publish(Begun("w-1"))
        with pytest.raises(TurnTooLong):
            await runtime.publish(Took("w-1", "handle", 1))
        others = [Took(f"w-{n}") for n in range(2, 5)]
        for other in others:
            await runtime.publish(Begun(other.id))
            [receipt] = await runtime.publish(other)
            assert receipt.outcome is Outcome.APPLIED
