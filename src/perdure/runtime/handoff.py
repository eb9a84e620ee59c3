"""The way in for refs: from the runtime's loop directly, from other threads by a bounded handoff.

A message is checked and encoded in the sender's own thread, so that what is wrong with it is raised
there. One wake-up of the loop serves all that has gathered. A ``tell`` that finds no room raises on
the loop; from another thread it blocks for a while, then raises; once handed over it is applied, or
becomes a dead letter if its instance has no room in time. Next to read: ``instances/admission.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from perdure.actors import Envelope, Future, is_stop
from perdure.errors import MailboxFull, RuntimeNotRunning
from perdure.runtime.delivery import AskReply, Delivery
from perdure.runtime.instances.admission import Waiting
from perdure.runtime.instances.supervisor import Supervisor
from perdure.runtime.instances.told import mistaken
from perdure.runtime.ref import SagaRef
from perdure.runtime.routing import Routing
from perdure.runtime.services import Services
from perdure.runtime.supervised import UNEXPECTED
from perdure.store.forks import REMEDY, here

__all__ = ["Handoff", "forked"]

logger = logging.getLogger("perdure")


class Handoff:
    """Takes envelopes from refs, on any thread."""

    def __init__(
        self,
        services: Services,
        routing: Routing,
        supervisor: Supervisor,
    ) -> None:
        self._services = services
        self._routing = routing
        self._supervisor = supervisor
        self._loop = asyncio.get_running_loop()
        self._generation = here.generation
        self._changed = threading.Condition()
        self._arrivals: deque[Delivery] = deque()
        self._outstanding = 0
        self._is_called = False
        self._is_closed = False
        self._waiting: set[asyncio.Task[None]] = set()

    def put(self, ref: SagaRef, envelope: Envelope[Any]) -> None:
        """Send on an envelope. Raises the errors of a bad message, and ``MailboxFull``."""
        if here.generation != self._generation:
            raise forked()
        if self._loop.is_closed():
            raise RuntimeNotRunning("the runtime's event loop is closed", remedy="start it again")
        on_loop = asyncio._get_running_loop() is self._loop
        if is_stop(envelope):
            self._passivate(ref, envelope, on_loop)
            return
        delivery = self._delivery(ref, envelope)
        if not on_loop:
            self._hand_over(delivery)
        elif self._is_closed:
            raise _closed(delivery)
        elif self._supervisor.admission.enter(delivery):
            self._supervisor.deliver(delivery)
        elif delivery.reply is not None:
            self._wait(delivery)
        else:
            raise MailboxFull(
                f"no room for {delivery.message.type}",
                saga=ref.saga,
                correlation_id=ref.correlation_id,
                remedy="await Runtime.send, which waits for room, or send more slowly",
            )

    async def close(self) -> None:
        """Take nothing more; what was handed over is delivered or refused."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._admit()
        for task in list(self._waiting):
            task.cancel()
        await asyncio.gather(*self._waiting, return_exceptions=True)

    def _delivery(self, ref: SagaRef, envelope: Envelope[Any]) -> Delivery:
        services = self._services
        message = self._routing.message(
            services.codec,
            envelope.message,
            None,
            services.new_id,
            services.clock.now_ms(),
            headers=None if services.spans is None else services.spans.stored(None),
        )
        definition = self._routing.definition(ref.saga)
        delivery = self._routing.delivery_to(definition, ref.correlation_id, message)
        if envelope.reply_to is not None:
            assert isinstance(envelope.reply_to, Future)
            delivery.reply = AskReply(envelope.reply_to)
        return delivery

    def _hand_over(self, delivery: Delivery) -> None:
        settings = self._services.settings
        with self._changed:
            has_room = self._changed.wait_for(
                lambda: self._outstanding < settings.in_flight_max or self._is_closed,
                settings.accept_timeout_s,
            )
            if self._is_closed:
                raise _closed(delivery)
            if not has_room:
                raise MailboxFull(
                    f"no room for {delivery.message.type} within {settings.accept_timeout_s} s",
                    saga=delivery.definition.name,
                    correlation_id=delivery.correlation_id,
                    remedy="send more slowly, or raise in_flight_max",
                )
            self._outstanding += 1
            self._arrivals.append(delivery)
            if not self._is_called:
                self._is_called = True
                self._call(self._admit)

    def _call(self, function: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(function)
        except RuntimeError as error:  # the loop is closed
            raise RuntimeNotRunning("the runtime's event loop is closed") from error

    def _admit(self) -> None:
        with self._changed:
            self._is_called = False
            arrivals, self._arrivals = self._arrivals, deque()
        count = 0
        for delivery in arrivals:
            try:
                if self._supervisor.admission.enter(delivery):
                    self._supervisor.deliver(delivery)
                    count += 1
                else:
                    self._wait(delivery, handed_over=True)
            except UNEXPECTED as error:  # a mistake of ours: it must not cost the others
                logger.exception("%s could not be let in", delivery.message.type)
                self._supervisor.refuse(delivery, mistaken(delivery, error))
                count += 1
        self._release(count)

    def _release(self, count: int) -> None:
        if not count:
            return
        with self._changed:
            self._outstanding -= count
            self._changed.notify_all()

    def _wait(self, delivery: Delivery, handed_over: bool = False) -> None:
        admission = self._supervisor.admission
        place = admission.queue(delivery)
        task = self._loop.create_task(admission.enter_later(delivery, place))
        self._waiting.add(task)
        task.add_done_callback(lambda _: self._entered(task, place, handed_over))

    def _entered(self, task: asyncio.Task[None], place: Waiting, handed_over: bool) -> None:
        """The wait is over; it may have been cancelled before it began."""
        self._waiting.discard(task)
        error = None if task.cancelled() else task.exception()
        if task.cancelled() and not place.is_in:
            self._supervisor.admission.give_up(place)
            error = _closed(place.delivery)
        if error is None:
            self._release(handed_over)
            return
        if handed_over:  # once its dead letter is written, if it was told
            place.delivery.on_answer = lambda *_: self._release(1)
        self._supervisor.refuse(place.delivery, error)

    def _passivate(self, ref: SagaRef, envelope: Envelope[Any], on_loop: bool) -> None:
        def passivate() -> None:
            self._supervisor.passivate(ref.key)
            if envelope.reply_to is not None:
                envelope.reply_to.set(None)

        if on_loop:
            passivate()
        else:
            with contextlib.suppress(RuntimeNotRunning):  # it left memory with its runtime
                self._call(passivate)


def forked() -> RuntimeNotRunning:
    """The error for whoever uses a runtime that was started before its process was forked."""
    return RuntimeNotRunning(
        "the runtime runs in the process from which this one was forked", remedy=REMEDY
    )


def _closed(delivery: Delivery) -> RuntimeNotRunning:
    return RuntimeNotRunning(
        f"{delivery.message.type} came when the runtime was stopping",
        saga=delivery.definition.name,
        correlation_id=delivery.correlation_id,
        remedy="send it again when the runtime is up",
    )
