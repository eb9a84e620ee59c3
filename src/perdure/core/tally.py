"""How many instances of a saga there are, and were: one tally per saga, changed head by head.

A tally is kept in the commit of the heads that it counts, so it is never ahead of them nor behind.
Pure, and shared by every store. Knows no SQL. Next to read: ``store/sql_heads.py``.
"""

from __future__ import annotations

from dataclasses import dataclass

from perdure.core.commit import HeadRow, Status

__all__ = ["TallyRow", "count_head"]


@dataclass(slots=True)
class TallyRow:
    """Counts of one saga's instances.

    ``started``, ``completed`` and ``failed`` are counted for ever, also of instances that were
    purged since; the others are those that there are now. ``duration_ms`` is the sum, over
    ``completed``, from start to end. ``indexed`` are the fields that are indexed for every
    instance, by name.
    """

    saga: str
    started: int = 0
    completed: int = 0
    failed: int = 0
    running: int = 0
    stuck: int = 0
    kept_completed: int = 0
    kept_failed: int = 0
    duration_ms: int = 0
    indexed: tuple[str, ...] = ()

    @property
    def kept(self) -> int:
        """How many instances there are."""
        return self.running + self.stuck + self.kept_completed + self.kept_failed


_NOW = {
    Status.RUNNING: "running",
    Status.STUCK: "stuck",
    Status.COMPLETED: "kept_completed",
    Status.FAILED: "kept_failed",
}


def count_head(tally: TallyRow, before: HeadRow | None, after: HeadRow | None) -> None:
    """Count in that a head takes the place of another; None: there was, or will be, none.

    A field stays indexed only as long as every head has it; the first head says which there are.
    """
    if after is not None:
        names = tuple(name for name, _ in after.fields)
        if not tally.kept:
            tally.indexed = names
        elif tally.indexed and tally.indexed != names:
            tally.indexed = tuple(name for name in tally.indexed if name in names)
    was = None if before is None else before.status
    is_now = None if after is None else after.status
    if was is is_now:
        return
    if was is not None:
        setattr(tally, _NOW[was], getattr(tally, _NOW[was]) - 1)
    else:
        tally.started += 1
    if after is None:
        return
    setattr(tally, _NOW[after.status], getattr(tally, _NOW[after.status]) + 1)
    if after.status is Status.FAILED:
        tally.failed += 1
    elif after.status is Status.COMPLETED:
        tally.completed += 1
        tally.duration_ms += max(0, after.updated_at_ms - after.started_at_ms)
