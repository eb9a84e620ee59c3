"""Who may leave memory: the least recently used first, when idle long enough or when too many.

A pure policy: it is told the time and answers with keys. It does not know what a key stands for
and stops nobody. Every question costs the same however many are resident (an ordered dict).
After Pekko's ``EntityPassivationStrategy``. Next to read: ``runtime/instances/supervisor.py``.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from itertools import islice

__all__ = ["PassivationPolicy"]

EXAMINED_MAX = 64
"""So many candidates are looked at in one go; the rest waits for the next occasion."""


class PassivationPolicy:
    """Passivate after ``idle_after_s`` without a message, and above ``residents_max``.

    >>> policy = PassivationPolicy(idle_after_s=60.0, residents_max=100)
    >>> policy.touched("a", now_s=0.0); policy.touched("b", now_s=30.0)
    >>> policy.next_idle_s(), policy.due(now_s=60.0)
    (60.0, ['a'])

    ``idle_after_s`` None: never for idleness. Times are seconds of any monotonic clock.
    """

    def __init__(self, idle_after_s: float | None, residents_max: int) -> None:
        self.idle_after_s = idle_after_s
        self.residents_max = residents_max
        self._touched: OrderedDict[str, float] = OrderedDict()

    def touched(self, key: str, now_s: float) -> None:
        """The key was used: it is the last to go now."""
        self._touched[key] = now_s
        self._touched.move_to_end(key)

    def forgotten(self, key: str) -> None:
        """The key is not resident any more."""
        self._touched.pop(key, None)

    def next_idle_s(self) -> float | None:
        """When the least recently used one will have been idle long enough, or None."""
        if self.idle_after_s is None or not self._touched:
            return None
        return next(iter(self._touched.values())) + self.idle_after_s

    def due(self, now_s: float) -> list[str]:
        """Keys that should go now, least recently used first: the idle ones and the surplus."""
        surplus = len(self._touched) - self.residents_max
        idle_after_s = math.inf if self.idle_after_s is None else self.idle_after_s
        return [
            key
            for count, (key, touched_s) in enumerate(islice(self._touched.items(), EXAMINED_MAX))
            # Added as in next_idle_s, not subtracted: the two must agree to the last bit.
            if count < surplus or touched_s + idle_after_s <= now_s
        ]
