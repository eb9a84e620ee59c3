"""Approvals: a saga that waits for people. A member of a runtime like any other.

    async with Runtime("sqlite+aiosqlite:///pay.db", [Invoice, Approvals, notices]) as runtime:
        policy = Approval(Who(groups=("finance",)), quorum=2, expires=timedelta(days=10))
        await submit(runtime, AskApproval("pay-i-7", PayInvoice("i-7", 9950), policy, "bob"))
        ...
        decision = Decide("pay-i-7", "ann", "approve", digest, groups=("finance",))
        answer = await submit(runtime, decision)            # Answer(word="recorded", missing=1, …)

A saga asks by starting a child, ``do.start_child("approval", Approvals, AskApproval("", …))``, and
hears the end as ``ChildEnded``, whose ``result`` is an ``ApprovalDecided``. That is published, too,
and so is whom to tell meanwhile: ``ApprovalAsked``, ``ApprovalReminder``, ``ApprovalEscalated``,
``ApprovalChanged``. A decision is always replied to, with an ``Answer``; another request only if it
is refused.

Who calls is trusted: that a decision is ``by`` whom it says, and that this person is in those
``groups``, the caller has to make sure. Literature: PURISTA (human review gates: decisions that
compare a digest before they count, one terminal answer for each). The rules are in
``core/approval.py``, what they come to in ``core/decision.py``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Protocol

from perdure.core import decision
from perdure.core.approval import Approval, Rung, Who
from perdure.core.approval_messages import (
    Answer,
    ApprovalAsked,
    ApprovalChanged,
    ApprovalDecided,
    ApprovalEscalated,
    ApprovalReminder,
    AskApproval,
    ChangeSubject,
    Decide,
    Ending,
    Request,
    Verdict,
    Vote,
    WithdrawApproval,
    Word,
)
from perdure.core.commit import Status
from perdure.core.correlation import encode_id
from perdure.core.decision import UNASKED, ApprovalState, Recorded
from perdure.core.digest import digest_of
from perdure.core.family import Cancel
from perdure.core.saga import MissingPolicy, ReplyMissing
from perdure.declarations import applies, continues, on_cancelled, on_deadline, starts
from perdure.effects import Effects
from perdure.errors import CorrelationFailed
from perdure.process_manager import ProcessManager

__all__ = [
    "Answer",
    "Approval",
    "ApprovalAsked",
    "ApprovalChanged",
    "ApprovalDecided",
    "ApprovalEscalated",
    "ApprovalReminder",
    "ApprovalState",
    "Approvals",
    "AskApproval",
    "ChangeSubject",
    "Decide",
    "Ending",
    "Request",
    "Rung",
    "Verdict",
    "Vote",
    "Who",
    "WithdrawApproval",
    "Word",
    "digest_of",
    "submit",
]

REMINDER = "reminder"
EXPIRES = "expires"


class Approvals(ProcessManager[ApprovalState]):
    """One instance per approval id, from the asking to the end.

        async for one in runtime.instances(Approvals, status="running"):
            print(one.correlation_id, one.state.subject, one.state.missing)

    Each ends completed, also where nobody approved; its result is an ``ApprovalDecided``. The next
    reminder is its deadline "reminder", its end "expires".
    """

    name = "perdure.approvals"
    on_missing: ClassVar[MissingPolicy] = ReplyMissing(Answer(Word.UNKNOWN))

    def initial_state(self) -> ApprovalState:
        """Nothing is asked yet."""
        return UNASKED

    @starts(AskApproval, by="approval_id")
    def asked(self, state: ApprovalState, event: AskApproval, do: Effects) -> None:
        """Open it, tell those who may decide, and arm the deadlines."""
        request = event if event.approval_id else replace(event, approval_id=_own_id(do))
        _check_address(request.approval_id, do)
        made = decision.ask(state, request, do.now)
        if isinstance(made, Answer):
            do.reply(made)
        elif made is not None:
            _announce(made, do)
            if made.expires_at is not None:
                do.deadline(EXPIRES, at=made.expires_at)
            _arm_reminder(decision.fold(state, made), do)

    @continues(Decide, by="approval_id")
    def decide(self, state: ApprovalState, event: Decide, do: Effects) -> None:
        """Count the vote, if it counts; the answer says what came of it."""
        _check_address(event.approval_id, do)
        votes, answer = decision.decide(state, event, do.now)
        do.reply(answer)
        for vote in votes:
            do.record(vote)
            state = decision.fold(state, vote)
        if answer.outcome is not None:
            do.complete(decision.decided(state, answer.outcome))

    @continues(ChangeSubject, by="approval_id")
    def change(self, state: ApprovalState, event: ChangeSubject, do: Effects) -> None:
        """Void the votes, and tell those who may decide now."""
        _check_address(event.approval_id, do)
        made = decision.change(state, event, do.now)
        if isinstance(made, Answer):
            do.reply(made)
        elif made is not None:
            _announce(made, do)

    @continues(WithdrawApproval, by="approval_id")
    def withdraw(self, state: ApprovalState, event: WithdrawApproval, do: Effects) -> None:
        """End it."""
        _check_address(event.approval_id, do)
        do.complete(decision.decided(state, "withdrawn", event.reason))

    @on_cancelled
    def cancelled(self, state: ApprovalState, cancel: Cancel, do: Effects) -> None:
        """Whoever asked does not want to know any more."""
        do.complete(decision.decided(state, "withdrawn", cancel.reason))

    @on_deadline(REMINDER)
    def remind(self, state: ApprovalState, do: Effects) -> None:
        """Go up the ladder as far as the time says, and remind; of what is over, nobody."""
        if state.is_over(do.now):
            return
        escalated, reminder = decision.remind(state, do.now)
        for one in escalated:
            do.publish(one)
        _announce(reminder, do)
        _arm_reminder(state, do)

    @on_deadline(EXPIRES)
    def expire(self, state: ApprovalState, do: Effects) -> None:
        """End it undecided."""
        do.complete(decision.decided(state, "expired"))

    @applies(ApprovalAsked, ApprovalChanged, ApprovalReminder, Vote)
    def fold(self, state: ApprovalState, event: Recorded) -> ApprovalState:
        """What was recorded makes up the state."""
        return decision.fold(state, event)


def _announce(event: ApprovalAsked | ApprovalChanged | ApprovalReminder, do: Effects) -> None:
    do.record(event)
    do.publish(event)


def _arm_reminder(state: ApprovalState, do: Effects) -> None:
    after = state.policy.next_reminder(do.now - state.asked_at)
    if after is not None:
        do.deadline(REMINDER, at=state.asked_at + after)


def _own_id(do: Effects) -> str:
    """The id of this instance as ``by=`` takes it: a text (see ``correlation.encode_id``)."""
    return do.metadata.instance_id.removeprefix("\\")


def _check_address(approval_id: str, do: Effects) -> None:
    """A ref's address decides where a message goes; here it must be what the message says."""
    here = do.metadata.instance_id
    if here and encode_id(approval_id) != here:
        raise CorrelationFailed(
            f"the message is for approval {approval_id!r}, and was sent to {here!r}",
            remedy="send it with perdure.approvals.submit; give a child a text as id",
        )


class Sender(Protocol):
    """What ``submit`` needs of a runtime."""

    def ref(self, saga: Any, correlation_id: Any) -> Any: ...

    async def send(
        self,
        ref: Any,
        message: Any,
        *,
        message_id: str | None = None,
        timeout_s: float | None = None,
    ) -> Any: ...

    async def state(self, ref: Any) -> Any: ...


async def submit(
    runtime: Sender,
    request: Request,
    *,
    message_id: str | None = None,
    timeout_s: float | None = None,
) -> Answer:
    """Ask, decide, change or withdraw; the answer comes after the commit, also after the end.

        answer = await submit(runtime, Decide("pay-i-7", "ann", "approve", digest))
        if answer.word is Word.CHANGED: ...             # show what it is now, under answer.digest

    Repeated under its ``message_id`` it is answered as it was the first time.
    Raises as ``Runtime.send`` does.
    """
    ref = runtime.ref(Approvals, request.approval_id)
    receipt = await runtime.send(ref, request, message_id=message_id, timeout_s=timeout_s)
    if isinstance(receipt.reply, Answer):
        return replace(receipt.reply, approval_id=request.approval_id)
    # Taken without a reply, or too late for one: how it stands says which.
    seen = await runtime.state(ref)
    if seen is not None and isinstance(seen.result, ApprovalDecided):
        return decision.late(seen.result, request)
    if seen is not None and seen.status is Status.RUNNING:
        state: ApprovalState = seen.state
        return state.answer(Word.OPEN)
    return Answer(Word.UNKNOWN, request.approval_id)  # its rows are not kept any more
