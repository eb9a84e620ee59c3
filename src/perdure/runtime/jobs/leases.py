"""The leases of one queue: one timer for all its attempts, however many begin and end meanwhile.

Attempts begin one after another with leases of one length, so the first to begin is the first whose
lease may run out; nearly all have ended by then. Next to read: ``attempt.py``.
"""

from __future__ import annotations

from typing import Protocol

from perdure.runtime.clock import Clock, Wake
from perdure.runtime.supervised import insist

__all__ = ["RECHECK_S", "RETRY_PAUSE_S", "Lease", "Leases"]

RECHECK_S = 0.001
"""Less is a rounding error, and would come again at once."""

RETRY_PAUSE_S = 0.05


class Lease(Protocol):
    """Who holds a lease; told apart by identity."""

    def on_lease(self) -> None:
        """The lease has run its length; whoever has prolonged it sees to itself from here on."""


class Leases:
    """Tells whoever still holds a lease of ``lease_s`` seconds when it has run its length."""

    def __init__(self, clock: Clock, lease_s: float) -> None:
        self.lease_s = lease_s
        self._clock = clock
        self._held: dict[Lease, float] = {}  # in the order in which they run out
        self._wake: Wake | None = None
        self._told = insist(clock, RETRY_PAUSE_S, "the end of a lease", self._on_wake)

    def hold(self, lease: Lease, now_s: float) -> None:
        """A lease begins."""
        self._held[lease] = now_s + self.lease_s
        if self._wake is None:
            self._wake = self._clock.call_later(self.lease_s, self._told)

    def release(self, lease: Lease) -> None:
        """A lease has ended."""
        self._held.pop(lease, None)

    def close(self) -> None:
        """Nobody is told any more."""
        self._held.clear()
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None

    def _on_wake(self) -> None:
        self._wake = None
        now_s = self._clock.monotonic_s()
        while self._held:
            lease, until_s = next(iter(self._held.items()))
            if until_s - now_s >= RECHECK_S:
                self._wake = self._clock.call_later(until_s - now_s, self._told)
                return
            del self._held[lease]
            try:
                lease.on_lease()
            except BaseException:
                self._held = {lease: until_s, **self._held}  # it is told again
                raise
