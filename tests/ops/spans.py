"""Spans of a real SDK, named by what they are of: so that a test can write down their links.

turn    "parcel/p-1 #3"           by instance and sequence number
attempt "parcel/p-1 Damaged !2"   that left no turn, by message and number
job     "parcel/p-1/1/0 !1"       by the job's id and the attempt
end     "parcel/p-1 completed"    the summary of an instance
"""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Tracer

from perdure.ops.tracing import Tracing


class Traces:
    """A provider with its spans in memory; it outlives the runtimes of a test."""

    def __init__(
        self, share: float = 1.0, *, spans_per_s: float | None = None, **options: Any
    ) -> None:
        self.provider = TracerProvider(shutdown_on_exit=False, **options)
        self._exporter = InMemorySpanExporter()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracing = Tracing(self.provider, share, spans_per_s=spans_per_s)

    @property
    def users(self) -> Tracer:
        """The tracer of the user's own code."""
        return self.provider.get_tracer("user")

    @property
    def all(self) -> list[ReadableSpan]:
        """In the order in which they ended."""
        return list(self._exporter.get_finished_spans())

    @property
    def ours(self) -> list[ReadableSpan]:
        scope = "perdure"
        return [one for one in self.all if (one.instrumentation_scope or one).name == scope]

    def clear(self) -> None:
        self._exporter.clear()

    def named(self) -> dict[str, ReadableSpan]:
        """Our spans by what they are of. No two are of the same."""
        found: dict[str, ReadableSpan] = {}
        for span in self.ours:
            assert name_of(span) not in found, name_of(span)
            found[name_of(span)] = span
        return found

    def users_spans(self) -> list[ReadableSpan]:
        return [one for one in self.all if one not in self.ours]

    def graph(self) -> dict[str, set[tuple[str, str]]]:
        """Of each of our spans its links: (what for, the other's name, or "outside")."""
        names = {ids(one.context): name_of(one) for one in self.ours}
        return {
            name: {
                (attribute(link, "perdure.link"), names.get(ids(link.context), "outside"))
                for link in span.links
            }
            for name, span in self.named().items()
        }


def ids(context: Any) -> tuple[int, int]:
    return context.trace_id, context.span_id


def attribute(holder: Any, name: str) -> Any:
    return (holder.attributes or {}).get(name)


def name_of(span: ReadableSpan) -> str:
    attributes = dict(span.attributes or {})
    instance = f"{attributes.get('perdure.saga')}/{attributes.get('perdure.correlation_id')}"
    if "perdure.worker" in attributes:
        return f"{attributes['messaging.message.id']} !{attributes['perdure.attempt']}"
    if "perdure.status" in attributes:
        return f"{instance} {attributes['perdure.status']}"
    if "perdure.sequence_nr" in attributes:
        return f"{instance} #{attributes['perdure.sequence_nr']}"
    return f"{instance} {attributes['perdure.message_type']} !{attributes['perdure.attempt']}"
