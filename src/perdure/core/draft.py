"""The next instance in the making: where effects are carried out, to be kept or dropped whole.

One function per effect, in a table; a new effect is a line there. Knows no store and no clock.
Next to read: ``turn.py``, which opens a draft and closes it.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from perdure.core.arming import cancel_deadline, set_deadline
from perdure.core.children import cancel_child, close_family, start_child
from perdure.core.commit import Fields, OutboxRow, Status
from perdure.core.indexed import fields_known, fields_of
from perdure.core.instance import Armed, Instance, next_due
from perdure.core.outcome import MINUTE_MS, TIMEOUT, Encoder, Outcome, Stored, Turn
from perdure.core.outgoing import LATEST_MS, announce, publish, send
from perdure.core.replay import fold
from perdure.core.saga import Definition
from perdure.effects import (
    CancelChild,
    CancelDeadline,
    Complete,
    Effect,
    Fail,
    Publish,
    Record,
    Reply,
    Send,
    SetDeadline,
    StartChild,
    Stuck,
)
from perdure.errors import CodecError, InvalidEffect, LimitExceeded
from perdure.messages import (
    ExternalEvent,
    Message,
    Metadata,
    RetryScheduled,
    datetime_of,
    type_info_of,
)

__all__ = ["Draft"]

EFFECTS_MAX = 10_000
"""So many effects of one turn at most: a runaway loop fails its turn, not the store."""


# Shared by all turns that have none, and never changed: making three collections a turn is dear.
_NONE: list[Any] = []
_NO_DEADLINES: dict[str, Armed] = {}


class Draft:
    """The next instance in the making. Dropped whole if anything raises."""

    __slots__ = (
        "compensates",
        "deadlines",
        "definition",
        "detail",
        "encoder",
        "events",
        "family",
        "fired",
        "instance",
        "metadata",
        "outgoing",
        "reply",
        "reply_value",
        "result",
        "set",
        "size",
        "state",
        "status",
    )

    def __init__(
        self, definition: Definition, instance: Instance, metadata: Metadata, encoder: Encoder
    ) -> None:
        self.definition = definition
        self.instance = instance
        self.metadata = metadata
        self.encoder = encoder
        self.state = definition.working_copy(instance.state)
        self.status = Status.RUNNING
        self.detail: bytes | str | None = None
        self.events: list[Stored] = _NONE
        self.outgoing: list[OutboxRow] = _NONE
        self.set: dict[str, Armed] = _NO_DEADLINES
        self.deadlines = instance.deadlines  # replaced, not changed, by the first change
        self.family = instance.family
        self.fired: str | None = None
        self.result: Any = None
        self.reply: bytes | None = None
        self.reply_value: Any = None
        self.compensates = False
        self.size = 0

    def weigh(self, stored: Stored) -> None:
        """Count in what the turn writes. Raises ``LimitExceeded`` before it is too much to hold."""
        self.size += len(stored[2])
        if self.size > self.encoder.turn_bytes_max:
            raise LimitExceeded(
                f"more than {self.encoder.turn_bytes_max} bytes in one turn",
                remedy="split the work over turns, or raise turn_bytes_max",
            )

    def fold(self, event: Any) -> None:
        folds = self.definition.folds
        if folds is not None and type(event) not in folds and type(event) is not ExternalEvent:
            return  # it changes nothing
        self.state = fold(self.definition, self.state, event, self.metadata)

    def arm(self, name: str, due_at_ms: int) -> None:
        if self.set is _NO_DEADLINES:
            self.set = {}
        self.set[name] = Armed(due_at_ms, self.metadata.sequence_nr)

    def leave(self, status: Status, detail: bytes | str | None) -> None:
        """The instance does not go on running."""
        if self.status is not Status.RUNNING:
            raise InvalidEffect(
                "a turn can complete, fail or stick its instance once", remedy="return one of them"
            )
        self.status = status
        self.detail = detail

    def carry_out(self, effects: Iterable[Effect] | None) -> None:
        if effects is None:
            return
        if isinstance(effects, (str, bytes)) or not isinstance(effects, Iterable):
            raise _nonsense(effects)
        for count, effect in enumerate(effects):
            if count >= EFFECTS_MAX:
                raise _too_many()
            carry = _CARRY_OUT.get(type(effect))
            if carry is None:
                raise _nonsense(effect)
            try:
                carry(self, effect)
            except CodecError as error:
                error.problem = f"{type(effect).__name__}: {error.problem}"
                raise

    def compensate(self, returned: Iterable[Any] | None, follows: bool = False) -> bool:
        """Carry out what makes up for a failed command: commands in their order, or effects.

        Each command but the first starts only when the one before is done with; with ``follows``
        the first does, too. Gives whether the next one would have to.
        """
        if returned is None:
            return follows
        if isinstance(returned, (str, bytes)) or not isinstance(returned, Iterable):
            raise _no_compensation(returned)
        for count, one in enumerate(returned):
            if count >= EFFECTS_MAX:
                raise _too_many()
            self.compensates = True
            carry = _CARRY_OUT.get(type(one))
            if carry is not None:
                carry(self, one)
            elif type_info_of(type(one)) is not None:
                send(self, Send(one, after_previous=follows))
            else:
                raise _no_compensation(one)
            follows = follows or carry is None or carry is send
        return follows

    def time_out_again(self, attempts: int) -> None:
        """The timeout was reached for this many times: arm it again, if there is to be a retry.

        Not if the saga has, in this turn, ended the process, or set or cancelled the timeout.
        """
        policy = self.definition.timeout_retry
        if policy is None or self.status is not Status.RUNNING or self._settled_timeout():
            return
        if policy.should_retry(attempts):
            due = min(self.metadata.occurred_at_ms + policy.next_delay_ms(attempts), LATEST_MS)
            _record(self, Record(RetryScheduled(datetime_of(due), attempts)))
            self.arm(f"{TIMEOUT}.{attempts}", due)

    def _settled_timeout(self) -> bool:
        """The saga has set or cancelled the timeout in this turn."""
        is_cancelled = self.fired in self.instance.deadlines and self.fired not in self.deadlines
        return TIMEOUT in self.set or is_cancelled

    def turn(self, message: Message, now_ms: int) -> Turn:
        before = self.instance
        if self.status.is_over and self.family is not None:
            close_family(self, self.result)
        if self.outgoing:
            self._give_context(message)
        finished = self.status.is_over
        cleared = self._settle_deadlines(finished)
        fields = self._fields() if self.definition.indexed else before.fields
        status_changed = self.status is not before.status or self.detail != before.detail
        status_changed |= not before.sequence_nr
        after = Instance(
            before.key,
            before.correlation_id,
            self.state,
            self.metadata.sequence_nr,
            self.status,
            self.deadlines,
            before.next_due_ms if self.deadlines is before.deadlines else next_due(self.deadlines),
            before.started_at_ms or now_ms,
            now_ms,
            self.detail,
            self.family,
            fields,
        )
        return Turn(
            message,
            Outcome.APPLIED,
            now_ms,
            after,
            False,
            self.events,
            self.outgoing,
            self.set,
            cleared,
            status_changed,
            status_changed
            or now_ms // MINUTE_MS != before.updated_at_ms // MINUTE_MS
            or fields != before.fields,
            self.reply,
            self.reply_value,
            self.compensates,
        )

    def _give_context(self, message: Message) -> None:
        context = self.encoder.context(message, self.metadata)
        for row in self.outgoing:
            row.context = context

    def _fields(self) -> Fields | None:
        before, state, indexed = self.instance, self.state, self.definition.indexed
        if state is not before.state:
            return fields_of(indexed, state)
        return fields_known(indexed, state) if before.fields is None else before.fields

    def _settle_deadlines(self, finished: bool) -> list[str]:
        """The net change; answers the names that go: cancelled, fired, or all at the end."""
        before = self.instance.deadlines
        if not finished and not self.set and self.fired is None and self.deadlines is before:
            return _NONE  # nothing was touched, however many are armed
        if finished:
            self.deadlines, self.set = {}, _NO_DEADLINES
            return list(before)
        if self.fired in before and not self.set and self.deadlines is before:
            self.deadlines = before.copy()  # quick, also where very many are armed
            del self.deadlines[self.fired]
            return [self.fired]
        if self.fired is not None and self.fired not in self.set:
            self.deadlines = {k: v for k, v in self.deadlines.items() if k != self.fired}
        if self.set:
            self.deadlines = {**self.deadlines, **self.set}
        return [name for name in before if name not in self.deadlines]


def _too_many() -> InvalidEffect:
    return InvalidEffect(
        f"more than {EFFECTS_MAX} effects in one turn", remedy="split the work over turns"
    )


def _no_compensation(returned: object) -> InvalidEffect:
    if isinstance(returned, Coroutine):
        returned.close()  # else Python complains that nobody awaited it
    return InvalidEffect(
        f"compensate returned {returned!r} of type {type(returned).__name__}",
        remedy="return None or an iterable of commands (of @message classes), or of effects",
    )


def _nonsense(returned: object) -> InvalidEffect:
    if isinstance(returned, Coroutine):
        returned.close()
    return InvalidEffect(
        f"the handler returned {returned!r} of type {type(returned).__name__}",
        remedy="return None or an iterable of effects (Send, Record, SetDeadline, …)",
    )


def _record(draft: Draft, effect: Record) -> None:
    if draft.events is _NONE:
        draft.events = []
    stored = effect.stored
    if stored is None:
        stored = effect.stored = draft.encoder.message(effect.event)
    draft.weigh(stored)
    draft.events.append(stored)
    draft.fold(draft.definition.private_event(effect.event))


def _reply(draft: Draft, effect: Reply) -> None:
    draft.reply = draft.encoder.value(effect.value)
    draft.reply_value = effect.value


def _complete(draft: Draft, effect: Complete) -> None:
    result, encoder = effect.result, draft.encoder
    draft.result = result
    draft.leave(Status.COMPLETED, None if result is None else encoder.value(result))
    if effect.is_private or type_info_of(type(result)) is None:
        return
    audience = encoder.audience(result)
    if audience:
        announce(draft, encoder.message(result), audience)


def _fail(draft: Draft, effect: Fail) -> None:
    draft.leave(Status.FAILED, str(effect.reason))


def _stuck(draft: Draft, effect: Stuck) -> None:
    draft.leave(Status.STUCK, str(effect.reason))


_CARRY_OUT: dict[type, Callable[[Draft, Any], None]] = {
    Record: _record,
    Send: send,
    Publish: publish,
    SetDeadline: set_deadline,
    CancelDeadline: cancel_deadline,
    StartChild: start_child,
    CancelChild: cancel_child,
    Reply: _reply,
    Complete: _complete,
    Fail: _fail,
    Stuck: _stuck,
}
