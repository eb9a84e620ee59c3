"""What happens in a runtime, told to whoever asks: typed events, and the base of those who hear.

    class Alerts(Observer):
        def process_stopped(self, event):
            if event.status == "failed":
                page(f"{event.name} {event.process_id} has failed")

    Runtime("sqlite+aiosqlite:///orders.db", [OrderFulfilment], observers=[Alerts()])

The first four events are those of evoq's process managers (``[evoq, process_manager, start | stop |
command | compensate]``), with its fields under its names. What concerns a turn is told after its
commit, once for each committed turn of this runtime's life: a repeated message tells nothing, nor
does rehydration. (A turn whose commit had an unknown outcome is told when it was read back; if the
runtime stops before that, it is not.) Plain data; knows no runtime.
Next to read: ``runtime/announcing.py``, which tells; ``ops/prometheus.py``, who hears.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

__all__ = [
    "HOOKS",
    "BatchCommitted",
    "CommandSent",
    "CompensationBegun",
    "DeadLettered",
    "DeadlineFired",
    "JobFinished",
    "JobStarted",
    "Observer",
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


class Observer:
    """Hears what happens in a runtime. Override what you want to hear; the rest costs nothing.

        class Slow(Observer):
            def deadline_fired(self, event: DeadlineFired) -> None:
                if event.lateness_s > 60:
                    print(event.name, event.deadline, "came late")

    Called on the runtime's event loop, between two pieces of its work: be quick, and hand on what
    takes time. What a method raises is logged once for each kind, and harms nobody.
    """

    # The four of the process managers

    def process_started(self, event: ProcessStarted) -> None:
        """Once for each new instance."""
        self.record_process_started(event.name)

    def process_stopped(self, event: ProcessStopped) -> None:
        """Once for each instance that ends."""
        record = self.record_process_completed
        if event.status != "completed":
            record = self.record_process_failed
        record(event.name, event.duration)

    def command_sent(self, event: CommandSent) -> None:
        """Once for each command."""

    def compensation_begun(self, event: CompensationBegun) -> None:
        """Once for each compensation."""

    # The same as plain calls (the hooks of EventCore's ProcessMetrics)

    def record_process_started(self, process_type: str) -> None:
        """An instance of this saga has started."""

    def record_process_completed(self, process_type: str, duration: timedelta) -> None:
        """An instance of this saga has completed."""

    def record_process_failed(self, process_type: str, duration: timedelta) -> None:
        """An instance of this saga has failed."""

    # Turns and what they are written with

    def turn_committed(self, event: TurnCommitted) -> None:
        """Once for each turn."""

    def batch_committed(self, event: BatchCommitted) -> None:
        """Once for each transaction."""

    def snapshot_taken(self, event: SnapshotTaken) -> None:
        """Once for each snapshot."""

    def deadline_fired(self, event: DeadlineFired) -> None:
        """Once for each turn that a deadline led to."""

    # Instances

    def rehydrated(self, event: Rehydrated) -> None:
        """Each time an instance comes into memory again."""

    def passivated(self, event: Passivated) -> None:
        """Each time an instance leaves memory."""

    def process_stuck(self, event: ProcessStuck) -> None:
        """Each time an instance gets stuck."""

    def quarantined(self, event: Quarantined) -> None:
        """Each time an instance is set aside."""

    def released(self, event: Released) -> None:
        """Each time an instance is released from its quarantine."""

    # Failure and work

    def retrying(self, event: Retrying) -> None:
        """Each time a message or a job is to be tried again."""

    def dead_lettered(self, event: DeadLettered) -> None:
        """Once for each dead letter."""

    def send_refused(self, event: SendRefused) -> None:
        """Once for each message that is not taken."""

    def job_started(self, event: JobStarted) -> None:
        """Once for each attempt."""

    def job_finished(self, event: JobFinished) -> None:
        """Once for each attempt."""

    # The runtime

    def runtime_started(self) -> None:
        """The runtime runs."""

    def runtime_stopped(self) -> None:
        """The runtime has stopped; it may be started again."""


HOOKS: dict[type, tuple[str, ...]] = {
    ProcessStarted: ("process_started", "record_process_started"),
    ProcessStopped: (
        "process_stopped",
        "record_process_completed",
        "record_process_failed",
    ),
    CommandSent: ("command_sent",),
    CompensationBegun: ("compensation_begun",),
    TurnCommitted: ("turn_committed",),
    BatchCommitted: ("batch_committed",),
    SnapshotTaken: ("snapshot_taken",),
    DeadlineFired: ("deadline_fired",),
    Rehydrated: ("rehydrated",),
    Passivated: ("passivated",),
    ProcessStuck: ("process_stuck",),
    Quarantined: ("quarantined",),
    Released: ("released",),
    Retrying: ("retrying",),
    DeadLettered: ("dead_lettered",),
    SendRefused: ("send_refused",),
    JobStarted: ("job_started",),
    JobFinished: ("job_finished",),
}
"""The method that hears each event; it is called if one of those named here is overridden."""
