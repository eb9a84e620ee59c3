"""Whether this machine's clock agrees with the database's.

    skew = Skew(limit_s=1.0)
    skew.seen(session.skew_s)       # a warning when it begins to be too much, and once
    skew.trouble()                  # for health

Deadlines fire by the clock of whoever owns the instance; ownership itself goes by the database's.
"""

from __future__ import annotations

import logging

from perdure.runtime.watching.vitals import Trouble

__all__ = ["Skew"]

logger = logging.getLogger("perdure.cluster")


class Skew:
    """Tells when the clocks are further apart than ``limit_s``."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._skew_s = 0.0

    @property
    def is_too_much(self) -> bool:
        return abs(self._skew_s) > self._limit_s

    def seen(self, skew_s: float) -> None:
        """How far this machine is ahead of the database, as a beat has found it."""
        was_too_much, self._skew_s = self.is_too_much, skew_s
        if self.is_too_much and not was_too_much:
            logger.warning(
                "this machine's clock is %s: deadlines fire by it, so set it by NTP", self._apart()
            )

    def trouble(self) -> tuple[Trouble, ...]:
        """What is wrong, if anything is."""
        if not self.is_too_much:
            return ()
        return (Trouble("this machine's clock", 1, f"it is {self._apart()}: deadlines fire by it"),)

    def _apart(self) -> str:
        way = "ahead of" if self._skew_s > 0 else "behind"
        return f"{abs(self._skew_s):.1f} s {way} the database's"
