"""A histogram that costs little to fill: a bisection and two additions.

Filled on the runtime's loop, read from any thread; a reader may see a value counted and not yet
summed. Next to read: ``families.py``, its bounds.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence

__all__ = ["Spread"]


class Spread:
    """Counts values by the first of the ascending ``bounds`` that they do not exceed.

    >>> spread = Spread((1.0, 10.0))
    >>> spread.add(5.0)
    >>> spread.buckets()
    [('1.0', 0), ('10.0', 1), ('+Inf', 1)]
    """

    __slots__ = ("_bounds", "_counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self.sum += value

    def buckets(self) -> list[tuple[str, int]]:
        """Per bound, as text, how many values do not exceed it; the last is all."""
        found, total = [], 0
        for bound, count in zip((*self._bounds, math.inf), self._counts, strict=True):
            total += count
            found.append(("+Inf" if bound == math.inf else str(bound), total))
        return found
