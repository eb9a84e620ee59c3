"""Deterministic simulation: the real runtime over real SQL; time, order and faults from a seed.

A message's way through it: ``world.py`` (what the test does) → ``calls.py`` (a client that repeats)
→ ``machine.py`` (whose turn it is) → ``process.py`` (a process: its loop and its death) → the
runtime itself → ``inline_store.py`` (its file). ``nemesis.py`` works against it, as ``plan.py`` has
it, and ``checks.py`` looks at what is left.
"""

from perdure.testing.simulation.counts import Counts
from perdure.testing.simulation.faults import Faults
from perdure.testing.simulation.ledger import Ledger
from perdure.testing.simulation.report import SimulationFailed
from perdure.testing.simulation.simulate import Simulation, simulate
from perdure.testing.simulation.world import World

__all__ = ["Counts", "Faults", "Ledger", "Simulation", "SimulationFailed", "World", "simulate"]
