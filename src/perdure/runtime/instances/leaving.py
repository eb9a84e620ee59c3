"""What is on its way to the store when an incarnation is to leave before its time.

    restarted     its message waits for another try, by the next incarnation
    set aside     its message is held, and the instance quarantined, in one transaction
    escalated     its message waits for the next runtime; this one stops

Nothing is handled between the failure and the commit: what comes meanwhile is a ``follower``, and
goes on in its order. Each is a ticket of the group commit.
Next to read: ``failing.py``, which submits them; ``quarantine.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.core.commit import InboxRow, QuarantineRow, Settlement
from perdure.core.outcome import Outcome
from perdure.errors import Escalated, StoreError
from perdure.runtime.delivery import Delivery
from perdure.runtime.instances.pending import Pending, PendingWait, tell_retry

if TYPE_CHECKING:
    from perdure.runtime.instances.saga_actor import SagaActor

__all__ = ["Escalating", "Leaving", "Lifting", "Restarting", "SettingAside"]


class Leaving(Pending):
    """The last entry of an incarnation; ``followers`` came after its message, and go on."""

    __slots__ = ("followers", "row")

    def __init__(
        self, actor: SagaActor, delivery: Delivery, entry: InboxRow | Settlement, row: InboxRow
    ) -> None:
        super().__init__(actor, delivery, entry)
        self.row = row
        self.followers: list[Delivery] = []

    @property
    def deliveries(self) -> list[Delivery]:
        return [self.delivery, *self.followers]


class Restarting(Leaving):
    """The message waits for its moment; then the next incarnation takes it."""

    __slots__ = ()

    def settle(self) -> None:
        supervisor = self.actor.supervisor
        supervisor.wakeups.waits(self.row)
        tell_retry(self.actor, self.delivery, self.row)
        self.delivery.answer(Outcome.DELAYED)
        supervisor.relieve(self.actor, self.followers)


class SettingAside(Leaving):
    """The message is held, its instance quarantined."""

    __slots__ = ("quarantine",)

    def __init__(
        self, actor: SagaActor, delivery: Delivery, row: InboxRow, quarantine: QuarantineRow
    ) -> None:
        entry = Settlement(actor.key, inbox=row, quarantine=quarantine)
        super().__init__(actor, delivery, entry, row)
        self.quarantine = quarantine

    def settle(self) -> None:
        actor, supervisor = self.actor, self.actor.supervisor
        supervisor.wakeups.taken(actor.key, self.row.message_id)
        supervisor.quarantine.begin(self.quarantine, is_written=True)
        supervisor.quarantine.tell_begun(self.quarantine)
        supervisor.relieve(actor, self.followers)
        self.delivery.answer(Outcome.HELD)  # last: whom it makes room for must not be before

    def lost(self, error: StoreError) -> None:
        self.actor.supervisor.quarantine.doubt(self.actor.key)
        super().lost(error)


class Escalating(PendingWait):
    """The message waits in the inbox for the next runtime."""

    __slots__ = ("error",)

    def __init__(
        self, actor: SagaActor, delivery: Delivery, row: InboxRow, error: Escalated
    ) -> None:
        super().__init__(actor, delivery, row)
        self.error = error

    def settle(self) -> None:
        self.delivery.answer(Outcome.DELAYED)  # and nobody wakes it: this runtime is over
        self.actor.supervisor.escalated(self.error)


class Lifting(Pending):
    """A quarantine ends: first of all that the new incarnation writes."""

    __slots__ = ()

    def __init__(self, actor: SagaActor) -> None:
        self.actor = actor
        self.entry = Settlement(actor.key, quarantine=QuarantineRow(actor.key, "", "", 0, True))

    @property
    def deliveries(self) -> list[Delivery]:
        return []

    def written(self) -> None:
        if self.actor.oldest_written():
            self.actor.supervisor.quarantine.lifted(self.actor.key)
            if self.actor.in_flight is None:
                self.actor.supervisor.on_quiet()

    def left_out(self, error: StoreError) -> None:
        self.actor.on_lost(error)

    unknown = left_out
