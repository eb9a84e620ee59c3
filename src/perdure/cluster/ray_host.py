"""A host as Ray knows it: a named, detached actor that is started again, here or on another node.

Ray decides where it is and that it lives; which shards it owns is in PostgreSQL, and so is every
message. It runs from the moment Ray makes it, with nobody's call. Its methods are for whoever
looks, drains, or rings; all arguments and answers are plain values.

The class is an ordinary one: ``ray_hosts.py`` gives it to Ray. Next to read: ``ray_life.py``.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from perdure.cluster.ray_engine import engine
from perdure.cluster.ray_hosted import hosted_of
from perdure.cluster.ray_life import Hosted, HostLife
from perdure.cluster.ray_versions import check_versions, versions

__all__ = ["HostPlan", "RayHost", "name_of", "schema_of"]


@dataclass(frozen=True, slots=True)
class HostPlan:
    """What a host is to run: of ``hosts``, number ``host``; ``store`` None is what the app says.

    ``versions`` are of the process that brought the hosts up. ``options`` are Ray's, such as
    ``resources``; they go with the host when it moves.
    """

    app: str
    store: str | None
    schema: str
    host: int
    hosts: int
    versions: Mapping[str, str]
    options: Mapping[str, Any] = field(default_factory=dict)


def name_of(schema: str, host: int) -> str:
    """Ray's name of a host.

    >>> name_of("perdure", 3)
    'perdure-perdure-host-3'
    """
    return f"perdure-{schema}-host-{host}"


def schema_of(name: str) -> str | None:
    """Whose host an actor of this name is; None if it is no host.

    >>> schema_of("perdure-shop-host-3")
    'shop'
    """
    start, _, number = name.removeprefix("perdure-").rpartition("-host-")
    return start if start and number.isdecimal() else None


class RayHost:
    """The actor. Runs on Ray's own loop; the runtimes run on that of its ``HostLife``."""

    def __init__(self, plan: Mapping[str, Any]) -> None:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
        self._plan = HostPlan(**plan)
        self._life = HostLife(self._hosted, _end)
        self._life.begin()

    async def status(self) -> dict[str, Any]:
        """Where it is, how it stands, and what it is made of."""
        ray = engine()
        context = ray.get_runtime_context()
        return self._life.facts() | {
            "host": self._plan.host,
            "hosts": self._plan.hosts,
            "app": self._plan.app,
            "version": versions()["perdure"],
            "node": context.get_node_id(),
            "machine": socket.gethostname(),
            "pid": os.getpid(),
            "is_restarted": bool(context.was_current_actor_reconstructed),
        }

    async def plan(self) -> dict[str, Any]:
        """What it was made of, for whoever makes it anew on another node."""
        return asdict(self._plan)

    async def nudge(self, shard: int) -> bool:
        """There may be mail for this shard: a doorbell, which may be lost or ring twice.

        False if the shard is not here.
        """
        self._life.look(shard)
        return shard in self._life.facts()["shards"]

    async def drain(self) -> None:
        """Finish what was accepted, and give the shards up. Runs nothing any more afterwards."""
        await self._life.drain()

    async def _hosted(self) -> Hosted:
        check_versions(self._plan.versions, versions())
        return await hosted_of(self._plan)


def _end() -> None:
    """Leave at once: Ray starts the host again if it is the one that Ray knows."""
    logging.shutdown()
    os._exit(1)
