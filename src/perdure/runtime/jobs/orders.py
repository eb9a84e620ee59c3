"""Jobs that no saga sends, as rows: commands that are enqueued, events for their subscribers.

Everything that can be wrong with one is found here, at its sender. Knows no store and no loop.
Next to read: ``queues.py``, which writes them; ``runtime/joining.py``, which puts them into mail.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from perdure.codec.outbox import pack_context
from perdure.core.commit import OutboxKind, OutboxRow
from perdure.core.outgoing import SAGAS, due_after
from perdure.errors import JobError, Unroutable
from perdure.messages import Message
from perdure.runtime.jobs.outbound import Outbound

__all__ = ["JobOrders"]


def _none_yet() -> int:
    return 0


class JobOrders:
    """Makes the rows. ``next_position`` numbers them, where it is known who keeps them."""

    def __init__(
        self,
        outbound: Outbound,
        now_ms: Callable[[], int],
        next_position: Callable[[], int] = _none_yet,
    ) -> None:
        self._outbound = outbound
        self._now_ms = now_ms
        self._next_position = next_position

    def command(
        self, message: Message, queue: str | None, delay: timedelta | None, is_named: bool
    ) -> OutboxRow:
        """The job of a command, under its message id. ``is_named``: the id is the caller's.

        Raises ``Unroutable``, and ``JobError`` for a bad delay or id.
        """
        target = self._outbound.address(message.content, queue)
        if target != SAGAS and not self._outbound.queues:
            raise Unroutable(
                f"nobody takes {message.type}: the runtime performs no work queue",
                remedy="give it the queue, as Runtime(…, [queue])",
            )
        if is_named and self._outbound.is_sent_by_saga(message.message_id):
            raise JobError(
                f"job_id {message.message_id!r} is one that a saga's command has",
                remedy="let it begin with something else than the name of a saga and a slash",
            )
        due_at_ms = 0 if delay is None else self._due(message, delay)
        return self._row(message, OutboxKind.COMMAND, target, "", due_at_ms)

    def events(self, message: Message) -> list[OutboxRow]:
        """One job for each queue that subscribes to the event."""
        kind = OutboxKind.EVENT
        queues = self._outbound.subscribers(message.content)
        return [self._row(message, kind, one, f"@{one}", 0) for one in queues]

    def _due(self, message: Message, delay: timedelta) -> int:
        try:
            return due_after(delay, self._now_ms())
        except ValueError as error:
            raise JobError(
                f"{message.type} {error}", remedy="give a timedelta, not below zero"
            ) from None

    def _row(
        self, message: Message, kind: OutboxKind, target: str, suffix: str, due_at_ms: int
    ) -> OutboxRow:
        return OutboxRow(
            "",
            0,
            0,
            kind,
            target,
            message.type,
            message.version,
            message.body,
            self._now_ms(),
            self._next_position(),
            message.message_id + suffix,
            pack_context(message.correlation_id, message.causation_id, message.headers),
            due_at_ms=due_at_ms,
        )
