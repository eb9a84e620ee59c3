"""Indexing the instances of a saga anew, beside live work, and forgetting fields of older code.

Each head is written as the instance is at a sequence number, and only if that is still the last
one; of a resident, as its last turn has left it, which goes before it in the same queue. So no
busy instance is waited for, and nothing newer is overwritten.
Next to read: ``core/tally.py``, when a field counts as indexed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from perdure.core.commit import Entry, HeadRow, IndexedFields, Reindexed
from perdure.core.indexed import fields_known
from perdure.core.instance import Instance
from perdure.core.saga import Definition
from perdure.errors import InstanceQuarantined, SequenceConflict
from perdure.runtime.instances.rehydration import fold_loaded
from perdure.runtime.jobs.job_tickets import Awaited
from perdure.runtime.services import Services
from perdure.store.write_plan import key_of

if TYPE_CHECKING:
    from perdure.runtime.instances.supervisor import Supervisor

__all__ = ["forget_fields", "reindex"]

logger = logging.getLogger("perdure.saga")

PAGE = 100


async def reindex(services: Services, supervisor: Supervisor, definition: Definition) -> int:
    """Write the heads of all instances, then say that they are indexed; how many were written."""
    count, after = 0, ""
    while True:
        heads = await services.store.heads(definition.name, None, after, PAGE)
        waiting = {head.instance: head for head in heads}
        while waiting:  # some have taken a turn, or have left or entered memory
            written, waiting = await _put(services, supervisor, definition, waiting)
            count += written
        if len(heads) < PAGE:
            break
        after = heads[-1].instance
    names = tuple(field.name for field in definition.indexed)
    await _write(services, [IndexedFields(definition.name, names)])
    return count


async def forget_fields(services: Services, definitions: Mapping[str, Definition]) -> None:
    """Fields that are not declared any more do not count as indexed: nobody keeps them now."""
    for tally in await services.store.tallies():
        definition = definitions.get(tally.saga)
        if definition is None or not tally.indexed:
            continue
        declared = {field.name for field in definition.indexed}
        kept = tuple(name for name in tally.indexed if name in declared)
        if kept != tally.indexed:
            await _write(services, [IndexedFields(tally.saga, kept)])


async def _put(
    services: Services, supervisor: Supervisor, definition: Definition, heads: dict[str, HeadRow]
) -> tuple[int, dict[str, HeadRow]]:
    """How many heads were put, and those whose instances have taken a turn meanwhile."""
    passive = [key for key in heads if _resident(supervisor, key) is None]
    read = await _read(services, definition, passive)
    entries: list[Entry] = []
    for key, head in heads.items():  # from here to the writer, nobody takes a turn
        instance = _resident(supervisor, key) or read.get(key)
        if instance is not None and (entry := _entry(definition, instance, head)) is not None:
            entries.append(entry)
    outcomes = await _write(services, entries)
    missed = [key_of(entry) for entry, done in zip(entries, outcomes, strict=True) if not done]
    again = {key: heads[key] for key in missed}
    return len(entries) - len(again), again


def _resident(supervisor: Supervisor, key: str) -> Instance | None:
    """As the last turn has left it, committed or on its way."""
    actor = supervisor.active.get(key)
    if actor is None or actor.committed is None or actor.is_over:
        return None
    return actor.head


async def _read(services: Services, definition: Definition, keys: list[str]) -> dict[str, Instance]:
    found = {}
    for loaded in await services.store.load(keys) if keys else ():
        try:
            found[loaded.instance] = (await fold_loaded(services, definition, loaded)).instance
        except InstanceQuarantined as error:
            logger.warning("%s is not indexed: %s", loaded.instance, error)
    return found


def _entry(definition: Definition, instance: Instance, before: HeadRow) -> Reindexed | None:
    fields = fields_known(definition.indexed, instance.state)
    if fields is None:
        logger.warning("%s is not indexed: its state holds other types", instance.key)
    if fields is None or not instance.exists:
        return None
    is_as_it_ended = instance.status.is_over and before.status is instance.status
    head = HeadRow(
        instance.key,
        definition.name,
        instance.correlation_id,
        instance.status,
        instance.started_at_ms,
        # A snapshot of schema version 3 may tell of a message that came after the end.
        before.updated_at_ms if is_as_it_ended else instance.updated_at_ms,
        fields,
    )
    return Reindexed(head, instance.sequence_nr)


async def _write(services: Services, entries: Iterable[Entry]) -> list[bool]:
    """Whether each was written; False: a turn was faster. Raises ``StoreError``."""
    tickets = [Awaited(entry) for entry in entries]
    for ticket in tickets:
        services.commit.submit(ticket)
    outcomes = await asyncio.gather(*(ticket.outcome for ticket in tickets), return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException) and not isinstance(outcome, SequenceConflict):
            raise outcome
    return [outcome is True for outcome in outcomes]
