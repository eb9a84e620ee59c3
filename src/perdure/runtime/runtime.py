"""The runtime: what a service embeds. Takes messages, gives looks; starts and stops the parts.

    async with Runtime("sqlite+aiosqlite:///orders.db", [OrderFulfilment]) as runtime:
        await runtime.publish(OrderPlaced("o-1", 100))
        order = runtime.ref(OrderFulfilment, "o-1")
        await runtime.send(order, PaymentReceived("o-1"))
        print((await runtime.state(order)).status)

Decides nothing itself. Next to read: ``routing.py``, ``running.py``, ``supervisor.py``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from threading import get_ident
from types import TracebackType
from typing import Any, Self

from perdure.core.commit import Status
from perdure.core.correlation import encode_id
from perdure.errors import (
    PerdureError,
    PublishFailed,
    RuntimeNotRunning,
    SendTimeout,
)
from perdure.messages import Message
from perdure.runtime.clock import Clock, SystemClock
from perdure.runtime.definitions import Saga, codec_of, definitions_of
from perdure.runtime.delivery import Delivery, Receipt
from perdure.runtime.ids import unique_ids
from perdure.runtime.ref import SagaRef
from perdure.runtime.routing import Routing
from perdure.runtime.running import Running
from perdure.runtime.views import HistoryEntry, InstanceView
from perdure.settings import Settings
from perdure.store.protocol import Store
from perdure.store.urls import store_of

__all__ = ["Runtime"]

logger = logging.getLogger("perdure")


class Runtime:
    """Runs sagas over a store, on the event loop it is started on.

        runtime = Runtime("memory://", [OrderFulfilment], Settings(mailbox_max=100))

    ``store``: a URL ("sqlite+aiosqlite:///file", "memory://") or a ``Store``. ``messages``: further
    classes that rows may hold, where ``@message`` alone is ambiguous. ``clock`` and ``new_id`` are
    for tests and simulations.

    Raises ``DefinitionError`` for sagas that cannot run together.
    """

    def __init__(
        self,
        store: str | Store,
        sagas: Iterable[Saga],
        settings: Settings | None = None,
        *,
        messages: Iterable[type] = (),
        clock: Clock | None = None,
        new_id: Callable[[], str] | None = None,
    ) -> None:
        self.store: Store = store_of(store)
        self.settings = settings or Settings()
        self.clock: Clock = clock or SystemClock()
        self._new_id = new_id or unique_ids()
        messages = tuple(messages)
        self._routing = Routing(definitions_of(sagas))
        self._codec = codec_of(
            self._routing.definitions.values(), messages, self.settings.message_bytes_max
        )
        self._running: Running | None = None
        self._stopping: asyncio.Task[None] | None = None

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

    async def start(self) -> None:
        """Take the store, and go on with whatever was under way.

        Raises ``StoreLocked`` if another runtime owns the store, ``SchemaTooNew``,
        ``NotADatabase``, ``StoreNotWritable``.
        """
        if self._running is not None:
            raise RuntimeNotRunning("the runtime was started before", remedy="start it once")
        epoch = await self.store.open()
        try:
            self._running = Running(
                self.store,
                epoch,
                self.clock,
                self.settings,
                self._routing,
                self._codec,
                self._new_id,
                self._stop_soon,
            )
            await self._running.start()
        except BaseException:
            await self.stop()
            await self.store.close()
            raise
        logger.info("running over %s, epoch %d", self.store.name, epoch)

    async def stop(self) -> None:
        """Take no more, finish what was accepted, give up the store.

        May be called twice. After ``shutdown_timeout_s`` the rest is refused to its senders.
        """
        if self._running is not None and self._stopping is None:
            self._stopping = asyncio.get_running_loop().create_task(self._running.stop())
        if self._stopping is not None:
            await asyncio.shield(self._stopping)
            self._running = self._stopping = None

    def _stop_soon(self) -> None:
        """The supervisor was stopped, or the store taken by another: the runtime follows."""
        if self._running is not None and self._stopping is None:
            self._stopping = asyncio.get_running_loop().create_task(self._running.stop())

    # Sending

    def ref(self, saga: Saga | str, correlation_id: Any) -> SagaRef:
        """The address of an instance, there or not: a pykka ``ActorRef`` with ``tell`` and ``ask``.

        Raises ``UnknownSaga``, and ``CorrelationFailed`` for what is no id.
        """
        running = self._parts()
        definition = self._routing.definition(saga)
        return SagaRef(
            definition.name,
            encode_id(correlation_id),
            running.handoff,
            running.supervisor.actor_ref,
        )

    def ref_to(self, seen: InstanceView | Receipt) -> SagaRef:
        """The address of an instance seen in a listing or a receipt, whose id is encoded text."""
        running = self._parts()
        definition = self._routing.definition(seen.saga)
        return SagaRef(
            definition.name, seen.correlation_id, running.handoff, running.supervisor.actor_ref
        )

    async def send(
        self,
        ref: SagaRef,
        message: Any,
        *,
        message_id: str | None = None,
        timeout_s: float | None = None,
        correlation_id: str | None = None,
        causation_id: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Receipt:
        """Send to one instance; the receipt comes after the commit. The ref decides which one.

        A message repeated under its ``message_id`` is answered as it was the first time.

        Raises ``SendError`` (see ``errors.py``) if it was not applied, ``CodecError`` if it cannot
        be stored, ``SendTimeout`` after ``timeout_s`` (it may still be applied).
        """
        definition = self._routing.definition(ref.saga)
        try:
            made = self._message(message, message_id, correlation_id, causation_id, headers)
        except PerdureError as error:
            raise error.about(definition.name, ref.correlation_id) from error.__cause__
        delivery = self._routing.delivery_to(definition, ref.correlation_id, made)
        running = self._on_loop()
        if timeout_s is None:
            return await running.deliver(delivery)
        try:
            async with asyncio.timeout(timeout_s):
                return await running.deliver(delivery)
        except TimeoutError:
            raise SendTimeout(
                f"no answer to {made.type} within {timeout_s} s",
                saga=definition.name,
                correlation_id=ref.correlation_id,
                remedy=f"it may still be applied; repeat it under message id {made.message_id!r}",
            ) from None

    async def publish(
        self,
        message: Any,
        *,
        message_id: str | None = None,
        correlation_id: str | None = None,
        causation_id: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> list[Receipt]:
        """Send to every instance the message is for, as the sagas correlate it.

        One receipt per instance; none if it concerns nobody. Each instance takes it on its own, so
        some may have when an error is raised: repeat it under the same ``message_id``, which
        changes nothing where it was applied.

        Raises as ``send``; ``PublishFailed`` if there were several instances.
        """
        made = self._message(message, message_id, correlation_id, causation_id, headers)
        deliveries = self._routing.deliveries(made)
        running = self._on_loop()
        if len(deliveries) == 1:
            return [await running.deliver(deliveries[0])]
        return await _deliver_all(running, made, deliveries)

    # Looking

    async def state(self, ref: SagaRef) -> InstanceView | None:
        """The instance as last committed, or None if there is none. Wakes nobody."""
        definition = self._routing.definition(ref.saga)
        return await self._on_loop().views.state(definition, ref.key)

    def instances(
        self, saga: Saga | str, *, status: Status | str | None = None, after: str = ""
    ) -> AsyncIterator[InstanceView]:
        """All instances of a saga, of one status or any, in the order of their ids, after an id.

        async for order in runtime.instances(OrderFulfilment, status="running"):
        """
        definition = self._routing.definition(saga)
        wanted = None if status is None else Status(status)
        return self._on_loop().views.instances(definition, wanted, after)

    def history(self, ref: SagaRef, *, after: int = 0) -> AsyncIterator[HistoryEntry]:
        """The turns of an instance above a sequence number, oldest first."""
        return self._on_loop().views.history(ref.key, after)

    @property
    def residents(self) -> int:
        """How many instances are in memory."""
        return len(self._parts().supervisor.active)

    async def settled(self) -> None:
        """Wait until all that was accepted is answered, which is after its commit."""
        await self._parts().settled()

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
        return running

    def _message(
        self,
        content: Any,
        message_id: str | None,
        correlation_id: str | None,
        causation_id: str | None,
        headers: Mapping[str, str] | None,
    ) -> Message:
        running = self._parts()
        return self._routing.message(
            running.services.codec,
            content,
            message_id,
            self._new_id,
            self.clock.now_ms(),
            correlation_id,
            causation_id,
            headers,
        )


async def _deliver_all(
    running: Running, message: Message, deliveries: list[Delivery]
) -> list[Receipt]:
    outcomes = await asyncio.gather(
        *(running.deliver(delivery) for delivery in deliveries), return_exceptions=True
    )
    receipts = [outcome for outcome in outcomes if isinstance(outcome, Receipt)]
    if len(receipts) == len(outcomes):
        return receipts
    raise PublishFailed(
        f"{len(outcomes) - len(receipts)} of {len(outcomes)} instances did not take {message.type}",
        outcomes,
        remedy=f"see .outcomes; repeat it under message id {message.message_id!r}",
    )
