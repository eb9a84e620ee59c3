"""How each row of ``core/commit.py`` lies in its table: its key columns, its body, its checksum.

One ``RowKind`` per table is all that writing and reading need to know; neither names a column
again. Knows no statements and no connections.
Next to read: ``head_rows.py``, those about whole instances; ``statements.py``, the SQL made from
these kinds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Generic, TypeVar

from sqlalchemy import LargeBinary, Table

from perdure.codec.checksum import checksum, sealer
from perdure.core.commit import (
    DeadLetterRow,
    DeadlineRow,
    InboxReason,
    InboxRow,
    JournalRow,
    OutboxKind,
    OutboxRow,
    QuarantineRow,
    QueueRow,
    SnapshotRow,
)
from perdure.errors import CorruptRecord
from perdure.store import schema

__all__ = [
    "DEADLINES",
    "DEAD_LETTERS",
    "INBOX",
    "JOURNAL",
    "OUTBOX",
    "QUARANTINES",
    "QUEUES",
    "SENT_COLUMNS",
    "SNAPSHOTS",
    "UNTOUCHED",
    "RowKind",
    "StoredRow",
    "corrupt_record",
    "kind_of",
    "seal_jobs",
]

Row = TypeVar("Row")

_REMEDY = "its bytes are kept: restore the file from a backup, or repair this row"


@dataclass(slots=True)
class StoredRow:
    """A row as it was read, not yet trusted.

    ``asked`` is the number of the given row that found it: its own key may be damaged.
    ``position`` is 0 where SQLite gives none out.
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
    ['Order/o-1', 1, 1, 'm-1', bytearray(b'placed'), 2802146383]

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
        """SQLite numbers the rows, and no key column says how."""
        return "position" in self.table.c and "position" not in self.columns

    @property
    def blobs(self) -> tuple[int, ...]:
        """Which of the key columns are bytes."""
        types = [self.table.c[name].type for name in self.columns]
        return tuple(n for n, type_ in enumerate(types) if isinstance(type_, LargeBinary))

    def seal(self, rows: Iterable[Row]) -> list[Any]:
        """The values of all rows one after another, each with its checksum, ready to be bound.

        Bodies are bound as bytearrays: sqlite3 takes those as they are, and first looks for an
        adapter of bytes, which takes longer than the copy.
        """
        values: list[Any] = []
        key_of, seal = self.key_of, sealer()
        if self.has_body:
            for row in rows:
                key = key_of(row)
                body: bytes = row.body  # type: ignore[attr-defined]
                values += key
                values += (bytearray(body), seal(body, key))
        else:
            for row in rows:
                key = key_of(row)
                values += key
                values.append(seal(b"", key))
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
        if "instance" not in self.columns:
            return CorruptRecord(what, remedy=_REMEDY)
        return corrupt_record(what, stored.key[self.columns.index("instance")])


def corrupt_record(problem: str, instance: object) -> CorruptRecord:
    """A CorruptRecord about the instance with this key, "Saga/correlation id"."""
    readable = str(instance).encode("utf-8", "backslashreplace").decode()
    saga, _, correlation_id = readable.partition("/")
    return CorruptRecord(problem, saga=saga, correlation_id=correlation_id, remedy=_REMEDY)


def _outbox_row(_: int, key: tuple[Any, ...], body: bytes) -> OutboxRow:
    position, instance, sequence_nr, index, kind, target, type_, version, *rest = key
    created_at_ms, context, given_id, attempts, due_at_ms, error, after, leads, expires_at_ms = rest
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
        given_id,
        context,
        attempts,
        due_at_ms,
        error,
        after,
        bool(leads),
        expires_at_ms,
    )


def _inbox_row(position: int, key: tuple[Any, ...], body: bytes) -> InboxRow:
    instance, message_id, reason, created_at_ms, attempts, due_at_ms, error = key
    return InboxRow(
        instance,
        message_id,
        InboxReason(reason),
        body,
        created_at_ms,
        attempts,
        due_at_ms,
        error,
        position,
    )


def _dead_letter_row(position: int, key: tuple[Any, ...], body: bytes) -> DeadLetterRow:
    instance, message_id, type_, reason, error, attempts, created_at_ms, queue, job = key
    return DeadLetterRow(
        instance,
        message_id,
        type_,
        reason,
        error,
        attempts,
        body,
        created_at_ms,
        queue,
        job,
        position=position,
    )


def kind_of(
    table: Table,
    attributes: str | Callable[[Row], tuple[Any, ...]],
    build: Callable[[int, tuple[Any, ...], bytes], Row],
    label: str,
) -> RowKind[Row]:
    """The rows of a table; ``attributes`` of one are its key columns, in the table's order."""
    unsealed = {"body", "checksum"}
    if table.autoincrement_column is not None:
        unsealed.add("position")
    columns = tuple(column.name for column in table.columns if column.name not in unsealed)
    key_of = attrgetter(*attributes.split()) if isinstance(attributes, str) else attributes
    return RowKind(table, columns, key_of, build, label)


JOURNAL = kind_of(
    schema.journal,
    "instance sequence_nr epoch message_id",
    lambda _, key, body: JournalRow(key[0], key[1], key[2], key[3], body),
    "sequence_nr",
)
SNAPSHOTS = kind_of(
    schema.snapshots,
    "instance sequence_nr",
    lambda _, key, body: SnapshotRow(key[0], key[1], body),
    "sequence_nr",
)
INBOX = kind_of(
    schema.inbox,
    "instance message_id reason.value created_at_ms attempts due_at_ms error",
    _inbox_row,
    "message_id",
)
OUTBOX = kind_of(
    schema.outbox,
    "position instance sequence_nr index kind.real target type version created_at_ms context"
    " given_id attempts due_at_ms error after leads.real expires_at_ms",
    _outbox_row,
    "position",
)
SENT_COLUMNS = OUTBOX.columns[:-7]
"""The columns of the outbox that a turn fills in."""

UNTOUCHED: tuple[str | int, ...] = ("", 0, 0, "", 0, 0, 0)
"""The other columns of the outbox, in a row as a turn sends it: without an id of its own, not tried
yet, due at once, in no chain, for ever. Nearly all rows are so, and binding these values would be a
third of the cost of inserting one: they stand in a statement of their own."""


DEADLINES = kind_of(
    schema.deadlines,
    "instance name sequence_nr due_at_ms",
    lambda _, key, __: DeadlineRow(*key),
    "name",
)
DEAD_LETTERS = kind_of(
    schema.dead_letters,
    "instance message_id type reason error attempts created_at_ms queue job",
    _dead_letter_row,
    "message_id",
)
QUEUES = kind_of(
    schema.queues,
    "name is_paused.real reason changed_at_ms",
    lambda _, key, __: QueueRow(key[0], bool(key[1]), key[2], key[3]),
    "name",
)
QUARANTINES = kind_of(
    schema.quarantines,
    "instance reason error since_ms",
    lambda _, key, __: QuarantineRow(*key),
    "reason",
)


def seal_jobs(rows: Iterable[OutboxRow]) -> tuple[list[Any], list[Any]]:
    """``OUTBOX.seal``, with untouched rows apart, and without the values that they share."""
    untouched: list[Any] = []
    others: list[OutboxRow] = []
    key_of, seal, sent = OUTBOX.key_of, sealer(), len(SENT_COLUMNS)
    for row in rows:
        key = key_of(row)
        if key[sent:] != UNTOUCHED:
            others.append(row)
            continue
        body = row.body
        untouched += key[: sent - 1]
        untouched += (bytearray(row.context), bytearray(body), seal(body, key))
    return untouched, OUTBOX.seal(others)
