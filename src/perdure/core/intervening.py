"""The turn in which somebody steps in. Pure.

    intervene:  no instance, or it has moved ─────────> refused, nothing is journaled
                only jobs, letters or messages change ─> a turn that notes it, and no more
                else: as if a message had come, or what the saga's repairs say ─> a turn like others

Whatever raises leaves nothing behind, and is told to whoever wants to repair: an intervention is
never tried again by itself. Next to read: ``repairs.py``; ``turn.py``, the turn of a message.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from perdure.core.commit import Status
from perdure.core.correlation import VerdictKind
from perdure.core.draft import Draft
from perdure.core.family import Cancel
from perdure.core.instance import Instance
from perdure.core.intervention import Action, Intervention
from perdure.core.outcome import TIMEOUT, Encoder, Turn
from perdure.core.outgoing import milliseconds
from perdure.core.saga import Definition
from perdure.core.step_events import Resume
from perdure.core.turn import metadata_of, noted
from perdure.effects import CancelDeadline, Fail, Record, SetDeadline
from perdure.errors import InstanceMoved, InstanceNotFound, NotRepairable
from perdure.messages import Message, Metadata

__all__ = ["intervene"]

_Follow = Callable[[Draft, Intervention, Metadata], None]


def intervene(
    definition: Definition,
    instance: Instance,
    message: Message,
    kind: VerdictKind,
    now_ms: int,
    encoder: Encoder,
) -> Turn:
    """The instance's turn with an intervention; ``kind`` is the verdict on what it is done with.

    Raises ``InstanceNotFound``, ``InstanceMoved``, ``NotRepairable``, and whatever the saga's code
    raises; nothing has changed then.
    """
    content: Intervention = message.content
    if not instance.exists:
        raise InstanceNotFound("there is nothing to repair", remedy="start it, or send to it")
    if content.seen and content.seen != instance.sequence_nr:
        raise InstanceMoved(
            f"{instance.correlation_id} has moved from turn {content.seen} to "
            f"{instance.sequence_nr} since you looked",
            remedy="look again, then say what is to be done",
        )
    if instance.is_purged:
        raise InstanceMoved(
            f"{instance.correlation_id} was purged since you looked",
            remedy="nothing of it is left to repair",
        )
    follow = _follow(content, instance)
    if follow is None:
        return noted(instance, message, now_ms)
    metadata = metadata_of(message, instance.correlation_id, instance.sequence_nr + 1, now_ms)
    draft = Draft(definition, instance, metadata, encoder)
    if instance.status.is_over and definition.timeout is not None:
        draft.arm(TIMEOUT, now_ms + milliseconds(definition.timeout))
    follow(draft, content, metadata)
    if kind is VerdictKind.STOP and draft.status is Status.RUNNING:
        draft.leave(Status.COMPLETED, None)
    return draft.turn(message, now_ms)


def _follow(content: Intervention, instance: Instance) -> _Follow | None:
    """What follows within the instance; None: nothing does."""
    if content.action == Action.RETRY:
        return _as_if if type(content.content) is Resume else None
    if content.action == Action.REDRIVE:
        return _as_if if content.content is not None else None
    return _FOLLOWING.get(content.action)


def _as_if(draft: Draft, content: Intervention, metadata: Metadata) -> None:
    """As if the content had come as a message: it is folded, then handled."""
    _take(draft, content.content, metadata)


def _cancel(draft: Draft, content: Intervention, metadata: Metadata) -> None:
    _take(draft, Cancel(f"{content.why} (by {content.by})"), metadata)
    before = draft.instance
    is_as_before = draft.status is before.status and draft.state == before.state
    if is_as_before and not draft.outgoing and not draft.set and len(draft.events) == 1:
        raise NotRepairable(
            "it does not heed a cancellation now",
            remedy="it is past its way back, or on it: see its state and history",
        )


def _take(draft: Draft, content: Any, metadata: Metadata) -> None:
    definition, before = draft.definition, draft.state
    handling = definition.choose(before, content, metadata)
    if handling is None:
        raise NotRepairable(
            f"nobody takes {type(content).__name__} in its present state",
            remedy="look at its state and its history first",
        )
    draft.carry_out([Record(content)])
    draft.carry_out(
        handling(definition.working_copy(draft.state), definition.private_event(content), metadata)
    )


def _mark_done(draft: Draft, content: Intervention, metadata: Metadata) -> None:
    if draft.definition.repairs is not None:
        _stepped(draft, content, metadata)
    elif content.content is not None:
        _as_if(draft, content, metadata)
    else:
        _stay(draft)


def _stepped(draft: Draft, content: Intervention, metadata: Metadata) -> None:
    repairs = draft.definition.repairs
    if repairs is None:
        raise NotRepairable("it has no steps", remedy="repair its commands, or send to it")
    is_over = draft.instance.status.is_over
    draft.carry_out(repairs.effects(draft.state, content, metadata, is_over))


def _compensate(draft: Draft, content: Intervention, metadata: Metadata) -> None:
    if draft.definition.repairs is not None:
        _stepped(draft, content, metadata)
        return
    definition = draft.definition
    follows = False
    for command in content.commands:
        undoing = definition.compensate(definition.working_copy(draft.state), command)
        follows = draft.compensate(undoing, follows)
    if draft.status is Status.RUNNING:
        draft.carry_out([Fail(f"compensated: {content.why} (by {content.by})")])


def _set_deadline(draft: Draft, content: Intervention, metadata: Metadata) -> None:
    _stay(draft)
    draft.carry_out([SetDeadline(content.about, at=content.at)])


def _cancel_deadline(draft: Draft, content: Intervention, metadata: Metadata) -> None:
    _stay(draft)
    draft.carry_out([CancelDeadline(content.about)])


def _stay(draft: Draft) -> None:
    """It stands as it did, stuck or not."""
    draft.status, draft.detail = draft.instance.status, draft.instance.detail


_FOLLOWING: dict[str, _Follow] = {
    Action.SEND: _as_if,
    Action.CANCEL: _cancel,
    Action.MARK_DONE: _mark_done,
    Action.SKIP: _stepped,
    Action.RESTART_FROM: _stepped,
    Action.COMPENSATE: _compensate,
    Action.SET_DEADLINE: _set_deadline,
    Action.CANCEL_DEADLINE: _cancel_deadline,
}
