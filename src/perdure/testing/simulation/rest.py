"""When a world is at rest: everything is answered, and what is left waits for time to pass.

Asked from outside, over the tables: a runtime that forgets something thinks that it is settled.
Next to read: ``world.py``, ``settle``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol

from perdure.core.outgoing import SAGAS
from perdure.testing.simulation.calls import Call, Calls
from perdure.testing.simulation.machine import Machine
from perdure.testing.simulation.nemesis import Nemesis
from perdure.testing.simulation.plan import Plan
from perdure.testing.simulation.tables import Tables
from perdure.testing.simulation.violation import Violation

__all__ = ["SETTLE_S", "Rest"]

SETTLE_S = 60.0
HEAL_S = 3_600.0
LOOK_AGAIN_S = 0.02


class Run(Protocol):
    """Let time pass until something holds, or until a moment; whether it does."""

    def __call__(self, until: Callable[[], bool], until_ns: int | None = None) -> bool: ...


class Rest:
    """Waits for it."""

    def __init__(
        self,
        machine: Machine,
        plan: Plan,
        calls: Calls,
        nemesis: Nemesis,
        tables: Tables,
        now_ms: Callable[[], int],
        run: Run,
    ) -> None:
        self._machine = machine
        self._plan = plan
        self._calls = calls
        self._nemesis = nemesis
        self._tables = tables
        self._now_ms = now_ms
        self._run = run

    def come(self) -> None:
        """Wait for it, at first with faults, then without. Raises ``Violation``."""
        if self._comes_within(SETTLE_S):
            return
        was_calm, self._plan.is_calm = self._plan.is_calm, True
        if not self._comes_within(HEAL_S):
            late = [f"an answer to {call.what}" for call in self._calls.open]
            late += self._overdue() or ["a runtime that is not settled, or does not start"]
            raise Violation(
                "when faults stop, what is due gets done",
                f"after {HEAL_S:.0f} s without a fault there still is: {', '.join(late[:5])}",
            )
        self._plan.is_calm = was_calm

    def _comes_within(self, seconds: float) -> bool:
        until_ns = self._machine.now_ns + int(seconds * 1e9)
        while self._machine.now_ns < until_ns:
            asked = Call("is it settled", lambda runtime: runtime.settled(), is_send=False)
            self._calls.make(asked)
            if not self._run(partial(_is_done, asked), until_ns):
                self._calls.forget(asked)
                return False
            if not self._calls.open and self._nemesis.newest and not self._overdue():
                return True
            self._run(_never, self._machine.now_ns + int(LOOK_AGAIN_S * 1e9))
        return False

    def _overdue(self) -> list[str]:
        return self._tables.overdue(self._now_ms(), self._queues())

    def _queues(self) -> Mapping[str, bool]:
        """The queues that the newest process works at, and whether they are paused."""
        newest = self._nemesis.newest
        if newest is None:
            return {SAGAS: False}
        runners = newest.runtime._parts().dispatcher.runners
        return {name: runner.state.is_paused for name, runner in runners.items()}


def _is_done(call: Call) -> bool:
    return call.is_done


def _never() -> bool:
    return False
