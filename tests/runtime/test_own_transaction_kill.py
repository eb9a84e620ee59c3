"""kill -9 of the process around the commit of a worker's own transaction: done once, and told."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from perdure import Fixed, Job
from tests import warm
from tests.runtime.payment_child import queue_of
from tests.runtime.payments import (
    Charge,
    Charged,
    charge,
    charging,
    payments,
    records,
    running,
    settled,
)
from tests.servers.databases import execute


def killed(url: str, when: str, attempts_max: int) -> None:
    child = warm.run("-m", "tests.runtime.payment_child", url, when, str(attempts_max))
    assert child.returncode == -9, child.stderr
    execute(url, "UPDATE perdure.shards SET host = NULL")  # else the next one waits for the lease


@pytest.mark.parametrize("attempts_max", [4, 1])
def test_killed_after_the_commit_it_is_not_performed_again(
    postgres: str, attempts_max: int
) -> None:
    """Nor is it a dead letter if that was its only attempt; what it emitted goes out."""
    killed(postgres, "committed", attempts_max)

    async def check() -> None:
        assert await payments(postgres) == [("o", 1)]
        assert await records(postgres) == 1
        called: list[int] = []

        async def charge_again(command: Charge, job: Job, session: AsyncSession) -> Charged:
            called.append(job.attempt)
            return await charge(command, job, session)

        queue = charging(charge_again, retry=Fixed(0.001, max_attempts=attempts_max))
        async with running(postgres, queue) as runtime:
            state = await settled(runtime)
            assert (state.charged, state.receipts, state.failed) == ((1,), (1,), ())
            assert called == []
            assert [one async for one in runtime.dead_letters.list()] == []
        assert await payments(postgres) == [("o", 1)]
        assert await records(postgres) == 0

    asyncio.run(check())


def test_killed_before_the_commit_it_is_performed_by_the_next(postgres: str) -> None:
    killed(postgres, "recorded", 4)

    async def check() -> None:
        assert await payments(postgres) == []
        assert await records(postgres) == 0
        async with running(postgres, queue_of(4)) as runtime:
            state = await settled(runtime)
            assert (len(state.charged), len(state.receipts), state.failed) == (1, 1, ())
        assert len(await payments(postgres)) == 1

    asyncio.run(check())
