"""How a runtime is: its phase, how full it is, whether it can write, what of it keeps failing.

    vitals = runtime.vitals()
    print(vitals.phase, vitals.in_flight, vitals.write_error)

Read from memory at once, at any time, also before the start and after the stop. Decides nothing:
what is worth a word is said in ``ops/health.py``. Next to read: ``lifecycle.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from perdure.core.described import in_short

__all__ = ["Phase", "Trouble", "Troubles", "Vitals"]


class Phase(StrEnum):
    """Where a runtime stands in its life; it can be started again once it has stopped."""

    NEW = "new"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Trouble:
    """Background work that has failed ``failures`` times in a row, and is tried again."""

    what: str
    failures: int
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Vitals:
    """A runtime at one moment, ``at_ms`` of its clock.

    ``escalated`` is why a saga has stopped it. ``in_flight`` of ``in_flight_max`` messages are
    accepted and not answered; further ones wait for room. ``write_error``: the last write failed;
    ``writing_s``: for so long the write under way has been. ``blocks`` times user code has blocked
    the event loop, the last time ``blocked_s`` ago. ``under_way`` are the positions of the jobs
    that workers are at.
    """

    phase: Phase
    at_ms: int
    escalated: str | None = None
    residents: int = 0
    in_flight: int = 0
    in_flight_max: int = 0
    write_error: str | None = None
    writing_s: float = 0.0
    troubles: tuple[Trouble, ...] = ()
    blocks: int = 0
    blocked_s: float | None = None
    under_way: frozenset[int] = frozenset()

    @property
    def is_ready(self) -> bool:
        """It takes messages, and what it writes is kept."""
        return self.phase is Phase.RUNNING and self.write_error is None


class Troubles:
    """The background work of one runtime that fails at the moment; each under its own ``key``."""

    def __init__(self) -> None:
        self._present: dict[object, Trouble] = {}

    def failed(self, key: object, what: str, failures: int, error: BaseException) -> None:
        """It has failed so many times in a row."""
        self._present[key] = Trouble(what, failures, in_short(error))

    def over(self, key: object) -> None:
        """It works again, or nobody wants it any more."""
        self._present.pop(key, None)

    def present(self) -> tuple[Trouble, ...]:
        """Those there are, the one that has failed most often first."""
        found = self._present.values()
        return tuple(sorted(found, key=lambda trouble: (-trouble.failures, trouble.what)))
