"""What may happen to a runtime in a simulation, and how likely it is.

    simulate(scenario, [Order], faults=Faults(crash_at_boundary=0.01, pause=0.001))

``Faults.swarm()``, the default, lets each seed draw its own subset and rates, so that one fault
does not hide another (Groce et al., "Swarm Testing", 2012). Next to read: ``plan.py``, when they
strike; ``hostile.py``, the settings a seed may be given.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Self

from perdure.errors import DefinitionError
from perdure.testing.simulation.choices import Choices

__all__ = ["Faults"]

SWARM_SHARE = 0.5
"""Each kind of fault is in every second seed."""

SWARM_RATE_MIN = 0.05
"""What is drawn is between this share of the greatest rate, and that rate."""


@dataclass(frozen=True, kw_only=True)
class Faults:
    """Rates from 0 to 1, each for one occasion, and how long things last at most, in seconds.

    ``crash_at_boundary``: the process is killed at one of the boundaries K1 to K20, per boundary
    passed. ``crash_at_random``: … between two callbacks of its loop, per batch of them.
    ``crash_when_idle``: … while nothing happens, per wait of more than a second. ``stop``: it is
    asked to stop, as at a deployment, per batch. After each, the next one starts within
    ``outage_s``. ``pause`` (per batch) and ``pause_at_boundary``: it stands still, as at SIGSTOP,
    for up to ``pause_s``. ``takeover``: its lock is lost meanwhile, and another process starts
    beside it, per pause.

    ``write_fails``: nothing of a transaction is written; ``answer_lost``: it is, and the caller is
    told that it failed; ``sync_fails``: the disk refuses to make a transaction durable, nobody
    knows what is in the file, and the process is ended and started again, as one has to;
    ``read_fails``; ``open_fails``, at the start of a process; ``slow_store``: an operation takes up
    to ``slow_s``. Each per operation, with the driver's own errors.

    ``duplicate``: a message is delivered again under its id, up to three times. ``aimed``: a
    message is held back until a delicate moment, such as when its instance leaves memory.
    ``slow_worker``: a worker that is a plain function is called, or heard of, up to ``slow_s``
    later. ``clock_set``: the wall clock is set by up to ``clock_s``, per wait.
    ``hostile``: a setting is as small as can be, per setting and run.
    """

    crash_at_boundary: float = 0.0
    crash_at_random: float = 0.0
    crash_when_idle: float = 0.0
    stop: float = 0.0
    pause: float = 0.0
    pause_at_boundary: float = 0.0
    takeover: float = 0.0
    write_fails: float = 0.0
    answer_lost: float = 0.0
    sync_fails: float = 0.0
    read_fails: float = 0.0
    open_fails: float = 0.0
    slow_store: float = 0.0
    duplicate: float = 0.0
    aimed: float = 0.0
    slow_worker: float = 0.0
    clock_set: float = 0.0
    hostile: float = 0.0
    outage_s: float = 10.0
    pause_s: float = 10.0
    slow_s: float = 5.0
    clock_s: float = 10.0
    is_swarm: bool = False

    def __post_init__(self) -> None:
        for name, value in self._numbers().items():
            is_right = value > 0 if name.endswith("_s") else 0 <= value <= 1
            if not is_right:  # also of NaN
                wanted = "a number of seconds above zero" if name.endswith("_s") else "0 to 1"
                raise DefinitionError(f"Faults.{name} is {value!r}", remedy=f"give {wanted}")

    @classmethod
    def none(cls) -> Self:
        """Nothing goes wrong; latencies and the order of equal timers still differ by seed."""
        return cls()

    @classmethod
    def swarm(cls, **changed: float) -> Self:
        """Everything may happen; each seed draws which of it, and how often, up to these rates."""
        rates: dict[str, Any] = {**_SWARM, **changed}
        return cls(**rates, is_swarm=True)

    def drawn(self, choices: Choices) -> Faults:
        """The rates of one seed."""
        if not self.is_swarm:
            return self
        rates: dict[str, Any] = {}
        for name, most in self._numbers().items():
            if not name.endswith("_s") and most:
                is_in = choices.number(f"swarm {name}") < SWARM_SHARE
                rate = choices.spread(f"swarm rate of {name}", most * SWARM_RATE_MIN, most)
                rates[name] = rate if is_in else 0.0
        return replace(self, **rates, is_swarm=False)

    def _numbers(self) -> dict[str, float]:
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "is_swarm"}


_SWARM = {
    "crash_at_boundary": 0.05,
    "crash_at_random": 0.01,
    "crash_when_idle": 0.2,
    "stop": 0.01,
    "pause": 0.01,
    "pause_at_boundary": 0.02,
    "takeover": 0.5,
    "write_fails": 0.2,
    "answer_lost": 0.2,
    "sync_fails": 0.05,
    "read_fails": 0.2,
    "open_fails": 0.1,
    "slow_store": 0.1,
    "duplicate": 0.5,
    "aimed": 0.5,
    "slow_worker": 0.3,
    "clock_set": 0.1,
    "hostile": 0.7,
}
