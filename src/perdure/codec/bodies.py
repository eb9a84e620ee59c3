"""What lies in the bodies of rows: their fields in the order they are written, user values encoded.

Plain shapes, so that whoever looks into a row without its saga's code can name what it finds.
Next to read: ``journal.py``, which writes and reads them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from perdure.core.commit import OutboxKind
from perdure.core.outcome import Stored
from perdure.messages import Message

__all__ = ["Outgoing", "SnapshotBody", "TurnBody", "WaitingMessage"]


class Outgoing(NamedTuple):
    """A command or event that a stored turn sent; ``target`` is the command's queue."""

    kind: OutboxKind
    target: str
    stored: Stored


class TurnBody(NamedTuple):
    """The fields of a turn's body, in the order they are written; user values still encoded."""

    format: int
    outcome: int
    refused: bool
    at_ms: int
    message: Stored
    sent_at_ms: int
    correlation_id: str | None
    causation_id: str | None
    headers: dict[str, str] | None
    events: list[Stored]
    outgoing: list[tuple[int, str, Stored]]
    deadlines_set: dict[str, int]
    deadlines_cleared: list[str]
    status: str | None
    detail: bytes | str | None
    reply: bytes | None


class SnapshotBody(NamedTuple):
    """The fields of a snapshot's body, in the order they are written; the state still encoded.

    There is no state in what is kept of an instance that was purged.
    ``armed`` are (name, due_at_ms, sequence number), ``known`` (message id, sequence number).
    """

    format: int
    state: Stored | None
    status: str
    detail: bytes | str | None
    started_at_ms: int
    updated_at_ms: int
    armed: list[tuple[str, int, int]]
    known: list[tuple[str, int]]
    family: list[Any] | None


@dataclass(slots=True)
class WaitingMessage:
    """A message in the inbox, with what it asked of its instance."""

    message: Message
    kind: int
    strict: bool
