"""The net change of a group of entries, table by table, built up entry by entry.

Knows what the store holds of the jobs and letters concerned (``Present``), and so who comes too
late for one. Pure; knows no SQL. Next to read: ``write_plan.py``, which feeds it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from perdure.core.commit import (
    DeadLetterRow,
    DeadlineRow,
    HeadRow,
    InboxRow,
    IndexedFields,
    JournalRow,
    OutboxRow,
    Purge,
    QuarantineRow,
    QueueRow,
    Reindexed,
    Settlement,
    SnapshotRow,
    TombstoneRow,
    TurnRecord,
)
from perdure.errors import Gone

__all__ = ["Changes", "Present"]


@dataclass(slots=True)
class Present:
    """What the store holds, before the group, of that which its entries ask for.

    Positions of jobs and of dead letters, where the jobs with certain given ids are, and who has a
    tombstone.
    """

    jobs: set[int] = field(default_factory=set)
    letters: set[int] = field(default_factory=set)
    given_ids: dict[str, int] = field(default_factory=dict)
    purged: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Changes:
    """The net effect of some entries, per table. What is removed goes before what is put.

    ``outbox`` are rows to insert, also in place of a removed one; ``jobs_removed`` may name
    positions at which there is nothing. Of ``begun`` instances there is no head yet; of
    ``reindexed`` ones all lookups are put, whatever their heads have said before. Of ``purged``
    ones the heads go, and what belongs to them; what ``tombstones`` take along goes after the
    journal is written, and before snapshots are.
    """

    present: Present = field(default_factory=Present)
    journal: list[JournalRow] = field(default_factory=list)
    jobs_removed: dict[int, None] = field(default_factory=dict)
    outbox: dict[int, OutboxRow] = field(default_factory=dict)
    deadlines: dict[tuple[str, str], DeadlineRow | None] = field(default_factory=dict)
    heads: dict[str, HeadRow] = field(default_factory=dict)
    begun: dict[str, None] = field(default_factory=dict)
    reindexed: dict[str, None] = field(default_factory=dict)
    indexed: dict[str, IndexedFields] = field(default_factory=dict)
    consumed: dict[tuple[str, str], None] = field(default_factory=dict)
    inbox: dict[tuple[str, str], InboxRow] = field(default_factory=dict)
    letters_removed: dict[int, None] = field(default_factory=dict)
    dead_letters: list[DeadLetterRow] = field(default_factory=list)
    snapshots: dict[tuple[str, int], SnapshotRow] = field(default_factory=dict)
    queues: dict[str, QueueRow] = field(default_factory=dict)
    quarantines: dict[str, QuarantineRow] = field(default_factory=dict)
    purged: dict[str, None] = field(default_factory=dict)
    tombstones: dict[str, TombstoneRow] = field(default_factory=dict)

    def add_turn(self, turn: TurnRecord) -> None:
        """Later turns of an instance win over earlier ones.

        Raises ValueError if two rows have one position.
        """
        row = turn.row
        self.journal.append(row)
        if turn.outbox:
            self._insert(turn.outbox)
        for name in turn.deadlines_cleared:
            self.deadlines[row.instance, name] = None
        for deadline in turn.deadlines_set:
            self.deadlines[deadline.instance, deadline.name] = deadline
        if turn.head is not None:
            self._put_head(turn.head, row.sequence_nr)
        if turn.consumes_inbox:
            self.consume(row.instance, row.message_id)
        if turn.dead_letter is not None:
            self.add_dead_letter(turn.dead_letter)
        if turn.settles is not None:
            self._settle(turn.settles)
        for repair in turn.repairs:
            self._settle(repair)
            if repair.inbox is not None:
                self.put(repair.inbox)

    def _put_head(self, head: HeadRow, sequence_nr: int) -> None:
        self.heads[head.instance] = head
        if sequence_nr == 1:
            self.begun[head.instance] = None

    def reindex(self, entry: Reindexed) -> Gone | None:
        """The head is put as the instance says it is, unless it has none any more."""
        instance = entry.instance
        if instance in self.tombstones or instance in self.present.purged:
            return _gone("head", entry.sequence_nr, instance)
        self.heads[instance] = entry.head
        self.reindexed[instance] = None
        return None

    def bury(self, entry: Purge | TombstoneRow) -> None:
        """A tombstone is put, changed, or goes with all that is left of its instance.

        Of an instance that is purged, what the entry has in place of a snapshot is all that stays.
        """
        instance = entry.instance
        row = self.tombstones[instance] = entry.tombstone if isinstance(entry, Purge) else entry
        if row is not entry or row.is_over:
            kept = self.snapshots.items()
            self.snapshots = {key: one for key, one in kept if key[0] != instance}
        if isinstance(entry, Purge):
            self.heads.pop(instance, None)
            self.reindexed.pop(instance, None)
            self.purged[instance] = None
            number = row.sequence_nr
            self.snapshots[instance, number] = SnapshotRow(instance, number, entry.body)

    def add_settlement(self, settlement: Settlement) -> Gone | None:
        """Nothing of it is done if it takes what is not there, which is the answer."""
        job, letter = settlement.job, settlement.letter
        if job and not self._has_job(job):
            return _gone("job", job, settlement.instance)
        if letter and (letter in self.letters_removed or letter not in self.present.letters):
            return _gone("dead letter", letter, settlement.instance)
        self._settle(settlement)
        if settlement.inbox is not None:
            self.put(settlement.inbox)
        return None

    def declare(self, entry: IndexedFields | QueueRow) -> None:
        """Something about a whole saga, or a whole queue."""
        if isinstance(entry, QueueRow):
            self.queues[entry.name] = entry
        else:
            self.indexed[entry.saga] = entry

    def replace_job(self, row: OutboxRow) -> Gone | None:
        """The row takes the place of the one at its position; if there is none, that is said."""
        if not self._has_job(row.position):
            return _gone("job", row.position, row.instance)
        self.jobs_removed[row.position] = None
        self.outbox[row.position] = row
        return None

    def add_dead_letter(self, letter: DeadLetterRow) -> None:
        """A dead letter may take its message out of the inbox."""
        self.dead_letters.append(letter)
        if letter.consumes_inbox:
            self.consume(letter.instance, letter.message_id)

    def consume(self, instance: str, message_id: str) -> None:
        """Take a message out of the inbox, also one put there earlier in the group."""
        self.inbox.pop((instance, message_id), None)
        self.consumed[instance, message_id] = None

    def put(self, row: InboxRow) -> None:
        """A message that waits already stays as it is, unless the row replaces it, in its place."""
        if row.replaces:
            self.inbox[row.instance, row.message_id] = row
        else:
            self.inbox.setdefault((row.instance, row.message_id), row)

    def _settle(self, settlement: Settlement) -> None:
        if settlement.taken:
            self.consume(settlement.instance, settlement.taken)
        if settlement.quarantine is not None:
            self.quarantines[settlement.quarantine.instance] = settlement.quarantine
        if settlement.job:
            self.jobs_removed[settlement.job] = None
            self.outbox.pop(settlement.job, None)
        if settlement.letter:
            self.letters_removed[settlement.letter] = None
        for job in settlement.outbox:
            if not job.given_id:
                self._insert([job])
            elif not self._waits(job.given_id):
                self._insert([job])
                self.present.given_ids[job.given_id] = job.position
        for letter in settlement.dead_letters:
            self.add_dead_letter(letter)

    def _insert(self, jobs: Iterable[OutboxRow]) -> None:
        outbox = self.outbox
        for job in jobs:
            if outbox.setdefault(job.position, job) is not job:
                raise ValueError(f"two outbox rows have position {job.position}")

    def _has_job(self, position: int) -> bool:
        if position in self.outbox:
            return True
        return position in self.present.jobs and position not in self.jobs_removed

    def _waits(self, given_id: str) -> bool:
        position = self.present.given_ids.get(given_id)
        if position is None:
            return False
        return position in self.outbox or position not in self.jobs_removed


def _gone(what: str, position: int, instance: str) -> Gone:
    saga, _, correlation_id = instance.partition("/")
    return Gone(
        f"there is no {what} {position} any more",
        saga=saga or None,
        correlation_id=correlation_id if saga else None,
        remedy="it was done, redriven, cancelled or discarded meanwhile: read again what is there",
    )
