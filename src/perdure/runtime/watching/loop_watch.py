"""Tells when user code blocks the event loop, and whose: seen from outside, by a thread.

A handler, a fold or a coroutine that waits without ``await`` stops every actor and every timer with
it. Nothing on the loop can report that; this can, with the stack. It looks at where the loop's
thread stands, so an idle loop is left alone, and turns carry no mark for it. What it cannot see: a
call into C that keeps Python's lock, for this thread stands still as well. Afterwards a turn that
took too long is refused all the same (``instances/saga_actor.py``). Next to read: ``scenes.py``.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from types import CodeType, FrameType
from typing import Any

from perdure.runtime.threads import Threads

__all__ = ["LoopWatch", "Scene"]

logger = logging.getLogger("perdure.watch")

LOOKS_PER_LIMIT = 4
"""A block is noticed at the first look within it, and told so many looks later."""

Scene = Callable[[Mapping[str, Any]], tuple[str, str]]
"""Of the local variables of a function of ours that calls user code: who it is, what to do."""


class LoopWatch:
    """Looks at the loop it is made on, and reports when that does not answer for ``limit_s``.

    ``scenes`` are the functions that call user code; while one is under way, or ``is_busy()``, the
    loop is asked for an answer. Each block is reported once.
    """

    def __init__(
        self,
        limit_s: float,
        is_busy: Callable[[], bool],
        scenes: Mapping[CodeType, Scene],
        threads: Threads,
    ) -> None:
        self._limit_s = limit_s
        self.is_busy = is_busy
        self._scenes = scenes
        self._threads = threads
        self._loop = asyncio.get_running_loop()
        self._thread_id = threading.get_ident()
        self._is_stopping = threading.Event()
        self._has_answered = True
        self.blocks = 0
        self.blocked_at_s: float | None = None
        """When the last block was reported, by the loop's time."""

    def start(self) -> None:
        """Begin to look."""
        try:
            self._threads.start(self._watch, "perdure-loop-watch")
        except RuntimeError as error:  # the system gives no thread: everything else goes on
            logger.error("nobody watches the event loop: %s", error)

    def stop(self) -> None:
        """Look no more."""
        self._is_stopping.set()

    def _watch(self) -> None:
        silent = 0
        while not self._is_stopping.wait(self._limit_s / LOOKS_PER_LIMIT):
            if self._loop.is_closed():
                return
            if self._has_answered:
                silent = 0
                if self.is_busy() or self._scene() is not None:
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
        if frame is None:
            return
        stack = "".join(traceback.format_stack(frame))  # at once: it may go on meanwhile
        if self._has_answered:
            return
        self.blocks += 1
        self.blocked_at_s = self._loop.time()
        who, remedy = self._scene(frame) or (
            f"{frame.f_code.co_qualname} in {frame.f_code.co_filename}",
            "await what it waits for, or give it a thread",
        )
        logger.error(
            "%s blocks the event loop for more than %g s; nothing else can run meanwhile. To mend "
            "it: %s. It is at:\n%s",
            who,
            self._limit_s,
            remedy,
            stack,
        )

    def _scene(self, frame: FrameType | None = None) -> tuple[str, str] | None:
        """Whose code the loop's thread is in, if it is anybody's."""
        frame = frame or sys._current_frames().get(self._thread_id)
        while frame is not None:
            scene = self._scenes.get(frame.f_code)
            if scene is not None:
                return scene(frame.f_locals)
            frame = frame.f_back
        return None
