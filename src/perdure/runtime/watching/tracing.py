"""What the runtime asks of tracing: a span for a turn and for a job, contexts in headers.

No tracing library is known here; ``ops/tracing.py`` is over OpenTelemetry. A ``Trail`` is what an
incarnation remembers of its traced turns, opaque to it. None of these functions raises.
Next to read: ``ops/tracing.py``, ``trails.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import Context
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from perdure.core.commit import OutboxRow
from perdure.core.correlation import VerdictKind
from perdure.core.instance import Instance
from perdure.core.outcome import Encoder, Turn
from perdure.core.saga import Definition
from perdure.core.turn import step
from perdure.messages import Message
from perdure.runtime.clock import Clock

if TYPE_CHECKING:
    from perdure.runtime.delivery import Delivery
    from perdure.runtime.instances.saga_actor import SagaActor

__all__ = ["JobSpan", "Spans", "Tracing", "Trail", "TurnSpan", "traced"]

Headers: TypeAlias = Mapping[str, str] | None
Trail: TypeAlias = Any


class TurnSpan(Protocol):
    """The span of one attempt at a turn."""

    @property
    def message(self) -> Message:
        """The turn's message with the span's context in its headers: so it is journaled."""
        ...

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
        """``core.turn.step`` with that message, under the span. Raises what that raises."""
        ...

    def submitted(self, turn: Turn) -> Trail:
        """The turn is taken, the next one starts from it. What the instance remembers now."""
        ...

    def committed(self, turn: Turn) -> None:
        """The turn is durable."""
        ...

    def declined(self, turn: Turn) -> None:
        """Nothing is to be written: there is no instance, and the message begins none."""
        ...

    def failed(self, error: BaseException) -> None:
        """The saga's code raised."""
        ...

    def lost(self) -> None:
        """The incarnation ended first: whether the turn is durable, the next one will know."""
        ...


class JobSpan(Protocol):
    """The span of one attempt at a job."""

    def context(self) -> Context:
        """A new context in which the span is the current one: the worker's."""
        ...

    def ended(self, error: BaseException | None) -> None:
        """The worker has ended."""
        ...


class Spans(Protocol):
    """The spans of a runtime that runs."""

    @property
    def left_out(self) -> int:
        """How many spans did not begin since there would have been too many."""
        ...

    def stored(self, headers: Headers) -> Headers:
        """A sender's headers, with the context that is current for the caller."""
        ...

    def looks_back(self, key: str) -> bool:
        """It is worth a read to know which turns of this instance had a span."""
        ...

    def trail(
        self, instance: Instance, traced: Mapping[int, Mapping[str, str]], last_nr: int
    ) -> Trail | None:
        """What an instance remembers that was loaded. ``traced``: headers by sequence number.

        ``last_nr``: the last turn that had a span, if it is among them.
        """
        ...

    def turn(
        self, delivery: Delivery, head: Instance, trail: Trail | None, now_s: float
    ) -> TurnSpan | None:
        """Begin the span of a turn that starts from ``head``; None if it is not traced.

        ``now_s`` is monotonic, as the clock has it.
        """
        ...

    def job(
        self, row: OutboxRow, headers: Headers, worker: str, number: int, now_s: float
    ) -> JobSpan | None:
        """Begin the span of an attempt, 1 for the first; None if it is not traced."""
        ...

    def of_job(self, row: OutboxRow, headers: Headers) -> Headers:
        """The headers of what follows from the job, whose span has not ended yet."""
        ...


class Tracing(Protocol):
    """What ``Runtime(tracing=…)`` is given."""

    def start(self, clock: Clock) -> Spans | None:
        """A runtime starts; None if nothing can be traced."""
        ...


def traced(spans: Spans, actor: SagaActor, delivery: Delivery, now_s: float) -> Callable[..., Turn]:
    """Begin the span of the delivery's turn, if it has one; ``core.turn.step`` under it."""
    span = delivery.span = spans.turn(delivery, actor.head, actor.trail, now_s)
    return step if span is None else span.step
