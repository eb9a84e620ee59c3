"""How a work queue performs its jobs: how many at a time, how fast, in which order, how often.

Frozen values, checked when they are made. Next to read: ``work.py``, which acts by them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from perdure.core.retry import DELAY_MAX_S, Exponential, RetryPolicy, check_number
from perdure.errors import DefinitionError

__all__ = ["QueuePolicy", "Rate"]

CONCURRENCY_MAX = 100_000
RATE_COUNT_MAX = 1_000_000


@dataclass(frozen=True)
class Rate:
    """At most ``count`` attempts start in any ``per_s`` seconds.

        Rate(100, per_s=1.0)

    Exactly: no half-open span ``[t, t + per_s)``, wherever it begins, has more than ``count``
    starts. Up to ``count`` may start at once. The starts are counted in memory: a new process
    begins with none.
    """

    count: int
    per_s: float = 1.0

    def __post_init__(self) -> None:
        check_number("Rate.count", self.count, 1, RATE_COUNT_MAX, is_whole=True)
        check_number("Rate.per_s", self.per_s, 0.001, DELAY_MAX_S)


@dataclass(frozen=True, kw_only=True)
class QueuePolicy:
    """How a work queue performs its jobs; see ``queue.WorkQueue``, which says what each means."""

    name: str
    concurrency: int = 10
    retry: RetryPolicy = field(default_factory=Exponential)
    lease_s: float = 60.0
    rate: Rate | None = None
    sequential: bool = False
    pause_after: int | None = None
    repeat_unknown: bool = True
    write_first: bool = False

    def __post_init__(self) -> None:
        check_number("concurrency", self.concurrency, 1, CONCURRENCY_MAX, is_whole=True)
        check_number("lease_s", self.lease_s, 0.001, DELAY_MAX_S)
        if self.pause_after is not None:
            check_number("pause_after", self.pause_after, 1, 2**31 - 1, is_whole=True)
        if not isinstance(self.retry, RetryPolicy):
            raise DefinitionError(
                f"retry is {self.retry!r}", remedy="give a Fixed, Linear or Exponential"
            )
        if self.rate is not None and not isinstance(self.rate, Rate):
            raise DefinitionError(f"rate is {self.rate!r}", remedy="as Rate(100, per_s=1.0)")
        for name in ("sequential", "repeat_unknown", "write_first"):
            if type(getattr(self, name)) is not bool:
                raise DefinitionError(f"{name} is {getattr(self, name)!r}", remedy="give a bool")
        if self.sequential and self.concurrency != 1:
            raise DefinitionError(
                f"concurrency is {self.concurrency} in a sequential queue",
                remedy="leave concurrency out: one job runs at a time",
            )
