"""The commands an instance has sent and that are not done: how each stands. Pure.

Next to read: ``waiting.py``, whose part this is.
"""

from __future__ import annotations

from typing import NamedTuple

from perdure.core.commit import OutboxKind, OutboxRow
from perdure.core.outgoing import SAGAS
from perdure.core.wait_facts import Facts, QueueFact, WaitingFor, WaitKind
from perdure.core.wording import harmless, last_line, named, plural, when
from perdure.messages import datetime_of

__all__ = ["commands"]

COMMANDS_MAX = 20

_DIRECTED = "perdure.ToInstance"


class _Standing(NamedTuple):
    """How a command stands: what is said of it, and the lower the rank, the more it matters."""

    rank: int
    says: str
    at_ms: int = 0
    since_ms: int = 0
    remedy: str = ""


def commands(facts: Facts) -> list[WaitingFor]:
    """One reason for each command that waits or runs, those in trouble first."""
    rows = [row for row in facts.jobs if _counts(row)]
    ranked = [(_standing(facts, row), row) for row in rows]
    ranked.sort(key=lambda one: (one[0].rank, one[1].position))
    found = [_reason(facts, row, standing) for standing, row in ranked[:COMMANDS_MAX]]
    more = len(ranked) - len(found)
    if more > 0:
        least = "at least " if len(facts.jobs) >= facts.rows_max else ""
        waits = "waits or runs" if more == 1 else "wait or run"
        text = f"And {least}{plural(more, 'further command')} of it {waits}."
        found.append(WaitingFor(WaitKind.COMMAND, text, count=more))
    return found


def _counts(row: OutboxRow) -> bool:
    """Nobody waits for an event to be heard; children are told of by themselves."""
    return row.kind is OutboxKind.COMMAND and row.type != _DIRECTED


def _reason(facts: Facts, row: OutboxRow, standing: _Standing) -> WaitingFor:
    failed = ""
    if row.attempts and row.error:
        failed = f" Attempt {row.attempts} failed with {last_line(row.error)}."
    expires = ""
    if row.expires_at_ms:
        expires = f" It is given up at {when(row.expires_at_ms, facts.now_ms)}."
    step = facts.steps.get(row.position, "")
    return WaitingFor(
        WaitKind.COMMAND,
        f"{_what(facts, row)} {standing.says}.{failed}{expires}",
        name=step or row.type,
        id=row.id,
        queue=row.target,
        at=datetime_of(standing.at_ms) if standing.at_ms else None,
        since=datetime_of(standing.since_ms or row.created_at_ms),
        attempts=row.attempts,
        error=row.error,
        remedy=standing.remedy,
    )


def _what(facts: Facts, row: OutboxRow) -> str:
    step = facts.steps.get(row.position)
    if step is not None:
        return f"Step {named(step)}, in queue {named(row.target)},"
    what = f"Command {harmless(row.type)} ({harmless(row.id)})"
    return what if row.target == SAGAS else f"{what} in queue {named(row.target)}"


def _standing(facts: Facts, row: OutboxRow) -> _Standing:
    before = _before(facts, row)
    if before is not None:
        return before
    queue = facts.queues.get(row.target, QueueFact())
    if row.target == SAGAS and row.due_at_ms <= facts.now_ms:
        sent = when(row.created_at_ms, facts.now_ms)
        return _Standing(3, f"is on its way to another saga, sent at {sent}")
    running = None if queue.running is None else queue.running.get(row.position)
    if running is not None:
        since = when(running.since_ms, facts.now_ms)
        says = f"is being performed by a worker: attempt {running.attempt}, since {since}"
        return _Standing(4, says, since_ms=running.since_ms)
    if queue.is_performed is False:
        return _Standing(
            0,
            "waits, and nobody performs it: this runtime has no worker for that queue",
            remedy="run a runtime that has the workers of that queue",
        )
    if queue.is_paused:
        since = f" since {when(queue.since_ms, facts.now_ms)}" if queue.since_ms else ""
        why = f", because: {harmless(queue.reason)}" if queue.reason else ""
        says = f"waits, for the queue is paused{since}{why}"
        return _Standing(0, says, remedy="see to the cause, then resume the queue")
    return _in_line(facts, row, queue)


def _before(facts: Facts, row: OutboxRow) -> _Standing | None:
    """It has to wait for another command of the instance."""
    if not row.after or row.attempts:
        return None
    for letter in facts.letters:
        if letter.job == row.after:
            return _Standing(
                0,
                f"starts after {harmless(letter.message_id)}, which is dead letter "
                f"{letter.position}",
                remedy="redrive that dead letter, or discard it",
            )
    for job in facts.jobs:
        if job.position == row.after:
            return _Standing(3, f"starts when {harmless(job.id)}, before it, is done")
    return None


def _in_line(facts: Facts, row: OutboxRow, queue: QueueFact) -> _Standing:
    if row.due_at_ms > facts.now_ms:
        at = when(row.due_at_ms, facts.now_ms)
        if row.attempts:
            says = f"is tried again (attempt {row.attempts + 1}{_of(queue)}) at {at}"
            return _Standing(1, says, at_ms=row.due_at_ms)
        return _Standing(3, f"is to start at {at}", at_ms=row.due_at_ms)
    first = queue.first
    if first is not None and first.position < row.position:
        again = ""
        if first.attempts and first.due_at_ms > facts.now_ms:
            again = f", which is tried again at {when(first.due_at_ms, facts.now_ms)}"
        says = f"waits for its turn: the queue does one at a time, and is at {harmless(first.id)}"
        return _Standing(2, f"{says}{again}")
    if queue.running is None:
        if row.attempts and not row.error:
            return _Standing(2, f"was begun (attempt {row.attempts}) and is not settled")
        sent = when(row.created_at_ms, facts.now_ms)
        return _Standing(4, f"waits, or is being performed; sent at {sent}")
    if queue.concurrency and len(queue.running) >= queue.concurrency:
        says = f"waits for a free worker: all {queue.concurrency} are at work"
        return _Standing(2, says)
    return _Standing(3, f"waits for a worker since {when(row.created_at_ms, facts.now_ms)}")


def _of(queue: QueueFact) -> str:
    return "" if queue.attempts_max is None else f" of {queue.attempts_max}"
