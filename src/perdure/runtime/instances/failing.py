"""A turn raised: it is tried again, or the saga's supervision says what becomes of the instance.

    resume       a dead letter; the instance lives on
    restart      a new incarnation tries again after a pause; too often: quarantine
    stop         a dead letter, and the instance ends as failed, in one commit
    quarantine   the message is held first in order, and the instance set aside
    escalate     the message waits for the next runtime; this one stops

Of an instance that does not exist yet, ``stop`` leaves the dead letter only. ``NonRetryable`` skips
the ``retry`` policy and the restart (resume is what remains of it), no other strategy.
Part of a saga actor, apart for its length. Next to read: ``core/supervision.py``, ``leaving.py``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

from perdure.core.commit import InboxReason, QuarantineRow
from perdure.core.described import in_short
from perdure.core.supervision import Strategy
from perdure.core.turn import ended_by_failure, failed
from perdure.errors import Escalated, NonRetryable
from perdure.runtime.delivery import Delivery
from perdure.runtime.instances.leaving import Escalating, Leaving, Restarting, SettingAside
from perdure.runtime.instances.pending import PendingDeadLetter, PendingEnd, PendingTurn
from perdure.runtime.instances.told import told
from perdure.runtime.instances.waiting import failures_of, keep_back, postpone
from perdure.runtime.letters.dead_letters import dead_letter
from perdure.runtime.watching.logs import about

if TYPE_CHECKING:
    from perdure.runtime.instances.saga_actor import SagaActor

__all__ = ["fail"]

logger = logging.getLogger("perdure.saga")

CarryOut: TypeAlias = Callable[["SagaActor", Delivery, BaseException, int], None]


def fail(actor: SagaActor, delivery: Delivery, error: BaseException, now_ms: int) -> None:
    """The saga's code raised: keep nothing of the turn, and do what is to be done about it."""
    if not postpone(actor, delivery, error, now_ms):
        _CARRY_OUT[_strategy(actor, delivery, error)](actor, delivery, error, now_ms)
    if delivery.span is not None:
        delivery.span.failed(error)


def _strategy(actor: SagaActor, delivery: Delivery, error: BaseException) -> Strategy:
    supervision = actor.definition.supervision
    if supervision.strategy is Strategy.STOP and not actor.head.exists:
        return Strategy.RESUME
    supervisor = actor.supervisor
    now_s = supervisor.services.clock.monotonic_s()
    lately = supervisor.restarts.lately(actor.key, now_s)
    is_final = isinstance(error, NonRetryable)
    return supervision.decide(_restarts_of(actor, delivery), lately, is_final=is_final)


def _restarts_of(actor: SagaActor, delivery: Delivery) -> int:
    """How many restarts the message has had: failures in its row that its retries do not explain.

    They are counted there, since what is counted in memory ends with the process.
    """
    retry = actor.definition.retry
    tried = 1 if retry is None or retry.max_attempts is None else retry.max_attempts
    return max(0, failures_of(delivery) + 1 - tried)


def _resume(actor: SagaActor, delivery: Delivery, error: BaseException, now_ms: int) -> None:
    problem = told(delivery, error)
    services, attempts = actor.supervisor.services, failures_of(delivery) + 1
    logger.warning("%s", problem, exc_info=error, extra=_about(delivery, attempts))
    letter = dead_letter(services, delivery, type(error).__name__, error, attempts)
    if not delivery.deadline_nr:
        actor.write(PendingDeadLetter(actor, delivery, letter, problem))
        return
    turn = failed(actor.head, delivery.journaled, now_ms)
    record = actor.record(delivery, turn)
    record.dead_letter = letter
    actor.submit(PendingTurn(actor, delivery, record, turn))


def _restart(actor: SagaActor, delivery: Delivery, error: BaseException, now_ms: int) -> None:
    supervision, supervisor = actor.definition.supervision, actor.supervisor
    services, restarts = supervisor.services, _restarts_of(actor, delivery) + 1
    due_at_ms = now_ms + supervision.backoff.next_delay_ms(restarts, services.random())
    within_s = supervision.within.total_seconds()
    supervisor.restarts.add(actor.key, within_s, services.clock.monotonic_s())
    logger.warning(
        "%s is restarted, for the %d. time for %s: %s",
        actor.key, restarts, delivery.message.type, in_short(error),
        exc_info=error, extra=_about(delivery, failures_of(delivery) + 1),
    )  # fmt: skip
    row = keep_back(actor, delivery, InboxReason.DELAYED, now_ms, due_at_ms, error)
    _leave(actor, Restarting(actor, delivery, row, row))


def _stop(actor: SagaActor, delivery: Delivery, error: BaseException, now_ms: int) -> None:
    problem = told(delivery, error, ends=True)
    services, attempts = actor.supervisor.services, failures_of(delivery) + 1
    logger.error(
        "%s ends as failed, as its supervision says: %s",
        actor.key,
        problem,
        extra=_about(delivery, attempts),
    )
    turn = ended_by_failure(
        actor.definition, actor.head, delivery.journaled, now_ms, in_short(error), services.encoder
    )
    record = actor.record(delivery, turn)
    record.dead_letter = dead_letter(services, delivery, type(error).__name__, error, attempts)
    actor.submit(PendingEnd(actor, delivery, record, turn, problem))


def _quarantine(actor: SagaActor, delivery: Delivery, error: BaseException, now_ms: int) -> None:
    is_restarted = actor.definition.supervision.strategy is Strategy.RESTART
    reason = "restarts" if is_restarted else "failed"
    quarantine = QuarantineRow(actor.key, reason, in_short(error), now_ms)
    row = keep_back(actor, delivery, InboxReason.HELD, now_ms, None, error)
    _leave(actor, SettingAside(actor, delivery, row, quarantine))


def _escalate(actor: SagaActor, delivery: Delivery, error: BaseException, now_ms: int) -> None:
    escalated = Escalated(
        f"handling {delivery.message.type} raised {in_short(error)}, and the saga escalates",
        saga=actor.definition.name,
        correlation_id=delivery.correlation_id,
        remedy="the message is kept: mend the handler and start the runtime, which tries it again",
    )
    escalated.__cause__ = error
    row = keep_back(actor, delivery, InboxReason.DELAYED, now_ms, now_ms, error)
    actor.write(Escalating(actor, delivery, row, escalated))


def _about(delivery: Delivery, attempt: int) -> Mapping[str, object]:
    return about(delivery.key, delivery.message.message_id, attempt)


def _leave(actor: SagaActor, last: Leaving) -> None:
    actor.is_leaving = True
    actor.write(last)


_CARRY_OUT: dict[Strategy, CarryOut] = {
    Strategy.RESUME: _resume,
    Strategy.RESTART: _restart,
    Strategy.STOP: _stop,
    Strategy.QUARANTINE: _quarantine,
    Strategy.ESCALATE: _escalate,
}
