"""An instance is told of a job: its result, its failure, an event. Until the instance has it.

What is written of the delivery takes the job's settlement along. If nothing is written, the
settlement is written by itself; if the instance cannot be had now, the same is delivered again; if
this runtime does not run its saga, the message waits in the inbox (for one that is quarantined the
supervisor sees to that). Next to read: ``settling.py``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from perdure.core.commit import OutboxKind, OutboxRow, Settlement
from perdure.core.correlation import VerdictKind, split_key
from perdure.core.family import ChildEnded
from perdure.core.outcome import Outcome
from perdure.errors import (
    MailboxFull,
    OutcomeUnknown,
    RuntimeNotRunning,
    SendError,
    StoreError,
)
from perdure.messages import CommandFailed, Message
from perdure.runtime.delivery import Delivery, Receipt
from perdure.runtime.jobs.job_rows import JobRows
from perdure.runtime.routing import Routing
from perdure.runtime.services import Services
from perdure.runtime.watching.logs import about

__all__ = ["NOW_OR_LATER", "Ends", "Telling"]

logger = logging.getLogger("perdure.workers")

_OURS = (CommandFailed, ChildEnded)
"""Told to whoever sent what has led to it, whatever it is interested in."""

NOW_OR_LATER = (StoreError, OutcomeUnknown, MailboxFull)
"""The instance cannot be had now; the same is delivered again after a pause."""


class Ends(Protocol):
    """How a job's end is written, and who hears that it was."""

    def close(self, row: OutboxRow, settlement: Settlement) -> None:
        """Write the settlement by itself."""

    def closed(self, row: OutboxRow, settlement: Settlement) -> None:
        """The settlement is durable."""

    def abandoned(self, row: OutboxRow) -> None:
        """The runtime stops: the job stays as it is, for the next one."""


class Telling:
    """Delivers what follows from a job to one instance. ``admit`` is the supervisor's."""

    def __init__(self, services: Services, routing: Routing, rows: JobRows, ends: Ends) -> None:
        self.admit: Callable[[Delivery], None] = _nobody
        self._services = services
        self._routing = routing
        self._rows = rows
        self._ends = ends

    def tell(self, row: OutboxRow, message: Message, settlement: Settlement) -> None:
        """Deliver to the instance that sent the command."""
        saga, correlation_id = split_key(row.instance)
        definition = self._routing.definitions.get(saga)
        if definition is None:
            self.hold(row, row.instance, message, settlement)
        elif type(message.content) in _OURS:
            delivery = Delivery(definition, row.instance, message, VerdictKind.CONTINUE)
            self.deliver(row, delivery, settlement)
        else:
            try:
                delivery = self._routing.delivery_to(definition, correlation_id, message)
            except SendError as error:
                self.bury(row, row.instance, message, settlement, error)
            else:
                self.deliver(row, delivery, settlement)

    def deliver(self, row: OutboxRow, delivery: Delivery, settlement: Settlement) -> None:
        """Deliver; whatever is written of it ends the job in the same transaction."""
        delivery.settlement = settlement
        delivery.reply = _Told(self, self._ends, row, delivery, settlement)
        self.admit(delivery)

    def again(self, row: OutboxRow, delivery: Delivery, settlement: Settlement) -> None:
        """The instance could not be had: the same once more, later."""
        self._services.pause(
            f"telling {delivery.key} of job {row.id}",
            lambda: self.deliver(row, delivery.fresh(), settlement),
        )

    def hold(self, row: OutboxRow, key: str, message: Message, settlement: Settlement) -> None:
        """Nobody runs its saga here: the message waits for the instance in the inbox."""
        self._ends.close(row, replace(settlement, inbox=self._rows.held(key, message)))

    def bury(
        self,
        row: OutboxRow,
        key: str,
        message: Message,
        settlement: Settlement,
        error: BaseException,
    ) -> None:
        """The instance will not have the message: it becomes a dead letter, the job is done."""
        extra = about(key, row.id)
        logger.error("%s of job %s is a dead letter: %s", message.type, row.id, error, extra=extra)
        letter = self._rows.undelivered(key, message, error)
        letters = (*settlement.dead_letters, letter)
        self._ends.close(row, replace(settlement, dead_letters=letters))


class _Told:
    """Hears what became of it at the instance."""

    __slots__ = ("_delivery", "_ends", "_row", "_settlement", "_telling")

    def __init__(
        self,
        telling: Telling,
        ends: Ends,
        row: OutboxRow,
        delivery: Delivery,
        settlement: Settlement,
    ) -> None:
        self._telling = telling
        self._ends = ends
        self._row = row
        self._delivery = delivery
        self._settlement = settlement

    def resolve(self, receipt: Receipt) -> None:
        message = self._delivery.message
        is_result = self._row.kind is OutboxKind.COMMAND and type(message.content) not in _OURS
        if is_result and receipt.outcome is Outcome.FINISHED:
            logger.info(
                "the result %s of job %s came after %s had ended, and changes nothing",
                message.type, self._row.id, self._delivery.key,
                extra=about(self._delivery.key, self._row.id),
            )  # fmt: skip
        if self._delivery.settlement is not None:  # answered without anything being written
            self._ends.close(self._row, self._settlement)
        else:
            self._ends.closed(self._row, self._settlement)

    def refuse(self, error: BaseException) -> None:
        row, delivery, settlement = self._row, self._delivery, self._settlement
        if delivery.settlement is None:  # it is a dead letter, or refused in a turn
            self._ends.closed(row, settlement)
        elif isinstance(error, RuntimeNotRunning):
            self._ends.abandoned(row)
        elif isinstance(error, NOW_OR_LATER):
            self._telling.again(row, delivery, settlement)
        else:
            self._telling.bury(row, delivery.key, delivery.message, settlement, error)


def _nobody(delivery: Delivery) -> None:
    raise AssertionError("no supervisor yet")
