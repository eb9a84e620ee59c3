"""What a look at a store shows: plain values, in words that people use.

Moments are aware, in UTC. What users' code put into rows is plain data (see ``plain.py``). Next to
read: ``inspection.py``, which makes them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

__all__ = [
    "ClusterSeen",
    "DeadLetterSeen",
    "HostSeen",
    "InstanceSeen",
    "InstanceShown",
    "JobSeen",
    "QuarantineSeen",
    "QueueSeen",
    "WaitingMessageSeen",
]


@dataclass(frozen=True, slots=True)
class InstanceSeen:
    """An instance in a listing, by its head. ``updated_at`` is when its head was last written.

    ``quarantined`` is why it is set aside, None if it is not.
    """

    saga: str
    correlation_id: str
    status: str
    started_at: datetime
    updated_at: datetime
    quarantined: str | None = None


@dataclass(frozen=True, slots=True)
class WaitingMessageSeen:
    """A message in the inbox.

    ``reason``: "missing" (parked: no instance yet), "delayed" (tried again at ``due_at``), "queued"
    (behind another one), "held" (its instance is quarantined), "mail" (not yet
    taken by the owner of its shard: ``error`` says who that is).
    """

    saga: str
    correlation_id: str
    message_id: str
    type: str
    reason: str
    since: datetime
    attempts: int
    due_at: datetime | None
    error: str
    content: Any


@dataclass(frozen=True, slots=True)
class JobSeen:
    """A command, or published event, that waits or is being performed.

    ``due_at`` is when the next attempt may begin, None: at once. ``behind`` is the position of the
    job it follows, 0 for none. ``position`` orders all jobs.
    """

    position: int
    id: str
    kind: str
    queue: str
    type: str
    saga: str
    correlation_id: str
    attempts: int
    due_at: datetime | None
    error: str
    behind: int
    expires_at: datetime | None
    since: datetime
    content: Any


@dataclass(frozen=True, slots=True)
class DeadLetterSeen:
    """A message or command that could not be processed; see ``DeadLetter``."""

    id: int
    saga: str
    correlation_id: str
    message_id: str
    type: str
    queue: str
    reason: str
    error: str
    attempts: int
    at: datetime
    is_told: bool
    content: Any


@dataclass(frozen=True, slots=True)
class QuarantineSeen:
    """An instance that is set aside, and how many messages are held for it."""

    saga: str
    correlation_id: str
    reason: str
    error: str
    since: datetime
    held: int


@dataclass(frozen=True, slots=True)
class QueueSeen:
    """A work queue, as the store knows it: its jobs, and whether it is paused.

    ``depth`` jobs wait or run, ``retrying`` of them have failed before; the oldest one is there
    since ``oldest_at``. The queue "" are messages on their way from sagas to sagas.
    """

    name: str
    depth: int
    retrying: int
    oldest_at: datetime | None
    is_paused: bool = False
    pause_reason: str = ""
    paused_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class HostSeen:
    """A process that shares the store: when it has last been heard of, and its shards."""

    name: str
    pid: int
    version: str
    is_gone: bool
    is_draining: bool
    silent_s: float
    shards: list[int]


@dataclass(frozen=True, slots=True)
class ClusterSeen:
    """The processes that share a store of so many shards; ``unowned`` have no live owner."""

    shards: int
    unowned: list[int]
    hosts: list[HostSeen]


@dataclass(frozen=True, slots=True)
class InstanceShown:
    """Everything about one instance.

    ``state`` is that after turn ``state_nr``; ``turns_after`` turns have followed, which only the
    saga's own code can fold (None: there is no state to show). ``problem`` is why it cannot be
    read, "" if it can. ``waiting`` messages are in its inbox, of which ``inbox`` shows the first.
    ``status`` is None if there is no such instance. ``purged``: it has ended, and only that
    is known.
    """

    saga: str
    correlation_id: str
    status: str | None
    sequence_nr: int
    started_at: datetime | None
    updated_at: datetime | None
    state: Any = None
    state_nr: int | None = None
    turns_after: int = 0
    result: Any = None
    failure: str | None = None
    parent: str = ""
    children: dict[str, str] = field(default_factory=dict)
    deadlines: dict[str, datetime] = field(default_factory=dict)
    inbox: list[WaitingMessageSeen] = field(default_factory=list)
    waiting: int = 0
    jobs: list[JobSeen] = field(default_factory=list)
    dead_letters: list[DeadLetterSeen] = field(default_factory=list)
    quarantine: QuarantineSeen | None = None
    problem: str = ""
    purged: bool = False
