"""What goes from a runtime to the owner of a key: messages and jobs, by hand or by mail.

Each is answered here, once, whichever way it goes. Next to read: ``lanes.py``, the order;
``posting.py``, the mail; ``handing.py``, the way to a runtime in this process.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

from perdure.cluster.handing import GONE, Wishes, hand
from perdure.cluster.results import unpack_result
from perdure.codec.mail import (
    Answer,
    Carried,
    Refusal,
    Taken,
    pack_carried,
    pack_errand,
    pack_job_letter,
)
from perdure.core.commit import OutboxRow
from perdure.core.outcome import Outcome
from perdure.errors import OutcomeUnknown, PerdureError, RuntimeNotRunning, UnknownSaga
from perdure.runtime.delivery import Delivery, Receipt, refusal
from perdure.runtime.elsewhere import Errand
from perdure.runtime.errands import run_errand
from perdure.runtime.instances.told import stopped
from perdure.runtime.running import Running
from perdure.store.mail import MailKind, MailRow

if TYPE_CHECKING:
    from perdure.cluster.lanes import Lane
    from perdure.cluster.outlet import Outlet

__all__ = ["ErrandLetter", "JobLetter", "Letter", "MessageLetter"]


class Letter(ABC):
    """One thing on its way. ``key`` decides who owns it, ``number`` the order among its like.

    ``token`` names it in answers, 0 as long as it is not posted. ``position`` is that of its row,
    0 as long as nobody knows. ``posts``: so often it was posted; ``failures``: so often in a row
    the store failed at that; ``looks``: so often its row was looked after, and there; ``misses``:
    so often in a row it was not, and no answer either. ``is_sent``: it is on its way, and no other
    way may be taken; ``is_over``: it is answered.
    """

    __slots__ = (
        *("failures", "is_over", "is_sent", "key", "lane", "look_at_s", "looks", "misses"),
        *("number", "outlet", "position", "posts", "token"),
    )

    lane: Lane
    is_journaled = False
    """Its message id is in the journal of its instance once it was taken."""

    def __init__(self, outlet: Outlet, key: str) -> None:
        self.outlet = outlet
        self.key = key
        self.number = self.token = self.position = 0
        self.posts = self.failures = self.looks = self.misses = 0
        self.look_at_s = 0.0
        self.is_over = self.is_sent = False

    @property
    def is_told(self) -> bool:
        """Nobody waits for an answer: it is done with once its row is there."""
        return False

    @abstractmethod
    def row(self, reply_to: str, now_ms: int) -> MailRow:
        """It as mail."""

    @abstractmethod
    def hand(self, running: Running) -> None:
        """Bring it to a runtime in this process, which says what became of it."""

    @abstractmethod
    def answered(self, answer: Answer) -> None:
        """The answer to its row of mail has come."""

    def posted(self) -> None:  # noqa: B027 - an answer that somebody waits for comes later
        """It was told, and its row is there; its lane is kept until it cannot be overtaken."""

    def found(self, sequence_nr: int) -> None:  # noqa: B027 - of those that are journaled
        """It was put before, and is in this turn of its instance."""

    @abstractmethod
    def fail(self, error: BaseException) -> None:
        """It cannot be brought."""

    @abstractmethod
    def abandon(self) -> None:
        """The runtime that sent it stops."""

    def later(self, error: BaseException) -> None:
        """The runtime in this process is not its owner any more."""
        if not self.is_over:
            self.lane.returned(self)


class MessageLetter(Letter):
    """A delivery to an instance; hears what became of its twin at a runtime in this process."""

    __slots__ = ("delivery",)
    is_journaled = True

    def __init__(self, outlet: Outlet, delivery: Delivery) -> None:
        super().__init__(outlet, delivery.key)
        self.delivery = delivery

    @property
    def is_told(self) -> bool:
        return self.delivery.is_told

    def row(self, reply_to: str, now_ms: int) -> MailRow:
        delivery, message = self.delivery, self.delivery.message
        waiting = self.outlet.journal.encode_waiting(message, delivery.kind, delivery.strict)
        settles = delivery.settlement is not None
        body = pack_carried(Carried(waiting, delivery.asks_again, settles))
        kind = MailKind.MESSAGE
        return MailRow(self.key, message.message_id, kind, body, reply_to, now_ms)

    def hand(self, running: Running) -> None:
        delivery = self.delivery
        definition = running.supervisor.definitions.get(delivery.definition.name)
        if definition is None:
            self.refused(_not_run(delivery), False)
            return
        twin = Delivery(definition, self.key, delivery.message, delivery.kind, delivery.strict)
        twin.asks_again = delivery.asks_again
        settles = delivery.settlement is not None
        hand(running, twin, self, Wishes(delivery.is_told, settles))

    def answered(self, answer: Answer) -> None:
        if isinstance(answer, Refusal):
            self.refused(answer.error, answer.is_written)
        elif answer.is_large:
            self.outlet.look_up(self, answer)
        else:
            try:
                self.given(answer, self.outlet.value(answer.value))
            except (PerdureError, ValueError) as error:
                self.unread(answer, error)

    def given(self, answer: Taken, reply: Any) -> None:
        """It was taken elsewhere, and this is the reply."""
        is_repeated = answer.duplicate and self.posts == 1  # else the first one was ours, too
        self._answer(Outcome(answer.outcome), answer.sequence_nr, reply, is_repeated)

    def unread(self, answer: Taken, error: Exception) -> None:
        """It was applied elsewhere, and this code cannot read the reply: it is of newer code."""
        delivery = self.delivery
        if delivery.settlement is not None:  # whoever tells of a job does not look at the reply
            self.given(answer, None)
            return
        if isinstance(error, PerdureError):
            done = f"{delivery.message.type} was taken in turn {answer.sequence_nr}"
            error.problem = f"{done}, and the reply cannot be read here: {error.problem}"
            error.about(delivery.definition.name, delivery.correlation_id)
        self.fail(error)

    def posted(self) -> None:
        if not self.is_over:
            self.is_over = True
            self.outlet.ended(self)
            self.delivery.answer(Outcome.QUEUED)

    def found(self, sequence_nr: int) -> None:
        if self.is_told:
            self.posted()
            self.lane.done(self)
        else:
            self.outlet.recall(self, sequence_nr)

    def taken(self, receipt: Receipt) -> None:
        """It was taken in this process."""
        self._answer(receipt.outcome, receipt.sequence_nr, receipt.reply, receipt.duplicate)

    def recalled(self, answer: Taken, is_refused: bool) -> None:
        """Its answer was lost, and is in the journal."""
        if is_refused:
            self.refused(refusal(self.delivery, Outcome(answer.outcome)), True)
        else:
            self.answered(answer)

    def refused(self, error: BaseException, is_written: bool) -> None:
        """It was not applied. What was written of it there ends the job that has led to it."""
        if is_written and self.delivery.settlement is not None:
            self._answer(Outcome.FAILED)
        else:
            self.fail(error)

    def _answer(
        self,
        outcome: Outcome,
        sequence_nr: int | None = None,
        reply: Any = None,
        duplicate: bool = False,
    ) -> None:
        if not self.is_over:
            self.is_over = True
            self.outlet.ended(self)
            self.delivery.answer(outcome, sequence_nr, reply, duplicate)
            self.lane.done(self)

    def fail(self, error: BaseException) -> None:
        if not self.is_over:
            self.is_over = True
            self.outlet.ended(self)
            self.delivery.refuse(error)
            self.lane.done(self)

    def abandon(self) -> None:
        if self.position and self.outlet.owns_nothing:  # else whoever sent it sends it again
            self.fail(self._in_mail())
        else:
            self.fail(stopped(self.delivery))

    def _in_mail(self) -> OutcomeUnknown:
        delivery, shard = self.delivery, self.outlet.shard_of(self.key)
        message_id = delivery.message.message_id
        return OutcomeUnknown(
            f"the runtime stopped before an answer to {delivery.message.type} came: it waits in "
            f"the mail of shard {shard} under message id {message_id!r}",
            saga=delivery.definition.name,
            correlation_id=delivery.correlation_id,
            remedy="it will be applied when an owner takes it; sent again under this id, it is "
            "applied once",
        )


class _Awaited(Letter):
    """A letter whose end a coroutine waits for."""

    __slots__ = ("done",)

    def __init__(self, outlet: Outlet, key: str) -> None:
        super().__init__(outlet, key)
        self.done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def wait(self, work: Awaitable[Any]) -> None:
        """Wait for what is done in this process."""
        try:
            value = await work
        except GONE as error:
            self.later(error)
        except Exception as error:
            self.fail(error)
        else:
            self.succeed(value)

    def answered(self, answer: Answer) -> None:
        if isinstance(answer, Refusal):
            self.fail(answer.error)
            return
        try:
            value = None if answer.value is None else unpack_result(self.outlet.codec, answer.value)
        except PerdureError as error:
            self.fail(error)
        else:
            self.succeed(value)

    def succeed(self, value: Any) -> None:
        """It is done."""
        if not self.is_over and not self.done.done():
            self.done.set_result(value)
        self._end()

    def fail(self, error: BaseException) -> None:
        if not self.is_over and not self.done.done():
            self.done.set_exception(error)
        self._end()

    def _end(self) -> None:
        if not self.is_over:
            self.is_over = True
            self.outlet.ended(self)
            self.lane.done(self)


class JobLetter(_Awaited):
    """A job that no saga sent, for the shard of its id."""

    __slots__ = ("_is_named", "_job")

    def __init__(self, outlet: Outlet, job: OutboxRow, is_named: bool) -> None:
        super().__init__(outlet, job.id)
        self._job = job
        self._is_named = is_named

    def row(self, reply_to: str, now_ms: int) -> MailRow:
        body = pack_job_letter(self._job, self._is_named)
        return MailRow(self.key, self._job.id, MailKind.JOB, body, reply_to, now_ms)

    def hand(self, running: Running) -> None:
        self.outlet.spawn(self.wait(running.queues.put(self._job, self._is_named)))

    def abandon(self) -> None:
        problem = f"the runtime stopped before job {self.key!r} was queued"
        remedy = f"queue it again under the same job_id {self.key!r}"
        self.fail(RuntimeNotRunning(problem, remedy=remedy))


class ErrandLetter(_Awaited):
    """Something to be done by the owner of a key."""

    __slots__ = ("_body", "_errand")

    def __init__(self, outlet: Outlet, errand: Errand) -> None:
        super().__init__(outlet, errand.key)
        self._errand = errand
        self._body = pack_errand(outlet.codec, errand.name, errand.arguments)

    def row(self, reply_to: str, now_ms: int) -> MailRow:
        return MailRow(self.key, self._errand.name, MailKind.ERRAND, self._body, reply_to, now_ms)

    def hand(self, running: Running) -> None:
        self.outlet.spawn(self.wait(run_errand(running, self._errand)))

    def abandon(self) -> None:
        problem = f"the runtime stopped before it heard whether {self._errand.name!r} was done"
        self.fail(RuntimeNotRunning(problem, remedy=f"see how {self.key} stands"))


def _not_run(delivery: Delivery) -> PerdureError:
    return UnknownSaga(
        "the runtime that owns the instance does not run the saga",
        saga=delivery.definition.name,
        correlation_id=delivery.correlation_id,
        remedy="give the same sagas to all processes of a cluster",
    )
