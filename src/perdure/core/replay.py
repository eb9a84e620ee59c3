"""From journal entries back to the instance: folding only, no handler runs.

Knows no bytes (``codec/journal.py`` decodes them) and no store. Next to read: ``turn.py``, which
folds in the same way when a turn is taken.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from perdure.core.commit import Status
from perdure.core.family import born, ended, started
from perdure.core.instance import Armed, Instance, next_due
from perdure.core.outcome import Outcome
from perdure.core.saga import Definition
from perdure.errors import CorruptRecord, InvalidEffect
from perdure.messages import Metadata

__all__ = ["JournalEntry", "fold", "replay"]


@dataclass(slots=True)
class JournalEntry:
    """A journal row, decoded as far as folding needs it. ``events`` are what ``apply`` must fold:
    the message (if it was applied), then the recorded events; children are name to key."""

    sequence_nr: int
    metadata: Metadata
    outcome: Outcome
    events: list[Any]
    deadlines_set: dict[str, int]
    deadlines_cleared: list[str]
    status: Status | None
    detail: bytes | str | None
    child_ended: str | None = None
    children_started: dict[str, str] = field(default_factory=dict)


def fold(definition: Definition, state: Any, event: Any, metadata: Metadata) -> Any:
    """The next state: ``apply`` may return it, or change the private state it was given."""
    after = definition.apply(state, event, metadata)
    if after is None and definition.copies_state and not definition.is_pure:
        return state
    if not isinstance(after, definition.state_type.cls):
        raise InvalidEffect(
            f"apply returned {after!r} for {type(event).__name__}",
            remedy=f"return the next {definition.state_type.cls.__name__}",
        )
    return after


def replay(definition: Definition, instance: Instance, entries: Iterable[JournalEntry]) -> Instance:
    """The instance after these journal entries. Folds; runs no handler.

    Raises ``CorruptRecord`` if an entry is missing, and whatever ``apply`` raises.
    """
    state = definition.working_copy(instance.state)
    sequence_nr, status, detail = instance.sequence_nr, instance.status, instance.detail
    started_at_ms, updated_at_ms = instance.started_at_ms, instance.updated_at_ms
    deadlines, family = dict(instance.deadlines), instance.family
    for entry in entries:
        sequence_nr += 1
        if entry.sequence_nr != sequence_nr:
            raise CorruptRecord(
                f"journal entry {sequence_nr} is missing (found {entry.sequence_nr})",
                saga=definition.name,
                correlation_id=instance.correlation_id,
                remedy="restore the store from a backup",
            )
        if sequence_nr == 1:
            family = born(entry.metadata.headers)
        if entry.child_ended is not None:
            family = ended(family, entry.child_ended)
        for name, key in entry.children_started.items():
            family = started(family, name, key)
        for event in entry.events:
            state = fold(definition, state, event, entry.metadata)
        for name in entry.deadlines_cleared:
            deadlines.pop(name, None)
        for name, due_at_ms in entry.deadlines_set.items():
            deadlines[name] = Armed(due_at_ms, sequence_nr)
        if entry.status is not None:
            status, detail = entry.status, entry.detail
        at_ms = entry.metadata.occurred_at_ms
        updated_at_ms = updated_at_ms if entry.outcome is Outcome.FINISHED else at_ms
        started_at_ms = started_at_ms or updated_at_ms
    return Instance(
        instance.key,
        instance.correlation_id,
        state,
        sequence_nr,
        status,
        deadlines,
        next_due(deadlines),
        started_at_ms,
        updated_at_ms,
        detail,
        family,
    )
