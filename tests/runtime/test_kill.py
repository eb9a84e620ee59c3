"""Killed at any moment: what was acknowledged is there, once."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from perdure import Runtime
from tests.runtime import kill_child
from tests.runtime.support import items, state_of
from tests.sagas import Ledger

LIVES = 24
ROOT = Path(__file__).parents[2]


def live_and_die(url: str, first: int, unsettled: list[int], acks: int) -> list[tuple[str, int]]:
    """Start a child, kill it after so many acknowledgements; everything it reported."""
    command = [sys.executable, "-m", "tests.runtime.kill_child", url, str(first)]
    with subprocess.Popen(
        [*command, " ".join(map(str, unsettled))], stdout=subprocess.PIPE, cwd=ROOT
    ) as child:
        assert child.stdout is not None
        reported: list[tuple[str, int]] = []
        left = acks
        for line in child.stdout:
            word, _, number = line.decode().partition(" ")
            reported.append((word, int(number)))
            left -= word == "ack"
            if left == 0:
                child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL, "it ended by itself"
    return reported


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_or_doubled_by_kills(tmp_path):
    url = f"sqlite+aiosqlite:///{tmp_path}/store.db"
    chance = random.Random(7)
    tried: set[int] = set()
    acknowledged: set[int] = set()
    for _ in range(LIVES):
        unsettled = sorted(tried - acknowledged)
        first = max(tried, default=-1) + 1
        for word, number in live_and_die(url, first, unsettled, chance.randint(1, 150)):
            (tried if word == "try" else acknowledged).add(number)

    async def check() -> None:
        async with Runtime(url, [Ledger]) as runtime:
            found: Counter[int] = Counter()
            for id in range(kill_child.INSTANCES):
                ref = runtime.ref(Ledger, str(id))
                numbers = await items(runtime, ref)
                found.update(numbers)
                assert all(n % kill_child.INSTANCES == id for n in numbers)
                assert (await state_of(runtime, ref)).doubled == sum(
                    2 * n for n in numbers if n % 2
                )
                turns = [turn async for turn in runtime.history(ref)]
                assert [turn.sequence_nr for turn in turns] == list(range(1, len(numbers) + 2))
                assert len({turn.message_id for turn in turns}) == len(turns)
                assert [s.content.n for turn in turns for s in turn.sent] == numbers
            lost, doubled = acknowledged - set(found), [n for n in found if found[n] > 1]
            assert (lost, doubled) == (set(), [])
            assert set(found) <= tried
            outbox = await runtime.store.outbox(limit=1_000_000)
            assert len(outbox) == found.total()
            print(f"{LIVES} kills, {len(acknowledged)} acknowledged, {len(tried)} tried, "
                  f"{found.total()} applied, 0 lost, 0 doubled")  # fmt: skip

    asyncio.run(check())
