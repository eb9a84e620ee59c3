"""What the state of an instance itself says it waits for: people, children, steps, events. Pure.

Understood are the states that are perdure's own: of approvals, ordered sagas and workflows. Next to
read: ``waiting.py``, whose part this is.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from perdure.core.approval import Who
from perdure.core.approval_messages import Verdict
from perdure.core.commit import Status
from perdure.core.decision import ApprovalState
from perdure.core.ordered import OrderedState
from perdure.core.progress import CHILD, EVENT, Progress
from perdure.core.step_events import StepStatus
from perdure.core.wait_facts import ChildFact, Facts, WaitingFor, WaitKind
from perdure.core.wording import harmless, listed, named, plural, when
from perdure.messages import datetime_of, milliseconds_of

__all__ = ["Work", "work_of"]

SLEEP, STEP = "sleep/", "step/"

EACH_MAX = 20


@dataclass(slots=True)
class Work:
    """Reasons, and the names of the deadlines that they tell of."""

    reasons: list[WaitingFor] = field(default_factory=list)
    covered: set[str] = field(default_factory=set)
    is_understood: bool = False


def work_of(facts: Facts) -> Work:
    """What the state and the family say."""
    work = Work()
    state = facts.state
    if isinstance(state, ApprovalState) and state.approval_id:
        work.is_understood = True
        work.reasons.append(_approval(state, facts.now_ms))
        work.covered.add("expires")
    for child in facts.children[:EACH_MAX]:
        work.reasons.append(_child(facts, child))
        work.covered.add(f"{CHILD}{child.name}")
    if isinstance(state, OrderedState):
        work.is_understood = True
        work.reasons += _steps(facts, state)
    elif isinstance(state, Progress):
        work.is_understood = True
        _operations(facts, state, work)
    return work


def _approval(state: ApprovalState, now_ms: int, of: str = "") -> WaitingFor:
    who = state.who(datetime_of(now_ms))
    expires_at, needed = state.expires_at, state.missing
    more = "more " if state.count("approve") else ""
    said = _said(state, "approve", "approved") + _said(state, "reject", "rejected it")
    votes = f"{needed} {more}approval{'' if needed == 1 else 's'}"
    until = " It never expires."
    if expires_at is not None:
        until = f" It expires at {when(milliseconds_of(expires_at), now_ms)}."
    return WaitingFor(
        WaitKind.APPROVAL,
        f"{of}It waits for {votes}, by {_people(who)}.{said}{until}",
        name=state.approval_id,
        id=state.approval_id,
        at=expires_at,
        since=state.asked_at,
        names=(*who.people, *(f"group {group}" for group in who.groups)),
        count=needed,
    )


def _said(state: ApprovalState, verdict: Verdict, done: str) -> str:
    who = [vote.by for vote in state.votes if vote.verdict == verdict]
    return f" So far {listed(who)} {'has' if len(who) == 1 else 'have'} {done}." if who else ""


def _people(who: Who) -> str:
    groups = f"anyone in {listed(who.groups, 'or')}" if who.groups else ""
    return " or ".join(part for part in (listed(who.people, "or"), groups) if part)


def _child(facts: Facts, child: ChildFact) -> WaitingFor:
    what = f"Child {named(child.name)} ({harmless(child.key)})"
    remedy = ""
    if child.is_quarantined:
        text, remedy = f"{what} is quarantined.", "see to the cause, then release it"
    elif child.status is None:
        text = f"{what} has not begun: the message that starts it is on its way."
    elif child.status is Status.STUCK:
        text, remedy = f"{what} is stuck: {harmless(child.detail)}.", "see to it, then retry it"
    elif child.status.is_over:
        text = f"{what} has ended ({child.status}); the news of it is on its way."
    elif isinstance(child.state, ApprovalState) and child.state.approval_id:
        return _approval(child.state, facts.now_ms, f"{what} is an approval. ")
    else:
        text = f"{what} is running; ask why that waits."
    due_ms = facts.deadlines.get(f"{CHILD}{child.name}")
    if due_ms is not None:
        text += f" It is waited for until {when(due_ms, facts.now_ms)}."
    at = None if due_ms is None else datetime_of(due_ms)
    return WaitingFor(WaitKind.CHILD, text, name=child.name, id=child.key, at=at, remedy=remedy)


def _steps(facts: Facts, state: OrderedState) -> list[WaitingFor]:
    """Steps that are under way, and whose commands are not."""
    known = set(facts.steps.values())
    verbs = {StepStatus.RUNNING: "under way", StepStatus.COMPENSATING: "being undone"}
    return [
        WaitingFor(
            WaitKind.STEP,
            f"Step {named(name)} is {verbs[status]}, and its command is not in the queue any "
            "more: what came of it is on its way.",
            name=name,
        )
        for name, status in state.steps.items()
        if status in verbs and name not in known
    ]


def _operations(facts: Facts, state: Progress, work: Work) -> None:
    known = set(facts.steps.values())
    children = {child.name for child in facts.children}
    for name in state.open[:EACH_MAX]:
        due_ms = facts.deadlines.get(name)
        work.covered.add(name)
        if name.startswith(EVENT):
            awaits = state.operations[name].awaits
            work.reasons.append(_event(facts, name.removeprefix(EVENT), awaits, due_ms))
        elif name.startswith(SLEEP):
            work.reasons.append(_sleep(facts, name.removeprefix(SLEEP), due_ms))
        elif name.startswith(CHILD) and name.removeprefix(CHILD) not in children:
            text = f"Child {named(name.removeprefix(CHILD))} has ended, and the news is on its way."
            work.reasons.append(WaitingFor(WaitKind.CHILD, text, name=name.removeprefix(CHILD)))
        elif name.startswith(STEP) and name.removeprefix(STEP) not in known:
            text = f"Step {named(name.removeprefix(STEP))} is under way, and its command is not in "
            text += "the queue any more: what came of it is on its way."
            work.reasons.append(WaitingFor(WaitKind.STEP, text, name=name.removeprefix(STEP)))
    more = len(state.open) - EACH_MAX
    if more > 0:
        text = f"It waits for {plural(more, 'further operation')}."
        work.reasons.append(WaitingFor(WaitKind.STEP, text, count=more))


def _event(facts: Facts, name: str, awaits: str, due_ms: int | None) -> WaitingFor:
    called = f" (as {named(name)})" if awaits and name != awaits else ""
    until = ", however long that takes"
    if due_ms is not None:
        until = f", until {when(due_ms, facts.now_ms)}"
    return WaitingFor(
        WaitKind.EVENT,
        f"It waits for event {named(awaits or name)}{called}{until}.",
        name=awaits or name,
        id=name,
        at=None if due_ms is None else datetime_of(due_ms),
    )


def _sleep(facts: Facts, name: str, due_ms: int | None) -> WaitingFor:
    called = "" if name == "sleep" else f" ({named(name)})"
    until = "" if due_ms is None else f" until {when(due_ms, facts.now_ms)}"
    at = None if due_ms is None else datetime_of(due_ms)
    return WaitingFor(WaitKind.SLEEP, f"It sleeps{called}{until}.", name=name, at=at)
