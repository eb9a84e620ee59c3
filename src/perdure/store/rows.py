"""How each row of ``core/commit.py`` lies in its table: its key columns, its body, its checksum.

One ``RowKind`` per table is all that writing and reading need to know; neither names a column
again. Knows no statements and no connections.
Next to read: ``statements.py``, the SQL made from these kinds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Generic, TypeVar

from sqlalchemy import Table

from perdure.codec.checksum import checksum
from perdure.core.commit import (
    DeadLetterRow,
    DeadlineRow,
    HeadRow,
    InboxReason,
    InboxRow,
    JournalRow,
    OutboxKind,
    OutboxRow,
    SnapshotRow,
    Status,
)
from perdure.errors import CorruptRecord
from perdure.store import schema

__all__ = [
    "DEADLINES",
    "DEAD_LETTERS",
    "HEADS",
    "INBOX",
    "JOURNAL",
    "OUTBOX",
    "SNAPSHOTS",
    "RowKind",
    "StoredRow",
    "corrupt_record",
]

Row = TypeVar("Row")

_REMEDY = "its bytes are kept: restore the file from a backup, or repair this instance"


@dataclass(slots=True)
class StoredRow:
    """A row as it was read, not yet trusted.

    ``asked`` is the number of the given row that found it: its own key may be damaged.
    ``position`` is 0 for tables that have none.
    """

    asked: int
    position: int
    key: tuple[Any, ...]
    body: Any
    checksum: Any


@dataclass(frozen=True, slots=True)
class RowKind(Generic[Row]):
    """One table's rows.

    >>> JOURNAL.seal([JournalRow("Order/o-1", 1, 1, "m-1", b"placed")])
    ['Order/o-1', 1, 1, 'm-1', b'placed', 2802146383]

    ``columns`` are the key columns in the table's order, ``key_of`` takes them from a row, and
    ``build`` makes a row of (position, key, body). ``label`` is the key column that names a row
    within its instance.
    """

    table: Table
    columns: tuple[str, ...]
    key_of: Callable[[Row], tuple[Any, ...]]
    build: Callable[[int, tuple[Any, ...], bytes], Row]
    label: str

    @property
    def has_body(self) -> bool:
        """The table has a column of opaque bytes."""
        return "body" in self.table.c

    @property
    def has_position(self) -> bool:
        """SQLite numbers the rows."""
        return "position" in self.table.c

    def seal(self, rows: Iterable[Row]) -> list[Any]:
        """The values of all rows one after another, each with its checksum, ready to be bound."""
        values: list[Any] = []
        key_of = self.key_of
        if self.has_body:
            for row in rows:
                key = key_of(row)
                body: bytes = row.body  # type: ignore[attr-defined]
                values += key
                values += (body, checksum(body, *key))
        else:
            for row in rows:
                key = key_of(row)
                values += key
                values.append(checksum(b"", *key))
        return values

    def is_sound(self, stored: StoredRow) -> bool:
        """The row is, column by column, the one that was written."""
        try:
            return bool(checksum(stored.body, *stored.key) == stored.checksum)
        except (TypeError, ValueError, OverflowError):
            return False  # a column has changed its type, or is no text any more

    def open(self, stored: StoredRow) -> Row:
        """The row itself. Raises CorruptRecord if it is not the one that was written."""
        if not self.is_sound(stored):
            raise self.damage(stored)
        return self.build(stored.position, stored.key, stored.body)

    def damage(self, stored: StoredRow) -> CorruptRecord:
        """The error for a row that is not sound."""
        label = stored.key[self.columns.index(self.label)]
        what = f"{self.table.name} row with {self.label} {label!r} fails its checksum"
        return corrupt_record(what, stored.key[0])


def corrupt_record(problem: str, instance: object) -> CorruptRecord:
    """A CorruptRecord about the instance with this key, "Saga/correlation id"."""
    readable = str(instance).encode("utf-8", "backslashreplace").decode()
    saga, _, correlation_id = readable.partition("/")
    return CorruptRecord(problem, saga=saga, correlation_id=correlation_id, remedy=_REMEDY)


def _outbox_row(position: int, key: tuple[Any, ...], body: bytes) -> OutboxRow:
    instance, sequence_nr, index, kind, target, type_, version, created_at_ms = key
    return OutboxRow(
        instance,
        sequence_nr,
        index,
        OutboxKind(kind),
        target,
        type_,
        version,
        body,
        created_at_ms,
        position,
    )


def _inbox_row(position: int, key: tuple[Any, ...], body: bytes) -> InboxRow:
    instance, message_id, reason, created_at_ms, attempts, next_try_at_ms, expires_at_ms = key
    return InboxRow(
        instance,
        message_id,
        InboxReason(reason),
        body,
        created_at_ms,
        attempts,
        next_try_at_ms,
        expires_at_ms,
        position,
    )


def _dead_letter_row(position: int, key: tuple[Any, ...], body: bytes) -> DeadLetterRow:
    instance, message_id, type_, reason, error, attempts, created_at_ms = key
    return DeadLetterRow(
        instance,
        message_id,
        type_,
        reason,
        error,
        attempts,
        body,
        created_at_ms,
        position=position,
    )


def _kind(
    table: Table,
    attributes: str,
    build: Callable[[int, tuple[Any, ...], bytes], Row],
    label: str,
) -> RowKind[Row]:
    columns = tuple(
        column.name
        for column in table.columns
        if column.name not in ("position", "body", "checksum")
    )
    return RowKind(table, columns, attrgetter(*attributes.split()), build, label)


JOURNAL = _kind(
    schema.journal,
    "instance sequence_nr epoch message_id",
    lambda _, key, body: JournalRow(key[0], key[1], key[2], key[3], body),
    "sequence_nr",
)
SNAPSHOTS = _kind(
    schema.snapshots,
    "instance sequence_nr",
    lambda _, key, body: SnapshotRow(key[0], key[1], body),
    "sequence_nr",
)
HEADS = _kind(
    schema.instances,
    "instance saga correlation_id status.value started_at_ms updated_at_ms",
    lambda _, key, __: HeadRow(key[0], key[1], key[2], Status(key[3]), key[4], key[5]),
    "status",
)
INBOX = _kind(
    schema.inbox,
    "instance message_id reason.value created_at_ms attempts next_try_at_ms expires_at_ms",
    _inbox_row,
    "message_id",
)
OUTBOX = _kind(
    schema.outbox,
    "instance sequence_nr index kind.value target type version created_at_ms",
    _outbox_row,
    "sequence_nr",
)
DEADLINES = _kind(
    schema.deadlines,
    "instance name sequence_nr due_at_ms",
    lambda _, key, __: DeadlineRow(*key),
    "name",
)
DEAD_LETTERS = _kind(
    schema.dead_letters,
    "instance message_id type reason error attempts created_at_ms",
    _dead_letter_row,
    "message_id",
)
