"""What a turn sends: the outbox rows of commands, published events, and a result.

The carrying out of some effects, apart from ``draft.py`` for their length. Knows no queue: the
``Encoder`` gives addresses. Next to read: ``runtime/jobs/dispatcher.py``, which hands the rows out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from perdure.core.commit import FOLLOWS, OutboxKind, OutboxRow
from perdure.core.outcome import Stored
from perdure.effects import Publish, Send
from perdure.errors import InvalidEffect, Unroutable
from perdure.messages import milliseconds_of

if TYPE_CHECKING:
    from perdure.core.draft import Draft

__all__ = [
    "LATEST_MS",
    "SAGAS",
    "announce",
    "due_after",
    "milliseconds",
    "number",
    "publish",
    "put_out",
    "send",
]

SAGAS = ""
"""The target of what goes to the sagas themselves."""

LATEST_MS = milliseconds_of(datetime(9999, 12, 31, tzinfo=UTC))
"""Nothing is due later."""


def send(draft: Draft, effect: Send) -> None:
    queue = effect.queue
    if queue is not None and (type(queue) is not str or not queue):
        raise InvalidEffect(f"{queue!r} is no name of a work queue", remedy="use a short text")
    encoder = draft.encoder
    stored = encoder.message(effect.command)
    target = encoder.address(effect.command, queue)
    row = put_out(draft, OutboxKind.COMMAND, target, stored)
    if encoder.may_share(effect.command):
        row.content = effect.command
    if effect.after_previous:
        if not any(one.kind is OutboxKind.COMMAND for one in draft.outgoing[:-1]):
            raise InvalidEffect(
                f"{stored[0]} is to follow the command before it, and is the first of its turn",
                remedy="leave out after_previous=True, or send another command first",
            )
        row.after = FOLLOWS
    if effect.delay is not None:
        row.due_at_ms = _delayed(draft, effect)
    if effect.within is not None:
        row.expires_at_ms = _expiring(draft, effect)


def _delayed(draft: Draft, effect: Send) -> int:
    try:
        return due_after(effect.delay, draft.metadata.occurred_at_ms)
    except ValueError as error:
        name = type(effect.command).__name__
        raise InvalidEffect(f"{name} {error}", remedy="give a timedelta, not below zero") from None


def _expiring(draft: Draft, effect: Send) -> int:
    within, delay = effect.within, effect.delay or timedelta(0)
    if not isinstance(within, timedelta) or within <= delay:
        raise InvalidEffect(
            f"{type(effect.command).__name__} is to be done within {within!r}",
            remedy="give a timedelta above zero, and above the delay",
        )
    return min(draft.metadata.occurred_at_ms + milliseconds(within), LATEST_MS)


def due_after(delay: object, now_ms: int) -> int:
    """When what is delayed is due, 0 for at once. Raises ``ValueError`` for what is no delay."""
    if not isinstance(delay, timedelta) or delay < timedelta(0):
        raise ValueError(f"is delayed by {delay!r}")
    due_at_ms = now_ms + milliseconds(delay)
    if due_at_ms > LATEST_MS:
        raise ValueError("is delayed beyond the calendar")
    return due_at_ms if delay else 0


def publish(draft: Draft, effect: Publish) -> None:
    encoder = draft.encoder
    audience = encoder.audience(effect.event)
    if effect.mandatory and not audience:
        raise Unroutable(
            f"nobody in the runtime is interested in {type(effect.event).__name__}",
            remedy="give it a saga that starts with it, or send it to a worker: Send(command)",
        )
    # Without an audience one row is written all the same, so that the history shows the event.
    announce(draft, encoder.message(effect.event), audience or ("",))


def announce(draft: Draft, stored: Stored, audience: Iterable[str]) -> None:
    for target in audience:
        put_out(draft, OutboxKind.EVENT, target, stored)


def put_out(draft: Draft, kind: OutboxKind, target: str, stored: Stored) -> OutboxRow:
    """Add a row to what the turn sends."""
    draft.weigh(stored)
    if not draft.outgoing:
        draft.outgoing = []  # not the one that all turns share which send nothing
    metadata = draft.metadata
    row = OutboxRow(
        draft.instance.key,
        metadata.sequence_nr,
        len(draft.outgoing),
        kind,
        target,
        stored[0],
        stored[1],
        stored[2],
        metadata.occurred_at_ms,
    )
    draft.outgoing.append(row)
    return row


def number(rows: Sequence[OutboxRow], next_position: Callable[[], int]) -> None:
    """Give the rows of a turn their positions; one that follows waits for the command before it."""
    before: OutboxRow | None = None
    for row in rows:
        row.position = next_position()
        if row.after == FOLLOWS:
            assert before is not None
            row.after, before.leads = before.position, True
        if row.kind is OutboxKind.COMMAND:
            before = row


def milliseconds(duration: timedelta) -> int:
    """Whole milliseconds, rounded up: a deadline is never early."""
    return math.ceil(duration / timedelta(milliseconds=1))
