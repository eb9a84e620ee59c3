"""Rows for tests of stores: short to write, every field filled. Knows no store.

Next to read: ``store_contract.py``, the suite that writes them.
"""

from __future__ import annotations

import itertools
from typing import Any

from perdure.core.commit import (
    DeadLetterRow,
    DeadlineRow,
    HeadRow,
    InboxReason,
    InboxRow,
    JournalRow,
    OutboxKind,
    OutboxRow,
    QuarantineRow,
    QueueRow,
    Settlement,
    SnapshotRow,
    Status,
    TurnRecord,
)

__all__ = [
    "HOSTILE",
    "dead_letter",
    "deadline",
    "head",
    "inbox_row",
    "jobs",
    "outbox_row",
    "quarantine_row",
    "queue_row",
    "settlement",
    "snapshot",
    "turn",
    "turns",
]

NOW_MS = 1_700_000_000_000

HOSTILE = (
    "Order/o'; DROP TABLE journal; --",
    'Order/"quoted" `ticks` [brackets] \\back\\slash',
    "Order/%_?:1@x$1{}",
    "Order/a/b//c/",
    "Order/ leading and trailing ",
    "Order/line\nfeed\ttab\r",
    "Order/\u00e9 e\u0301 \u202eright to left \U0001f600 \uffff",
    "Order/NULL",
    "Order/0x00",
    "Order/007",
    "Order/" + "long" * 256,
    "/",
    "no separator",
)
"""Keys that break whoever builds SQL, JSON or paths by hand; all different, none with a NUL."""


def turn(instance: str, sequence_nr: int, epoch: int, **rest: Any) -> TurnRecord:
    """A turn whose message id and body tell where it belongs; ``rest`` are TurnRecord's fields."""
    row = JournalRow(
        instance,
        sequence_nr,
        epoch,
        f"m-{sequence_nr}",
        f"{instance} {sequence_nr}".encode("utf-8", "replace"),
    )
    return TurnRecord(row, **rest)


def turns(instance: str, first: int, last: int, epoch: int) -> list[TurnRecord]:
    """Consecutive turns of one instance."""
    return [turn(instance, number, epoch) for number in range(first, last + 1)]


_positions = itertools.count(1)


def outbox_row(instance: str, sequence_nr: int, index: int = 0, **rest: Any) -> OutboxRow:
    """A command of a turn; each has a higher position than the one made before it."""
    values: dict[str, Any] = {
        "kind": OutboxKind.COMMAND,
        "target": "payments",
        "type": "ProcessPayment",
        "version": 3,
        "body": f"command {sequence_nr}.{index}".encode(),
        "created_at_ms": NOW_MS,
        "context": b"\x00\xffcontext",
        "error": "ConnectionError: refused",
    }
    if "position" not in rest:
        rest["position"] = next(_positions)
    return OutboxRow(instance, sequence_nr, index, **(values | rest))


def jobs(count: int, **rest: Any) -> tuple[OutboxRow, ...]:
    """Commands of one turn, in order of position."""
    return tuple(outbox_row("Order/1", 1, index, **rest) for index in range(count))


def settlement(instance: str = "", **rest: Any) -> Settlement:
    """Changes that are no turn; ``rest`` are Settlement's fields."""
    return Settlement(instance, **rest)


def deadline(instance: str, name: str, sequence_nr: int, due_at_ms: int) -> DeadlineRow:
    """A deadline that the turn with this number armed."""
    return DeadlineRow(instance, name, sequence_nr, due_at_ms)


def head(instance: str, status: Status = Status.RUNNING, **rest: Any) -> HeadRow:
    """The head of an instance; saga and correlation id are taken from its key."""
    saga, _, correlation_id = instance.partition("/")
    values: dict[str, Any] = {"saga": saga, "correlation_id": correlation_id, "status": status}
    times = {"started_at_ms": NOW_MS, "updated_at_ms": NOW_MS + 1}
    return HeadRow(instance, **(values | times | rest))


def inbox_row(instance: str, message_id: str, **rest: Any) -> InboxRow:
    """A message that waits."""
    values: dict[str, Any] = {
        "reason": InboxReason.MISSING,
        "body": f"waiting {message_id}".encode(),
        "created_at_ms": NOW_MS,
        "attempts": 2,
        "due_at_ms": NOW_MS + 60_000,
        "error": "InstanceNotFound: no such instance",
    }
    return InboxRow(instance, message_id, **(values | rest))


def dead_letter(instance: str, message_id: str, **rest: Any) -> DeadLetterRow:
    """A message that could not be processed."""
    values: dict[str, Any] = {
        "type": "PaymentReceived",
        "reason": "handler failed",
        "error": "ValueError: amount",
        "attempts": 3,
        "queue": "payments",
        "body": f"dead {message_id}".encode(),
        "created_at_ms": NOW_MS,
    }
    return DeadLetterRow(instance, message_id, **(values | rest))


def quarantine_row(instance: str, **rest: Any) -> QuarantineRow:
    """An instance that is set aside."""
    values: dict[str, Any] = {
        "reason": "restarts",
        "error": "ValueError: amount",
        "since_ms": NOW_MS,
    }
    return QuarantineRow(instance, **(values | rest))


def queue_row(name: str, **rest: Any) -> QueueRow:
    """A work queue that was paused."""
    values: dict[str, Any] = {
        "is_paused": True,
        "reason": "three jobs failed",
        "changed_at_ms": NOW_MS,
    }
    return QueueRow(name, **(values | rest))


def snapshot(instance: str, sequence_nr: int, body: bytes = b"state") -> SnapshotRow:
    """A state at a turn."""
    return SnapshotRow(instance, sequence_nr, body)
