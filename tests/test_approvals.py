"""Approvals in a runtime: ladders over days and restarts, races, late answers, sagas that ask."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from perdure import (
    ChildEnded,
    Effects,
    MemoryStore,
    ProcessManager,
    Runtime,
    Settings,
    Status,
    WorkQueue,
    applies,
    continues,
    message,
    on_child_ended,
    starts,
)
from perdure.approvals import (
    Answer,
    Approval,
    ApprovalAsked,
    ApprovalChanged,
    ApprovalDecided,
    ApprovalEscalated,
    ApprovalReminder,
    Approvals,
    ApprovalState,
    AskApproval,
    ChangeSubject,
    Decide,
    Rung,
    Verdict,
    Who,
    WithdrawApproval,
    Word,
    digest_of,
    submit,
)
from perdure.core import decision
from perdure.core.decision import UNASKED
from perdure.errors import CodecError, HandlerFailed
from perdure.testing import SimulatedClock
from tests.effort import times
from tests.runtime.support import in_loop, quickly, reopened, until, view_of

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
BOARD = Who(groups=("board",))
LADDER = Approval(
    Who(people=("ann", "bob")),
    quorum=2,
    ladder=(Rung(2 * DAY), Rung(4 * DAY, BOARD)),
    expires=7 * DAY,
)


@message(name="approvals-test.Pay")
class Pay:
    invoice: str
    amount: int


PAY = Pay("i-7", 100)
DIGEST = digest_of(PAY)

TOLD: list[Any] = []
"""What subscribers have heard, since the test began."""

notices = WorkQueue("approvals-test", sequential=True)


@notices.subscriber
async def note(
    event: ApprovalAsked | ApprovalChanged | ApprovalReminder | ApprovalEscalated | ApprovalDecided,
) -> None:
    TOLD.append(event)


@pytest.fixture(autouse=True)
def nobody_told() -> None:
    TOLD.clear()


def told() -> list[str]:
    """The names of what subscribers have heard since the last look, with the rung if any."""
    names = [
        f"{type(event).__name__.removeprefix('Approval')} {getattr(event, 'rung', '')}".strip()
        for event in TOLD
    ]
    TOLD.clear()
    return names


@asynccontextmanager
async def running(
    store: Any, clock: SimulatedClock | None, *members: Any, **limits: Any
) -> AsyncIterator[Runtime]:
    members = (Approvals, notices, *members)
    async with Runtime(store, members, Settings(**limits), clock=clock) as runtime:
        yield runtime
        await runtime.settled()


def asking(policy: Approval = LADDER, id: str = "a", requester: str = "eve") -> AskApproval:
    return AskApproval(id, PAY, policy, requester)


def deciding(
    by: str, verdict: Verdict = "approve", digest: str = DIGEST, *groups: str, id: str = "a"
) -> Decide:
    return Decide(id, by, verdict, digest, groups)


async def result_of(runtime: Runtime, id: str = "a") -> Any:
    return (await view_of(runtime, runtime.ref(Approvals, id))).result


# The ladder, over days and restarts


@quickly
async def test_reminders_escalation_and_expiry_come_at_their_moments(store, clock):
    async with running(store, clock) as runtime:
        answer = await submit(runtime, asking())
        assert answer == Answer(Word.OPEN, "a", DIGEST, missing=2)
        await clock.advance(2 * DAY - HOUR)
        assert told() == ["Asked"]
        await clock.advance(HOUR)
        assert told() == ["Reminder 1"]
        await clock.advance(2 * DAY)
        assert told() == ["Escalated 2", "Reminder 2"]
        await clock.advance(2 * DAY)
        assert told() == []
        await clock.advance(1 * DAY)
        (end,) = TOLD
        assert (end.outcome, end.subject, end.votes) == ("expired", PAY, ())
        seen = await view_of(runtime, runtime.ref(Approvals, "a"))
        assert (seen.status, seen.result, seen.deadlines) == (Status.COMPLETED, end, {})


@quickly
async def test_a_restart_between_any_two_steps_changes_nothing(store, clock):
    expected = {
        0: ["Asked"], 2: ["Reminder 1"], 4: ["Escalated 2", "Reminder 2"], 7: ["Decided"],
    }  # fmt: skip
    async with running(store, clock) as runtime:
        await submit(runtime, asking())
    for day in range(8):
        assert told() == expected.get(day, [])
        store = reopened(store)
        async with running(store, clock) as runtime:
            await clock.advance(DAY)
    async with running(reopened(store), clock) as runtime:
        assert (await result_of(runtime)).outcome == "expired"


@quickly
async def test_after_a_long_stop_what_was_missed_is_told_once(store, clock):
    async with running(store, clock) as runtime:
        await submit(runtime, asking())
    await clock.advance(5 * DAY)
    assert told() == ["Asked"]
    async with running(reopened(store), clock) as runtime:
        await clock.settle()
        assert told() == ["Escalated 2", "Reminder 2"]
        answer = await submit(runtime, deciding("kim", "approve", DIGEST, "board"))
        assert answer.word is Word.RECORDED


@quickly
async def test_of_what_has_expired_meanwhile_nobody_is_reminded(store, clock):
    async with running(store, clock) as runtime:
        await submit(runtime, asking())
        await submit(runtime, deciding("ann"))
    await clock.advance(30 * DAY)
    async with running(reopened(store), clock) as runtime:
        assert (await submit(runtime, deciding("bob"))).word is Word.EXPIRED
        assert [vote.by for vote in (await result_of(runtime)).votes] == ["ann"]
    assert told() == ["Asked", "Decided"]


@quickly
async def test_a_decision_comes_after_the_expiry_that_is_due(store, clock):
    """Whoever wakes the instance: what is due has its turn first."""
    async with running(store, clock) as runtime:
        await submit(runtime, asking())
        await submit(runtime, deciding("ann"))
        clock._now_ms += 7 * DAY / timedelta(milliseconds=1)  # without waking anybody
        answer = await submit(runtime, deciding("bob"))
        assert (answer.word, answer.outcome) == (Word.EXPIRED, "expired")


@quickly
async def test_reminders_go_out_at_their_interval_and_with_a_rung_only_once(store, clock):
    policy = Approval(Who(people=("ann",)), ladder=(Rung(14 * DAY, BOARD),), remind_every=7 * DAY)
    async with running(store, clock) as runtime:
        await submit(runtime, asking(policy))
        await clock.advance(29 * DAY)
        once = ["Escalated 1", "Reminder 1"]  # the rung, and the second week, in one
        assert told() == ["Asked", "Reminder 0", *once, "Reminder 1", "Reminder 1"]
    await clock.advance(17 * DAY)  # two are missed
    async with running(reopened(store), clock) as runtime:
        await clock.settle()
        assert told() == ["Reminder 1"]
        await clock.advance(2 * DAY)
        assert told() == []
        await clock.advance(DAY)
        assert told() == ["Reminder 1"]
        seen = await view_of(runtime, runtime.ref(Approvals, "a"))
        assert list(seen.deadlines) == ["reminder"]


# Answers


@quickly
async def test_a_decision_is_answered_by_a_word(store, clock):
    async with running(store, clock) as runtime:
        await submit(runtime, asking())
        answer = await submit(runtime, deciding("ann"))
        assert answer == Answer(Word.RECORDED, "a", DIGEST, missing=1)
        for decision, word in (
            (deciding("ann"), Word.DUPLICATE),
            (deciding("kim"), Word.NOT_ALLOWED),
            (deciding("kim", "approve", DIGEST, "board"), Word.NOT_ALLOWED),
            (deciding("bob", "approve", digest_of(Pay("i-7", 101))), Word.CHANGED),
            (deciding("bob", id="b"), Word.UNKNOWN),
            (deciding("bob"), Word.APPROVED),
            (deciding("bob"), Word.DUPLICATE),
            (deciding("bob", "reject"), Word.ALREADY_DECIDED),
            (deciding("kim"), Word.ALREADY_DECIDED),
        ):
            answer = await submit(runtime, decision)
            assert (answer.word, answer.approval_id) == (word, decision.approval_id)
        assert answer.outcome == "approved"
        assert (await result_of(runtime)).approves(PAY)
    async with running(reopened(store), clock) as runtime:
        assert (await submit(runtime, deciding("bob"))).word is Word.DUPLICATE
        assert (await submit(runtime, deciding("kim"))).word is Word.ALREADY_DECIDED
        assert (await submit(runtime, asking())).word is Word.ALREADY_DECIDED


@quickly
async def test_repeated_under_its_message_id_it_is_answered_as_it_was(store, clock):
    async with running(store, clock) as runtime:
        await submit(runtime, asking())
        first = await submit(runtime, deciding("ann"), message_id="click-1")
        await submit(runtime, deciding("bob"), message_id="click-2")
    async with running(reopened(store), clock) as runtime:
        assert await submit(runtime, deciding("ann"), message_id="click-1") == first
        again = await submit(runtime, deciding("bob"), message_id="click-2")
        assert (again.word, again.missing) == (Word.APPROVED, 0)


@quickly
async def test_every_late_decision_is_in_the_journal(store, clock):
    async with running(store, clock) as runtime:
        await submit(runtime, asking(Approval(Who(people=("ann",)))))
        await submit(runtime, deciding("ann"))
        await submit(runtime, deciding("kim", "reject"))
        history = [turn async for turn in runtime.history(runtime.ref(Approvals, "a"))]
        assert [(turn.message.by, turn.outcome) for turn in history[1:]] == [
            ("ann", "applied"),
            ("kim", "finished"),
        ]


@quickly
async def test_the_same_question_asked_again_stays_as_it_stands(store, clock):
    async with running(store, clock) as runtime:
        await submit(runtime, asking())
        await submit(runtime, deciding("ann"))
        await clock.advance(DAY)
        answer = await submit(runtime, asking())
        assert (answer.word, answer.missing) == (Word.OPEN, 1)
        answer = await submit(runtime, AskApproval("a", Pay("i-7", 1), LADDER, "eve"))
        assert (answer.word, answer.digest) == (Word.EXISTS, DIGEST)
        await clock.advance(6 * DAY)  # its time counts from the first asking
        assert (await result_of(runtime)).outcome == "expired"


@quickly
async def test_a_changed_subject_voids_the_votes_and_says_so(store, clock):
    other = Pay("i-7", 999)
    async with running(store, clock) as runtime:
        await submit(runtime, asking())
        await submit(runtime, deciding("ann"))
        answer = await submit(runtime, ChangeSubject("a", other, "eve"))
        assert answer == Answer(Word.OPEN, "a", digest_of(other), missing=2)
        await clock.settle()
        assert told() == ["Asked", "Changed"]
    async with running(reopened(store), clock) as runtime:
        answer = await submit(runtime, deciding("bob"))
        assert (answer.word, answer.digest) == (Word.CHANGED, digest_of(other))
        for by in ("bob", "ann"):
            answer = await submit(runtime, deciding(by, "approve", answer.digest))
        assert answer.word is Word.APPROVED
        result = await result_of(runtime)
        assert (result.subject, result.approves(PAY), result.approves(other)) == (
            other,
            False,
            True,
        )
        late = await submit(runtime, ChangeSubject("a", PAY, "eve"))
        assert (late.word, late.digest) == (Word.ALREADY_DECIDED, digest_of(other))


@quickly
async def test_a_refused_change_is_answered_and_changes_nothing(store, clock):
    policy = replace(LADDER, ladder=(), not_requester=True)
    async with running(store, clock) as runtime:
        await submit(runtime, asking(policy))
        answer = await submit(runtime, ChangeSubject("a", Pay("i-7", 999), "ann"))
        assert (answer.word, answer.digest) == (Word.NOT_ALLOWED, DIGEST)
        await clock.settle()
        assert told() == ["Asked"]


@quickly
async def test_what_is_withdrawn_is_over(store, clock):
    async with running(store, clock) as runtime:
        await submit(runtime, asking())
        answer = await submit(runtime, WithdrawApproval("a", "paid by card"))
        expected = Answer(Word.WITHDRAWN, "a", DIGEST, "withdrawn", reason="paid by card")
        assert answer == expected
        for request in (deciding("ann"), WithdrawApproval("a", "twice"), asking()):
            assert await submit(runtime, request) == expected
        await clock.advance(30 * DAY)
        assert told() == ["Asked", "Decided"]
        nothing = await submit(runtime, WithdrawApproval("b"))
        assert nothing == Answer(Word.UNKNOWN, "b")
        assert (await submit(runtime, ChangeSubject("b", PAY, "eve"))).word is Word.UNKNOWN


@quickly
async def test_a_decision_in_plain_data_is_checked_where_it_comes_in(store, clock):
    data = {"approval_id": "a", "by": "ann", "verdict": "approve", "digest": DIGEST}
    policy = {"who": {"people": ["ann"]}, "expires": 3600}
    question = {
        "approval_id": "a",
        "subject": {"type": "approvals-test.Pay", "data": {"invoice": "i-7", "amount": 100}},
        "policy": policy,
    }
    async with running(store, clock) as runtime:
        wrong = question | {"policy": policy | {"quorum": 2}}
        with pytest.raises(CodecError, match="the quorum is 2, and 1 people may decide"):
            await runtime.publish({"type": "perdure.AskApproval", "data": wrong})
        with pytest.raises(CodecError, match="'approve' or 'reject'"):
            await runtime.publish({"type": "perdure.Decide", "data": data | {"verdict": "maybe"}})
        with pytest.raises(CodecError, match="'approve' or 'reject'"):
            await submit(runtime, deciding("ann", "maybe"))  # type: ignore[arg-type]
        await runtime.publish({"type": "perdure.AskApproval", "data": question})
        (receipt,) = await runtime.publish({"type": "perdure.Decide", "data": data})
        assert receipt.reply.word is Word.APPROVED


@quickly
async def test_a_message_sent_to_another_approval_than_it_names_is_refused(store, clock):
    async with running(store, clock) as runtime:
        await submit(runtime, asking())
        with pytest.raises(HandlerFailed, match="was sent to 'a'"):
            await runtime.send(runtime.ref(Approvals, "a"), deciding("ann", id="b"))
        with pytest.raises(HandlerFailed, match="was sent to 'c'"):
            await runtime.send(runtime.ref(Approvals, "c"), asking(id="b"))
        for id in ("(odd, one)", "\\", "ünï"):
            await submit(runtime, asking(id=id))
            assert (await submit(runtime, deciding("ann", id=id))).word is Word.RECORDED


# Many at once


@in_loop(30)
async def test_of_decisions_made_at_once_each_person_counts_once(store, clock):
    people = tuple(f"p{n}" for n in range(20))
    policy = Approval(Who(people=people), quorum=15, rejections=5)
    async with running(store, clock) as runtime:
        await submit(runtime, asking(policy))
        decisions = [deciding(by) for by in people for _ in range(3)]
        answers = await asyncio.gather(*(submit(runtime, one) for one in decisions))
        words = [answer.word for answer in answers]
        assert (words.count(Word.RECORDED), words.count(Word.APPROVED)) == (14, 1)
        assert words.count(Word.DUPLICATE) == 15 * 2
        assert words.count(Word.ALREADY_DECIDED) == 5 * 3
        result = await result_of(runtime)
        assert len({vote.by for vote in result.votes}) == len(result.votes) == 15


@quickly
async def test_of_an_approval_and_a_change_made_at_once_never_both_hold(store, clock):
    other = Pay("i-7", 999)
    async with running(store, clock) as runtime:
        for n in range(20):
            id = f"a{n}"
            await submit(runtime, asking(Approval(Who(people=("ann",))), id))
            requests: list[Any] = [deciding("ann", id=id), ChangeSubject(id, other, "eve")]
            answers = await asyncio.gather(
                *(submit(runtime, one) for one in (requests if n % 2 else requests[::-1]))
            )
            seen = await view_of(runtime, runtime.ref(Approvals, id))
            if seen.status is Status.COMPLETED:
                assert seen.result.approves(PAY)
                assert not seen.result.approves(other)
            else:
                assert seen.state.votes == ()
                assert {answer.word for answer in answers} == {Word.CHANGED, Word.OPEN}


@quickly
async def test_open_approvals_are_listed_with_what_there_is_to_decide(store, clock):
    async with running(store, clock) as runtime:
        for id in ("a", "b", "c"):
            await submit(runtime, asking(id=id))
        await submit(runtime, WithdrawApproval("b"))
        await submit(runtime, deciding("ann", id="c"))
        await clock.advance(5 * DAY)
        open = [one async for one in runtime.instances(Approvals, status="running")]
        assert [(one.correlation_id, one.state.missing) for one in open] == [("a", 2), ("c", 1)]
        state = open[0].state
        assert (state.subject, state.digest) == (PAY, DIGEST)
        assert state.objection("kim", ("board",), clock.now) == ""
        assert state.objection("kim", (), clock.now) == "kim is not among those who may decide now"


# A saga that asks


@dataclass(frozen=True)
class InvoiceState:
    invoice: str = ""
    outcome: str = "waiting"
    refusals: int = 0


@message(name="approvals-test.InvoiceReceived")
class InvoiceReceived:
    invoice: str
    amount: int


class Invoices(ProcessManager[InvoiceState]):
    """Asks, hears the end, and looks once more before it acts."""

    name = "approvals-test.Invoices"

    @starts(InvoiceReceived, by="invoice")
    def received(self, state: InvoiceState, event: InvoiceReceived, do: Effects) -> None:
        do.send(AskApproval(event.invoice, Pay(event.invoice, event.amount), LADDER, "eve"))

    @continues(Answer, by="approval_id")
    def refused(self, state: InvoiceState, event: Answer, do: Effects) -> None: ...

    @continues(ApprovalDecided, by="approval_id")
    def decided(self, state: InvoiceState, event: ApprovalDecided, do: Effects) -> None:
        do.complete()

    @applies(InvoiceReceived)
    def begin(self, state: InvoiceState, event: InvoiceReceived) -> InvoiceState:
        return replace(state, invoice=event.invoice)

    @applies(Answer)
    def refuse(self, state: InvoiceState, event: Answer) -> InvoiceState:
        return replace(state, refusals=state.refusals + (event.word is Word.EXISTS))

    @applies(ApprovalDecided)
    def end(self, state: InvoiceState, event: ApprovalDecided) -> InvoiceState:
        return replace(state, outcome=event.outcome)


@quickly
async def test_a_saga_asks_by_a_command_and_hears_the_end(store, clock):
    async with running(store, clock, Invoices) as runtime:
        await runtime.publish(InvoiceReceived("i-7", 100))
        await clock.settle()
        await submit(runtime, deciding("ann", id="i-7"))
    async with running(reopened(store), clock, Invoices) as runtime:
        await submit(runtime, deciding("bob", id="i-7"))
        await clock.settle()
        seen = await view_of(runtime, runtime.ref(Invoices, "i-7"))
        assert (seen.status, seen.state.outcome) == (Status.COMPLETED, "approved")
        assert seen.state.refusals == 0
        assert [one async for one in runtime.dead_letters.list()] == []


@quickly
async def test_a_saga_whose_question_is_refused_is_told(store, clock):
    async with running(store, clock, Invoices) as runtime:
        await submit(runtime, asking(id="i-7"))
        await runtime.publish(InvoiceReceived("i-7", 5))
        await clock.settle()
        seen = await view_of(runtime, runtime.ref(Invoices, "i-7"))
        assert seen.state.refusals == 1


@dataclass(frozen=True)
class OrderState:
    ended: tuple[ChildEnded, ...] = ()


@message(name="approvals-test.OrderPlaced")
class OrderPlaced:
    region: str
    order: str


@message(name="approvals-test.OrderDropped")
class OrderDropped:
    region: str
    order: str
    how: str


class Orders(ProcessManager[OrderState]):
    """Asks by a child, which bears its name."""

    name = "approvals-test.Orders"

    @starts(OrderPlaced, by=("region", "order"))
    def placed(self, state: OrderState, event: OrderPlaced, do: Effects) -> None:
        do.start_child("approval", Approvals, AskApproval("", PAY, LADDER, "eve"))

    @continues(OrderDropped, by=("region", "order"))
    def dropped(self, state: OrderState, event: OrderDropped, do: Effects) -> None:
        if event.how == "fail":
            do.fail("dropped")
        else:
            do.cancel_child("approval", "changed their mind")

    @on_child_ended("approval")
    def approved(self, state: OrderState, ended: ChildEnded, do: Effects) -> None: ...

    @applies(ChildEnded)
    def end(self, state: OrderState, event: ChildEnded) -> OrderState:
        return replace(state, ended=(*state.ended, event))


async def ended(runtime: Runtime) -> ChildEnded:
    (one,) = (await view_of(runtime, runtime.ref(Orders, ("eu", "o-1")))).state.ended
    assert isinstance(one, ChildEnded)
    return one


@quickly
async def test_an_approval_as_a_child_has_its_own_id_and_tells_its_end(store, clock):
    async with running(store, clock, Orders) as runtime:
        await runtime.publish(OrderPlaced("eu", "o-1"))
        await clock.settle()
        (event,) = TOLD
        assert event.approval_id == "(eu,o-1)/approval"
        await submit(runtime, deciding("ann", id=event.approval_id))
    async with running(reopened(store), clock, Orders) as runtime:
        answer = await submit(runtime, deciding("bob", id=event.approval_id))
        assert answer.word is Word.APPROVED
        await clock.settle()
        end = await ended(runtime)
        assert end.is_completed
        assert isinstance(end.result, ApprovalDecided)
        assert end.result.approves(PAY)
        assert await runtime.result(runtime.ref(Approvals, event.approval_id)) == end.result


@pytest.mark.parametrize("how", ["fail", "cancel"])
@quickly
async def test_an_approval_whose_asker_does_not_want_it_any_more_is_withdrawn(store, clock, how):
    async with running(store, clock, Orders) as runtime:
        await runtime.publish(OrderPlaced("eu", "o-1"))
        await runtime.publish(OrderDropped("eu", "o-1", how))
        await clock.settle()
        answer = await submit(runtime, deciding("ann", id="(eu,o-1)/approval"))
        assert (answer.word, answer.outcome) == (Word.WITHDRAWN, "withdrawn")
        if how == "cancel":
            assert answer.reason == "changed their mind"
            assert (await ended(runtime)).result.outcome == "withdrawn"  # type: ignore[union-attr]
    assert told() == ["Asked", "Decided"]


@quickly
async def test_an_asker_is_told_if_its_approval_exists_already(store, clock):
    async with running(store, clock, Orders) as runtime:
        await submit(runtime, asking(id="(eu,o-1)/approval"))
        await runtime.publish(OrderPlaced("eu", "o-1"))
        await clock.settle()
        end = await ended(runtime)
        assert (end.is_completed, end.result) == (False, None)
        assert end.error.startswith("not started: ")


@quickly
async def test_an_approval_can_be_cancelled_like_any_saga(store, clock):
    async with running(store, clock) as runtime:
        await submit(runtime, asking())
        await runtime.cancel(runtime.ref(Approvals, "a"), "enough")
        assert (await result_of(runtime)).reason == "enough"
        with pytest.raises(HandlerFailed, match="give a child a text as id"):
            await runtime.send(runtime.ref(Approvals, ("a", "b")), asking(id=""))


# Faults, and any history


@pytest.mark.parametrize("after_commit", [False, True])
@quickly
async def test_a_store_that_fails_loses_no_vote_and_counts_none_twice(store, after_commit):
    async with running(store, None, retry_pause_s=0.001) as runtime:
        for request in (asking(), deciding("ann"), deciding("bob")):
            store.fail_writes(after_commit=after_commit, instance="perdure.approvals/a")
            answer = await submit(runtime, request)
        assert answer.word is Word.APPROVED
        assert [vote.by for vote in (await result_of(runtime)).votes] == ["ann", "bob"]
        await until(lambda: len(TOLD) == 2)  # what was read back is told after a pause
    assert told() == ["Asked", "Decided"]


STEPS = st.lists(
    st.one_of(
        st.builds(lambda hours: hours * HOUR, st.integers(1, 60)),
        st.just("restart"),
        st.builds(
            deciding,
            st.sampled_from(["ann", "bob", "kim", "eve"]),
            st.sampled_from(["approve", "approve", "reject"]),
            st.sampled_from([DIGEST, DIGEST, digest_of(Pay("i-7", 1))]),
            st.just("board"),
        ),
        st.builds(ChangeSubject, st.just("a"), st.builds(Pay, st.just("i-7"), st.just(1)),
                  st.sampled_from(["kim", "eve"])),
    ),
    max_size=15,
)  # fmt: skip


@hypothesis_settings(max_examples=times(40))
@given(STEPS)
def test_any_history_with_restarts_ends_as_the_rules_alone_say(steps):
    asyncio.run(_live(steps, Approval(LADDER.who, quorum=2, rejections=2, not_requester=True,
                                      ladder=LADDER.ladder, expires=LADDER.expires)))  # fmt: skip


async def _live(steps: list[Any], policy: Approval) -> None:
    """The same steps in a runtime, and by the pure functions; the same answers, state and end."""
    clock, store = SimulatedClock(), MemoryStore()
    state, end = _by_the_rules(UNASKED, asking(policy), clock)
    async with running(store, clock) as runtime:
        await submit(runtime, asking(policy))
    for step in [*steps, 8 * DAY]:
        async with running(store, clock) as runtime:
            if isinstance(step, timedelta):
                await clock.advance(step)
                if end is None and state.is_over(clock.now):
                    end = decision.decided(state, "expired")
            elif step != "restart":
                answer = await submit(runtime, step)
                if end is not None:
                    assert answer == decision.late(end, step)
                else:
                    state, end = _by_the_rules(state, step, clock, answer)
            seen = await view_of(runtime, runtime.ref(Approvals, "a"))
            assert seen.result == end
            rung = state.policy.rungs_reached(clock.now - state.asked_at)
            assert end is not None or seen.state == replace(state, rung=rung)
    assert end is not None


def _by_the_rules(
    state: ApprovalState, request: Any, clock: SimulatedClock, answer: Answer | None = None
) -> tuple[ApprovalState, ApprovalDecided | None]:
    if isinstance(request, Decide):
        votes, expected = decision.decide(state, request, clock.now)
        assert answer == expected
        for vote in votes:
            state = decision.fold(state, vote)
        outcome = expected.outcome
        return state, None if outcome is None else decision.decided(state, outcome)
    made: Any
    if isinstance(request, AskApproval):
        made = decision.ask(state, request, clock.now)
    else:
        made = decision.change(state, request, clock.now)
    if isinstance(made, Answer):
        assert answer == made
        return state, None
    return (state if made is None else decision.fold(state, made)), None
