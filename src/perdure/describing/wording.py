"""Times, retries, policies and guards in words.

>>> time(5400)
'1 h 30 min'

Next to read: ``describe.py``, who says them.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from perdure.core.missed import CatchUp, MissedPolicy, Skip
from perdure.core.retention import Retention
from perdure.core.retry import RetryPolicy
from perdure.core.saga import IgnoreMissing, MissingPolicy, Park, StartMissing
from perdure.core.supervision import Strategy, Supervision
from perdure.core.wording import listed, span
from perdure.correlating import By
from perdure.describing.description import Guard, Retry

__all__ = [
    "by_text",
    "called",
    "guards_text",
    "missed_text",
    "missing_text",
    "retention_text",
    "retry_of",
    "supervision_text",
    "time",
]

SHOWN = 3
"""So many pauses are said; the rest goes on like them."""

_STRATEGIES = {
    Strategy.RESUME: "the message becomes a dead letter, the instance lives on",
    Strategy.STOP: "the instance fails, the message becomes a dead letter",
    Strategy.QUARANTINE: "the instance is set aside until somebody releases it",
    Strategy.ESCALATE: "the runtime stops",
}


def time(seconds: float) -> str:
    """A length of time in its two largest units.

    >>> time(0.2), time(2.5), time(90_000)
    ('200 ms', '2.5 s', '1 d 1 h')
    """
    if seconds < 1:
        return f"{seconds * 1000:g} ms"
    if seconds < 60 and seconds % 1:
        return f"{seconds:g} s"
    return span(int(seconds * 1000))


def retry_of(policy: RetryPolicy) -> Retry:
    """A policy in words.

    >>> from perdure.core.retry import Exponential, Fixed
    >>> retry_of(Fixed(30)).text
    '5 attempts, 30 s apart'
    >>> retry_of(Exponential(max_attempts=None)).text
    'tried for ever, after 1 s, 2 s, 4 s, …'
    """
    attempts = policy.max_attempts
    if attempts == 1:
        return Retry(1, "one attempt")
    often = "tried for ever" if attempts is None else f"{attempts} attempts"
    pauses = SHOWN + 1 if attempts is None else attempts - 1
    said = [
        time(min(policy.plain_delay_s(number), policy.longest_s))
        for number in range(1, min(pauses, SHOWN) + 1)
    ]
    if len(set(said)) == 1:
        return Retry(attempts, f"{often}, {said[0]} apart")
    more = ", …" if pauses > SHOWN else ""
    return Retry(attempts, f"{often}, after {', '.join(said)}{more}")


def supervision_text(supervision: Supervision) -> str:
    """What becomes of an instance one of whose turns has failed for good."""
    if supervision.strategy is Strategy.RESTART:
        within = time(supervision.within.total_seconds())
        return f"restarted up to {supervision.max_restarts} times in {within}, then set aside"
    return _STRATEGIES[supervision.strategy]


def missing_text(policy: MissingPolicy) -> str:
    """What becomes of a message for an instance that does not exist."""
    if isinstance(policy, Park):
        if policy.for_s is None:
            return "is parked, for ever"
        return f"is parked for {time(policy.for_s)}, then becomes a dead letter"
    if isinstance(policy, IgnoreMissing):
        return "is forgotten"
    return "starts it" if isinstance(policy, StartMissing) else "is answered with a fixed value"


def retention_text(retention: Retention) -> str:
    """How long instances are kept.

    >>> retention_text(Retention.keep_for(timedelta(days=30), failed="keep"))
    'completed: 30 d after the end; failed: for ever'
    """
    completed, failed = _kept(retention.completed), _kept(retention.failed)
    return completed if completed == failed else f"completed: {completed}; failed: {failed}"


def _kept(after: timedelta | None) -> str:
    if after is None:
        return "for ever"
    return f"{time(after.total_seconds())} after the end" if after else "until the end"


def missed_text(policy: MissedPolicy) -> str:
    """What becomes of runs that were missed."""
    if isinstance(policy, CatchUp):
        return f"each is made, the latest {policy.most} of them"
    if isinstance(policy, Skip):
        return f"none is made that is later than {time(policy.grace.total_seconds())}"
    return "one is made for all of them"


def by_text(by: By) -> str:
    """How an instance is found."""
    if isinstance(by, str):
        return by
    if isinstance(by, tuple):
        return f"({', '.join(map(by_text, by))})"
    return called(by) if callable(by) else "the correlation id"


def guards_text(guards: Iterable[Guard]) -> str:
    """When something is admitted.

    >>> guards_text([Guard(("new", "open")), Guard()])
    'in new or open; otherwise'
    """
    return "; ".join(map(_guard_text, guards))


def _guard_text(guard: Guard) -> str:
    if guard.condition:
        return f"if {guard.condition}"
    return f"in {listed(guard.statuses, 'or')}" if guard.statuses else "otherwise"


def called(function: object) -> str:
    """A function by its name, if it has one."""
    name = getattr(function, "__name__", type(function).__name__)
    return "a function" if name == "<lambda>" else f"{name}()"
