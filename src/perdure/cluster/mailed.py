"""One row of mail at the runtime that owns its instance: read, brought, and what became of it.

Part of the intake, apart for its length. Next to read: ``intake.py``; ``handing.py``.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from perdure.cluster.handing import GONE, Wishes, hand
from perdure.cluster.posting import split_address
from perdure.cluster.results import pack_result
from perdure.codec.mail import (
    Refusal,
    Taken,
    unpack_carried,
    unpack_errand,
    unpack_job_letter,
)
from perdure.core.commit import OutboxRow
from perdure.core.correlation import VerdictKind, split_key
from perdure.core.described import described
from perdure.core.outcome import Outcome
from perdure.errors import (
    CodecError,
    DecodeError,
    OutcomeUnknown,
    PerdureError,
    SendError,
    StoreUnavailable,
    UnknownSaga,
)
from perdure.runtime.delivery import Delivery, Receipt
from perdure.runtime.elsewhere import Errand
from perdure.runtime.errands import run_errand
from perdure.runtime.routing import is_taken, no_handler
from perdure.store.mail import MailKind, MailRow

if TYPE_CHECKING:
    from perdure.cluster.intake import Intake

__all__ = ["Mailed", "bring"]

AGAIN: tuple[type[Exception], ...] = (*GONE, StoreUnavailable, OutcomeUnknown)
"""The row stays: it is where the message is kept until the store works again."""


WAITS = "it waits for a process that does: end those with the older code"


def bring(intake: Intake, row: MailRow) -> None:
    """Bring a row to the runtime of its owner; the intake hears the end.

    Raises ``DecodeError`` or another ``CodecError`` for what cannot be read here, ``UnknownSaga``
    and ``UnknownMessageType`` for what can, and is of other code than this.
    """
    if row.is_damaged:
        raise DecodeError("the row fails its checksum")
    try:
        token = split_address(row.reply_to)[1] if row.reply_to else 0
    except ValueError:
        raise DecodeError(f"no address: {row.reply_to!r}") from None
    mailed = Mailed(intake, row, token)
    if row.kind == MailKind.MESSAGE:
        _bring_message(mailed)
    elif row.kind == MailKind.JOB:
        job, is_named = unpack_job_letter(row.body)
        mailed.task = asyncio.get_running_loop().create_task(_put_job(mailed, job, is_named))
    elif row.kind == MailKind.ERRAND:
        errand = Errand(row.instance, *_errand(intake, row))
        mailed.task = asyncio.get_running_loop().create_task(_run(mailed, errand))
    else:
        raise DecodeError(f"mail of an unknown kind ({row.kind})")


def _errand(intake: Intake, row: MailRow) -> tuple[str, tuple[Any, ...]]:
    name, arguments = unpack_errand(intake.running.services.codec, row.body)
    return name, tuple(arguments)


async def _run(mailed: Mailed, errand: Errand) -> None:
    """Have the errand run; once its owner has gone, the next one runs it."""
    running = mailed.intake.running
    try:
        value = pack_result(running.services.codec, await run_errand(running, errand))
    except GONE as error:
        mailed.later(error)
    except Exception as error:
        mailed.refused(error, False)
    except asyncio.CancelledError as error:
        mailed.later(error)
        raise
    else:
        mailed.intake.answered(mailed, Taken(mailed.token, Outcome.APPLIED, value=value))


def _bring_message(mailed: Mailed) -> None:
    row, running = mailed.row, mailed.intake.running
    carried = unpack_carried(row.body)
    waiting = running.services.journal.decode_waiting(row.message_id, carried.waiting)
    name, correlation_id = split_key(row.instance)
    definition = running.supervisor.definitions.get(name)
    if definition is None:
        raise UnknownSaga(f"this process does not run {name!r}", remedy=WAITS)
    if not is_taken(definition, waiting.message):  # the code of its sender does
        raise no_handler(definition, correlation_id, waiting.message, WAITS)
    kind = VerdictKind(waiting.kind)
    delivery = Delivery(definition, row.instance, waiting.message, kind, waiting.strict)
    delivery.asks_again = carried.asks_again
    wishes = Wishes(not row.reply_to, carried.settles, AGAIN, insists=True)
    hand(running, delivery, mailed, wishes)


async def _put_job(mailed: Mailed, job: OutboxRow, is_named: bool) -> None:
    """Have the job put; whoever stops cancels nothing of it."""
    intake = mailed.intake
    try:
        await intake.running.queues.put(job, is_named)
    except AGAIN as error:
        intake.kept(mailed, error)
    except Exception as error:
        mailed.refused(error, False)
    except asyncio.CancelledError as error:
        intake.kept(mailed, error)
        raise
    else:
        intake.answered(mailed, Taken(mailed.token, Outcome.QUEUED))


class Mailed:
    """A row on its way; hears what became of it."""

    __slots__ = ("intake", "row", "task", "token")

    def __init__(self, intake: Intake, row: MailRow, token: int) -> None:
        self.intake = intake
        self.row = row
        self.token = token
        self.task: asyncio.Task[None] | None = None

    def taken(self, receipt: Receipt) -> None:
        value, is_large = self._packed(receipt.reply)
        self.intake.answered(
            self,
            Taken(
                self.token,
                receipt.outcome,
                receipt.sequence_nr,
                receipt.duplicate,
                value,
                is_large,
            ),
        )

    def refused(self, error: BaseException, is_written: bool) -> None:
        self.intake.answered(self, Refusal(self.token, _ours(error), is_written))

    def later(self, error: BaseException) -> None:
        self.intake.kept(self, error)

    def _packed(self, reply: Any) -> tuple[bytes | None, bool]:
        if reply is None or not self.row.reply_to:
            return None, False
        try:
            return self.intake.running.services.codec.encode_value(reply), False
        except CodecError:  # of a policy: what a turn replies is encoded in its journal
            return None, True


def _ours(error: BaseException) -> PerdureError:
    return error if isinstance(error, PerdureError) else SendError(described(error))
