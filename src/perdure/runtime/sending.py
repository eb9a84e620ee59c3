"""What a service sends: to one instance, to whom it concerns, to a queue of workers.

    await runtime.send(order, Paid("o-1"))                          # acknowledged when it returns
    await runtime.send(order, Paid("o-1"), transaction=session)     # with the user's own rows

Next to read: ``routing.py``, ``running.py``; ``joining.py``, for what goes with a transaction;
``runtime.py``, whose part this is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, overload

from perdure.errors import DefinitionError, PerdureError, SendTimeout
from perdure.runtime.accepted import Accepted, is_named
from perdure.runtime.delivery import Receipt
from perdure.runtime.lifecycle import Lifecycle
from perdure.runtime.ref import SagaRef, checked_ref
from perdure.store.joined import Transaction

__all__ = ["Sending"]


class Sending(Lifecycle):
    """The ways into a ``Runtime``."""

    @overload
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
        transaction: None = None,
    ) -> Receipt: ...

    @overload
    async def send(
        self,
        ref: SagaRef,
        message: Any,
        *,
        message_id: str | None = None,
        correlation_id: str | None = None,
        causation_id: str | None = None,
        headers: Mapping[str, str] | None = None,
        transaction: Transaction,
    ) -> Accepted: ...

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
        transaction: Transaction | None = None,
    ) -> Receipt | Accepted:
        """Send to one instance; the receipt comes after the commit. The ref decides which one.

        A message repeated under its ``message_id`` is answered as it was the first time.

            session.add(Order(id="o-1"))
            await runtime.send(order, OrderPlaced("o-1"), transaction=session)
            await session.commit()                                   # both, or none of them

        With a ``transaction`` of the store's own PostgreSQL (SQLAlchemy's sessions and connections)
        it is written there, and arrives when the user has committed that; see ``Accepted``.

        Raises ``SendError`` (see ``errors.py``) if it was not applied, ``CodecError`` if it cannot
        be stored, ``SendTimeout`` after ``timeout_s`` (it may still be applied); ``NotJoinable``
        if it cannot be part of the transaction.
        """
        definition = self._blueprint.routing.definition(checked_ref(ref).saga)
        try:
            made = self._message(message, message_id, correlation_id, causation_id, headers)
        except PerdureError as error:
            raise error.about(definition.name, ref.correlation_id) from error.__cause__
        delivery = self._blueprint.routing.delivery_to(definition, ref.correlation_id, made)
        running = self._on_loop()
        if transaction is not None:
            _check_no_timeout(timeout_s)
            letter = running.joining.enclosing.to_instance(delivery)
            await running.joining.put(transaction, [letter])
            return letter.accepted
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

    @overload
    async def publish(
        self,
        message: Any,
        *,
        message_id: str | None = None,
        correlation_id: str | None = None,
        causation_id: str | None = None,
        headers: Mapping[str, str] | None = None,
        transaction: None = None,
    ) -> list[Receipt]: ...

    @overload
    async def publish(
        self,
        message: Any,
        *,
        message_id: str | None = None,
        correlation_id: str | None = None,
        causation_id: str | None = None,
        headers: Mapping[str, str] | None = None,
        transaction: Transaction,
    ) -> list[Accepted]: ...

    async def publish(
        self,
        message: Any,
        *,
        message_id: str | None = None,
        correlation_id: str | None = None,
        causation_id: str | None = None,
        headers: Mapping[str, str] | None = None,
        transaction: Transaction | None = None,
    ) -> list[Receipt] | list[Accepted]:
        """Send to every instance the message is for, as the sagas correlate it.

        One receipt per instance; none if it concerns nobody. Each instance takes it on its own, so
        some may have when an error is raised: repeat it under the same ``message_id``, which
        changes nothing where it was applied. Subscribers hear of it when all instances have it;
        of an event repeated after that, they may hear again.

        With a ``transaction``, as ``send``: for all of them it is committed or rolled back at once,
        and subscribers do not wait for the instances.

        Raises as ``send``; ``PublishFailed`` if there were several instances.
        """
        made = self._message(message, message_id, correlation_id, causation_id, headers)
        running = self._on_loop()
        if transaction is not None:
            letters = running.joining.enclosing.to_all(made, is_named(message, message_id))
            await running.joining.put(transaction, letters)
            return [letter.accepted for letter in letters if letter.accepted.saga]
        deliveries = self._blueprint.routing.deliveries(made)
        if len(deliveries) == 1:
            receipts = [await running.deliver(deliveries[0])]
        else:
            receipts = await running.deliver_all(made, deliveries)
        await running.queues.publish(made, is_named(message, message_id))
        return receipts

    async def enqueue(
        self,
        command: Any,
        *,
        queue: str | None = None,
        job_id: str | None = None,
        delay: timedelta | None = None,
        correlation_id: str | None = None,
        causation_id: str | None = None,
        headers: Mapping[str, str] | None = None,
        transaction: Transaction | None = None,
    ) -> str:
        """Have a worker perform a command that no saga sent; its job's id comes after the commit.

            await runtime.enqueue(SendNewsletter("autumn"), delay=timedelta(hours=2))

        ``job_id`` is the worker's idempotency key; while a job of this id waits or runs, the same
        one changes nothing. What the worker returns is published. With a ``transaction`` it is
        queued when the user has committed that, as ``send`` says.

        Raises ``Unroutable`` if no queue takes the command, ``JobError`` for a bad ``delay`` or a
        ``job_id`` such as commands of sagas have, and as ``send`` does.
        """
        made = self._message(command, job_id, correlation_id, causation_id, headers, "job_id")
        named = is_named(command, job_id)
        running = self._on_loop()
        if transaction is None:
            await running.queues.enqueue(made, queue, delay, named)
        else:
            letter = running.joining.enclosing.to_queue(made, queue, delay, named)
            await running.joining.put(transaction, [letter])
        return made.message_id


def _check_no_timeout(timeout_s: float | None) -> None:
    if timeout_s is not None:
        raise DefinitionError(
            "nobody waits for an answer to what is sent with a transaction",
            remedy="leave timeout_s out",
        )
