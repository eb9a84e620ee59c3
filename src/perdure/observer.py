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
runtime stops before that, it is not.) Knows no runtime.
Next to read: ``observations.py``, the events; ``runtime/watching/announcing.py``, which tells;
``ops/prometheus.py``, who hears.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from perdure.observations import (
    BatchCommitted,
    CommandSent,
    CompensationBegun,
    DeadLettered,
    DeadlineFired,
    JobFinished,
    JobStarted,
    Passivated,
    ProcessStarted,
    ProcessStopped,
    ProcessStuck,
    Quarantined,
    Rehydrated,
    Released,
    Retrying,
    SendRefused,
    SnapshotTaken,
    TurnCommitted,
)

__all__ = [
    "HOOKS",
    "RECORDS",
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
    "unheard",
]


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

    # Plain calls for those who count: no event is made for them, so that they cost next to nothing

    def record_turn(self, process_type: str, outcome: str) -> None:
        """An instance of this saga has taken a turn."""

    def record_end(self, process_type: str, status: str, seconds: float) -> None:
        """An instance of this saga is "completed" or "failed", so long after its first turn."""

    def record_attempt(self, queue: str, outcome: str, seconds: float) -> None:
        """An attempt at a job of this queue has ended; ``outcome`` as in ``JobFinished``."""

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

RECORDS = ("record_turn", "record_end", "record_attempt")


def unheard(self: Observer, event: Any) -> None:
    """Assigned to a method of an observer: it does not hear the event, whatever it overrides."""
