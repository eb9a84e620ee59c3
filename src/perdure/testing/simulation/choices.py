"""Randomness of one run: every decision has a stream of its own.

    choices = Choices(17)
    choices.number("crash K7")      # the n-th number of a kind depends on seed, kind and n only

So a decision more or less of one kind, such as a fault that shrinking takes away, shifts no other
kind. Next to read: ``faults.py``.
"""

from __future__ import annotations

import math
from collections.abc import MutableSequence, Sequence
from random import Random
from typing import Any, TypeVar

__all__ = ["Choices"]

T = TypeVar("T")


class Choices:
    """The choices of one seed."""

    def __init__(self, seed: int | str) -> None:
        self.seed = seed
        self._streams: dict[str, Random] = {}

    def stream(self, kind: str) -> Random:
        """The stream of one kind of decision."""
        found = self._streams.get(kind)
        if found is None:
            # From a text, which Random hashes with SHA-512: Python's hash seed plays no part.
            found = self._streams[kind] = Random(f"{self.seed}/{kind}")
        return found

    def apart(self, name: str) -> Choices:
        """Choices for the details of one thing, drawn by nothing else."""
        return Choices(f"{self.seed}/{name}")

    def number(self, kind: str) -> float:
        """A number from 0 up to, not including, 1."""
        return self.stream(kind).random()

    def whole(self, kind: str, low: int, high: int) -> int:
        """A whole number from ``low`` to ``high``, both included."""
        return self.stream(kind).randint(low, high)

    def spread(self, kind: str, low: float, high: float) -> float:
        """A number between two positive ones, each order of magnitude equally likely."""
        return low * math.exp(self.number(kind) * math.log(high / low))

    def pick(self, kind: str, options: Sequence[T]) -> T:
        """One of several."""
        return options[int(self.number(kind) * len(options))]

    def shuffle(self, kind: str, items: MutableSequence[Any]) -> None:
        """Bring into any order, in place."""
        self.stream(kind).shuffle(items)

    def entropy(self, kind: str, count: int) -> bytes:
        """So many bytes, in place of the system's."""
        return self.stream(kind).randbytes(count)
