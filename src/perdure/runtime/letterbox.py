"""Messages from a process that runs no runtime: put into its own transaction, and nothing else.

    letters = Letterbox([OrderFulfilment, payments])          # made once; no connection, no loop

    with Session(engine) as session, session.begin():         # in Flask, Django, a script
        session.add(Order(id="o-1"))
        letters.publish(OrderPlaced("o-1"), transaction=session)

Next to read: ``accepted.py``, what the rows are; ``store/joined.py``, which transactions will do;
``joining.py``, the same within a runtime.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from perdure.core.correlation import encode_id
from perdure.messages import Message
from perdure.queue import WorkQueue
from perdure.runtime.accepted import Accepted, Enclosing, Letter, is_named
from perdure.runtime.blueprint import parts_of
from perdure.runtime.clock import SystemClock
from perdure.runtime.definitions import Saga
from perdure.runtime.ids import unique_ids
from perdure.settings import Settings
from perdure.store.forks import here
from perdure.store.joined import PlainTransaction, joined_to
from perdure.store.posting import Posting, quoted

__all__ = ["Letterbox"]


class Letterbox:
    """Puts messages into transactions of the PostgreSQL database where a runtime's store is.

        letters = Letterbox([OrderFulfilment, payments], schema="perdure")
        letters.send(OrderFulfilment, "o-1", PaymentReceived("o-1"), transaction=connection)

    ``members``: the sagas and work queues of that runtime, whose code must be here; their workers
    are not called, and need no resources. ``schema``: the PostgreSQL schema of the store's tables.
    ``messages`` and ``settings`` as for the ``Runtime``. What is wrong with a message is raised at
    the call, and nothing is written. A runtime finds it within half a second of the commit.
    Any thread may call, also after a fork. Within ``await session.run_sync(…)`` of an
    ``AsyncSession``, too.

    Raises ``DefinitionError`` for sagas and queues that cannot run together, and for no schema.
    """

    def __init__(
        self,
        members: Iterable[Saga | WorkQueue],
        schema: str = "perdure",
        *,
        messages: Iterable[type] = (),
        settings: Settings | None = None,
    ) -> None:
        quoted(schema)
        self._parts = parts_of(members, _Whatever(), tuple(messages), settings or Settings())
        self._posting = Posting(schema)
        self._clock = SystemClock()
        routing, outbound, codec = self._parts.routing, self._parts.outbound, self._parts.codec
        self._enclosing = Enclosing(routing, outbound, codec, self._clock.now_ms)
        self._begin()

    def _begin(self) -> None:
        """A forked child must not give out the ids of its parent."""
        self._generation = here.generation
        self._new_id: Callable[[], str] = unique_ids()
        self._lock = threading.Lock()  # over packers, which are one thread's at a time

    def send(
        self,
        saga: Saga | str,
        correlation_id: Any,
        message: Any,
        *,
        transaction: PlainTransaction,
        message_id: str | None = None,
        causation_id: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Accepted:
        """Send to one instance, when the transaction is committed.

        Raises ``SendError``, ``CodecError``; ``NotJoinable`` if it cannot be part of it.
        """
        definition = self._parts.routing.definition(saga)
        key = encode_id(correlation_id)
        made = self._message(message, message_id, causation_id, headers)
        delivery = self._parts.routing.delivery_to(definition, key, made)
        with self._lock:
            letter = self._enclosing.to_instance(delivery)
        self._put(transaction, [letter])
        return letter.accepted

    def publish(
        self,
        message: Any,
        *,
        transaction: PlainTransaction,
        message_id: str | None = None,
        causation_id: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> list[Accepted]:
        """Send to every instance and subscriber that it is for; otherwise as ``send``."""
        made = self._message(message, message_id, causation_id, headers)
        with self._lock:
            letters = self._enclosing.to_all(made, is_named(message, message_id))
        self._put(transaction, letters)
        return [letter.accepted for letter in letters if letter.accepted.saga]

    def enqueue(
        self,
        command: Any,
        *,
        transaction: PlainTransaction,
        queue: str | None = None,
        job_id: str | None = None,
        delay: timedelta | None = None,
        causation_id: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> str:
        """Have a worker perform a command, once the transaction is committed; the job's id.

        Raises ``Unroutable`` and ``JobError`` as ``Runtime.enqueue``, and as ``send``.
        """
        made = self._message(command, job_id, causation_id, headers, "job_id")
        with self._lock:
            letter = self._enclosing.to_queue(made, queue, delay, is_named(command, job_id))
        self._put(transaction, [letter])
        return made.message_id

    def _message(
        self,
        content: Any,
        message_id: str | None,
        causation_id: str | None,
        headers: Mapping[str, str] | None,
        id_is: str = "message_id",
    ) -> Message:
        if here.generation != self._generation:
            self._begin()
        return self._parts.routing.message(
            self._parts.codec,
            content,
            message_id,
            self._new_id,
            self._clock.now_ms(),
            causation_id=causation_id,
            headers=headers,
            id_is=id_is,
        )

    def _put(self, transaction: PlainTransaction, letters: Sequence[Letter]) -> None:
        if letters:
            self._posting.put(joined_to(transaction), [letter.row for letter in letters])


class _Whatever(dict[str, Any]):
    """The resources of workers that are called elsewhere."""

    def __contains__(self, name: object) -> bool:
        return True
