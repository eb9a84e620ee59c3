"""What was done and injected, in figures that add up over runs.

Next to read: ``simulate.py``.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, fields
from typing import Any

__all__ = ["Counts"]


@dataclass
class Counts:
    """Figures of one run, or of many: ``counts + counts``.

    ``sent`` counts attempts; of these ``acked``, ``refused`` (for now or for good) or ``unknown``
    (their process died). ``faults`` is what was injected, by kind, ``kills`` where processes died,
    by boundary. ``turns`` are those in the journals at the end.
    """

    runs: int = 0
    sent: int = 0
    acked: int = 0
    refused: int = 0
    unknown: int = 0
    turns: int = 0
    instances: int = 0
    dead_letters: int = 0
    effects: int = 0
    processes: int = 0
    batches: int = 0
    virtual_s: float = 0.0
    wall_s: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    kills: Counter[str] = field(default_factory=Counter)

    def __add__(self, other: Counts) -> Counts:
        added: dict[str, Any] = {
            entry.name: getattr(self, entry.name) + getattr(other, entry.name)
            for entry in fields(self)
        }
        return Counts(**added)
