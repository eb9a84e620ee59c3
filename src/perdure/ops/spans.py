"""The spans of one runtime: who is traced, and where its spans begin.

    turn    its instance is in the share, or its cause is sampled
    job     its cause is sampled, as that of every command of a traced turn is; one that has no
            cause, put into the queue from outside: its id is in the share

and the budget is not spent, which is asked before a header is parsed: what nobody wants traced, and
what is over the budget, costs a comparison or two here, and no call of OpenTelemetry.
Next to read: ``budget.py``, ``turn_spans.py``, ``job_spans.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b

from perdure.core.commit import OutboxRow
from perdure.core.instance import Instance
from perdure.core.traced import FIRST, TRACEPARENT, TRACESTATE, TURN, caused_by
from perdure.ops.budget import Budget
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

_UNTROD = Footprints(True)
"""Of all chosen instances that have no span yet: most of those in memory, when there are many."""


class OtelSpans:
    """Begins the spans of a runtime. ``guard.count``: how many were lost to a provider's error."""

    def __init__(
        self,
        tracer: Tracer,
        share: float,
        honours_causes: bool,
        budget: Budget,
        clock: Clock,
    ) -> None:
        self.guard = Guard()
        self._budget = budget
        self._origin = Origin(tracer, clock, isinstance(clock, SystemClock), self.guard, budget)
        self._below = round(share * _ALL)
        self._honours_causes = honours_causes
        self._jobs: dict[int, OtelJobSpan] = {}

    @property
    def left_out(self) -> int:
        """Spans that did not begin since the budget was spent."""
        return self._budget.left_out

    def follows(self, key: str) -> bool:
        """By a hash of the key: the same in every process, and after every restart."""
        if self._below == _ALL:
            return True
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

    def looks_back(self, key: str) -> bool:
        """Not for a share of nobody, nor while no span may begin."""
        return self._budget.is_open and self.follows(key)

    def trail(
        self, instance: Instance, traced: Mapping[int, Mapping[str, str]], last_nr: int
    ) -> Footprints | None:
        """None for an instance that is not chosen and was not traced."""
        is_chosen = self.follows(instance.key)
        if not traced:
            return _UNTROD if is_chosen else None
        found = Footprints(is_chosen)
        with self.guard:
            for number, headers in traced.items():
                context = context_of(headers.get(TURN))
                if context is None:
                    continue
                found.armed_by[number] = context
                if number == last_nr:
                    found.last = context
                    found.first = headers.get(FIRST) or (headers[TURN] if number == 1 else "")
        return found

    def turn(
        self, delivery: Delivery, head: Instance, trail: Footprints | None, now_s: float
    ) -> OtelTurnSpan | None:
        """Begin the span of a turn, if it is traced."""
        if trail is None or not trail.is_chosen:
            if trail is None and delivery.message.headers is None:
                return None
            if not self._may_be_caused(delivery, trail):
                return None
        if self._budget.is_spent(now_s):
            return None
        with self.guard:
            cause = self._cause(delivery, trail)
            if trail is None or trail is _UNTROD:
                trail = Footprints(trail is not None)
            if not trail.is_chosen and not is_sampled(cause):
                return None
            self._budget.take()
            span = OtelTurnSpan(self._origin, delivery, head, trail, cause)
            return span if span.is_sampled else None
        return None

    def _may_be_caused(self, delivery: Delivery, trail: Footprints | None) -> bool:
        """It has a cause to be honoured, if that is sampled."""
        if not self._honours_causes:
            return False
        if delivery.deadline_nr:
            return trail is not None and delivery.deadline_nr in trail.armed_by
        headers = delivery.message.headers
        return headers is not None and TRACEPARENT in headers

    def _cause(self, delivery: Delivery, trail: Footprints | None) -> SpanContext | None:
        if delivery.deadline_nr:
            return None if trail is None else trail.armed_by.get(delivery.deadline_nr)
        return cause_in(delivery.message.headers)

    def job(
        self,
        row: OutboxRow,
        headers: Mapping[str, str] | None,
        worker: str,
        number: int,
        now_s: float,
    ) -> OtelJobSpan | None:
        """Begin the span of an attempt at a job, if it is traced."""
        if headers is None and row.instance:
            return None
        if not self._may_want_job(row, headers) or self._budget.is_spent(now_s):
            return None
        with self.guard:
            cause = cause_in(headers)
            if not self._wants_job(row, cause):
                return None
            self._budget.take()
            span = OtelJobSpan(self._origin, row, worker, number, cause, self._jobs)
            return span if span.is_sampled else None
        return None

    def _may_want_job(self, row: OutboxRow, headers: Mapping[str, str] | None) -> bool:
        """It is wanted, if the cause that it has is sampled."""
        if headers is not None and TRACEPARENT in headers:
            return self._honours_causes or self.follows(row.instance or row.id)
        return not row.instance and self.follows(row.id)

    def _wants_job(self, row: OutboxRow, cause: SpanContext | None) -> bool:
        if not is_sampled(cause):
            return not row.instance and self.follows(row.id)
        return self._honours_causes or self.follows(row.instance or row.id)

    def of_job(self, row: OutboxRow, headers: Mapping[str, str] | None) -> Mapping[str, str] | None:
        """The job is the cause of what follows from it."""
        span = self._jobs.get(row.position)
        return headers if span is None else caused_by(headers, span.text)
