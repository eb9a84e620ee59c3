"""Why an instance waits, in plain words: from what is known of it to a list of reasons. Pure.

    not there ─> parked messages
    set aside, unreadable, stuck ─> a message that is tried again, dead letters
        ─> commands, those in trouble first ─> people, children, steps, events, sleeps
        ─> deadlines ─> else whatever message comes

What matters most comes first: what somebody has to do, then what goes wrong, then what takes its
time. Next to read: ``waiting_commands.py`` and ``waiting_work.py``, two of these parts.
"""

from __future__ import annotations

from perdure.core.commit import DeadLetterRow, InboxReason, InboxRow, Status
from perdure.core.outcome import TIMEOUT
from perdure.core.wait_facts import Facts, WaitingFor, WaitKind
from perdure.core.waiting_commands import commands
from perdure.core.waiting_work import Work, work_of
from perdure.core.wording import ago, harmless, last_line, listed, named, plural, when
from perdure.messages import datetime_of

__all__ = ["reasons"]

FEW = 5
LETTERS_MAX = 10
DEADLINES_MAX = 20

_RELEASE = "see to the cause, then release it"
_TAKE_OVER = "let code take over that knows it; or see to the cause, then release it"


def reasons(facts: Facts) -> list[WaitingFor]:
    """Why the instance waits, the most important first; never empty.

    >>> print(*reasons(Facts("Order", "o-1", now_ms=0)), sep="\\n")
    There is no such instance, and no message waits for it.
    """
    if facts.status is None:
        return [*_mailed(facts), *_set_aside(facts), *_absent(facts), *_letters(facts)]
    if facts.status.is_over:
        return [*_mailed(facts), *_set_aside(facts), _ended(facts), *_letters(facts),
                *commands(facts)]  # fmt: skip
    work = work_of(facts)
    found = [
        *_mailed(facts),
        *_set_aside(facts),
        *_stuck(facts, work),
        *_retries(facts),
        *_letters(facts),
        *commands(facts),
        *work.reasons,
    ]
    deadlines = _deadlines(facts, work)
    if not found or all(one.kind is WaitKind.DEAD_LETTER for one in found):
        found += _message(facts, work, bool(deadlines))
    return [*found, *deadlines]


def _mailed(facts: Facts) -> list[WaitingFor]:
    """Whatever else is said of it is older than these messages."""
    mail = facts.mail
    if mail is None:
        return []
    owner = f"is owned by {harmless(mail.owner)}" if mail.owner else "has no live owner"
    text = (
        f"{plural(mail.count, 'message')} for it {_is(mail.count)} in the mail of shard "
        f"{mail.shard}, since {when(mail.since_ms, facts.now_ms)}; shard {mail.shard} {owner}."
    )
    remedy = "start a process that takes shards; perdure hosts shows who is there"
    if mail.owner:
        remedy = "if it stays so, see its log: its code may not know the type"
    since = datetime_of(mail.since_ms)
    return [WaitingFor(WaitKind.MAIL, text, since=since, count=mail.count, remedy=remedy)]


def _absent(facts: Facts) -> list[WaitingFor]:
    parked = [row for row in facts.inbox if row.reason is not InboxReason.HELD]
    count = max(len(parked), facts.waiting) if parked else 0
    if facts.problem:
        return []
    if not parked:
        text = "There is no such instance, and no message waits for it."
        if facts.quarantine is not None:
            return []
        if facts.mail is not None:
            text = "There is no such instance yet."
        return [WaitingFor(WaitKind.ABSENT, text)]
    text = f"There is no such instance yet; {plural(count, 'message')} for it {_is(count)} kept."
    return [
        WaitingFor(WaitKind.ABSENT, text, count=count),
        *(_parked(facts, r) for r in parked[:5]),
    ]


def _parked(facts: Facts, row: InboxRow) -> WaitingFor:
    kind = facts.types.get(row.message_id, "")
    since = when(row.created_at_ms, facts.now_ms)
    until = "It waits for ever."
    if row.due_at_ms is not None:
        until = f"It becomes a dead letter at {when(row.due_at_ms, facts.now_ms)}."
    return WaitingFor(
        WaitKind.PARKED,
        f"Message {_message_named(kind, row.message_id)} is parked since {since}, until the "
        f"instance begins. {until}",
        name=kind,
        id=row.message_id,
        at=None if row.due_at_ms is None else datetime_of(row.due_at_ms),
        since=datetime_of(row.created_at_ms),
        remedy="send the message that starts the instance",
    )


def _set_aside(facts: Facts) -> list[WaitingFor]:
    row = facts.quarantine
    if row is None:
        if not facts.problem:
            return []
        text = f"It cannot be read: {harmless(facts.problem)}"
        remedy = "restore its rows, or run code that understands them"
        return [WaitingFor(WaitKind.UNREADABLE, text, error=facts.problem, remedy=remedy)]
    since = f"since {when(row.since_ms, facts.now_ms)}" if row.since_ms else "since an unknown time"
    held = facts.waiting
    kept = f" {plural(held, 'message')} for it {_is(held)} kept." if held else ""
    return [
        WaitingFor(
            WaitKind.QUARANTINED,
            f"It is quarantined {since} ({_WHY_ASIDE.get(row.reason, harmless(row.reason))}): "
            f"{harmless(row.error)}.{kept}",
            since=datetime_of(row.since_ms),
            error=row.error,
            count=held,
            remedy=_TAKE_OVER if row.reason == "undecodable" else _RELEASE,
        )
    ]


_WHY_ASIDE = {
    "failed": "a handler failed, and its supervision sets it aside then",
    "restarts": "its handlers failed too often",
    "corrupt": "its rows are damaged",
    "undecodable": "this code does not know a type or version in its rows",
    "replay": "its events cannot be folded by this code",
    "unknown": "the row that says why is damaged",
}


def _ended(facts: Facts) -> WaitingFor:
    at = when(facts.updated_at_ms, facts.now_ms)
    since = datetime_of(facts.updated_at_ms)
    if facts.status is Status.COMPLETED:
        return WaitingFor(WaitKind.COMPLETED, f"It completed at {at}.", since=since)
    why = f": {harmless(facts.detail)}" if facts.detail else ""
    return WaitingFor(WaitKind.FAILED, f"It failed at {at}{why}.", since=since, error=facts.detail)


def _stuck(facts: Facts, work: Work) -> list[WaitingFor]:
    if facts.status is not Status.STUCK:
        return []
    return [
        WaitingFor(
            WaitKind.STUCK,
            f"It is stuck since {when(facts.updated_at_ms, facts.now_ms)} and goes on only when "
            f"somebody has seen to it: {harmless(facts.detail)}.",
            since=datetime_of(facts.updated_at_ms),
            error=facts.detail,
            remedy=_unstick(facts, work),
        )
    ]


def _unstick(facts: Facts, work: Work) -> str:
    """Of a process manager nothing is known to be tried again but its dead letters."""
    if work.is_understood or any(job.attempts for job in facts.jobs):
        return "see to it, then retry it"
    if facts.letters:
        return f"see to it, then redrive its dead letter {facts.letters[0].position}"
    return "see to it, then send it what it goes on with, or cancel it"


def _retries(facts: Facts) -> list[WaitingFor]:
    """Messages that wait at an instance that is there."""
    delayed = [row for row in facts.inbox if row.reason is InboxReason.DELAYED]
    found = [_retry(facts, row) for row in delayed[:FEW]]
    behind = facts.waiting - len(delayed)
    if behind > 0 and facts.quarantine is None:
        oldest = min((r.created_at_ms for r in facts.inbox if r not in delayed), default=0)
        what = "that one" if delayed else "one that was there before"
        waits = "waits" if behind == 1 else "wait"
        text = f"{plural(behind, 'further message')} {waits} behind {what}, to keep the order."
        since = datetime_of(oldest) if oldest else None
        found.append(WaitingFor(WaitKind.QUEUED, text, since=since, count=behind))
    return found


def _retry(facts: Facts, row: InboxRow) -> WaitingFor:
    kind, due_ms = facts.types.get(row.message_id, ""), row.due_at_ms or facts.now_ms
    message = _message_named(kind, row.message_id)
    times = plural(row.attempts, "time")
    return WaitingFor(
        WaitKind.RETRY,
        f"Message {message} has failed {times}, at last with {last_line(row.error)}; it is tried "
        f"again at {when(due_ms, facts.now_ms)}.",
        name=kind,
        id=row.message_id,
        at=datetime_of(due_ms),
        since=datetime_of(row.created_at_ms),
        attempts=row.attempts,
        error=row.error,
    )


def _letters(facts: Facts) -> list[WaitingFor]:
    found = [_letter(facts, row) for row in facts.letters[:LETTERS_MAX]]
    more = len(facts.letters) - len(found)
    if more > 0:
        least = "at least " if len(facts.letters) >= facts.rows_max else ""
        text = f"And {least}{plural(more, 'further dead letter')} of it {_is(more)} kept."
        found.append(WaitingFor(WaitKind.DEAD_LETTER, text, count=more))
    return found


def _letter(facts: Facts, row: DeadLetterRow) -> WaitingFor:
    what = f"message {_message_named(row.type, row.message_id)}"
    told = ""
    if row.job:
        where = f" in queue {named(row.queue)}" if row.queue else ""
        what = f"command {_message_named(row.type, row.message_id)}{where}"
        told = " The instance was told of it."
    tries = f" after {plural(row.attempts, 'attempt')}" if row.attempts else ""
    return WaitingFor(
        WaitKind.DEAD_LETTER,
        f"Dead letter {row.position}: {what} failed for good{tries} ({harmless(row.reason)}) at "
        f"{when(row.created_at_ms, facts.now_ms)}: {last_line(row.error)}.{told}",
        name=row.type,
        id=str(row.position),
        queue=row.queue,
        since=datetime_of(row.created_at_ms),
        attempts=row.attempts,
        error=row.error,
        count=1,
        remedy="see to the cause, then discard it: redriven, nobody would hear of it"
        if row.job and facts.status is not None and facts.status.is_over
        else "see to the cause, then redrive it or discard it",
    )


def _deadlines(facts: Facts, work: Work) -> list[WaitingFor]:
    armed = sorted((due, name) for name, due in facts.deadlines.items() if name not in work.covered)
    return [_deadline(facts, name, due) for due, name in armed[:DEADLINES_MAX]]


def _deadline(facts: Facts, name: str, due_ms: int) -> WaitingFor:
    at = when(due_ms, facts.now_ms)
    what, kind = f"Deadline {named(name)}", WaitKind.DEADLINE
    if facts.is_schedule:
        kind = WaitKind.SCHEDULE
        what = "The next run" if name == "next" else "A run that is decided"
    elif name == TIMEOUT or name.startswith(f"{TIMEOUT}."):
        what = "The timeout of the whole process"
    remedy = ""
    if due_ms > facts.now_ms:
        text = f"{what} is due at {at}."
    else:
        text = f"{what} was due at {at}; it fires as soon as the instance can take it."
        remedy = "" if facts.is_live else "if it stays so, see that its runtime is running"
    return WaitingFor(kind, text, name=name, at=datetime_of(due_ms), remedy=remedy)


def _message(facts: Facts, work: Work, has_deadline: bool) -> list[WaitingFor]:
    """Nothing else is known that it waits for."""
    if facts.is_schedule and has_deadline:
        return []
    if facts.is_schedule:
        paused = "The schedule is paused: no runs are made." if facts.is_paused else ""
        remedy = "send it ResumeSchedule" if paused else ""
        text = paused or "The schedule has no further run."
        return [WaitingFor(WaitKind.SCHEDULE, text, remedy=remedy)]
    if work.is_understood:
        text = "Nothing is recorded that it waits for: something is on its way to it."
    elif facts.takes is None:
        text = "It waits for a message."
    elif facts.takes:
        text = f"It waits for a message; it is interested in {listed(facts.takes, 'or')}."
    else:
        text = "It waits for a message, and is interested in none."
    for_ = f" The last turn was {ago(facts.updated_at_ms, facts.now_ms)} ago."
    since = datetime_of(facts.updated_at_ms)
    names = facts.takes or ()
    return [WaitingFor(WaitKind.MESSAGE, f"{text}{for_}", since=since, names=names)]


def _message_named(type_name: str, message_id: str) -> str:
    return f"{harmless(type_name)} ({harmless(message_id)})" if type_name else harmless(message_id)


def _is(count: int) -> str:
    return "is" if count == 1 else "are"
