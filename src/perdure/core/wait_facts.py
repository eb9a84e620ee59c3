"""Why an instance waits: what has to be known for it, and what is answered. Plain data.

    gathered at the edge ─> Facts ─> reasons(facts) ─> [WaitingFor, …]

The same for a live runtime (``runtime/looking/why.py``) and for a store that is only looked at
(``ops/inspection.py``), which knows less: None stands for what it cannot see. Next to read:
``waiting.py``, which makes the one of the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from perdure.core.commit import DeadLetterRow, InboxRow, OutboxRow, QuarantineRow, Status

__all__ = ["ChildFact", "Facts", "MailFact", "QueueFact", "Running", "WaitKind", "WaitingFor"]


class WaitKind(StrEnum):
    """What an instance waits for, or why it does not go on, in a word."""

    ABSENT = "absent"
    """There is no such instance."""
    PARKED = "parked"
    """A message waits for the instance to begin."""
    UNREADABLE = "unreadable"
    """Its rows are damaged, or not understood by this code."""
    QUARANTINED = "quarantined"
    """It is set aside."""
    COMPLETED = "completed"
    FAILED = "failed"
    STUCK = "stuck"
    """Somebody has to see to it."""
    RETRY = "retry"
    """A message whose turn has failed is tried again."""
    MAIL = "mail"
    """Messages were accepted for it, and the owner of its shard has not taken them yet."""
    QUEUED = "queued"
    """Messages wait behind another one."""
    DEAD_LETTER = "dead letter"
    COMMAND = "command"
    """A command it has sent is not done."""
    APPROVAL = "approval"
    """People have to decide."""
    STEP = "step"
    EVENT = "event"
    SLEEP = "sleep"
    CHILD = "child"
    SCHEDULE = "schedule"
    DEADLINE = "deadline"
    MESSAGE = "message"
    """It takes whatever comes."""


@dataclass(frozen=True, slots=True)
class WaitingFor:
    """One reason why an instance waits. ``text`` says it all, in plain words.

    ``name`` is that of the deadline, step, event, child or message type; ``id`` that of the
    command, message, child or approval. ``at`` is when something happens by itself (a deadline is
    due, the next attempt begins, an approval expires), ``since`` when it began. ``attempts`` have
    failed, the last one with ``error``. ``names`` are those who may decide, or the types that are
    taken. ``count`` is how many messages or letters it is about. ``remedy`` is what somebody can
    do, "" if nothing has to be done.
    """

    kind: WaitKind
    text: str
    name: str = ""
    id: str = ""
    queue: str = ""
    at: datetime | None = None
    since: datetime | None = None
    attempts: int = 0
    error: str = ""
    names: tuple[str, ...] = ()
    count: int = 0
    remedy: str = ""

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Running:
    """An attempt that is under way."""

    attempt: int
    since_ms: int


@dataclass(frozen=True, slots=True)
class QueueFact:
    """A work queue that holds commands of the instance.

    ``is_performed``: somebody here performs it, None: that cannot be seen. ``running`` are the
    attempts under way, by position, None: that cannot be seen; ``concurrency`` so many may be.
    ``first`` is the oldest job of a sequential queue.
    """

    is_paused: bool = False
    reason: str = ""
    since_ms: int = 0
    is_performed: bool | None = None
    running: Mapping[int, Running] | None = None
    concurrency: int = 0
    first: OutboxRow | None = None
    attempts_max: int | None = None


@dataclass(frozen=True, slots=True)
class ChildFact:
    """An open child: its key, and how it stands, None if there is no such instance (yet)."""

    name: str
    key: str
    status: Status | None = None
    detail: str = ""
    state: Any = None
    is_quarantined: bool = False


@dataclass(frozen=True, slots=True)
class MailFact:
    """So many messages are in the mail for the instance. ``owner`` of the shard, "" for none."""

    shard: int
    count: int
    since_ms: int
    owner: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one instance, at ``now_ms``.

    ``status`` is None if it does not exist. ``state`` is its state if that could be had: those of
    ordered sagas, workflows and approvals are understood. ``steps`` are the names of the steps that
    jobs perform, by their position. ``takes`` are the type names it is interested in, None: that
    cannot be seen. ``problem`` is why it could not be read. ``is_live``: a runtime is at it.
    """

    saga: str
    correlation_id: str
    now_ms: int
    is_live: bool = True
    status: Status | None = None
    detail: str = ""
    updated_at_ms: int = 0
    state: Any = None
    problem: str = ""
    deadlines: Mapping[str, int] = field(default_factory=dict)
    jobs: tuple[OutboxRow, ...] = ()
    steps: Mapping[int, str] = field(default_factory=dict)
    queues: Mapping[str, QueueFact] = field(default_factory=dict)
    children: tuple[ChildFact, ...] = ()
    inbox: tuple[InboxRow, ...] = ()
    types: Mapping[str, str] = field(default_factory=dict)
    waiting: int = 0
    letters: tuple[DeadLetterRow, ...] = ()
    quarantine: QuarantineRow | None = None
    takes: tuple[str, ...] | None = None
    is_schedule: bool = False
    is_paused: bool = False
    rows_max: int = 100
    mail: MailFact | None = None
