"""What a repair comes to, as people see it. Plain values. Next to read: ``repair.py``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from perdure.core.commit import Status
from perdure.runtime.looking.history import Sent

__all__ = ["Audited", "Repaired", "Tried"]


@dataclass(frozen=True, slots=True)
class Repaired:
    """What was done, or with ``dry_run`` would be; ``text`` says it in plain words.

    ``sequence_nr`` is the turn in which it stands in the journal, None where nothing was written:
    in a dry run, and for what no saga has sent (which the log tells of). ``status_before`` and
    ``status_after`` are the instance's; ``commands`` what the turn sends, ``events`` what it
    records, ``deadlines_set`` and ``deadlines_cleared`` what it changes of those. ``jobs`` are the
    ids of the commands that were hurried, put back or taken away, ``letters`` the dead letters
    that are gone. ``duplicate``: it had been done before, under the same message id.
    """

    action: str
    saga: str
    correlation_id: str
    text: str
    dry_run: bool
    sequence_nr: int | None = None
    status_before: Status | None = None
    status_after: Status | None = None
    commands: tuple[Sent, ...] = ()
    events: tuple[Any, ...] = ()
    deadlines_set: Mapping[str, datetime] = field(default_factory=dict)
    deadlines_cleared: tuple[str, ...] = ()
    jobs: tuple[str, ...] = ()
    letters: tuple[int, ...] = ()
    duplicate: bool = False

    def __str__(self) -> str:
        would = "would be: " if self.dry_run else ""
        where = f"{self.saga} {self.correlation_id!r}: " if self.saga else ""
        changed = ""
        if self.status_before is not self.status_after:
            changed = f" ({self.status_before} -> {self.status_after})"
        return f"{where}{would}{self.text}{changed}"


@dataclass(frozen=True, slots=True)
class Tried:
    """One of many repairs: what it was asked of, and what came of it, or why nothing did."""

    asked: Any
    repaired: Repaired | None = None
    error: Exception | None = None

    @property
    def is_done(self) -> bool:
        """It was repaired."""
        return self.error is None


@dataclass(frozen=True, slots=True)
class Audited:
    """An intervention as it stands in the journal of an instance: who did what to it, why, when."""

    sequence_nr: int
    at: datetime
    action: str
    by: str
    why: str
    text: str
    about: str
    message_id: str

    def __str__(self) -> str:
        return f"{self.at.isoformat()} {self.action} by {self.by} ({self.why}): {self.text}"
