"""The points a message, a job, a deadline, a start and a stop come by, and that off is off."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter

import pytest

import perdure.failpoints as failpoints
from perdure import Runtime, Settings, WorkQueue
from perdure.failpoints import Point
from tests.runtime.errands import Asked, Do, Done, Undoing
from tests.sagas import Added, Ledger, Opened


@pytest.fixture(autouse=True)
def quiet(caplog):
    """What is killed on purpose is no news; the level is as it was for the other tests."""
    caplog.set_level(logging.ERROR, "perdure.saga")


@pytest.fixture
def reached():
    """Everything that was reached, in order."""
    points: list[Point] = []
    failpoints.listener = points.append
    yield points
    failpoints.listener = None


def first_positions(points: list[Point]) -> list[Point]:
    return list(dict.fromkeys(points))


def test_a_message_comes_by_in_the_order_of_the_numbers(reached, tmp_path):
    async def run() -> None:
        url = f"sqlite+aiosqlite:///{tmp_path}/s.db"
        async with Runtime(url, [Ledger], Settings(snapshot_every=1)) as runtime:
            reached.clear()
            await runtime.publish(Opened("1"))

    asyncio.run(run())
    turn = [point for point in first_positions(reached) if int(point[1:]) <= 8]
    assert turn == list(Point)[:8]


def test_an_opening_creates_and_owns_and_a_stop_folds_the_log(reached, tmp_path):
    async def run() -> None:
        async with Runtime(f"sqlite+aiosqlite:///{tmp_path}/s.db", [Ledger]):
            pass

    asyncio.run(run())
    counts = Counter(reached)
    assert counts[Point.CREATING] > 10
    assert counts[Point.OWNING] == 2
    assert counts[Point.CHECKPOINT] == 2
    assert counts[Point.STOPPING] == 5


def test_a_listener_that_raises_in_a_transaction_undoes_it(tmp_path):
    def fail_once(point: Point) -> None:
        if point is Point.COMMITTING:
            failpoints.listener = None
            raise OSError("as told")

    async def run() -> None:
        url = f"sqlite+aiosqlite:///{tmp_path}/s.db"
        async with Runtime(url, [Ledger], Settings(retry_pause_s=0.001)) as runtime:
            failpoints.listener = fail_once
            await runtime.publish(Opened("1"))
            await runtime.publish(Added("1", 1))
            ref = runtime.ref(Ledger, "1")
            turns = [turn async for turn in runtime.history(ref)]
            assert [turn.sequence_nr for turn in turns] == [1, 2]

    try:
        asyncio.run(run())
    finally:
        failpoints.listener = None


def test_a_history_has_a_point_at_every_hundredth_turn(reached):
    assert list(failpoints.replayed(range(250))) == list(range(250))
    assert reached == [Point.REPLAYING] * 3


def test_off_nothing_is_called():
    assert failpoints.listener is None
    failpoints.reach(Point.ACCEPTED)


def test_a_job_comes_by(reached):
    from tests.runtime.errands import Done

    queue = WorkQueue("work")

    @queue.worker
    async def perform(command: Do) -> Done:
        return Done(command.id)

    async def run() -> None:
        async with Runtime("memory://", [Undoing, queue]) as runtime:
            await runtime.publish(Asked("1", "do"))
            await runtime.settled()

    asyncio.run(run())
    job = [point for point in first_positions(reached) if 9 <= int(point[1:]) <= 12]
    assert job == [Point.JOB_BEGINS, Point.JOB_ENDS, Point.RESULT_TOLD, Point.RESULT_TAKEN]
