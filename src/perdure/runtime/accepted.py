"""What is sent with a user's own transaction, as rows of mail: to an instance, to all, to a queue.

Everything that can be wrong with a message is found here, before a row is written; what becomes of
it at its instance, nobody knows before the commit. Knows no store and no loop. Next to read:
``joining.py``, which puts the rows; ``store/mail.py``, who takes them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple

from perdure.codec import Codec
from perdure.codec.journal import JournalCodec
from perdure.codec.mail import Carried, pack_carried, pack_job_letter
from perdure.core.commit import OutboxRow
from perdure.errors import DefinitionError
from perdure.messages import Message
from perdure.runtime.delivery import Delivery
from perdure.runtime.jobs.orders import JobOrders
from perdure.runtime.jobs.outbound import Outbound
from perdure.runtime.routing import Routing
from perdure.store.mail import MailKind, MailRow

__all__ = ["Accepted", "Enclosing", "Letter", "is_named"]


@dataclass(frozen=True, slots=True)
class Accepted:
    """A message that arrives if the transaction it was sent with is committed. Not a receipt.

        accepted = await runtime.send(order, Paid("o-1"), transaction=session)
        await session.commit()                          # now it is on its way to the instance

    Nothing is known yet of what the instance makes of it: send it again under ``message_id``
    without a transaction, after the commit, to learn that. ``correlation_id`` is encoded text.
    """

    saga: str
    correlation_id: str
    message_id: str


class Letter(NamedTuple):
    """A row, and what its sender is told: the instance of a job's is empty."""

    row: MailRow
    accepted: Accepted


class Enclosing:
    """Makes the rows. Free of loops and threads."""

    def __init__(
        self, routing: Routing, outbound: Outbound, codec: Codec, now_ms: Callable[[], int]
    ) -> None:
        self._routing = routing
        self._journal = JournalCodec(codec)
        self._orders = JobOrders(outbound, now_ms)
        self._now_ms = now_ms

    def to_instance(self, delivery: Delivery) -> Letter:
        """The message for one instance."""
        message = delivery.message
        waiting = self._journal.encode_waiting(message, delivery.kind, delivery.strict)
        body = pack_carried(Carried(waiting))
        return Letter(
            self._row(delivery.key, message.message_id, MailKind.MESSAGE, body),
            Accepted(delivery.definition.name, delivery.correlation_id, message.message_id),
        )

    def to_all(self, message: Message, is_named: bool) -> list[Letter]:
        """The message for each instance that it is for, then for its subscribers.

        ``is_named``: its id is the sender's, and may have come before. Raises as
        ``Routing.deliveries``.
        """
        letters = [self.to_instance(one) for one in self._routing.deliveries(message)]
        return letters + [self._job(row, is_named) for row in self._orders.events(message)]

    def to_queue(
        self, message: Message, queue: str | None, delay: timedelta | None, is_named: bool
    ) -> Letter:
        """The command for a worker. Raises as ``JobOrders.command``."""
        return self._job(self._orders.command(message, queue, delay, is_named), is_named)

    def _job(self, row: OutboxRow, is_named: bool) -> Letter:
        body = pack_job_letter(row, is_named)
        return Letter(self._row(row.id, row.id, MailKind.JOB, body), Accepted("", "", row.id))

    def _row(self, key: str, message_id: str, kind: MailKind, body: bytes) -> MailRow:
        for what, value in (("the instance's id", key), ("the message id", message_id)):
            if "\0" in value:
                raise DefinitionError(
                    f"{what} {value!r} has a NUL character, which PostgreSQL does not store",
                    remedy="use an id without one",
                )
        return MailRow(key, message_id, kind, body, "", self._now_ms())


def is_named(content: Any, given_id: str | None) -> bool:
    """The id of a message is its sender's, and may have come before."""
    return given_id is not None or (isinstance(content, Mapping) and content.get("id") is not None)
