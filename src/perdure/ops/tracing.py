"""Traces through OpenTelemetry, for processes that last for weeks. Needs ``perdure[otel]``.

    provider = TracerProvider()                        # the SDK's, or none: the global one counts
    async with Runtime(url, [Order, payments], tracing=Tracing(provider)) as runtime:
        ...

Every attempt at a turn and at a job is a short trace of its own, *linked* to its cause and to the
instance's turn before: no span stays open while a process waits. Who is traced: see ``Tracing``.
Must not harm: whatever a provider, sampler, processor or exporter raises is logged, and the turn
goes on without its span. Next to read: ``turn_spans.py``, ``job_spans.py``, ``docs/tracing.md``.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from perdure.errors import DefinitionError
from perdure.ops.budget import Budget
from perdure.ops.otel import logger, trace
from perdure.ops.spans import OtelSpans

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider

    from perdure.runtime.clock import Clock

__all__ = ["SPANS_PER_S", "Tracing"]

SPANS_PER_S = 100.0
"""Unless told otherwise: some percent of a processor. What a span costs: docs/tracing.md."""


class Tracing:
    """What is traced, and where to: given to a runtime as ``Runtime(…, tracing=Tracing())``.

    Without ``tracer_provider`` the global one counts. ``share`` of all instances is traced, 0 to 1,
    chosen by a hash of their keys: the same over restarts and in every process.
    Besides, whatever follows from something sampled is traced: a request with the sampled flag, a
    traced turn or job; with ``honours_causes=False`` the share alone decides, which is for services
    that sample every request. The provider's own sampler has the last word for each span.

    Of all that no more than ``spans_per_s`` begin in a second (on the average; after a quiet time
    as many at once as in ten seconds), so that a busy runtime does not spend its time on traces;
    None: no limit. Those left out are counted, and the log says so. A span that the provider's
    sampler does not take has begun, too.

    Raises ``DefinitionError`` for a ``share``, a ``spans_per_s`` or a provider that is none.
    """

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        share: float = 1.0,
        *,
        spans_per_s: float | None = SPANS_PER_S,
        honours_causes: bool = True,
    ) -> None:
        if not (_is_number(share) and 0 <= share <= 1):
            raise DefinitionError(
                f"the share {share!r} of instances is none", remedy="give a number from 0 to 1"
            )
        if spans_per_s is not None and not (_is_number(spans_per_s) and 0 < spans_per_s < inf):
            raise DefinitionError(
                f"spans_per_s={spans_per_s!r} is no number of spans a second",
                remedy="give a number above 0, or None for no limit; share=0 traces no instance",
            )
        if tracer_provider is not None and not isinstance(tracer_provider, trace.TracerProvider):
            raise DefinitionError(
                f"the tracer provider is a {type(tracer_provider).__name__}",
                remedy="give an opentelemetry TracerProvider, or none for the global one",
            )
        self.tracer_provider = tracer_provider
        self.share = float(share)
        self.spans_per_s = None if spans_per_s is None else float(spans_per_s)
        self.honours_causes = honours_causes

    def start(self, clock: Clock) -> OtelSpans | None:
        """The spans of a runtime that starts; None if the provider has no tracer for it."""
        try:
            provider = self.tracer_provider or trace.get_tracer_provider()
            tracer = provider.get_tracer("perdure")
        except Exception:
            logger.warning("nothing is traced: the provider has no tracer", exc_info=True)
            return None
        budget = Budget(self.spans_per_s, clock)
        return OtelSpans(tracer, self.share, self.honours_causes, budget, clock)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
