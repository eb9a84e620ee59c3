"""A process that stops in its worker's transaction, and wakes when another has done the work."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.payment_pod import pod
from tests.runtime.payments import TABLES, Order, own_of, payments, records
from tests.runtime.support import in_loop
from tests.servers.databases import run_sql

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("when", ["worked", "recorded"])
@in_loop(30)
async def test_it_cannot_commit_any_more_and_the_work_is_done_once(
    postgres: str, when: str
) -> None:
    await run_sql(postgres, TABLES)
    command = [sys.executable, "-m", "tests.cluster.payment_pod", postgres, when]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as paused:  # noqa: ASYNC220
        try:
            await asyncio.to_thread(os.waitpid, paused.pid, os.WUNTRACED)
            async with pod(postgres, own_of(postgres)) as cluster:
                state = await cluster.state(cluster.ref(Order, "o"))
                while state is None or not state.state.charged:
                    await asyncio.sleep(0.02)
                    state = await cluster.state(cluster.ref(Order, "o"))
                assert await payments(postgres) == [("o", 1)]
                paused.send_signal(signal.SIGCONT)
                assert paused.stdout is not None
                said = await asyncio.to_thread(paused.stdout.readline)
                assert said == "ended\n"
                assert await payments(postgres) == [("o", 1)]
        finally:
            paused.kill()
    assert await records(postgres) == 0
