"""The outside world's own book: what workers did there. No crash of a process touches it.

    async def charge(command: Charge, job: Job, effects: Ledger) -> None:
        effects.note(job.key, command.amount)

Next to read: ``world.py``, which has it as ``world.effects``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["Effect", "Ledger"]


@dataclass(frozen=True, slots=True)
class Effect:
    """Something that was done outside. ``key`` is the job's, ``at_s`` the time in the run."""

    key: str
    what: Any
    at_s: float


class Ledger:
    """Effects in the order in which they happened. Given to workers as the resource ``effects``."""

    def __init__(self, on_note: Callable[[Effect], None], now_s: Callable[[], float]) -> None:
        self.all: list[Effect] = []
        self.is_closed = False
        self._on_note = on_note
        self._now_s = now_s

    def __repr__(self) -> str:
        return "world.effects"  # the same in every run, also in the message of an assertion

    def note(self, key: str, what: Any = None) -> bool:
        """Write down what is done under a job's key; False if it was done before.

        A receiver that is idempotent does the work only when this is True.
        """
        if self.is_closed:
            return False
        is_first = not any(effect.key == key for effect in self.all)
        effect = Effect(key, what, self._now_s())
        self.all.append(effect)
        self._on_note(effect)
        return is_first

    def times(self, key: str) -> int:
        """How often something was done under this key."""
        return sum(effect.key == key for effect in self.all)

    def once(self) -> list[Any]:
        """What was done, each key counted once, as an idempotent receiver has it."""
        first: dict[str, Any] = {}
        for effect in self.all:
            first.setdefault(effect.key, effect.what)
        return list(first.values())

    def count(self) -> Counter[str]:
        """How often each key was done."""
        return Counter(effect.key for effect in self.all)
