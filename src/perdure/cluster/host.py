"""A process's shards: taken, run by one ``Runtime`` each, given up.

    host = Host(session, blueprint_of, settings, clock)
    host.watch(router)              # hears of each shard that comes or leaves
    await host.start()
    host.owned[3].deliver(…)        # the Running of shard 3, while it is here
    await host.drain()              # gives all up; others have them at once

What follows for each shard:

    free ──claimed──> starting ──> owned ──above the share, drain, fenced──> leaving ──> free
                          └── it cannot start: released, and nothing is claimed for a while

Decides nothing about who is alive: that is ``store/ownership.py``. Knows no mail.
Next to read: ``claiming.py``, when to claim and what to release; ``shard_runtime.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from perdure.cluster.settings import ClusterSettings
from perdure.runtime.blueprint import Blueprint
from perdure.runtime.running import Running
from perdure.store.session import Session

__all__ = ["Host", "ShardWatcher"]


class ShardWatcher(Protocol):
    """Who hears of the shards of this process; on the loop."""

    def shard_came(self, shard: int, running: Running) -> None:
        """Its runtime has started, and owns it: bring its mail."""
        ...

    def shard_leaves(self, shard: int) -> None:
        """Its runtime begins to stop, for whatever reason: bring nothing more.

        What it has accepted is answered still, before ``shard_gone``. ``host.owned`` does not
        hold it any more.
        """
        ...

    async def shard_gone(self, shard: int) -> None:
        """Its runtime has stopped. Awaited before the shard is released."""
        ...


class Host:
    """The shards of this process.

    ``blueprint_of(shard, epoch)`` says what the runtime of a shard is made of, its store included.
    ``assigned``: takes these by force at the start, and never others; when one of them is taken
    away, all is over (``on_over``): whoever assigns has made another host of it.
    """

    def __init__(
        self,
        session: Session,
        blueprint_of: Callable[[int, int], Blueprint],
        settings: ClusterSettings,
        *,
        assigned: Sequence[int] | None = None,
    ) -> None:
        raise NotImplementedError

    @property
    def owned(self) -> Mapping[int, Running]:
        """The shards whose runtimes run here, and take messages."""
        raise NotImplementedError

    def watch(self, watcher: ShardWatcher) -> None:
        """Tell this one of the shards that come and leave; it is told of those that are here."""
        raise NotImplementedError

    async def start(self) -> None:
        """Take what is assigned, or a fair share of what is free; more follows as it gets free.

        Raises StoreLocked while a runtime of no cluster owns the store.
        """
        raise NotImplementedError

    async def drain(self) -> None:
        """Give up all shards, and take no more: their runtimes finish what they have accepted."""
        raise NotImplementedError

    async def stop(self) -> None:
        """``drain``, and leave."""
        raise NotImplementedError
