"""What is purged, as entries for the store: made of rows alone, no code of a saga is needed.

    entry = await purge_of(services, loaded, head, until_ms)
    concerned = await Mail(services, routing).concerned(ended_at_ms)

Next to read: ``purging.py``, which has them written; ``core/commit.py``, ``Purge``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence

from perdure.core.commit import HeadRow, JournalRow, OutboxRow, Purge, TombstoneRow
from perdure.core.family import ToInstance
from perdure.core.instance import ProcessedMessages
from perdure.errors import CodecError, PerdureError
from perdure.messages import Message
from perdure.runtime.routing import Routing
from perdure.runtime.services import Services
from perdure.store.protocol import LoadedInstance

__all__ = ["ROWS", "Mail", "buried_further", "last_number", "purge_of"]

logger = logging.getLogger("perdure.retention")

ROWS = 100
"""So many rows of a journal go in one entry."""

PAGE = 1_000
FIRST_PAGE = 16
"""Mostly the oldest job is younger than what is purged, and nothing more has to be read."""


async def purge_of(
    services: Services, loaded: LoadedInstance, head: HeadRow, until_ms: int
) -> Purge | None:
    """The entry that purges an instance; None if its rows do not say that it has ended so."""
    if loaded.corrupt is not None:
        return None
    try:
        found = await _folded(services, loaded)
    except CodecError as error:
        logger.warning("%s is kept, since its rows cannot be read: %s", loaded.instance, error)
        return None
    status, number, processed = found
    if status != head.status.value:
        return None
    body = services.journal.encode_tombstone(
        head.status.value, head.started_at_ms, head.updated_at_ms, processed.items(number)
    )
    return Purge(TombstoneRow(head.instance, until_ms, number, min(number, ROWS)), body)


async def buried_further(services: Services, loaded: LoadedInstance, row: TombstoneRow) -> Purge:
    """The entry that purges once more what came for an instance since it was purged."""
    assert loaded.snapshot is not None
    before = services.journal.read_snapshot(loaded.snapshot.body)
    _, number, processed = await _folded(services, loaded)
    body = services.journal.encode_tombstone(
        before.status, before.started_at_ms, before.updated_at_ms, processed.items(number)
    )
    swept_nr = min(number, row.swept_nr + ROWS)
    return Purge(TombstoneRow(row.instance, row.until_ms, number, swept_nr), body)


def last_number(loaded: LoadedInstance) -> int:
    """The last turn that was loaded."""
    if loaded.turns:
        return loaded.turns[-1].sequence_nr
    return 0 if loaded.snapshot is None else loaded.snapshot.sequence_nr


async def _folded(
    services: Services, loaded: LoadedInstance
) -> tuple[str | None, int, ProcessedMessages]:
    """The status after the last turn, its number, and the ids of the messages."""
    journal = services.journal
    processed = ProcessedMessages(services.settings.processed_window)
    status, number, turns = None, 0, loaded.turns
    if loaded.snapshot is not None:
        read = journal.read_snapshot(loaded.snapshot.body)
        status, number = read.status, loaded.snapshot.sequence_nr
        for message_id, at in read.known:
            processed.add(message_id, at)
    has_more = loaded.has_more
    while True:
        status = _status_after(services, status, turns)
        for turn in turns:
            processed.add(turn.message_id, turn.sequence_nr)
        number = turns[-1].sequence_nr if turns else number
        if not has_more:
            return status, number, processed
        await asyncio.sleep(0)
        turns = await services.store.journal(loaded.instance, number, PAGE)
        has_more = len(turns) == PAGE


def _status_after(
    services: Services, status: str | None, turns: Sequence[JournalRow]
) -> str | None:
    for turn in reversed(turns):
        if (found := services.journal.read_turn(turn.body).status) is not None:
            return found
    return status


class Mail:
    """What is in the outbox, by the instances that it concerns."""

    def __init__(self, services: Services, routing: Routing) -> None:
        self._services = services
        self._routing = routing

    async def concerned(self, until_ms: int) -> set[str]:
        """The instances that jobs of up to this moment were sent by, or are for.

        What is for an instance may have been taken by it, and its answer not yet: that is then read
        from its journal, once more. Jobs are in the order in which they were made, but for a clock
        that was set back.
        """
        found: set[str] = set()
        after, limit = 0, FIRST_PAGE
        while True:
            rows = await self._services.store.outbox(after, limit)
            older = [row for row in rows if row.created_at_ms <= until_ms]
            for row in older:
                found.add(row.instance)
                if not row.target:
                    found.update(self._targets(row))
            if len(rows) < limit or not older:
                return found
            after, limit = rows[-1].position, PAGE

    def _targets(self, row: OutboxRow) -> Iterable[str]:
        try:
            content = self._services.codec.decode(row.type, row.version, row.body)
            if type(content) is ToInstance:
                return [content.key]
            message = Message(content, row.type, row.version, row.body, row.id, row.created_at_ms)
            return [delivery.key for delivery in self._routing.deliveries(message)]
        except PerdureError:
            return []  # it will be a dead letter
