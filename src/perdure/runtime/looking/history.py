"""The turns of an instance as people see them, oldest first, read page by page from the journal.

Next to read: ``views.py``, the instance as it is; ``then.py``, as it was.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from perdure.codec.wire import MISSHAPEN, misshapen
from perdure.core.commit import JournalRow, OutboxKind, Status
from perdure.core.correlation import split_key
from perdure.core.intervention import Intervention
from perdure.core.outcome import Outcome, Stored
from perdure.errors import CodecError, CorruptRecord
from perdure.messages import datetime_of
from perdure.runtime.looking.purged import check_kept
from perdure.runtime.looking.reading import Reading

__all__ = ["HistoryEntry", "Sent", "Undecodable", "content_of", "history", "plain_of"]

PAGE = 100

INTERVENTION = "perdure.Intervention"


@dataclass(frozen=True, slots=True)
class Sent:
    """A command (or published event) a turn sent; ``id`` is its idempotency key."""

    id: str
    kind: OutboxKind
    queue: str
    type: str
    content: Any


@dataclass(frozen=True, slots=True)
class Undecodable:
    """Stands for content that cannot be read even as plain data: its type, its size, and why."""

    type: str
    size: int
    error: str


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One turn. ``events`` are what it folded into the state, singly: the message, if it was
    applied, and the recorded ones. Content nobody can decode any more is shown as plain data."""

    sequence_nr: int
    at: datetime
    message_id: str
    type: str
    message: Any
    outcome: Outcome
    refused: bool
    events: list[Any]
    sent: list[Sent]
    deadlines_set: dict[str, datetime]
    deadlines_cleared: list[str]
    status: Status | None
    reply: Any
    correlation_id: str | None
    causation_id: str | None

    @property
    def intervention(self) -> Intervention | None:
        """What somebody has done to the instance in this turn (its ``text``, ``by``, ``why``)."""
        if isinstance(self.message, Intervention):
            return self.message
        if self.type != INTERVENTION or not isinstance(self.message, Mapping):
            return None
        # What it was done with, nobody can read any more; who and why stay known.
        names = ("action", "by", "why", "text", "about")
        action, by, why, text, about = (str(self.message.get(name, "")) for name in names)
        return Intervention(action, by, why, text, about)

    @property
    def by(self) -> str:
        """Who has stepped in in this turn, "" if nobody has."""
        return "" if self.intervention is None else self.intervention.by

    @property
    def why(self) -> str:
        """Why somebody has."""
        return "" if self.intervention is None else self.intervention.why


async def history(reading: Reading, key: str, after: int) -> AsyncIterator[HistoryEntry]:
    """The turns of an instance above a sequence number.

    Raises ``InstancePurged`` if they are not kept any more, ``CorruptRecord``.
    """
    last = after
    while True:
        rows = await reading.store.journal(key, after, PAGE)
        if not rows and not after:
            await check_kept(reading, key, "its history")
        for row in rows:
            if row.sequence_nr != last + 1:
                await check_kept(reading, key, "its history")
                raise _missing_turn(key, last + 1)
            yield _entry_of(reading, row)
            last = row.sequence_nr
        if len(rows) < PAGE:
            return
        after = rows[-1].sequence_nr


def _entry_of(reading: Reading, row: JournalRow) -> HistoryEntry:
    try:
        return _entry(reading, row)
    except MISSHAPEN as error:
        raise misshapen("a journal entry", error).about(*split_key(row.instance)) from error


def _entry(reading: Reading, row: JournalRow) -> HistoryEntry:
    journal = reading.journal
    turn = journal.read_turn(row.body)
    outcome = journal.outcome_of(turn)
    message = content_of(reading, turn.message)
    recorded = [content_of(reading, stored) for stored in turn.events]
    return HistoryEntry(
        row.sequence_nr,
        datetime_of(turn.at_ms),
        row.message_id,
        turn.message[0],
        message,
        outcome,
        turn.refused,
        [message, *recorded] if outcome is Outcome.APPLIED else [],
        [
            Sent(
                f"{row.instance}/{row.sequence_nr}/{index}",
                kind,
                queue,
                stored[0],
                content_of(reading, stored),
            )
            for index, (kind, queue, stored) in enumerate(journal.outgoing_of(turn))
        ],
        {name: datetime_of(due) for name, due in turn.deadlines_set.items()},
        turn.deadlines_cleared,
        None if turn.status is None else Status(turn.status),
        None if turn.reply is None else _value(reading, turn.reply),
        turn.correlation_id,
        turn.causation_id,
    )


def content_of(reading: Reading, stored: Stored) -> Any:
    """The value of these bytes; plain data, or ``Undecodable``, if nobody can decode it."""
    try:
        return reading.codec.decode(*stored)
    except CodecError:
        return plain_of(reading, stored)


def plain_of(reading: Reading, stored: Stored) -> Any:
    """The fields of these bytes, whatever class they were of."""
    try:
        return reading.codec.decode_plain(stored[2])
    except CodecError as error:
        return Undecodable(stored[0], len(stored[2]), error.problem)


def _value(reading: Reading, data: bytes) -> Any:
    try:
        return reading.codec.decode_value(data)
    except CodecError:
        return plain_of(reading, ("", 1, data))


def _missing_turn(key: str, sequence_nr: int) -> CorruptRecord:
    """The error for a turn that is not where it belongs."""
    saga, correlation_id = split_key(key)
    return CorruptRecord(
        f"journal row {sequence_nr} is missing",
        saga=saga,
        correlation_id=correlation_id,
        remedy="the turns after it are kept: restore the file from a backup",
    )
