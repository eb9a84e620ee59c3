"""Message ids that never repeat: a random beginning per runtime, then a counter.

Next to read: ``runtime.py``, which takes any function that makes ids instead.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable

__all__ = ["unique_ids"]


def unique_ids(entropy: Callable[[int], bytes] = os.urandom) -> Callable[[], str]:
    """A function that makes ids such as "5f0c…e1-1", "5f0c…e1-2"; any thread may call it.

    80 random bits begin each; ``entropy(n)`` gives n bytes (a simulation gives seeded ones).
    """
    beginning = entropy(10).hex()
    count = itertools.count(1)
    return lambda: f"{beginning}-{next(count)}"
