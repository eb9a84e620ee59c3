"""What is written when an instance is purged: its tombstone, and what goes for it.

Plain data, as in ``commit.py``. Next to read: ``retention.py``, when that is;
``runtime/retention/purging.py``, who has it written.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Purge", "TombstoneRow"]


@dataclass(slots=True)
class TombstoneRow:
    """An instance was purged; until ``until_ms``, a message for it is not taken for a first one.

    ``sequence_nr`` is its last turn when it was, ``swept_nr`` the last one whose journal row is
    gone. Written by itself, it takes the rows up to ``swept_nr`` along; if ``is_over`` (which is
    not stored), all that is left of the instance goes.
    """

    instance: str
    until_ms: int
    sequence_nr: int
    swept_nr: int
    is_over: bool = False

    @property
    def due_at_ms(self) -> int:
        """When there is something to be done about it: at once, as long as rows are to be swept."""
        return self.until_ms if self.swept_nr >= self.sequence_nr else 0


@dataclass(slots=True)
class Purge:
    """What there is of an instance that has ended goes, but for its tombstone.

    Left out as ``SequenceConflict`` if its journal does not stand at the tombstone's number. Its
    head, lookups and snapshots go at once, and of its journal the rows up to ``swept_nr``; ``body``
    is what is kept in place of a snapshot: how it ended, and which messages it knows.
    """

    tombstone: TombstoneRow
    body: bytes

    @property
    def instance(self) -> str:
        """The key of the instance."""
        return self.tombstone.instance
