"""Dead letters, looked at and dealt with: listed, sent on their way again, or thrown away.

    async for letter in runtime.dead_letters.list(saga=OrderFulfilment):
        print(letter.id, letter.reason, letter.error)
    await runtime.dead_letters.redrive(letter.id)          # pressed twice, it applies once

A letter leaves the dead letters in the transaction that puts its message into the inbox, or its
command back into the queue, so it is in exactly one place at any time. Next to read:
``dead_letters.py``, how one is made; ``letters.py``, how one looks.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any
from weakref import WeakValueDictionary

from perdure.codec.outbox import unpack_job
from perdure.core.commit import (
    DeadLetterRow,
    InboxReason,
    InboxRow,
    Settlement,
)
from perdure.core.correlation import VerdictKind, split_key
from perdure.errors import (
    CodecError,
    DefinitionError,
    InstanceFinished,
    UnknownMessageType,
    UnknownQueue,
    UnknownType,
)
from perdure.queue import WorkQueue
from perdure.runtime.definitions import Saga
from perdure.runtime.delivery import Delivery
from perdure.runtime.elsewhere import Errand
from perdure.runtime.instances.rehydration import has_ended_with
from perdure.runtime.instances.supervisor import Supervisor
from perdure.runtime.jobs.dispatcher import Dispatcher
from perdure.runtime.jobs.job_tickets import Awaited, nothing
from perdure.runtime.letters.letters import DeadLetter, Shown, Sought, owner_key
from perdure.runtime.repair.awaited_steps import check_awaited, is_step
from perdure.runtime.routing import Routing, is_taken, no_handler
from perdure.runtime.services import Services

__all__ = ["DeadLetters"]

logger = logging.getLogger("perdure.workers")

PAGE = 100

_NO_HANDLER = "in a cluster it would wait for code that has one: deploy that, or discard the letter"


class DeadLetters:
    """The dead letters of one runtime."""

    def __init__(
        self,
        services: Services,
        routing: Routing,
        dispatcher: Dispatcher,
        supervisor: Supervisor,
    ) -> None:
        self._services = services
        self._routing = routing
        self._dispatcher = dispatcher
        self._supervisor = supervisor
        self._redriven = supervisor.redriven
        self._shown = Shown(services, routing)
        self._locks: WeakValueDictionary[int, asyncio.Lock] = WeakValueDictionary()
        self._in_doubt: dict[tuple[str, str], Delivery | None] = {}
        self._reading = services.background(
            "reading what became of redriven messages", self._read_back
        )

    async def list(
        self,
        *,
        saga: Saga | str | None = None,
        queue: WorkQueue | str | None = None,
        reason: str | None = None,
        type: type | str | None = None,
        after: int = 0,
    ) -> AsyncIterator[DeadLetter]:
        """Dead letters, oldest first, read page by page; of one saga, queue, reason, or type.

        Each is named by itself or by its name; ``saga`` "" are jobs that no saga sent, ``queue`` ""
        messages. ``after`` is the id of a letter: begin behind it.

        Raises ``UnknownSaga``, ``UnknownQueue`` and ``UnknownMessageType`` for a name that neither
        the runtime nor any letter knows.
        """
        sought = Sought.of(self._services.codec.registry, saga, queue, reason, type)
        is_whole = not after
        while True:
            rows = await self._services.store.dead_letters(after, PAGE)
            for row in rows:
                letter = self._shown.letter(row)
                if sought.admits(letter):
                    yield letter
            if len(rows) < PAGE:
                break
            after = rows[-1].position
        if is_whole:
            self._check_known(sought)

    async def hold(self, held: AsyncExitStack, letter_ids: Iterable[int]) -> None:
        """Nobody else moves these letters until ``held`` is closed."""
        for letter_id in sorted(set(letter_ids)):
            lock = self._locks.get(letter_id)
            if lock is None:
                lock = self._locks[letter_id] = asyncio.Lock()
            await held.enter_async_context(lock)

    async def are_there(self, letter_ids: Iterable[int]) -> bool:
        """None of them is gone."""
        for letter_id in letter_ids:
            if await self.row(letter_id) is None:
                return False
        return True

    async def redrive(self, letter_id: int) -> bool:
        """Send the letter's message, or command, on its way again; False if it is gone already.

        A command begins anew, with no attempts; its id stays. It is performed also if its saga has
        been told of the failure (``DeadLetter.is_told``), and whatever that did about it, such as
        compensating, stays done: see first whether it is still wanted. A message is taken by its
        instance after those that wait there; a deadline, whose failure is journaled, is not.
        Raises ``CodecError`` if it cannot be read, ``InstanceFinished`` if its failure has ended
        its instance, or if it is a step of one that has ended, which nobody waits for: it stays.
        In a cluster also ``UnknownMessageType`` for a message that its saga has no handler for.
        """
        return await self.redrive_as(letter_id, None)

    async def redrive_as(self, letter_id: int, content: Any) -> bool:
        """The same, with another content if that is not None."""
        async with AsyncExitStack() as held:
            await self.hold(held, [letter_id] if isinstance(letter_id, int) else ())
            row = await self.row(letter_id)
            if row is None:
                return False
            if (away := self._services.away(owner_key(row))) is not None:
                errand = Errand(owner_key(row), "redrive", (row.position, content))
                return bool(await away.run(errand))
            if row.job:
                return await self._redrive_command(row, content)
            return await self._redrive_message(row, content)

    async def redrive_all(
        self,
        *,
        saga: Saga | str | None = None,
        queue: WorkQueue | str | None = None,
        reason: str | None = None,
        type: type | str | None = None,
    ) -> int:
        """Redrive what ``list`` gives for these filters; how many it were. What cannot be stays.

        Commands whose sagas were told of the failure are among them, compensated or not; see
        ``redrive``. Raises as ``list`` does, before it does anything.
        """
        return await self._each(
            self.redrive, self.list(saga=saga, queue=queue, reason=reason, type=type)
        )

    async def discard(self, letter_id: int) -> bool:
        """Throw the letter away; False if it is gone already.

        What had to wait for its command (see ``Send.after_previous``) may start now.
        """
        async with AsyncExitStack() as held:
            await self.hold(held, [letter_id] if isinstance(letter_id, int) else ())
            row = await self.row(letter_id)
            if row is None:
                return False
            if (away := self._services.away(owner_key(row))) is not None:
                return bool(await away.run(Errand(owner_key(row), "discard", (row.position,))))
            job, settlement = row.job, Settlement(row.instance, letter=row.position)

            def release() -> None:
                self._dispatcher.released(job)

            return await self._move(settlement, release, release)

    async def discard_all(
        self,
        *,
        saga: Saga | str | None = None,
        queue: WorkQueue | str | None = None,
        reason: str | None = None,
        type: type | str | None = None,
    ) -> int:
        """Discard what ``list`` gives for these filters; how many it were. Raises as ``list``."""
        return await self._each(
            self.discard, self.list(saga=saga, queue=queue, reason=reason, type=type)
        )

    async def _each(
        self, do: Callable[[int], Awaitable[bool]], listed: AsyncIterator[DeadLetter]
    ) -> int:
        """Only those that are there now: what comes back meanwhile is not done again."""
        count = 0
        for letter_id in [letter.id async for letter in listed]:
            try:
                count += await do(letter_id)
            except (CodecError, InstanceFinished, UnknownMessageType) as error:
                logger.warning("dead letter %d stays: %s", letter_id, error)
        return count

    def _check_known(self, sought: Sought) -> None:
        """Every letter was looked at: what none of them names, the runtime must know."""
        if "saga" in sought.missed:
            self._routing.definition(sought.saga)
        if "queue" in sought.missed and not self._dispatcher.adoption.knows(sought.queue or ""):
            raise UnknownQueue(
                f"the runtime has no work queue {sought.queue!r}, and no dead letter is of it",
                remedy="give the name of a queue, or the queue itself",
            )
        if "type" in sought.missed:
            try:
                self._services.codec.registry.named(sought.type or "")
            except UnknownType as error:
                raise UnknownMessageType(error.problem, remedy=error.remedy) from None

    async def row(self, letter_id: int) -> DeadLetterRow | None:
        """The letter of this id, None if it is gone. Raises ``DefinitionError`` for no id."""
        if not isinstance(letter_id, int):
            raise DefinitionError(
                f"{letter_id!r} is no id of a dead letter", remedy="give letter.id, a whole number"
            )
        if not 0 < letter_id < 2**63:
            return None
        rows = await self._services.store.dead_letters(letter_id - 1, 1)
        return rows[0] if rows and rows[0].position == letter_id else None

    async def _redrive_command(self, row: DeadLetterRow, content: Any) -> bool:
        job = unpack_job(row.instance, row.queue, row.type, row.job, row.body)
        job = self._dispatcher.adoption.adopted(job)  # its queue may have been renamed meanwhile
        definition = self._routing.definitions.get(split_key(row.instance)[0])
        if definition is not None and is_step(self._shown.content(job.type, job.version, job.body)):
            await check_awaited(self._services, definition, self._supervisor, row)
        if content is not None:
            name, version, body = self._services.codec.encode(content)
            job = replace(job, type=name, version=version, body=body)
        settlement = Settlement(row.instance, letter=row.position, outbox=(job,))

        def read_back() -> None:  # it may have to wait for another job: the store knows
            self._dispatcher.doubtful((job,))

        return await self._move(settlement, read_back, read_back)

    async def _redrive_message(self, row: DeadLetterRow, content: Any) -> bool:
        services = self._services
        found = services.journal.decode_waiting(row.message_id, row.body)
        body = row.body
        if content is not None:
            name, version, encoded = services.codec.encode(content)
            edited = replace(
                found.message, content=content, type=name, version=version, body=encoded
            )
            found = replace(found, message=edited)
            body = services.journal.encode_waiting(edited, found.kind, found.strict)
        now_ms = services.clock.now_ms()
        waiting = InboxRow(row.instance, row.message_id, InboxReason.QUEUED, body, now_ms)
        settlement = Settlement(row.instance, letter=row.position, inbox=waiting)
        delivery: Delivery | None = None
        definition = self._routing.definitions.get(split_key(row.instance)[0])
        if definition is not None:
            if services.elsewhere is not None and not is_taken(definition, found.message):
                correlation_id = split_key(row.instance)[1]
                raise no_handler(definition, correlation_id, found.message, _NO_HANDLER)
            kind = VerdictKind(found.kind)
            delivery = Delivery(definition, row.instance, found.message, kind, found.strict)
            resident = self._supervisor.active.get(row.instance)
            has_ended = await has_ended_with(services, resident, delivery)
            if has_ended and await self.row(row.position) is not None:
                raise InstanceFinished(
                    f"the instance has ended with {row.type}: it takes it no more",
                    saga=definition.name,
                    correlation_id=delivery.correlation_id,
                    remedy="start another instance, and discard the letter",
                )
            delivery.waits = True
            self._redriven.begin(delivery)

        def read_back() -> None:
            self._in_doubt[row.instance, row.message_id] = delivery
            self._reading.start()

        is_moved = await self._move(settlement, lambda: self._deliver(delivery), read_back)
        if not is_moved and delivery is not None:
            self._redriven.drop(delivery)
        return is_moved

    def _deliver(self, delivery: Delivery | None) -> None:
        """The row is in the inbox. An incarnation that has begun meanwhile has found it there."""
        if delivery is not None and delivery in self._redriven:
            self._supervisor.admit(delivery)

    async def _read_back(self) -> None:
        """Of redriven messages whose write failed: those that wait now are delivered."""
        while self._in_doubt:
            (key, message_id), delivery = next(iter(self._in_doubt.items()))
            (loaded,) = await self._services.store.load([key])
            del self._in_doubt[key, message_id]
            if any(one.message_id == message_id for one in loaded.inbox):
                self._deliver(delivery)  # it was written; only the answer was lost
            elif delivery is not None:
                self._redriven.drop(delivery)

    async def stop(self) -> None:
        """Read nothing more: the next runtime looks over the inbox."""
        await self._reading.stop()

    async def _move(
        self,
        settlement: Settlement,
        then: Callable[[], None],
        in_doubt: Callable[[], None] = nothing,
    ) -> bool:
        """True if the letter was there. Raises ``StoreError`` if that cannot be said."""
        ticket = Awaited(settlement, then, in_doubt)
        self._services.commit.submit(ticket)
        return await ticket.outcome
