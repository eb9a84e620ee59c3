"""Residents are kept out of the garbage collector's way, where the settings ask for it.

A hundred thousand instances that only lie there would otherwise be looked at again and again.
Concerns the whole process; undone at the end. Next to read: ``settings.py``, ``freeze_residents``.
"""

from __future__ import annotations

import gc
import math

__all__ = ["Freezing"]

FREEZE_FROM = 1_000
"""Fewer further residents are not worth a collection (which looks at what is not frozen yet)."""

YOUNG_MAX = 50_000
"""With residents frozen, the collector looks at the young objects when there are so many of them,
not 700: a turn makes some twenty that live until its commit, and there is no cycle among them."""


class Freezing:
    """Freezes when the number of residents has grown by a tenth; ``above``: so many it takes."""

    def __init__(self, is_wanted: bool) -> None:
        self.above = math.inf
        self._is_wanted = is_wanted
        self._threshold = gc.get_threshold()
        if is_wanted:
            gc.set_threshold(YOUNG_MAX, *self._threshold[1:])
            self.freeze(0)

    def freeze(self, residents: int) -> None:
        """Collect, and look no more at what is left."""
        self.above = residents + max(residents // 10, FREEZE_FROM)
        gc.collect()
        gc.freeze()

    def end(self) -> None:
        """Leave the collector as it was found."""
        if self._is_wanted:
            gc.set_threshold(*self._threshold)
            gc.unfreeze()
