"""A runtime's life: made, started, stopped; and the check that it runs, on this loop.

Next to read: ``runtime.py``, what it does in between; ``running.py``, its parts.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from threading import get_ident
from types import TracebackType
from typing import Any, Self

from perdure.errors import Escalated, RuntimeNotRunning
from perdure.messages import Message
from perdure.queue import WorkQueue
from perdure.runtime.blueprint import Blueprint, blueprint_of
from perdure.runtime.clock import Clock, SystemClock
from perdure.runtime.definitions import Saga
from perdure.runtime.handoff import forked
from perdure.runtime.ids import unique_ids, unique_random
from perdure.runtime.running import Running
from perdure.runtime.threads import SystemThreads, Threads
from perdure.runtime.tracing import Tracing
from perdure.settings import Settings
from perdure.store.forks import here
from perdure.store.protocol import Store
from perdure.store.urls import store_of

__all__ = ["Lifecycle"]

logger = logging.getLogger("perdure")


class Lifecycle:
    """The start and the stop of a ``Runtime``."""

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
            tracing,
        )
        self._running: Running | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._ending = asyncio.Event()
        self._escalated: Escalated | None = None

    @classmethod
    def of(cls, blueprint: Blueprint) -> Self:
        """A runtime of what was checked already: a simulation makes many that are alike."""
        made = cls.__new__(cls)
        made.store, made._blueprint = blueprint.store, blueprint
        made._running = made._stopping = None
        return made

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
        epoch = await self.store.open()
        self._ending, self._escalated = asyncio.Event(), None
        try:
            self._running = Running(self._blueprint, epoch, self._stop_soon)
            await self._running.start()
            await self._end_if_escalated()
        except BaseException as error:
            await self.stop()
            await self.store.close()
            if isinstance(error, Exception) and self._escalated is not None:
                raise self._escalated from error
            raise
        logger.info("running over %s, epoch %d", self.store.name, epoch)

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

    def _stop_soon(self, escalated: Escalated | None = None) -> None:
        """A saga escalates, the supervisor was stopped, or the store taken by another."""
        self._escalated = self._escalated or escalated
        self._begin_to_stop()

    def _begin_to_stop(self) -> None:
        if self._running is not None and self._stopping is None:
            self._stopping = asyncio.get_running_loop().create_task(self._running.stop())
            self._ending.set()

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
