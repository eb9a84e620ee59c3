"""Ids that never repeat: of messages a random beginning and a counter, of outbox rows numbers.

Next to read: ``runtime.py``, which takes any function that makes ids instead.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable

__all__ = ["positions", "unique_ids", "unique_random"]

POSITIONS_PER_EPOCH = 1 << 40


def unique_ids(entropy: Callable[[int], bytes] = os.urandom) -> Callable[[], str]:
    """A function that makes ids such as "5f0c…e1-1", "5f0c…e1-2"; any thread may call it.

    80 random bits begin each; ``entropy(n)`` gives n bytes (a simulation gives seeded ones).
    """
    beginning = entropy(10).hex()
    count = itertools.count(1)
    return lambda: f"{beginning}-{next(count)}"


def positions(epoch: int) -> Callable[[], int]:
    """A function that numbers outbox rows: above all that the owners before this epoch gave."""
    return itertools.count(epoch * POSITIONS_PER_EPOCH + 1).__next__


def unique_random(entropy: Callable[[int], bytes] = os.urandom) -> Callable[[], float]:
    """A function that gives numbers from 0 up to, not including, 1: for the jitter of retries."""
    return lambda: int.from_bytes(entropy(6)) / (1 << 48)
