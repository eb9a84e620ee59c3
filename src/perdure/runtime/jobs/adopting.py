"""Jobs in the store whose queue this runtime does not have: who takes them now, or that none does.

    forgotten once     the row bears its type's name, since no queue took the command then
    renamed, removed   the row bears the old queue's name

A command goes to the one queue (or to the sagas) that takes its type today: its row is rewritten,
in its place and with its attempts, before any queue starts. Whatever is left is named in the log.
Events are left: who else heard of one, nobody knows. Next to read: ``dispatcher.py``.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from perdure.core.commit import Entry, OutboxKind, OutboxRow, QueueRow
from perdure.core.outgoing import SAGAS
from perdure.errors import CorruptRecord, PerdureError
from perdure.queue import RESERVED
from perdure.runtime.jobs.job_tickets import Awaited
from perdure.runtime.jobs.outbound import Outbound
from perdure.runtime.services import Services

__all__ = ["Adoption"]

logger = logging.getLogger("perdure.workers")

PAGE = 1_000


class Adoption:
    """Finds takers for jobs of unknown queues. ``performed`` are the targets of this runtime."""

    def __init__(self, services: Services, outbound: Outbound, performed: Collection[str]) -> None:
        self._services = services
        self._outbound = outbound
        self._performed = performed
        self.unattended: set[str] = set()
        """The queues that the log has named as performed by nobody here."""

    def adopted(self, row: OutboxRow) -> OutboxRow:
        """The row as it is to be performed: for its own queue, if the runtime has that."""
        if row.kind is not OutboxKind.COMMAND or self.knows(row.target):
            return row
        taker = self._taker(row.type)
        return row if taker is None else replace(row, target=taker)

    async def start(self) -> list[QueueRow]:
        """Adopt what waits in the store, and warn of the rest; what is known of the queues then.

        Raises ``StoreError``.
        """
        store = self._services.store
        queues = {row.name: row for row in await store.queues()}
        for name, count in (await store.queue_depths()).items():
            if not _is_text(name):
                logger.error("%d jobs of a queue whose name is damaged, %r, are kept", count, name)
            elif name not in self._performed:
                left = count - (await self._adopt(name, queues) if self._may_adopt(name) else 0)
                if left:
                    self.warn(name, f"; {left} of them wait")
        return list(queues.values())

    def warn(self, queue: str, more: str = "") -> None:
        """Name a queue whose jobs nobody performs here, once."""
        if queue in self.unattended:
            return
        self.unattended.add(queue)
        permits = self._services.permits
        if permits is None or permits.is_first_to_miss(queue):
            logger.warning(
                "nobody performs the jobs of queue %r in this runtime%s; they are kept until a "
                "runtime has workers for them",
                queue, more,
            )  # fmt: skip

    def _may_adopt(self, name: str) -> bool:
        """Whether it is worth reading the jobs: without queues their target is their type's name,
        and they may be many, kept here for somebody else."""
        return not self.knows(name) and (
            bool(self._outbound.queues) or self._taker(name) is not None
        )

    async def _adopt(self, name: str, queues: dict[str, QueueRow]) -> int:
        """Rewrite the rows of a queue; how many it were."""
        takers: Counter[str] = Counter()
        after = 0
        try:
            while rows := await self._services.store.outbox(after, PAGE, name):
                moved = [new for row in rows if (new := self.adopted(row)) is not row]
                await self._write([*self._pauses(name, moved, queues), *moved])
                takers.update(row.target for row in moved)
                after = rows[-1].position
        except CorruptRecord as error:
            logger.error("the jobs of queue %r are left where they are: %s", name, error)
        for taker, count in takers.items():
            whom = f"queue {taker!r}" if taker != SAGAS else "the sagas"
            logger.warning(
                "%d jobs of queue %r, which this runtime does not have, go to %s, which can take "
                "them",
                count, name, whom,
            )  # fmt: skip
        return takers.total()

    def _pauses(
        self, name: str, moved: Iterable[OutboxRow], queues: dict[str, QueueRow]
    ) -> list[QueueRow]:
        """Who paused the old queue did not want these jobs to start: the new one is paused, too."""
        paused = queues.get(name)
        if paused is None or not paused.is_paused:
            return []
        found = []
        for taker in dict.fromkeys(row.target for row in moved if row.target != SAGAS):
            known = queues.get(taker)
            if known is None or not known.is_paused:
                queues[taker] = replace(paused, name=taker)
                found.append(queues[taker])
        return found

    async def _write(self, entries: Sequence[Entry]) -> None:
        tickets = [Awaited(entry) for entry in entries]
        for ticket in tickets:
            self._services.commit.submit(ticket)
        await asyncio.gather(*(ticket.outcome for ticket in tickets))

    def knows(self, target: str) -> bool:
        """Whether the runtime has this queue, with workers or without."""
        return target in self._performed or target in self._outbound.queues

    def _taker(self, type_name: str) -> str | None:
        try:
            info = self._services.codec.registry.named(type_name)
        except PerdureError:  # no class has this name, or several have
            return None
        taker = self._outbound.taker(type_name if info is None else info.cls)
        if taker is not None and taker != SAGAS and type_name.startswith(RESERVED):
            return None  # all steps have the same command: which one it is for, its queue says
        return taker


def _is_text(name: object) -> bool:
    """Not the remains of a damaged one, by which no row can be asked for."""
    try:
        return isinstance(name, str) and name.encode() is not None
    except UnicodeEncodeError:
        return False
