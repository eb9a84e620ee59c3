"""A host's life in its process, from start to end, with nothing of Ray."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from perdure.cluster import ray_life
from perdure.cluster.ray_life import HostLife, State
from perdure.errors import DefinitionError, Fenced, StoreUnavailable

WAIT_S = 10.0


class Fake:
    """What a host runs: stops by itself when ``end`` is set, with ``error`` if there is one."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error, self.end = error, asyncio.Event()
        self.looked: list[int] = []
        self.calls: list[str] = []
        self.shards = (1, 5)

    async def start(self) -> None:
        self.calls.append("start")

    async def stop(self) -> None:
        self.calls.append("stop")

    async def stopped(self) -> None:
        await self.end.wait()
        if self.error is not None:
            raise self.error

    def look(self, shard: int) -> None:
        self.looked.append(shard)


class Maker:
    """Makes one after another of what it was given; errors are raised."""

    def __init__(self, *made: Any) -> None:
        self.made, self.over = list(made), threading.Event()

    async def __call__(self) -> Fake:
        made = self.made.pop(0)
        if isinstance(made, BaseException):
            raise made
        fake: Fake = made
        return fake


def until(life: HostLife, state: State) -> dict[str, Any]:
    ends_at = time.monotonic() + WAIT_S
    while life.facts()["state"] != state:
        assert time.monotonic() < ends_at, life.facts()
        time.sleep(0.002)
    return life.facts()


def begun(*made: Any) -> tuple[HostLife, Maker]:
    maker = Maker(*made)
    life = HostLife(maker, maker.over.set)
    life.begin()
    return life, maker


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_life, "PAUSE_S", 0.01)


def test_a_host_runs_until_it_is_drained() -> None:
    fake = Fake()
    life, maker = begun(fake)
    assert until(life, State.RUNNING)["shards"] == [1, 5]
    life.look(5)
    asyncio.run(life.drain())
    assert fake.calls == ["start", "stop"]
    assert fake.looked == [5]
    assert life.facts()["state"] == "drained"
    assert life.facts()["shards"] == []
    asyncio.run(life.drain())
    life.look(5)
    assert not maker.over.is_set()


def test_a_host_that_cannot_start_tries_again_and_says_why() -> None:
    life, _ = begun(StoreUnavailable("no server"), SystemExit(3), Fake())
    until(life, State.RUNNING)
    assert life.facts()["error"] is None
    asyncio.run(life.drain())


def test_a_host_that_never_starts_can_be_drained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_life, "PAUSE_S", 600.0)
    monkeypatch.setattr(ray_life, "PAUSE_MAX_S", 600.0)
    life, _ = begun(DefinitionError("no such saga"))
    facts = until(life, State.FAILED)
    assert facts["error"] == "DefinitionError: no such saga"
    assert facts["is_final"]
    asyncio.run(life.drain())


@pytest.mark.parametrize("error", [None, Fenced("another epoch")])
def test_a_host_whose_shards_were_taken_takes_nothing_again(error: Exception | None) -> None:
    fake, second = Fake(error), Fake()
    life, maker = begun(fake, second)
    until(life, State.RUNNING)
    life._loop.call_soon_threadsafe(fake.end.set)
    assert maker.over.wait(WAIT_S)
    assert until(life, State.OVER)["shards"] == []
    assert fake.calls == ["start", "stop"]
    assert second.calls == []


def test_user_code_that_blocks_the_loop_does_not_keep_a_host_from_answering() -> None:
    release = threading.Event()
    fake = Fake()
    life, _ = begun(fake)
    until(life, State.RUNNING)
    life._loop.call_soon_threadsafe(release.wait, WAIT_S)
    assert life.facts()["state"] == "running"
    release.set()
    asyncio.run(life.drain())
