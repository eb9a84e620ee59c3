"""What is simulated: given by the user, the same for every run.

Next to read: ``simulate.py``, where it comes from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from perdure.runtime.blueprint import Blueprint, blueprint_of, renewed
from perdure.runtime.definitions import Saga
from perdure.runtime.threads import SystemThreads
from perdure.settings import Settings
from perdure.store.memory import MemoryStore
from perdure.testing.clock import SimulatedClock
from perdure.testing.simulation.faults import Faults

if TYPE_CHECKING:
    from perdure.testing.simulation.world import World

__all__ = ["Spec"]


@dataclass(frozen=True, eq=False)
class Spec:
    """A scenario, and the runtime it is about.

    Its codec and queues are made once: to make a codec takes longer than many a run. Its sagas are
    made anew for every process, which loses what one keeps on itself.
    """

    scenario: Callable[[World], Any]
    members: Sequence[Saga | Any]
    settings: Settings
    resources: Mapping[str, Any] | Callable[[World], Mapping[str, Any]]
    messages: Sequence[type]
    faults: Faults
    on_start: Callable[[], Any]
    _made: list[Blueprint] = field(default_factory=list)

    def blueprint(self, resources: Mapping[str, Any]) -> Blueprint:
        """Of the runtime, with parts to be replaced. Raises ``DefinitionError``."""
        if not self._made:
            self._made.append(
                blueprint_of(
                    MemoryStore(),
                    self.members,
                    self.settings,
                    resources,
                    self.messages,
                    SimulatedClock(),
                    lambda: "",
                    lambda: 0.0,
                    SystemThreads(),
                )
            )
            return self._made[0]
        return renewed(self._made[0], self.members)

    def resources_of(self, world: World) -> dict[str, Any]:
        """What the workers of one run are given: the outside world, which no crash touches."""
        given = self.resources(world) if callable(self.resources) else self.resources
        return {"effects": world.effects, **given}
