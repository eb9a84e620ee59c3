"""Retention: instances that have ended are purged when their time has come, in small pieces.

    kept ──its time is over──> purged: a tombstone ──its time is over──> nothing
                                   └─ its journal is swept, a few rows at a time

Each piece is a few entries for the group commit, like everything else that is written; after it
there is a rest, in proportion to how long it took. What a crash leaves undone the next start finds:
a tombstone says how far its journal is swept. Nothing is asked of the store but when something is
due: the heads that ended first are due first, and the first one that is not says when to look next.
Next to read: ``core/retention.py``; ``purge_pieces.py``, what a piece does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from perdure.core.instance import Instance
from perdure.core.saga import Definition
from perdure.runtime.clock import Wake
from perdure.runtime.retention.purge_entries import Mail
from perdure.runtime.retention.purge_pieces import Pieces
from perdure.runtime.retention.purge_places import places
from perdure.runtime.retention.purge_writing import Owner, PurgeWriting
from perdure.runtime.routing import Routing
from perdure.runtime.services import Services
from perdure.runtime.supervised import Background, insist

__all__ = ["Purging"]

REST = 2.0
BUSY_REST = 5.0
"""After a piece, a rest of so many times as long as it took: idle, or while others are written."""

REST_MIN_S = 0.005


class Purging:
    """Purges what the sagas' retention lets go. Does nothing if no saga has any.

    ``holds(actor)``: its instance is being purged; it is loaded when that is written.
    """

    def __init__(
        self, services: Services, definitions: Mapping[str, Definition], owner: Owner
    ) -> None:
        self._services = services
        self._owner = owner
        self._places = places(definitions)
        self._writing = PurgeWriting(services.commit, owner)
        self.holds = self._writing.holds
        self._pieces: Pieces | None = None
        self._tombstones_at_ms: int | None = None
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
        mail = Mail(self._services, routing)
        self._pieces = Pieces(self._services, self._owner, self._writing, mail)
        self._tombstones_at_ms = 0
        for place in self._places.values():
            place.due_at_ms = 0
        self._working.start()

    async def stop(self) -> None:
        """Purge nothing more; what is being written is written."""
        self._pieces = None
        self._disarm()
        await self._working.stop()

    @property
    def is_settled(self) -> bool:
        """It waits for time to pass."""
        return not self._working.is_running

    async def settled(self) -> None:
        """Wait until it is so."""
        await self._working.ended()

    def ended(self, saga: str, instance: Instance) -> None:
        """An instance may have ended, durably; or was found to have."""
        place = self._places.get((saga, instance.status))
        if place is not None and place.heard(instance.updated_at_ms):
            self._arm()

    def _arm(self) -> None:
        """Wake up when the first is due; during a piece, or the rest after it, not yet."""
        if self._pieces is None or self._is_resting or self._working.is_running:
            return
        moments = [self._tombstones_at_ms, *(one.due_at_ms for one in self._places.values())]
        at_ms = min((moment for moment in moments if moment is not None), default=None)
        if at_ms is None or (self._wake is not None and self._wake_at_ms <= at_ms):
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

    async def _work(self) -> None:
        """One piece, then a rest."""
        clock, pieces = self._services.clock, self._pieces
        if pieces is None:
            return
        began_s = clock.monotonic_s()
        await self._piece(pieces, clock.now_ms())
        rest = REST if self._services.commit.is_idle else BUSY_REST
        rest_s = max(REST_MIN_S, (clock.monotonic_s() - began_s) * rest)
        self._is_resting = True
        self._disarm()
        self._wake = clock.call_later(rest_s, self._insist(self._on_rested))

    def _on_rested(self) -> None:
        self._wake = None
        self._is_resting = False
        self._arm()

    async def _piece(self, pieces: Pieces, now_ms: int) -> None:
        if self._writing.is_in_doubt:
            self._writing.is_in_doubt = False
            self._tombstones_at_ms = 0
        if self._tombstones_at_ms is not None and self._tombstones_at_ms <= now_ms:
            self._tombstones_at_ms = await pieces.tombstones(now_ms)
            return
        due = [place for place in self._places.values() if _is_due(place.due_at_ms, now_ms)]
        if due:
            place = min(due, key=lambda one: one.due_at_ms or 0)
            tombstones_at_ms = await pieces.purge(place, now_ms)
            if not _is_due(self._tombstones_at_ms, tombstones_at_ms):
                self._tombstones_at_ms = tombstones_at_ms

    def _insist(self, function: Callable[[], None]) -> Callable[[], None]:
        pause_s = self._services.settings.retry_pause_s
        return insist(self._services.clock, pause_s, "purging", function)


def _is_due(at_ms: int | None, now_ms: int | None) -> bool:
    """At that moment, or before it."""
    return at_ms is not None and (now_ms is None or at_ms <= now_ms)
