"""The way to OpenTelemetry: its names, W3C contexts as text, and the guard against what it raises.

Only ``opentelemetry-api`` is needed; the SDK with its exporters is the service's choice.
Next to read: ``spans.py``.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping

from perdure.core.traced import TRACEPARENT, TRACESTATE

try:
    from opentelemetry import trace
    from opentelemetry.context import Context, attach, detach, get_current
    from opentelemetry.trace import (
        Link,
        Span,
        SpanContext,
        SpanKind,
        Status,
        StatusCode,
        TraceFlags,
        Tracer,
        TraceState,
    )
except ImportError as error:
    raise ImportError(
        "perdure.ops.tracing needs OpenTelemetry's API; install it: pip install 'perdure[otel]'"
    ) from error

__all__ = [
    "ROOT",
    "Context",
    "Guard",
    "Link",
    "Span",
    "SpanContext",
    "SpanKind",
    "Status",
    "StatusCode",
    "Tracer",
    "attach",
    "cause_in",
    "context_of",
    "detach",
    "get_current",
    "is_sampled",
    "logger",
    "text_of",
    "trace",
]

logger = logging.getLogger("perdure.tracing")

ROOT = Context()
"""In it no span is current: what begins there is the root of a new trace."""

TRACESTATE_CHARS_MAX = 512
_PARENT = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-[!-~]*)?"
)
_PARENT_CHARS_MAX = 500


def text_of(context: SpanContext) -> str:
    """The context as a W3C ``traceparent``."""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def context_of(parent: object, state: object = None) -> SpanContext | None:
    """The context of a ``traceparent`` and ``tracestate``; None for what is none, or hostile."""
    if not isinstance(parent, str) or len(parent) > _PARENT_CHARS_MAX:
        return None
    found = _PARENT.fullmatch(parent)
    if found is None or (found[1] == "00" and found[5] is not None):
        return None
    flags = TraceFlags(int(found[4], 16))
    return SpanContext(int(found[2], 16), int(found[3], 16), True, flags, _state_of(state))


def _state_of(state: object) -> TraceState | None:
    if not isinstance(state, str) or not 0 < len(state) <= TRACESTATE_CHARS_MAX:
        return None
    return TraceState.from_header([state])


def cause_in(headers: Mapping[str, str] | None) -> SpanContext | None:
    """The context that a message was sent with."""
    if not headers:
        return None
    parent = headers.get(TRACEPARENT)
    return None if parent is None else context_of(parent, headers.get(TRACESTATE))


def is_sampled(context: SpanContext | None) -> bool:
    """Somebody has decided that what follows from it is to be traced."""
    return context is not None and context.trace_flags.sampled


class Guard:
    """Takes what the provider raises: said once with its trace, then counted.

    As a context manager around calls whose failure costs nothing but the span.
    """

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: object, _: object) -> bool:
        if kind is None or not issubclass(kind, Exception):
            return False
        self.count += 1
        if self.count == 1:
            logger.warning("a span was lost; those after it are not told", exc_info=True)
        return True
