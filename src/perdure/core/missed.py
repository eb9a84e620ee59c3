"""Which of the runs that are due are made, when nobody looked at a schedule for a while.

    Coalesce()                              # one run for all that were missed, the latest
    CatchUp(most=24)                        # each of them, oldest first, the latest 24 at most
    Skip(grace=timedelta(minutes=5))        # the latest, unless it is more than five minutes late

Every run passes here: one that is on time is the only one due. Frozen values, checked when they are
made. Next to read: ``perdure/schedule.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar, TypeAlias

from perdure.core.outgoing import milliseconds
from perdure.core.retry import check_number
from perdure.errors import DefinitionError

__all__ = ["CatchUp", "Coalesce", "MissedPolicy", "Skip"]

CATCH_UP_MAX = 1_000
"""So many runs are caught up at most: one turn arms them all."""

GRACE_MAX = timedelta(days=36_525)


@dataclass(frozen=True)
class Coalesce:
    """One run for all that were missed, at the latest of their moments."""

    most: ClassVar[int] = 1
    """How many of the latest runs it looks at."""

    def made(self, due: Sequence[int], now_ms: int) -> Sequence[int]:
        """Those of the latest due runs (ms, oldest first) that are made."""
        return due


@dataclass(frozen=True)
class CatchUp:
    """Each missed run is made, oldest first; of more than ``most``, only the latest ones are.

    Raises ``DefinitionError`` unless ``most`` is from 1 to 1000.
    """

    most: int = 100

    def __post_init__(self) -> None:
        check_number("CatchUp.most", self.most, 1, CATCH_UP_MAX, is_whole=True)

    def made(self, due: Sequence[int], now_ms: int) -> Sequence[int]:
        """Those of the latest due runs (ms, oldest first) that are made."""
        return due


@dataclass(frozen=True)
class Skip:
    """Nothing is made up for: only the latest run is made, and only if it is not later than this.

    ``grace`` is for the lateness that any run may have; a run is never on time to the millisecond.
    Raises ``DefinitionError`` unless it is from a second to a hundred years.
    """

    grace: timedelta = timedelta(minutes=1)

    most: ClassVar[int] = 1
    """How many of the latest runs it looks at."""

    def __post_init__(self) -> None:
        grace: object = self.grace
        if not isinstance(grace, timedelta) or not timedelta(seconds=1) <= grace <= GRACE_MAX:
            raise DefinitionError(
                f"Skip.grace is {grace!r}",
                remedy="give a timedelta from a second to a hundred years",
            )

    def made(self, due: Sequence[int], now_ms: int) -> Sequence[int]:
        """Those of the latest due runs (ms, oldest first) that are made."""
        return [run for run in due if now_ms - run <= milliseconds(self.grace)]


MissedPolicy: TypeAlias = Coalesce | CatchUp | Skip
"""What becomes of the runs that were due while nobody looked."""
