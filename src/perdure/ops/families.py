"""The metrics by name: what each counts, in which unit, under which labels. Plain data.

One table, from which the exposition, the guide's list and the dashboard's test are made. Next to
read: ``prometheus.py``, which fills it; ``spread.py``, the histograms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["COUNT_BOUNDS", "FAMILIES", "SIZE_BOUNDS", "TIME_BOUNDS", "Family"]

TYPE = "process_type"
"""The label of a saga's name, as EventCore calls it."""

COUNT_BOUNDS = (1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1_000.0)
TIME_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)
LATE_BOUNDS = (0.001, 0.01, 0.1, 0.5, 1.0, 5.0, 30.0, 60.0, 600.0, 3_600.0)
SIZE_BOUNDS = (256.0, 1_024.0, 4_096.0, 16_384.0, 65_536.0, 262_144.0, 1_048_576.0)
AGE_BOUNDS = (
    0.1, 1.0, 10.0, 60.0, 300.0, 900.0, 3_600.0, 21_600.0, 86_400.0, 604_800.0, 2_592_000.0,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Family:
    """One metric, without the prefix; of a counter also without ``_total``."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()
    is_stored: bool = False
    """Read from the store: right after a restart, and the same for all processes that look."""

    @property
    def series(self) -> tuple[str, ...]:
        """The names that a query may use."""
        if self.kind == "counter":
            return (f"{self.name}_total",)
        if self.kind == "gauge":
            return (self.name,)
        return (f"{self.name}_bucket", f"{self.name}_sum", f"{self.name}_count")


def _counter(name: str, text: str, *labels: str, is_stored: bool = False) -> Family:
    return Family(name, "counter", text, labels, (), is_stored)


def _gauge(name: str, text: str, *labels: str, is_stored: bool = False) -> Family:
    return Family(name, "gauge", text, labels, (), is_stored)


def _histogram(name: str, text: str, bounds: tuple[float, ...], *labels: str) -> Family:
    return Family(name, "histogram", text, labels, bounds)


_ALL = (
    _counter("processes_started", "Processes ever started.", TYPE, is_stored=True),
    _counter("processes_completed", "Processes ever completed.", TYPE, is_stored=True),
    _counter("processes_failed", "Processes that have ever failed.", TYPE, is_stored=True),
    _histogram(
        "process_duration_seconds",
        "From the first turn to completion, of processes completed since this runtime was made.",
        AGE_BOUNDS,
        TYPE,
    ),
    _gauge("active_processes", "Processes that have not ended.", TYPE, is_stored=True),
    _gauge("stuck_processes", "Processes that somebody has to see to.", TYPE, is_stored=True),
    _gauge("quarantined_processes", "Processes that are set aside.", TYPE),
    _gauge("resident_processes", "Processes in memory."),
    _counter("turns", "Turns committed, by what became of the message.", TYPE, "outcome"),
    _histogram("commit_entries", "Entries written by one transaction.", COUNT_BOUNDS),
    _histogram("commit_seconds", "Time one transaction took.", TIME_BOUNDS),
    _gauge("mailbox_messages", "Messages accepted and not committed."),
    _gauge("waiting_senders", "Messages that wait for room to be accepted."),
    _counter("send_refusals", "Messages not taken, by the error their senders got.", TYPE, "error"),
    _gauge("inbox_messages", "Messages that wait in the store for their turn.", is_stored=True),
    _counter("rehydrations", "Processes that came into memory again.", TYPE),
    _counter("passivations", "Processes that left memory.", TYPE),
    _histogram(
        "deadline_lateness_seconds",
        "How long after it was due a deadline had its turn.",
        LATE_BOUNDS,
        TYPE,
    ),
    _gauge("queue_jobs", "Jobs that wait or are performed.", "queue", is_stored=True),
    _gauge("queue_oldest_job_seconds", "Age of a queue's oldest job.", "queue", is_stored=True),
    _gauge("queue_running_jobs", "Jobs that a worker is at.", "queue"),
    _gauge("queue_paused", "1 if the queue starts nothing, else 0.", "queue"),
    _counter("job_attempts", "Attempts at jobs that have ended, by how.", "queue", "outcome"),
    _histogram("job_seconds", "Time one attempt at a job took.", TIME_BOUNDS, "queue"),
    _counter("retries", "Messages and jobs to be tried again.", TYPE, "what"),
    _counter("dead_letters", "Messages and jobs that became dead letters.", TYPE, "what"),
    _gauge("dead_letters_kept", "Dead letters in the store.", "what", is_stored=True),
    _counter("compensations", "Times that what was done had to be made up for.", TYPE),
    _counter("quarantines", "Times that a process was set aside.", TYPE),
    _histogram(
        "state_bytes", "Size of a process's state, as its snapshots have it.", SIZE_BOUNDS, TYPE
    ),
    _counter("spans_left_out", "Spans of turns and jobs that there would have been too many of."),
    _gauge("store_size_bytes", "What the store takes where it is kept.", is_stored=True),
    _gauge("store_up", "1 if the store has answered this scrape, else 0: its figures are old."),
)

FAMILIES = {family.name: family for family in _ALL}
