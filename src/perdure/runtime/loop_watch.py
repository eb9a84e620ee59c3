"""Tells when something blocks the event loop, and who: seen from outside, by a thread.

A worker that is a coroutine and waits without ``await`` stops every actor and every timer with it.
Nothing on the loop can report that; this can, with the stack. Next to read: ``dispatcher.py``.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from types import CodeType, FrameType

from perdure.runtime.threads import Threads

__all__ = ["LoopWatch"]

logger = logging.getLogger("perdure.workers")

LOOKS_PER_LIMIT = 2


class LoopWatch:
    """Looks at the loop while ``is_busy()`` and reports when it does not answer for ``limit_s``.

    ``names`` are the workers' codes and what to call them. Each block is reported once.
    """

    def __init__(
        self,
        limit_s: float,
        is_busy: Callable[[], bool],
        names: Mapping[CodeType, str],
        threads: Threads,
    ) -> None:
        self._limit_s = limit_s
        self._is_busy = is_busy
        self._names = names
        self._threads = threads
        self._loop = asyncio.get_running_loop()
        self._thread_id = threading.get_ident()
        self._is_stopping = threading.Event()
        self._has_answered = True
        self.blocks = 0

    def start(self) -> None:
        """Begin to look."""
        self._threads.start(self._watch, "perdure-loop-watch")

    def stop(self) -> None:
        """Look no more."""
        self._is_stopping.set()

    def _watch(self) -> None:
        silent = 0
        while not self._is_stopping.wait(self._limit_s / LOOKS_PER_LIMIT):
            if self._has_answered:
                silent = 0
                if self._is_busy():
                    self._ask()
                continue
            silent += 1
            if silent == LOOKS_PER_LIMIT:
                self._report()

    def _ask(self) -> None:
        self._has_answered = False
        try:
            self._loop.call_soon_threadsafe(self._answer)
        except RuntimeError:  # the loop is closed
            self._is_stopping.set()

    def _answer(self) -> None:
        self._has_answered = True

    def _report(self) -> None:
        frame = sys._current_frames().get(self._thread_id)
        if frame is None or self._has_answered:
            return
        self.blocks += 1
        logger.error(
            "%s blocks the event loop for more than %g s; nothing else can run meanwhile. Make it "
            "a plain function (it then gets a thread), or await what it waits for. It is at:\n%s",
            self._culprit(frame),
            self._limit_s,
            "".join(traceback.format_stack(frame)),
        )

    def _culprit(self, frame: FrameType) -> str:
        looked: FrameType | None = frame
        while looked is not None:
            name = self._names.get(looked.f_code)
            if name is not None:
                return name
            looked = looked.f_back
        return f"{frame.f_code.co_qualname} in {frame.f_code.co_filename}"
