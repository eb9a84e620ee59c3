"""Shipped for tests: a clock that tests advance, a store that fails on demand, the conformance
suite for stores, and the simulation of whole runtimes under faults.

Nothing of perdure imports this package.
"""

from perdure.testing.clock import SimulatedClock
from perdure.testing.faults import FaultyStore
from perdure.testing.simulation import (
    Counts,
    Faults,
    Ledger,
    Simulation,
    SimulationFailed,
    World,
    simulate,
)

__all__ = [
    "Counts",
    "Faults",
    "FaultyStore",
    "Ledger",
    "SimulatedClock",
    "Simulation",
    "SimulationFailed",
    "World",
    "simulate",
]
