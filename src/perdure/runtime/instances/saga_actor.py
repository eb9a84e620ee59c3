"""One incarnation: the actor of an instance, from its rehydration to its end.

It takes turns one after another without waiting for their commits, so it has two heads: ``head``,
from which the next turn starts, and ``committed``, which queries see. Outputs wait for the commit:

    mailbox ─> known? ─> due deadlines ─> must wait? ─> no instance? ─> step ─> submit ─┐
                                                             answer <─ (commit) <────┘

If a commit fails, nobody knows here what was written: the incarnation is over. Its unanswered
deliveries go, in order, to the next one, which has read the journal; there the duplicate check
tells what had been committed. Knows no store. Next to read: ``core/turn.py``.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Any

import perdure.failpoints as failpoints
from perdure.actors import Actor, Envelope
from perdure.core.commit import DeadlineRow, InboxRow, TurnRecord
from perdure.core.correlation import VerdictKind
from perdure.core.instance import Armed, Instance, ProcessedMessages
from perdure.core.outcome import Outcome, Turn, record_of
from perdure.core.outgoing import number
from perdure.core.saga import Definition
from perdure.core.turn import deadline_id, fired_name, stale, step
from perdure.errors import PerdureError
from perdure.failpoints import Point
from perdure.runtime.delivery import Delivery
from perdure.runtime.instances.failing import fail
from perdure.runtime.instances.leaving import Leaving
from perdure.runtime.instances.missing import decline, treat_missing
from perdure.runtime.instances.pending import Pending, PendingTurn
from perdure.runtime.instances.snapshots import snapshot
from perdure.runtime.instances.stepping_in import step_in
from perdure.runtime.instances.told import is_asked_for, mistaken, not_written, too_long
from perdure.runtime.instances.waiting import Waiting, has_to_wait, look_up
from perdure.runtime.instances.woken import drain, is_redriven_twice, take_over, wake
from perdure.runtime.watching.logs import about
from perdure.runtime.watching.tracing import Trail, traced
from perdure.runtime.watching.transitions import log_standing

if TYPE_CHECKING:
    from perdure.runtime.instances.supervisor import Supervisor

__all__ = ["SagaActor"]

logger = logging.getLogger("perdure.saga")


class SagaActor(Actor):
    """The actor of one instance. Spawned, fed and ended by the supervisor only.

    ``in_flight`` is all that is on its way to the store, oldest first; ``flying`` the turns of it
    by their message ids. ``processed`` knows committed turns only. ``is_leaving``: it takes nothing
    more, and is over when the last entry in flight is written.
    """

    __slots__ = (
        "committed",
        "definition",
        "flying",
        "head",
        "in_flight",
        "is_leaving",
        "is_over",
        "key",
        "processed",
        "snapshot_nr",
        "supervisor",
        "trail",
        "waiting",
    )

    head: Instance
    processed: ProcessedMessages
    committed: Instance | None

    def __init__(self, supervisor: Supervisor, definition: Definition, key: str) -> None:
        super().__init__()
        self.supervisor = supervisor
        self.definition = definition
        self.key = key
        self.committed = None
        self.in_flight: deque[Pending] | None = None
        self.flying: dict[str, PendingTurn] | None = None
        self.waiting: Waiting | None = None
        self.snapshot_nr = 0
        self.trail: Trail | None = None
        self.is_leaving = self.is_over = False
        self.actor_inbox.suspend()

    def rehydrated(
        self,
        instance: Instance,
        processed: ProcessedMessages,
        inbox: list[InboxRow],
        snapshot_nr: int,
    ) -> None:
        """Begin: this is the instance; take the mail that has gathered."""
        self.head = self.committed = instance
        self.processed = processed
        self.snapshot_nr = snapshot_nr
        self.supervisor.rehydrated(self, inbox)
        failpoints.reach(Point.LOADED)
        self.actor_inbox.resume()  # for later: whatever happens here goes before
        if inbox:  # some of it may be ready: the process ended before it was taken
            now_ms = self.supervisor.services.clock.now_ms()
            take_over(self, inbox)
            self._take_due(now_ms)
            drain(self, now_ms)

    @property
    def is_quiet(self) -> bool:
        """Nothing waits, is at work or on its way to the store: it may leave memory."""
        return not self.in_flight and self.is_idle

    def receive_envelope(self, envelope: Envelope[Any]) -> None:
        """Let the instance take its turn with a delivery (and, before, with what is overdue)."""
        assert isinstance(envelope, Delivery)
        try:
            self._receive(envelope)
        except BaseException as error:  # a mistake of ours: it must not end the instance
            self._on_mistake(envelope, error)

    def _on_mistake(self, delivery: Delivery, error: BaseException) -> None:
        key, message = self.key, delivery.message
        extra = about(key, message.message_id)
        logger.exception("%s: %s could not be processed", key, message.type, extra=extra)
        if not any(delivery in pending.deliveries for pending in self.in_flight or ()):
            delivery.refuse(mistaken(delivery, error))

    def _receive(self, envelope: Delivery) -> None:
        if self._is_known(envelope):
            return
        services = self.supervisor.services
        if envelope.attempts >= services.settings.write_attempts and not envelope.insists:
            self.supervisor.refuse(envelope, not_written(envelope))
            return
        now_ms = services.clock.now_ms()
        due = self.head.next_due_ms
        if due is not None and due <= now_ms and not envelope.deadline_nr:
            self._take_due(now_ms)
        if self.is_leaving:
            self._follow(envelope)
        elif envelope.wakes:
            wake(self, envelope, now_ms)
        elif envelope.asks_again:
            look_up(self, envelope)
        elif envelope.repair is not None:
            step_in(self, envelope, envelope.repair, now_ms)
        elif self.waiting is None or not has_to_wait(self, envelope, now_ms):
            self.take(envelope, now_ms)

    def on_refused(self, envelope: Envelope[Any]) -> None:
        """Mail that reaches an ended incarnation goes to the next one."""
        assert isinstance(envelope, Delivery)
        self.supervisor.deliver(envelope)

    def _take_due(self, now_ms: int) -> None:
        """Deadlines that are due come before the message. Those armed meanwhile have to wait."""
        head = self.head
        for name, armed in head.due_deadlines(now_ms, head.sequence_nr, self._is_awaited):
            if self.is_leaving:
                return
            if self.head.deadlines.get(name) != armed:
                continue  # one before it has cancelled it, or set it anew
            row = DeadlineRow(self.key, name, armed.sequence_nr, armed.due_at_ms)
            self.take(self.supervisor.wakeups.deadline(self.definition, row), now_ms)

    def _follow(self, delivery: Delivery) -> None:
        """This incarnation is about to leave: the message is for the next one."""
        last = (self.in_flight or [None])[-1]
        assert isinstance(last, Leaving)
        last.followers.append(delivery)

    def _is_awaited(self, name: str, armed: Armed) -> bool:
        """The deadline has fired, and its message awaits a retry; or it awaits other code."""
        waiting = self.waiting
        if self.supervisor.wakeups.is_strange(self.definition, self.key, name):
            return True
        return waiting is not None and waiting.get(deadline_id(name, armed.sequence_nr)) is not None

    def _is_known(self, delivery: Delivery) -> bool:
        """Answer a message that was processed before as it was then, once that is committed."""
        if is_redriven_twice(self, delivery):
            return True
        message_id = delivery.message.message_id
        if self.flying and message_id in self.flying:
            self.flying[message_id].repeat(delivery)
            return True
        known = None if delivery.wakes else self.processed.turn_of(message_id)
        if known is not None:
            self.supervisor.answer_from_journal(delivery, known)
        return known is not None

    def take(self, delivery: Delivery, now_ms: int) -> None:
        """Let the instance have its turn with a delivery, unless there is none to continue."""
        head = self.head
        if delivery.deadline_nr and not self._is_armed(delivery):
            if delivery.waits:
                turn = stale(head, delivery.message, now_ms)
                self.submit(PendingTurn(self, delivery, self.record(delivery, turn), turn))
            else:
                delivery.answer(Outcome.UNHANDLED)
        elif (
            not head.sequence_nr
            and delivery.kind is not VerdictKind.START
            and treat_missing(self, delivery, now_ms)
        ):
            pass
        else:
            self.turn(delivery, now_ms)

    def turn(self, delivery: Delivery, now_ms: int) -> None:
        """Let the saga's code have the delivery. What takes too long is as if it had raised."""
        head, services = self.head, self.supervisor.services
        began_s = services.clock.monotonic_s()
        if failpoints.listener is not None:
            failpoints.reach(Point.HANDLING)
        spans = services.spans
        take = step if spans is None else traced(spans, self, delivery, began_s)
        try:
            turn = take(
                self.definition,
                head,
                delivery.message,
                delivery.kind,
                delivery.strict,
                now_ms,
                services.encoder,
            )
            if not head.sequence_nr and turn.outcome is not Outcome.APPLIED:
                decline(self, delivery, turn)
                return
            record = self.record(delivery, turn)
            if services.clock.monotonic_s() - began_s > services.settings.turn_limit_s:
                raise too_long(delivery, services.settings.turn_limit_s)
        except BaseException as error:  # whatever user code raises stays in this turn
            fail(self, delivery, error, now_ms)
            return
        if turn.outcome is Outcome.UNHANDLED and is_asked_for(delivery):
            extra = about(self.key, delivery.message.message_id)
            logger.warning("%s: nobody handles %s", self.key, delivery.message.content, extra=extra)
        self.submit(PendingTurn(self, delivery, record, turn))
        if not head.sequence_nr and self.waiting is not None:
            drain(self, now_ms)

    def submit(self, pending: PendingTurn) -> None:
        """A turn is taken; the next one starts from it, and its rows are to be written."""
        delivery = pending.delivery
        if failpoints.listener is not None:
            taken = Point.HANDLED if delivery.settlement is None else Point.RESULT_TAKEN
            failpoints.reach(taken)
        self.head = pending.turn.after
        if delivery.span is not None:
            self.trail = delivery.span.submitted(pending.turn)
        if self.flying is None:
            self.flying = {}
        self.flying[delivery.message.message_id] = pending
        self.write(pending)

    def write(self, pending: Pending) -> None:
        """Have an entry written; ``pending`` settles when it is."""
        if self.in_flight is None:
            self.in_flight = deque()
        self.in_flight.append(pending)
        self.supervisor.services.commit.submit(pending)

    def record(self, delivery: Delivery, turn: Turn) -> TurnRecord:
        """The rows of the turn, to be submitted before the next turn's."""
        services = self.supervisor.services
        body = services.journal.encode_turn(turn)
        if turn.outgoing:
            number(turn.outgoing, services.next_position)
        return record_of(turn, self.definition.name, services.epoch, body, delivery.waits)

    def _is_armed(self, delivery: Delivery) -> bool:
        name = fired_name(delivery.message.content)
        armed = self.head.deadlines.get(name) if name is not None else None
        return armed is not None and armed.sequence_nr == delivery.deadline_nr

    # What became of what was submitted; called in the order of submission.

    def oldest_written(self) -> bool:
        """The oldest entry in flight is durable; False if that comes too late to matter."""
        in_flight = self.in_flight
        if self.is_over or in_flight is None:
            return False
        in_flight.popleft()
        if not in_flight:
            self.in_flight = self.flying = None  # an idle incarnation owns no queue
        return True

    def on_committed(self, turn: Turn) -> None:
        """A turn is durable: queries see it, its deadlines are armed, a snapshot may be due."""
        self.committed = turn.after
        self.processed.add(turn.message.message_id, turn.after.sequence_nr)
        if self.flying is not None:
            self.flying.pop(turn.message.message_id, None)
        if turn.outgoing:
            self.supervisor.dispatcher.committed(turn.outgoing)
        if turn.status_changed:
            self._status_changed(turn.after)
        if turn.deadlines_set or turn.deadlines_cleared:
            self.supervisor.wakeups.committed(self.key, turn)
        if turn.after.sequence_nr - self.snapshot_nr >= self.supervisor.snapshot_every:
            snapshot(self, turn.after)

    def _status_changed(self, after: Instance) -> None:
        log_standing(after)
        self.supervisor.endings.heard(self.key, after.status)
        self.supervisor.purging.ended(self.definition.name, after)

    def on_lost(self, error: PerdureError) -> None:
        """An entry was not written, or nobody knows: this incarnation ends here."""
        if not self.is_over:
            self.is_over = True
            self.supervisor.incarnation_lost(self, error)

    def unanswered(self) -> list[Delivery]:
        """All deliveries without an answer, oldest first; the incarnation must be over."""
        deliveries: list[Delivery] = []
        for pending in self.in_flight or ():
            deliveries += pending.deliveries
        for delivery in deliveries:  # those in flight: an attempt of theirs is over
            if delivery.span is not None:
                delivery.lose_span()
        for envelope in self.end():
            assert isinstance(envelope, Delivery)
            deliveries.append(envelope)
        return deliveries
