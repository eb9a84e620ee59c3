"""Which shards nobody runs: what a process that takes none has to say of the others.

    watch = Ownerless(session, shards=16, pause_s=1.0)
    watch.start()
    watch.troubles.present()      # "shards 0, 4, 8, 12 of 16 have no live owner"
    await watch.stop()

Messages to them are accepted, and wait in the mail; nothing is lost, and nothing happens. That may
be so for good: the engine that places hosts may be gone, as Ray is with its head. A shard on its
way from one owner to the next is not meant: it counts when it is seen twice.
Next to read: ``process.py``; ``store/ownership.py``, who is alive.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from perdure.errors import StoreUnavailable
from perdure.runtime.watching.vitals import Troubles
from perdure.store.ownership import HostRow
from perdure.store.session import Session

__all__ = ["Ownerless", "ownerless"]

logger = logging.getLogger("perdure.cluster")


def ownerless(shards: int, hosts: Iterable[HostRow]) -> frozenset[int]:
    """The shards of so many that no live host owns."""
    owned = {shard for host in hosts if not host.is_gone for shard in host.shards}
    return frozenset(range(shards)) - owned


class Ownerless:
    """Looks every ``pause_s`` seconds."""

    def __init__(self, session: Session, shards: int, pause_s: float) -> None:
        self.troubles = Troubles()
        self.shards: frozenset[int] = frozenset()
        """Those without an owner at the last two looks."""
        self._session = session
        self._count = shards
        self._pause_s = pause_s
        self._looking: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look."""
        self._looking = asyncio.get_running_loop().create_task(self._look())

    async def stop(self) -> None:
        """Look no more. May be called twice."""
        looking, self._looking = self._looking, None
        if looking is not None:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)

    async def _look(self) -> None:
        before: frozenset[int] = frozenset()
        looks = 0
        while True:
            try:
                hosts = await self._session.ask(
                    lambda connection, _: self._session.owners.hosts(connection)
                )
            except StoreUnavailable:
                pass  # the session says so itself
            else:
                now = ownerless(self._count, hosts)
                looks = looks + 1 if now & before else 0
                self._tell(now & before, looks)
                before = now
            await asyncio.sleep(self._pause_s)

    def _tell(self, found: frozenset[int], looks: int) -> None:
        was, self.shards = self.shards, found
        if not found:
            self.troubles.over(self)
            if was:
                logger.warning("all shards have an owner again")
            return
        problem = StoreUnavailable(
            f"{_listed(found)} of {self._count} have no live owner: what is sent to their "
            "instances waits in the mail",
            remedy="start processes that take shards, or bring the engine back that placed them",
        )
        self.troubles.failed(self, "looking for the owners of shards", looks, problem)
        if found != was:
            logger.warning("%s", problem)


def _listed(shards: Iterable[int]) -> str:
    return f"shards {', '.join(str(shard) for shard in sorted(shards))}"
