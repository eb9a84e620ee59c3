"""Settings as small as can be: most corners of a runtime are where something is full.

After FoundationDB's "buggify". Promises (how long ids are remembered, how much may wait) are left
alone. Next to read: ``settings.py`` of perdure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from perdure.settings import Settings
from perdure.testing.simulation.choices import Choices
from perdure.testing.simulation.plan import Plan

__all__ = ["made_hostile"]

_DRAWN: dict[str, Callable[[Choices], Any]] = {
    "mailbox_max": lambda choices: choices.whole("size", 1, 3),
    "in_flight_max": lambda choices: choices.whole("size", 2, 5),
    "snapshot_every": lambda choices: choices.whole("size", 1, 3),
    "batch_max": lambda choices: 1,
    "residents_max": lambda choices: choices.whole("size", 1, 3),
    "rehydrations_max": lambda choices: 1,
    "idle_after_s": lambda choices: choices.spread("seconds", 0.001, 0.1),
    "queue_window": lambda choices: choices.whole("size", 1, 3),
    "worker_threads_max": lambda choices: 1,
    "deadline_page": lambda choices: choices.whole("size", 1, 2),
    "deadlines_in_flight_max": lambda choices: 1,
}


def made_hostile(settings: Settings, plan: Plan) -> Settings:
    """The settings of a run."""
    changed = {}
    for name, draw in _DRAWN.items():
        details = plan.strikes(f"setting {name}", plan.faults.hostile)
        if details is not None:
            changed[name] = draw(details)
    return replace(settings, **changed)
