"""What is known of a runtime and its store at one moment: the facts that health is judged by.

Plain values in seconds, bytes and numbers. Whoever cannot know a fact leaves it out: a store that
is looked at without its runtime says nothing of loops. Gathered by ``gathering.py`` and
``runtime/watching/vitals.py``, judged by ``health.py``.
"""

from __future__ import annotations

from dataclasses import dataclass

from perdure.ops.cluster_facts import ClusterFacts
from perdure.runtime.watching.vitals import Vitals

__all__ = ["COUNTED_MAX", "Facts", "QueueFacts", "SagaFacts", "StoreFacts"]


COUNTED_MAX = 1_000
"""More than so many idle or old ones are not counted: by then it is the same news."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SagaFacts:
    """The processes of one saga.

    ``ended`` of the last ones that ended were looked at: ``failed`` of them failed, the completed
    ones took ``average_s`` on average (None: there is none). ``stuck`` have that status; ``idle``
    run, and nothing has happened to them for too long; ``old`` have not ended, and began too long
    ago; neither is counted beyond ``COUNTED_MAX``.
    """

    saga: str
    ended: int = 0
    failed: int = 0
    average_s: float | None = None
    stuck: int = 0
    idle: int = 0
    old: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueFacts:
    """One work queue; "" is what goes to the sagas themselves.

    ``paused`` says why it is, None: it is not. ``ready_s``: how long the job that may start has
    waited that waits the longest. ``retried`` jobs have more attempts behind them than they should.
    """

    queue: str
    paused: str | None = None
    depth: int = 0
    ready_s: float = 0.0
    retried: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreFacts:
    """The store. ``error``: it could not be read, and why; ``read_s``: how long reading took.

    ``disk_free`` bytes, None: nobody knows.
    """

    error: str | None = None
    read_s: float = 0.0
    disk_free: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All of them, at ``at_ms``. ``vitals`` are the runtime's, None where only the store is seen.

    ``deadline_late_s`` and ``message_late_s``: since when the oldest deadline, or waiting message,
    is due that nothing has come of; quarantined instances do not count. If ``store.error``, the
    processes and queues are not known. So much ``mail`` waits for the owners of shards to take it,
    the oldest for ``mail_s``. ``cluster`` is None for a runtime that is no cluster's.
    """

    at_ms: int
    store: StoreFacts
    sagas: tuple[SagaFacts, ...] = ()
    queues: tuple[QueueFacts, ...] = ()
    deadline_late_s: float = 0.0
    message_late_s: float = 0.0
    mail: int = 0
    mail_s: float = 0.0
    quarantined: int = 0
    dead_letters: int = 0
    vitals: Vitals | None = None
    cluster: ClusterFacts | None = None
