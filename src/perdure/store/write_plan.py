"""What a group of entries comes to: who is left out, and the net change of everyone else.

Pure, and shared by every store, so that all give the same answers. Knows no SQL.
Next to read: ``sql_write.py`` and ``memory.py``, which carry the changes out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from perdure.core.commit import (
    DeadLetterRow,
    DeadlineRow,
    Entry,
    HeadRow,
    InboxRow,
    JournalRow,
    OutboxRow,
    SnapshotRow,
    TurnRecord,
)
from perdure.errors import Fenced, SequenceConflict, StoreError

__all__ = ["Changes", "first_numbers", "net_changes", "refusals"]

_NEVER = -1


def first_numbers(entries: Iterable[Entry], epoch: int) -> dict[str, int]:
    """Per instance, the sequence number its first turn under this epoch expects to take."""
    first: dict[str, int] = {}
    for entry in entries:
        if isinstance(entry, TurnRecord) and entry.row.epoch == epoch:
            first.setdefault(entry.row.instance, entry.row.sequence_nr)
    return first


def refusals(
    entries: Iterable[Entry], epoch: int, stored_epoch: int, losers: Mapping[str, int]
) -> list[StoreError | None]:
    """Per entry None, or why it must be left out.

    ``epoch`` is the writer's own, ``stored_epoch`` the store's; ``losers`` are the instances whose
    first number is not the next one, with the number they do stand at. A writer who was overtaken
    writes nothing at all, not even a snapshot.
    """
    answers: list[StoreError | None] = []
    following: dict[str, int] = {}
    for entry in entries:
        answer: StoreError | None = None
        if stored_epoch != epoch:
            answer = _fenced(entry, epoch, stored_epoch)
        elif isinstance(entry, TurnRecord):
            row = entry.row
            instance, number = row.instance, row.sequence_nr
            if row.epoch != epoch:
                answer = _fenced(entry, row.epoch, stored_epoch)
            elif following.get(instance, number) == number and instance not in losers:
                following[instance] = number + 1
            else:
                following[instance] = _NEVER
                answer = _conflict(row, losers.get(instance))
        answers.append(answer)
    return answers


def _fenced(entry: Entry, epoch: int, stored_epoch: int) -> Fenced:
    instance = entry.row.instance if isinstance(entry, TurnRecord) else entry.instance
    saga, _, correlation_id = instance.partition("/")
    return Fenced(
        f"written under epoch {epoch}, but the store is at epoch {stored_epoch}",
        saga=saga,
        correlation_id=correlation_id,
        remedy="another owner has taken the store: stop this runtime",
    )


def _conflict(row: JournalRow, stored: int | None) -> SequenceConflict:
    saga, _, correlation_id = row.instance.partition("/")
    why = (
        "an earlier turn of the same group was left out or has another number"
        if stored is None
        else f"the journal stands at {stored}"
    )
    return SequenceConflict(
        f"turn {row.sequence_nr} is not the next one: {why}",
        saga=saga,
        correlation_id=correlation_id,
        remedy="load the instance again and repeat the message under its id",
    )


@dataclass(slots=True)
class Changes:
    """The net effect of some entries, per table. What is consumed goes before what is put."""

    journal: list[JournalRow] = field(default_factory=list)
    outbox: list[OutboxRow] = field(default_factory=list)
    deadlines: dict[tuple[str, str], DeadlineRow | None] = field(default_factory=dict)
    heads: dict[str, HeadRow] = field(default_factory=dict)
    consumed: dict[tuple[str, str], None] = field(default_factory=dict)
    inbox: dict[tuple[str, str], InboxRow] = field(default_factory=dict)
    dead_letters: list[DeadLetterRow] = field(default_factory=list)
    snapshots: dict[tuple[str, int], SnapshotRow] = field(default_factory=dict)

    def add_turn(self, turn: TurnRecord) -> None:
        """Later turns of an instance win over earlier ones."""
        row = turn.row
        self.journal.append(row)
        self.outbox += turn.outbox
        for name in turn.deadlines_cleared:
            self.deadlines[row.instance, name] = None
        for deadline in turn.deadlines_set:
            self.deadlines[deadline.instance, deadline.name] = deadline
        if turn.head is not None:
            self.heads[turn.head.instance] = turn.head
        if turn.consumes_inbox:
            self.consume(row.instance, row.message_id)
        if turn.dead_letter is not None:
            self.add_dead_letter(turn.dead_letter)

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
        """A message that waits already stays as it is."""
        self.inbox.setdefault((row.instance, row.message_id), row)


def net_changes(entries: Sequence[Entry]) -> Changes:
    """What the entries come to, in their order."""
    changes = Changes()
    for entry in entries:
        if isinstance(entry, TurnRecord):
            changes.add_turn(entry)
        elif isinstance(entry, InboxRow):
            changes.put(entry)
        elif isinstance(entry, SnapshotRow):
            changes.snapshots[entry.instance, entry.sequence_nr] = entry
        else:
            changes.add_dead_letter(entry)
    return changes
