"""A dead letter as people see it, and how some of them are asked for.

Plain values. Next to read: ``redrive.py``, which lists them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, Self

from perdure.codec import TypeRegistry
from perdure.codec.outbox import unpack_context, unpack_job
from perdure.core.commit import DeadLetterRow, OutboxKind
from perdure.core.correlation import split_key
from perdure.errors import CodecError
from perdure.messages import datetime_of
from perdure.queue import WorkQueue
from perdure.runtime.routing import Routing
from perdure.runtime.services import Services

__all__ = ["DeadLetter", "Shown", "Sought", "owner_key"]


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


def owner_key(row: DeadLetterRow) -> str:
    """Who owns the letter: its instance; of a job that no saga sent, its id."""
    return row.instance or row.message_id


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


class Shown:
    """Makes letters of their rows."""

    def __init__(self, services: Services, routing: Routing) -> None:
        self._services = services
        self._routing = routing

    def letter(self, row: DeadLetterRow) -> DeadLetter:
        """What a row says."""
        saga, correlation_id = split_key(row.instance) if row.instance else ("", "")
        inside = self._inside(row)
        definition = self._routing.definitions.get(saga)
        is_told = inside.is_command and (definition is None or definition.is_told)
        return DeadLetter(
            row.position,
            saga,
            correlation_id,
            row.message_id,
            row.type,
            inside.content,
            row.queue,
            row.reason,
            row.error,
            row.attempts,
            datetime_of(row.created_at_ms),
            inside.headers,
            inside.body,
            is_told and bool(saga),
        )

    def _inside(self, row: DeadLetterRow) -> _Inside:
        """What can be read of the message or command."""
        journal = self._services.journal
        try:
            if row.job:
                job = unpack_job(row.instance, row.queue, row.type, row.job, row.body)
                headers = unpack_context(job.context).headers or {}
                content = self.content(job.type, job.version, job.body)
                return _Inside(content, headers, job.body, job.kind is OutboxKind.COMMAND)
            name, version, body = journal.stored_in(row.body)
            return _Inside(self.content(name, version, body), journal.headers_of(row.body), body)
        except CodecError:
            return _Inside(None, {}, row.body)

    def content(self, name: str, version: int, body: bytes) -> Any:
        """The message or command; plain data if no class fits."""
        codec = self._services.codec
        try:
            return codec.decode(name, version, body)
        except CodecError:
            return codec.decode_plain(body)


class _Inside(NamedTuple):
    """Content, headers and bytes of the message or command of a letter."""

    content: Any
    headers: Mapping[str, str]
    body: bytes
    is_command: bool = False
