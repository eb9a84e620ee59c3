"""Retention: instances that have ended are purged when their time has come, in small pieces.

    kept ──its time is over──> purged: a tombstone ──its time is over──> nothing
                                   └─ its journal is swept, a few rows at a time

Each piece is a few entries for the group commit, like everything else that is written; after it,
there is a rest in proportion to how long it took. What a crash leaves undone the next start finds:
a tombstone says how far its journal is swept. Nothing is asked of the store but when something is
due: the heads that ended first are due first, and the first one that is not says when to look next.

An instance is never purged under an incarnation: a resident one leaves memory first, and one that
is called for meanwhile is not loaded before it is known what was written.
Next to read: ``core/retention.py``; ``purge_entries.py``, what is written.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from perdure.core.commit import HeadRow, Purge, Status, TombstoneRow
from perdure.core.head_query import HeadQuery, Key, Order, place_of
from perdure.core.saga import Definition
from perdure.errors import CodecError, Fenced, StoreError
from perdure.runtime.clock import Wake
from perdure.runtime.purge_entries import ROWS, Mail, buried_further, last_number, purge_of
from perdure.runtime.routing import Routing
from perdure.runtime.saga_actor import SagaActor
from perdure.runtime.services import Services
from perdure.runtime.supervised import Background, growing_s, insist
from perdure.store.protocol import LoadedInstance

__all__ = ["Purging"]

logger = logging.getLogger("perdure.retention")

PIECE = 25
"""So many instances are purged in one go at most …"""

PIECE_ROWS = 250
"""… and, about, so many rows of their journals."""

REST = 3.0
BUSY_REST = 9.0
"""After a piece, a rest of so many times as long as it took: idle, or while others are written."""

REST_MIN_S = 0.005
LEFT_S = 1.0
"""Those that must be kept for now are looked at again after so long, then after twice that, …"""

LONG_AFTER = 7
"""After so many looks, the pause is an hour."""

POSTPONED_MS = 3_600_000
"""A tombstone that must stay for now stays for so long."""


class Owner(Protocol):
    """Who owns the incarnations."""

    def is_aside(self, key: str) -> bool: ...

    def passivate(self, key: str) -> bool: ...

    def load(self, actor: SagaActor) -> None: ...

    def overtaken(self, error: Fenced) -> None: ...


class Purging:
    """Purges what the sagas' retention lets go. Does nothing if no saga has any."""

    def __init__(
        self, services: Services, definitions: Mapping[str, Definition], owner: Owner
    ) -> None:
        self._services = services
        self._owner = owner
        self._places = {(one.saga, one.status): one for one in _places(definitions)}
        self._tombstones_at_ms: int | None = None
        self._under_way: dict[str, list[SagaActor]] = {}
        self._mail: Mail | None = None
        self._wake: Wake | None = None
        self._wake_at_ms = 0
        self._is_resting = False
        self._working = Background(
            services.clock, services.settings.retry_pause_s, "purging", self._work
        )

    def start(self, routing: Routing) -> None:
        """See what is due."""
        if not self._places:
            return
        self._mail = Mail(self._services, routing)
        self._tombstones_at_ms = 0
        for place in self._places.values():
            place.due_at_ms = 0
        self._working.start()

    async def stop(self) -> None:
        """Purge nothing more; what is being written is written."""
        self._mail = None
        self._disarm()
        await self._working.stop()

    @property
    def is_settled(self) -> bool:
        """It waits for time to pass."""
        return not self._working.is_running

    async def settled(self) -> None:
        """Wait until it is so."""
        await self._working.ended()

    # What is heard

    def ended(self, saga: str, status: Status, at_ms: int) -> None:
        """An instance has ended, durably (or was found to have)."""
        place = self._places.get((saga, status))
        if place is None:
            return
        due_at_ms = at_ms + place.kept_ms
        if place.heard_ms is None or due_at_ms < place.heard_ms:
            place.heard_ms = due_at_ms
        if place.due_at_ms is None or due_at_ms < place.due_at_ms:
            place.due_at_ms = due_at_ms
            self._arm()

    def holds(self, actor: SagaActor) -> bool:
        """Its instance is being purged: it is loaded when that is written, or is not to be."""
        waiting = self._under_way.get(actor.key)
        if waiting is None:
            return False
        waiting.append(actor)
        return True

    # The clockwork

    def _arm(self) -> None:
        moments = [place.due_at_ms for place in self._places.values()]
        due = [one for one in (*moments, self._tombstones_at_ms) if one is not None]
        if not due or self._mail is None or self._is_resting or self._working.is_running:
            return
        at_ms = min(due)
        if self._wake is not None:
            if self._wake_at_ms <= at_ms:
                return
            self._disarm()
        self._wake_at_ms = at_ms
        self._wake = self._services.clock.call_at(at_ms, self._insist(self._on_wake))

    def _disarm(self) -> None:
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None

    def _on_wake(self) -> None:
        self._wake = None
        self._working.start()

    def _insist(self, function: Callable[[], None]) -> Callable[[], None]:
        settings = self._services.settings
        return insist(self._services.clock, settings.retry_pause_s, "purging", function)

    async def _work(self) -> None:
        """One piece, then a rest."""
        clock = self._services.clock
        began_s = clock.monotonic_s()
        await self._piece(clock.now_ms())
        took_s = clock.monotonic_s() - began_s
        rest = REST if self._services.commit.is_idle else BUSY_REST
        self._is_resting = True
        self._disarm()
        self._wake = clock.call_later(max(REST_MIN_S, took_s * rest), self._insist(self._rested))

    def _rested(self) -> None:
        self._wake = None
        self._is_resting = False
        self._arm()

    async def _piece(self, now_ms: int) -> None:
        if self._tombstones_at_ms is not None and self._tombstones_at_ms <= now_ms:
            await self._see_to_tombstones(now_ms)
            return
        for place in sorted(self._places.values(), key=lambda one: one.due_at_ms or 0):
            if place.due_at_ms is not None and place.due_at_ms <= now_ms:
                await self._see_to(place, now_ms)
                return

    # Instances whose time is over

    async def _see_to(self, place: _Place, now_ms: int) -> None:
        """Purge the next ones of a saga that are due, or find out when there will be some."""
        place.heard_ms = None
        query = HeadQuery(
            place.saga, (place.status,), Order.UPDATED, after=place.after, limit=PIECE + 1
        )
        heads = await self._services.store.find(query)
        due = [head for head in heads if head.updated_at_ms + place.kept_ms <= now_ms]
        seen, are_left = await self._purge(place, due[:PIECE], now_ms)
        place.are_left |= are_left
        if len(seen) < len(due):
            place.after = place_of(seen[-1], Order.UPDATED, "")
            place.due_at_ms = now_ms
            return
        coming = [head.updated_at_ms + place.kept_ms for head in heads[len(due) :][:1]]
        if place.are_left:
            place.looks += 1
            pause_s = growing_s(LEFT_S, place.looks) * (60 if place.looks > LONG_AFTER else 1)
            coming.append(now_ms + int(pause_s * 1000))
        else:
            place.looks = 0
        if place.heard_ms is not None:
            coming.append(place.heard_ms)
        place.after, place.are_left, place.due_at_ms = None, False, min(coming, default=None)

    async def _purge(
        self, place: _Place, heads: Sequence[HeadRow], now_ms: int
    ) -> tuple[Sequence[HeadRow], bool]:
        """Purge those that may be; which were looked at, and whether some had to be kept."""
        if not heads:
            return heads, False
        free = await self._free([head.instance for head in heads], heads[-1].updated_at_ms)
        found = {one.instance: one for one in await self._services.store.load(list(free))}
        entries: list[Purge] = []
        rows, seen = 0, 0
        for head in heads:
            if rows >= PIECE_ROWS:
                break
            seen += 1
            if head.instance in found:
                until_ms = now_ms + place.tombstone_ms
                entry = await purge_of(self._services, found[head.instance], head, until_ms)
                if entry is not None:
                    entries.append(entry)
                    rows += entry.tombstone.swept_nr
        written = await self._write(entries)
        if any(entry.tombstone.due_at_ms == 0 for entry in entries):
            self._tombstones_at_ms = now_ms
        elif entries:
            self._tombstones_before(now_ms + place.tombstone_ms)
        return heads[:seen], written < seen

    async def _free(self, keys: Sequence[str], until_ms: int) -> dict[str, None]:
        """Those of whom nothing waits anywhere."""
        assert self._mail is not None
        waiting = await self._services.store.inbox_sizes(keys)
        concerned = await self._mail.concerned(until_ms)
        return {
            key: None
            for key in keys
            if key not in waiting and key not in concerned and not self._owner.is_aside(key)
        }

    async def _write(self, entries: Sequence[Purge | TombstoneRow]) -> int:
        """Have them written, each under no incarnation; how many were."""
        tickets = []
        for entry in entries:  # nothing is awaited between "it may leave" and "it is under way"
            key = entry.instance
            if not self._owner.is_aside(key) and self._owner.passivate(key):
                self._under_way[key] = []
                tickets.append(_Piece(self, entry))
                self._services.commit.submit(tickets[-1])
        outcomes = await asyncio.gather(*(ticket.outcome for ticket in tickets))
        return sum(outcomes)

    def landed(self, key: str, error: StoreError | None = None, in_doubt: bool = False) -> None:
        """It is known what was written, or that nobody knows: who was called for may be loaded."""
        for actor in self._under_way.pop(key, ()):
            self._owner.load(actor)
        if isinstance(error, Fenced):
            self._owner.overtaken(error)
        elif error is not None:
            logger.log(logging.WARNING if in_doubt else logging.INFO, "purging %s: %s", key, error)
        if in_doubt:
            self._tombstones_at_ms = 0  # its journal may be still to be swept

    # Tombstones

    def _tombstones_before(self, at_ms: int) -> None:
        if self._tombstones_at_ms is None or at_ms < self._tombstones_at_ms:
            self._tombstones_at_ms = at_ms

    async def _see_to_tombstones(self, now_ms: int) -> None:
        """Sweep journals that are still to be swept; end the tombstones whose time is over."""
        store = self._services.store
        self._tombstones_at_ms = None
        try:
            rows = await store.tombstones(limit=PIECE + 1)
            due = [row for row in rows if row.due_at_ms <= now_ms][:PIECE]
            sweeping = [row for row in due if row.due_at_ms == 0][: PIECE_ROWS // ROWS]
            if sweeping:
                await self._sweep(sweeping)
            elif due:
                await self._end(due, now_ms)
        except BaseException:
            self._tombstones_at_ms = 0
            raise
        if due:
            self._tombstones_at_ms = now_ms
        elif rows:
            self._tombstones_before(rows[0].due_at_ms)

    async def _sweep(self, rows: Sequence[TombstoneRow]) -> None:
        tickets = [
            _Piece(self, replace(row, swept_nr=min(row.sequence_nr, row.swept_nr + ROWS)))
            for row in rows
        ]
        for ticket in tickets:
            self._services.commit.submit(ticket)
        await asyncio.gather(*(ticket.outcome for ticket in tickets))

    async def _end(self, rows: Sequence[TombstoneRow], now_ms: int) -> None:
        """Forget the instances; one of which something waits somewhere is known for longer."""
        services = self._services
        found = {one.instance: one for one in await services.store.load([r.instance for r in rows])}
        ended_at_ms = max(self._ended_at_ms(one) for one in found.values())
        free = await self._free(list(found), ended_at_ms)
        entries: list[Purge | TombstoneRow] = []
        for row in rows:
            loaded = found[row.instance]
            if row.instance not in free or loaded.corrupt is not None or loaded.snapshot is None:
                entries.append(replace(row, until_ms=now_ms + POSTPONED_MS))
            elif loaded.has_more or last_number(loaded) > row.swept_nr + ROWS:
                entries.append(await buried_further(services, loaded, row))
            else:
                number = last_number(loaded)
                entries.append(TombstoneRow(row.instance, row.until_ms, number, number, True))
        await self._write(entries)

    def _ended_at_ms(self, loaded: LoadedInstance) -> int:
        if loaded.snapshot is None:
            return 0
        try:
            return self._services.journal.read_snapshot(loaded.snapshot.body).updated_at_ms
        except CodecError:
            return 0


class _Piece:
    """An entry of a piece; its outcome is whether it was certainly written."""

    __slots__ = ("_purging", "entry", "outcome")

    is_void = False

    def __init__(self, purging: Purging, entry: Purge | TombstoneRow) -> None:
        self._purging = purging
        self.entry = entry
        self.outcome: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def written(self) -> None:
        """It is durable."""
        self._resolve(True)

    def left_out(self, error: StoreError) -> None:
        """It was not written: perhaps a message has come in between."""
        self._resolve(False, error)

    def unknown(self, error: StoreError) -> None:
        """Nobody knows: it is looked at again."""
        self._resolve(False, error, in_doubt=True)

    def _resolve(
        self, is_written: bool, error: StoreError | None = None, in_doubt: bool = False
    ) -> None:
        self._purging.landed(self.entry.instance, error, in_doubt)
        if not self.outcome.done():
            self.outcome.set_result(is_written)
