"""How much is tried: little when all tests run, more when somebody has the time.

    PERDURE_TEST_EFFORT=10 python -m pytest -n auto --timeout 1200 tests/simulation tests/core

multiplies the seeds of the simulation's tests and the examples of the property tests. What is tried
at an effort of 1 is tried at any other one too. The sweeps have commands of their own
(``python -m tests.simulation``, ``tests.kill_sweep``, ``tests.cluster_sweep``, …).
"""

from __future__ import annotations

import os

__all__ = ["EFFORT", "times"]

EFFORT = int(os.environ.get("PERDURE_TEST_EFFORT", "1"))


def times(few: int) -> int:
    """So many, or a multiple of it."""
    return few * EFFORT
