"""A dead letter as people see it, and how some of them are asked for.

Plain values. Next to read: ``redrive.py``, which lists them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

from perdure.codec import TypeRegistry
from perdure.queue import WorkQueue

__all__ = ["DeadLetter", "Sought"]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message or command that could not be processed.

    ``queue`` is the work queue of a command, "" for a message to an instance. ``error`` is the
    chain of errors as printed; ``content`` the message, or plain data if no class fits any more;
    ``body`` its bytes as they were stored. ``saga`` and ``correlation_id`` are empty for a job that
    no saga sent. ``is_told``: it is a command, and the instance that sent it was told that it has
    failed (``CommandFailed``), so that it may have made up for it, or ended.
    """

    id: int
    saga: str
    correlation_id: str
    message_id: str
    type: str
    content: Any
    queue: str
    reason: str
    error: str
    attempts: int
    at: datetime
    headers: Mapping[str, str]
    body: bytes
    is_told: bool = False


@dataclass(slots=True)
class Sought:
    """Which letters are asked for, None: any. ``missed`` are the names no letter has borne yet."""

    saga: str | None
    queue: str | None
    reason: str | None
    type: str | None
    missed: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, registry: TypeRegistry, saga: Any, queue: Any, reason: Any, kind: Any) -> Self:
        """By names, or by what they name. Raises ``UnregisteredType``."""
        if isinstance(queue, WorkQueue):
            queue = queue.name
        if isinstance(kind, type):
            kind = registry.of(kind).name
        if saga is not None and not isinstance(saga, str):
            saga = getattr(saga, "name", saga)
        named = {"saga": saga, "queue": queue, "type": kind}
        return cls(saga, queue, reason, kind, {name for name, one in named.items() if one})

    def admits(self, letter: DeadLetter) -> bool:
        """Whether it is asked for."""
        if self.missed:
            self.missed = {n for n in self.missed if getattr(self, n) != getattr(letter, n)}
        return (
            self.saga in (None, letter.saga)
            and self.queue in (None, letter.queue)
            and self.reason in (None, letter.reason)
            and self.type in (None, letter.type)
        )
