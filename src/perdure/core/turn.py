"""One turn: one message, one instance, and everything that comes of it. Pure.

    step(message):  finished? ─ yes ─> FINISHED
                        │ no
                    accepted in this state? ─ no ─> UNHANDLED
                        │ yes
                    apply (fold the message into the state)
                    handle (describe effects)
                    carry out the effects on a draft (fold recorded events) ─> APPLIED

A command that failed for good is one such message; after it was handled, ``compensate`` says what
makes up for it, in the same turn (also if that turn ends the process).

The duplicate check and the due deadlines come before a step (``runtime/instances/saga_actor.py``);
the commit and everything visible come after it. An exception leaves nothing behind: the draft is
dropped (a definition that salvages such turns has another draft for it). ``replay.py`` folds
journal entries the same way and never runs ``handle``. Next to read: ``codec/journal.py`` (how a
turn is written), ``store/group_commit.py`` (when).
"""

from __future__ import annotations

from typing import Any

from perdure.core.commit import Status
from perdure.core.correlation import VerdictKind
from perdure.core.draft import Draft
from perdure.core.family import ChildEnded, born, ended
from perdure.core.instance import Instance, next_due
from perdure.core.outcome import MINUTE_MS, TIMEOUT, Encoder, Outcome, Turn
from perdure.core.outgoing import milliseconds
from perdure.core.saga import Definition
from perdure.messages import (
    CommandFailed,
    DeadlineReached,
    ExternalEvent,
    Message,
    Metadata,
    TimeoutReached,
)

__all__ = [
    "deadline_id",
    "ended_by_failure",
    "failed",
    "fired_name",
    "metadata_of",
    "noted",
    "stale",
    "step",
]


def metadata_of(message: Message, instance_id: str, sequence_nr: int, now_ms: int) -> Metadata:
    """What user code learns of a message in the turn that handles it."""
    return Metadata(
        message.message_id,
        message.sent_at_ms,
        message.correlation_id,
        message.causation_id,
        message.headers,
        now_ms,
        instance_id,
        sequence_nr,
    )


def step(
    definition: Definition,
    instance: Instance,
    message: Message,
    kind: VerdictKind,
    strict: bool,
    now_ms: int,
    encoder: Encoder,
) -> Turn:
    """Let the instance take its next turn with this message.

    Raises whatever the saga's code raises, ``InvalidEffect`` for nonsense it returns, and
    ``EncodeError`` or ``LimitExceeded`` for values that cannot be stored; nothing has changed then.
    """
    if instance.status.is_over:
        return _nothing(
            instance, message, Outcome.FINISHED, now_ms, strict, fired_name(message.content)
        )
    if strict and kind is VerdictKind.START and instance.sequence_nr:
        return _nothing(instance, message, Outcome.EXISTS, now_ms, True, None)
    sequence_nr = instance.sequence_nr + 1
    metadata = metadata_of(message, instance.correlation_id, sequence_nr, now_ms)
    content = message.content
    handling = definition.choose(instance.state, content, metadata)
    if handling is None:
        return _nothing(instance, message, Outcome.UNHANDLED, now_ms, strict, fired_name(content))
    draft = _begun(definition, instance, message, metadata, encoder)
    try:
        draft.carry_out(
            handling(
                definition.working_copy(draft.state), definition.private_event(content), metadata
            )
        )
    except Exception as error:
        if definition.salvage is None:
            raise
        draft = _begun(definition, instance, message, metadata, encoder)
        draft.carry_out(definition.salvage(draft.state, content, metadata, error))
    if type(content) is CommandFailed:
        _compensate(draft, content)
    elif type(content) is TimeoutReached:
        draft.time_out_again(content.retries + 1)
    if kind is VerdictKind.STOP and draft.status is Status.RUNNING:
        draft.leave(Status.COMPLETED, None)
    return draft.turn(message, now_ms)


def _begun(
    definition: Definition,
    instance: Instance,
    message: Message,
    metadata: Metadata,
    encoder: Encoder,
) -> Draft:
    """A draft with the message folded into its state."""
    draft, content = Draft(definition, instance, metadata, encoder), message.content
    draft.fold(definition.private_event(content))
    if not instance.sequence_nr and definition.timeout is not None:
        draft.arm(TIMEOUT, metadata.occurred_at_ms + milliseconds(definition.timeout))
    if not instance.sequence_nr and message.headers:
        draft.family = born(message.headers)
    elif type(content) is ChildEnded:
        draft.family = ended(draft.family, content.name)
    draft.fired = fired_name(content)
    return draft


def _compensate(draft: Draft, failure: CommandFailed) -> None:
    """Make up for the command. One that nobody can decode is unknown to ``compensate``."""
    definition = draft.definition
    command: Any = failure.command
    if type(command) is not ExternalEvent:
        draft.compensate(
            definition.compensate(
                definition.working_copy(draft.state), definition.private_event(command)
            )
        )


def _nothing(
    instance: Instance,
    message: Message,
    outcome: Outcome,
    now_ms: int,
    refused: bool,
    fired: str | None,
) -> Turn:
    """A turn that leaves the state alone, and yet is journaled; a deadline that fired is gone.

    Of an instance that has ended, it is still known when that was.
    """
    deadlines = instance.deadlines
    if fired is not None and fired in deadlines:
        deadlines = {name: armed for name, armed in deadlines.items() if name != fired}
    after = Instance(
        instance.key,
        instance.correlation_id,
        instance.state,
        instance.sequence_nr + 1,
        instance.status,
        deadlines,
        next_due(deadlines),
        instance.started_at_ms,
        instance.updated_at_ms if outcome is Outcome.FINISHED else now_ms,
        instance.detail,
        instance.family,
        instance.fields,
    )
    cleared = [] if fired is None else [fired]
    is_later = after.updated_at_ms // MINUTE_MS != instance.updated_at_ms // MINUTE_MS
    return Turn(
        message,
        outcome,
        now_ms,
        after,
        refused,
        deadlines_cleared=cleared,
        head_changed=is_later,
    )


def failed(instance: Instance, message: Message, now_ms: int) -> Turn:
    """The turn that journals that the handler of a deadline raised: only the deadline goes."""
    return _nothing(instance, message, Outcome.FAILED, now_ms, False, fired_name(message.content))


def ended_by_failure(
    definition: Definition,
    instance: Instance,
    message: Message,
    now_ms: int,
    reason: str,
    encoder: Encoder,
) -> Turn:
    """The turn that journals that a message's failure ends its instance; nothing else is kept."""
    sequence_nr = instance.sequence_nr + 1
    metadata = metadata_of(message, instance.correlation_id, sequence_nr, now_ms)
    draft = Draft(definition, instance, metadata, encoder)
    draft.leave(Status.FAILED, reason)
    turn = draft.turn(message, now_ms)
    turn.outcome = Outcome.FAILED
    return turn


def stale(instance: Instance, message: Message, now_ms: int) -> Turn:
    """The turn that journals that a deadline was set anew or cancelled while its message waited."""
    return _nothing(instance, message, Outcome.UNHANDLED, now_ms, False, None)


def noted(instance: Instance, message: Message, now_ms: int) -> Turn:
    """The turn that journals what somebody did beside the instance, which stays as it is."""
    outcome = Outcome.FINISHED if instance.status.is_over else Outcome.APPLIED
    return _nothing(instance, message, outcome, now_ms, False, None)


def deadline_id(name: str, sequence_nr: int) -> str:
    """The id of the message that reports a deadline; ``sequence_nr`` is the turn that armed it."""
    return f"perdure.deadline/{name}/{sequence_nr}"


def fired_name(content: Any) -> str | None:
    """The name of the deadline this message reports, or None."""
    kind = type(content)
    if kind is DeadlineReached:
        name: str = content.name
        return name
    if kind is TimeoutReached:
        return f"{TIMEOUT}.{content.retries}" if content.retries else TIMEOUT
    return None
