"""The reply to an ``ask``: a pykka future that can also be awaited, from any event loop.

Knows threads and asyncio; must not know actors or mailboxes, which merely resolve it.
Next to read: ``actor.py``, which answers with it.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import sys
import threading
import time
from collections.abc import Callable, Generator
from types import TracebackType
from typing import Any, TypeAlias, TypeVar, cast

import pykka

__all__ = ["Future"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

ExcInfo: TypeAlias = tuple[type[BaseException] | None, BaseException | None, TracebackType | None]


class Future(pykka.Future[T]):
    """A value that is available now or later.

    >>> future: Future[int] = Future()
    >>> future.set(42)
    >>> future.get()
    42

    In a coroutine, ``await future``; in a thread, ``future.get(timeout=seconds)``. Both may be done
    many times, by many. It is resolved once: by ``set``, by ``set_exception``, or by the first
    ``get`` that runs its hook; what resolves it a second time raises ``queue.Full``.
    """

    # The lock guards the change from pending to resolved. There is no condition variable: whoever
    # waits leaves a callback that wakes it.
    __slots__ = ("_callbacks", "_exc_info", "_get_hook", "_hook_lock", "_lock", "_value")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._value: object = _PENDING
        self._exc_info: ExcInfo | None = None
        self._callbacks: list[Callable[[Future[T]], object]] | None = None
        self._get_hook: Callable[[float | None], T] | None = None
        self._hook_lock: threading.Lock | None = None

    def set(self, value: T | None = None) -> None:
        """Resolve with ``value``. Raises ``queue.Full`` if already resolved, or hooked."""
        self._resolve(value, None)

    def set_exception(self, exc_info: ExcInfo | None = None) -> None:
        """Resolve with an exception: the one being handled, or ``exc_info``.

        Raises ``queue.Full`` if already resolved, or hooked; ``ValueError`` without an exception.
        """
        exc_info = sys.exc_info() if exc_info is None else exc_info
        if exc_info[0] is None:
            raise ValueError("no exception is being handled, and none was given")
        self._resolve(None, exc_info)

    def set_get_hook(self, func: Callable[[float | None], T]) -> None:
        """Let ``get(timeout=t)`` compute the value by ``func(t)``, once.

        Only asking for the value runs the hook; a done callback alone does not.
        Raises ``queue.Full`` if already resolved.
        """
        with self._lock:
            if self._value is not _PENDING:
                raise queue.Full
            self._hook_lock = threading.Lock()
            self._get_hook = func

    def add_done_callback(self, callback: Callable[[Future[T]], object]) -> None:
        """Call ``callback(self)`` once: in the thread that resolves it, or at once if that is past.

        A callback must not block. What it raises is logged and goes no further.
        """
        with self._lock:
            if self._value is _PENDING:
                if self._callbacks is None:
                    self._callbacks = []
                self._callbacks.append(callback)
                return
        self._call(callback)

    def get(self, *, timeout: float | None = None) -> T:
        """Wait for the value in this thread, at most ``timeout`` seconds.

        Raises ``pykka.Timeout``; the exception the future holds; ``RuntimeError`` where waiting
        would block a running event loop.
        """
        if self._value is _PENDING:
            if asyncio._get_running_loop() is not None:
                raise RuntimeError("this would block the event loop: await it instead")
            if self._get_hook is None:
                self._wait(timeout)
            else:
                self._run_hook(self._get_hook, timeout)
        return self._result()

    def __await__(self) -> Generator[Any, None, T]:
        if self._value is _PENDING:
            if self._get_hook is None:
                yield from self._suspend()
            else:
                # A hook is a function that blocks, so it must not run on the loop.
                yield from asyncio.to_thread(self.get).__await__()
        return self._result()

    __iter__ = __await__

    def _resolve(self, value: object, exc_info: ExcInfo | None, *, hooked: bool = False) -> None:
        with self._lock:
            if self._value is not _PENDING or (self._get_hook is not None and not hooked):
                raise queue.Full
            self._exc_info = exc_info
            self._value = value
            callbacks, self._callbacks = self._callbacks, None
        for callback in callbacks or ():
            self._call(callback)

    def _result(self) -> T:
        if self._exc_info is None:
            return cast("T", self._value)
        exc_type, exc_value, traceback = self._exc_info
        if exc_value is None:
            assert exc_type is not None
            exc_value = exc_type()
        raise exc_value.with_traceback(traceback)

    def _call(self, callback: Callable[[Future[T]], object]) -> None:
        try:
            callback(self)
        except BaseException:
            logger.exception("Done callback %r failed", callback)

    def _forget(self, callback: Callable[[Future[T]], object]) -> None:
        with self._lock:
            if self._callbacks is not None and callback in self._callbacks:
                self._callbacks.remove(callback)

    def _wait(self, timeout: float | None) -> None:
        resolved = threading.Event()

        def wake(_: Future[T]) -> None:
            resolved.set()

        self.add_done_callback(wake)
        if not resolved.wait(timeout):
            self._forget(wake)
            if self._value is _PENDING:
                raise pykka.Timeout(f"{timeout} seconds")

    def _suspend(self) -> Generator[Any, None, None]:
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()

        def wake(_: Future[T]) -> None:
            if asyncio._get_running_loop() is loop:
                _finish(waiter)
                return
            try:
                loop.call_soon_threadsafe(_finish, waiter)
            except RuntimeError:
                # The awaiting loop was closed meanwhile: nobody is left to be woken.
                logger.debug("The loop that awaited %r is closed", self)

        self.add_done_callback(wake)
        try:
            yield from waiter
        finally:
            self._forget(wake)

    def _run_hook(self, hook: Callable[[float | None], T], timeout: float | None) -> None:
        # The lock makes a second caller wait for the first one's value instead of running the hook
        # again; the time it waits is part of its timeout.
        assert self._hook_lock is not None
        deadline = None if timeout is None else time.monotonic() + timeout
        if not self._hook_lock.acquire(timeout=-1 if timeout is None else max(timeout, 0.0)):
            raise pykka.Timeout(f"{timeout} seconds")
        try:
            if self._value is _PENDING:
                left = None if deadline is None else max(deadline - time.monotonic(), 0.0)
                self._resolve(hook(timeout if left is None else left), None, hooked=True)
        finally:
            self._hook_lock.release()


def _finish(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class _Pending:
    def __repr__(self) -> str:
        return "<pending>"


_PENDING = _Pending()
