"""What the outside world asks of the runtime, again and again until it is answered.

A client sends under one message id. If the process dies, pauses for long or refuses for now, the
client cannot know what became of it, and repeats. Next to read: ``world.py``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from perdure.errors import (
    MailboxFull,
    OutcomeUnknown,
    PerdureError,
    PublishFailed,
    RuntimeNotRunning,
    SendTimeout,
    StoreError,
)
from perdure.runtime.runtime import Runtime
from perdure.testing.simulation.counts import Counts
from perdure.testing.simulation.machine import Machine
from perdure.testing.simulation.process import SimProcess

__all__ = ["Call", "Calls"]

NETWORK_S = (0.000_05, 0.005)
PATIENCE_S = (0.01, 1.0)

_FOR_NOW = (MailboxFull, OutcomeUnknown, RuntimeNotRunning, SendTimeout, StoreError)


class Call:
    """Something asked of the runtime: how (``ask``), and what came of it."""

    def __init__(self, what: str, ask: Callable[[Runtime], Awaitable[Any]], is_send: bool) -> None:
        self.what = what
        self.ask = ask
        self.is_send = is_send
        self.attempts = 0
        self.process: SimProcess | None = None
        self.is_done = False
        self.result: Any = None
        self.error: PerdureError | None = None


class Calls:
    """All calls of a run. ``pick`` chooses the process for an attempt, None if there is none."""

    def __init__(
        self,
        machine: Machine,
        counts: Counts,
        pick: Callable[[Call], SimProcess | None],
        on_answer: Callable[[Call], None],
    ) -> None:
        self.open: dict[Call, None] = {}
        self._machine = machine
        self._counts = counts
        self._pick = pick
        self._on_answer = on_answer
        self._without_process: list[Call] = []

    def make(self, call: Call, delay_s: float = 0.0) -> Call:
        """Ask, after a delay and the way through the network."""
        self.open[call] = None
        self._later(call, delay_s + self._machine.choices.spread("network", *NETWORK_S))
        return call

    def forget(self, call: Call) -> None:
        """The answer is of no interest any more."""
        call.is_done = True
        self.open.pop(call, None)

    def up(self, process: SimProcess) -> None:
        """A process is up: those that found none try again."""
        waiting, self._without_process = self._without_process, []
        for call in waiting:
            self._later(call, self._machine.choices.spread("network", *NETWORK_S))

    def down(self, process: SimProcess) -> None:
        """A process is dead: whoever waits for it will never know."""
        for call in self.open:
            if call.process is process:
                call.process = None
                self._counts.unknown += call.is_send
                self._later(call, self._machine.choices.spread("patience", *PATIENCE_S))

    def _later(self, call: Call, delay_s: float) -> None:
        self._machine.after(delay_s, lambda: self._attempt(call))

    def _attempt(self, call: Call) -> None:
        if call.is_done:
            return
        process = self._pick(call)
        if process is None:
            self._without_process.append(call)
            return
        call.attempts += 1
        call.process = process
        self._counts.sent += call.is_send
        process.begin(lambda: self._ask(call, process))

    async def _ask(self, call: Call, process: SimProcess) -> None:
        self._machine.note("asked", call.what)
        try:
            result = await call.ask(process.runtime)
        except PerdureError as error:
            self._refused(call, error)
        else:
            self._counts.acked += call.is_send
            self._answered(call, result, None)

    def _refused(self, call: Call, error: PerdureError) -> None:
        self._counts.refused += call.is_send
        if not is_for_now(error):
            self._answered(call, None, error)
            return
        self._machine.note("refused", f"{call.what}: {type(error).__name__}")
        if isinstance(error, RuntimeNotRunning) and len(self._machine.processes) > 1:
            assert call.process is not None
            call.process.is_ready = False  # it was overtaken, and knows it now: ask the other one
        call.process = None
        self._later(call, self._machine.choices.spread("patience", *PATIENCE_S))

    def _answered(self, call: Call, result: Any, error: PerdureError | None) -> None:
        self._machine.note("answers", f"{call.what}: {type(error).__name__ if error else 'done'}")
        call.is_done, call.result, call.error = True, result, error
        call.process = None
        self.open.pop(call, None)
        self._on_answer(call)


def is_for_now(error: BaseException) -> bool:
    """To repeat it may help."""
    if isinstance(error, PublishFailed):
        failed: Sequence[BaseException] = [
            outcome for outcome in error.outcomes if isinstance(outcome, BaseException)
        ]
        return all(is_for_now(one) for one in failed)
    return isinstance(error, _FOR_NOW)
