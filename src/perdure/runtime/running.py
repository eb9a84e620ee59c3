"""A runtime between start and stop: its parts, wired in the order in which they come and go.

Next to read: ``supervisor.py``; for the way in, ``runtime.py`` and ``handoff.py``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from threading import get_ident

from perdure.codec import Codec
from perdure.codec.journal import JournalCodec
from perdure.core.outcome import Encoder
from perdure.errors import StoreError
from perdure.runtime.clock import Clock
from perdure.runtime.delivery import Delivery, Receipt
from perdure.runtime.handoff import Handoff
from perdure.runtime.routing import Routing
from perdure.runtime.services import Services
from perdure.runtime.supervisor import Supervisor
from perdure.runtime.views import Views
from perdure.settings import Settings
from perdure.store.group_commit import GroupCommit
from perdure.store.protocol import Store

__all__ = ["Running"]

logger = logging.getLogger("perdure")


class Running:
    """The parts of a runtime that runs, on one event loop. ``epoch``: the store's, as opened."""

    def __init__(
        self,
        store: Store,
        epoch: int,
        clock: Clock,
        settings: Settings,
        routing: Routing,
        codec: Codec,
        new_id: Callable[[], str],
        on_stopped: Callable[[], None],
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.thread_id = get_ident()
        self.services = Services(
            store,
            clock,
            settings,
            codec,
            JournalCodec(codec),
            Encoder(codec.encode, codec.encode_value),
            GroupCommit(store, settings.batch_max),
            new_id,
            epoch,
        )
        self.routing = routing
        self.supervisor = Supervisor.spawn(self.services, routing.definitions, on_stopped)
        self.supervisor.enlist()
        self.handoff = Handoff(self.services, routing, self.supervisor)
        self.views = Views(self.services, self.supervisor)
        self.is_stopping = False

    async def start(self) -> None:
        """Write what comes, fire what is overdue."""
        self.services.commit.start()
        self.services.clock.attach(self.settled)
        await self.supervisor.wakeups.start()

    def deliver(self, delivery: Delivery) -> Awaitable[Receipt]:
        """Deliver; the answer is a receipt after the commit, or an error."""
        future = delivery.future = self.loop.create_future()
        if not self.supervisor.admission.enter(delivery):
            return self._deliver_later(delivery)
        self.supervisor.deliver(delivery)
        return future

    async def _deliver_later(self, delivery: Delivery) -> Receipt:
        await self.supervisor.admission.enter_later(delivery)
        assert delivery.future is not None
        return await delivery.future

    async def settled(self) -> None:
        """Wait until everything accepted is answered, and the next deadlines are known."""
        admission, wakeups = self.supervisor.admission, self.supervisor.wakeups
        while not (admission.is_empty and wakeups.is_settled):
            await admission.emptied()
            await wakeups.settled()

    async def stop(self) -> None:
        """Drain for ``shutdown_timeout_s`` at most, abandon the rest, give up the store."""
        self.is_stopping = True
        services = self.services
        await self.handoff.close()
        self.supervisor.admission.close()
        await self.supervisor.wakeups.stop()
        self.supervisor.drain()
        limit_s = services.settings.shutdown_timeout_s
        try:
            async with asyncio.timeout(limit_s):
                await self.supervisor.admission.emptied()
                await services.commit.drained()
        except TimeoutError:
            left = self.supervisor.admission.accepted
            logger.warning("stopping: %d messages abandoned after %g s", left, limit_s)
        services.clock.detach(self.settled)
        await self.supervisor.shut_down()
        try:
            async with asyncio.timeout(limit_s):
                await services.commit.drained()  # dead letters of what was abandoned
                await services.commit.stop()
        except TimeoutError:
            services.commit.abandon()
            logger.error("stopping: a write has not ended for %g s, and is left", limit_s)
        self.supervisor.end()
        try:
            async with asyncio.timeout(limit_s):
                await services.store.close()
        except (StoreError, TimeoutError) as error:
            logger.error("closing the store: %s", error or f"it has not closed for {limit_s:g} s")
