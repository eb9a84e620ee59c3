"""What a group of entries comes to: who is left out, and the net change of everyone else.

Pure, and shared by every store, so that all give the same answers. A store asks in this order:

    first_numbers   which numbers must be the next ones of their instances?
    refusals        who is left out whatever the others do: an old epoch, a wrong number
    asked_of        which jobs, dead letters and given ids must be looked up for the rest?
    net_changes     the rest in its order; who takes what is taken already is ``Gone``

Knows no SQL. Next to read: ``changes.py``; then ``sql_write.py`` and ``memory.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from perdure.core.commit import (
    DeadLetterRow,
    Entry,
    InboxRow,
    IndexedFields,
    JournalRow,
    OutboxRow,
    Purge,
    QueueRow,
    Reindexed,
    Settlement,
    SnapshotRow,
    TombstoneRow,
    TurnRecord,
)
from perdure.errors import CorruptRecord, Fenced, SequenceConflict, StoreError
from perdure.store.changes import Changes, Present

__all__ = ["Asked", "asked_of", "first_numbers", "key_of", "net_changes", "refusals"]

_NoTurn: TypeAlias = (
    SnapshotRow
    | InboxRow
    | DeadLetterRow
    | Settlement
    | OutboxRow
    | QueueRow
    | Reindexed
    | IndexedFields
    | Purge
    | TombstoneRow
)

_NEVER = -1


def key_of(entry: Entry) -> str:
    """The key of the instance an entry is about; "" if it is about none."""
    if isinstance(entry, TurnRecord):
        return entry.row.instance
    return "" if isinstance(entry, QueueRow | IndexedFields) else entry.instance


def first_numbers(entries: Iterable[Entry], epoch: int) -> dict[str, int]:
    """Per instance, the sequence number its first turn under this epoch expects to take."""
    first: dict[str, int] = {}
    for entry in entries:
        if isinstance(entry, TurnRecord):
            if entry.row.epoch == epoch:
                first.setdefault(entry.row.instance, entry.row.sequence_nr)
        elif (number := _made_of(entry)) is not None:
            first.setdefault(key_of(entry), number + 1)
    return first


def _made_of(entry: Entry) -> int | None:
    """The last turn of its instance, for an entry that is no turn and depends on it."""
    match entry:
        case Reindexed():
            return entry.sequence_nr
        case Purge():
            return entry.tombstone.sequence_nr
        case TombstoneRow(is_over=True):
            return entry.sequence_nr
    return None


def refusals(
    entries: Iterable[Entry], epoch: int, stored_epoch: int, losers: Mapping[str, object]
) -> list[StoreError | None]:
    """Per entry None, or why it must be left out.

    ``epoch`` is the writer's own, ``stored_epoch`` the store's; ``losers`` are the instances whose
    first number is not the next one, with the number they do stand at: if that is no number, a row
    is damaged. A writer who was overtaken writes nothing at all, not even a snapshot.
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
        elif (made_of := _made_of(entry)) is not None:
            answer = _outdated(key_of(entry), made_of, following, losers)
        answers.append(answer)
    return answers


def _outdated(
    instance: str, made_of: int, following: Mapping[str, int], losers: Mapping[str, object]
) -> StoreError | None:
    if instance not in losers and following.get(instance, made_of + 1) == made_of + 1:
        return None
    saga, _, correlation_id = instance.partition("/")
    return SequenceConflict(
        f"it was made of turn {made_of}, which is not the last one",
        saga=saga,
        correlation_id=correlation_id,
        remedy="load the instance again",
    )


def _fenced(entry: Entry, epoch: int, stored_epoch: int) -> Fenced:
    saga, _, correlation_id = key_of(entry).partition("/")
    return Fenced(
        f"written under epoch {epoch}, but the store is at epoch {stored_epoch}",
        saga=saga or None,
        correlation_id=correlation_id if saga else None,
        remedy="another owner has taken the store: stop this runtime",
    )


def _conflict(row: JournalRow, stored: object) -> StoreError:
    saga, _, correlation_id = row.instance.partition("/")
    if not isinstance(stored, int | None):
        return CorruptRecord(
            f"the journal stands at {stored!r}, which is no number",
            saga=saga,
            correlation_id=correlation_id,
            remedy="restore the file from a backup, or repair the row with this number",
        )
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
class Asked:
    """What must be looked up before anything is written: positions of jobs and letters, ids, and
    instances that may have a tombstone."""

    jobs: list[int] = field(default_factory=list)
    letters: list[int] = field(default_factory=list)
    given_ids: list[str] = field(default_factory=list)
    purged: list[str] = field(default_factory=list)


def asked_of(entries: Iterable[Entry]) -> Asked:
    """What the entries depend on. A turn settles whatever there is: it only asks for ids."""
    asked = Asked()
    for entry in entries:
        if isinstance(entry, TurnRecord):
            if entry.settles is not None:
                asked.given_ids += _given_ids(entry.settles)
            for repair in entry.repairs:
                asked.given_ids += _given_ids(repair)
        elif isinstance(entry, Settlement):
            if entry.job:
                asked.jobs.append(entry.job)
            if entry.letter:
                asked.letters.append(entry.letter)
            asked.given_ids += _given_ids(entry)
        elif isinstance(entry, OutboxRow):
            asked.jobs.append(entry.position)
        elif isinstance(entry, Reindexed):
            asked.purged.append(entry.instance)
    return asked


def _given_ids(settlement: Settlement) -> list[str]:
    return [row.given_id for row in settlement.outbox if row.given_id]


def net_changes(
    entries: Sequence[Entry], answers: list[StoreError | None], present: Present
) -> Changes:
    """What the entries that are not refused come to, in their order.

    The answer of one that comes too late becomes ``Gone``, and nothing of it is in the changes.
    Raises ValueError if two rows have one position in the outbox.
    """
    changes = Changes(present)
    for number, entry in enumerate(entries):
        if answers[number] is not None:
            continue
        if isinstance(entry, TurnRecord):
            changes.add_turn(entry)
        else:
            answers[number] = _add(changes, entry)
    return changes


def _add(changes: Changes, entry: _NoTurn) -> StoreError | None:
    match entry:
        case Settlement():
            return changes.add_settlement(entry)
        case OutboxRow():
            return changes.replace_job(entry)
        case InboxRow():
            changes.put(entry)
        case SnapshotRow():
            changes.snapshots[entry.instance, entry.sequence_nr] = entry
        case Reindexed():
            return changes.reindex(entry)
        case Purge() | TombstoneRow():
            changes.bury(entry)
        case IndexedFields() | QueueRow():
            changes.declare(entry)
        case DeadLetterRow():
            changes.add_dead_letter(entry)
    return None
