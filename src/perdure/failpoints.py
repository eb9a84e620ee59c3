"""Named points in a turn's and a job's life at which a test stops, fails or kills the process.

    failpoints.listener = lambda point: os.kill(os.getpid(), SIGKILL)

They lie on both sides of everything durable: what happens between two of them is either all
there after a crash or not at all. Off (no listener) a point costs one comparison. The kill sweep
arms them in a process of its own, the cluster sweep in several, the simulation in its own loop;
nothing else does. Imports nothing. After DBOS's debug triggers and FreeBSD's ``fail(9)``; the
numbers K1 to K27 are those of ``docs/guarantees.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from typing import TypeVar

__all__ = ["ALONE", "REPLAYED_PER_POINT", "TOGETHER", "Point", "listener", "reach", "replayed"]

T = TypeVar("T")

REPLAYED_PER_POINT = 100


class Point(StrEnum):
    """Where; in the order in which a message comes by."""

    ACCEPTED = "K1"
    """A delivery is accepted; its instance is not loaded for it yet."""
    LOADED = "K2"
    """The instance is read and folded; it has taken no turn yet."""
    HANDLING = "K3"
    """A handler is about to run, or (reached by the handler of a test) runs."""
    HANDLED = "K4"
    """The turn is taken, nothing of it written."""
    WRITING = "K5"
    """The first statement of the transaction is done."""
    COMMITTING = "K6"
    """All statements are done, COMMIT is next."""
    COMMITTED = "K7"
    """COMMIT has returned; memory does not know it."""
    VISIBLE = "K8"
    """Memory knows; the sender does not."""
    JOB_BEGINS = "K9"
    """A job is taken from its queue; its worker is not called yet."""
    JOB_ENDS = "K10"
    """The worker has returned or raised; nothing of that is written."""
    RESULT_TOLD = "K11"
    """The end of the job is on its way to its instance, or to the store."""
    RESULT_TAKEN = "K12"
    """The instance has taken the result; that turn, which ends the job, is not written."""
    DEADLINE_FIRES = "K13"
    """A deadline is due and about to be delivered."""
    SNAPSHOT = "K14"
    """A snapshot is written, its transaction is not committed."""
    REPLAYING = "K15"
    """In the middle of a history: every hundredth turn that is folded, from the first on."""
    PASSIVATING = "K16"
    """An idle instance is about to leave memory."""
    OWNING = "K17"
    """The owner's epoch is raised: before the commit, and after it. A host of several processes
    claims by one statement: before that, and after it."""
    STOPPING = "K18"
    """Before each step of a stop."""
    CREATING = "K19"
    """Before each statement that creates the schema."""
    CHECKPOINT = "K20"
    """Before and after the write-ahead log is folded into the file."""
    MAIL_PUT = "K21"
    """Letters are about to become rows of mail; and they have, which memory does not know."""
    MAIL_TAKEN = "K22"
    """A row of mail was read; nothing was brought to its instance yet."""
    MAIL_ANSWERED = "K23"
    """What became of a row is durable; its sender does not know."""
    MAIL_GOES = "K24"
    """Rows of which is known what became of them are about to be deleted; and they are."""
    TAKEN_OVER = "K25"
    """The runtime of a claimed shard has started; nothing was brought to it yet."""
    RELEASING = "K26"
    """A shard whose runtime has stopped, or all that a process has, is given up; and was."""
    PERFORMED = "K27"
    """A worker's own transaction has its rows and its result: before its commit, and after it."""


TOGETHER = tuple(Point(f"K{number}") for number in range(21, 28))
"""What there is over PostgreSQL alone: mail, shards that come and go, workers' own transactions."""

ALONE = tuple(point for point in Point if point not in TOGETHER)
"""Those of one process over any store."""


listener: Callable[[Point], None] | None = None
"""Who is told; set by tests only. It may be called on the thread of the database."""


def reach(point: Point) -> None:
    """Tell the listener, if there is one."""
    if listener is not None:
        listener(point)


def replayed(rows: Iterable[T]) -> Iterator[T]:
    """The rows; some of them are points. Only worth its cost where there is a listener."""
    for number, row in enumerate(rows):
        if number % REPLAYED_PER_POINT == 0:
            reach(Point.REPLAYING)
        yield row
