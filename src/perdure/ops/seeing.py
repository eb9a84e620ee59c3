"""From rows to what people are shown of them. Next to read: ``looked_at.py``, the values."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from perdure.codec.mail import unpack_carried, unpack_job_letter
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
    ClusterSeen,
    DeadLetterSeen,
    HostSeen,
    InstanceSeen,
    JobSeen,
    QuarantineSeen,
    WaitingMessageSeen,
)
from perdure.ops.plain import to_plain
from perdure.runtime.looking.history import content_of
from perdure.runtime.looking.reading import Reading
from perdure.store.mail import MailKind, MailRow
from perdure.store.ownership import HostRow

__all__ = [
    "cluster",
    "dead_letter",
    "head",
    "job",
    "mailed",
    "moment",
    "plain_content",
    "quarantine",
    "waiting",
]


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


def mailed(reading: Reading, row: MailRow, shard: int, owner: HostRow | None) -> WaitingMessageSeen:
    by = "it has no live owner" if owner is None else f"{owner.name} (pid {owner.pid})"
    kind, content = _mailed_content(reading, row)
    saga, correlation_id = split_key(row.instance) if row.kind == MailKind.MESSAGE else ("", "")
    return WaitingMessageSeen(
        saga,
        correlation_id,
        row.message_id,
        kind,
        "mail",
        datetime_of(row.created_at_ms),
        0,
        None,
        f"to be taken by the owner of shard {shard}: {by}",
        content,
    )


def _mailed_content(reading: Reading, row: MailRow) -> tuple[str, Any]:
    """The type, and what is in it."""
    try:
        if row.kind == MailKind.MESSAGE:
            body = unpack_carried(row.body).waiting
            return reading.journal.type_of_waiting(body), _waiting_content(reading, body)
        if row.kind == MailKind.JOB:
            made, _ = unpack_job_letter(row.body)
            return made.type, plain_content(reading, (made.type, made.version, made.body))
    except CodecError as error:
        return "", f"… (cannot be read: {error.problem})"
    return row.message_id if row.kind == MailKind.ERRAND else "", None


def cluster(shards: int, rows: Sequence[HostRow]) -> ClusterSeen:
    owned = {shard for row in rows if not row.is_gone for shard in row.shards}
    hosts = [
        HostSeen(
            row.name, row.pid, row.version, row.is_gone, row.is_draining, row.silent_s,
            list(row.shards),
        )
        for row in rows
    ]  # fmt: skip
    return ClusterSeen(shards, [shard for shard in range(shards) if shard not in owned], hosts)


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
