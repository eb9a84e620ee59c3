"""From rows to what people are shown of them. Next to read: ``looked_at.py``, the values."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from perdure.codec.outbox import unpack_job
from perdure.core.commit import (
    DeadLetterRow,
    HeadRow,
    InboxRow,
    OutboxKind,
    OutboxRow,
    QuarantineRow,
)
from perdure.core.correlation import split_key
from perdure.core.outcome import Stored
from perdure.errors import CodecError
from perdure.messages import datetime_of
from perdure.ops.looked_at import (
    DeadLetterSeen,
    InstanceSeen,
    JobSeen,
    QuarantineSeen,
    WaitingMessageSeen,
)
from perdure.ops.plain import to_plain
from perdure.runtime.looking.history import content_of
from perdure.runtime.looking.reading import Reading

__all__ = ["dead_letter", "head", "job", "moment", "plain_content", "quarantine", "waiting"]


def moment(at_ms: int | None) -> datetime | None:
    """The moment, None for none."""
    return datetime_of(at_ms) if at_ms else None


def plain_content(reading: Reading, stored: Stored) -> Any:
    """A stored value as plain data; what cannot be read at all is said to be so."""
    return to_plain(content_of(reading, stored))


def head(row: HeadRow, aside: QuarantineRow | None) -> InstanceSeen:
    return InstanceSeen(
        row.saga,
        row.correlation_id,
        row.status.value,
        datetime_of(row.started_at_ms),
        datetime_of(row.updated_at_ms),
        None if aside is None else f"{aside.reason}: {aside.error}",
    )


def waiting(reading: Reading, row: InboxRow) -> WaitingMessageSeen:
    return WaitingMessageSeen(
        *split_key(row.instance),
        row.message_id,
        reading.journal.type_of_waiting(row.body),
        row.reason.value,
        datetime_of(row.created_at_ms),
        row.attempts,
        moment(row.due_at_ms),
        row.error,
        _waiting_content(reading, row.body),
    )


def _waiting_content(reading: Reading, body: bytes) -> Any:
    try:
        stored = reading.journal.stored_in(body)
    except CodecError as error:
        return f"… (cannot be read: {error.problem})"
    return plain_content(reading, stored)


def job(reading: Reading, row: OutboxRow) -> JobSeen:
    return JobSeen(
        row.position,
        row.id,
        row.kind.name.lower(),
        row.target,
        row.type,
        *_sender(row.instance),
        row.attempts,
        moment(row.due_at_ms),
        row.error,
        row.after,
        moment(row.expires_at_ms),
        datetime_of(row.created_at_ms),
        plain_content(reading, (row.type, row.version, row.body)),
    )


def dead_letter(reading: Reading, row: DeadLetterRow) -> DeadLetterSeen:
    content, is_command = _letter_content(reading, row)
    return DeadLetterSeen(
        row.position,
        *_sender(row.instance),
        row.message_id,
        row.type,
        row.queue,
        row.reason,
        row.error,
        row.attempts,
        datetime_of(row.created_at_ms),
        is_command and bool(row.instance),
        content,
    )


def _letter_content(reading: Reading, row: DeadLetterRow) -> tuple[Any, bool]:
    """What is in it, and whether that is a command."""
    if not row.job:
        return _waiting_content(reading, row.body), False
    try:
        made = unpack_job(row.instance, row.queue, row.type, row.job, row.body)
    except CodecError as error:
        return f"… (cannot be read: {error.problem})", False
    content = plain_content(reading, (made.type, made.version, made.body))
    return content, made.kind is OutboxKind.COMMAND


def quarantine(row: QuarantineRow, held: int) -> QuarantineSeen:
    return QuarantineSeen(
        *split_key(row.instance), row.reason, row.error, datetime_of(row.since_ms), held
    )


def _sender(instance: str) -> tuple[str, str]:
    return split_key(instance) if instance else ("", "")
