"""Traces through OpenTelemetry, for processes that last for weeks. Needs ``perdure[otel]``.

    provider = TracerProvider()                        # the SDK's, or none: the global one counts
    async with Runtime(url, [Order, payments], tracing=Tracing(provider, share=0.1)) as runtime:
        ...

Every attempt at a turn and at a job is a short trace of its own, *linked* to its cause and to the
instance's turn before: no span stays open while a process waits. Who is traced: see ``Tracing``.
Must not harm: whatever a provider, sampler, processor or exporter raises is logged, and the turn
goes on without its span. Next to read: ``turn_spans.py``, ``job_spans.py``, ``docs/tracing.md``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.errors import DefinitionError
from perdure.ops.otel import logger, trace
from perdure.ops.spans import OtelSpans

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider

    from perdure.runtime.clock import Clock

__all__ = ["SHARE", "Tracing"]

SHARE = 0.005
"""One instance in 200, unless told otherwise: what a span costs is in docs/tracing.md."""


class Tracing:
    """What is traced, and where to: given to a runtime as ``Runtime(…, tracing=Tracing())``.

    Without ``tracer_provider`` the global one counts. ``share`` of all instances is traced, 0 to 1,
    chosen by a hash of their keys: each whole or not at all, over restarts and in every process.
    Besides, whatever follows from something sampled is traced: a request with the sampled flag, a
    traced turn or job; with ``honours_causes=False`` the share alone decides, which is for services
    that sample every request. The provider's own sampler has the last word for each span.

    Raises ``DefinitionError`` for a ``share`` or a provider that is none.
    """

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        share: float = SHARE,
        *,
        honours_causes: bool = True,
    ) -> None:
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share <= 1:
            raise DefinitionError(
                f"the share {share!r} of instances is none", remedy="give a number from 0 to 1"
            )
        if tracer_provider is not None and not isinstance(tracer_provider, trace.TracerProvider):
            raise DefinitionError(
                f"the tracer provider is a {type(tracer_provider).__name__}",
                remedy="give an opentelemetry TracerProvider, or none for the global one",
            )
        self.tracer_provider = tracer_provider
        self.share = float(share)
        self.honours_causes = honours_causes

    def start(self, clock: Clock) -> OtelSpans | None:
        """The spans of a runtime that starts; None if the provider has no tracer for it."""
        try:
            provider = self.tracer_provider or trace.get_tracer_provider()
            tracer = provider.get_tracer("perdure")
        except Exception:
            logger.warning("nothing is traced: the provider has no tracer", exc_info=True)
            return None
        return OtelSpans(tracer, self.share, self.honours_causes, clock)
