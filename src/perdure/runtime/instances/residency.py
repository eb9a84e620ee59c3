"""Who is in memory and for how long: the idle leave after their time, the surplus at once.

Holds the policy's clockwork: one wake-up for whoever is next to have been idle long enough.
Whether somebody may leave is asked of who owns the incarnations.
Next to read: ``core/passivation.py`` (the policy), ``supervisor.py`` (the owner).
"""

from __future__ import annotations

from collections.abc import Callable

from perdure.core.passivation import PassivationPolicy
from perdure.runtime.clock import Wake
from perdure.runtime.services import Services
from perdure.runtime.supervised import insist

__all__ = ["Residency"]

SWEEP_PAUSE_S = 0.001
"""Between two sweeps time must pass: a wake-up early by a rounding error would come for ever."""


class Residency:
    """``passivate(key)`` lets one leave memory, and says whether it is not there any more."""

    def __init__(self, services: Services, passivate: Callable[[str], bool]) -> None:
        settings = services.settings
        self._clock = services.clock
        self._passivate = passivate
        self._policy = PassivationPolicy(settings.idle_after_s, settings.residents_max)
        self._sweep: Wake | None = None
        # It must not cost a sender his message that somebody else cannot leave.
        self.make_room = self._insist(self.passivate_due)

    def touched(self, key: str) -> None:
        """The instance has something to do."""
        self._policy.touched(key, self._clock.monotonic_s())

    def came(self, key: str) -> None:
        """The instance is in memory now."""
        self.touched(key)
        if self._sweep is None:
            self._arm()

    def forgotten(self, key: str) -> None:
        """The instance has left."""
        self._policy.forgotten(key)

    def checked(self, residents: int) -> None:
        """So many are in memory: if these are too many, some have to leave."""
        if residents > self._policy.residents_max:
            self.make_room()

    def passivate_due(self) -> None:
        """Passivate those that are idle for long enough, and the surplus."""
        now_s = self._clock.monotonic_s()
        for key in self._policy.due(now_s):
            if not self._passivate(key):
                self._policy.touched(key, now_s)  # at work: it is not idle after all
        self._arm()

    def limit(self, residents_max: int) -> None:
        """So many at most from now on: other runtimes of the process have their share."""
        self._policy.residents_max = residents_max

    def stop(self) -> None:
        """Nobody has to leave any more."""
        if self._sweep is not None:
            self._sweep.cancel()

    def _arm(self) -> None:
        next_s = self._policy.next_idle_s()
        self.stop()
        self._sweep = None
        if next_s is not None:
            delay_s = max(next_s - self._clock.monotonic_s(), SWEEP_PAUSE_S)
            self._sweep = self._clock.call_later(delay_s, self._insist(self._on_sweep))

    def _on_sweep(self) -> None:
        self._sweep = None
        self.passivate_due()

    def _insist(self, function: Callable[[], None]) -> Callable[[], None]:
        return insist(self._clock, SWEEP_PAUSE_S, "passivation", function)
