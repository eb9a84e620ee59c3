"""What is on its way to the store for a job, and what follows when it is there.

Next to read: ``settling.py``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from perdure.core.commit import Entry, OutboxRow, QueueRow, Settlement
from perdure.errors import Gone, StoreError

if TYPE_CHECKING:
    from perdure.runtime.jobs.settling import Settling

__all__ = [
    "Awaited",
    "Claimed",
    "JobTicket",
    "Jobs",
    "Paused",
    "Rewritten",
    "Settled",
    "nothing",
]

logger = logging.getLogger("perdure.workers")


class Jobs(Protocol):
    """Who is told what became of a job; the dispatcher."""

    def committed(self, rows: Sequence[OutboxRow]) -> None: ...

    def doubtful(self, rows: Sequence[OutboxRow]) -> None: ...

    def done(self, row: OutboxRow) -> None:
        """The job's row is deleted: it was done."""

    def gone(self, row: OutboxRow) -> None:
        """There is no such job any more; it may be a dead letter."""

    def delayed(self, row: OutboxRow) -> None:
        """The job's row is rewritten: it may start at ``due_at_ms``."""

    def abandoned(self, row: OutboxRow) -> None:
        """The job stays in the store as it is, and is not done by this runtime any more."""

    def left(self, row: OutboxRow) -> None:
        """The job stays in the store as it is, for an owner whose code knows it."""

    def pause(
        self, position: int, what: str, function: Callable[[], None], failures: int = 1
    ) -> None:
        """Call after the pause before a retry; until then the job waits for time to pass."""


class JobTicket:
    """An entry that is tried until it is durable: the job cannot go on before."""

    def __init__(self, settling: Settling, entry: Entry) -> None:
        self.settling = settling
        self.entry = entry
        self.failures = 0

    @property
    def position(self) -> int:
        """The job's; 0 for what is about no job."""
        return self.entry.position if isinstance(self.entry, OutboxRow) else 0

    @property
    def is_void(self) -> bool:
        """It need not be written any more."""
        return False

    def written(self) -> None:
        """The entry is durable."""
        raise AssertionError("each kind of entry goes on in its own way")

    def left_out(self, error: StoreError) -> None:
        """``Gone``: the job is not there, or an earlier try was written and its answer lost."""
        if isinstance(error, Gone):
            self.gone()
        else:
            logger.error("a job was not written: %s", error)
            self.dropped()

    def unknown(self, error: StoreError) -> None:
        """Perhaps written: the condition on the job tells at the next try."""
        self.failures += 1
        self.settling.submit_again(self)

    def gone(self) -> None:
        """What the entry was about is not there."""

    def dropped(self) -> None:
        """The store refuses the entry for good: another owner has it, or it cannot be kept."""


class Settled(JobTicket):
    """The end of a job."""

    entry: Settlement

    def __init__(self, settling: Settling, row: OutboxRow, entry: Settlement) -> None:
        super().__init__(settling, entry)
        self.row = row

    @property
    def position(self) -> int:
        return self.row.position

    def written(self) -> None:
        self.settling.closed(self.row, self.entry)
        if self.entry.outbox:
            self.settling.jobs.committed(self.entry.outbox)

    def gone(self) -> None:
        """It was written before, by this way or with a turn: what it queued is read back."""
        self.settling.jobs.doubtful(self.entry.outbox)
        self.settling.closed(self.row, self.entry)

    def dropped(self) -> None:
        self.settling.abandoned(self.row)


class Rewritten(JobTicket):
    """A job whose row changes: it is tried again, by this runtime or the next one."""

    entry: OutboxRow

    def __init__(
        self, settling: Settling, entry: OutboxRow, then: Callable[[OutboxRow], None]
    ) -> None:
        super().__init__(settling, entry)
        self._then = then

    def written(self) -> None:
        self._then(self.entry)

    def gone(self) -> None:
        self.settling.jobs.gone(self.entry)

    def dropped(self) -> None:
        self.settling.abandoned(self.entry)


class Claimed(JobTicket):
    """An attempt that is about to begin."""

    entry: OutboxRow

    def __init__(
        self,
        settling: Settling,
        entry: OutboxRow,
        begin: Callable[[], None],
        dropped: Callable[[], None],
    ) -> None:
        super().__init__(settling, entry)
        self._begin = begin
        self._dropped = dropped

    def written(self) -> None:
        self._begin()

    def gone(self) -> None:
        self._dropped()
        self.settling.jobs.gone(self.entry)

    def dropped(self) -> None:
        self._dropped()
        self.settling.abandoned(self.entry)


class Paused(JobTicket):
    """That a queue has paused; not written any more once that is not true."""

    def __init__(self, settling: Settling, entry: QueueRow, is_true: Callable[[], bool]) -> None:
        super().__init__(settling, entry)
        self._is_true = is_true

    @property
    def is_void(self) -> bool:
        return not self._is_true()

    def written(self) -> None:
        """Nothing follows."""


def nothing() -> None:
    """Nothing follows."""


class Awaited:
    """An entry somebody waits for, who may be gone when it is written: ``then`` follows anyway.

    ``in_doubt`` is called if nobody knows whether it was written. The outcome is False if what the
    entry was about is not there.
    """

    is_void = False

    def __init__(
        self,
        entry: Entry,
        then: Callable[[], None] = nothing,
        in_doubt: Callable[[], None] = nothing,
    ) -> None:
        self.entry = entry
        self._then = then
        self._in_doubt = in_doubt
        self.outcome: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def written(self) -> None:
        self._then()
        self._resolve(True)

    def left_out(self, error: StoreError) -> None:
        if isinstance(error, Gone):
            self._resolve(False)
        elif not self.outcome.done():
            self.outcome.set_exception(error)

    def unknown(self, error: StoreError) -> None:
        self._in_doubt()
        if not self.outcome.done():
            self.outcome.set_exception(error)

    def _resolve(self, was_there: bool) -> None:
        if not self.outcome.done():
            self.outcome.set_result(was_there)
