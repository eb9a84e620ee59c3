"""What time brings to instances: their deadlines, and the end of waiting for parked messages.

Makes deliveries of rows whose moment has come. Next to read: ``timers.py``, ``saga_actor.py``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

from perdure.core.commit import DeadlineRow, InboxRow
from perdure.core.correlation import VerdictKind, split_key
from perdure.core.instance import Instance
from perdure.core.outcome import TIMEOUT, Turn
from perdure.core.saga import Definition
from perdure.errors import HandlerFailed, InstanceQuarantined
from perdure.messages import DeadlineReached, Message, TimeoutReached, datetime_of
from perdure.runtime.delivery import Delivery
from perdure.runtime.missing import waiting
from perdure.runtime.services import Services
from perdure.runtime.timers import After, Timer

__all__ = ["Wakeups"]

logger = logging.getLogger("perdure.timers")

PAGE = 1_000


class Wakeups:
    """Fires deadlines and expires parked messages; ``admit`` takes the deliveries."""

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
        self._deadlines = Timer(clock, store.deadlines, self._fire_deadline, *limits)
        self._expiries = Timer(clock, _nothing, self._fire_expiry, *limits)
        self._unknown: set[str] = set()

    async def start(self) -> None:
        """Read what is armed, fire what is overdue."""
        await self._expiries.start()
        position = 0
        while rows := await self._services.store.inbox(position, PAGE):
            for row in rows:
                self.parked(row)
            await self._wake_started(rows)
            position = rows[-1].position
        await self._deadlines.start()

    async def _wake_started(self, rows: Sequence[InboxRow]) -> None:
        """Instances that started just before the process ended, with mail not yet taken."""
        first = {row.instance: row for row in reversed(rows)}
        for loaded in await self._services.store.load(list(first)):
            definition = self._definitions.get(split_key(loaded.instance)[0])
            if definition is None or not (loaded.turns or loaded.snapshot):
                continue
            delivery = waiting(self._services, definition, first[loaded.instance])
            if delivery is not None:
                self._admit(delivery)

    async def stop(self) -> None:
        """Fire nothing more."""
        await self._deadlines.stop()
        await self._expiries.stop()

    @property
    def is_settled(self) -> bool:
        """The next deadline to fire is known."""
        return not self._deadlines.is_reading

    async def settled(self) -> None:
        """Wait until the next deadline to fire is known."""
        await self._deadlines.read()

    def committed(self, key: str, turn: Turn) -> None:
        """A turn that changed deadlines is durable."""
        for name in turn.deadlines_cleared:
            self._deadlines.clear(key, name)
        for name, armed in turn.deadlines_set.items():
            self._deadlines.set(DeadlineRow(key, name, armed.sequence_nr, armed.due_at_ms))

    def rearm(self, key: str, instance: Instance) -> None:
        """A commit's outcome was unknown; now the journal says what the instance has armed."""
        for name, armed in instance.deadlines.items():
            self._deadlines.set(DeadlineRow(key, name, armed.sequence_nr, armed.due_at_ms))

    def parked(self, row: InboxRow) -> None:
        """A message waits in the inbox; if it may not do so for ever, its end is noted."""
        if row.expires_at_ms is not None:
            end = DeadlineRow(row.instance, row.message_id, 0, row.expires_at_ms)
            self._expiries.set_once(end)  # a repeated message does not wait longer

    def taken(self, key: str, message_id: str) -> None:
        """A message that waited has had its turn: it does not expire any more."""
        self._expiries.clear(key, message_id)

    def deadline(self, definition: Definition, row: DeadlineRow) -> Delivery:
        """The delivery that tells an instance that its deadline is reached."""
        due_at = datetime_of(row.due_at_ms)
        content = (
            TimeoutReached(due_at) if row.name == TIMEOUT else DeadlineReached(row.name, due_at)
        )
        message_id = f"perdure.deadline/{row.name}/{row.sequence_nr}"
        stored = self._services.codec.encode(content)
        message = Message(content, *stored, message_id, self._services.clock.now_ms())
        delivery = Delivery(definition, row.instance, message, VerdictKind.CONTINUE)
        delivery.deadline_nr = row.sequence_nr
        return delivery

    def _fire_deadline(self, row: DeadlineRow, done: Callable[[bool], None]) -> None:
        definition = self._definition(row)
        if definition is None:
            done(False)
            return
        delivery = self.deadline(definition, row)
        delivery.on_answer = _then(done)
        self._admit(delivery)

    def _fire_expiry(self, row: DeadlineRow, done: Callable[[bool], None]) -> None:
        definition = self._definition(row)
        if definition is None:
            done(False)
            return
        # Only the id matters: the incarnation knows the message that waits under it.
        message = Message(None, "perdure.Expired", 1, b"", row.name, row.due_at_ms)
        delivery = Delivery(definition, row.instance, message, VerdictKind.CONTINUE)
        delivery.expires = True
        delivery.on_answer = _then(done)
        self._admit(delivery)

    def _definition(self, row: DeadlineRow) -> Definition | None:
        saga, _ = split_key(row.instance)
        definition = self._definitions.get(saga)
        if definition is None and saga not in self._unknown:
            self._unknown.add(saga)
            logger.error(
                "deadlines of saga %r are due, but this runtime does not run it; they are kept "
                "and fire when a runtime with that saga starts",
                saga,
            )
        return definition


def _then(done: Callable[[bool], None]) -> Callable[[Delivery, BaseException | None], None]:
    def on_answer(delivery: Delivery, error: BaseException | None) -> None:
        settled = error is None or isinstance(error, (HandlerFailed, InstanceQuarantined))
        done(not settled)

    return on_answer


async def _nothing(after: After, limit: int) -> Sequence[DeadlineRow]:
    return ()
