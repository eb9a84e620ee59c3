"""The pieces of which purges are made: each reads a little, and has a few entries written.

    await pieces.purge(place, now_ms)                  # instances whose time is over
    next_ms = await pieces.tombstones(now_ms)          # journals to sweep, tombstones to end

Next to read: ``purging.py``, which says when; ``purge_entries.py``, what is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from perdure.core.commit import HeadRow, Purge, TombstoneRow
from perdure.core.head_query import HeadQuery, Order, place_of
from perdure.errors import CodecError
from perdure.runtime.retention.purge_entries import (
    ROWS,
    Mail,
    buried_further,
    last_number,
    purge_of,
)
from perdure.runtime.retention.purge_places import Place
from perdure.runtime.retention.purge_writing import Owner, PurgeWriting
from perdure.runtime.services import Services
from perdure.store.protocol import LoadedInstance

__all__ = ["Pieces"]

PIECE = 50
"""So many instances are purged in one go at most …"""

PIECE_ROWS = 250
"""… and, about, so many rows of their journals."""

AGAIN_MS = 1_000
"""When nothing of a piece could be written, so long passes before it is tried again."""

POSTPONED_MS = 3_600_000
"""A tombstone that must stay for now stays for so long."""


class Pieces:
    """What is due, a piece at a time."""

    def __init__(self, services: Services, owner: Owner, writing: PurgeWriting, mail: Mail) -> None:
        self._services = services
        self._store = services.store
        self._owner = owner
        self._writing = writing
        self._mail = mail

    async def purge(self, place: Place, now_ms: int) -> int | None:
        """Purge the next ones that are due; when their tombstones must be seen to, if any.

        Or, if no more are due, find out when there will be some.
        """
        place.begin()
        query = HeadQuery(
            place.saga, (place.status,), Order.UPDATED, after=place.after, limit=PIECE + 1
        )
        heads = await self._store.find(query)
        due = [head for head in heads if head.updated_at_ms + place.kept_ms <= now_ms]
        seen, entries = await self._entries(due[:PIECE], now_ms + place.tombstone_ms)
        written = await self._writing.write(entries)
        place.are_left |= written < seen
        if seen < len(due):
            place.go_on(place_of(due[seen - 1], Order.UPDATED, ""), now_ms)
        else:
            coming = [head.updated_at_ms + place.kept_ms for head in heads[len(due) :]]
            place.end(min(coming, default=None), now_ms)
        return min((entry.tombstone.due_at_ms for entry in entries), default=None)

    async def _entries(
        self, heads: Sequence[HeadRow], until_ms: int
    ) -> tuple[int, Sequence[Purge]]:
        """How many of these were looked at, and the entries for those that may be purged."""
        entries: list[Purge] = []
        if not heads:
            return 0, entries
        free = await self._free([head.instance for head in heads], heads[-1].updated_at_ms)
        found = {one.instance: one for one in await self._store.load(list(free))}
        rows = seen = 0
        for head in heads:
            if rows >= PIECE_ROWS:
                break
            seen += 1
            if head.instance in found:
                entry = await purge_of(self._services, found[head.instance], head, until_ms)
                if entry is not None:
                    entries.append(entry)
                    rows += entry.tombstone.swept_nr
        return seen, entries

    async def _free(self, keys: Sequence[str], ended_at_ms: int) -> dict[str, None]:
        """Those for whom nothing waits anywhere."""
        waiting = await self._store.inbox_sizes(keys)
        concerned = await self._mail.concerned(ended_at_ms)
        return {
            key: None
            for key in keys
            if key not in waiting and key not in concerned and not self._owner.is_aside(key)
        }

    async def tombstones(self, now_ms: int) -> int | None:
        """Sweep journals, or end tombstones; when there is something to be done next, if ever."""
        rows = await self._store.tombstones(limit=PIECE + 1)
        due = [row for row in rows if row.due_at_ms <= now_ms][:PIECE]
        sweeping = [row for row in due if row.due_at_ms == 0][: PIECE_ROWS // ROWS]
        if sweeping:
            further = [min(row.sequence_nr, row.swept_nr + ROWS) for row in sweeping]
            written = await self._writing.sweep(
                [replace(row, swept_nr=nr) for row, nr in zip(sweeping, further, strict=True)]
            )
        elif due:
            written = await self._end(due, now_ms)
        else:
            return rows[0].due_at_ms if rows else None
        return now_ms if written else now_ms + AGAIN_MS

    async def _end(self, rows: Sequence[TombstoneRow], now_ms: int) -> int:
        """Forget the instances; one for whom something waits somewhere is known for longer.

        So is one with dead letters: a command that is redriven has its old id, and a new instance
        of that name would take its result for that of its own. How many entries were written.
        """
        found = {one.instance: one for one in await self._store.load([r.instance for r in rows])}
        free = await self._free(list(found), self._last_end_ms(found.values()))
        for key in list(free):
            if (await self._store.rows_of(key, 1)).dead_letters:
                del free[key]
        entries: list[Purge | TombstoneRow] = []
        postponed: list[TombstoneRow] = []
        for row in rows:
            loaded = found[row.instance]
            number = last_number(loaded)
            if row.instance not in free or loaded.corrupt is not None or loaded.snapshot is None:
                postponed.append(replace(row, until_ms=now_ms + POSTPONED_MS))
            elif loaded.has_more or number > row.swept_nr + ROWS:
                entries.append(await buried_further(self._services, loaded, row))
            else:
                entries.append(TombstoneRow(row.instance, row.until_ms, number, number, True))
        return await self._writing.sweep(postponed) + await self._writing.write(entries)

    def _last_end_ms(self, found: Iterable[LoadedInstance]) -> int:
        """When the last of these instances ended, as far as that can be read."""
        journal, last_ms = self._services.journal, 0
        for one in found:
            if one.snapshot is not None:
                try:
                    ended_at_ms = journal.read_snapshot(one.snapshot.body).updated_at_ms
                except CodecError:
                    continue
                last_ms = max(last_ms, ended_at_ms)
        return last_ms
