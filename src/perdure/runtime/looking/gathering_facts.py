"""What is known of an instance that waits, gathered from a store: the edge of ``core/waiting.py``.

A live runtime and a look from outside gather in the same way; they differ in how they come by an
instance, and in what they see of queues (``Sight``). Next to read: ``why.py``, the live one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from perdure.core import step_events, workflow_events
from perdure.core.commit import OutboxRow, Status
from perdure.core.correlation import split_key
from perdure.core.instance import Instance
from perdure.core.wait_facts import ChildFact, Facts, MailFact, QueueFact
from perdure.errors import CodecError, InstanceQuarantined
from perdure.messages import type_info_of
from perdure.runs import ScheduleState
from perdure.runtime.looking.reading import Reading
from perdure.store.overview import overview_of, owner_of
from perdure.store.protocol import InstanceRows

__all__ = ["Sight", "gather", "paused_queues"]

CHILDREN_MAX = 20
ROWS_MAX = 100
"""So many jobs, messages and letters of an instance are looked at; each may have a megabyte."""


class Sight(Protocol):
    """How whoever asks sees instances and queues."""

    is_live: bool
    """A runtime is at the instances, and it is this one."""

    async def instance(self, key: str) -> Instance | None:
        """The instance; None if its saga is not known here. Raises ``InstanceQuarantined``."""
        ...

    async def queues(self, jobs: Sequence[OutboxRow]) -> Mapping[str, QueueFact]:
        """The queues of these jobs."""
        ...

    def takes(self, saga: str, state: Any) -> tuple[str, ...] | None:
        """The type names that a saga takes in this state, None if that cannot be said."""
        ...


async def gather(reading: Reading, sight: Sight, key: str, now_ms: int) -> Facts:
    """Everything that says why the instance waits. Raises ``StoreError``."""
    rows = await reading.store.rows_of(key, ROWS_MAX)
    saga, correlation_id = split_key(key)
    instance, problem = None, ""
    try:
        instance = await sight.instance(key)
    except InstanceQuarantined as error:
        problem = str(error.__cause__ or error.problem)
    status, detail, updated_at_ms = _stands(rows, instance)
    state = None if instance is None else instance.state
    schedule = state if isinstance(state, ScheduleState) else None
    return Facts(
        saga,
        correlation_id,
        now_ms,
        sight.is_live,
        status,
        detail,
        updated_at_ms,
        state,
        problem,
        {row.name: row.due_at_ms for row in rows.deadlines},
        tuple(rows.jobs),
        _steps(reading, rows.jobs),
        await sight.queues(rows.jobs),
        await _children(reading, sight, instance),
        tuple(rows.inbox),
        {row.message_id: reading.journal.type_of_waiting(row.body) for row in rows.inbox},
        rows.waiting,
        tuple(rows.dead_letters),
        rows.quarantine,
        sight.takes(saga, state),
        schedule is not None,
        schedule is not None and schedule.is_paused,
        ROWS_MAX,
        await _mail(reading, key),
    )


async def paused_queues(reading: Reading, names: Collection[str]) -> dict[str, QueueFact]:
    """What the store has written of these queues: whether they are paused, since when, and why."""
    return {
        row.name: QueueFact(row.is_paused, row.reason, row.changed_at_ms)
        for row in await reading.store.queues()
        if row.name in names
    }


async def _mail(reading: Reading, key: str) -> MailFact | None:
    """What waits for the instance to be taken by the owner of its shard."""
    overview = overview_of(reading.store)
    ahead = None if overview is None else await overview.mail_for(key)
    if overview is None or ahead is None:
        return None
    shard = overview.shard_of(key)
    owner = owner_of(shard, await overview.hosts())
    named = "" if owner is None else f"{owner.name} (pid {owner.pid})"
    return MailFact(shard, ahead.count, ahead.since_ms, named)


def _stands(rows: InstanceRows, instance: Instance | None) -> tuple[Status | None, str, int]:
    """Status, why, and since when; the head knows less, and knows it always."""
    if instance is not None and instance.exists:
        detail = instance.detail if isinstance(instance.detail, str) else ""
        return instance.status, detail, instance.updated_at_ms
    if rows.head is not None:
        return rows.head.status, "", rows.head.updated_at_ms
    return None, "", 0


async def _children(
    reading: Reading, sight: Sight, instance: Instance | None
) -> tuple[ChildFact, ...]:
    family = None if instance is None else instance.family
    if family is None or instance is None or instance.status.is_over:
        return ()
    first = list(family.children.items())[:CHILDREN_MAX]
    return tuple([await _child(reading, sight, name, key) for name, key in first])


async def _child(reading: Reading, sight: Sight, name: str, key: str) -> ChildFact:
    try:
        child = await sight.instance(key)
    except InstanceQuarantined as error:
        return ChildFact(name, key, detail=error.problem, is_quarantined=True)
    if child is None:
        rows = await reading.store.rows_of(key, 1)
        status, detail, _ = _stands(rows, None)
        return ChildFact(name, key, status, detail, is_quarantined=rows.quarantine is not None)
    status = child.status if child.exists else None
    detail = child.detail if isinstance(child.detail, str) else ""
    return ChildFact(name, key, status, detail, child.state)


_COMMANDS = {
    info.name: field
    for kind, field in (
        (step_events.PerformStep, "step"),
        (step_events.CompensateStep, "step"),
        (workflow_events.PerformStep, "operation"),
    )
    if (info := type_info_of(kind)) is not None
}


def _steps(reading: Reading, jobs: Sequence[OutboxRow]) -> dict[int, str]:
    """The names of the steps that these jobs perform, by their position."""
    found: dict[int, str] = {}
    for row in jobs:
        field = _COMMANDS.get(row.type)
        if field is not None:
            try:
                fields = reading.codec.decode_plain(row.body)
            except CodecError:
                continue
            if isinstance(fields, dict) and isinstance(fields.get(field), str):
                found[row.position] = fields[field].removeprefix("step/")
    return found
