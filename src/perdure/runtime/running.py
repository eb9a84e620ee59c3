"""A runtime between start and stop: its parts, wired in the order in which they come and go.

Next to read: ``instances/supervisor.py``; for the way in, ``runtime.py`` and ``handoff.py``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from threading import get_ident
from typing import Any

import perdure.failpoints as failpoints
from perdure.core.commit import QueueRow, Status
from perdure.core.correlation import instance_key
from perdure.core.outcome import Outcome
from perdure.core.outgoing import SAGAS
from perdure.core.saga import Definition
from perdure.errors import (
    Escalated,
    OutcomeUnknown,
    PerdureError,
    PublishFailed,
    StoreError,
)
from perdure.failpoints import Point
from perdure.member import Opening
from perdure.messages import Message, datetime_of
from perdure.runtime.blueprint import Blueprint
from perdure.runtime.clock import SystemClock
from perdure.runtime.delivery import Delivery, Receipt
from perdure.runtime.handoff import Handoff
from perdure.runtime.instances.supervisor import Supervisor
from perdure.runtime.jobs.dispatcher import Dispatcher
from perdure.runtime.jobs.job_tickets import Awaited, nothing
from perdure.runtime.jobs.queues import Queues
from perdure.runtime.joining import joining_of
from perdure.runtime.letters.letters import DeadLetter
from perdure.runtime.letters.redrive import DeadLetters
from perdure.runtime.looking.reindexing import forget_fields
from perdure.runtime.looking.views import Views
from perdure.runtime.ref import SagaRef
from perdure.runtime.repair.mending_letters import repairs_of
from perdure.runtime.watching.loop_watch import LoopWatch
from perdure.runtime.watching.scenes import scenes
from perdure.runtime.watching.vitals import Phase, Vitals
from perdure.runtime.wiring import services_of
from perdure.store.forks import here

__all__ = ["Running"]

logger = logging.getLogger("perdure")

GRACE_S = 1.0
"""What took the whole time to stop leaves so long to write results, and to close the store."""


class Running:
    """The parts of a runtime that runs, on one event loop. ``epoch``: the store's, as opened."""

    def __init__(
        self, blueprint: Blueprint, epoch: int, on_stopped: Callable[[Escalated | None], None]
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.thread_id = get_ident()
        self.generation = here.generation
        settings, routing, outbound = blueprint.settings, blueprint.routing, blueprint.outbound
        self.services = services = services_of(blueprint, epoch)
        self._writing = services.background("writing", services.commit.run)
        self.dispatcher = Dispatcher(
            services, routing, outbound, blueprint.resources, blueprint.threads
        )
        self.supervisor = Supervisor.spawn(
            services, routing.definitions, self.dispatcher, on_stopped
        )
        self.supervisor.enlist()
        self.handoff = Handoff(services, routing, self.supervisor)
        self.views = Views(services, self.supervisor)
        self.letters = DeadLetters(services, routing, self.dispatcher, self.supervisor)
        self.queues = Queues(services, outbound, self.dispatcher)
        self.joining = joining_of(services, routing, outbound)
        self.repairs = repairs_of(self, routing, outbound)
        self._watch = LoopWatch(
            min(settings.loop_block_limit_s, settings.turn_limit_s),
            lambda: self.dispatcher.is_on_loop,
            scenes(),
            blueprint.threads,
        )
        self._openings, self._routing = blueprint.openings, routing
        self._trying: Awaited | None = None
        self.is_stopping = False

    async def start(self) -> None:
        """Write what comes, fire what is overdue."""
        self._writing.start()
        if isinstance(self.services.clock, SystemClock):  # time that stands still has no limits
            self._watch.start()
        self.services.clock.attach(self.settled)
        elsewhere = self.services.elsewhere
        if elsewhere is not None and elsewhere.owns_nothing:
            return
        await self.supervisor.quarantine.load()
        await forget_fields(self.services, self._routing.definitions)
        await self.supervisor.wakeups.start()
        await asyncio.gather(*(self._open(*opening) for opening in self._openings))
        await self.dispatcher.start(self.supervisor.admit)
        self.supervisor.quarantine.read_again(self.supervisor.definitions)
        self.supervisor.purging.start(self._routing)

    def deliver(self, delivery: Delivery) -> Awaitable[Receipt]:
        """Deliver; the answer is a receipt after the commit, or an error."""
        future = delivery.future = self.loop.create_future()
        if not self.supervisor.admission.enter(delivery):
            return self._deliver_later(delivery)
        self.supervisor.deliver(delivery)
        return future

    async def _open(self, definition: Definition, opening: Opening) -> None:
        """Deliver what an instance needs to have had; for one that is quarantined it is held."""
        services = self.services
        key = instance_key(definition.name, opening.correlation_id)
        if services.elsewhere is not None and not services.elsewhere.owns(key):
            return  # its owner does
        message = self._routing.message(
            services.codec,
            opening.message,
            opening.message_id,
            services.new_id,
            services.clock.now_ms(),
        )
        delivery = self._routing.delivery_to(definition, opening.correlation_id, message)
        try:
            await self.deliver(delivery)
        except OutcomeUnknown as error:
            # Whoever starts a runtime sends nothing: it is the store that failed, and a next start
            # sends this again.
            raise error.__cause__ or error from error

    async def deliver_all(self, message: Message, deliveries: list[Delivery]) -> list[Receipt]:
        """Deliver to several instances. Raises ``PublishFailed`` if some did not take it."""
        outcomes = await asyncio.gather(
            *(self.deliver(delivery) for delivery in deliveries), return_exceptions=True
        )
        receipts = [outcome for outcome in outcomes if isinstance(outcome, Receipt)]
        if len(receipts) == len(outcomes):
            return receipts
        failed, all_ = len(outcomes) - len(receipts), len(outcomes)
        raise PublishFailed(
            f"{failed} of {all_} instances did not take {message.type}",
            outcomes,
            remedy=f"see .outcomes; repeat it under message id {message.message_id!r}",
        )

    async def _deliver_later(self, delivery: Delivery) -> Receipt:
        try:
            await self.supervisor.admission.enter_later(delivery)
        except PerdureError as error:
            self.supervisor.announcing.refused(delivery, error)
            raise
        assert delivery.future is not None
        return await delivery.future

    async def result(self, definition: Definition, key: str) -> Any:
        """What the instance completed with, when it has. Raises as ``Views.result``."""
        elsewhere, quarantine = self.services.elsewhere, self.supervisor.quarantine
        is_ours = elsewhere is None or elsewhere.owns(key)
        endings = self.supervisor.endings if is_ours else elsewhere
        assert endings is not None
        while True:
            waiter = endings.expect(key)  # before looking, so that nothing falls between
            try:
                instance = await self.views.committed(definition, key)
                if instance.exists and instance.status is not Status.RUNNING:
                    return self.views.result(definition, instance)
                if (error := await quarantine.error_at(key)) is not None:
                    raise error
                await waiter
            finally:
                endings.forget(key, waiter)

    async def tell(self, key: str, message: Message) -> Receipt:
        """Tell an instance something of the runtime's own; it must be there, and not have ended."""
        delivery = self._routing.delivery_of_ours(key, message)
        delivery.strict = True
        return await self.deliver(delivery)

    async def resume(self, ref: SagaRef, message: Message) -> Receipt:
        """Let an instance try again what it is stuck at, in place of what is a dead letter now."""
        instance = await self.views.committed(self._routing.definition(ref.saga), ref.key)
        letters = [] if instance.status is not Status.STUCK else await self._letters_of(ref)
        receipt = await self.tell(ref.key, message)
        if receipt.outcome is Outcome.APPLIED:
            if receipt.duplicate:  # whoever was told at first may have ended before this was done
                letters = await self._letters_before(ref, receipt.sequence_nr or 0)
            for letter in letters:
                await self.letters.discard(letter.id)
        return receipt

    async def _letters_before(self, ref: SagaRef, sequence_nr: int) -> list[DeadLetter]:
        """The steps that were dead letters before this turn."""
        services = self.services
        rows = await services.store.journal(ref.key, sequence_nr - 1, 1)
        at_ms = services.journal.read_turn(rows[0].body).at_ms if rows else 0
        letters = await self._letters_of(ref)
        return [letter for letter in letters if letter.at < datetime_of(at_ms)]

    async def _letters_of(self, ref: SagaRef) -> list[DeadLetter]:
        """The steps of this instance that are dead letters."""
        return [
            letter
            async for letter in self.letters.list(saga=ref.saga)
            if letter.correlation_id == ref.correlation_id
            and letter.queue.startswith(f"{ref.saga}.")
        ]

    def vitals(self, phase: Phase, escalated: str | None) -> Vitals:
        """How it is at this moment."""
        commit, watch, now_s = self.services.commit, self._watch, self.loop.time()
        return Vitals(
            phase=phase,
            at_ms=self.services.clock.now_ms(),
            escalated=escalated,
            residents=len(self.supervisor.active),
            in_flight=self.supervisor.admission.accepted,
            in_flight_max=self.services.settings.in_flight_max,
            write_error=None if commit.error is None else str(commit.error),
            writing_s=0.0 if commit.began_s is None else now_s - commit.began_s,
            troubles=self.services.troubles.present(),
            blocks=watch.blocks,
            blocked_s=None if watch.blocked_at_s is None else now_s - watch.blocked_at_s,
            under_way=self.dispatcher.under_way,
        )

    def watch_over(self, is_busy: Callable[[], bool]) -> None:
        """Have the event loop watched while this is so, for other runtimes on it."""
        self._watch.is_busy = is_busy

    async def try_writing(self) -> None:
        """If the last write failed, see whether one succeeds now; one such at a time."""
        services = self.services
        if services.commit.error is None:
            return
        if self._trying is None or self._trying.outcome.done():
            # The mail between sagas is a queue that is never paused: its row says nothing new.
            row = QueueRow(SAGAS, False, "", services.clock.now_ms())
            self._trying = Awaited(row, nothing)
            self._trying.outcome.add_done_callback(asyncio.Future.exception)  # nobody else asks
            services.commit.submit(self._trying)
        await asyncio.wait([self._trying.outcome])

    async def settled(self) -> None:
        """Wait until everything accepted is answered, and the next deadlines are known."""
        supervisor = self.supervisor
        while not self.is_settled:
            await supervisor.admission.emptied()
            await supervisor.wakeups.settled()
            await self.dispatcher.settled()
            await supervisor.purging.settled()

    @property
    def is_settled(self) -> bool:
        """Everything accepted is answered; the rest waits for time or for people."""
        supervisor = self.supervisor
        return (
            supervisor.admission.is_empty
            and supervisor.wakeups.is_settled
            and self.dispatcher.is_settled
            and supervisor.purging.is_settled
        )

    def _drain(self) -> None:
        self.supervisor.drain()
        if self.services.elsewhere is not None:
            self.services.elsewhere.drain()

    async def _shut_down(self) -> None:
        if self.services.elsewhere is not None:
            self.services.elsewhere.close()
        await self.supervisor.shut_down()

    async def stop(self) -> None:
        """Drain for ``shutdown_timeout_s`` at most, abandon the rest, give up the store."""
        self.is_stopping = True
        services = self.services
        failpoints.reach(Point.STOPPING)
        await self.handoff.close()
        self.supervisor.admission.close()
        failpoints.reach(Point.STOPPING)
        await self.supervisor.wakeups.stop()
        await self.supervisor.purging.stop()
        await self.letters.stop()
        self._drain()
        limit_s = services.settings.shutdown_timeout_s
        until_s = self.loop.time() + limit_s
        failpoints.reach(Point.STOPPING)
        await self.dispatcher.drain(until_s)
        self._watch.stop()
        try:
            async with asyncio.timeout_at(max(until_s, self.loop.time() + GRACE_S)):
                await self.supervisor.admission.emptied()
                await services.commit.drained()
        except TimeoutError:
            left = self.supervisor.admission.accepted
            logger.warning("stopping: %d messages abandoned after %g s", left, limit_s)
        failpoints.reach(Point.STOPPING)
        services.clock.detach(self.settled)
        await self._shut_down()
        try:
            async with asyncio.timeout(limit_s):
                await services.commit.drained()  # dead letters of what was abandoned
                services.commit.stop()
                await self._writing.ended()
        except TimeoutError:
            services.commit.abandon()
            logger.error("stopping: a write has not ended for %g s, and is left", limit_s)
        failpoints.reach(Point.STOPPING)
        self.supervisor.end()
        try:
            async with asyncio.timeout(closing_s := max(limit_s, GRACE_S)):
                await services.store.close()
        except (StoreError, TimeoutError) as error:
            problem = str(error) or f"it has not closed for {closing_s:g} s"
            logger.error("closing the store: %s", problem)
        services.observing.stopped()
