"""What a host runs in tests of Ray alone: it owns its shards by a file, and sees who takes them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from perdure.cluster.ray_places import assigned
from perdure.errors import DefinitionError, Fenced


class StandIn:
    """Owns the shards of its host as long as nobody has written the file since."""

    def __init__(self, plan: Any) -> None:
        self._plan = plan
        self._file = Path(plan.store, f"host-{plan.host}")
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
        Path(self._plan.store, f"looked-{shard}").touch()

    @property
    def _is_ours(self) -> bool:
        return bool(json.loads(self._file.read_text())["epoch"] == self._epoch)


def app(plan: Any) -> StandIn:
    return StandIn(plan)


def broken(plan: Any) -> StandIn:
    raise DefinitionError("this app is broken")
