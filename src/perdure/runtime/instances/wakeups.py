"""What time brings to instances: their deadlines, and the moments of messages that wait.

Makes deliveries of rows whose moment has come. After a start it also looks over the inbox once, in
the background, for messages that are ready and were not taken when the last process ended.
Next to read: ``timers.py``, ``woken.py``, ``saga_actor.py``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence

import perdure.failpoints as failpoints
from perdure.core.commit import DeadlineRow, InboxReason, InboxRow
from perdure.core.correlation import VerdictKind, split_key
from perdure.core.instance import Instance
from perdure.core.outcome import TIMEOUT, Turn
from perdure.core.saga import Definition
from perdure.core.turn import deadline_id
from perdure.errors import (
    DecodeError,
    DefinitionError,
    HandlerFailed,
    InstanceNotFound,
    InstanceQuarantined,
    MessageNotHandled,
)
from perdure.failpoints import Point
from perdure.messages import DeadlineReached, Message, TimeoutReached, datetime_of
from perdure.runtime.delivery import Delivery
from perdure.runtime.instances.timers import Timer
from perdure.runtime.services import Services

__all__ = ["Wakeups"]

logger = logging.getLogger("perdure.timers")

PAGE = 1_000
LOADS = 100
"""So many instances are read at once to see whether they have started."""

_FINAL = (
    HandlerFailed, InstanceQuarantined, InstanceNotFound, MessageNotHandled, DecodeError,
)  # fmt: skip
"""Told of a message whose end is written, or which must wait for more than time."""


class Wakeups:
    """Fires deadlines and wakes instances whose messages wait; ``admit`` takes the deliveries."""

    def __init__(
        self,
        services: Services,
        definitions: Mapping[str, Definition],
        admit: Callable[[Delivery], None],
    ) -> None:
        self._services = services
        self._definitions = definitions
        self._admit = admit
        settings = services.settings
        limits = (settings.deadline_page, settings.deadlines_in_flight_max, settings.retry_pause_s)
        store, clock = services.store, services.clock
        self._deadlines: Timer[DeadlineRow] = Timer(
            clock,
            store.deadlines,
            self._fire_deadline,
            lambda row: (row.instance, row.name),
            *limits,
            troubles=services.troubles,
        )
        self._inbox: Timer[InboxRow] = Timer(
            clock,
            store.inbox_due,
            self._fire_waiting,
            lambda row: (row.instance, row.message_id),
            *limits,
            troubles=services.troubles,
        )
        self._unknown: set[str] = set()
        self._looking = services.background("looking over the inbox", self._look_over)
        self._looked_at = 0  # the position in the inbox
        self._is_running = False

    async def start(self) -> None:
        """Read what is armed, fire what is overdue."""
        self._is_running = True
        self._looking.start()
        await self._inbox.start()
        await self._deadlines.start()

    async def stop(self) -> None:
        """Fire nothing more."""
        self._is_running = False
        await self._looking.stop()
        await self._deadlines.stop()
        await self._inbox.stop()

    @property
    def is_settled(self) -> bool:
        """The next row to fire is known, and nothing ready is left from before the start."""
        is_reading = self._deadlines.is_reading or self._inbox.is_reading
        return not is_reading and not self._looking.is_running

    async def settled(self) -> None:
        """Wait until it is so."""
        await self._deadlines.read()
        await self._inbox.read()
        await self._looking.ended()

    def committed(self, key: str, turn: Turn) -> None:
        """A turn that changed deadlines is durable."""
        for name in turn.deadlines_cleared:
            self._deadlines.clear(key, name)
        for name, armed in turn.deadlines_set.items():
            self._deadlines.set(DeadlineRow(key, name, armed.sequence_nr, armed.due_at_ms))

    def rearm(self, instance: Instance, inbox: Iterable[InboxRow]) -> None:
        """A commit's outcome was unknown; now the rows say what is armed, and what waits."""
        for name, armed in instance.deadlines.items():
            self._deadlines.set(DeadlineRow(instance.key, name, armed.sequence_nr, armed.due_at_ms))
        for row in inbox:
            self.waits(row)

    def arm(self, instance: Instance) -> None:
        """An instance was loaded: its journal is the truth, should the row of a deadline be gone
        or damaged."""
        for name, armed in instance.deadlines.items():
            row = DeadlineRow(instance.key, name, armed.sequence_nr, armed.due_at_ms)
            self._deadlines.set_once(row)

    def waits(self, row: InboxRow) -> None:
        """A message waits in the inbox, as this row says."""
        self._inbox.set(row)

    def taken(self, key: str, message_id: str) -> None:
        """A message that waited does not any more."""
        self._inbox.clear(key, message_id)

    def deadline(self, definition: Definition, row: DeadlineRow) -> Delivery:
        """The delivery that tells an instance that its deadline is reached."""
        due_at = datetime_of(row.due_at_ms)
        content: DeadlineReached | TimeoutReached
        if row.name.startswith(TIMEOUT):  # no other name begins so
            content = TimeoutReached(due_at, int(row.name[len(TIMEOUT) + 1 :] or 0))
        else:
            content = DeadlineReached(row.name, due_at)
        message_id = deadline_id(row.name, row.sequence_nr)
        stored = self._services.codec.encode(content)
        message = Message(content, *stored, message_id, self._services.clock.now_ms())
        delivery = Delivery(definition, row.instance, message, VerdictKind.CONTINUE)
        delivery.deadline_nr = row.sequence_nr
        return delivery

    def _fire_deadline(self, row: DeadlineRow, done: Callable[[bool], None]) -> None:
        definition = self._definition(row.instance)
        if definition is None or self.is_strange(definition, row.instance, row.name):
            done(False)
            return
        failpoints.reach(Point.DEADLINE_FIRES)
        delivery = self.deadline(definition, row)
        delivery.on_answer = _then(done)
        self._admit(delivery)

    def is_strange(self, definition: Definition, key: str, name: str) -> bool:
        """In a cluster: a deadline that other code than this has armed, and that code is to reach.

        A turn of this code would have been refused that sets one without a handler.
        """
        known = definition.deadlines
        if self._services.elsewhere is None or known is None or name.startswith(TIMEOUT):
            return False
        if name in known:
            return False
        kind = f"deadline {name!r} of saga {definition.name!r}"
        if kind not in self._unknown:
            self._unknown.add(kind)
            problem = DefinitionError(
                f"it is due, and this code has no handler for it; first seen of {key}",
                remedy="if this is older code beside newer, end it and the newer takes over; if it "
                "was given up, cancel it: runtime.repair(…).cancel_deadline",
            )
            logger.error("%s is kept: %s", kind, problem)
            self._services.troubles.failed((self, kind), f"reaching {kind}", 1, problem)
        return True

    def _fire_waiting(self, row: InboxRow, done: Callable[[bool], None]) -> None:
        definition = self._definition(row.instance)
        if definition is None:
            done(False)
        else:
            self._wake(definition, row.instance, row.message_id, done)

    def _wake(
        self, definition: Definition, key: str, message_id: str, done: Callable[[bool], None]
    ) -> None:
        """Only the id matters: the incarnation knows the message that waits under it."""
        message = Message(None, "perdure.Wake", 1, b"", message_id, self._services.clock.now_ms())
        delivery = Delivery(definition, key, message, VerdictKind.CONTINUE)
        delivery.wakes = True
        delivery.on_answer = _then(done)
        self._admit(delivery)

    def _definition(self, key: str) -> Definition | None:
        saga, _ = split_key(key)
        definition = self._definitions.get(saga)
        if definition is None and saga not in self._unknown:
            self._unknown.add(saga)
            logger.error(
                "deadlines or waiting messages of saga %r are due, but this runtime does not run "
                "it; they are kept and fire when a runtime with that saga starts",
                saga,
            )
        return definition

    # What is ready in the inbox, and was not taken before the last process ended

    async def _look_over(self) -> None:
        room = asyncio.Semaphore(self._services.settings.deadlines_in_flight_max)
        while rows := await self._services.store.inbox(self._looked_at, PAGE):
            for key in await self._ready(rows):
                await room.acquire()
                self._rouse(key, room.release)
            self._looked_at = rows[-1].position

    async def _ready(self, rows: Sequence[InboxRow]) -> list[str]:
        """Instances with messages that wait for no moment; a parked one waits for its instance.

        Those behind a delayed one are left to that one's wake-up.
        """
        ready: dict[str, None] = {}
        parked: dict[str, None] = {}
        blocked = {row.instance for row in rows if self._blocks(row)}
        for row in rows:
            if row.instance in blocked:
                continue
            if row.reason is InboxReason.MISSING:
                parked[row.instance] = None
            elif row.reason is not InboxReason.DELAYED:
                ready[row.instance] = None
        asked = [key for key in parked if key not in ready]
        for at in range(0, len(asked), LOADS):
            for loaded in await self._services.store.load(asked[at : at + LOADS]):
                if loaded.turns or loaded.snapshot:
                    ready[loaded.instance] = None
        return list(ready)

    def _blocks(self, row: InboxRow) -> bool:
        definition = self._definitions.get(split_key(row.instance)[0])
        lets_pass = definition is not None and definition.lets_pass
        return row.reason is InboxReason.DELAYED and not lets_pass

    def _rouse(self, key: str, done: Callable[[], None]) -> None:
        """Wake the instance: whatever is ready has its turn as soon as it is rehydrated."""
        definition = self._definition(key)
        if definition is None:
            done()
            return

        def answered(again: bool) -> None:
            if again and self._is_running:
                self._services.pause(f"waking {key} again", lambda: self._rouse(key, lambda: None))
            done()

        self._wake(definition, key, "", answered)


def _then(done: Callable[[bool], None]) -> Callable[[Delivery, BaseException | None], None]:
    def on_answer(delivery: Delivery, error: BaseException | None) -> None:
        done(not (error is None or isinstance(error, _FINAL)))

    return on_answer
