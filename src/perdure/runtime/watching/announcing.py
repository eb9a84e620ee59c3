"""Committed turns are made known: to the observers, and as state transitions in the log.

    written ─────────────> committed(pending, before)        at once
    unknown ─> doubtful ─> rehydrated(actor)                 when its instance is in memory again

Of a turn whose commit had an unknown outcome, the journal says whether it is to be told. Nothing
in here may harm a turn: what goes wrong is logged once. Next to read: ``transitions.py`` (the log),
``observing.py`` (the observers), ``instances/pending.py``, which calls this.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from perdure.core.commit import OutboxKind, Status
from perdure.core.instance import Instance
from perdure.core.outcome import Outcome, Turn
from perdure.core.saga import Definition
from perdure.messages import DeadlineReached, TimeoutReached, datetime_of, type_info_of
from perdure.observer import (
    CommandSent,
    CompensationBegun,
    DeadlineFired,
    Passivated,
    ProcessStarted,
    ProcessStopped,
    ProcessStuck,
    Rehydrated,
    SendRefused,
    TurnCommitted,
)
from perdure.runtime.delivery import Delivery
from perdure.runtime.services import Services
from perdure.runtime.supervised import UNEXPECTED
from perdure.runtime.watching.transitions import is_logged, log_transition

if TYPE_CHECKING:
    from perdure.runtime.instances.pending import PendingTurn
    from perdure.runtime.instances.saga_actor import SagaActor

__all__ = ["Announcing"]

logger = logging.getLogger("perdure.observers")

_COMPENSATION = "perdure.CompensationStarted"
"""The event of an ordered saga that turns back."""

_TO_INSTANCE = "perdure.ToInstance"
"""Not a command of the saga's, but how it tells its children and its parent."""


class Announcing:
    """Makes the turns of one supervisor known."""

    __slots__ = ("_doubts", "_has_failed", "_observing", "_services")

    def __init__(self, services: Services) -> None:
        self._services = services
        self._observing = services.observing
        self._doubts: dict[str, list[tuple[PendingTurn, Instance]]] = {}
        self._has_failed = False

    def committed(self, pending: PendingTurn, before: Instance) -> None:
        """The turn is durable; ``before`` is its instance as it was."""
        observing, turn = self._observing, pending.turn
        if observing.counts_turns:
            self._count(pending.actor.definition.name, turn)
        if observing.hooks and (observing.hears_all or _is_eventful(turn, pending)):
            self._carefully(self._tell, pending.actor.definition, before, pending)
        if is_logged(logging.INFO):
            self._carefully(log_transition, pending.actor.definition, before, turn)

    def _count(self, name: str, turn: Turn) -> None:
        observing, after = self._observing, turn.after
        observing.record(observing.on_turn, name, turn.outcome)
        if turn.status_changed and after.status.is_over:
            seconds = (after.updated_at_ms - after.started_at_ms) / 1000
            observing.record(observing.on_end, name, after.status.value, seconds)

    def _carefully(self, tell: Callable[..., None], *told: Any) -> None:
        try:
            tell(*told)
        except UNEXPECTED:  # such as a status that cannot be printed, or a state not copied
            if not self._has_failed:
                self._has_failed = True
                logger.exception("a turn could not be made known; this is told once")

    def doubtful(self, pending: PendingTurn) -> None:
        """The outcome of the turn's commit is unknown."""
        observing = self._observing
        if not (observing.hooks or observing.counts_turns or is_logged(logging.INFO)):
            return
        actor = pending.actor
        doubts = self._doubts.setdefault(actor.key, [])
        before = doubts[-1][0].turn.after if doubts else actor.committed
        assert before is not None
        doubts.append((pending, before))

    def rehydrated(self, actor: SagaActor) -> None:
        """The instance is in memory again, as the journal has it: tell what is in there."""
        for pending, before in self._doubts.pop(actor.key, ()):
            message_id = pending.turn.message.message_id
            if actor.processed.turn_of(message_id) == pending.turn.after.sequence_nr:
                self.committed(pending, before)
        if Rehydrated in self._observing.hooks and actor.head.exists:
            self._observing.tell(Rehydrated(actor.definition.name, actor.head.correlation_id))

    def passivated(self, actor: SagaActor) -> None:
        """An incarnation has left memory."""
        instance = actor.committed
        if Passivated in self._observing.hooks and instance is not None and instance.exists:
            self._observing.tell(Passivated(actor.definition.name, instance.correlation_id))

    def refused(self, delivery: Delivery, error: BaseException) -> None:
        """A message is not taken; what time brings comes again."""
        if SendRefused in self._observing.hooks and not (delivery.deadline_nr or delivery.wakes):
            name, process_id = delivery.definition.name, delivery.correlation_id
            self._observing.tell(SendRefused(name, process_id, type(error).__name__))

    def _tell(self, definition: Definition, before: Instance, pending: PendingTurn) -> None:
        hooks, tell, turn = self._observing.hooks, self._observing.tell, pending.turn
        name, message, after = definition.name, turn.message, turn.after
        if TurnCommitted in hooks:
            tell(
                TurnCommitted(
                    name,
                    after.correlation_id,
                    turn.outcome.value,
                    message.type,
                    message.message_id,
                    after.sequence_nr,
                )
            )
        if not before.sequence_nr and ProcessStarted in hooks:
            tell(ProcessStarted(datetime_of(turn.at_ms), name, after.correlation_id))
        if (turn.outgoing and CommandSent in hooks) or (
            CompensationBegun in hooks and (turn.compensates or turn.events)
        ):
            for event in self._described(name, turn):
                tell(event)
        if pending.delivery.deadline_nr and DeadlineFired in hooks:
            self._tell_deadline(name, turn)
        if turn.status_changed:
            self._tell_status(definition, before, after)

    def _described(self, name: str, turn: Turn) -> Iterator[CommandSent | CompensationBegun]:
        """What is made up for, and the commands."""
        process_id, at = turn.after.correlation_id, datetime_of(turn.at_ms)
        if turn.compensates:
            command: Any = turn.message.content.command
            info = type_info_of(type(command))
            failed = type(command).__name__ if info is None else info.name
            yield CompensationBegun(at, name, failed, process_id)
        for stored in turn.events:
            if stored[0] == _COMPENSATION:
                event = self._services.codec.decode(*stored)
                yield CompensationBegun(at, name, event.failed_step, process_id)
        for row in turn.outgoing:
            if row.kind is OutboxKind.COMMAND and row.type != _TO_INSTANCE:
                yield CommandSent(at, name, row.type, process_id, row.id, row.target)

    def _tell_deadline(self, name: str, turn: Turn) -> None:
        content: DeadlineReached | TimeoutReached = turn.message.content
        if turn.outcome is Outcome.UNHANDLED and not turn.deadlines_cleared:
            return  # it was cancelled or set anew while its message waited
        deadline = content.name if isinstance(content, DeadlineReached) else "timeout"
        lateness_s = (datetime_of(turn.at_ms) - content.due_at).total_seconds()
        process_id = turn.after.correlation_id
        self._observing.tell(DeadlineFired(name, process_id, deadline, max(lateness_s, 0.0)))

    def _tell_status(self, definition: Definition, before: Instance, after: Instance) -> None:
        hooks, tell = self._observing.hooks, self._observing.tell
        name, process_id = definition.name, after.correlation_id
        if after.status.is_over and ProcessStopped in hooks:
            duration = datetime_of(after.updated_at_ms) - datetime_of(after.started_at_ms)
            state = definition.private_copy(after.state)
            tell(ProcessStopped(duration, name, process_id, state, after.status.value))
        elif (
            after.status is Status.STUCK
            and before.status is not Status.STUCK
            and ProcessStuck in hooks
        ):
            tell(ProcessStuck(name, process_id, str(after.detail)))


def _is_eventful(turn: Turn, pending: PendingTurn) -> bool:
    """There may be more to tell of it than that it was taken, and what it has sent."""
    return bool(
        turn.status_changed  # as by the first
        or turn.events
        or turn.compensates
        or pending.delivery.deadline_nr
    )
