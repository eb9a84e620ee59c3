"""The messages of an approval: what it is asked, what it answers, what it tells the world.

    AskApproval, Decide, ChangeSubject, WithdrawApproval        come in
    Answer                                                      is the reply
    ApprovalAsked, ApprovalChanged, ApprovalReminder,
    ApprovalEscalated, ApprovalDecided                          are published

Frozen values with stable type names. Users find them in ``perdure.approvals``.
Next to read: ``decision.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, TypeAlias

from perdure.core.approval import Approval, Who
from perdure.core.digest import digest_of
from perdure.errors import DefinitionError
from perdure.messages import AnyMessage, message

__all__ = [
    "Answer",
    "ApprovalAsked",
    "ApprovalChanged",
    "ApprovalDecided",
    "ApprovalEscalated",
    "ApprovalReminder",
    "AskApproval",
    "ChangeSubject",
    "Decide",
    "Ending",
    "Request",
    "Verdict",
    "Vote",
    "WithdrawApproval",
    "Word",
]

Verdict: TypeAlias = Literal["approve", "reject"]
Ending: TypeAlias = Literal["approved", "rejected", "expired", "withdrawn"]
"""How an approval may end."""

BY_CHARS_MAX = 200
COMMENT_CHARS_MAX = 1000


def _check_text(what: str, text: object, chars_max: int) -> None:
    if type(text) is not str or len(text) > chars_max:
        raise DefinitionError(
            f"Decide.{what} is {str(text)[:40]!r}…",
            remedy=f"give a text of up to {chars_max} characters; keep the rest elsewhere",
        )


# What comes in


@message(name="perdure.AskApproval")
@dataclass(frozen=True, slots=True)
class AskApproval:
    """Ask for the approval of ``subject``, any message: what will be done, exactly.

        AskApproval("pay-i-7", PayInvoice("i-7", 9950), Approval(Who(people=("ann",))), "bob")

    ``approval_id`` is new each time: one that has ended is not opened again. It is "" where a saga
    asks by a child: the child's id it is then. Asking twice for the same is asking once.
    ``requester`` is on whose behalf it is asked.

    Raises ``DefinitionError`` if by the rules this requester's wish could never be approved.
    """

    approval_id: str
    subject: AnyMessage
    policy: Approval
    requester: str = ""

    def __post_init__(self) -> None:
        if type(self.policy) is not Approval:
            raise DefinitionError(
                f"AskApproval.policy is {self.policy!r}", remedy="give an Approval(…)"
            )
        if not self.policy.not_requester:
            return
        if not self.requester:
            raise DefinitionError(
                "AskApproval: the requester may not decide, and nobody is named as requester",
                remedy="give requester=",
            )
        problem = self.policy.dead_end((self.requester,))
        if problem:
            raise DefinitionError(
                f"AskApproval: without the requester, {problem}",
                remedy="let more people decide, or ask for fewer votes",
            )


@message(name="perdure.Decide")
@dataclass(frozen=True, slots=True)
class Decide:
    """A person's decision on what has this digest; the reply is an ``Answer``.

        Decide("pay-i-7", by="ann", verdict="approve", digest=asked.digest, groups=("finance",))

    Who sends it vouches for ``by`` and ``groups``: nobody checks them here.
    Raises ``DefinitionError`` for a name of more than 200 characters or a comment of more than
    1,000, or what is no text.
    """

    approval_id: str
    by: str
    verdict: Verdict
    digest: str
    groups: tuple[str, ...] = ()
    comment: str = ""

    def __post_init__(self) -> None:
        _check_text("by", self.by, BY_CHARS_MAX)
        _check_text("comment", self.comment, COMMENT_CHARS_MAX)


@message(name="perdure.ChangeSubject")
@dataclass(frozen=True, slots=True)
class ChangeSubject:
    """What is to be approved has changed: votes so far are void, and there is another digest.

    ``by`` is who changed it, and may not decide either where the requester may not. The time until
    reminders, escalation and expiry goes on counting from the asking.
    """

    approval_id: str
    subject: AnyMessage
    by: str


@message(name="perdure.WithdrawApproval")
@dataclass(frozen=True, slots=True)
class WithdrawApproval:
    """It need not be decided any more."""

    approval_id: str
    reason: str = ""


Request: TypeAlias = AskApproval | Decide | ChangeSubject | WithdrawApproval


# What is replied


class Word(StrEnum):
    """What became of a decision, or of another request, in a word."""

    OPEN = "open"
    """Asked, or asked before; or the subject is changed. It can be decided, under this digest."""
    RECORDED = "recorded"
    """The vote counts; it is not decided yet."""
    APPROVED = "approved"
    """The vote counts, and with it the subject is approved."""
    REJECTED = "rejected"
    """The vote counts, and with it the subject is rejected."""
    DUPLICATE = "duplicate"
    """This person's vote was this one already. Nothing has changed."""
    CHANGED = "changed"
    """The digest is not that of what is to be approved now. Look at that, and decide again."""
    NOT_ALLOWED = "not-allowed"
    """This person may not do that; ``reason`` says why."""
    ALREADY_DECIDED = "already-decided"
    """Too late: it was approved, or rejected, before."""
    EXPIRED = "expired"
    """Too late: nobody decided in time."""
    WITHDRAWN = "withdrawn"
    """It is withdrawn, now or before."""
    EXISTS = "exists"
    """Not asked: the approval id stands for something else."""
    UNKNOWN = "unknown"
    """There is no such approval."""


@message(name="perdure.Answer")
@dataclass(frozen=True, slots=True)
class Answer:
    """The reply to a request.

    ``digest`` is that of what is (or was, at the end) to be approved; ``outcome`` how it ended,
    None while it is open; ``missing`` how many approvals are needed yet; ``reason`` why not.
    """

    word: Word
    approval_id: str = ""
    digest: str = ""
    outcome: Ending | None = None
    missing: int = 0
    reason: str = ""


# What is recorded, and published


@message(name="perdure.Vote")
@dataclass(frozen=True, slots=True)
class Vote:
    """A person's verdict. Recorded; a later one of the same person replaces it."""

    by: str
    verdict: Verdict
    at: datetime
    comment: str = ""


@message(name="perdure.ApprovalAsked")
@dataclass(frozen=True, slots=True)
class ApprovalAsked:
    """An approval is open: those of ``policy.who`` may decide on the subject, by its digest."""

    approval_id: str
    subject: AnyMessage
    digest: str
    policy: Approval
    requester: str
    asked_at: datetime

    @property
    def expires_at(self) -> datetime | None:
        """When it ends undecided, None if never."""
        expires = self.policy.expires
        return None if expires is None else self.asked_at + expires


@message(name="perdure.ApprovalChanged")
@dataclass(frozen=True, slots=True)
class ApprovalChanged:
    """The subject was changed by ``by``. Whoever has voted has to again, on the new digest.

    ``voided`` are the votes that do not count any more, ``who`` those who may decide now.
    """

    approval_id: str
    subject: AnyMessage
    digest: str
    by: str
    voided: tuple[Vote, ...]
    who: Who


@message(name="perdure.ApprovalReminder")
@dataclass(frozen=True, slots=True)
class ApprovalReminder:
    """It is still open. ``rung`` is how far up the ladder it is: 0 below the first one.

    ``who`` are all who may decide now, ``votes`` those that were cast, ``missing`` is how many
    approvals are needed yet.
    """

    approval_id: str
    rung: int
    who: Who
    subject: AnyMessage
    digest: str
    votes: tuple[Vote, ...]
    missing: int
    expires_at: datetime | None


@message(name="perdure.ApprovalEscalated")
@dataclass(frozen=True, slots=True)
class ApprovalEscalated:
    """From this rung of the ladder on those of ``who`` may decide, too."""

    approval_id: str
    rung: int
    who: Who
    subject: AnyMessage
    digest: str


@message(name="perdure.ApprovalDecided")
@dataclass(frozen=True, slots=True)
class ApprovalDecided:
    """The end, and the result of the approval's instance.

    ``votes`` are those on the subject as it was at last. ``reason`` is why it was withdrawn.
    """

    approval_id: str
    outcome: Ending
    subject: AnyMessage
    digest: str
    requester: str
    votes: tuple[Vote, ...]
    reason: str = ""

    def approves(self, subject: Any) -> bool:
        """Whether exactly this was approved: to be asked once more before it is carried out.

        if decided.approves(command):
            do.send(command)
        """
        return self.outcome == "approved" and digest_of(subject) == self.digest
