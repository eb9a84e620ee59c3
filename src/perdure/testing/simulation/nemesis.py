"""Ends, pauses and starts the processes of a run, as its plan has it.

There is one process at a time, and after its end the next one, over the same file; two only where
a lock was lost (``takeover``). Next to read: ``plan.py``, ``machine.py``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from perdure.errors import StoreError
from perdure.failpoints import Point
from perdure.runtime.ids import unique_ids
from perdure.runtime.runtime import Runtime
from perdure.settings import Settings
from perdure.testing.simulation.choices import Choices
from perdure.testing.simulation.clock import ProcessClock
from perdure.testing.simulation.hostile import made_hostile
from perdure.testing.simulation.inline_store import InlineStore
from perdure.testing.simulation.machine import Machine
from perdure.testing.simulation.plan import Plan
from perdure.testing.simulation.process import SimProcess
from perdure.testing.simulation.spec import Spec
from perdure.testing.simulation.store_faults import PlannedStoreFaults
from perdure.testing.simulation.threads import InlineThreads

__all__ = ["Nemesis"]

IDLE_FROM_NS = 1_000_000_000
OUTAGE_MIN_S = 0.001
CALM_OUTAGE_S = 0.01


class Nemesis:
    """The operator of the machine, and its enemy."""

    def __init__(
        self,
        spec: Spec,
        machine: Machine,
        plan: Plan,
        path: str,
        resources: Mapping[str, Any],
        on_ready: Callable[[SimProcess], None],
        on_end: Callable[[SimProcess], None],
    ) -> None:
        self.kills: Counter[str] = Counter()
        self.injected: Counter[str] = Counter()
        self.settings: Settings = made_hostile(spec.settings, plan)
        self._spec = spec
        self._machine = machine
        self._plan = plan
        self._path = path
        self._resources = resources
        self._on_ready = on_ready
        self._on_end = on_end
        self._clocks: dict[SimProcess, ProcessClock] = {}
        self._newest: SimProcess | None = None
        if self._disturbs_batches:
            machine.before_batch = self._before_batch
        machine.before_wait = self._before_wait
        if self.settings != spec.settings:
            machine.note("settings", ", ".join(_differing(spec.settings, self.settings)))

    @property
    def newest(self) -> SimProcess | None:
        """The process that runs the runtime now, if there is one and it is up."""
        process = self._newest
        return process if process is not None and process.is_ready else None

    # Starting

    def start(self) -> None:
        """Start a process over the file."""
        machine = self._machine
        process = self._newest = machine.new_process()
        faults = PlannedStoreFaults(machine, self._plan, partial(self._sync_failed, process))
        process.store = InlineStore(self._path, process.loop, faults)
        self._clocks[process] = ProcessClock(process.loop, machine.moment, machine.offset)
        machine.note("process starts", str(process.number))
        self._spec.on_start()

        async def run() -> None:
            process.runtime = runtime = self._runtime(process)
            try:
                await runtime.start()
            except StoreError as error:
                machine.note("start fails", type(error).__name__)
                machine.after(0, lambda: self.end(process, self._outage_s(None)))
                return
            faults.is_opening = False
            process.is_ready = True
            machine.note("process is up")
            self._on_ready(process)
            await runtime.stopped()
            if process.is_ready:
                self._stopped_by_itself(process)

        process.begin(run)

    def _runtime(self, process: SimProcess) -> Runtime:
        choices, number = self._machine.choices, process.number
        return Runtime.of(
            replace(
                self._spec.blueprint(self._resources),
                store=process.store,
                settings=self.settings,
                resources=self._resources,
                clock=self._clocks[process],
                new_id=unique_ids(lambda count: choices.entropy(f"ids of process {number}", count)),
                random=choices.stream("jitter").random,
                threads=InlineThreads(process.loop, self._worker_delay_s),
            )
        )

    def _worker_delay_s(self) -> float:
        slow = self._plan.strikes("slow worker", self._plan.faults.slow_worker)
        if slow is None:
            return 0.000_01 + 0.001 * self._machine.choices.number("worker latency")
        delay_s = slow.spread("seconds", 0.001, self._plan.faults.slow_s)
        self._machine.note("FAULT", f"slow worker, {delay_s:.3f} s")
        return delay_s

    # Ending

    def end(self, process: SimProcess, outage_s: float) -> None:
        """Kill it, if it is not dead; after the outage the next one starts."""
        if not process.is_alive:
            return
        is_newest = process is self._newest
        self._machine.kill(process)
        self._on_end(process)
        if is_newest:
            self._machine.after(outage_s, self._start_if_none)

    def crash(self, process: SimProcess, why: str, details: Choices | None) -> None:
        """Kill it for a reason. From within it, this does not return."""
        outage_s = self._outage_s(details)
        self._machine.note("CRASH", f"of process {process.number}, {why}; {outage_s:.3f} s down")
        self.kills[why] += 1
        self.end(process, outage_s)
        if self._machine.current is process:
            process.leave()

    def stop(self, process: SimProcess, outage_s: float) -> None:
        """Ask it to stop; the next one starts after the outage."""

        async def stop() -> None:
            process.is_ready = False
            await process.runtime.stop()
            self._machine.note("process stops")
            self._machine.after(0, lambda: self.end(process, outage_s))

        self._machine.note("asked to stop", f"process {process.number}")
        process.begin(stop)

    def _stopped_by_itself(self, process: SimProcess) -> None:
        """A saga escalated, or the store was taken: who looks after the service starts another."""
        process.is_ready = False
        self._machine.note("process stops by itself")
        self._machine.after(0, lambda: self.end(process, self._outage_s(None)))

    def leave_one(self) -> None:
        """End all but the newest process: those that were overtaken."""
        for process in list(self._machine.processes):
            if process is not self._newest:
                self.end(process, 0.0)

    def _start_if_none(self) -> None:
        if self._newest is None or not self._newest.is_alive:
            self.start()

    def _outage_s(self, details: Choices | None) -> float:
        if details is None:
            return CALM_OUTAGE_S
        return details.spread("outage", OUTAGE_MIN_S, self._plan.faults.outage_s)

    # Faults

    def reached(self, point: Point) -> None:
        """A process passes a boundary: the listener of ``perdure.failpoints``."""
        machine, plan, faults = self._machine, self._plan, self._plan.faults
        process = machine.current
        if process is None or not process.is_alive:
            return
        machine.note("passes", point.value)
        details = plan.strikes(f"crash {point.value}", faults.crash_at_boundary)
        if details is not None:
            self.crash(process, point.value, details)
        details = plan.strikes(f"pause {point.value}", faults.pause_at_boundary)
        if details is not None:
            self._pause(process, details)
            process.leave()

    @property
    def _disturbs_batches(self) -> bool:
        plan, faults = self._plan, self._plan.faults
        rates = {"crash": faults.crash_at_random, "pause": faults.pause, "stop": faults.stop}
        return any(plan.may(kind, rate) for kind, rate in rates.items())

    def _before_batch(self, process: SimProcess) -> None:
        plan, faults = self._plan, self._plan.faults
        details = plan.strikes("crash", faults.crash_at_random)
        if details is not None:
            self.crash(process, "at random", details)
            return
        details = plan.strikes("pause", faults.pause)
        if details is not None:
            self._pause(process, details)
        details = plan.strikes("stop", faults.stop)
        if details is not None and process.is_ready:
            self.injected["stop"] += 1
            self.stop(process, self._outage_s(details))

    def _pause(self, process: SimProcess, details: Choices) -> None:
        length_s = details.spread("length", 0.001, self._plan.faults.pause_s)
        process.paused_until_ns = self._machine.now_ns + int(length_s * 1e9)
        self._machine.note("FAULT", f"pause of process {process.number} for {length_s:.3f} s")
        if process is self._newest and process.is_ready:
            takeover = self._plan.strikes("takeover", self._plan.faults.takeover)
            if takeover is not None:
                self._machine.after(length_s * takeover.number("when"), lambda: self._take(process))

    def _sync_failed(self, process: SimProcess, details: Choices) -> None:
        """Its store writes no more; somebody notices, ends it, and starts another one."""

        def end() -> None:
            if process.is_alive:
                self.crash(process, "its disk had failed", details)

        self._machine.after(details.spread("noticed", 0.01, self._plan.faults.outage_s), end)

    def _take(self, process: SimProcess) -> None:
        """Its lock is lost, as on a file system that does not keep its word; another starts."""
        if process is self._newest and process.is_ready:
            self._machine.note("FAULT", f"takeover from process {process.number}")
            process.store.lose_lock()
            self.start()

    def _before_wait(self, until_ns: int) -> None:
        gap_ns = until_ns - self._machine.now_ns
        if gap_ns < IDLE_FROM_NS:
            return
        plan, faults, machine = self._plan, self._plan.faults, self._machine
        details = plan.strikes("crash when idle", faults.crash_when_idle)
        if details is not None:
            choices = details

            def crash() -> None:
                if self._newest is not None and self._newest.is_alive:
                    self.crash(self._newest, "idle", choices)

            machine.after(choices.number("when") * gap_ns / 1e9, crash)
        details = plan.strikes("clock set", faults.clock_set)
        if details is not None:
            by_ms = int(details.spread("by", 0.001, faults.clock_s) * 1000) + 1
            by_ms = by_ms if details.number("sign") < 0.5 else -by_ms
            machine.after(details.number("when") * gap_ns / 1e9, lambda: self._set_clock(by_ms))

    def _set_clock(self, by_ms: int) -> None:
        self._machine.note("FAULT", f"the wall clock is set by {by_ms} ms")
        self._machine.offset_ms += by_ms
        for process in self._machine.processes:
            self._clocks[process].was_set(self._machine.choices.stream("noticed").random)


def _differing(before: Settings, after: Settings) -> list[str]:
    names = before.__dataclass_fields__
    return [
        f"{name}={getattr(after, name):g}"
        for name in names
        if getattr(before, name) != getattr(after, name)
    ]
