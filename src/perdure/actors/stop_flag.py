"""An event that costs two slots until somebody really waits for it.

It stands in for the ``threading.Event`` that pykka keeps for every actor and hardly ever waits on.
Knows nothing of actors. Next to read: ``actor.py``, which sets it.
"""

from __future__ import annotations

import threading

__all__ = ["StopFlag"]


class StopFlag:
    """Like ``threading.Event``, without its condition variable and queue of waiters.

    >>> flag = StopFlag()
    >>> flag.set()
    >>> flag.wait(timeout=1.0)
    True
    """

    __slots__ = ("_event", "_is_set")

    def __init__(self) -> None:
        self._is_set = False
        self._event: threading.Event | None = None

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        # First the flag, then the look at the event; ``wait`` does it the other way round. So one
        # of the two always sees the other.
        self._is_set = True
        if self._event is not None:
            self._event.set()

    def clear(self) -> None:
        self._is_set = False
        if self._event is not None:
            self._event.clear()

    def wait(self, timeout: float | None = None) -> bool:
        """Block this thread until the flag is set, or for ``timeout`` seconds."""
        if self._is_set:
            return True
        with _first_wait:
            if self._event is None:
                self._event = threading.Event()
        if self._is_set:
            self._event.set()
        return self._event.wait(timeout)


_first_wait = threading.Lock()
"""Lets two threads that wait on one flag for the first time agree on the event; shared by all."""
