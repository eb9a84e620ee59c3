"""A state that grows is warned of before its limit, and what it does beyond that is said, too."""

from __future__ import annotations

import logging

import pytest

from perdure import MemoryStore, Runtime, Settings
from tests.runtime.support import quickly
from tests.sagas import Basket, Filled

LIMIT = 2_000


async def warned(caplog: pytest.LogCaptureFixture, count: int, times: int = 1) -> list[str]:
    """The warnings of an instance whose state grows by so many small numbers each time."""
    caplog.set_level(logging.WARNING, "perdure.saga")
    settings = Settings(snapshot_every=1, message_bytes_max=LIMIT)
    async with Runtime(MemoryStore(), [Basket], settings) as runtime:
        for _ in range(times):
            await runtime.publish(Filled("b-1", [7] * count))
    return [record.getMessage() for record in caplog.records]


@quickly
async def test_a_state_above_half_of_its_limit_is_warned_of(caplog):
    (line,) = await warned(caplog, 1_100)
    assert line.startswith("the state of ")
    assert f"above {LIMIT} there are no more snapshots" in line
    (record,) = caplog.records
    assert record.correlation_id == "b-1"


@quickly
async def test_a_small_state_is_not_though_its_snapshots_are_large(caplog):
    assert await warned(caplog, 1, times=60) == []


@quickly
async def test_beyond_the_limit_there_is_no_snapshot_and_the_instance_goes_on(caplog):
    first, *later = await warned(caplog, 700, times=4)
    assert first.startswith("the state of ")
    assert later
    assert all(line.startswith("no snapshot of ") for line in later)
