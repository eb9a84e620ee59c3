"""What sagas and work queues declare, as plain frozen values: names, numbers, and words.

Messages and commands are called by the names they are stored under. What a saga does not have is
empty. Next to read: ``describe.py``, who makes them; ``sheets.py``, how they are told.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = [
    "Description",
    "Guard",
    "Kind",
    "Queue",
    "Retry",
    "Saga",
    "Step",
    "Taken",
    "Told",
    "Undo",
    "WorkerOf",
]


class Kind(StrEnum):
    """How a saga is written."""

    PROCESS_MANAGER = "process manager"
    ORDERED_SAGA = "ordered saga"
    WORKFLOW = "workflow"
    COROUTINE = "coroutine workflow"
    SCHEDULE = "schedule"
    OTHER = "saga of another kind"


@dataclass(frozen=True, slots=True)
class Guard:
    """When a handler is admitted: in one of these statuses, or as a function says, by its name."""

    statuses: tuple[str, ...] = ()
    condition: str = ""


@dataclass(frozen=True, slots=True)
class Taken:
    """A message type that a saga takes.

    ``role`` is "starts", "continues" or "stops", "" if only its code says; ``by`` how its instance
    is found. ``guards`` has one for each handler that is not always admitted.
    """

    type: str
    role: str = ""
    by: str = ""
    guards: tuple[Guard, ...] = ()
    strict: bool = False


@dataclass(frozen=True, slots=True)
class Told:
    """Something the runtime tells a saga, that has a handler. ``name`` "": any."""

    name: str
    guards: tuple[Guard, ...] = ()


@dataclass(frozen=True, slots=True)
class Retry:
    """How often in all (None: for ever), and the same with the pauses in words."""

    attempts: int | None
    text: str


@dataclass(frozen=True, slots=True)
class Undo:
    """What undoes a step."""

    name: str
    about: str
    retry: Retry


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A step. ``after`` are those right before it, by name.

    ``undo`` None: nothing is to be undone, or it is ``past_return``: the pivot, or behind it, or
    nothing is ever undone. ``deadline_s`` bounds all attempts together, ``lease_s`` each one.
    """

    name: str
    about: str
    queue: str
    after: tuple[str, ...]
    retry: Retry
    lease_s: float
    deadline_s: float | None = None
    undo: Undo | None = None
    undoes_unknown: bool = False
    is_pivot: bool = False
    past_return: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Saga:
    """What a saga declares.

    ``statuses`` are those its state's ``status`` may have, as far as the state class says: None if
    it does not, () if it has none. ``by_hand`` are the callbacks that are written by hand, of which
    only their code says what they do. ``takes_failures``: some code of it is concerned by any
    command that has failed for good. ``timing``, ``missed`` and ``calls`` are those of a schedule.
    """

    name: str
    kind: Kind
    about: str = ""
    state: str = ""
    statuses: tuple[str, ...] | None = None
    indexed: tuple[str, ...] = ()
    messages: tuple[Taken, ...] = ()
    by_hand: tuple[str, ...] = ()
    deadlines: tuple[Told, ...] = ()
    timeout_s: float | None = None
    timeout_retry: Retry | None = None
    handles_timeout: bool = False
    failures: tuple[Told, ...] = ()
    compensates: tuple[str, ...] = ()
    takes_failures: bool = False
    children: tuple[Told, ...] = ()
    handles_cancel: bool = False
    starts_missing: bool = False
    on_missing: str = ""
    retry: Retry | None = None
    lets_pass: bool = False
    supervision: str = ""
    retention: str = ""
    steps: tuple[Step, ...] = ()
    timing: str = ""
    missed: str = ""
    calls: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOf:
    """A worker or a subscriber of a queue. ``returns`` None: it is not stated."""

    name: str
    about: str
    takes: tuple[str, ...]
    returns: tuple[str, ...] | None
    is_subscriber: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """A work queue. Without ``workers`` it is performed elsewhere.

    ``may_fail``: a job can fail for good, other than by ``NonRetryable``.
    """

    name: str
    workers: tuple[WorkerOf, ...]
    concurrency: int
    retry: Retry
    lease_s: float
    rate: str = ""
    sequential: bool = False
    pause_after: int | None = None
    non_retryable: tuple[str, ...] = ()
    may_fail: bool = True


@dataclass(frozen=True, slots=True)
class Description:
    """Everything an application gives its runtime. The queues of steps are told as steps."""

    sagas: tuple[Saga, ...] = ()
    queues: tuple[Queue, ...] = ()
