"""How long an instance is kept after its end, and what is still known of it after that. Pure.

    class OrderFulfilment(ProcessManager[OrderState]):
        retention = Retention.keep_for(timedelta(days=30), failed=timedelta(days=365))

An instance whose time is over is *purged*: its journal, state and head go, and a tombstone stays,
which knows its messages and how it ended. So a message that is repeated does not revive it. When
the tombstone's own time is over, it is as if the instance had never been.
Next to read: ``runtime/retention/purging.py``, which does it; ``commit.py``, ``Purge``.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from perdure.core.commit import Status
from perdure.errors import DefinitionError

__all__ = ["KEEP", "Retention", "checked_retention"]

LONGEST = timedelta(days=100 * 366)

_WEEK = timedelta(days=7)
_NO_TIME = timedelta(0)


@dataclass(frozen=True, slots=True)
class Retention:
    """How long instances of a saga are kept after their end; made by one of its three functions.

        Retention.keep()                                         # for ever, the default
        Retention.keep_for(timedelta(days=30), failed="keep")    # those that failed for ever
        Retention.delete(tombstone=timedelta(hours=1))           # as soon as they have ended

    ``completed`` and ``failed`` are the times after the end, None for ever; ``tombstone`` is for
    how long after that a message is not taken for the first one of a new instance.
    Raises ``DefinitionError`` for what is no time.
    """

    completed: timedelta | None = None
    failed: timedelta | None = None
    tombstone: timedelta = _WEEK

    def __post_init__(self) -> None:
        for name, time in (("completed", self.completed), ("failed", self.failed)):
            if time is not None and not _is_time(time):
                raise _no_time(name, time, "from 0 to a hundred years")
        if not _is_time(self.tombstone) or not self.tombstone:
            raise _no_time("tombstone", self.tombstone, "above 0, up to a hundred years")

    @classmethod
    def keep(cls) -> Retention:
        """Instances are kept for ever."""
        return cls()

    @classmethod
    def keep_for(
        cls,
        after: timedelta,
        *,
        failed: timedelta | Literal["keep"] | None = None,
        tombstone: timedelta = _WEEK,
    ) -> Retention:
        """Instances are purged so long after their end; those that failed after ``failed``."""
        if not isinstance(after, timedelta):
            raise _no_time("keep_for", after, "from 0 to a hundred years")
        for_failed = after if failed is None else None if failed == "keep" else failed
        return cls(after, for_failed, tombstone)

    @classmethod
    def delete(
        cls,
        *,
        failed: timedelta | Literal["keep"] | None = None,
        tombstone: timedelta = _WEEK,
    ) -> Retention:
        """Instances are purged as soon as they have ended; those that failed after ``failed``."""
        return cls.keep_for(_NO_TIME, failed=failed, tombstone=tombstone)

    def kept_ms(self, status: Status) -> int | None:
        """For how long an instance that ended so is kept; None: for ever."""
        after = self.completed if status is Status.COMPLETED else self.failed
        return None if after is None or not status.is_over else after // timedelta(milliseconds=1)

    @property
    def tombstone_ms(self) -> int:
        """For how long a tombstone stays."""
        return max(1, self.tombstone // timedelta(milliseconds=1))


def checked_retention(saga: str, found: object) -> Retention:
    """What a saga says of its retention, None if nothing. Raises ``DefinitionError``."""
    if found is None:
        return KEEP
    if isinstance(found, Retention):
        return found
    raise DefinitionError(
        f"retention is {found!r}",
        saga=saga,
        remedy="give Retention.keep(), .keep_for(timedelta(…)) or .delete(), with its parentheses",
    )


def _is_time(value: object) -> bool:
    return isinstance(value, timedelta) and _NO_TIME <= value <= LONGEST


def _no_time(name: str, value: object, wanted: str) -> DefinitionError:
    return DefinitionError(f"Retention: {name} is {value!r}", remedy=f"give a timedelta {wanted}")


KEEP = Retention()
