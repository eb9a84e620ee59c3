"""The rules of an approval, and what decisions come to by them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure import message
from perdure.codec import Codec, TypeRegistry
from perdure.core.approval import Approval, Rung, Who
from perdure.core.approval_messages import (
    Answer,
    ApprovalAsked,
    ApprovalChanged,
    AskApproval,
    ChangeSubject,
    Decide,
    Verdict,
    Vote,
    Word,
)
from perdure.core.decision import (
    UNASKED,
    ApprovalState,
    ask,
    change,
    decide,
    decided,
    fold,
    late,
    remind,
)
from perdure.core.digest import digest_of
from perdure.errors import DefinitionError

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
START = datetime(2026, 1, 1, tzinfo=UTC)
ANN, BOB = Who(people=("ann",)), Who(people=("bob",))
THREE = Who(people=("ann", "bob", "eve"))
FINANCE = Who(groups=("finance",))


@message(name="approval-test.Pay")
class Pay:
    amount: int


PAY = Pay(100)


def asked(policy: Approval, requester: str = "", subject: Any = PAY) -> ApprovalState:
    """The state when this was asked for at ``START``."""
    made = ask(UNASKED, AskApproval("a", subject, policy, requester), START)
    assert isinstance(made, ApprovalAsked)
    return fold(UNASKED, made)


def voted(
    state: ApprovalState,
    by: str,
    verdict: Verdict = "approve",
    now: datetime = START,
    groups: tuple[str, ...] = (),
    digest: str | None = None,
) -> tuple[ApprovalState, Answer]:
    """The state after a decision, by default on the present digest, and the answer."""
    decision = Decide("a", by, verdict, state.digest if digest is None else digest, groups, "why")
    votes, answer = decide(state, decision, now)
    for vote in votes:
        state = fold(state, vote)
    return state, answer


# Rules

NONSENSE: dict[str, Callable[[], object]] = {
    "nobody": Who,
    "a text for people": lambda: Who(people="ann"),  # type: ignore[arg-type]
    "a list of people": lambda: Who(people=["ann"]),  # type: ignore[arg-type]
    "an empty name": lambda: Who(people=("",)),
    "a number in a group": lambda: Who(groups=(1,)),  # type: ignore[arg-type]
    "a rung at once": lambda: Rung(timedelta(0)),
    "a rung before": lambda: Rung(-DAY),
    "a rung in seconds": lambda: Rung(60),  # type: ignore[arg-type]
    "a rung in another age": lambda: Rung(timedelta(days=40_000)),
    "a rung for a name": lambda: Rung(DAY, "ann"),  # type: ignore[arg-type]
    "no one": lambda: Approval(None),  # type: ignore[arg-type]
    "no quorum": lambda: Approval(ANN, quorum=0),
    "half a quorum": lambda: Approval(FINANCE, quorum=1.5),  # type: ignore[arg-type]
    "a true quorum": lambda: Approval(FINANCE, quorum=True),
    "a crowd": lambda: Approval(FINANCE, quorum=101),
    "no rejections": lambda: Approval(ANN, rejections=0),
    "perhaps": lambda: Approval(ANN, not_requester=None),  # type: ignore[arg-type]
    "a quorum of two, one person": lambda: Approval(ANN, quorum=2),
    "a quorum of two, one person twice": lambda: Approval(Who(("ann", "ann")), quorum=2),
    "a quorum of three, two over all rungs": lambda: Approval(
        ANN, quorum=3, ladder=(Rung(DAY), Rung(2 * DAY, BOB))
    ),
    "two must reject, one may": lambda: Approval(ANN, rejections=2),
    "a quorum of two, one person, for a day": lambda: Approval(ANN, quorum=2, expires=DAY),
    "two must reject in a day, one may": lambda: Approval(ANN, rejections=2, expires=DAY),
    "a tie for ever": lambda: Approval(Who(("ann", "bob")), quorum=2, rejections=2),
    "a list of rungs": lambda: Approval(ANN, ladder=[Rung(DAY)]),  # type: ignore[arg-type]
    "no rungs": lambda: Approval(ANN, ladder=(DAY,)),  # type: ignore[arg-type]
    "rungs together": lambda: Approval(ANN, ladder=(Rung(DAY), Rung(DAY))),
    "rungs downwards": lambda: Approval(ANN, ladder=(Rung(2 * DAY), Rung(DAY))),
    "a rung at the end": lambda: Approval(ANN, ladder=(Rung(DAY),), expires=DAY),
    "a rung after the end": lambda: Approval(ANN, ladder=(Rung(2 * DAY),), expires=DAY),
    "over at once": lambda: Approval(ANN, expires=timedelta(0)),
    "over before": lambda: Approval(ANN, expires=-DAY),
    "reminders without pause": lambda: Approval(ANN, remind_every=timedelta(0)),
    "reminders every millisecond": lambda: Approval(ANN, remind_every=timedelta(milliseconds=1)),
    "the first reminder at the end": lambda: Approval(ANN, remind_every=DAY, expires=DAY),
    "nobody asks": lambda: AskApproval("a", PAY, Approval(ANN, not_requester=True)),
    "the only one asks": lambda: AskApproval("a", PAY, Approval(ANN, not_requester=True), "ann"),
    "too few without who asks": lambda: AskApproval(
        "a", PAY, Approval(THREE, quorum=3, not_requester=True), "ann"
    ),
    "no rules": lambda: AskApproval("a", PAY, None),  # type: ignore[arg-type]
    "nobody decides": lambda: Decide("a", None, "approve", ""),  # type: ignore[arg-type]
    "a long name": lambda: Decide("a", "x" * 201, "approve", ""),
    "a long comment": lambda: Decide("a", "ann", "approve", "", comment="x" * 1001),
}


@pytest.mark.parametrize("make", NONSENSE.values(), ids=NONSENSE)
def test_rules_that_make_no_sense_are_refused_and_say_what_to_do(make: Callable[[], Any]) -> None:
    with pytest.raises(DefinitionError) as caught:
        make()
    assert caught.value.remedy


@pytest.mark.parametrize(
    "make",
    [
        lambda: Approval(Who(("ann", "bob")), quorum=2, rejections=2, expires=DAY),  # a tie ends
        lambda: Approval(THREE, quorum=2, rejections=2),
        lambda: Approval(ANN, quorum=2, ladder=(Rung(DAY, BOB),)),  # possible from a day on
        lambda: Approval(FINANCE, quorum=100, rejections=100),
        lambda: Approval(ANN, quorum=7, ladder=(Rung(DAY, FINANCE),)),
        lambda: AskApproval("a", PAY, Approval(FINANCE, not_requester=True), "ann"),
        lambda: AskApproval("a", PAY, Approval(ANN), ""),
    ],
)
def test_rules_by_which_it_can_be_decided_are_taken(make: Callable[[], Any]) -> None:
    make()


def test_names_are_compared_exactly_and_groups_by_any() -> None:
    who = Who(("ann",), ("finance", "board"))
    assert who.includes("ann")
    assert who.includes("bob", ["staff", "board"])
    assert not who.includes("Ann", ())
    assert not who.includes("bob", ["Finance"])
    assert not who.includes("finance", ["ann"])
    assert Who(("ann",)) | who == Who(("ann",), ("finance", "board"))


LADDER = Approval(
    ANN, ladder=(Rung(2 * DAY), Rung(5 * DAY, BOB)), remind_every=3 * DAY, expires=10 * DAY
)


@pytest.mark.parametrize(
    ("days", "rungs", "due"),
    [
        (0, 0, 2),
        (1.9, 0, 2),
        (2, 1, 3),
        (3, 1, 5),
        (5, 2, 6),
        (6, 2, 9),
        (9, 2, None),
        (20, 2, None),
    ],
)
def test_the_next_reminder_is_that_of_the_ladder_or_of_the_interval(
    days: float, rungs: int, due: float | None
) -> None:
    elapsed = days * DAY
    assert LADDER.rungs_reached(elapsed) == rungs
    assert LADDER.next_reminder(elapsed) == (None if due is None else due * DAY)
    assert LADDER.allowed(elapsed) == (ANN | BOB if rungs == 2 else ANN)


@given(
    st.lists(st.timedeltas(timedelta(milliseconds=1), 30 * DAY), max_size=4, unique=True),
    st.none() | st.timedeltas(timedelta(seconds=1), 30 * DAY),
    st.timedeltas(-DAY, 100 * DAY),
)
def test_reminders_come_later_and_none_of_the_ladder_is_left_out(
    rungs: list[timedelta], every: timedelta | None, elapsed: timedelta
) -> None:
    ladder = tuple(Rung(after) for after in sorted(rungs))
    policy = Approval(ANN, ladder=ladder, remind_every=every)
    due = policy.next_reminder(elapsed)
    missed = [
        rung.after for rung in ladder if elapsed < rung.after and (not due or rung.after < due)
    ]
    assert not missed
    if due is None:
        assert every is None
    else:
        assert due > max(elapsed, timedelta(0))
        assert every is None or due - max(elapsed, timedelta(0)) <= every


def test_no_reminder_falls_on_the_end() -> None:
    policy = Approval(ANN, remind_every=3 * DAY, expires=9 * DAY)
    assert [policy.next_reminder(n * DAY) for n in (0, 3, 6)] == [3 * DAY, 6 * DAY, None]
    assert policy.next_reminder(-DAY) == 3 * DAY  # the clock was set back


# Decisions


def test_it_is_approved_by_as_many_different_people_as_the_quorum() -> None:
    state = asked(Approval(THREE, quorum=2))
    state, answer = voted(state, "ann")
    assert answer == Answer(Word.RECORDED, "a", digest_of(PAY), None, 1)
    state, answer = voted(state, "ann")
    assert (answer.word, answer.missing, len(state.votes)) == (Word.DUPLICATE, 1, 1)
    state, answer = voted(state, "eve")
    assert (answer.word, answer.outcome, answer.missing) == (Word.APPROVED, "approved", 0)
    assert [vote.by for vote in decided(state, "approved").votes] == ["ann", "eve"]


def test_one_rejection_ends_it_unless_more_are_asked_for() -> None:
    assert voted(asked(Approval(THREE)), "eve", "reject")[1].outcome == "rejected"
    state, answer = voted(asked(Approval(THREE, quorum=2, rejections=2)), "eve", "reject")
    assert (answer.word, answer.outcome) == (Word.RECORDED, None)
    assert voted(state, "eve", "reject")[1].word is Word.DUPLICATE
    assert voted(state, "ann", "reject")[1].word is Word.REJECTED


def test_a_changed_mind_replaces_the_vote() -> None:
    state = asked(Approval(THREE, quorum=2, rejections=2))
    state, _ = voted(state, "ann")
    state, answer = voted(state, "ann", "reject", START + HOUR)
    assert (answer.word, answer.missing) == (Word.RECORDED, 2)
    assert state.votes == (Vote("ann", "reject", START + HOUR, "why"),)
    state, _ = voted(state, "bob")
    assert voted(state, "eve")[1].word is Word.APPROVED


def test_who_is_not_among_those_who_may_decide_is_told_so() -> None:
    state = asked(Approval(Who(("ann",), ("finance",))))
    after, answer = voted(state, "bob", groups=("staff",))
    assert (after, answer.word) == (state, Word.NOT_ALLOWED)
    assert answer.reason == "bob is not among those who may decide now"
    assert voted(state, "")[1].reason == "the decision does not say whose it is"
    assert voted(state, "", groups=("finance",))[1].word is Word.NOT_ALLOWED
    assert voted(state, "bob", groups=("finance",))[1].word is Word.APPROVED


def test_the_requester_decides_only_where_nothing_is_said_against_it() -> None:
    policy = Approval(Who(("ann", "bob")))
    assert voted(asked(policy, "ann"), "ann")[1].word is Word.APPROVED
    state = asked(replace(policy, not_requester=True), "ann")
    assert voted(state, "ann")[1] == state.answer(Word.NOT_ALLOWED, "ann is the requester")
    assert voted(state, "bob")[1].word is Word.APPROVED


def test_who_is_not_allowed_learns_nothing_by_guessing_and_the_stale_are_told_the_digest() -> None:
    state = asked(Approval(ANN))
    assert voted(state, "bob", digest="stale")[1].word is Word.NOT_ALLOWED
    after, answer = voted(state, "ann", digest="stale")
    assert (after, answer.word, answer.digest) == (state, Word.CHANGED, digest_of(PAY))


def test_a_rung_lets_further_people_decide_from_its_moment_on() -> None:
    state = asked(Approval(ANN, ladder=(Rung(DAY), Rung(2 * DAY, BOB)), expires=3 * DAY))
    just_before = START + 2 * DAY - timedelta(milliseconds=1)
    assert voted(state, "bob", now=just_before)[1].word is Word.NOT_ALLOWED
    assert voted(state, "bob", now=START + 2 * DAY)[1].word is Word.APPROVED
    assert voted(state, "ann", now=START + 2 * DAY)[1].word is Word.APPROVED


def test_nothing_is_decided_from_the_moment_of_expiry_on() -> None:
    state = asked(Approval(ANN, expires=DAY))
    assert voted(state, "ann", now=START + DAY - timedelta(milliseconds=1))[1].outcome == "approved"
    after, answer = voted(state, "ann", now=START + DAY)
    assert (after, answer.word, answer.outcome) == (state, Word.EXPIRED, "expired")
    assert voted(state, "nobody", now=START + DAY)[1].word is Word.EXPIRED


def test_a_clock_that_was_set_back_changes_nothing_but_the_time() -> None:
    state = asked(Approval(ANN, ladder=(Rung(DAY, BOB),), expires=2 * DAY))
    assert voted(state, "bob", now=START - DAY)[1].word is Word.NOT_ALLOWED
    assert voted(state, "ann", now=START - DAY)[1].word is Word.APPROVED


# Asking and changing


def test_asking_twice_for_the_same_is_asking_once() -> None:
    policy = Approval(ANN)
    state = asked(policy, "bob")
    assert ask(state, AskApproval("a", PAY, policy, "bob"), START + DAY) is None
    others = [
        AskApproval("a", Pay(101), policy, "bob"),
        AskApproval("a", PAY, replace(policy, expires=DAY), "bob"),
        AskApproval("a", PAY, policy, "eve"),
    ]
    for other in others:
        refused = ask(state, other, START)
        assert isinstance(refused, Answer)
        assert refused.word is Word.EXISTS


def test_a_change_voids_the_votes_and_only_the_new_digest_counts() -> None:
    state, _ = voted(asked(Approval(THREE, quorum=2)), "ann")
    before = state.digest
    changed = change(state, ChangeSubject("a", Pay(999), "bob"), START + HOUR)
    assert isinstance(changed, ApprovalChanged)
    assert [vote.by for vote in changed.voided] == ["ann"]
    assert changed.who == THREE
    state = fold(state, changed)
    assert (state.votes, state.missing, state.digest) == ((), 2, digest_of(Pay(999)))
    assert voted(state, "eve", digest=before)[1].word is Word.CHANGED
    state, _ = voted(state, "eve")
    assert voted(state, "bob")[1].word is Word.APPROVED


def test_a_change_to_the_same_changes_nothing() -> None:
    state, _ = voted(asked(Approval(THREE, quorum=2)), "ann")
    assert change(state, ChangeSubject("a", Pay(100), "bob"), START) is None


def test_who_changed_it_may_not_approve_the_change_where_the_requester_may_not() -> None:
    state = asked(Approval(FINANCE, not_requester=True), "ann")
    changed = change(state, ChangeSubject("a", Pay(999), "bob"), START)
    assert isinstance(changed, ApprovalChanged)
    state = fold(state, changed)
    in_finance = ("finance",)
    answer = voted(state, "bob", groups=in_finance)[1]
    assert answer.reason == "bob has made the change that is to be approved"
    assert voted(state, "ann", groups=in_finance)[1].word is Word.NOT_ALLOWED
    assert voted(state, "eve", groups=in_finance)[1].word is Word.APPROVED
    again = change(state, ChangeSubject("a", Pay(5), "eve"), START)
    assert isinstance(again, ApprovalChanged)
    assert voted(fold(state, again), "bob", groups=in_finance)[1].word is Word.APPROVED


@pytest.mark.parametrize("by", ["bob", ""])
def test_a_change_that_leaves_too_few_to_decide_or_is_nobodys_is_refused(by: str) -> None:
    state = asked(Approval(THREE, quorum=2, not_requester=True), "ann")
    refused = change(state, ChangeSubject("a", Pay(999), by), START)
    assert isinstance(refused, Answer)
    assert (refused.word, refused.digest) == (Word.NOT_ALLOWED, digest_of(PAY))
    assert refused.reason


# The end, and reminders


def test_what_comes_after_the_end_is_told_how_it_ended() -> None:
    state, _ = voted(asked(Approval(THREE, quorum=2)), "ann")
    state, _ = voted(state, "bob")
    end = decided(state, "approved")
    digest = state.digest
    assert late(end, Decide("a", "ann", "approve", digest)).word is Word.DUPLICATE
    for other in (
        Decide("a", "ann", "reject", digest),
        Decide("a", "ann", "approve", "stale"),
        Decide("a", "eve", "approve", digest),
        ChangeSubject("a", Pay(1), "eve"),
        AskApproval("a", PAY, Approval(ANN)),
    ):
        answer = late(end, other)
        assert (answer.word, answer.outcome) == (Word.ALREADY_DECIDED, "approved")
    for outcome, word in (("expired", Word.EXPIRED), ("withdrawn", Word.WITHDRAWN)):
        answer = late(decided(state, outcome, "reason"), Decide("a", "ann", "approve", digest))  # type: ignore[arg-type]
        assert (answer.word, answer.outcome, answer.reason) == (word, outcome, "reason")


def test_only_what_was_approved_is_approved() -> None:
    state, _ = voted(asked(Approval(ANN)), "ann")
    assert decided(state, "approved").approves(Pay(100))
    assert not decided(state, "approved").approves(Pay(101))
    assert not decided(state, "expired").approves(Pay(100))


def test_rungs_that_were_missed_are_announced_together_each_once() -> None:
    board = Who(groups=("board",))
    ladder = (Rung(DAY, BOB), Rung(2 * DAY), Rung(3 * DAY, board))
    state = asked(Approval(ANN, ladder=ladder))
    escalated, reminder = remind(state, START + DAY)
    assert [(one.rung, one.who) for one in escalated] == [(1, BOB)]
    assert (reminder.rung, reminder.who) == (1, ANN | BOB)
    assert not remind(fold(state, reminder), START + DAY)[0]
    escalated, reminder = remind(fold(state, reminder), START + 5 * DAY)
    assert [(one.rung, one.who) for one in escalated] == [(3, board)]
    assert (reminder.rung, reminder.who) == (3, ANN | BOB | board)
    assert [one.rung for one in remind(state, START + 5 * DAY)[0]] == [1, 3]


def test_everything_comes_back_from_its_bytes() -> None:
    state, answer = voted(asked(LADDER, "bob"), "ann")
    changed = change(state, ChangeSubject("a", Pay(1), "bob"), START)
    escalated, reminder = remind(state, START + 6 * DAY)
    codec = Codec(TypeRegistry())
    for value in (
        UNASKED,
        state,
        answer,
        changed,
        reminder,
        *escalated,
        *state.votes,
        decided(state, "withdrawn", "why"),
        AskApproval("a", PAY, LADDER, "bob"),
        Decide("a", "ann", "reject", state.digest, ("finance",)),
    ):
        assert codec.decode(*codec.encode(value)) == value
    assert codec.decode_value(codec.encode_value(answer)) == answer


# Any history

PEOPLE = ("ann", "bob", "eve", "kim")
people = st.sampled_from(PEOPLE)
groups = st.lists(st.sampled_from(["finance", "board"]), unique=True, max_size=2).map(tuple)
whos = st.builds(
    Who, st.lists(people, min_size=1, unique=True).map(tuple), st.sampled_from([(), ("finance",)])
)


@st.composite
def questions(draw: st.DrawFn) -> AskApproval:
    moments = sorted(draw(st.lists(st.integers(1, 19), max_size=3, unique=True)))
    try:
        policy = Approval(
            draw(whos),
            quorum=draw(st.integers(1, 3)),
            rejections=draw(st.integers(1, 2)),
            not_requester=draw(st.booleans()),
            ladder=tuple(Rung(n * HOUR, draw(st.none() | whos)) for n in moments),
            expires=draw(st.sampled_from([None, 20 * HOUR, 30 * HOUR])),
        )
        return AskApproval("a", Pay(0), policy, draw(people))
    except DefinitionError:
        return AskApproval("a", Pay(0), Approval(FINANCE), draw(people))


@dataclass
class Model:
    """The same again, told differently: a list of all that happened, gone through at each step."""

    question: AskApproval
    subjects: list[tuple[Pay, str]] = field(default_factory=list)
    votes: list[tuple[str, Verdict, int]] = field(default_factory=list)

    def on_present(self, verdict: Verdict) -> set[str]:
        last = {by: v for by, v, number in self.votes if number == len(self.subjects)}
        return {by for by, v in last.items() if v == verdict}

    def may(self, by: str, groups: tuple[str, ...], hours: int) -> bool:
        policy = self.question.policy
        who = [policy.who]
        who += [r.who for r in policy.ladder if r.who is not None and r.after <= hours * HOUR]
        authors = {self.question.requester, *(author for _, author in self.subjects[-1:])}
        barred = policy.not_requester and by in authors
        return not barred and any(by in w.people or set(groups) & set(w.groups) for w in who)


STEPS = st.one_of(
    st.tuples(st.just("wait"), st.integers(1, 6)),
    st.tuples(
        st.just("decide"), people, st.sampled_from(["approve", "approve", "reject"]), groups,
        st.integers(0, 3),
    ),
    st.tuples(st.just("change"), st.integers(0, 3), people),
)  # fmt: skip


@given(questions(), st.lists(STEPS, max_size=30))
def test_any_history_of_decisions_changes_and_time_keeps_the_rules(
    question: AskApproval, steps: list[tuple[Any, ...]]
) -> None:
    state, model, hours = asked(question.policy, question.requester, Pay(0)), Model(question), 0
    policy = question.policy
    for step in steps:
        now = START + hours * HOUR
        if step[0] == "wait":
            hours += step[1]
        elif step[0] == "change":
            made = change(state, ChangeSubject("a", Pay(step[1]), step[2]), now)
            if isinstance(made, ApprovalChanged):
                model.subjects.append((Pay(step[1]), step[2]))
                state = fold(state, made)
                assert state.votes == ()
        else:
            _, by, verdict, of, number = step
            present = model.subjects[-1][0] if model.subjects else Pay(0)
            votes, answer = decide(state, Decide("a", by, verdict, digest_of(Pay(number)), of), now)
            is_over = policy.expires is not None and hours * HOUR >= policy.expires
            counts = not is_over and model.may(by, of, hours) and Pay(number) == present
            is_new = by not in model.on_present(verdict)
            assert bool(votes) is (counts and is_new)
            assert (answer.word is Word.DUPLICATE) is (counts and not is_new)
            if votes:
                model.votes.append((by, verdict, len(model.subjects)))
                state = fold(state, votes[0])
            assert {v.by for v in state.votes if v.verdict == "approve"} == model.on_present(
                "approve"
            )
            approved = len(model.on_present("approve")) >= policy.quorum
            rejected = len(model.on_present("reject")) >= policy.rejections
            expected = "approved" if approved else "rejected" if rejected else None
            assert answer.outcome == ("expired" if is_over else expected)
            assert decided(state, "approved").approves(present)
            if answer.outcome:
                return
