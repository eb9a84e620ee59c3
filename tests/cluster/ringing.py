"""A saga that publishes what another one hears, for the tests of several processes."""

from __future__ import annotations

from dataclasses import dataclass

from perdure import Effects, ProcessManager, message, starts
from tests.sagas import Opened

__all__ = ["Heard", "Ringer", "Ringing"]


@message(name="cluster-test.ringing")
class Ringing:
    id: str


@dataclass(frozen=True)
class Heard:
    status: str = "new"


class Ringer(ProcessManager[Heard]):
    name = "Ringer"

    @starts(Opened, by="id")
    def opened(self, state: Heard, event: Opened, do: Effects) -> None:
        do.publish(Ringing(event.id))
