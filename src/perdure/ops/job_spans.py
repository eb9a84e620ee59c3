"""The span of one attempt at a job: a root, linked to the turn that sent the command.

The worker's code runs with it as the current span, in a context of its own, coroutine or thread:
its HTTP client's and its database's spans are children. Next to read: ``turn_spans.py``.
"""

from __future__ import annotations

import contextvars
from typing import Any

from perdure.core.commit import OutboxRow
from perdure.core.correlation import split_key
from perdure.ops.otel import ROOT, Link, Span, SpanContext, SpanKind, attach, text_of, trace
from perdure.ops.turn_spans import CAUSE, Origin, end_with

__all__ = ["OtelJobSpan"]


class OtelJobSpan:
    """The span of an attempt; while it lasts it is in ``running``, by the job's position."""

    __slots__ = ("_context", "_origin", "_position", "_running", "_span", "text")

    def __init__(
        self,
        origin: Origin,
        row: OutboxRow,
        worker: str,
        number: int,
        cause: SpanContext | None,
        running: dict[int, OtelJobSpan],
    ) -> None:
        self._origin, self._running, self._position = origin, running, row.position
        self._span: Span = origin.tracer.start_span(
            f"{row.target} {row.type}",
            ROOT,
            SpanKind.CONSUMER,
            _attributes(row, worker, number),
            [] if cause is None else [Link(cause, CAUSE)],
            origin.at_ns(),
            False,
            False,
        )
        self._context = self._span.get_span_context()
        self.text = text_of(self._context)
        if self.is_sampled:
            running[row.position] = self

    @property
    def is_sampled(self) -> bool:
        """The provider's sampler has taken it."""
        return self._context.is_valid and self._context.trace_flags.sampled

    def context(self) -> contextvars.Context:
        """Of this attempt alone: two jobs at work side by side do not see each other's span."""
        own = contextvars.Context()
        with self._origin.guard:
            own.run(attach, trace.set_span_in_context(self._span, ROOT))
        return own

    def ended(self, error: BaseException | None) -> None:
        """The attempt has ended; its result is told already."""
        self._running.pop(self._position, None)
        if error is not None:
            end_with(self._origin, self._span, error)
            return
        with self._origin.guard:
            self._span.end(self._origin.at_ns())


def _attributes(row: OutboxRow, worker: str, number: int) -> dict[str, Any]:
    found: dict[str, Any] = {
        "messaging.system": "perdure",
        "messaging.operation.type": "process",
        "messaging.destination.name": row.target,
        "messaging.message.id": row.id,
        "perdure.message_type": row.type,
        "perdure.worker": worker,
        "perdure.attempt": number,
    }
    if row.instance:
        found["perdure.saga"], found["perdure.correlation_id"] = split_key(row.instance)
    return found
