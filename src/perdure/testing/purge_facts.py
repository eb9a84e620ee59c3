"""Whether the rows of an instance that was purged are those that may be left of it.

Knows rows, no database. Next to read: ``invariants.py``, which asks; ``core/purge.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from perdure.codec.codec import Codec
from perdure.codec.journal import JournalCodec
from perdure.codec.registry import TypeRegistry
from perdure.core.commit import (
    DeadlineRow,
    HeadRow,
    JournalRow,
    OutboxRow,
    SnapshotRow,
    Status,
    TombstoneRow,
)
from perdure.core.outcome import Outcome
from perdure.errors import CodecError
from perdure.testing.journal_facts import Finding, Rule

__all__ = ["PurgeFacts"]

_journal = JournalCodec(Codec(TypeRegistry()))


class PurgeFacts:
    """What is left of one instance; ``turns`` are its sound journal rows in their order."""

    def __init__(
        self,
        row: TombstoneRow,
        turns: Sequence[JournalRow],
        snapshots: Sequence[SnapshotRow],
        window: int,
    ) -> None:
        self._row = row
        self._turns = turns
        self._snapshots = snapshots
        self._window = window
        self._known: dict[str, int] = {}

    def check_memory(self) -> Iterator[Finding]:
        """What is kept in place of its snapshots: how it ended and what it knows, no state."""
        if not self._snapshots:
            yield Rule.TOMBSTONE, "nothing says how it ended, and what it knows"
        for snapshot in self._snapshots:
            number = snapshot.sequence_nr
            try:
                found = _journal.read_snapshot(snapshot.body)
            except CodecError as error:
                yield Rule.UNREADABLE, f"snapshot of turn {number}: {error}"
                continue
            self._known.update(found.known)
            if found.state is not None:
                yield Rule.TOMBSTONE, f"its state of turn {number} is still there"
            if number < self._row.sequence_nr:
                yield Rule.TOMBSTONE, f"a snapshot of turn {number} was left"
            if not Status(found.status).is_over:
                yield Rule.TOMBSTONE, f"it was purged, and is {found.status}"

    def check_turns(self) -> Iterator[Finding]:
        """Its journal is swept from the beginning, and nothing was applied since it was purged."""
        row, expected = self._row, self._row.swept_nr + 1
        for turn in self._turns:
            number = turn.sequence_nr
            if number != expected:
                yield Rule.TOMBSTONE, f"turn {number} is there, and {expected} comes next"
            expected = number + 1
            if number <= row.sequence_nr:
                continue
            before = self._known.get(turn.message_id)
            if before is not None and before != number and number - before <= self._window:
                repeated = f"turns {before} and {number} both process {turn.message_id!r}"
                yield Rule.MESSAGE, repeated
            self._known[turn.message_id] = number
            try:
                outcome = _journal.outcome_of(_journal.read_turn(turn.body))
            except CodecError as error:
                yield Rule.UNREADABLE, f"turn {number}: {error}"
                continue
            if outcome is not Outcome.FINISHED:
                yield Rule.TOMBSTONE, f"turn {number} is {outcome}, after it was purged"
        if expected <= row.sequence_nr:
            yield Rule.TOMBSTONE, f"turn {expected} is not there, and not said to be swept"

    def check_others(
        self, head: HeadRow | None, deadlines: Iterable[DeadlineRow], jobs: Iterable[OutboxRow]
    ) -> Iterator[Finding]:
        """Its rows in the other tables."""
        if head is not None:
            yield Rule.TOMBSTONE, f"it was purged, and its head says {head.status}"
        for deadline in deadlines:
            yield Rule.TOMBSTONE, f"it was purged, and deadline {deadline.name!r} is armed"
        for job in jobs:
            number = self._known.get(f"perdure.result/{job.id}")
            if number is not None:
                yield Rule.RESULT, f"turn {number} has the result of job {job.id}"
