"""One run: a world made, the scenario played, everything checked, everything freed.

Nothing of it may depend on the machine: Python's garbage collector rests meanwhile, since it would
finish coroutines of dead processes at moments of its own, and logging goes into the trace.
Next to read: ``simulate.py``.
"""

from __future__ import annotations

import gc
import logging
import os
import re
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import perdure.failpoints as failpoints
from perdure.errors import StoreError
from perdure.testing.simulation.choices import Choices
from perdure.testing.simulation.clock import stopwatch
from perdure.testing.simulation.counts import Counts
from perdure.testing.simulation.faults import Faults
from perdure.testing.simulation.machine import Machine
from perdure.testing.simulation.plan import Plan
from perdure.testing.simulation.spec import Spec
from perdure.testing.simulation.trace import Trace
from perdure.testing.simulation.violation import Violation
from perdure.testing.simulation.world import World

__all__ = ["Outcome", "run_once"]

RAM = Path("/dev/shm")

PlanOf = Callable[[Choices], Plan]


@dataclass(frozen=True)
class Outcome:
    """What came of a run. ``error`` is why it failed: a ``Violation``, or what the scenario raised.

    ``faults`` are those that struck, by name; ``boundaries`` all that a crash could have been at.
    """

    seed: int
    error: Exception | None
    faults: list[str]
    boundaries: list[str]
    trace: Trace
    counts: Counts

    @property
    def reason(self) -> str:
        """Why it failed, in a line or a few."""
        error = self.error
        if error is None:
            return "nothing"
        return str(error) if isinstance(error, Violation) else f"{type(error).__name__}: {error}"

    @property
    def kind(self) -> str:
        """Which failure it is: runs that fail alike have one kind."""
        error = self.error
        return error.promise if isinstance(error, Violation) else type(error).__name__


def run_once(spec: Spec, seed: int, plan_of: PlanOf | None = None) -> Outcome:
    """Play the scenario once. ``plan_of(choices)`` makes other faults than the seed's own."""
    wall_s = stopwatch()
    choices = Choices(seed)
    plan = (plan_of or _seeds_own(spec.faults))(choices)
    with _undisturbed() as log, _directory() as directory:
        world = World(spec, choices, plan, str(directory / "run.db"))
        failpoints.listener = world.nemesis.reached
        log.machine = world.machine
        error: Exception | None = None
        try:
            spec.scenario(world)
            world.finish()
        except Exception as raised:
            error = raised
        finally:
            failpoints.listener = None
            log.machine = None
            counts = world.counted()
            world.bury()
    counts.wall_s = wall_s()
    boundaries = plan.chances("crash K")
    return Outcome(seed, error, plan.struck, boundaries, world.machine.trace, counts)


def _seeds_own(faults: Faults) -> PlanOf:
    return lambda choices: Plan(choices, faults)


_NEVER_LOGGED = (
    "could not be processed",
    "telling what became of an entry failed",
    "what was written could not be told",
    "could not be started",
    "could not be let in",
    "failed, and is tried again in %g s",
    "failed, and is taken up again in %g s",
    "broke out of its turn and is not run again",
    "a worker's thread raised",
    "What another thread posted failed",
    "Done callback %r failed",
)
"""How perdure says that it has made a mistake, not its user."""

_EXPECTED = (StoreError, sqlite3.Error)
"""… unless it says what the store's faults have done to it."""


def _anywhere(text: str) -> str:
    """Without what differs from run to run: the file's path, and addresses."""
    return _PATH.sub("'the file'", _ADDRESS.sub("", text))


_PATH = re.compile(r"'/[^']*perdure[^']*'")
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def _error(record: logging.LogRecord) -> BaseException | None:
    return record.exc_info[1] if record.exc_info else None


def _is_mistake(record: logging.LogRecord) -> bool:
    is_ours = str(record.msg).endswith(_NEVER_LOGGED)
    return is_ours and not isinstance(_error(record), _EXPECTED)


class _Log(logging.Handler):
    """perdure's log, as part of the trace."""

    machine: Machine | None = None

    def emit(self, record: logging.LogRecord) -> None:
        if self.machine is not None:
            self.machine.note("logs", f"{record.levelname} {_anywhere(record.getMessage())}")
            if _is_mistake(record):
                self.machine.broken.append(f"{record.getMessage()}: {_error(record)!r}")


@contextmanager
def _undisturbed() -> Iterator[_Log]:
    logger = logging.getLogger("perdure")
    before = logger.level, logger.propagate, logger.handlers
    log = _Log()
    was_collecting = gc.isenabled()
    gc.disable()
    logger.handlers, logger.propagate = [log], False
    logger.setLevel(logging.WARNING)
    try:
        yield log
    finally:
        logger.setLevel(before[0])
        logger.propagate, logger.handlers = before[1:]
        if was_collecting:
            gc.enable()


@contextmanager
def _directory() -> Iterator[Path]:
    where = str(RAM) if os.access(RAM, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="perdure-", dir=where) as name:
        yield Path(name)
