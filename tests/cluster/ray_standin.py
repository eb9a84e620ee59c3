"""What a host runs in tests of Ray alone: it owns its shards by a file, and sees who takes them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from perdure.cluster import ray_hosts
from perdure.cluster.ray_host import HostPlan, RayHost
from perdure.cluster.ray_life import Hosted
from perdure.cluster.ray_places import assigned
from perdure.errors import DefinitionError, Fenced

APP, BROKEN = "stand-in:app", "stand-in:broken"


class StandIn:
    """Owns the shards of its host as long as nobody has written the file since."""

    def __init__(self, plan: HostPlan) -> None:
        assert plan.store is not None
        self._plan = plan
        self._folder = Path(plan.store)
        self._file = self._folder / f"host-{plan.host}"
        self._epoch = 0
        self.shards: list[int] = []

    async def start(self) -> None:
        old = json.loads(self._file.read_text())["epoch"] if self._file.exists() else 0
        self._epoch = old + 1
        self.shards = sorted(assigned(self._plan.host, self._plan.hosts, 16))
        new = self._file.with_suffix(".new")
        new.write_text(json.dumps({"epoch": self._epoch}))
        new.rename(self._file)

    async def stop(self) -> None:
        self.shards = []
        if self._is_ours:
            self._file.with_name(f"drained-{self._plan.host}").touch()

    async def stopped(self) -> None:
        while self._is_ours:  # noqa: ASYNC110 - it is another process that changes it
            await asyncio.sleep(0.02)
        raise Fenced("another epoch is in the file")

    def look(self, shard: int) -> None:
        (self._folder / f"looked-{shard}").touch()

    @property
    def _is_ours(self) -> bool:
        return bool(json.loads(self._file.read_text())["epoch"] == self._epoch)


class StandInHost(RayHost):
    """Runs a stand-in, whose files are in the folder that is named as the store."""

    async def _hosted(self) -> Hosted:
        if self._plan.app == BROKEN:
            raise DefinitionError("this app is broken")
        return StandIn(self._plan)


@contextmanager
def stand_ins() -> Iterator[None]:
    """What is brought up here runs stand-ins."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray_hosts, "RayHost", StandInHost)
        yield
