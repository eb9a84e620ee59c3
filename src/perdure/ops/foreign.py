"""Sagas whose code is not here, as far as they can be understood without it.

Of every instance the journal tells status, deadlines and family. The states of ordered saga,
workflows, approvals and schedules are perdure's own: they are folded, with the users' messages in
them as plain data (``ExternalEvent``). Of a process manager nobody but its code knows how to fold:
its state is that of the newest snapshot. Next to read: ``inspection.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from perdure.codec import TypeRegistry
from perdure.codec.journal import JournalCodec
from perdure.core import decision, ordered, progress
from perdure.core.approval_messages import (
    ApprovalAsked,
    ApprovalChanged,
    ApprovalReminder,
    Vote,
)
from perdure.core.commit import JournalRow, SnapshotRow
from perdure.core.decision import UNASKED, ApprovalState
from perdure.core.ordered import OrderedState
from perdure.core.progress import Progress
from perdure.core.saga import Definition
from perdure.core.step_events import StepStarted
from perdure.core.workflow_events import OperationStarted
from perdure.errors import CodecError, DuplicateMessageType, UnknownType
from perdure.messages import Metadata, TypeInfo, type_info_of
from perdure.runs import OpenSchedule, ScheduleState
from perdure.runs import fold as fold_schedule

__all__ = ["LenientTypes", "foreign_definition"]


class LenientTypes(TypeRegistry):
    """Knows the types it is told of; what else there is comes as ``ExternalEvent``."""

    def named(self, name: str) -> TypeInfo | None:
        """See ``TypeRegistry.named``; never raises."""
        try:
            return super().named(name)
        except (UnknownType, DuplicateMessageType):
            return None


@dataclass(frozen=True, slots=True)
class _Face:
    """How the states of one kind of saga are folded, and what shows that an instance is of it.

    ``state`` is what begins; ``shows`` the type of a message or event of its first turn.
    """

    state: Any
    shows: type
    apply: Callable[[Any, Any, Metadata], Any]
    folds: frozenset[type] | None


def _fold_ordered(state: OrderedState, event: Any, metadata: Metadata) -> OrderedState:
    if metadata.sequence_nr == 1 and type(event) not in ordered.FOLDED:
        return replace(state, data=event)
    return ordered.fold(state, event)


def _fold_approval(state: ApprovalState, event: Any, metadata: Metadata) -> ApprovalState:
    return decision.fold(state, event)


_APPROVAL_EVENTS = frozenset({ApprovalAsked, ApprovalChanged, ApprovalReminder, Vote})

_FACES = (
    _Face(OrderedState(), StepStarted, _fold_ordered, None),
    _Face(Progress(), OperationStarted, progress.fold, None),
    _Face(UNASKED, ApprovalAsked, _fold_approval, _APPROVAL_EVENTS),
    _Face(ScheduleState(), OpenSchedule, fold_schedule, None),
)


_UNKNOWN = object()
"""In place of a state that nobody can fold here; None would be that of a purged instance."""


def foreign_definition(
    saga: str,
    journal: JournalCodec,
    snapshots: Sequence[SnapshotRow],
    first: Sequence[JournalRow],
) -> tuple[Definition, bool]:
    """A definition that folds what can be folded of an instance; and whether that is its state.

    ``first`` holds its first turn, if that is there.
    """
    names = _names_of(journal, snapshots, first)
    for face in _FACES:
        kind = type(face.state)
        if names & {_name(kind), _name(face.shows)}:
            info = type_info_of(kind) or TypeInfo(kind, kind.__name__)
            return _definition(saga, info, face.state, face.apply, face.folds), True
    unknown = TypeInfo(object, "unknown")
    return _definition(saga, unknown, _UNKNOWN, _as_it_was, frozenset()), False


def _definition(
    saga: str,
    state_type: TypeInfo,
    state: Any,
    apply: Callable[[Any, Any, Metadata], Any],
    folds: frozenset[type] | None,
) -> Definition:
    return Definition(
        name=saga,
        state_type=state_type,
        interests=(),
        initial_state=lambda: state,
        correlate=lambda event, metadata: [],
        choose=lambda state, event, metadata: None,
        apply=apply,
        compensate=lambda state, command: None,
        folds=folds,
        copies_state=False,
        is_pure=True,
    )


def _as_it_was(state: Any, event: Any, metadata: Metadata) -> Any:
    return state


def _names_of(
    journal: JournalCodec, snapshots: Sequence[SnapshotRow], first: Sequence[JournalRow]
) -> set[str]:
    """The type names in the newest snapshot and in the first turn."""
    found: set[str] = set()
    try:
        state = journal.read_snapshot(snapshots[0].body).state if snapshots else None
        if state is not None:
            found.add(state[0])
        for row in first:
            turn = journal.read_turn(row.body)
            found.update([turn.message[0], *(stored[0] for stored in turn.events)])
    except (CodecError, TypeError, IndexError):  # then it is as good as unknown
        pass
    return found


def _name(kind: type) -> str:
    info = type_info_of(kind)
    return kind.__name__ if info is None else info.name
