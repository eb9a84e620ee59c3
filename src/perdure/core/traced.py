"""The headers by which turns know each other's spans: a W3C trace context stored with a message.

    traceparent       the cause: whoever sent the message (the sender's, or a turn's, or a job's)
    perdure.turn      in a journaled message: the span of the turn that took it
    perdure.first     there, too: the span of the instance's first turn

Texts only: nothing here knows what a span is. Next to read: ``runtime/watching/tracing.py``.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["FIRST", "TRACEPARENT", "TRACESTATE", "TURN", "caused_by", "onward"]

TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"
TURN = "perdure.turn"
FIRST = "perdure.first"

_OURS = (TRACEPARENT, TRACESTATE, TURN, FIRST)


def caused_by(headers: Mapping[str, str] | None, context: str) -> dict[str, str]:
    """The same headers with this context as the cause."""
    kept = {name: text for name, text in (headers or {}).items() if name not in _OURS}
    kept[TRACEPARENT] = context
    return kept


def onward(headers: Mapping[str, str]) -> Mapping[str, str]:
    """The headers of what a turn sends: the turn itself is the cause now, if it has a span."""
    context = headers.get(TURN)
    return headers if context is None else caused_by(headers, context)
