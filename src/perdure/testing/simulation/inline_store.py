"""The real SQL store over connections that are used inline: no thread, and the answer comes later.

A call takes virtual time before and after it is carried out, so the process can die in between,
and it may fail with the driver's own errors: before it was carried out, or although it was. Calls
of one connection are carried out and answered in the order in which they were made.
Next to read: ``store/sql.py``.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeVar

from perdure.store.sql import SqlStore
from perdure.store.sqlite_connection import (
    STATEMENTS_CACHED,
    prepare_reader,
    prepare_writer,
)
from perdure.testing.simulation.loop import SimLoop

__all__ = ["CHECKPOINT", "InlineStore", "Operation", "StoreFaults", "driver_error"]

Result = TypeVar("Result")

CHECKPOINT = "_checkpoint"

_SETTING_UP = ("prepare_writer", "open_schema", CHECKPOINT)

_ERRORS = {
    "SQLITE_BUSY": (sqlite3.SQLITE_BUSY, "database is locked"),
    "SQLITE_FULL": (sqlite3.SQLITE_FULL, "database or disk is full"),
    "SQLITE_IOERR": (sqlite3.SQLITE_IOERR, "disk I/O error"),
    "SQLITE_IOERR_FSYNC": (sqlite3.SQLITE_IOERR_FSYNC, "disk I/O error"),
}


class Operation(NamedTuple):
    """A call: the name of its function, whether it writes turns, and with what."""

    name: str
    is_write: bool
    arguments: tuple[Any, ...]


class StoreFaults(Protocol):
    """Who decides how long a call takes and whether it fails."""

    def begins(self, operation: Operation) -> float:
        """A call is made: so many seconds until it is carried out."""
        ...

    def fails_before(self, operation: Operation) -> sqlite3.Error | None:
        """It fails, and is not carried out."""
        ...

    def fails_after(self, operation: Operation) -> sqlite3.Error | None:
        """It was carried out, and fails nevertheless."""
        ...

    def answers(self) -> float:
        """So many seconds until the caller hears of it."""
        ...


def driver_error(name: str) -> sqlite3.Error:
    """The error sqlite3 raises for a result code, such as "SQLITE_BUSY"."""
    code, text = _ERRORS[name]
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode, error.sqlite_errorname = code, name
    return error


class InlineStore(SqlStore):
    """A ``SqlStore`` of one simulated process."""

    def __init__(self, path: str, loop: SimLoop, faults: StoreFaults) -> None:
        super().__init__(f"sqlite:///{path}", driver=self._inline)
        self._loop = loop
        self._faults = faults
        self._opened: list[InlineConnection] = []

    def die(self) -> None:
        """The process is no more: what it had not committed is undone, its lock falls."""
        for connection in self._opened:
            connection.raw.close()
        self.lose_lock()

    def lose_lock(self) -> None:
        """Somebody else may take the file, though this store is still at it."""
        self._lock.release()

    def _inline(self, path: str, read_only: bool) -> InlineStore:
        return self

    async def connect(self) -> InlineConnection:
        """See ``Driver.connect``."""
        raw = sqlite3.connect(
            self.path, isolation_level=None, cached_statements=STATEMENTS_CACHED, timeout=0
        )
        is_writer = len(self._opened) % 2 == 0  # it connects first
        connection = InlineConnection(raw, is_writer, self._loop, self._faults)
        self._opened.append(connection)
        return connection

    async def dispose(self) -> None:
        """See ``Driver.dispose``."""
        for connection in self._opened:
            connection.raw.close()


class InlineConnection:
    """Implements ``Connection`` on the simulated loop."""

    def __init__(
        self, raw: sqlite3.Connection, is_writer: bool, loop: SimLoop, faults: StoreFaults
    ) -> None:
        self.raw = raw
        self._is_writer = is_writer
        self._loop = loop
        self._faults = faults
        self._carried_out_ns = 0
        self._answered_ns = 0

    async def run(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """See ``Connection.run``."""
        answer: asyncio.Future[Result] = self._loop.create_future()
        name = function.__name__
        operation = Operation(name, self._is_writer and name not in _SETTING_UP, arguments)
        self._carried_out_ns = self._later(self._carried_out_ns, self._faults.begins(operation))
        self._loop.call_at_ns(self._carried_out_ns, self._carry_out, answer, function, operation)
        return await answer

    def bury(self) -> None:
        """See ``Connection.bury``; there is no thread that could end."""

    def give_back(self) -> None:
        """See ``Connection.give_back``."""

    def join(self) -> None:
        """See ``Connection.join``."""

    def _later(self, last_ns: int, delay_s: float) -> int:
        """After the delay, and not before the one that was first."""
        return max(self._loop.now_ns() + int(delay_s * 1e9), last_ns + 1)

    def _carry_out(
        self,
        answer: asyncio.Future[Any],
        function: Callable[..., Any],
        operation: Operation,
    ) -> None:
        result: Any = None
        error: Exception | None = self._faults.fails_before(operation)
        if error is None:
            try:
                result = function(self.raw, *operation.arguments)
                if function in (prepare_writer, prepare_reader):
                    self.raw.execute("PRAGMA busy_timeout=0")  # waiting would take real time
            except Exception as raised:
                error = raised
            else:
                error = self._faults.fails_after(operation)
        self._answered_ns = self._later(self._answered_ns, self._faults.answers())
        self._loop.call_at_ns(self._answered_ns, _answer, answer, result, error)


def _answer(answer: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if answer.done():  # its caller was cancelled
        return
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(result)
