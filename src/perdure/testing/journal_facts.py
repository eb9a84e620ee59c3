"""What the journal of one instance says, and whether its rows in the other tables agree.

Folds the rows as they are stored, without a saga: numbers, epochs, message ids, status, armed
deadlines, what was sent. Knows rows, no database. Next to read: ``invariants.py``, which reads the
rows and asks; ``codec/journal.py``, how a turn is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import TypeAlias

from perdure.codec.bodies import Outgoing
from perdure.codec.codec import Codec
from perdure.codec.journal import JournalCodec
from perdure.codec.registry import TypeRegistry
from perdure.codec.wire import unpack
from perdure.core.commit import (
    DeadlineRow,
    HeadRow,
    InboxReason,
    InboxRow,
    JournalRow,
    OutboxRow,
    QuarantineRow,
    SnapshotRow,
)
from perdure.core.correlation import split_key
from perdure.core.intervention import Action
from perdure.core.outcome import MINUTE_MS, Outcome
from perdure.core.turn import deadline_id
from perdure.errors import CodecError

__all__ = ["Finding", "JournalFacts", "Rule"]

_FAILED = ("failed", "restarts")
_UNREADABLE = ("corrupt", "undecodable", "replay")
"""Why an instance is set aside: for a message that failed, or since it could not be read."""

_INTERVENTION = "perdure.Intervention"

_journal = JournalCodec(Codec(TypeRegistry()))


class Rule(StrEnum):
    """What must hold of the tables; a violation names the rule that it breaks."""

    FILE = "file"
    """SQLite's own check of the file finds nothing."""
    CHECKSUM = "checksum"
    """Each row is, column by column, the one that was written."""
    UNREADABLE = "unreadable"
    """What is in a row is of the form that is written there."""
    SEQUENCE = "sequence"
    """The turns of an instance are numbered 1, 2, 3, … without gap or repeat."""
    EPOCH = "epoch"
    """The epochs of its turns never fall, and none is above the store's."""
    MESSAGE = "message"
    """No message id is processed twice by an instance, within the window."""
    HEAD = "head"
    """Who has a journal has a head, with the status and the moments that the turns gave it."""
    LOOKUP = "lookup"
    """The lookups of an instance are the fields of its head, and every lookup has a head."""
    TALLY = "tally"
    """What is counted of a saga is what there is; what was counted ever is not less."""
    DEADLINE = "deadline"
    """The deadlines of an instance are those its turns have armed, with their moments."""
    OUTBOX = "outbox"
    """A job is one that a turn has sent (or has an id of its own), and is in one place, once.

    It is as it was sent, unless somebody has edited it by hand.
    """
    RESULT = "result"
    """A job whose result its instance has, or keeps in the inbox, is done with."""
    INBOX = "inbox"
    """A message that waits is not processed."""
    QUARANTINE = "quarantine"
    """Who is set aside is so for a reason that there is; a message that failed is kept."""
    SNAPSHOT = "snapshot"
    """A snapshot is of a turn of the journal, and agrees with it; at most two are kept."""
    TOMBSTONE = "tombstone"
    """Who was purged has ended, and nothing of it is left but what its tombstone says."""


Finding: TypeAlias = tuple[Rule, str]
"""A rule that is broken, and how."""


class JournalFacts:
    """The journal of one instance, folded turn by turn with ``add``."""

    def __init__(self, instance: str, window: int) -> None:
        self.instance = instance
        self.last_nr = 0
        self._window = window
        self._epoch = 0
        self._processed: dict[str, int] = {}
        self._sent: dict[tuple[int, int], Outgoing] = {}
        self._edited: set[str] = set()
        self._armed: dict[str, tuple[int, int]] = {}
        self._status_at: dict[int, str] = {}
        self._armed_at: dict[int, dict[str, tuple[int, int]]] = {}
        self._kept_at: frozenset[int] = frozenset()
        self._started_at_ms = self._updated_at_ms = 0

    def remember_at(self, numbers: Iterable[int]) -> None:
        """Snapshots are of these turns: what is armed then will be asked for."""
        self._kept_at = frozenset(numbers)

    def add(self, row: JournalRow) -> Iterator[Finding]:
        """Fold the next row; gives what is wrong with it."""
        number = row.sequence_nr
        if number != self.last_nr + 1:
            yield Rule.SEQUENCE, f"turn {number} comes after turn {self.last_nr}"
        if row.epoch < self._epoch:
            yield Rule.EPOCH, f"turn {number} has epoch {row.epoch} after {self._epoch}"
        before = self._processed.get(row.message_id)
        if before is not None and number - before <= self._window:
            yield Rule.MESSAGE, f"turns {before} and {number} both process {row.message_id!r}"
        self.last_nr, self._epoch = number, max(self._epoch, row.epoch)
        self._processed[row.message_id] = number
        try:
            self._fold(number, row.body)
        except CodecError as error:
            yield Rule.UNREADABLE, f"turn {number}: {error}"

    def _fold(self, number: int, body: bytes) -> None:
        turn = _journal.read_turn(body)
        for index, sent in enumerate(_journal.outgoing_of(turn)):
            self._sent[number, index] = sent
        if turn.message[0] == _INTERVENTION:
            said = unpack(turn.message[2], lambda code, data: data)
            if said["action"] == Action.REDRIVE and said["commands"]:
                self._edited.add(said["about"])
        for name in turn.deadlines_cleared:
            self._armed.pop(name, None)
        for name, due_at_ms in turn.deadlines_set.items():
            self._armed[name] = due_at_ms, number
        if turn.status is not None:
            self._status_at[number] = turn.status
        if _journal.outcome_of(turn) is not Outcome.FINISHED:
            self._updated_at_ms = turn.at_ms
        self._started_at_ms = self._started_at_ms or turn.at_ms
        if number in self._kept_at:
            self._armed_at[number] = dict(self._armed)

    # The other tables

    def check_head(self, head: HeadRow | None) -> Iterator[Finding]:
        """The instance's row in ``instances``, None if there is none."""
        if head is None:
            if self.last_nr:
                yield Rule.HEAD, f"there are {self.last_nr} turns and no head"
            return
        if (head.saga, head.correlation_id) != split_key(self.instance):
            yield Rule.HEAD, f"the head is that of {head.saga!r}, {head.correlation_id!r}"
        status = self._status_after(self.last_nr)
        if head.status.value != status:
            yield Rule.HEAD, f"the head says {head.status}, the journal {status}"
        yield from self._check_moments(head)

    def _check_moments(self, head: HeadRow) -> Iterator[Finding]:
        if not self.last_nr:
            return
        if head.started_at_ms != self._started_at_ms:
            yield Rule.HEAD, f"it was started at {self._started_at_ms}, not {head.started_at_ms}"
        last_ms, is_over = self._updated_at_ms, head.status.is_over
        if head.updated_at_ms // MINUTE_MS != last_ms // MINUTE_MS or (
            is_over and head.updated_at_ms != last_ms
        ):
            yield Rule.HEAD, f"its last turn was at {last_ms}, the head says {head.updated_at_ms}"

    def check_deadlines(self, rows: Iterable[DeadlineRow]) -> Iterator[Finding]:
        """Its rows in ``deadlines``."""
        stored = {row.name: (row.due_at_ms, row.sequence_nr) for row in rows}
        for name, what in self._armed.items():
            if name not in stored:
                yield Rule.DEADLINE, f"{name!r}, armed by turn {what[1]}, is missing"
        for name, what in stored.items():
            armed = self._armed.get(name)
            if armed is None:
                yield Rule.DEADLINE, f"{name!r} is stored, and the journal has none armed"
            elif armed != what:
                yield Rule.DEADLINE, f"{name!r} is stored as {what}, the journal has {armed}"
            elif deadline_id(name, what[1]) in self._processed:
                yield Rule.DEADLINE, f"{name!r} of turn {what[1]} has had its turn, and is armed"

    def check_job(self, job: OutboxRow, waiting: Iterable[InboxRow]) -> Iterator[Finding]:
        """One of its jobs, in ``outbox`` or in a dead letter; ``waiting`` is its inbox."""
        if not job.given_id:
            sent = self._sent.get((job.sequence_nr, job.index))
            if sent is None:
                yield Rule.OUTBOX, f"no turn has sent job {job.id}"
            elif job.id not in self._edited and (sent.kind, tuple(sent.stored)) != (
                job.kind,
                (job.type, job.version, job.body),
            ):
                yield Rule.OUTBOX, f"job {job.id} is not what turn {job.sequence_nr} has sent"
        result = f"perdure.result/{job.id}"
        if result in self._processed:
            yield Rule.RESULT, f"turn {self._processed[result]} has the result of job {job.id}"
        elif any(row.message_id == result for row in waiting):
            yield Rule.RESULT, f"the result of job {job.id} waits in the inbox"

    def check_waiting(self, row: InboxRow) -> Iterator[Finding]:
        """One of its messages in ``inbox``."""
        number = self._processed.get(row.message_id)
        if row.reason is InboxReason.HELD:
            return  # whoever cannot be had cannot know what it has processed
        if number is not None and self.last_nr - number < self._window:
            yield Rule.INBOX, f"{row.message_id!r} waits, and was processed by turn {number}"

    def check_quarantine(
        self, row: QuarantineRow, waiting: Iterable[InboxRow]
    ) -> Iterator[Finding]:
        """Its row in ``quarantines``; ``waiting`` is its inbox."""
        if row.reason not in (*_FAILED, *_UNREADABLE):
            yield Rule.QUARANTINE, f"it is set aside for {row.reason!r}, which is no reason"
        is_held = any(message.reason is InboxReason.HELD for message in waiting)
        if row.reason in _FAILED and not is_held and not self._armed:
            yield Rule.QUARANTINE, "it is set aside for a message that failed, and holds none"

    def check_snapshot(self, row: SnapshotRow) -> Iterator[Finding]:
        """One of its rows in ``snapshots``."""
        number = row.sequence_nr
        if not 1 <= number <= self.last_nr:
            yield Rule.SNAPSHOT, f"there is one of turn {number}; the last turn is {self.last_nr}"
            return
        try:
            snapshot = _journal.read_snapshot(row.body)
        except CodecError as error:
            yield Rule.UNREADABLE, f"snapshot of turn {number}: {error}"
            return
        status = self._status_after(number)
        if snapshot.status != status:
            yield Rule.SNAPSHOT, f"that of turn {number} says {snapshot.status}, not {status}"
        armed = {name: (due_at_ms, by) for name, due_at_ms, by in snapshot.armed}
        if armed != self._armed_at.get(number):
            yield Rule.SNAPSHOT, f"that of turn {number} has other deadlines armed"
        for message_id, at in snapshot.known:
            if at > number or (at <= self.last_nr and not self._has_processed(message_id, at)):
                yield Rule.SNAPSHOT, f"that of turn {number} knows {message_id!r} as turn {at}"

    def _has_processed(self, message_id: str, number: int) -> bool:
        """It was processed then, or (out of the window) again later."""
        return self._processed.get(message_id, 0) >= number

    def _status_after(self, number: int) -> str | None:
        given = [nr for nr in self._status_at if nr <= number]
        return self._status_at[max(given)] if given else None
