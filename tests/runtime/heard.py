"""An observer that keeps what it hears, for tests."""

from __future__ import annotations

from typing import Any

from perdure.observer import HOOKS, Observer


class Heard(Observer):
    """Keeps every event, in order; and apart what it is to count."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.counted: list[tuple[str, ...]] = []

    def record_turn(self, process_type: str, outcome: str) -> None:
        self.counted.append(("turn", process_type, outcome))

    def record_end(self, process_type: str, status: str, seconds: float) -> None:
        self.counted.append(("end", process_type, status, f"{seconds:.0f}"))

    def record_attempt(self, queue: str, outcome: str, seconds: float) -> None:
        assert seconds >= 0
        self.counted.append(("attempt", queue, outcome))

    def of(self, *kinds: type) -> list[Any]:
        """The events of these kinds."""
        return [event for event in self.events if type(event) in kinds]

    def one(self, kind: type) -> Any:
        """The only event of a kind."""
        [event] = self.of(kind)
        return event


for _methods in HOOKS.values():

    def _keep(self: Heard, event: Any) -> None:
        self.events.append(event)

    setattr(Heard, _methods[0], _keep)
