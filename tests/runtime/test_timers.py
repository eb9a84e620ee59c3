"""The timer by itself: order, limits, windows on a store that counts how often it is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from perdure.core.commit import DeadlineRow, InboxReason, InboxRow, OutboxKind, OutboxRow
from perdure.runtime.instances.timers import Timer
from perdure.testing import SimulatedClock
from tests.runtime.support import quickly, rounds


class Rows:
    """Rows as a store has them, in due order."""

    def __init__(self, key_of: Callable[[Any], tuple[Any, ...]]) -> None:
        self.key_of = key_of
        self.kept: dict[tuple[Any, ...], Any] = {}
        self.reads = 0
        self.fails = 0

    def put(self, row: Any) -> Any:
        self.kept[self.key_of(row)] = row
        return row

    async def read(self, after: Any, limit: int) -> list[Any]:
        self.reads += 1
        await asyncio.sleep(0)
        if self.fails:
            self.fails -= 1
            raise OSError("no")
        moments = sorted((row.due_at_ms, *key) for key, row in self.kept.items())
        return [self.kept[moment[1:]] for moment in moments if moment > tuple(after)][:limit]


def job(position: int, due_at_ms: int, attempts: int = 0) -> OutboxRow:
    return OutboxRow(
        "o", 1, 0, OutboxKind.COMMAND, "q", "T", 1, b"", 0, position,
        attempts=attempts, due_at_ms=due_at_ms,
    )  # fmt: skip


KINDS: dict[str, tuple[Any, Any, Any]] = {
    "deadlines": (
        lambda n, due: DeadlineRow(f"i{n:06}", "d", 1, due),
        lambda row: (row.instance, row.name),
        (-1, "", ""),
    ),
    "messages": (
        lambda n, due: InboxRow(f"i{n:06}", "m", InboxReason.DELAYED, b"", 0, 1, due),
        lambda row: (row.instance, row.message_id),
        (-1, "", ""),
    ),
    "jobs": (lambda n, due: job(n + 1, due), lambda row: (row.position,), (0, 0)),
}


class Fixture:
    def __init__(self, kind: str, page: int = 10, in_flight_max: int = 1_000) -> None:
        self.make, key_of, start = KINDS[kind]
        self.clock = SimulatedClock()
        self.rows = Rows(key_of)
        self.fired: list[Any] = []
        self.open: list[Callable[[bool], None]] = []
        self.answers = True
        self.timer: Timer[Any] = Timer(
            self.clock, self.rows.read, self.fire, key_of, page, in_flight_max, 0.05, start
        )

    def fire(self, row: Any, done: Callable[[bool], None]) -> None:
        self.fired.append(row)
        if not self.answers:
            self.open.append(done)
            return
        self.rows.kept.pop(self.rows.key_of(row), None)
        done(False)

    def at(self, after_ms: int) -> int:
        return self.clock.now_ms() + after_ms

    async def advance_to(self, at_ms: int) -> None:
        while True:
            due = [wake for wake in sorted(self.clock._wakes) if not wake.is_cancelled]
            if not due or due[0].at_ms > at_ms:
                break
            self.clock._now_ms = max(self.clock._now_ms, due[0].at_ms)
            self.clock._wakes.remove(due[0])
            due[0].wake()
            await rounds(5)
        self.clock._now_ms = max(self.clock._now_ms, at_ms)


@pytest.mark.parametrize("kind", KINDS)
@quickly
async def test_all_kinds_of_rows_fire_in_due_order_page_by_page(kind):
    f = Fixture(kind)
    start = f.clock.now_ms()
    rows = [f.rows.put(f.make(n, start + (n * 37) % 50)) for n in range(50)]
    await f.timer.start()
    await f.advance_to(start + 100)
    assert f.fired == sorted(rows, key=lambda row: (row.due_at_ms, *f.rows.key_of(row)))


@pytest.mark.parametrize("kind", KINDS)
@quickly
async def test_a_hundred_thousand_waiting_rows_cost_no_query_until_the_window_runs_empty(kind):
    f = Fixture(kind, page=100)
    start = f.clock.now_ms()
    f.rows.kept = {
        f.rows.key_of(row): row for row in (f.make(n, start + 1_000 + n) for n in range(100_000))
    }
    await f.timer.start()
    assert f.rows.reads == 1
    await f.advance_to(start + 999)
    for n in range(500):  # what is put meanwhile lies beyond the window
        f.timer.set(f.rows.put(f.make(200_000 + n, start + 500_000)))
    await rounds()
    assert f.rows.reads == 1
    await f.advance_to(start + 1_098)
    assert (len(f.fired), f.rows.reads) == (99, 1)
    await f.advance_to(start + 1_099)
    assert (len(f.fired), f.rows.reads) == (100, 2)
    await f.advance_to(start + 1_198)
    assert (len(f.fired), f.rows.reads) == (199, 2)


@quickly
async def test_what_is_set_while_it_runs_is_bounded_and_read_again():
    f = Fixture("messages", page=10)
    start = f.clock.now_ms()
    await f.timer.start()
    rows = [f.rows.put(f.make(n, start + 1_000 - n)) for n in range(100)]
    for row in rows:
        f.timer.set(row)
        assert len(f.timer._queue) <= 20
    assert f.rows.reads == 1
    await f.advance_to(start + 2_000)
    assert f.fired == rows[::-1]


@quickly
async def test_a_row_in_flight_is_not_fired_twice_and_a_changed_one_is():
    f = Fixture("jobs")
    f.answers = False
    await f.timer.start()
    first = job(1, f.at(0), attempts=1)
    f.timer.set(first)
    await f.advance_to(f.at(0))
    f.timer.set(job(1, first.due_at_ms, attempts=1))
    await f.advance_to(f.at(0))
    assert len(f.fired) == 1
    again = job(1, first.due_at_ms, attempts=2)
    f.timer.set(again)
    await f.advance_to(f.at(0))
    assert f.fired == [first, again]
    for done in f.open:
        done(False)
    assert f.timer._in_flight == {}


@quickly
async def test_one_that_must_be_fired_again_is_unless_it_has_changed():
    f = Fixture("jobs")
    f.answers = False
    await f.timer.start()
    f.timer.set(job(1, f.at(0)))
    f.timer.set(job(2, f.at(0)))
    await f.advance_to(f.at(0))
    f.timer.set(later := job(2, f.at(5_000)))
    for done in f.open:
        done(True)
    await f.advance_to(f.at(60))
    assert [row.position for row in f.fired] == [1, 2, 1]
    await f.advance_to(f.at(5_000))
    assert f.fired[-1] is later


@quickly
async def test_no_more_than_the_limit_are_in_flight():
    f = Fixture("deadlines", in_flight_max=3)
    f.answers = False
    for n in range(7):
        f.rows.put(f.make(n, f.at(0)))
    await f.timer.start()
    await rounds()
    assert len(f.fired) == 3
    for opened in (4, 5, 6, 7, 7, 7, 7):
        f.open.pop(0)(False)
        assert len(f.fired) == opened


@quickly
async def test_a_read_that_fails_is_tried_again():
    f = Fixture("deadlines", page=1)
    for n in range(2):
        f.rows.put(f.make(n, f.at(n)))
    await f.timer.start()
    f.rows.fails = 2
    await rounds()
    await f.advance_to(f.at(1_000))
    assert (len(f.fired), f.rows.fails) == (2, 0)
    await f.timer.stop()


@quickly
async def test_what_changes_during_a_read_counts_and_not_what_the_read_saw():
    f = Fixture("deadlines", page=5)
    old, gone = f.rows.put(f.make(1, f.at(10))), f.rows.put(f.make(2, f.at(10)))
    starting = asyncio.create_task(f.timer.start())
    await asyncio.sleep(0)  # it is reading
    moved = DeadlineRow(old.instance, "d", 2, f.at(20))
    f.timer.set(moved)
    f.timer.clear(*f.rows.key_of(gone))
    await starting
    await f.advance_to(f.at(100))
    assert f.fired == [moved]
