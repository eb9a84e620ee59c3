"""Having purges written, and never under an incarnation.

A resident instance leaves memory before its entry is submitted, and nothing is awaited between the
two. One that is called for meanwhile is loaded when it is known what was written, or that nobody
knows. Next to read: ``purge_pieces.py``, who has what written; ``instances/supervisor.py``,
``revive``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Protocol

from perdure.core.commit import Purge, TombstoneRow
from perdure.errors import Fenced, StoreError
from perdure.runtime.instances.saga_actor import SagaActor
from perdure.store.group_commit import GroupCommit

__all__ = ["Owner", "PurgeWriting"]

logger = logging.getLogger("perdure.retention")


class Owner(Protocol):
    """Who owns the incarnations."""

    def is_aside(self, key: str) -> bool: ...

    def passivate(self, key: str) -> bool: ...

    def load(self, actor: SagaActor) -> None: ...

    def overtaken(self, error: Fenced) -> None: ...


class PurgeWriting:
    """Writes entries of purges. ``is_in_doubt``: of one, nobody knows whether it was written."""

    def __init__(self, commit: GroupCommit, owner: Owner) -> None:
        self._commit = commit
        self._owner = owner
        self._under_way: dict[str, list[SagaActor]] = {}
        self.is_in_doubt = False

    def holds(self, actor: SagaActor) -> bool:
        """Its instance is being purged: it will be loaded later, or is to be loaded now."""
        if not self._under_way:
            return False
        waiting = self._under_way.get(actor.key)
        if waiting is None:
            return False
        waiting.append(actor)
        return True

    async def write(self, entries: Sequence[Purge | TombstoneRow]) -> int:
        """Have those written whose instances may leave memory; how many certainly were."""
        tickets = []
        for entry in entries:
            key = entry.instance
            if not self._owner.is_aside(key) and self._owner.passivate(key):
                self._under_way[key] = []
                tickets.append(_Ticket(self, entry))
                self._commit.submit(tickets[-1])
        return sum(await asyncio.gather(*(ticket.outcome for ticket in tickets)))

    async def sweep(self, rows: Sequence[TombstoneRow]) -> int:
        """Have tombstones changed, and journals swept so far, which no incarnation is harmed by.

        How many certainly were.
        """
        tickets = [_Ticket(self, row) for row in rows]
        for ticket in tickets:
            self._commit.submit(ticket)
        return sum(await asyncio.gather(*(ticket.outcome for ticket in tickets)))

    def landed(self, key: str, error: StoreError | None) -> None:
        """It is known what was written, or that nobody knows."""
        for actor in self._under_way.pop(key, ()):
            self._owner.load(actor)
        if isinstance(error, Fenced):
            self._owner.overtaken(error)


class _Ticket:
    """An entry on its way; its outcome is whether it was certainly written."""

    __slots__ = ("_writing", "entry", "outcome")

    is_void = False

    def __init__(self, writing: PurgeWriting, entry: Purge | TombstoneRow) -> None:
        self._writing = writing
        self.entry = entry
        self.outcome: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def written(self) -> None:
        """It is durable."""
        self._resolve(None)

    def left_out(self, error: StoreError) -> None:
        """It was not written; most likely a message has come in between."""
        logger.info("not purged: %s", error)
        self._resolve(error)

    def unknown(self, error: StoreError) -> None:
        """Nobody knows; what was written of it is found by its tombstone."""
        self._writing.is_in_doubt = True
        self._resolve(error)

    def _resolve(self, error: StoreError | None) -> None:
        self._writing.landed(self.entry.instance, error)
        if not self.outcome.done():
            self.outcome.set_result(error is None)
