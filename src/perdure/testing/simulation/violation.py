"""What a run that went wrong is reported as, inside the simulation. See ``report.py``."""

from __future__ import annotations

__all__ = ["Violation"]


class Violation(Exception):
    """A promise was broken. ``promise`` names it in a few words, ``found`` is what was seen."""

    def __init__(self, promise: str, found: str) -> None:
        super().__init__(f"{promise}: {found}")
        self.promise = promise
        self.found = found
