"""One approval as a value, and what a decision does to it. Pure.

    decide(state, decision, now):   expired? ─ yes ─> expired
                                        │ no
                                    may this person decide? ─ no ─> not-allowed
                                        │ yes
                                    is it the present digest? ─ no ─> changed
                                        │ yes
                                    the same vote as before? ─ yes ─> duplicate
                                        │ no
                                    a Vote ─> recorded, approved or rejected

Nothing here waits: whether a rung was reached, or the end, is told by the time alone, so a deadline
that fires late lets nobody in or out. Next to read: ``perdure/approvals.py``, the saga around it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from perdure.core.approval import Approval, Who
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
    Word,
)
from perdure.core.digest import digest_of
from perdure.messages import AnyMessage, message

__all__ = [
    "UNASKED",
    "ApprovalState",
    "Recorded",
    "ask",
    "change",
    "decide",
    "decided",
    "fold",
    "late",
    "remind",
]

Recorded = ApprovalAsked | ApprovalChanged | ApprovalReminder | Vote
"""The events that make up the state."""


@message(name="perdure.ApprovalState")
@dataclass(frozen=True, slots=True)
class ApprovalState:
    """An approval that is asked and not decided.

    ``votes`` are those on the present digest, one per person, in the order they were cast.
    ``changed_by`` is who made the present subject, "" for the requester. ``rung`` is the last rung
    of the ladder that was announced.
    """

    approval_id: str
    subject: AnyMessage | None
    digest: str
    policy: Approval
    requester: str
    asked_at: datetime
    changed_by: str = ""
    votes: tuple[Vote, ...] = ()
    rung: int = 0

    @property
    def missing(self) -> int:
        """How many approvals are needed yet."""
        return max(0, self.policy.quorum - self.count("approve"))

    @property
    def expires_at(self) -> datetime | None:
        """When it ends undecided, None if never."""
        expires = self.policy.expires
        return None if expires is None else self.asked_at + expires

    def count(self, verdict: Verdict) -> int:
        """How many people have voted so."""
        return sum(vote.verdict == verdict for vote in self.votes)

    def vote_of(self, person: str) -> Vote | None:
        """How this person has voted."""
        return next((vote for vote in self.votes if vote.by == person), None)

    def who(self, now: datetime) -> Who:
        """Those who may decide now; but see ``objection``, which knows the requester."""
        return self.policy.allowed(now - self.asked_at)

    def objection(self, person: str, groups: Collection[str], now: datetime) -> str:
        """Why this person, who is in these groups, may not decide now; "" for one who may."""
        if not person:
            return "the decision does not say whose it is"
        if self.policy.not_requester and person == self.requester:
            return f"{person} is the requester"
        if self.policy.not_requester and person == self.changed_by:
            return f"{person} has made the change that is to be approved"
        if not self.who(now).includes(person, groups):
            return f"{person} is not among those who may decide now"
        return ""

    def is_over(self, now: datetime) -> bool:
        """Whether it has expired."""
        return self.policy.is_over(now - self.asked_at)

    def answer(self, word: Word, reason: str = "", outcome: Ending | None = None) -> Answer:
        """An answer that says how it stands."""
        return Answer(word, self.approval_id, self.digest, outcome, self.missing, reason)


UNASKED = ApprovalState(
    "", None, "", Approval(Who(people=("nobody",))), "", datetime(1970, 1, 1, tzinfo=UTC)
)
"""The state before the asking. Nobody sees it."""


def fold(state: ApprovalState, event: Recorded) -> ApprovalState:
    """The state after one of its events."""
    if type(event) is Vote:
        others = tuple(vote for vote in state.votes if vote.by != event.by)
        return replace(state, votes=(*others, event))
    if type(event) is ApprovalChanged:
        return replace(
            state, subject=event.subject, digest=event.digest, changed_by=event.by, votes=()
        )
    if type(event) is ApprovalReminder:
        return replace(state, rung=event.rung)
    assert type(event) is ApprovalAsked
    return ApprovalState(
        event.approval_id,
        event.subject,
        event.digest,
        event.policy,
        event.requester,
        event.asked_at,
    )


def ask(state: ApprovalState, request: AskApproval, now: datetime) -> ApprovalAsked | Answer | None:
    """What asking does: opens it, or is refused; nothing if the same was asked before."""
    digest = digest_of(request.subject)
    if not state.digest:
        return ApprovalAsked(
            request.approval_id, request.subject, digest, request.policy, request.requester, now
        )
    asked = (state.digest, state.policy, state.requester)
    if (digest, request.policy, request.requester) == asked:
        return None
    return state.answer(Word.EXISTS, "something else is asked under this approval id")


def decide(
    state: ApprovalState, decision: Decide, now: datetime
) -> tuple[tuple[Vote, ...], Answer]:
    """What a decision does: the votes to record, one or none, and the answer.

    The approval has ended if and only if the answer has an ``outcome``.
    """
    if state.is_over(now):
        return (), state.answer(Word.EXPIRED, "nobody decided in time", "expired")
    objection = state.objection(decision.by, decision.groups, now)
    if objection:
        return (), state.answer(Word.NOT_ALLOWED, objection)
    if decision.digest != state.digest:
        return (), state.answer(Word.CHANGED, "this is not what is to be approved now")
    before = state.vote_of(decision.by)
    if before is not None and before.verdict == decision.verdict:
        return (), state.answer(Word.DUPLICATE)
    vote = Vote(decision.by, decision.verdict, now, decision.comment)
    after = fold(state, vote)
    if not after.missing:
        return (vote,), after.answer(Word.APPROVED, outcome="approved")
    if after.count("reject") >= after.policy.rejections:
        return (vote,), after.answer(Word.REJECTED, outcome="rejected")
    return (vote,), after.answer(Word.RECORDED)


def change(
    state: ApprovalState, request: ChangeSubject, now: datetime
) -> ApprovalChanged | Answer | None:
    """What changing the subject does: voids the votes, or is refused; nothing if it is the same."""
    digest = digest_of(request.subject)
    if digest == state.digest:
        return None
    if state.policy.not_requester:
        if not request.by:
            return state.answer(Word.NOT_ALLOWED, "the change does not say whose it is")
        problem = state.policy.dead_end((state.requester, request.by))
        if problem:
            reason = f"without {state.requester} and {request.by}, {problem}"
            return state.answer(Word.NOT_ALLOWED, reason)
    return ApprovalChanged(
        state.approval_id, request.subject, digest, request.by, state.votes, state.who(now)
    )


def remind(
    state: ApprovalState, now: datetime
) -> tuple[Sequence[ApprovalEscalated], ApprovalReminder]:
    """What a reached reminder says: whom it was handed up to since the last, and the reminder."""
    rung = state.policy.rungs_reached(now - state.asked_at)
    escalated = [
        ApprovalEscalated(state.approval_id, number, step.who, state.subject, state.digest)
        for number, step in enumerate(state.policy.ladder[:rung], start=1)
        if number > state.rung and step.who is not None
    ]
    reminder = ApprovalReminder(
        state.approval_id,
        rung,
        state.who(now),
        state.subject,
        state.digest,
        state.votes,
        state.missing,
        state.expires_at,
    )
    return escalated, reminder


def decided(state: ApprovalState, outcome: Ending, reason: str = "") -> ApprovalDecided:
    """The end, as it is told."""
    return ApprovalDecided(
        state.approval_id,
        outcome,
        state.subject,
        state.digest,
        state.requester,
        state.votes,
        reason,
    )


_LATE = {"expired": Word.EXPIRED, "withdrawn": Word.WITHDRAWN}


def late(end: ApprovalDecided, request: Request) -> Answer:
    """The answer to a request that comes after the end; a vote repeated is a duplicate still."""
    word = _LATE.get(end.outcome, Word.ALREADY_DECIDED)
    if word is Word.ALREADY_DECIDED and type(request) is Decide and _counted(end, request):
        word = Word.DUPLICATE
    return Answer(word, end.approval_id, end.digest, end.outcome, reason=end.reason)


def _counted(end: ApprovalDecided, decision: Decide) -> bool:
    votes = [(vote.by, vote.verdict) for vote in end.votes]
    return decision.digest == end.digest and (decision.by, decision.verdict) in votes
