"""When to look for instances whose time is over: per saga, and per way of ending.

    place = places(definitions)["Order", Status.COMPLETED]
    place.heard(ended_at_ms)                 # somebody has ended: due_at_ms may be earlier now
    place.begin(); …; place.end(coming_ms)   # a look, from one end of what is due to the other

Holds moments only, and asks nobody. Next to read: ``purging.py``, which looks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from perdure.core.commit import Status
from perdure.core.head_query import Key
from perdure.core.saga import Definition
from perdure.runtime.supervised import growing_s

__all__ = ["Place", "places"]

LEFT_S = 1.0
"""Those that had to be kept are looked at again after so long, then after twice that, …"""

SELDOM_S, SELDOM_FROM = 600.0, 8
"""… and from this look on only so often."""


@dataclass(slots=True)
class Place:
    """The instances of a saga that ended in one way, in the order of their ends.

    ``due_at_ms`` is when to look at them next, None: when one ends. ``after`` is where a look goes
    on, ``are_left``: some that are due had to be kept in it; that was so ``looks`` times in a row.
    """

    saga: str
    status: Status
    kept_ms: int
    tombstone_ms: int
    due_at_ms: int | None = None
    after: tuple[Key, str] | None = None
    are_left: bool = False
    looks: int = 0
    heard_ms: int | None = None

    def heard(self, ended_at_ms: int) -> bool:
        """One has ended; True if it is due before all that is known."""
        due_at_ms = ended_at_ms + self.kept_ms
        if self.heard_ms is None or due_at_ms < self.heard_ms:
            self.heard_ms = due_at_ms
        if self.due_at_ms is not None and self.due_at_ms <= due_at_ms:
            return False
        self.due_at_ms = due_at_ms
        return True

    def begin(self) -> None:
        """The store is asked now: it knows of all that was heard before."""
        self.heard_ms = None

    def go_on(self, after: tuple[Key, str], now_ms: int) -> None:
        """More are due, behind this one."""
        self.after, self.due_at_ms = after, now_ms

    def end(self, coming_ms: int | None, now_ms: int) -> None:
        """No more are due; the next one is due at ``coming_ms``, None: there is none."""
        self.looks = self.looks + 1 if self.are_left else 0
        moments = [coming_ms, self.heard_ms]
        if self.are_left:
            pause_s = growing_s(LEFT_S, self.looks) if self.looks < SELDOM_FROM else SELDOM_S
            moments.append(now_ms + int(pause_s * 1000))
        self.after, self.are_left = None, False
        self.due_at_ms = min((one for one in moments if one is not None), default=None)


def places(definitions: Mapping[str, Definition]) -> dict[tuple[str, Status], Place]:
    """One for each way of ending after which a saga does not keep its instances for ever."""
    found: dict[tuple[str, Status], Place] = {}
    for definition in definitions.values():
        retention = definition.retention
        for status in Status:
            kept_ms = retention.kept_ms(status)
            if kept_ms is not None:
                place = Place(definition.name, status, kept_ms, retention.tombstone_ms)
                found[definition.name, status] = place
    return found
