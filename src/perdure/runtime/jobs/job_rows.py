"""What a job's end comes to in rows and messages: results, what was emitted, dead letters.

Their ids derive from the job's, so each applies once however often it is made. Writes nothing and
delivers nothing. Next to read: ``settling.py``.
"""

from __future__ import annotations

import logging
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Any

from perdure.codec.outbox import Context, pack_context, pack_job, unpack_context
from perdure.codec.performed import HandedOut, Performed, pack_performed, unpack_performed
from perdure.core.commit import (
    DeadLetterRow,
    InboxReason,
    InboxRow,
    OutboxKind,
    OutboxRow,
)
from perdure.core.correlation import VerdictKind
from perdure.core.described import described, in_short
from perdure.core.outcome import Stored
from perdure.errors import CodecError, InvalidResult, PerdureError, SendError
from perdure.job import Output
from perdure.messages import CommandFailed, ExternalEvent, Message
from perdure.runtime.jobs.outbound import Outbound
from perdure.runtime.letters.dead_letters import chain_of
from perdure.runtime.services import Services
from perdure.runtime.watching.logs import about

__all__ = ["JobRows"]

logger = logging.getLogger("perdure.workers")


class JobRows:
    """Makes the rows and messages that follow from a job."""

    def __init__(self, services: Services, outbound: Outbound) -> None:
        self._services = services
        self._outbound = outbound

    def result(self, row: OutboxRow, result: Any) -> Message:
        """What the worker returned, as a message to the instance that sent the command."""
        stored = self._stored(result, "returned")
        return self._message(row, f"perdure.result/{row.id}", result, stored)

    def published_result(self, row: OutboxRow, result: Any) -> list[OutboxRow]:
        """What the worker returned, published: no instance sent the job."""
        stored = self._stored(result, "returned")
        return self._published(row, f"{row.id}.result", result, stored)

    def record(self, row: OutboxRow, result: Any, outputs: Sequence[Output]) -> bytes:
        """What its worker's own transaction keeps of a job. Raises ``InvalidResult``."""
        self._outputs(row, row.id, outputs)  # whoever takes them is known
        handed_out = [
            HandedOut(one.kind, self._stored(one.content, "emitted"), one.queue, one.anyway)
            for one in outputs
        ]
        stored = None if result is None else self._stored(result, "returned")
        return pack_performed(Performed(stored, handed_out))

    def recorded(self, body: bytes) -> tuple[Any, list[Output]]:
        """The same as it was: result and outputs. Raises ``DecodeError``."""
        performed, decode = unpack_performed(body), self._services.codec.decode
        outputs = [
            Output(one.kind, decode(*one.content), one.queue, one.anyway)
            for one in performed.handed_out
        ]
        return None if performed.result is None else decode(*performed.result), outputs

    def emitted(self, row: OutboxRow, outputs: Sequence[Output]) -> list[OutboxRow]:
        """What the worker emitted and sent. Raises ``InvalidResult``."""
        return self._outputs(row, row.id, outputs)

    def emitted_anyway(self, row: OutboxRow, outputs: Sequence[Output]) -> list[OutboxRow]:
        """What goes out although the job has failed. Once: a redriven job may fail again."""
        try:
            return self._outputs(row, f"{row.id}.failed", [one for one in outputs if one.anyway])
        except InvalidResult as mistake:
            logger.error("job %s: %s", row.id, mistake, extra=about(row.instance, row.id))
            return []

    def failure(
        self,
        row: OutboxRow,
        attempts: int,
        reason: str,
        error: BaseException,
        is_unknown: bool,
    ) -> Message:
        """``CommandFailed`` for the instance; the command itself only if it can be told again."""
        failure = CommandFailed(
            self._command(row), row.id, row.target, reason, in_short(error), attempts, is_unknown
        )
        try:
            stored = self._services.codec.encode(failure)
        except CodecError as mistake:
            logger.error(
                "job %s: its instance is told without the command: %s",
                row.id,
                mistake,
                extra=about(row.instance, row.id, attempts),
            )
            failure = replace(failure, command=ExternalEvent(row.type, {}, row.version))
            stored = self._services.codec.encode(failure)
        return self._message(row, f"perdure.failed/{row.id}", failure, stored)

    def dead_letter(
        self, row: OutboxRow, attempts: int, reason: str, error: BaseException
    ) -> DeadLetterRow:
        """The job, kept whole with the reason."""
        return DeadLetterRow(
            row.instance,
            row.id,
            row.type,
            reason,
            chain_of(error),
            attempts,
            pack_job(row),
            self._services.clock.now_ms(),
            queue=row.target,
            job=row.position,
        )

    def held(self, key: str, message: Message) -> InboxRow:
        """A message that waits for an instance which cannot be had at all."""
        now_ms = self._services.clock.now_ms()
        return InboxRow(key, message.message_id, InboxReason.HELD, self._waiting(message), now_ms)

    def undelivered(self, key: str, message: Message, error: BaseException) -> DeadLetterRow:
        """A message that its instance will not have: it had no turn."""
        return DeadLetterRow(
            key,
            message.message_id,
            message.type,
            "unroutable",
            chain_of(error),
            0,
            self._waiting(message),
            self._services.clock.now_ms(),
        )

    def _waiting(self, message: Message) -> bytes:
        return self._services.journal.encode_waiting(message, VerdictKind.CONTINUE, False)

    def _command(self, row: OutboxRow) -> Any:
        """As it was sent, whatever its worker made of it; plain data if no code can read it."""
        try:
            return self._services.codec.decode(row.type, row.version, row.body)
        except Exception:
            return ExternalEvent(row.type, self._plain(row.body), row.version)

    def _plain(self, body: bytes) -> Mapping[str, Any]:
        try:
            plain = self._services.codec.decode_plain(body)
        except Exception:
            return {}
        return plain if isinstance(plain, dict) else {}

    def _outputs(self, row: OutboxRow, prefix: str, outputs: Sequence[Output]) -> list[OutboxRow]:
        rows: list[OutboxRow] = []
        for number, one in enumerate(outputs):
            stored = self._stored(one.content, "emitted")
            given_id = f"{prefix}.{number}"
            if one.kind is OutboxKind.COMMAND:
                rows.append(self._row(row, given_id, one.kind, self._address(one), stored))
            else:
                rows += self._published(row, given_id, one.content, stored)
        return rows

    def _address(self, one: Output) -> str:
        try:
            return self._outbound.address(one.content, one.queue)
        except SendError as error:
            raise InvalidResult(f"it sent a command: {error}") from error

    def _published(
        self, row: OutboxRow, given_id: str, event: Any, stored: Stored
    ) -> list[OutboxRow]:
        return [
            self._row(row, f"{given_id}@{target}", OutboxKind.EVENT, target, stored)
            for target in self._outbound.audience(event)
        ]

    def _row(
        self, row: OutboxRow, given_id: str, kind: OutboxKind, target: str, stored: Stored
    ) -> OutboxRow:
        services = self._services
        origin = self._origin(row)
        return OutboxRow(
            row.instance,
            0,
            0,
            kind,
            target,
            *stored,
            services.clock.now_ms(),
            services.next_position(),
            given_id,
            pack_context(origin.correlation_id, row.id, origin.headers),
        )

    def _origin(self, row: OutboxRow) -> Context:
        """What the job's command knew, and what follows from the job knows: it is the cause now."""
        origin, spans = unpack_context(row.context), self._services.spans
        return (
            origin if spans is None else origin._replace(headers=spans.of_job(row, origin.headers))
        )

    def _message(self, row: OutboxRow, message_id: str, content: Any, stored: Stored) -> Message:
        context = self._origin(row)
        return Message(
            content,
            *stored,
            message_id,
            self._services.clock.now_ms(),
            context.correlation_id,
            row.id,
            context.headers,
        )

    def _stored(self, content: Any, verb: str) -> Stored:
        if isinstance(content, Coroutine):
            content.close()  # else Python complains that nobody awaited it
            raise InvalidResult(
                f"it {verb} a coroutine", remedy="declare it as async def, or await what it calls"
            )
        try:
            return self._services.codec.encode(content)
        except Exception as error:
            problem, remedy = described(error), None
            if isinstance(error, PerdureError):
                problem, remedy = error.problem, error.remedy
            raise InvalidResult(
                f"it {verb} what cannot be stored: {problem}",
                remedy=remedy or "give values that fit the fields of a @message class",
            ) from error
