"""The events of a runtime that observers hear: plain, frozen values.

``name`` is the saga's, ``process_id`` the instance's correlation id. The first four are those of
evoq's process managers, with its fields under its names. Next to read: ``observer.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

__all__ = [
    "BatchCommitted",
    "CommandSent",
    "CompensationBegun",
    "DeadLettered",
    "DeadlineFired",
    "JobFinished",
    "JobStarted",
    "Passivated",
    "ProcessStarted",
    "ProcessStopped",
    "ProcessStuck",
    "Quarantined",
    "Rehydrated",
    "Released",
    "Retrying",
    "SendRefused",
    "SnapshotTaken",
    "TurnCommitted",
]


@dataclass(frozen=True, slots=True)
class ProcessStarted:
    """A new instance has taken its first turn."""

    system_time: datetime
    name: str
    process_id: str


@dataclass(frozen=True, slots=True)
class ProcessStopped:
    """An instance has ended; ``status`` is "completed" or "failed".

    ``duration`` counts from its first turn, also over restarts of the runtime.
    """

    duration: timedelta
    name: str
    process_id: str
    final_state: Any
    status: str


@dataclass(frozen=True, slots=True)
class CommandSent:
    """A turn has sent a command. ``queue`` is its work queue, "" where a saga takes it.

    The steps of ordered sagas and workflows are commands, too: ``queue`` names the step.
    """

    system_time: datetime
    name: str
    command_type: str
    process_id: str
    command_id: str
    queue: str


@dataclass(frozen=True, slots=True)
class CompensationBegun:
    """What was done is made up for, since ``failed_command`` has failed: its type's name.

    Of an ordered saga, or a workflow that is a list, the name of the step that has failed; "" if
    none has: it was cancelled, or timed out.
    """

    system_time: datetime
    name: str
    failed_command: str
    process_id: str


@dataclass(frozen=True, slots=True)
class TurnCommitted:
    """A turn is durable. ``outcome`` is a value of ``Outcome``."""

    name: str
    process_id: str
    outcome: str
    message_type: str
    message_id: str
    sequence_nr: int


@dataclass(frozen=True, slots=True)
class BatchCommitted:
    """One transaction wrote ``size`` entries: turns, and the few other things that are written."""

    size: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Rehydrated:
    """An instance that exists has come into memory."""

    name: str
    process_id: str


@dataclass(frozen=True, slots=True)
class Passivated:
    """An instance has left memory."""

    name: str
    process_id: str


@dataclass(frozen=True, slots=True)
class Retrying:
    """Handling a message, or performing a job of ``queue``, has failed and is tried again.

    ``queue`` is "" for a message. ``attempt`` is the one that has failed, the first is 1.
    """

    name: str
    process_id: str
    queue: str
    message_type: str
    message_id: str
    attempt: int
    delay_s: float


@dataclass(frozen=True, slots=True)
class DeadLettered:
    """A message, or a job of ``queue``, is a dead letter. ``name`` is "" if no saga sent it."""

    name: str
    process_id: str
    queue: str
    message_type: str
    message_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Quarantined:
    """An instance is set aside; ``reason`` as in ``QuarantinedInstance``."""

    name: str
    process_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Released:
    """An instance is not set aside any more."""

    name: str
    process_id: str


@dataclass(frozen=True, slots=True)
class DeadlineFired:
    """An instance was told of a deadline, ``lateness_s`` after it was due."""

    name: str
    process_id: str
    deadline: str
    lateness_s: float


@dataclass(frozen=True, slots=True)
class ProcessStuck:
    """An instance goes on only when somebody has seen to it."""

    name: str
    process_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class SendRefused:
    """A message was not taken, and its sender told so; ``reason`` is the name of the error.

    Not for what a handler made of it: that is a dead letter, or a turn.
    """

    name: str
    process_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class JobStarted:
    """A worker begins an attempt at a job; told at once, since nothing need be written first."""

    queue: str
    name: str
    process_id: str
    command_type: str
    job_id: str
    attempt: int


@dataclass(frozen=True, slots=True)
class JobFinished:
    """An attempt has ended, told at once; ``error`` is the name of the error's class, or "".

    ``outcome``: "succeeded", "retried", "given up" (a dead letter), "cancelled", "abandoned" (the
    runtime stops; the next one does it again).
    """

    queue: str
    name: str
    process_id: str
    command_type: str
    job_id: str
    attempt: int
    outcome: str
    seconds: float
    error: str


@dataclass(frozen=True, slots=True)
class SnapshotTaken:
    """A snapshot was written; ``size_bytes`` is about what the instance's state has."""

    name: str
    process_id: str
    size_bytes: int
