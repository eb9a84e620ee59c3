"""Messages that wait in the inbox, as an incarnation sees them: kept, in order, and repeated.

    a turn raised, and may be tried again   DELAYED   until its moment comes (a wake-up)
    another one is delayed                  QUEUED    until that one is done with, then in order
    there is no such instance               MISSING   until it starts, or the time is up

What waits is in the store, and in memory while its instance is: ``waiting_max`` of an instance at
most. Deadlines wait for no other message (a delayed one still has its row, and is not fired anew).
Part of a saga actor, apart for its length.
Next to read: ``woken.py``, how they come out again.
"""

from __future__ import annotations

import logging
from itertools import islice
from typing import TYPE_CHECKING

from perdure.core.commit import InboxReason, InboxRow
from perdure.core.correlation import VerdictKind
from perdure.core.described import in_short
from perdure.core.outcome import Outcome
from perdure.errors import HandlerFailed, MailboxFull, NonRetryable
from perdure.messages import datetime_of
from perdure.runtime.delivery import Delivery
from perdure.runtime.instances.pending import WAITING, PendingRetry, PendingWait
from perdure.runtime.watching.logs import about

if TYPE_CHECKING:
    from perdure.runtime.instances.saga_actor import SagaActor

__all__ = [
    "Waiting",
    "failures_of",
    "has_to_wait",
    "is_blocked",
    "is_full",
    "keep",
    "keep_back",
    "look_up",
    "postpone",
    "take_out",
]

logger = logging.getLogger("perdure.saga")

_BEHIND = (InboxReason.QUEUED, InboxReason.HELD)


class Waiting:
    """The messages of one instance that wait, by id, in order of arrival. Each has its ``row``."""

    __slots__ = ("_delayed", "_kept")

    def __init__(self) -> None:
        self._kept: dict[str, Delivery] = {}
        self._delayed = 0

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, message_id: str) -> Delivery | None:
        """The message of this id, if it waits."""
        return self._kept.get(message_id)

    def add(self, delivery: Delivery) -> None:
        """It waits; none of its id does."""
        self._kept[delivery.message.message_id] = delivery
        self._delayed += _reason(delivery) is InboxReason.DELAYED

    def pop(self, message_id: str) -> Delivery | None:
        """It does not wait any more."""
        kept = self._kept.pop(message_id, None)
        if kept is not None:
            self._delayed -= _reason(kept) is InboxReason.DELAYED
        return kept

    @property
    def has_delayed(self) -> bool:
        """Some message awaits its retry."""
        return self._delayed > 0

    def ready(self, exists: bool, limit: int) -> list[str]:
        """The first ids of those that wait for no moment of their own, in the order of their turns.

        Without an instance the parked ones go on waiting, and those that may start one go first:
        what was sent before a start is parked, and has its turn after it.
        """
        if exists:
            delayed = InboxReason.DELAYED
            ids = (i for i, kept in self._kept.items() if _reason(kept) is not delayed)
            return list(islice(ids, limit))
        held = {i: kept.kind for i, kept in self._kept.items() if _reason(kept) in _BEHIND}
        ids_of_starts_first = sorted(held, key=lambda i: held[i] is not VerdictKind.START)
        return ids_of_starts_first[:limit]


def _reason(delivery: Delivery) -> InboxReason:
    assert delivery.row is not None
    return delivery.row.reason


def has_to_wait(actor: SagaActor, delivery: Delivery, now_ms: int) -> bool:
    """The message waits already, or has to queue up behind a delayed one: its sender is told so."""
    waiting = actor.waiting
    if waiting is None:
        return False
    kept = waiting.get(delivery.message.message_id)
    if kept is not None:
        assert kept.row is not None
        actor.write(PendingWait(actor, delivery, kept.row))
        return True
    if delivery.deadline_nr or not is_blocked(actor):
        return False
    if not is_full(actor, delivery):
        keep(actor, delivery, InboxReason.QUEUED, now_ms)
    return True


def look_up(actor: SagaActor, delivery: Delivery) -> None:
    """The message waited here: tell whether it still does. It had no turn that is kept."""
    message_id = delivery.message.message_id
    kept = actor.waiting.get(message_id) if actor.waiting is not None else None
    if kept is not None:
        delivery.answer(WAITING[_reason(kept)])
    elif any(
        one.message.message_id == message_id
        for pending in actor.in_flight or ()
        for one in pending.deliveries
    ):
        delivery.answer(Outcome.QUEUED)  # its end is being written
    else:
        error = HandlerFailed(
            f"{delivery.message.type} waited, and was not applied: it is a dead letter, or was",
            saga=actor.definition.name,
            correlation_id=actor.head.correlation_id,
            remedy="see runtime.dead_letters for the reason",
        )
        delivery.refuse(error)


def is_full(actor: SagaActor, delivery: Delivery) -> bool:
    """Too many wait for another one to do so as well: its sender is told."""
    waiting, limit = actor.waiting, actor.supervisor.services.settings.waiting_max
    if waiting is None or len(waiting) < limit or delivery.waits:
        return False
    error = MailboxFull(
        f"{limit} messages wait in the inbox already, no room for {delivery.message.type}",
        saga=actor.definition.name,
        correlation_id=actor.head.correlation_id,
        remedy="send it again when some have had their turns, or raise waiting_max",
    )
    actor.supervisor.refuse(delivery, error)
    return True


def is_blocked(actor: SagaActor) -> bool:
    """A delayed message holds up those behind it, or the incarnation is about to leave."""
    waiting = actor.waiting
    if actor.is_leaving:
        return True
    return waiting is not None and waiting.has_delayed and not actor.definition.lets_pass


def keep(
    actor: SagaActor,
    delivery: Delivery,
    reason: InboxReason,
    now_ms: int,
    due_at_ms: int | None = None,
    error: BaseException | None = None,
) -> None:
    """Put the message into the inbox. It keeps its place if it is there already."""
    row = keep_back(actor, delivery, reason, now_ms, due_at_ms, error)
    kind = PendingRetry if reason is InboxReason.DELAYED else PendingWait
    actor.write(kind(actor, delivery, row))


def keep_back(
    actor: SagaActor,
    delivery: Delivery,
    reason: InboxReason,
    now_ms: int,
    due_at_ms: int | None = None,
    error: BaseException | None = None,
) -> InboxRow:
    """Let the message wait in memory; its row is still to be written."""
    message, known = delivery.message, delivery.row
    encode = actor.supervisor.services.journal.encode_waiting
    row = InboxRow(
        actor.key,
        message.message_id,
        reason,
        known.body if known is not None else encode(message, delivery.kind, delivery.strict),
        known.created_at_ms if known is not None else now_ms,
        failures_of(delivery) + (error is not None),
        due_at_ms,
        in_short(error) if error is not None else known.error if known is not None else "",
        replaces=delivery.waits,
    )
    kept = Delivery(actor.definition, actor.key, message, delivery.kind, delivery.strict)
    kept.deadline_nr, kept.waits, kept.row = delivery.deadline_nr, True, row
    if actor.waiting is None:
        actor.waiting = Waiting()
    actor.waiting.add(kept)
    return row


def failures_of(delivery: Delivery) -> int:
    """How many turns with this message have raised before."""
    return 0 if delivery.row is None else delivery.row.attempts


def postpone(actor: SagaActor, delivery: Delivery, error: BaseException, now_ms: int) -> bool:
    """A turn with the message raised: let it wait for its retry; False if there is none.

    Whatever was raised may be tried again, also nonsense returned and values that cannot be stored:
    which of them depend on more than the code, only the saga's author knows. ``NonRetryable`` says
    that it is of no use.
    """
    policy = actor.definition.retry
    failures = failures_of(delivery) + 1
    if policy is None or isinstance(error, NonRetryable) or not policy.should_retry(failures):
        return False
    due_at_ms = now_ms + policy.next_delay_ms(failures, actor.supervisor.services.random())
    keep(actor, delivery, InboxReason.DELAYED, now_ms, due_at_ms, error)
    logger.warning(
        "%s: handling %s raised %s; nothing of the turn was kept; this was attempt %d of %s, the "
        "next one is at %s",
        actor.key, delivery.message.type, in_short(error), failures,
        policy.max_attempts or "any number", datetime_of(due_at_ms).isoformat(),
        exc_info=error, extra=about(actor.key, delivery.message.message_id, failures),
    )  # fmt: skip
    return True


def take_out(actor: SagaActor, message_id: str) -> Delivery | None:
    """The message does not wait any more: it has its turn, or its end."""
    waiting = actor.waiting
    if waiting is None:
        return None
    kept = waiting.pop(message_id)
    if not waiting:
        actor.waiting = None
    return kept
