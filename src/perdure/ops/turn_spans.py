"""The span of a turn: from its handler's start to its commit, a root with links.

    previous turn of the instance ──(previous)──┐
                                                ├── Order PaymentReceived ──> what it sends
    sender, job, turn that armed it ──(cause)───┘

The span begins before the turn, since its id is journaled with it. Which turn was the one before is
read in ``Footprints``, which an incarnation keeps. Next to read: ``runtime/watching/trails.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from perdure.core.commit import OutboxKind
from perdure.core.correlation import VerdictKind
from perdure.core.described import in_short
from perdure.core.instance import Instance
from perdure.core.outcome import Encoder, Turn
from perdure.core.saga import Definition
from perdure.core.traced import FIRST, TURN
from perdure.core.turn import fired_name, step
from perdure.messages import Message
from perdure.ops.budget import Budget
from perdure.ops.otel import (
    ROOT,
    Guard,
    Link,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    attach,
    context_of,
    detach,
    text_of,
    trace,
)
from perdure.runtime.clock import Clock
from perdure.runtime.delivery import Delivery

__all__ = ["CAUSE", "Footprints", "Origin", "OtelTurnSpan", "end_with"]

CAUSE: Mapping[str, str] = {"perdure.link": "cause"}
PREVIOUS: Mapping[str, str] = {"perdure.link": "previous"}
FIRST_TURN: Mapping[str, str] = {"perdure.link": "first"}
LAST_TURN: Mapping[str, str] = {"perdure.link": "last"}


@dataclass(slots=True)
class Origin:
    """What all spans of a runtime share. ``is_live``: its clock is the system's, as the SDK's."""

    tracer: Tracer
    clock: Clock
    is_live: bool
    guard: Guard
    budget: Budget

    def at_ns(self) -> int | None:
        """Now by the runtime's clock; None where that is what the SDK reads itself, finer."""
        return None if self.is_live else self.clock.now_ms() * 1_000_000


@dataclass(slots=True)
class Footprints:
    """What an instance remembers of its traced turns; ``first`` as text, "" if it is not known.

    ``armed_by``: by its sequence number, each turn that armed a deadline which it still has.
    """

    is_chosen: bool
    last: SpanContext | None = None
    first: str = ""
    armed_by: dict[int, SpanContext] = field(default_factory=dict)


class OtelTurnSpan:
    """The span of one attempt at a turn."""

    __slots__ = (
        "_context", "_first", "_handled_s", "_is_over", "_origin", "_saga", "_span", "_trail",
        "message",
    )  # fmt: skip

    def __init__(
        self,
        origin: Origin,
        delivery: Delivery,
        head: Instance,
        trail: Footprints,
        cause: SpanContext | None,
    ) -> None:
        message, self._saga = delivery.message, delivery.definition.name
        links = [] if cause is None else [Link(cause, CAUSE)]
        if trail.last is not None:
            links.append(Link(trail.last, PREVIOUS))
        self._origin, self._trail = origin, trail
        self._span: Span = origin.tracer.start_span(
            f"{self._saga} {message.type}",
            ROOT,
            SpanKind.CONSUMER,
            _attributes(delivery, head, self._saga),
            links,
            origin.at_ns(),
            False,
            False,
        )
        self._context = self._span.get_span_context()
        self._handled_s = 0.0
        self._is_over = False
        text = text_of(self._context)
        self._first = trail.first if head.sequence_nr else text
        self.message = _journaled(message, text, self._first if head.sequence_nr else "")

    @property
    def is_sampled(self) -> bool:
        """The provider's sampler has taken it."""
        return self._context.is_valid and self._context.trace_flags.sampled

    def step(
        self,
        definition: Definition,
        instance: Instance,
        message: Message,
        kind: VerdictKind,
        strict: bool,
        now_ms: int,
        encoder: Encoder,
    ) -> Turn:
        """The span is current in the handler: its own spans and logs belong to it."""
        origin, token = self._origin, None
        with origin.guard:
            token = attach(trace.set_span_in_context(self._span, ROOT))
        began_s = origin.clock.monotonic_s()
        try:
            return step(definition, instance, self.message, kind, strict, now_ms, encoder)
        finally:
            self._handled_s = origin.clock.monotonic_s() - began_s
            if token is not None:
                detach(token)

    def submitted(self, turn: Turn) -> Footprints:
        """The next turn's previous one is this."""
        trail, after = self._trail, turn.after
        trail.last, trail.first = self._context, self._first
        if turn.deadlines_set:
            trail.armed_by[after.sequence_nr] = self._context
        if trail.armed_by and (turn.deadlines_set or turn.deadlines_cleared):
            armed_by = {armed.sequence_nr for armed in after.deadlines.values()}
            trail.armed_by = {nr: one for nr, one in trail.armed_by.items() if nr in armed_by}
        return trail

    def committed(self, turn: Turn) -> None:
        """End with what the turn came to; of one that failed only the sequence number is new."""
        if self._is_over:
            return
        self._end(turn, {"perdure.sequence_nr": turn.after.sequence_nr})
        if turn.status_changed and turn.after.status.is_over:
            with self._origin.guard:
                self._summarise(turn.after)

    def declined(self, turn: Turn) -> None:
        """End without a sequence number: no turn was journaled."""
        self._end(turn, {})

    def _end(self, turn: Turn, attributes: dict[str, Any]) -> None:
        self._is_over = True
        with self._origin.guard:
            commands = sum(row.kind is OutboxKind.COMMAND for row in turn.outgoing)
            attributes["perdure.outcome"] = turn.outcome.value
            attributes["perdure.commands"] = commands
            attributes["perdure.events"] = len(turn.events) + len(turn.outgoing) - commands
            attributes["perdure.handling_s"] = self._handled_s
            self._span.set_attributes(attributes)
            self._span.end(self._origin.at_ns())

    def failed(self, error: BaseException) -> None:
        """End with the error, which no commit waits for."""
        self._is_over = True
        end_with(self._origin, self._span, error)

    def lost(self) -> None:
        """End without knowing; if it is durable, its id is in the journal, and others link it."""
        if self._is_over:
            return
        self._is_over = True
        with self._origin.guard:
            self._span.set_attribute("perdure.outcome", "unknown")
            self._span.set_status(Status(StatusCode.ERROR, "its commit failed, or was not told"))
            self._span.end(self._origin.at_ns())

    def _summarise(self, after: Instance) -> None:
        """The whole process as one short span: how long it took is an attribute, no endless trace.

        Idea: research M13 (synthetic summary span on completion).
        """
        first, origin = context_of(self._first), self._origin
        links = [] if first is None else [Link(first, FIRST_TURN)]
        links.append(Link(self._context, LAST_TURN))
        attributes: dict[str, Any] = {
            "perdure.saga": self._saga,
            "perdure.correlation_id": after.correlation_id,
            "perdure.status": after.status.value,
            "perdure.turns": after.sequence_nr,
            "perdure.duration_s": (after.updated_at_ms - after.started_at_ms) / 1000,
        }
        name, at_ns = f"{self._saga} {after.status.value}", origin.at_ns()
        origin.budget.take()  # unasked: a process whose last turn is traced has its summary
        span = origin.tracer.start_span(name, ROOT, SpanKind.INTERNAL, attributes, links, at_ns)
        span.end(at_ns)


def _attributes(delivery: Delivery, head: Instance, saga: str) -> dict[str, Any]:
    """Names of OpenTelemetry's messaging conventions where one fits."""
    message, row = delivery.message, delivery.row
    found: dict[str, Any] = {
        "messaging.system": "perdure",
        "messaging.operation.type": "process",
        "messaging.message.id": message.message_id,
        "perdure.saga": saga,
        "perdure.correlation_id": head.correlation_id,
        "perdure.message_type": message.type,
        "perdure.attempt": 1 if row is None else row.attempts + 1,
    }
    if message.correlation_id is not None:
        found["messaging.message.conversation_id"] = message.correlation_id
    if delivery.deadline_nr:
        found["perdure.deadline"] = fired_name(message.content) or ""
    return found


def _journaled(message: Message, own: str, first: str) -> Message:
    """A copy: the message may be on its way to other instances, or come again."""
    headers = {**(message.headers or {}), TURN: own}
    if first:
        headers[FIRST] = first
    return Message(
        message.content,
        message.type,
        message.version,
        message.body,
        message.message_id,
        message.sent_at_ms,
        message.correlation_id,
        message.causation_id,
        headers,
    )


def end_with(origin: Origin, span: Span, error: BaseException) -> None:
    """End a span with what user code raised, whatever that is."""
    with origin.guard:
        try:
            span.record_exception(error, timestamp=origin.at_ns())
        except Exception:  # an error that cannot be shown
            span.add_event("exception", {"exception.type": type(error).__name__})
        span.set_status(Status(StatusCode.ERROR, in_short(error)))
    with origin.guard:
        span.end(origin.at_ns())
