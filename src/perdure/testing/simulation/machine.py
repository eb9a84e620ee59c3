"""The machine that simulated processes run on: its time, and whose turn it is.

    machine.at(…)             # something from outside happens then
    machine.run(until_ns)     # the next thing, and the next, and the next

Time stands still while anybody has something to do, and then jumps to the next moment at which
somebody has. Who is first among those that are ready, the seed decides; within one process the
order is its loop's own. Knows no runtime. Next to read: ``nemesis.py``, ``world.py``.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

from perdure.testing.simulation.choices import Choices
from perdure.testing.simulation.process import SimProcess
from perdure.testing.simulation.trace import Trace
from perdure.testing.simulation.violation import Violation

__all__ = ["Machine"]

STEPS_MAX = 3_000_000


class Machine:
    """Time, processes, and what comes from outside of them."""

    def __init__(self, choices: Choices) -> None:
        self.choices = choices
        self.trace = Trace()
        self.now_ns = 0
        self.offset_ms = 0
        self.processes: list[SimProcess] = []
        self.graveyard: list[SimProcess] = []
        self.current: SimProcess | None = None
        self.before_batch: Callable[[SimProcess], None] = _nothing
        self.before_wait: Callable[[int], None] = _nothing
        self.batches = 0
        self.broken: list[str] = []
        self._waits_until_ns = -1
        self._events: list[tuple[int, float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._tie = choices.stream("tie").random

    def moment(self) -> int:
        """Nanoseconds since the beginning."""
        return self.now_ns

    def offset(self) -> int:
        """How far its wall clock is off, in milliseconds."""
        return self.offset_ms

    def note(self, what: str, about: str = "") -> None:
        """Write into the trace."""
        process = self.current
        self.trace.note(self.now_ns, process.number if process else 0, what, about)

    def after(self, delay_s: float, function: Callable[[], None]) -> None:
        """Have something happen from outside."""
        at_ns = self.now_ns + int(delay_s * 1e9)
        heapq.heappush(self._events, (at_ns, self._tie(), next(self._numbers), function))

    def new_process(self) -> SimProcess:
        """A process that has nothing to do yet."""
        number = len(self.processes) + len(self.graveyard) + 1
        process = SimProcess(number, self.moment, self._tie)
        self.processes.append(process)
        return process

    def kill(self, process: SimProcess) -> None:
        """End a process as ``kill -9`` does. If it is the one that runs, this does not return."""
        process.kill()
        self.processes.remove(process)
        self.graveyard.append(process)

    def bury(self) -> None:
        """The run is over."""
        for process in self.processes + self.graveyard:
            process.bury()
        self.processes.clear()
        self.graveyard.clear()

    def run(self, until: Callable[[], bool], until_ns: int | None = None) -> bool:
        """Go on until the condition holds; False if it does not until then, or for ever."""
        while not until():
            if not self._step(until_ns):
                return until()
        return True

    def _step(self, until_ns: int | None) -> bool:
        next_ns, process = self._next()
        if next_ns is None or (until_ns is not None and next_ns > until_ns):
            self.now_ns = max(self.now_ns, until_ns or 0)
            return False
        if next_ns > self.now_ns:
            if next_ns > self._waits_until_ns:
                self._waits_until_ns = next_ns
                self.before_wait(next_ns)  # which may add events, and end processes
                return True
            self.now_ns = next_ns
        self.batches += 1
        if self.batches > STEPS_MAX:
            raise Violation("never rests", f"{STEPS_MAX} batches, and still something to do")
        if process is None:
            heapq.heappop(self._events)[3]()
        else:
            self.before_batch(process)
            if process.is_alive and process.paused_until_ns <= self.now_ns:
                self._let_run(process)
        return True

    def _let_run(self, process: SimProcess) -> None:
        self.current = process
        try:
            process.step()
        finally:
            self.current = None
        self.broken += process.broken
        if self.broken:
            raise Violation("perdure makes no mistake of its own", self.broken[0])

    def _next(self) -> tuple[int | None, SimProcess | None]:
        """Who is next, and when; no process: an event."""
        now_ns, first_ns = self.now_ns, None
        first: list[SimProcess | None] = []
        if self._events:
            first_ns = self._events[0][0]
            first.append(None)
        for process in self.processes:
            next_ns = process.next_ns
            if next_ns is None:
                continue
            next_ns = max(next_ns, now_ns)
            if first_ns is None or next_ns < first_ns:
                first_ns = next_ns
                first = [process]
            elif next_ns == first_ns:
                first.append(process)
        if not first:
            return None, None
        return first_ns, first[0] if len(first) == 1 else self.choices.pick("who is next", first)


def _nothing(_: object) -> None: ...
