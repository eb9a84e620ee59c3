"""Which process this is: a forked child has its parent's objects, but none of its threads.

What was opened before a fork belongs to the parent; a child that used it would wait for threads
that are not there, or write into the parent's file. Next to read: ``lock.py``, the same for locks.
"""

from __future__ import annotations

import os

__all__ = ["REMEDY", "here"]

REMEDY = (
    "start the runtime after forking, in the process that uses it (gunicorn: in a worker's start, "
    "not preloaded; multiprocessing: the start method 'spawn')"
)


class _Process:
    """``generation`` is another one in a forked child than in its parent."""

    __slots__ = ("generation",)

    def __init__(self) -> None:
        self.generation = 0

    def forked(self) -> None:
        """This is a child."""
        self.generation += 1


here = _Process()

os.register_at_fork(after_in_child=here.forked)
