"""A measure carried out: shown only, or written as a turn with all that goes with it.

    decide ─> hold the letters, seize the jobs ─> still there? ─> the turn ─> give the jobs back
       ^                                             │ no            │ moved
       └─────────────────────────────────────────────┴───────────────┘

Decided on the committed head; the turn is taken only if nothing has come between, so that what was
checked and shown is what is done. Next to read: ``measures.py``, what is decided;
``instances/stepping_in.py``, the turn.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

from perdure.codec.codec import Codec
from perdure.core.commit import Settlement
from perdure.core.instance import Instance
from perdure.core.intervening import intervene
from perdure.core.intervention import Intervention
from perdure.core.outcome import Turn
from perdure.core.saga import Definition
from perdure.errors import InstanceMoved, InstanceNotFound, NotRepairable, PerdureError
from perdure.messages import Message, datetime_of
from perdure.runtime.delivery import Delivery, Receipt, Repairing
from perdure.runtime.elsewhere import Errand
from perdure.runtime.instances.rehydration import processed_in
from perdure.runtime.instances.stepping_in import told_of
from perdure.runtime.instances.supervisor import Supervisor
from perdure.runtime.jobs.dispatcher import Dispatcher
from perdure.runtime.jobs.job_tickets import Awaited
from perdure.runtime.letters.redrive import DeadLetters
from perdure.runtime.looking.history import Sent
from perdure.runtime.looking.purged import not_kept
from perdure.runtime.looking.views import Views
from perdure.runtime.repair.measures import Measure, Measures
from perdure.runtime.repair.repaired import Repaired
from perdure.runtime.repair.said import Said
from perdure.runtime.routing import Routing
from perdure.runtime.services import Services

__all__ = ["Decide", "Mending"]

logger = logging.getLogger("perdure.repair")

TRIES = 20
"""So often a repair is decided anew because its instance has moved; then it is told so."""

TEXT_CHARS_MAX = 2_000
"""So much of what was done is journaled in words."""

Decide = Callable[..., Awaitable[Measure]]
"""From (definition, instance, …) to what is to be done."""


class _Anew(Exception):
    """Something has come between: decide again."""


class Mending:
    """Carries measures out, for the instances of one runtime."""

    def __init__(
        self,
        services: Services,
        routing: Routing,
        views: Views,
        supervisor: Supervisor,
        dispatcher: Dispatcher,
        letters: DeadLetters,
        measures: Measures,
        deliver: Callable[[Delivery], Awaitable[Receipt]],
    ) -> None:
        self.measures = measures
        self.away = services.away
        self.new_id = services.new_id
        self._services = services
        self._routing = routing
        self._views = views
        self._supervisor = supervisor
        self._dispatcher = dispatcher
        self._letters = letters
        self._deliver = deliver
        self._tasks: set[asyncio.Task[Any]] = set()

    async def instance(
        self, definition: Definition, key: str, said: Said, decide: Decide, *arguments: Any
    ) -> Repaired:
        """Decide, and carry out, until nothing has come between. Raises as ``Repair`` says."""
        if (away := self._services.away(key)) is not None:
            how = said.under(self._services.new_id).fields
            errand = Errand(key, "repair", (*how, decide.__name__, *arguments))
            repaired: Repaired = await away.run(errand)
            return repaired
        try:
            for _ in range(TRIES):
                before = await self.done_before(definition, key, said)
                if before is not None:
                    return before
                instance = await self._seen(definition, key, said)
                measure = await decide(definition, instance, *arguments)
                try:
                    return await self._carry_out(definition, instance, measure, said)
                except _Anew:
                    continue
                except InstanceMoved:
                    if said.expected is not None:
                        raise
        except PerdureError as error:
            raise error.about(definition.name, key[len(definition.name) + 1 :]) from error.__cause__
        raise NotRepairable(
            f"it had other turns meanwhile, {TRIES} times", remedy="try again, or cancel it"
        ).about(definition.name, key[len(definition.name) + 1 :])

    async def _seen(self, definition: Definition, key: str, said: Said) -> Instance:
        """The instance as it is committed, and as it was expected."""
        aside = self._supervisor.quarantine.error_of(key)
        if aside is not None:
            raise aside
        await self._written(key)
        instance = await self._views.committed(definition, key)
        if not instance.exists:
            raise InstanceNotFound("there is nothing to repair", remedy="start it, or send to it")
        if instance.is_purged:
            raise not_kept(key, f"it has {instance.status}, and its state")
        if said.expected is not None and said.expected != instance.sequence_nr:
            raise InstanceMoved(
                f"{instance.correlation_id} has moved from turn {said.expected} to "
                f"{instance.sequence_nr} since you looked",
                remedy="look again, then say what is to be done",
            )
        return instance

    async def _written(self, key: str) -> None:
        """Wait for the turns that are on their way to the store."""
        actor = self._supervisor.active.get(key)
        if actor is not None and actor.in_flight:
            ticket = Awaited(Settlement(""))  # writes nothing, after all that was submitted before
            self._services.commit.submit(ticket)
            await ticket.outcome

    async def done_before(self, definition: Definition, key: str, said: Said) -> Repaired | None:
        """What was done under this message id, if anything was."""
        if said.message_id is None or said.dry_run or key in self._supervisor.quarantine:
            return None
        await self._written(key)
        return await self._recorded(definition, key, said.message_id)

    async def _recorded(self, definition: Definition, key: str, message_id: str) -> Repaired | None:
        services, resident = self._services, self._supervisor.active.get(key)
        nr = await processed_in(services, resident, definition, key, message_id)
        if nr is None:
            return None
        rows = await services.store.journal(key, nr - 1, 1)
        if not rows:
            raise not_kept(key, f"turn {nr}, which had message id {message_id!r},")
        content = services.codec.decode(*services.journal.read_turn(rows[0].body).message)
        if not isinstance(content, Intervention):
            raise NotRepairable(
                f"message id {message_id!r} is that of a {type(content).__name__} in turn {nr}",
                remedy="give another message id, or none",
            )
        saga, _, id_ = key.partition("/")
        return Repaired(content.action, saga, id_, content.text, False, nr, duplicate=True)

    # Carrying out

    async def _carry_out(
        self, definition: Definition, instance: Instance, measure: Measure, said: Said
    ) -> Repaired:
        message = self._message(instance, measure, said)
        rows = [row for row, _ in measure.jobs]
        if said.dry_run:
            if any(map(self._dispatcher.seizing.is_at_work, rows)):
                raise _at_work(measure)
            turn = self._rehearsed(definition, instance, measure, message)
            return self._repaired(instance, measure, turn, said)
        # Whoever asked may go; what was begun is carried through, and then cleared up.
        work = self._write(definition, instance, measure, message, said)
        return await asyncio.shield(self._begun(work))

    def _rehearsed(
        self, definition: Definition, instance: Instance, measure: Measure, message: Message
    ) -> Turn:
        """The turn as it would be taken now."""
        services = self._services
        now_ms, kind = services.clock.now_ms(), measure.kind
        try:
            turn = intervene(definition, instance, message, kind, now_ms, services.encoder)
            services.journal.encode_turn(turn)
        except Exception as error:
            told = told_of(definition, instance.correlation_id, error)
            raise told from told.__cause__
        return turn

    def _begun(self, work: Coroutine[Any, Any, Repaired]) -> asyncio.Task[Repaired]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._over)
        return task

    def _over(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # whoever asked may have gone

    async def _write(
        self,
        definition: Definition,
        instance: Instance,
        measure: Measure,
        message: Message,
        said: Said,
    ) -> Repaired:
        async with AsyncExitStack() as held:
            positions = [letter.position for letter, _ in measure.letters]
            await self._letters.hold(held, positions)
            if not await self._letters.are_there(positions):
                raise _Anew
            await self._seize(held, measure)
            repairing = Repairing(measure.settlements(instance.key))
            delivery = self._routing.delivery_of_ours(instance.key, message)
            delivery.kind, delivery.repair = measure.kind, repairing
            held.callback(self._look_again, measure)
            receipt = await self._deliver(delivery)
            logger.info("%s: %s", instance.key, message.content)
        for waiting in measure.waiting:
            self._supervisor.wakeups.waits(waiting)
        if repairing.turn is not None:
            done = self._repaired(instance, measure, repairing.turn, said)
            return replace(done, duplicate=receipt.duplicate)
        recorded = await self._recorded(definition, instance.key, message.message_id)
        assert recorded is not None  # it was answered as one that had been processed
        return recorded

    async def _seize(self, held: AsyncExitStack, measure: Measure) -> None:
        """Nobody begins the jobs from here on; what they are now is what the store says now."""
        rows, seizing = [row for row, _ in measure.jobs], self._dispatcher.seizing
        if not rows:
            return
        if not seizing.seize(rows):
            raise _at_work(measure)
        held.callback(seizing.give_back, rows)
        found = await self._services.store.jobs_at([row.position for row in rows])
        if sorted(rows, key=_position) != sorted(found, key=_position):
            raise _Anew

    def _look_again(self, measure: Measure) -> None:
        """Written or not: the jobs that were put back are read, those that follow may start."""
        put = [job for _, job in measure.letters if job is not None]
        if put:
            self._dispatcher.doubtful(put)
        for letter, job in measure.letters:
            if letter.job and job is None:
                self._dispatcher.released(letter.job)

    def _message(self, instance: Instance, measure: Measure, said: Said) -> Message:
        content = Intervention(
            str(measure.action),
            said.by,
            said.why,
            _cut(measure.text),
            measure.about,
            measure.content,
            measure.commands,
            measure.at,
            instance.sequence_nr,
        )
        services, origin = self._services, measure.origin
        made = self._routing.message(
            services.codec, content, said.message_id, services.new_id, services.clock.now_ms()
        )
        if origin is None:
            return made
        return replace(
            made,
            message_id=origin.message_id,
            sent_at_ms=origin.sent_at_ms,
            correlation_id=origin.correlation_id,
            causation_id=origin.causation_id,
            headers=origin.headers,
        )

    def _repaired(self, instance: Instance, measure: Measure, turn: Turn, said: Said) -> Repaired:
        codec = self._services.codec
        return Repaired(
            str(measure.action),
            instance.key[: -len(instance.correlation_id) - 1],
            instance.correlation_id,
            measure.text,
            said.dry_run,
            None if said.dry_run else turn.after.sequence_nr,
            instance.status,
            turn.after.status,
            tuple(
                Sent(row.id, row.kind, row.target, row.type, _shown(codec, row))
                for row in turn.outgoing
            ),
            tuple(codec.decode(*stored) for stored in turn.events),
            {name: datetime_of(armed.due_at_ms) for name, armed in turn.deadlines_set.items()},
            tuple(turn.deadlines_cleared),
            (
                *(row.id for row, _ in measure.jobs),
                *(job.id for _, job in measure.letters if job is not None),
            ),
            tuple(letter.position for letter, _ in measure.letters),
        )


def _cut(text: str) -> str:
    return text if len(text) <= TEXT_CHARS_MAX else f"{text[:TEXT_CHARS_MAX]}…"


def _shown(codec: Codec, row: Any) -> Any:
    return codec.decode(row.type, row.version, row.body)


def _position(row: Any) -> int:
    position: int = row.position
    return position


def _at_work(measure: Measure) -> NotRepairable:
    names = ", ".join(row.id for row, _ in measure.jobs)
    return NotRepairable(
        f"a worker is at it now: {names}",
        remedy="wait until that attempt has ended, or cancel the job (runtime.queue(name).cancel)",
    )
