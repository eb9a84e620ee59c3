"""The actor type: pykka's ``Actor``, taking turns with all others on one event loop.

The life of an actor is pykka's; what is added is that ``on_receive`` may be a coroutine function,
that ``spawn`` makes actors for a supervisor, and that nothing one actor raises ends another.
Must not know sagas or supervision policy. Next to read: ``mailbox.py``, then ``run_queue.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import queue
import sys
import threading
from collections.abc import Awaitable, Coroutine
from types import TracebackType
from typing import Any, Self, cast

import pykka
from pykka import ActorDeadError, ActorRef, ActorRegistry, messages

from perdure.actors import loop_thread
from perdure.actors.future import Future
from perdure.actors.mailbox import Envelope, Mailbox
from perdure.actors.run_queue import RunQueue
from perdure.actors.stop_flag import StopFlag

__all__ = ["Actor"]

logger = logging.getLogger(__name__)


class Actor(pykka.Actor):
    """An actor on an event loop. It costs a few hundred bytes while idle: no task, no queue.

        class Counter(Actor):
            count = 0

            def on_receive(self, step: int) -> int:
                self.count += step
                return self.count

        counter = Counter.start()                     # an ActorRef, as in pykka
        await counter.ask(1, block=False)             # 1; in a thread: counter.ask(1)

    It runs on the event loop that runs where it is started, or else on the loop thread. The rest of
    its mail waits while an awaitable that ``on_receive`` or a proxied method returned is completed
    (a ``pykka.Future`` is a value, as it is in pykka). ``on_start``, ``on_stop`` and ``on_failure``
    are plain methods and run on the loop, so none may block.

    A ``BaseException`` that is not an ``Exception`` ends the actor; its asker gets
    ``ActorDeadError``. If the actor was *started*, all registered actors are then asked to stop, as
    pykka has it, except for a cancellation. If it was *spawned*, no other actor is touched.
    """

    __slots__ = (
        *("actor_inbox", "actor_stopped", "_has_begun", "_is_registered"),
        *("_ref", "_run_queue", "_urn", "_work"),
    )

    actor_inbox: Mailbox
    actor_stopped: StopFlag  # type: ignore[assignment]  # It does what an Event does.

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        # Not super().__init__(): the name, the ref and the event it makes are made when asked for.
        self._run_queue = _nearest_run_queue()
        self.actor_inbox = Mailbox(self, self._run_queue)
        self.actor_stopped = StopFlag()
        self._work: asyncio.Task[None] | None = None
        self._urn: str | None = None
        self._ref: ActorRef[Any] | None = None
        self._has_begun = False
        self._is_registered = False

    @classmethod
    def spawn(cls, *args: Any, **kwargs: Any) -> Self:
        """Start an actor for a supervisor: ``ActorRegistry`` does not see it.

        Registering is what costs pykka time proportional to the number of actors. The supervisor
        must keep the actor it is given; its ref is ``actor.actor_ref``.
        """
        actor = cls(*args, **kwargs)
        actor._run_queue.schedule_threadsafe(actor)
        return actor

    def enlist(self) -> None:
        """Show a spawned actor in ``ActorRegistry``, as if it had been started; once.

        For the root of a tree of actors whose maker needs the actor itself, not only its ref.
        """
        ActorRegistry.register(self.actor_ref)
        self._is_registered = True

    @property
    def actor_urn(self) -> str:  # type: ignore[override]  # Read-only, and made when first read.
        if self._urn is None:
            with _naming:
                self._urn = self._urn or self._run_queue.new_urn()
        return self._urn

    @property
    def actor_ref(self) -> ActorRef[Self]:
        if self._ref is None:
            with _naming:
                self._ref = self._ref or ActorRef(self)
        return self._ref

    @property
    def is_idle(self) -> bool:
        """It has begun, no mail waits, none is at work, and its mailbox is not suspended."""
        return self.actor_inbox.is_idle

    def receive_envelope(self, envelope: Envelope[Any]) -> Awaitable[object] | None:
        """Process one envelope as pykka does: the one method to override to do otherwise.

            def receive_envelope(self, envelope):
                if is_stop(envelope):
                    return super().receive_envelope(envelope)
                self.waiting_for_commit.append(envelope)   # reply_to.set(...) later
                return None

        Who overrides it answers ``envelope.reply_to``, now or later. If it returns an awaitable,
        the rest of the mail waits for that, and its result is the reply unless there was one. What
        either raises goes to the asker; or, from a ``tell``, ends the actor by ``on_failure``.
        """
        response = self._handle_receive(envelope.message)
        if response is not None and _is_work(envelope.message, response):
            return cast("Awaitable[object]", response)
        if envelope.reply_to is not None:
            envelope.reply_to.set(response)
        return None

    def on_refused(self, envelope: Envelope[Any]) -> None:
        """A ``tell`` was still waiting when the actor stopped. Logged, unless overridden."""
        logger.warning("%s stopped before handling a %s", self, type(envelope.message).__name__)

    def end(self) -> list[Envelope[Any]]:
        """Stop at once, on the loop's thread, and return the mail not yet begun, oldest first.

        Neither ``on_stop`` nor ``on_failure`` is called. Work that is being awaited is cancelled;
        its asker gets ``ActorDeadError``. The caller answers for the envelopes returned.
        """
        self._leave()
        waiting = self.actor_inbox.seal()
        if self._work is not None:
            self._work.cancel()
        return waiting

    def on_unreachable(self) -> None:
        """Its event loop was closed. Called by the mailbox when there is mail nevertheless."""
        self._leave()
        self.actor_inbox.close()

    def run_burst(self, limit: int) -> bool:
        """One turn; called by the run queue. True: there is more."""
        if not self._has_begun:
            self._begin()
        take, stopped = self.actor_inbox.take, self.actor_stopped.is_set
        for _ in range(limit):
            if stopped():
                break
            envelope = take()
            if envelope is None:
                return False
            try:
                work = self.receive_envelope(envelope)
            except BaseException as error:
                self._on_raised(envelope, error)
            else:
                if work is not None:
                    self._start_work(envelope, work)
                    return False
        if stopped():
            self.actor_inbox.close()
            return False
        return True

    # pykka's extension points.

    @staticmethod
    def _create_actor_inbox() -> Mailbox:
        raise NotImplementedError("a mailbox is made for its actor, by the actor's constructor")

    @staticmethod
    def _create_future() -> Future[Any]:
        return Future()

    def _start_actor_loop(self) -> None:
        self._is_registered = True  # ``start`` has just done so.
        self._run_queue.schedule_threadsafe(self)

    def _stop(self) -> None:
        self._leave()
        logger.debug("Stopped %s", self)
        try:
            self.on_stop()
        except BaseException:
            self._handle_failure(*sys.exc_info())

    def _handle_failure(
        self,
        exception_type: type[BaseException] | None,
        exception_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        logger.error("Unhandled exception in %s:", self, exc_info=exception_value)
        self._leave()

    def _begin(self) -> None:
        self._has_begun = True
        if self.actor_stopped.is_set():  # Ended before its first turn.
            return
        try:
            self.on_start()
        except BaseException:
            self._handle_failure(*sys.exc_info())

    def _leave(self) -> None:
        # Out of the registry first, as in pykka: who sees the flag finds the actor gone.
        if self._is_registered:
            self._is_registered = False
            ActorRegistry.unregister(self.actor_ref)
        self.actor_stopped.set()

    def _start_work(self, envelope: Envelope[Any], work: Awaitable[object]) -> None:
        self._work = self._run_queue.start_work(self._complete(envelope, work))
        self._work.add_done_callback(functools.partial(self._after_work, envelope, work))

    async def _complete(self, envelope: Envelope[Any], work: Awaitable[object]) -> None:
        try:
            response = await work
            if envelope.reply_to is not None:
                with contextlib.suppress(queue.Full):  # It answered by itself.
                    envelope.reply_to.set(response)
        except BaseException as error:  # Let out, some of them would stop the loop.
            self._on_raised(envelope, error)

    def _after_work(
        self, envelope: Envelope[Any], work: Awaitable[object], task: asyncio.Task[None]
    ) -> None:
        self._work = None
        if task.cancelled():  # Before its first step, or ``_complete`` would have caught it.
            if isinstance(work, Coroutine):
                work.close()
            self._on_raised(envelope, asyncio.CancelledError())
        if self.actor_stopped.is_set():
            self.actor_inbox.close()
        else:
            self._run_queue.schedule(self)

    def _on_raised(self, envelope: Envelope[Any], error: BaseException) -> None:
        if not isinstance(error, Exception):
            self._on_struck(envelope, error)
        elif envelope.reply_to is not None:
            logger.info("Exception returned from %s to caller:", self, exc_info=error)
            _answer_with(envelope.reply_to, error)
        else:
            self._fail(error)

    def _on_struck(self, envelope: Envelope[Any], error: BaseException) -> None:
        if envelope.reply_to is not None:
            # Not the error itself: raised by ``await`` in another actor, it would end that one too.
            death = ActorDeadError(f"{self} was ended by {error!r}")
            death.__cause__ = error
            _answer_with(envelope.reply_to, death)
        if self.actor_stopped.is_set():
            return  # ``end`` cancelled the work.
        if self._is_registered and not isinstance(error, asyncio.CancelledError | GeneratorExit):
            logger.debug("%r in %s. Stopping all actors.", error, self)
            self._stop()
            ActorRegistry.stop_all(block=False)
        else:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        was_ended = self.actor_stopped.is_set()
        self._handle_failure(type(error), error, error.__traceback__)
        try:
            if not was_ended:
                self.on_failure(type(error), error, error.__traceback__)
        except BaseException:
            self._handle_failure(*sys.exc_info())


def _nearest_run_queue() -> RunQueue:
    loop = asyncio._get_running_loop()
    return loop_thread.run_queue() if loop is None else RunQueue.of(loop)


_naming = threading.RLock()
"""So that two threads that ask for an actor's name or ref first get the same; shared by all."""


def _is_work(message: object, response: object) -> bool:
    """The response is to be awaited. An attribute that is read never is, nor a pykka future."""
    return (
        hasattr(response, "__await__")
        and not isinstance(response, pykka.Future)
        and not isinstance(message, messages.ProxyGetAttr)
    )


def _answer_with(reply_to: pykka.Future[Any], error: Exception) -> None:
    with contextlib.suppress(queue.Full):  # It was answered before the error was raised.
        reply_to.set_exception((type(error), error, error.__traceback__))
