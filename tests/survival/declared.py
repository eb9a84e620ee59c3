"""The declarations in one of several processes, whose clock goes with those of the others.

``perdure run tests.survival.declared:app`` runs it, for ``tests/declarations_sweep.py``. Time is
simulated: whoever keeps it listens on a socket, tells each process what time it is as it comes, and
from then on to which moment to go; the answer comes when all that was due there is committed.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import sys
from pathlib import Path
from typing import Any

from perdure import Settings
from perdure.cluster import Cluster, ClusterSettings
from perdure.messages import datetime_of
from perdure.runtime.clock import SystemClock
from perdure.testing.clock import SimulatedClock

EXAMPLES = Path(__file__).parents[2] / "examples"
CLOCK = "DECLARED_CLOCK"
NOTICES = "DECLARED_NOTICES"
LEASE_S = 3.0


class FollowedClock(SimulatedClock, SystemClock):
    """A simulated clock that a cluster, which lives in real time, takes for the system's."""


_following: list[asyncio.Task[None]] = []


def declarations() -> Any:
    """The example, as a module."""
    if str(EXAMPLES) not in sys.path:
        sys.path.insert(0, str(EXAMPLES))
    return importlib.import_module("declarations")


async def app(store: str) -> Cluster:
    """A process that takes part, at the time that it is for all."""
    example = declarations()
    reader, writer = await asyncio.open_unix_connection(os.environ[CLOCK])
    clock = FollowedClock(datetime_of(int(await reader.readline())))
    _following.append(asyncio.create_task(_follow(reader, writer, clock)))
    notices = example.Notices(Path(f"{os.environ[NOTICES]}.{os.getpid()}"))
    return Cluster(
        store,
        [example.Declaration, example.notifying],
        Settings(idle_after_s=None),
        clock=clock,
        cluster=ClusterSettings(lease_s=LEASE_S),
        resources={"notices": notices},
    )


async def _follow(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, clock: SimulatedClock
) -> None:
    while line := await reader.readline():
        await clock.advance_to(datetime_of(int(line)))
        writer.write(line)
