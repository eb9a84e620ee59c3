"""Stopped under load, again and again: what was acknowledged is there, and the next one may begin.

How a process stops at SIGTERM is in ``test_sweep.py`` ("stops").
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import random
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from perdure import Runtime, Settings
from tests.runtime.support import in_loop
from tests.survival.checks import Tables, Told, kept, sound
from tests.survival.life import HOSTILE, Clients, Life, operations_of
from tests.survival.sagas import members

STOP_S = 5.0


class Here:
    """The outside world in this process; ``heard`` waits for so many acknowledgements."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._left = 0
        self._enough = asyncio.Event()

    def say(self, *line: Any) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        self._left -= line[0] == "ack"
        if self._left <= 0:
            self._enough.set()

    async def heard(self, count: int) -> None:
        self._left = count
        self._enough.clear()
        if count:
            await self._enough.wait()


async def stop_again_and_again(folder: Path, times: int) -> tuple[Told, float]:
    url, told = f"sqlite+aiosqlite:///{folder}/store.db", Told(folder / "ledger")
    outside, chance, longest_s = Here(folder / "ledger"), random.Random(5), 0.0
    (folder / "ledger").touch()
    for number in range(times):
        threads = threading.active_count()
        outside.say("begin")
        life = Life(url, "", f"s{number}", ops=told.unsettled)
        settings = Settings(**HOSTILE, snapshot_every=2, shutdown_timeout_s=STOP_S)
        async with Runtime(url, members(), settings, resources={"outside": outside}) as runtime:
            operations = itertools.chain(life.ops, operations_of(life))
            clients = Clients(runtime, outside, life, operations)
            await outside.heard(chance.randint(0, 40))
            clients.stop()
            begun = time.monotonic()
        longest_s = max(longest_s, time.monotonic() - begun)
        await clients.done()
        told.read()
        with closing(sqlite3.connect(folder / "store.db", isolation_level=None)) as connection:
            assert [*sound(connection), *kept(told, Tables.read(connection))] == []
        assert threading.active_count() <= threads, "its threads have ended with it"
    return told, longest_s


@in_loop(60)
async def test_what_was_acknowledged_is_there_after_each_of_many_stops(tmp_path, silent):
    told, longest_s = await stop_again_and_again(tmp_path, 12)
    assert len(told.acks) > 100
    assert longest_s < STOP_S
    print(f"12 stops, {len(told.acks)} acknowledged, {told.unknown.total()} unknown, the longest "
          f"took {longest_s:.3f} s")  # fmt: skip


@pytest.fixture
def silent():
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)
