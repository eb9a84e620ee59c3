"""The runtime: what a service embeds. Takes messages, gives looks; starts and stops the parts.

    async with Runtime("sqlite+aiosqlite:///orders.db", [OrderFulfilment]) as runtime:
        await runtime.publish(OrderPlaced("o-1", 100))
        order = runtime.ref(OrderFulfilment, "o-1")
        await runtime.send(order, PaymentReceived("o-1"))
        print((await runtime.state(order)).status)

Decides nothing itself. Next to read: ``sending.py``, ``routing.py``, ``running.py``,
``instances/supervisor.py``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from perdure.core.commit import Status
from perdure.core.correlation import encode_id
from perdure.core.family import Cancel
from perdure.core.step_events import Resume
from perdure.errors import SendTimeout
from perdure.runtime.definitions import Saga
from perdure.runtime.delivery import Receipt
from perdure.runtime.instances.quarantine import QuarantinedInstance
from perdure.runtime.jobs.queues import QueueRef
from perdure.runtime.letters.redrive import DeadLetters
from perdure.runtime.looking.history import HistoryEntry, history
from perdure.runtime.looking.looking import Looking
from perdure.runtime.looking.searching import Searching
from perdure.runtime.looking.then import At
from perdure.runtime.looking.views import InstanceView, status_of
from perdure.runtime.ref import SagaRef, Seen, checked_ref
from perdure.runtime.repair.repair import Repair
from perdure.runtime.repair.repaired import Audited
from perdure.runtime.sending import Sending

__all__ = ["Runtime"]


class Runtime(Sending, Looking, Searching):
    """Runs sagas and work queues over a store, on the event loop it is started on.

        runtime = Runtime("memory://", [OrderFulfilment], Settings(mailbox_max=100))

    ``store``: a URL ("sqlite+aiosqlite:///file", "memory://") or a ``Store``. ``members``: saga
    classes and work queues. ``resources``: what workers are given, by the names of their
    parameters. ``messages``: further classes that rows may hold, where ``@message`` alone is
    ambiguous. ``observers`` hear what happens (``perdure.observer``). ``tracing``: a
    ``perdure.ops.tracing.Tracing``. ``clock``, ``new_id``, ``random`` and ``threads`` are for tests
    and simulations.

    Raises ``DefinitionError`` for sagas and queues that cannot run together.
    """

    # Sending

    def ref(self, saga: Saga | str, correlation_id: Any) -> SagaRef:
        """The address of an instance, there or not: a pykka ``ActorRef`` with ``tell`` and ``ask``.

        Raises ``UnknownSaga``, and ``CorrelationFailed`` for what is no id.
        """
        running = self._parts()
        definition = self._blueprint.routing.definition(saga)
        return SagaRef(
            definition.name,
            encode_id(correlation_id),
            running.handoff,
            running.supervisor.actor_ref,
        )

    def ref_to(self, seen: Seen) -> SagaRef:
        """The address of an instance seen in a listing or a receipt, whose id is encoded text."""
        running = self._parts()
        definition = self._blueprint.routing.definition(seen.saga)
        return SagaRef(
            definition.name, seen.correlation_id, running.handoff, running.supervisor.actor_ref
        )

    # Repair

    def queue(self, name: str) -> QueueRef:
        """A work queue of this runtime: pause, resume, cancel, look. Raises ``UnknownQueue``."""
        return self._parts().queues.ref(name)

    @property
    def dead_letters(self) -> DeadLetters:
        """What could not be processed: to list, redrive, discard."""
        return self._parts().letters

    def repair(self, *, by: str, why: str) -> Repair:
        """What may be done by hand, by this person and for this reason: both are journaled.

            repair = runtime.repair(by="ann", why="bug 4711: wrong account")
            print(await repair.retry(ref, dry_run=True))

        Raises ``DefinitionError`` if one of them does not say anything.
        """
        return Repair(self._on_loop().repairs, by, why)

    async def audit(self, ref: SagaRef) -> AsyncIterator[Audited]:
        """Who has repaired an instance, what was done, why and when; oldest first.

        async for one in runtime.audit(ref):
            print(one)
        """
        async for entry in self.history(ref):
            done = entry.intervention
            if done is not None:
                yield Audited(
                    entry.sequence_nr,
                    entry.at,
                    done.action,
                    done.by,
                    done.why,
                    done.text,
                    done.about,
                    entry.message_id,
                )

    async def cancel(
        self, ref: SagaRef, reason: str = "", *, message_id: str | None = None
    ) -> Receipt:
        """Tell an instance that it shall not go on; what it makes of that, it says itself.

        A process manager fails, unless it has an ``@on_cancelled``; an ordered saga undoes what it
        has done; a workflow is cancelled where it waits. Raises as ``send``, ``InstanceNotFound``
        and ``InstanceFinished`` if there is nothing to cancel.
        """
        message = self._message(Cancel(reason), message_id, None, None, None)
        return await self._on_loop().tell(checked_ref(ref).key, message)

    async def resume(self, ref: SagaRef, *, message_id: str | None = None) -> Receipt:
        """Somebody has seen to what an ordered saga or workflow is stuck at: it tries that again.

            async for view in runtime.instances(trip, status="stuck"):
                print(view.correlation_id, view.failure)
                await runtime.resume(runtime.ref_to(view))

        Under the same idempotency keys; the dead letters of these steps are discarded. Nothing
        happens to an instance that is not stuck. Raises as ``send``, ``InstanceNotFound`` and
        ``InstanceFinished`` if there is nothing to resume, ``MessageNotHandled`` if the saga does
        not know how.
        """
        message = self._message(Resume(), message_id, None, None, None)
        return await self._on_loop().resume(checked_ref(ref), message)

    def quarantined(self, saga: Saga | str | None = None) -> AsyncIterator[QuarantinedInstance]:
        """The instances that are set aside, of a saga or of all, in the order of their ids.

            async for one in runtime.quarantined(OrderFulfilment):
                print(one.correlation_id, one.reason, one.error, one.held)

        Raises ``UnknownSaga``.
        """
        name = None if saga is None else self._blueprint.routing.definition(saga).name
        return self._on_loop().supervisor.quarantine.listed(name)

    async def release(self, ref: SagaRef) -> bool:
        """Somebody has seen to why an instance is quarantined: it lives again.

            async for one in runtime.quarantined():
                await runtime.release(runtime.ref_to(one))

        The held messages have their turns in order, and deadlines that came due fire. False if it
        is not quarantined; nothing happens then. Raises ``InstanceQuarantined`` if it cannot be
        rehydrated, ``StoreError`` if it cannot be read or written now; it stays quarantined then.
        """
        definition = self._blueprint.routing.definition(checked_ref(ref).saga)
        return await self._on_loop().supervisor.quarantine.release(definition, ref.key)

    # Looking

    async def result(self, ref: SagaRef, *, timeout_s: float | None = None) -> Any:
        """Wait for the instance's end, also over restarts; what it completed with.

            print(await runtime.result(runtime.ref(trip, "t-1"), timeout_s=60))

        Raises ``SagaFailed`` with the error that led to it, ``SagaStuck``, ``SendTimeout``;
        ``InstancePurged`` if that is not kept any more.
        """
        definition = self._blueprint.routing.definition(checked_ref(ref).saga)
        try:
            async with asyncio.timeout(timeout_s):
                return await self._on_loop().result(definition, ref.key)
        except TimeoutError:
            raise SendTimeout(
                f"it has not ended within {timeout_s} s",
                saga=definition.name,
                correlation_id=ref.correlation_id,
                remedy="ask again later; nothing was changed by asking",
            ) from None

    async def state(self, ref: SagaRef, *, at: At | None = None) -> InstanceView | None:
        """The instance as last committed, or None if there is none. Wakes nobody.

            await runtime.state(order, at=3)                             # after its third turn
            await runtime.state(order, at=datetime(2026, 11, 20, 3, tzinfo=UTC))

        With ``at``, as it was then: by the journal, and by today's ``apply``. None if it did not
        exist yet. Raises ``DefinitionError`` for a moment that is yet to come, ``Gone`` for one the
        journal does not keep any more, ``InstanceQuarantined`` if it cannot be read. One that was
        purged is shown without its state (``InstanceView.purged``), while its tombstone stays.
        """
        definition = self._blueprint.routing.definition(checked_ref(ref).saga)
        views = self._on_loop().views
        if at is None:
            return await views.state(definition, ref.key)
        return await views.then(definition, ref.key, at)

    def instances(
        self, saga: Saga | str, *, status: Status | str | None = None, after: str = ""
    ) -> AsyncIterator[InstanceView]:
        """All instances of a saga, of one status or any, in the order of their ids, after an id.

        async for order in runtime.instances(OrderFulfilment, status="running"):
        """
        definition = self._blueprint.routing.definition(saga)
        return self._on_loop().views.instances(definition, status_of(status), after)

    def history(self, ref: SagaRef, *, after: int = 0) -> AsyncIterator[HistoryEntry]:
        """The turns of an instance above a sequence number, oldest first.

        Raises ``InstancePurged`` if they are not kept any more.
        """
        return history(self._on_loop().services, checked_ref(ref).key, after)

    @property
    def residents(self) -> int:
        """How many instances are in memory."""
        return len(self._parts().supervisor.active)

    async def settled(self) -> None:
        """Wait until all that was accepted is answered, which is after its commit."""
        await self._parts().settled()
