"""What is simulated: given by the user, the same for every run.

Next to read: ``simulate.py``, where it comes from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from perdure.runtime.definitions import Saga
from perdure.settings import Settings
from perdure.testing.simulation.faults import Faults

if TYPE_CHECKING:
    from perdure.testing.simulation.world import World

__all__ = ["Spec"]


@dataclass(frozen=True)
class Spec:
    """A scenario, and the runtime it is about."""

    scenario: Callable[[World], Any]
    members: Sequence[Saga | Any]
    settings: Settings
    resources: Mapping[str, Any] | Callable[[World], Mapping[str, Any]]
    messages: Sequence[type]
    faults: Faults
    on_start: Callable[[], Any]

    def resources_of(self, world: World) -> dict[str, Any]:
        """What the workers of one run are given: the outside world, which no crash touches."""
        given = self.resources(world) if callable(self.resources) else self.resources
        return {"effects": world.effects, **given}
