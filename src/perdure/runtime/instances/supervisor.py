"""The supervisor: the actor that owns the live incarnations.

It routes a delivery to the incarnation of its instance, spawning one if there is none; lets idle
ones leave memory; and sees to it that an incarnation which ends unexpectedly loses no message.
Routing and removing both happen on the loop, with nothing awaited between "is it idle?" and
"remove it": no message falls between. What follows for each instance:

    absent ──deliver──> rehydrating ──rows folded──> active ──idle──> absent      (passivated)
                             ^                         │
                             └──── its mail ──── a commit failed: over

Next to read: ``saga_actor.py``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

import perdure.failpoints as failpoints
from perdure.actors import Actor
from perdure.core.commit import InboxRow
from perdure.core.instance import Instance
from perdure.core.outcome import Outcome
from perdure.core.saga import Definition
from perdure.core.supervision import Restarts
from perdure.errors import CorruptRecord, Escalated, Fenced
from perdure.failpoints import Point
from perdure.runtime.clock import Wake
from perdure.runtime.delivery import Delivery
from perdure.runtime.instances.admission import Admission
from perdure.runtime.instances.endings import Endings
from perdure.runtime.instances.freezing import Freezing
from perdure.runtime.instances.leaving import Lifting
from perdure.runtime.instances.quarantine import Quarantine, is_answered_at_once
from perdure.runtime.instances.recorded import answer_recorded
from perdure.runtime.instances.redriven import Redriven
from perdure.runtime.instances.rehydration import Rehydration, quarantined
from perdure.runtime.instances.residency import Residency
from perdure.runtime.instances.saga_actor import SagaActor
from perdure.runtime.instances.told import stopped, why_not
from perdure.runtime.instances.told_letters import ToldLetters
from perdure.runtime.instances.wakeups import Wakeups
from perdure.runtime.jobs.dispatcher import Dispatcher
from perdure.runtime.retention.purging import Purging
from perdure.runtime.services import Services
from perdure.runtime.watching.announcing import Announcing

__all__ = ["Supervisor"]

logger = logging.getLogger("perdure.supervisor")


class Supervisor(Actor):
    """Owns the incarnations of one runtime. Registered with pykka, unlike they."""

    def __init__(
        self,
        services: Services,
        definitions: Mapping[str, Definition],
        dispatcher: Dispatcher,
        on_stopped: Callable[[Escalated | None], None],
    ) -> None:
        super().__init__()
        self.services = services
        self._elsewhere = services.elsewhere
        self.definitions = definitions
        self.dispatcher = dispatcher
        self.announcing = Announcing(services)
        self.active: dict[str, SagaActor] = {}
        self.admission = Admission(services.clock, services.settings, self.deliver)
        self.told_letters = ToldLetters(services, self.admission)
        self.snapshot_every = services.settings.snapshot_every
        self.residency = Residency(services, self.passivate)
        self._rehydration = Rehydration(services, self)
        self._on_stopped = on_stopped
        self._is_closed = self.is_draining = False
        self._losses: dict[str, int] = {}  # incarnations lost since something was written
        self._unsettled: set[str] = set()  # a commit's outcome is unknown: not read back yet
        self._freezing = Freezing(services.settings.freeze_residents)
        self._tasks: set[asyncio.Task[None]] = set()
        self._pauses: dict[str, tuple[SagaActor, Wake]] = {}
        self.wakeups = Wakeups(services, definitions, self.admit)
        self.endings = Endings()
        self.restarts = Restarts()
        self.redriven = Redriven()
        self.quarantine = Quarantine(self)
        self.purging = Purging(services, definitions, self)

    def on_stop(self) -> None:
        """Stopped through pykka (``ActorRegistry.stop_all()``): the runtime goes with it."""
        self._on_stopped(None)

    # Routing

    def admit(self, delivery: Delivery) -> None:
        """Deliver what may not wait for room: a wake-up."""
        self.admission.count(delivery)
        self.deliver(delivery)

    def deliver(self, delivery: Delivery) -> None:
        """Hand the delivery to the incarnation of its instance. On the loop; never waits."""
        if self._is_closed:
            self.refuse(delivery, stopped(delivery))
            return
        if failpoints.listener is not None:
            failpoints.reach(Point.ACCEPTED)
        key, elsewhere = delivery.key, self._elsewhere
        if elsewhere is not None and not elsewhere.owns(key):
            elsewhere.deliver(delivery)
            return
        if key in self.quarantine.asides:
            self.quarantine.hold(delivery)
            return
        actor = self.active.get(key)
        if actor is None:
            actor = self.revive(delivery.definition, key)
        else:
            self.residency.touched(key)
        actor.actor_inbox.put(delivery)

    def revive(self, definition: Definition, key: str) -> SagaActor:
        """A new incarnation of an instance that is not in memory."""
        self.residency.came(key)
        actor = self.active[key] = SagaActor.spawn(self, definition, key)
        if not self.purging.holds(actor):
            self._rehydration.request(actor)
        if len(self.active) > self._freezing.above:
            self._freezing.freeze(len(self.active))
        self.on_quiet()
        return actor

    def load(self, actor: SagaActor) -> None:
        """What held it back is over: have its instance loaded."""
        if not actor.is_over:
            self._rehydration.request(actor)

    def is_aside(self, key: str) -> bool:
        """The instance is quarantined."""
        return key in self.quarantine

    # Passivation

    def passivate(self, key: str) -> bool:
        """Let the instance leave memory if it is idle; True if it is not resident afterwards."""
        actor = self.active.get(key)
        if actor is None:
            return True
        if not actor.is_quiet:
            return False
        failpoints.reach(Point.PASSIVATING)
        del self.active[key]
        self.residency.forgotten(key)
        actor.is_over = True
        actor.end()
        self.announcing.passivated(actor)
        return True

    def on_quiet(self) -> None:
        """An instance came, or has nothing more to do: somebody may have to leave memory."""
        self.residency.checked(len(self.active))

    # Incarnations that end before their time

    def relieve(self, actor: SagaActor, followers: Sequence[Delivery]) -> None:
        """All it had to write is written: its mail goes to the next one, or is held."""
        del self.active[actor.key]
        self.residency.forgotten(actor.key)
        actor.is_over = True
        self._hand_over(actor.key, [*followers, *actor.unanswered()])

    def _hand_over(self, key: str, deliveries: list[Delivery]) -> None:
        if key in self.quarantine:
            # Last of all what is answered at once: whom it makes room for must not be before.
            deliveries.sort(key=is_answered_at_once)
        for delivery in deliveries:
            self.deliver(delivery)

    def escalated(self, error: Escalated) -> None:
        """A saga says that its failure concerns the whole service."""
        logger.error("the runtime stops: %s", error)
        self._on_stopped(error)

    def incarnation_lost(self, actor: SagaActor, error: Exception) -> None:
        """A commit failed: the next incarnation reads the journal and gets the open deliveries."""
        if isinstance(error, CorruptRecord):
            self._cannot_go_on(actor, error)
            return
        deliveries = actor.unanswered()
        if isinstance(error, Fenced):
            self._fenced(actor, deliveries, error)
            return
        attempts = self._losses[actor.key] = self._losses.get(actor.key, 0) + 1
        if self.is_draining and attempts > self.services.settings.write_attempts:
            self._give_up(actor, deliveries, error)
            return
        successor = SagaActor.spawn(self, actor.definition, actor.key)
        self.active[actor.key] = successor
        self._unsettled.add(actor.key)
        for delivery in deliveries:
            if not delivery.is_in_inbox:
                delivery.attempts += 1
                delivery.last_error = error
                successor.actor_inbox.put(delivery)
        for delivery in deliveries:  # last of all: whom they make room for must not be before
            if delivery.is_in_inbox:
                delivery.answer(Outcome.PARKED)
        if self.is_draining:
            self._rehydration.request(successor)
            return
        self.admission.pause(actor.key)
        what = f"reading back {actor.key}"
        pause = self.services.pause(what, lambda: self._retry(successor), attempts)
        self._pauses[actor.key] = (successor, pause)

    def _cannot_go_on(self, actor: SagaActor, error: CorruptRecord) -> None:
        """No turn can follow what the journal holds; the next incarnation would fare alike."""
        self._unsettled.add(actor.key)
        self.rehydration_failed(actor, quarantined(actor.definition, actor.key, error))

    def written(self, key: str) -> None:
        """Something of the instance is durable: the store works again."""
        if self._losses:
            self._losses.pop(key, None)

    def rehydrated(self, actor: SagaActor, inbox: Sequence[InboxRow]) -> None:
        """An incarnation begins; after an unknown outcome, its rows say what is armed and waits."""
        key, is_lifted = actor.key, self.quarantine.is_lifted_by(actor.key)
        if is_lifted or key in self._unsettled:
            self._unsettled.discard(key)
            self.wakeups.rearm(actor.head, inbox)
        elif actor.head.deadlines:
            self.wakeups.arm(actor.head)
        self.announcing.rehydrated(actor)
        if not actor.head.is_purged:
            self.purging.ended(actor.definition.name, actor.head)
        if is_lifted:
            actor.write(Lifting(actor))

    def drain(self) -> None:
        """The runtime stops: retries do not pause any more."""
        self.is_draining = True
        self.quarantine.resume()
        self.told_letters.end_pauses()
        for successor, pause in list(self._pauses.values()):
            pause.cancel()
            self._retry(successor)

    def _retry(self, actor: SagaActor) -> None:
        self._pauses.pop(actor.key, None)
        self.admission.resume(actor.key)
        if not actor.is_over:
            self._rehydration.request(actor)

    def _fenced(self, actor: SagaActor, deliveries: list[Delivery], error: Fenced) -> None:
        """Another owner has the store: whatever this runtime still holds is not its business."""
        self._give_up(actor, deliveries, error)
        self.overtaken(error)

    def overtaken(self, error: Fenced) -> None:
        """Another owner has the store: this runtime is over."""
        what = "store" if self._elsewhere is None else "shard"
        logger.error("another runtime has taken the %s, this one stops: %s", what, error.problem)
        self._on_stopped(None)

    def _give_up(self, actor: SagaActor, deliveries: list[Delivery], error: Exception) -> None:
        self.active.pop(actor.key, None)
        self.residency.forgotten(actor.key)
        for delivery in deliveries:
            self.refuse(delivery, error)

    def rehydration_failed(self, actor: SagaActor, error: Exception) -> None:
        """The instance cannot be had now: refuse its mail; the next message tries again."""
        if self.active.get(actor.key) is actor:
            del self.active[actor.key]
            self.residency.forgotten(actor.key)
        actor.is_over = True
        is_aside = self.quarantine.not_rehydrated(actor.key, error)
        if is_aside:
            self._hand_over(actor.key, actor.unanswered())
        else:
            for delivery in actor.unanswered():
                self.refuse(delivery, why_not(delivery, error))
        self.services.commit.withdraw_void()
        if actor.key in self._unsettled and not self._is_closed and not is_aside:
            self._settle_later(actor.definition, actor.key)

    def _settle_later(self, definition: Definition, key: str) -> None:
        """What a lost incarnation may have armed must be read back, also without further mail."""
        attempts = self._losses[key] = self._losses.get(key, 0) + 1

        def settle() -> None:
            is_elsewhere = key in self.active or key in self.quarantine
            if key in self._unsettled and not is_elsewhere and not self._is_closed:
                self.revive(definition, key)

        self.services.pause(f"reading back {key}", settle, attempts)

    # Answers without a turn

    def committed(self, key: str) -> Instance | None:
        """The committed instance, if it is resident and has been rehydrated."""
        actor = self.active.get(key)
        return None if actor is None else actor.committed

    def refuse(self, delivery: Delivery, error: BaseException) -> None:
        """Tell the sender; a told message, whose sender does not wait, becomes a dead letter."""
        self.announcing.refused(delivery, error)
        if delivery.is_told:
            self.told_letters.bury(delivery, error)
        else:
            delivery.refuse(error)

    def answer_from_journal(self, delivery: Delivery, sequence_nr: int) -> None:
        """The message was processed in that turn: answer as recorded there."""
        recorded = answer_recorded(self.services, delivery, sequence_nr)
        task = asyncio.get_running_loop().create_task(recorded)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # Ending

    async def shut_down(self) -> None:
        """End all incarnations; refuse what they have not answered."""
        self._is_closed = True
        self.endings.close()
        self._freezing.end()
        await self.wakeups.stop()
        await self._rehydration.stop()
        self.residency.stop()
        for actor in list(self.active.values()):
            actor.is_over = True
            for delivery in actor.unanswered():
                self.refuse(delivery, stopped(delivery))
        self.active.clear()
        self.quarantine.close()
        self.services.commit.withdraw_void()
        self.told_letters.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)
