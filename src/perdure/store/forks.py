"""Which process this is: a forked child has its parent's objects, but none of its threads.

What was opened before a fork belongs to the parent; a child that used it would wait for threads
that are not there, or write into the parent's file. Next to read: ``lock.py``, the same for locks.
"""

from __future__ import annotations

import os

__all__ = ["REMEDY", "generation"]

REMEDY = (
    "start the runtime after forking, in the process that uses it (gunicorn: in a worker's start, "
    "not preloaded; multiprocessing: the start method 'spawn')"
)

_forks: list[int] = []
"""The process ids of this process and its forefathers, but for the one that imported this."""


def generation() -> int:
    """Another one in a forked child than in its parent."""
    return len(_forks)


def _count() -> None:
    _forks.append(os.getpid())


os.register_at_fork(after_in_child=_count)
