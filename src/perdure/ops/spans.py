"""The spans of one runtime: who is traced, and where its spans begin.

    turn    its instance is in the share, or its cause is sampled
    job     its cause is sampled, as that of every command of a traced turn is; one that has no
            cause, put into the queue from outside: its id is in the share

A message that nobody traced costs a comparison or two here, and no call of OpenTelemetry.
Next to read: ``turn_spans.py``, ``job_spans.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b

from perdure.core.commit import OutboxRow
from perdure.core.instance import Instance
from perdure.core.traced import FIRST, TRACEPARENT, TRACESTATE, TURN, caused_by
from perdure.ops.job_spans import OtelJobSpan
from perdure.ops.otel import (
    Guard,
    SpanContext,
    Tracer,
    cause_in,
    context_of,
    get_current,
    is_sampled,
    text_of,
    trace,
)
from perdure.ops.turn_spans import Footprints, Origin, OtelTurnSpan
from perdure.runtime.clock import Clock, SystemClock
from perdure.runtime.delivery import Delivery
from perdure.runtime.routing import HEADERS_MAX, TEXT_CHARS_MAX

__all__ = ["OtelSpans"]

_ALL = 2**64


class OtelSpans:
    """Begins the spans of a runtime. ``guard.count``: how many were lost to a provider's error."""

    def __init__(self, tracer: Tracer, share: float, honours_causes: bool, clock: Clock) -> None:
        self.guard = Guard()
        self._origin = Origin(tracer, clock, isinstance(clock, SystemClock), self.guard)
        self._below = round(share * _ALL)
        self._honours_causes = honours_causes
        self._jobs: dict[int, OtelJobSpan] = {}

    def follows(self, key: str) -> bool:
        """By a hash of the key: the same in every process, and after every restart."""
        digest = blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        return int.from_bytes(digest, "big") < self._below

    def stored(self, headers: Mapping[str, str] | None) -> Mapping[str, str] | None:
        """What the sender says itself stands; the limits on headers hold for it alone."""
        if not get_current():
            return headers  # nobody has said anything: the fast way out
        with self.guard:
            context = trace.get_current_span().get_span_context()
            if not context.is_valid or not context.trace_flags.sampled:
                return headers
            if headers is not None and not isinstance(headers, Mapping):
                return headers  # it is refused where headers are checked
            if headers and (TRACEPARENT in headers or len(headers) + 2 > HEADERS_MAX):
                return headers
            kept = {**(headers or {}), TRACEPARENT: text_of(context)}
            state = context.trace_state.to_header() if context.trace_state else ""
            if 0 < len(state) <= TEXT_CHARS_MAX and TRACESTATE not in kept:
                kept[TRACESTATE] = state
            return kept
        return headers

    def trail(
        self, instance: Instance, traced: Mapping[int, Mapping[str, str]]
    ) -> Footprints | None:
        """None for an instance that is not chosen and was not traced."""
        is_chosen = self.follows(instance.key)
        if not is_chosen and not traced:
            return None
        found = Footprints(is_chosen)
        with self.guard:
            for number, headers in traced.items():
                context = context_of(headers.get(TURN))
                if context is None:
                    continue
                found.armed_by[number] = context
                if number == instance.sequence_nr:
                    found.last = context
                    found.first = headers.get(FIRST) or (headers[TURN] if number == 1 else "")
        return found

    def turn(
        self, delivery: Delivery, head: Instance, trail: Footprints | None
    ) -> OtelTurnSpan | None:
        """Begin the span of a turn, if it is traced."""
        headers = delivery.message.headers
        if trail is None and headers is None:
            return None
        with self.guard:
            cause = self._cause(delivery, headers, trail)
            is_chosen = trail is not None and trail.is_chosen
            if not is_chosen and not (self._honours_causes and is_sampled(cause)):
                return None
            span = OtelTurnSpan(self._origin, delivery, head, trail or Footprints(False), cause)
            return span if span.is_sampled else None
        return None

    def _cause(
        self,
        delivery: Delivery,
        headers: Mapping[str, str] | None,
        trail: Footprints | None,
    ) -> SpanContext | None:
        if delivery.deadline_nr:
            return None if trail is None else trail.armed_by.get(delivery.deadline_nr)
        return None if headers is None else cause_in(headers)

    def job(
        self, row: OutboxRow, headers: Mapping[str, str] | None, worker: str, number: int
    ) -> OtelJobSpan | None:
        """Begin the span of an attempt at a job, if it is traced."""
        if headers is None and row.instance:
            return None
        with self.guard:
            cause = cause_in(headers)
            if not self._wants_job(row, cause):
                return None
            span = OtelJobSpan(self._origin, row, worker, number, cause, self._jobs)
            return span if span.is_sampled else None
        return None

    def _wants_job(self, row: OutboxRow, cause: SpanContext | None) -> bool:
        if not is_sampled(cause):
            return not row.instance and self.follows(row.id)
        return self._honours_causes or self.follows(row.instance or row.id)

    def of_job(self, row: OutboxRow, headers: Mapping[str, str] | None) -> Mapping[str, str] | None:
        """The job is the cause of what follows from it."""
        span = self._jobs.get(row.position)
        return headers if span is None else caused_by(headers, span.text)
