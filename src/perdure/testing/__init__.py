"""Shipped for tests: a clock that tests advance, a store that fails on demand, and the conformance
suite for stores.

Nothing of perdure imports this package.
"""

from perdure.testing.clock import SimulatedClock
from perdure.testing.faults import FaultyStore

__all__ = ["FaultyStore", "SimulatedClock"]
