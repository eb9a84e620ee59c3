"""What a command says while no answer comes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

import perdure.ops.cli.waiting as waiting
from perdure.errors import StoreUnavailable
from perdure.ops.cli.waiting import Waiting
from perdure.store.ownership import HostRow
from perdure.store.shards import shard_of

SHARDS = 4
KEY = "Order/o-1"
SHARD = shard_of(KEY, SHARDS)
OTHERS = tuple(shard for shard in range(SHARDS) if shard != SHARD)


class Seen:
    """An ``Overview`` that shows these one after another, then the last one over and over."""

    shards = SHARDS

    def __init__(self, *looks: Sequence[HostRow] | StoreUnavailable) -> None:
        self.looks = list(looks)
        self.done = asyncio.Event()

    def shard_of(self, instance: str) -> int:
        return shard_of(instance, SHARDS)

    async def hosts(self) -> list[HostRow]:
        if len(self.looks) == 1:
            self.done.set()
        found = self.looks[0] if len(self.looks) == 1 else self.looks.pop(0)
        if isinstance(found, StoreUnavailable):
            raise found
        return list(found)

    async def mail(self, after: int, limit: int) -> Any: ...

    async def mail_for(self, instance: str) -> Any: ...

    async def mail_ahead(self) -> Any: ...


def host(name: str, *shards: int, silent_s: float = 0.2, is_gone: bool = False) -> HostRow:
    return HostRow(f"host:{name}", name, 7, "1", silent_s, is_gone, False, shards)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "SOON_S", 0.001)


def said(
    capsys: pytest.CaptureFixture[str], key: str | None, *looks: Sequence[HostRow] | Any
) -> list[str]:
    """What it says during these looks, two of them at once."""

    async def wait() -> None:
        seen = Seen(*looks)
        say = Waiting(seen)
        async with say.told(key), say.told(key), asyncio.timeout(10):
            await seen.done.wait()
            await asyncio.sleep(0.01)

    asyncio.run(wait())
    captured = capsys.readouterr()
    assert not captured.out
    return captured.err.splitlines()


def test_the_owner_of_the_instance_is_named_once(capsys: pytest.CaptureFixture[str]) -> None:
    hosts = [host("pod-1", *OTHERS), host("pod-2", SHARD, silent_s=3)]
    [line] = said(capsys, KEY, hosts, hosts)
    where = f"{KEY} is in shard {SHARD} of pod-2"
    assert line == f"no answer yet: {where}, pid 7, last heard of 3 s ago"


def test_it_says_that_nobody_owns_the_shard_and_then_who_does(
    capsys: pytest.CaptureFixture[str],
) -> None:
    before, after = [host("pod-1", SHARD, is_gone=True)], [host("pod-2", SHARD)]
    first, second = said(capsys, KEY, before, after)
    assert f"shard {SHARD}, where {KEY} is, has no live owner" in first
    assert "stays in the mail" in first
    assert "pod-2" in second


def test_of_what_is_for_many_only_those_who_are_missing_are_told_of(
    capsys: pytest.CaptureFixture[str],
) -> None:
    first, second = said(capsys, None, [host("pod-1", 0), host("pod-2", 1, 2, silent_s=5)])
    assert "1 of 4 shards have no live owner" in first
    assert second == "no answer yet: pod-2 owns 2 of 4 shards, pid 7, last heard of 5 s ago"


def test_a_store_that_cannot_be_read_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    [line] = said(capsys, KEY, StoreUnavailable("no route to host"))
    assert line == "no answer yet: no route to host"


def test_who_is_answered_in_time_reads_nothing() -> None:
    async def wait() -> None:
        say = Waiting(Seen([]))
        for key in ("Order/o-1", None):
            async with say.told(key):
                pass

    asyncio.run(wait())


def test_a_store_of_one_owner_has_nobody_to_name() -> None:
    async def wait() -> None:
        async with Waiting(None).told(KEY):
            await asyncio.sleep(0.01)

    asyncio.run(wait())
