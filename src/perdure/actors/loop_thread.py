"""The event loop for actors that are started where none is running.

One daemon thread per process, started when first needed. Must not know actors, only their run
queue. Next to read: ``run_queue.py``.
"""

from __future__ import annotations

import asyncio
import os
import threading

from perdure.actors.run_queue import RunQueue

__all__ = ["run_queue"]


class _LoopThread:
    def __init__(self) -> None:
        self.pid = os.getpid()
        loop = asyncio.new_event_loop()
        # Made before the loop runs, so that the loop's own actors find this one.
        self.run_queue = RunQueue.of(loop)
        # A daemon: pykka's promise that actors keep a program alive is not ours.
        threading.Thread(target=loop.run_forever, name="perdure-actors", daemon=True).start()


_starting = threading.Lock()
_loop_thread: _LoopThread | None = None


def run_queue() -> RunQueue:
    """The run queue of this process's loop thread. A forked child gets its own."""
    global _loop_thread  # noqa: PLW0603 - one per process is the purpose of this module
    with _starting:
        # Threads do not survive a fork; the loop that the child inherits stands still.
        if _loop_thread is None or _loop_thread.pid != os.getpid():
            _loop_thread = _LoopThread()
        return _loop_thread.run_queue
