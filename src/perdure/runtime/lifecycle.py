"""A runtime's life: made, started, stopped; and the check that it runs, on this loop.

Next to read: ``runtime.py``, what it does in between; ``running.py``, its parts.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from threading import get_ident
from types import TracebackType
from typing import Any, Self

from perdure.errors import Escalated, RuntimeNotRunning
from perdure.messages import Message
from perdure.observer import Observer
from perdure.queue import WorkQueue
from perdure.runtime.blueprint import Blueprint, blueprint_of
from perdure.runtime.clock import Clock, SystemClock
from perdure.runtime.companions import Companion, accompany, leave, part
from perdure.runtime.definitions import Saga
from perdure.runtime.handoff import forked
from perdure.runtime.ids import unique_ids, unique_random
from perdure.runtime.running import Running
from perdure.runtime.threads import SystemThreads, Threads
from perdure.runtime.watching.tracing import Tracing
from perdure.runtime.watching.vitals import Phase, Vitals
from perdure.settings import Settings
from perdure.store.forks import here
from perdure.store.protocol import Store
from perdure.store.urls import store_of

__all__ = ["Lifecycle"]

logger = logging.getLogger("perdure")


class Lifecycle:
    """The start and the stop of a ``Runtime``."""

    _companions: Sequence[Companion] = ()
    _tells_at = logging.INFO

    def __init__(
        self,
        store: str | Store,
        members: Iterable[Saga | WorkQueue],
        settings: Settings | None = None,
        *,
        resources: Mapping[str, Any] | None = None,
        messages: Iterable[type] = (),
        clock: Clock | None = None,
        new_id: Callable[[], str] | None = None,
        random: Callable[[], float] | None = None,
        threads: Threads | None = None,
        observers: Iterable[Observer] = (),
        tracing: Tracing | None = None,
    ) -> None:
        self.store: Store = store_of(store)
        self._blueprint = blueprint_of(
            self.store,
            members,
            settings,
            resources,
            tuple(messages),
            clock or SystemClock(),
            new_id or unique_ids(),
            random or unique_random(),
            threads or SystemThreads(),
            observers,
            tracing,
        )
        self._running: Running | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._ending = asyncio.Event()
        self._escalated: Escalated | None = None
        self._is_starting = False

    @classmethod
    def of(cls, blueprint: Blueprint) -> Self:
        """A runtime of what was checked already: a simulation makes many that are alike."""
        made = cls.__new__(cls)
        made.store, made._blueprint = blueprint.store, blueprint
        made._running = made._stopping = made._escalated = None
        made._ending, made._is_starting = asyncio.Event(), False
        return made

    def over(self, store: str | Store) -> Self:
        """The same over another store: sagas, queues, settings, resources. Not started.

        Raises ``DefinitionError`` for a URL that names no store.
        """
        return self.of(replace(self._blueprint, store=store_of(store)))

    @property
    def blueprint(self) -> Blueprint:
        """What it is made of, for what makes another one of it."""
        return self._blueprint

    @property
    def settings(self) -> Settings:
        """The limits and periods, as they were given."""
        return self._blueprint.settings

    @property
    def members(self) -> Sequence[Saga | WorkQueue]:
        """The sagas and work queues, as they were given."""
        return self._blueprint.members

    # Life

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()
        if self._escalated is not None and (error is None or isinstance(error, RuntimeNotRunning)):
            raise self._escalated

    async def start(self) -> None:
        """Take the store, and go on with whatever was under way.

        Raises ``StoreLocked`` if another runtime owns the store, ``SchemaTooNew``,
        ``NotADatabase``, ``StoreNotWritable``; ``Escalated`` if what waited for this start
        escalates.
        """
        if self._running is not None:
            raise RuntimeNotRunning("the runtime was started before", remedy="start it once")
        self._is_starting = True
        try:
            await self._start()
        finally:
            self._is_starting = False

    async def _start(self) -> None:
        epoch = await self._open()
        self._ending, self._escalated = asyncio.Event(), None
        try:
            self._running = Running(self._run_as(), epoch, self._stop_soon)
            await self._running.start()
            await self._end_if_escalated()
            self._companions = await self._accompanied()
        except BaseException as error:
            await self.stop()
            await self.store.close()
            if isinstance(error, Exception) and self._escalated is not None:
                raise self._escalated from error
            raise
        self._blueprint.observing.started()
        logger.log(self._tells_at, "running over %s, epoch %d", self.store.name, epoch)

    async def _open(self) -> int:
        """Take the store; its epoch."""
        return await self.store.open()

    def _run_as(self) -> Blueprint:
        """What it runs as, once the store is open."""
        return self._blueprint

    async def _accompanied(self) -> Sequence[Companion]:
        if not isinstance(self._blueprint.clock, SystemClock):
            return ()
        companions = await accompany(self)
        if self._stopping is None:
            return companions
        leave(companions)
        await part(companions)
        return ()

    async def _end_if_escalated(self) -> None:
        """A message that waited has stopped the runtime before it was up."""
        if self._stopping is not None and self._escalated is not None:
            await self.stop()
            raise self._escalated

    async def stop(self) -> None:
        """Take no more, finish what was accepted, give up the store.

        May be called twice. After ``shutdown_timeout_s`` the rest is refused to its senders.
        """
        if self._running is not None and self._running.generation != here.generation:
            self._running = self._stopping = None  # the parent's: it goes on there
        self._begin_to_stop()
        if self._stopping is not None:
            await asyncio.shield(self._stopping)
            self._running = self._stopping = None

    async def stopped(self) -> None:
        """Wait until the runtime has stopped, whoever stopped it. Stops nothing itself.

            async with Runtime("sqlite+aiosqlite:///orders.db", [Order]) as runtime:
                await runtime.stopped()

        Raises ``Escalated`` if it stopped since a saga escalates its failures.
        """
        await self._ending.wait()
        if self._stopping is not None:
            await asyncio.shield(self._stopping)
        if self._escalated is not None:
            raise self._escalated

    @property
    def phase(self) -> Phase:
        """Where the runtime stands between its start and its stop."""
        if self._is_starting:
            return Phase.STARTING
        if self._running is None:
            return Phase.STOPPED if self._ending.is_set() else Phase.NEW
        if self._stopping is None:
            return Phase.RUNNING
        return Phase.STOPPED if self._stopping.done() else Phase.STOPPING

    def vitals(self) -> Vitals:
        """How the runtime is: its phase, how full it is, what of it fails. From memory, any time.

        if not runtime.vitals().is_ready: ...
        """
        escalated = None if self._escalated is None else str(self._escalated)
        if self._running is None:
            at_ms = self._blueprint.clock.now_ms()
            return Vitals(phase=self.phase, at_ms=at_ms, escalated=escalated)
        return self._running.vitals(self.phase, escalated)

    async def probe(self, *, timeout_s: float = 1.0) -> Vitals:
        """``vitals``; if the last write failed, after another one was tried, which says nothing.

        So that it is noticed that an outage of the store is over, also if nobody sends any more.
        Raises nothing; a write that has not ended after ``timeout_s`` shows in ``writing_s``.
        """
        running = self._running
        if running is not None and self.phase is Phase.RUNNING:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await running.try_writing()
        return self.vitals()

    def _stop_soon(self, escalated: Escalated | None = None) -> None:
        """A saga escalates, the supervisor was stopped, or the store taken by another."""
        self._escalated = self._escalated or escalated
        self._begin_to_stop()

    def _begin_to_stop(self) -> None:
        if self._running is not None and self._stopping is None:
            companions, self._companions = self._companions, ()
            leave(companions)
            self._stopping = asyncio.get_running_loop().create_task(
                self._finish(self._running, companions)
            )
            self._ending.set()

    async def _finish(self, running: Running, companions: Sequence[Companion]) -> None:
        try:
            await running.stop()
        finally:
            await part(companions)

    # Observing

    def observe(self, observer: Observer) -> None:
        """Tell an observer what happens from now on; on the runtime's loop, or before the start.

        Raises ``DefinitionError`` for what is no observer.
        """
        self._blueprint.observing.add(observer)

    def unobserve(self, observer: Observer) -> None:
        """Tell an observer no more."""
        self._blueprint.observing.remove(observer)

    @property
    def sagas(self) -> Sequence[str]:
        """The names of the sagas it runs."""
        return list(self._blueprint.routing.definitions)

    @property
    def running(self) -> Running | None:
        """The parts of a runtime that runs, for what operates it (``perdure.ops``)."""
        return self._running

    @property
    def runnings(self) -> Sequence[Running]:
        """The parts of every runtime whose instances are this one's: its own; of a cluster, those
        of the shards in this process. May be asked from any thread."""
        running = self._running
        return [] if running is None else [running]

    # Within

    def _on_loop(self) -> Running:
        running = self._parts()
        # Not asyncio.get_running_loop(): it asks the system for the process id on each call.
        if get_ident() != running.thread_id or not running.loop.is_running():
            raise RuntimeNotRunning(
                "the runtime runs on another event loop",
                remedy="from other loops and threads use a ref: await ref.ask(…, block=False)",
            )
        return running

    def _parts(self) -> Running:
        running = self._running
        if running is None or running.is_stopping:
            raise RuntimeNotRunning(
                "the runtime is not running", remedy="use it inside `async with Runtime(…)`"
            )
        if running.generation != here.generation:
            raise forked()
        return running

    def _message(
        self,
        content: Any,
        message_id: str | None,
        correlation_id: str | None,
        causation_id: str | None,
        headers: Mapping[str, str] | None,
        id_is: str = "message_id",
    ) -> Message:
        services = self._parts().services
        if services.spans is not None:
            headers = services.spans.stored(headers)
        return self._blueprint.routing.message(
            services.codec,
            content,
            message_id,
            self._blueprint.new_id,
            self._blueprint.clock.now_ms(),
            correlation_id,
            causation_id,
            headers,
            id_is,
        )
