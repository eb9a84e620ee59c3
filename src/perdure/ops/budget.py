"""How many spans may begin: so many a second, and after a quiet time those of ten seconds at once.

    if not budget.is_spent(now_s):      # else it is counted as left out, and that is all
        budget.take()
        begin_a_span()

A token bucket, kept as one number, the moment at which it is full again: the generic cell rate
algorithm (ITU-T I.371). Time is the runtime's monotonic clock. Knows no OpenTelemetry.
Next to read: ``spans.py``, which asks it before anything else.
"""

from __future__ import annotations

import logging
import math

from perdure.runtime.clock import Clock

__all__ = ["Budget"]

logger = logging.getLogger("perdure.tracing")

BURST_S = 10.0
TELL_EVERY_S = 60.0


class Budget:
    """What a runtime may spend on spans; ``per_s`` None: as much as it likes."""

    __slots__ = ("_each_s", "_full_at_s", "_now_s", "_per_s", "_room_s", "_tell_at_s", "left_out")

    def __init__(self, per_s: float | None, clock: Clock) -> None:
        self.left_out = 0
        self._per_s = per_s
        self._now_s = clock.monotonic_s
        self._each_s = 0.0 if per_s is None else 1 / per_s
        self._room_s = math.inf if per_s is None else max(BURST_S - self._each_s, 0.0)
        self._full_at_s = self._tell_at_s = -math.inf

    @property
    def is_open(self) -> bool:
        """A span may begin."""
        return self._full_at_s - self._now_s() <= self._room_s

    def is_spent(self, now_s: float) -> bool:
        """No span may begin; the one that was wanted is counted. ``now_s`` by the same clock."""
        if self._full_at_s - now_s <= self._room_s:
            return False
        self.left_out += 1
        if now_s >= self._tell_at_s:
            self._tell(now_s)
        return True

    def take(self) -> None:
        """Pay for a span. One that belongs to another need not be asked for: the next ones wait."""
        self._full_at_s = max(self._full_at_s, self._now_s()) + self._each_s

    def _tell(self, now_s: float) -> None:
        """Once a minute at most; aloud the first time, since it is not a failure."""
        level = logging.INFO if math.isfinite(self._tell_at_s) else logging.WARNING
        self._tell_at_s = now_s + TELL_EVERY_S
        logger.log(
            level,
            "not every turn and job is traced: there are more than spans_per_s=%g; "
            "%d spans were left out so far (Tracing(spans_per_s=None) traces all)",
            self._per_s, self.left_out,
        )  # fmt: skip
