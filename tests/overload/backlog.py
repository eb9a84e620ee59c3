"""A receiver that is down for hours, and a start over everything that waits for it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from perdure import Exponential, Runtime, Settings, SqlStore, WorkQueue, message
from perdure.testing import SimulatedClock
from tests.overload.common import HANDLED, Figures, Hit, SlowStore, Tally, at_once, check_numbers
from tests.runtime.support import parts


@message(name="overload-test.call")
class Call:
    n: int


@message(name="overload-test.note")
class Note:
    n: int


@dataclass(frozen=True)
class Sizes:
    jobs: int = 400
    window: int = 20
    hours: int = 4


FULL = Sizes(jobs=100_000, window=1_000)
FULL_DOWN = Sizes(jobs=10_000, window=1_000, hours=8)

RETRY = Exponential(60, max_s=3_600, max_attempts=None)


class Receiver:
    """The other end of both queues. ``calls`` counts attempts, ``taken`` what it took."""

    def __init__(self) -> None:
        self.is_down = True
        self.calls: Counter[int] = Counter()
        self.taken: Counter[int] = Counter()
        self.noted: Counter[int] = Counter()
        self.down = WorkQueue("down", concurrency=20, retry=RETRY)
        self.up = WorkQueue("up", concurrency=20)

        @self.down.worker
        async def call(command: Call) -> None:
            self.calls[command.n] += 1
            if self.is_down:
                raise ConnectionError("nobody answers")
            self.taken[command.n] += 1

        @self.up.worker
        async def note(command: Note) -> None:
            self.noted[command.n] += 1


def held(runtime: Runtime) -> int:
    """How many jobs are in memory, waiting or timed."""
    dispatcher = parts(runtime).dispatcher
    states = [runner.state for runner in dispatcher.runners.values()]
    heaps = max(len(state._heap) for state in states)
    return max(heaps, *(state.waiting_count for state in states), len(dispatcher._timer._queue))


async def receiver_down(directory: Path, sizes: Sizes = Sizes()) -> Figures:
    """Its jobs wait on disk, are tried again with growing pauses; the other queue goes on."""
    clock, receiver = SimulatedClock(), Receiver()
    store = SlowStore(SqlStore(f"sqlite+aiosqlite:///{directory}/jobs.db", synchronous="NORMAL"))
    settings = Settings(queue_window=sizes.window)
    most = 0
    async with Runtime(store, [receiver.down, receiver.up], settings, clock=clock) as runtime:
        await at_once(200, (runtime.enqueue(Call(n)) for n in range(sizes.jobs)))
        await runtime.settled()
        most = max(most, held(runtime))
        for hour in range(sizes.hours):
            await at_once(50, (runtime.enqueue(Note(hour * 50 + n)) for n in range(50)))
            await runtime.settled()
            assert len(receiver.noted) == (hour + 1) * 50
            await clock.advance(timedelta(hours=1))
            most = max(most, held(runtime))
        assert await runtime.queue("down").depth() == sizes.jobs
        tried = dict(receiver.calls)
        # After 1, 3, 7, 15, 31, 63 minutes, then by the hour; a tenth more or less.
        assert len(tried) == sizes.jobs
        assert sizes.hours + 4 <= min(tried.values()) <= max(tried.values()) <= sizes.hours + 7
        receiver.is_down = False
        await clock.advance(timedelta(hours=2))
        await check_numbers(runtime, store)
        assert await runtime.queue("down").depth() == 0
    assert set(receiver.taken.values()) == set(receiver.noted.values()) == {1}
    assert len(receiver.taken) == sizes.jobs
    assert most <= 2 * sizes.window + 64
    return {
        "jobs": sizes.jobs,
        "held at most": most,
        "attempts while down": sum(tried.values()),
        "fewest attempts": min(tried.values()),
        "most attempts": max(tried.values()),
    }


async def start_over_backlog(directory: Path, sizes: Sizes = Sizes()) -> Figures:
    """As many instances, waiting jobs and armed deadlines: a start reads a window of each."""
    url = f"sqlite+aiosqlite:///{directory}/start.db"
    clock, receiver = SimulatedClock(), Receiver()
    members: list[Any] = [Tally, receiver.down, receiver.up]
    settings = Settings(queue_window=sizes.window, deadline_page=sizes.window)
    async with Runtime(
        SqlStore(url, synchronous="NORMAL"), members, settings, clock=clock
    ) as runtime:
        await runtime.queue("down").pause()
        await at_once(500, (runtime.enqueue(Call(n)) for n in range(sizes.jobs)))
        assert held(runtime) <= 2 * sizes.window + 64
        later = timedelta(hours=1)
        await at_once(500, (runtime.enqueue(Note(n), delay=later) for n in range(sizes.jobs)))
        await at_once(500, (runtime.publish(Hit(f"t-{n}", "s", n)) for n in range(sizes.jobs)))
    HANDLED.clear()
    store = SlowStore(SqlStore(url, synchronous="NORMAL"))
    async with Runtime(store, members, settings, clock=clock) as runtime:
        first = await runtime.publish(Hit("t-0", "s", -1))
        assert first[0].sequence_nr == 2
        await runtime.settled()
        assert runtime.residents == 1
        read, calls = store.rows.total(), store.queries
        assert held(runtime) <= 2 * sizes.window
        await runtime.queue("down").resume()
        receiver.is_down = False
        await clock.advance(later)
        await check_numbers(runtime, store)
    assert len(receiver.taken) == len(receiver.noted) == sizes.jobs
    assert set(receiver.taken.values()) == set(receiver.noted.values()) == {1}
    HANDLED.clear()
    return {"rows there": 3 * sizes.jobs, "rows read": read, "store calls": calls}
