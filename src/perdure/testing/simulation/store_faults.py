"""How long the operations of a process's store take in a run, and which of them fail.

Next to read: ``inline_store.py``, which asks.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from perdure.store.write_plan import key_of
from perdure.testing.simulation.choices import Choices
from perdure.testing.simulation.inline_store import CHECKPOINT, Operation, driver_error
from perdure.testing.simulation.machine import Machine
from perdure.testing.simulation.plan import Plan

__all__ = ["PlannedStoreFaults"]

OPERATION_S = (0.000_05, 0.002)
ANSWER_S = (0.000_01, 0.000_5)

_BEFORE = ("SQLITE_BUSY", "SQLITE_FULL", "SQLITE_IOERR")


class PlannedStoreFaults:
    """Implements ``StoreFaults``. ``is_opening`` while the process opens its store.

    ``on_failed_sync`` is told that this store will write no more.
    """

    def __init__(
        self, machine: Machine, plan: Plan, on_failed_sync: Callable[[Choices], None]
    ) -> None:
        self._machine = machine
        self._plan = plan
        self._on_failed_sync = on_failed_sync
        self._is_in_doubt = False
        self._delay = machine.choices.stream("store latency").random
        self.is_opening = True

    def begins(self, operation: Operation) -> float:
        """See ``StoreFaults.begins``."""
        about = operation.name
        if operation.is_write:
            about = ", ".join(f"{type(e).__name__} {key_of(e)}" for e in operation.arguments[0])
        self._machine.note("store", about)
        slow = self._plan.strikes("slow store", self._plan.faults.slow_store)
        if slow is not None:
            delay_s = slow.spread("seconds", 0.001, self._plan.faults.slow_s)
            self._machine.note("FAULT", f"slow store, {delay_s:.3f} s")
            return delay_s
        low, high = OPERATION_S
        return low + (high - low) * self._delay() ** 3

    def fails_before(self, operation: Operation) -> sqlite3.Error | None:
        """See ``StoreFaults.fails_before``."""
        faults = self._plan.faults
        if operation.name == CHECKPOINT:
            return None  # it takes every error itself
        if self.is_opening:
            kind, rate = "open fails", faults.open_fails
        elif operation.is_write:
            kind, rate = "write fails", faults.write_fails
        else:
            kind, rate = "read fails", faults.read_fails
        details = self._plan.strikes(kind, rate)
        if details is None:
            return self._failed_sync(operation)
        error = driver_error(details.pick("error", _BEFORE))
        self._machine.note("FAULT", f"{kind}, {error}")
        return error

    def _failed_sync(self, operation: Operation) -> sqlite3.Error | None:
        """Of what could not be made durable nobody knows whether it is in the file."""
        if not operation.is_write:
            return None
        details = self._plan.strikes("sync fails", self._plan.faults.sync_fails)
        if details is None:
            return None
        self._is_in_doubt = details.number("is in the file") < 0.5
        self._machine.note("FAULT", f"sync fails, in the file: {self._is_in_doubt}")
        self._on_failed_sync(details)
        return None if self._is_in_doubt else driver_error("SQLITE_IOERR_FSYNC")

    def fails_after(self, operation: Operation) -> sqlite3.Error | None:
        """See ``StoreFaults.fails_after``."""
        if not operation.is_write:
            return None
        if self._is_in_doubt:
            return driver_error("SQLITE_IOERR_FSYNC")
        if self._plan.strikes("answer lost", self._plan.faults.answer_lost) is None:
            return None
        self._machine.note("FAULT", "answer lost, the write was committed")
        return driver_error("SQLITE_IOERR")

    def answers(self) -> float:
        """See ``StoreFaults.answers``."""
        low, high = ANSWER_S
        return low + (high - low) * self._delay() ** 3
