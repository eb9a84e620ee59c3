"""The front door of the simulation: a scenario over sagas, played under many seeds.

    from perdure.testing import simulate

    def test_an_order_is_shipped_whatever_happens():
        simulate(paid_in_any_order, [Order, payments]).run(seeds=200)

    def test_an_order_survives_a_crash_anywhere():
        simulate(paid_in_any_order, [Order, payments]).crash_everywhere()

    simulate(paid_in_any_order, [Order, payments]).replay(seed=17)

Next to read: ``world.py``, what a scenario can do; ``run.py``, one run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from inspect import iscoroutinefunction
from typing import Any

from perdure.errors import DefinitionError
from perdure.runtime.definitions import Saga
from perdure.settings import Settings
from perdure.testing.simulation.counts import Counts
from perdure.testing.simulation.faults import Faults
from perdure.testing.simulation.plan import Plan
from perdure.testing.simulation.report import failed, not_repeated
from perdure.testing.simulation.run import Outcome, run_once
from perdure.testing.simulation.shrink import ddmin, earlier
from perdure.testing.simulation.spec import Spec
from perdure.testing.simulation.world import World

__all__ = ["Simulation", "simulate"]

SHRINKING_RUNS_MAX = 300


def simulate(
    scenario: Callable[[World], Any],
    members: Sequence[Saga | Any],
    *,
    settings: Settings | None = None,
    resources: Mapping[str, Any] | Callable[[World], Mapping[str, Any]] | None = None,
    messages: Iterable[type] = (),
    faults: Faults | None = None,
    on_start: Callable[[], Any] | None = None,
) -> Simulation:
    """A scenario, to be played with ``run``, ``crash_everywhere`` or ``replay``.

        simulate(paid_in_any_order, [Order, payments], faults=Faults(crash_at_random=0.01))

    ``scenario(world)`` is a plain function: it sends, lets time pass, and asserts. ``members``,
    ``settings`` and ``messages`` are what ``Runtime`` takes, and so are ``resources``, unless they
    are a function of the world, which makes new ones for each run. A worker can have ``effects:
    Ledger`` in any case. ``on_start()`` is called when a process starts: reset there what your own
    modules hold in memory, and a crash would lose. ``faults``: by default ``Faults.swarm()``.
    """
    if not callable(scenario):
        raise DefinitionError(f"{scenario!r} is no scenario", remedy="give a function of the world")
    if iscoroutinefunction(scenario) or iscoroutinefunction(on_start):
        raise DefinitionError(
            f"{scenario!r}: neither a scenario nor on_start is a coroutine",
            remedy="write plain functions: each call of the world waits by itself",
        )
    if not isinstance(members, Sequence) or not members:
        raise DefinitionError(
            f"the members are {members!r}", remedy="give the list of sagas and queues to be tried"
        )
    if faults is not None and not isinstance(faults, Faults):
        raise DefinitionError(
            f"the faults are {faults!r}", remedy="give Faults.swarm(), Faults.none() or Faults(…)"
        )
    spec = Spec(
        scenario,
        list(members),
        settings or Settings(),
        resources or {},
        tuple(messages),
        faults or Faults.swarm(),
        on_start or _nothing,
    )
    return Simulation(spec)


class Simulation:
    """A scenario that can be played. Made by ``simulate``."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec

    def run(self, seeds: int | Iterable[int] = 100) -> Counts:
        """Play it once per seed (a number: from 0 up to it). What was done, in figures.

        The first one is played twice: what differs then is not decided by the seed.

        Raises ``SimulationFailed`` for the first run that fails, shrunk to the faults it needs.
        """
        total = Counts()
        for number, seed in enumerate(_checked_seeds(seeds)):
            outcome = run_once(self.spec, seed)
            total += outcome.counts
            if outcome.error is not None:
                raise self._shrunk(outcome)
            if number == 0:
                self._check_repeats(outcome)
        return total

    def crash_everywhere(self, seed: int = 0, *, every: int = 1) -> Counts:
        """Play it once per boundary that it passes, and kill the process there.

        ``every=10``: only at each tenth one, for scenarios that pass thousands.

        Raises ``SimulationFailed``, also if it fails without a crash.
        """
        quiet = self._with(seed, ())
        total = quiet.counts
        if quiet.error is not None:
            raise failed(quiet, 0, self._replay(seed, ()))
        if type(every) is not int or every < 1:
            raise DefinitionError(f"every={every!r}", remedy="give a whole number from 1 on")
        for boundary in quiet.boundaries[::every]:
            outcome = self._with(seed, [boundary])
            total += outcome.counts
            if outcome.error is not None:
                raise failed(outcome, 1, self._replay(seed, [boundary]))
        return total

    def replay(self, seed: int, faults: Sequence[str] | None = None) -> Outcome:
        """Play one run again exactly, print its trace, and raise what it raised.

        ``faults``: only these of its faults, by the names that were printed.
        """
        outcome = self.outcome(seed, faults)
        print("\n".join(outcome.trace.lines(is_full=True)))
        if outcome.error is not None:
            raise outcome.error
        return outcome

    def outcome(self, seed: int, faults: Sequence[str] | None = None) -> Outcome:
        """What comes of one run; with only these of its faults, if they are given."""
        return run_once(self.spec, seed) if faults is None else self._with(seed, faults)

    def _check_repeats(self, outcome: Outcome) -> None:
        again = run_once(self.spec, outcome.seed)
        if again.trace.digest() != outcome.trace.digest():
            raise not_repeated(outcome, again, self._replay(outcome.seed, None))

    def _with(self, seed: int, names: Sequence[str]) -> Outcome:
        lengths = self.spec.faults
        return run_once(self.spec, seed, lambda choices: Plan.of(choices, names, lengths))

    def _shrunk(self, outcome: Outcome) -> AssertionError:
        """The same failure with as few faults as will do."""
        seed, names = outcome.seed, list(dict.fromkeys(outcome.faults))

        def fails(some: Sequence[str]) -> bool:
            return self._with(seed, some).kind == outcome.kind

        if not fails(names):  # should not be: then as it was
            return failed(outcome, len(names), self._replay(seed, None))
        needed = earlier(ddmin(names, fails, SHRINKING_RUNS_MAX), fails)
        return failed(self._with(seed, needed), len(names), self._replay(seed, needed))

    def _replay(self, seed: int, names: Sequence[str] | None) -> str:
        scenario = getattr(self.spec.scenario, "__name__", "scenario")
        only = "" if names is None else f", faults={list(names)!r}"
        return f"simulate({scenario}, …).replay(seed={seed}{only})"


def _checked_seeds(seeds: int | Iterable[int]) -> Sequence[int]:
    listed: Sequence[Any] = []
    if type(seeds) is int:
        listed = range(seeds)
    elif isinstance(seeds, Iterable) and not isinstance(seeds, str):
        listed = list(seeds)
    if not listed or any(type(seed) is not int for seed in listed):
        raise DefinitionError(
            f"seeds={seeds!r} tries nothing", remedy="give how many, or the seeds: whole numbers"
        )
    return listed


def _nothing() -> None: ...
