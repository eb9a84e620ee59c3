"""Jobs of which some attempt may have had its effect, and nobody knows.

Its process ended in the midst of it, its lease ran out, its runtime stopped. That a later attempt
has failed says nothing of that one: whoever is told that the job has failed is told of the doubt,
too. It is kept in the row, at the beginning of its error. Next to read: ``workers.py``.
"""

from __future__ import annotations

from perdure.core.commit import OutboxRow

__all__ = ["Doubts", "is_unknown"]

IN_DOUBT = "in doubt: "


def is_unknown(row: OutboxRow) -> bool:
    """The row was claimed for an attempt, and nothing says how that ended."""
    return row.attempts > 0 and not row.error


class Doubts:
    """The jobs in doubt of one queue, by their positions, as long as they are performed here."""

    def __init__(self) -> None:
        self._positions: set[int] = set()

    def keep(self, row: OutboxRow) -> None:
        """Note what the row says, which is about to be overwritten."""
        if is_unknown(row) or row.error.startswith(IN_DOUBT):
            self.add(row.position)

    def add(self, position: int) -> None:
        """An attempt has ended so."""
        self._positions.add(position)

    def forget(self, position: int) -> None:
        """The job is done with, or not performed here any more; or somebody knows."""
        self._positions.discard(position)

    def take(self, position: int) -> bool:
        """Whether the job, which is done with, is in doubt."""
        found = position in self._positions
        self.forget(position)
        return found

    def said(self, position: int, error: str) -> str:
        """The error as it is kept in the row."""
        return f"{IN_DOUBT}{error}" if position in self._positions else error
