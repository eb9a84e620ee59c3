"""Looking at instances without touching them: state, status, history. Read-only, resident or not.

What is shown is committed. Next to read: ``runtime.py``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from perdure.codec.wire import MISSHAPEN, misshapen
from perdure.core.commit import HeadRow, JournalRow, OutboxKind, Status
from perdure.core.correlation import split_key
from perdure.core.instance import Instance
from perdure.core.outcome import Outcome, Stored
from perdure.core.saga import Definition
from perdure.errors import (
    CodecError,
    CorruptRecord,
    DefinitionError,
    InstancePurged,
    InstanceQuarantined,
    SagaFailed,
    SagaStuck,
)
from perdure.messages import datetime_of
from perdure.runtime.recorded import is_purged
from perdure.runtime.rehydration import fold_loaded
from perdure.runtime.services import Services
from perdure.runtime.supervisor import Supervisor

__all__ = ["HistoryEntry", "InstanceView", "Sent", "Views", "status_of"]

PAGE = 100


@dataclass(frozen=True, slots=True)
class InstanceView:
    """An instance as it was last committed. ``state`` is the looker's own to keep.

    ``result`` is what it completed with, ``failure`` why it failed or is stuck; ``deadlines`` are
    the armed ones and when they are due (the whole process's is called "perdure.timeout").
    ``quarantined`` says why the instance is set aside, if it is; one that cannot be rehydrated is
    shown so in a listing, without a state. ``purged``: it has ended, and its state, its result and
    its turns are not kept any more, as its saga's retention says.
    """

    saga: str
    correlation_id: str
    status: Status
    state: Any
    sequence_nr: int
    started_at: datetime
    updated_at: datetime
    deadlines: dict[str, datetime] = field(default_factory=dict)
    result: Any = None
    failure: str | None = None
    quarantined: str | None = None
    purged: bool = False


@dataclass(frozen=True, slots=True)
class Sent:
    """A command (or published event) a turn sent; ``id`` is its idempotency key."""

    id: str
    kind: OutboxKind
    queue: str
    type: str
    content: Any


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One turn. ``events`` are what it folded into the state, singly: the message, if it was
    applied, and the recorded ones. Content nobody can decode any more is shown as plain data."""

    sequence_nr: int
    at: datetime
    message_id: str
    type: str
    message: Any
    outcome: Outcome
    refused: bool
    events: list[Any]
    sent: list[Sent]
    deadlines_set: dict[str, datetime]
    deadlines_cleared: list[str]
    status: Status | None
    reply: Any
    correlation_id: str | None
    causation_id: str | None


def status_of(wanted: Status | str | None) -> Status | None:
    """The status of this name. Raises ``DefinitionError``."""
    try:
        return None if wanted is None else Status(wanted)
    except ValueError:
        raise DefinitionError(
            f"{wanted!r} is no status", remedy=f"give one of {', '.join(Status)}, or None for any"
        ) from None


class Views:
    """Reads of one runtime."""

    def __init__(self, services: Services, supervisor: Supervisor) -> None:
        self._services = services
        self._supervisor = supervisor

    async def state(self, definition: Definition, key: str) -> InstanceView | None:
        """The instance, or None if there is none. Raises ``InstanceQuarantined``."""
        instance = await self.committed(definition, key)
        return self._view(definition, instance) if instance.exists else None

    async def committed(self, definition: Definition, key: str) -> Instance:
        """The instance itself, there or not: for the runtime, which leaves it as it is."""
        instance = self._supervisor.committed(key)
        if instance is not None:
            return instance
        (loaded,) = await self._services.store.load([key])
        return (await fold_loaded(self._services, definition, loaded)).instance

    def result(self, definition: Definition, instance: Instance) -> Any:
        """What the instance completed with.

        Raises ``SagaFailed``, ``SagaStuck``, ``InstancePurged``.
        """
        detail, about = instance.detail, (definition.name, instance.correlation_id)
        if instance.is_purged:
            raise _purged(f"the result (it has ended as {instance.status})").about(*about)
        if instance.status is Status.COMPLETED:
            return self._services.codec.decode_value(detail) if isinstance(detail, bytes) else None
        if instance.status is Status.STUCK:
            raise SagaStuck(str(detail), remedy="see to it, then resume it").about(*about)
        raise SagaFailed(str(detail)).about(*about)

    async def instances(
        self, definition: Definition, status: Status | None, after: str
    ) -> AsyncIterator[InstanceView]:
        """All instances of a saga in the order of their ids, read page by page."""
        last = f"{definition.name}/{after}" if after else ""
        while True:
            heads = await self._services.store.heads(definition.name, status, last, PAGE)
            async for view in self._page(definition, heads):
                if status is None or view.status is status:
                    yield view
            if len(heads) < PAGE:
                return
            last = heads[-1].instance

    async def history(self, key: str, after: int) -> AsyncIterator[HistoryEntry]:
        """The turns of an instance, oldest first, read page by page.

        Raises ``InstancePurged`` if they are not kept any more, ``CorruptRecord``.
        """
        last = after
        while True:
            rows = await self._services.store.journal(key, after, PAGE)
            if not rows and not after:
                await self._check_kept(key)
            for row in rows:
                if row.sequence_nr != last + 1:
                    await self._check_kept(key)
                    raise _missing_turn(key, last + 1)
                yield self._entry_of(row)
                last = row.sequence_nr
            if len(rows) < PAGE:
                return
            after = rows[-1].sequence_nr

    async def _check_kept(self, key: str) -> None:
        (loaded,) = await self._services.store.load([key])
        is_there = loaded.snapshot is not None or loaded.turns
        if is_there and loaded.corrupt is None and await is_purged(self._services, key):
            raise _purged("its history").about(*split_key(key))

    async def _page(
        self, definition: Definition, heads: Sequence[HeadRow]
    ) -> AsyncIterator[InstanceView]:
        resident = {head.instance: self._supervisor.committed(head.instance) for head in heads}
        passive = [key for key, instance in resident.items() if instance is None]
        found = await self._services.store.load(passive) if passive else ()
        loaded = {rows.instance: rows for rows in found}
        for head in heads:
            instance = resident[head.instance]
            try:
                if instance is None:
                    rows = loaded[head.instance]
                    instance = (await fold_loaded(self._services, definition, rows)).instance
                yield self._view(definition, instance)
            except InstanceQuarantined as error:
                yield _quarantined(head, error)

    def _view(self, definition: Definition, instance: Instance) -> InstanceView:
        detail = instance.detail
        quarantined = self._supervisor.quarantine.error_of(instance.key)
        return InstanceView(
            definition.name,
            instance.correlation_id,
            instance.status,
            definition.private_copy(instance.state),
            instance.sequence_nr,
            datetime_of(instance.started_at_ms),
            datetime_of(instance.updated_at_ms),
            {name: datetime_of(armed.due_at_ms) for name, armed in instance.deadlines.items()},
            self._services.codec.decode_value(detail) if isinstance(detail, bytes) else None,
            detail if isinstance(detail, str) else None,
            None if quarantined is None else quarantined.problem,
            instance.is_purged,
        )

    def _entry_of(self, row: JournalRow) -> HistoryEntry:
        try:
            return self._entry(row)
        except MISSHAPEN as error:
            raise misshapen("a journal entry", error).about(*split_key(row.instance)) from error

    def _entry(self, row: JournalRow) -> HistoryEntry:
        journal = self._services.journal
        turn = journal.read_turn(row.body)
        outcome = journal.outcome_of(turn)
        message = self._content(turn.message)
        recorded = [self._content(stored) for stored in turn.events]
        return HistoryEntry(
            row.sequence_nr,
            datetime_of(turn.at_ms),
            row.message_id,
            turn.message[0],
            message,
            outcome,
            turn.refused,
            [message, *recorded] if outcome is Outcome.APPLIED else [],
            [
                Sent(
                    f"{row.instance}/{row.sequence_nr}/{index}",
                    kind,
                    queue,
                    stored[0],
                    self._content(stored),
                )
                for index, (kind, queue, stored) in enumerate(journal.outgoing_of(turn))
            ],
            {name: datetime_of(due) for name, due in turn.deadlines_set.items()},
            turn.deadlines_cleared,
            None if turn.status is None else Status(turn.status),
            None if turn.reply is None else self._services.codec.decode_value(turn.reply),
            turn.correlation_id,
            turn.causation_id,
        )

    def _content(self, stored: Stored) -> Any:
        try:
            return self._services.codec.decode(*stored)
        except CodecError:
            return self._services.codec.decode_plain(stored[2])


def _purged(what: str) -> InstancePurged:
    remedy = "keep its instances longer, by the saga's retention, or copy what you need at the end"
    return InstancePurged(f"{what} is not kept any more", remedy=remedy)


def _missing_turn(key: str, sequence_nr: int) -> CorruptRecord:
    """The error for a turn that is not where it belongs."""
    saga, correlation_id = split_key(key)
    return CorruptRecord(
        f"journal row {sequence_nr} is missing",
        saga=saga,
        correlation_id=correlation_id,
        remedy="the turns after it are kept: restore the file from a backup",
    )


def _quarantined(head: HeadRow, error: InstanceQuarantined) -> InstanceView:
    """What is known of an instance without its journal."""
    return InstanceView(
        head.saga,
        head.correlation_id,
        head.status,
        None,
        0,
        datetime_of(head.started_at_ms),
        datetime_of(head.updated_at_ms),
        quarantined=error.problem,
    )
