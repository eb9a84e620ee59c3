"""From the store back to a live instance: newest sound snapshot, then the turns after it, folded.

Requests gather while a read is under way and share the next one. Long histories are read page by
page, so that they neither fill memory nor hold up the loop. Runs no handler.
Next to read: ``core/replay.py`` (folding), ``supervisor.py`` (who asks).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import perdure.failpoints as failpoints
from perdure.core.commit import JournalRow
from perdure.core.correlation import split_key
from perdure.core.indexed import fields_known
from perdure.core.instance import Instance, ProcessedMessages
from perdure.core.replay import replay
from perdure.core.saga import Definition
from perdure.errors import (
    CodecError,
    CorruptRecord,
    DecodeError,
    InstanceQuarantined,
    PerdureError,
    StoreError,
    UnknownType,
    UnknownVersion,
)
from perdure.runtime.delivery import Delivery
from perdure.runtime.instances.saga_actor import SagaActor
from perdure.runtime.looking.reading import Reading
from perdure.runtime.routing import is_taken
from perdure.runtime.services import Services
from perdure.runtime.supervised import Background
from perdure.runtime.watching.logs import about
from perdure.runtime.watching.trails import keep_wanted, noted, trail_of
from perdure.store.protocol import LoadedInstance

__all__ = [
    "Folded",
    "Rehydration",
    "fold",
    "fold_loaded",
    "has_ended_with",
    "processed_in",
    "quarantined",
]

logger = logging.getLogger("perdure.saga")

PAGE = 1_000


class Folded(NamedTuple):
    """An instance as the store has it. ``traced``: see ``watching/trails.py``."""

    instance: Instance
    processed: ProcessedMessages
    snapshot_nr: int
    traced: dict[int, Mapping[str, str]] | None = None


async def fold_loaded(services: Reading, definition: Definition, loaded: LoadedInstance) -> Folded:
    """The instance that these rows tell of; reads on where there is more.

    Raises ``InstanceQuarantined`` if the rows are damaged or cannot be understood by this code.
    """
    try:
        if loaded.corrupt is not None:
            raise loaded.corrupt
        folded, turns = _from_snapshot(services, definition, loaded)
        has_more = loaded.has_more
        if turns is None:  # the snapshot could not be decoded: fold everything
            turns = await services.store.journal(loaded.instance, 0, PAGE)
            has_more = len(turns) == PAGE
            if not turns:
                raise CorruptRecord("there is nothing but a snapshot, and nobody can read it")
        instance = fold(services, definition, folded, turns)
        while has_more:
            await asyncio.sleep(0)
            turns = await services.store.journal(loaded.instance, instance.sequence_nr, PAGE)
            instance = fold(services, definition, folded._replace(instance=instance), turns)
            has_more = len(turns) == PAGE
    except StoreError as error:
        if isinstance(error, CorruptRecord):
            raise quarantined(definition, loaded.instance, error) from error
        raise
    except Exception as error:
        raise quarantined(definition, loaded.instance, error) from error
    if definition.indexed and not instance.is_purged:
        instance.fields = fields_known(definition.indexed, instance.state)
    return folded._replace(instance=instance)


def _from_snapshot(
    services: Reading, definition: Definition, loaded: LoadedInstance
) -> tuple[Folded, Sequence[JournalRow] | None]:
    window = services.settings.processed_window
    processed = ProcessedMessages(window)
    traced: dict[int, Mapping[str, str]] | None = None if services.spans is None else {}
    snapshot = loaded.snapshot
    if snapshot is not None:
        try:
            instance = services.journal.decode_snapshot(
                loaded.instance, snapshot.sequence_nr, snapshot.body, processed
            )
            return Folded(instance, processed, snapshot.sequence_nr, traced), loaded.turns
        except CodecError as error:
            key = loaded.instance
            # Of another release it is as it should be: the journal is folded once.
            level = logging.INFO if isinstance(error, UnknownVersion) else logging.WARNING
            logger.log(level, "snapshot of %s is passed over: %s", key, error, extra=about(key))
            processed = ProcessedMessages(window)
    _, correlation_id = split_key(loaded.instance)
    instance = Instance(loaded.instance, correlation_id, definition.initial_state())
    return Folded(instance, processed, 0, traced), loaded.turns if snapshot is None else None


def fold(
    services: Reading, definition: Definition, folded: Folded, turns: Sequence[JournalRow]
) -> Instance:
    if not turns:
        return folded.instance
    decode = services.journal.decode_entry
    instance = folded.instance
    if failpoints.listener is not None:
        turns = list(failpoints.replayed(turns))
    for row in turns:
        folded.processed.add(row.message_id, row.sequence_nr)
    entries = (decode(definition, instance, r.sequence_nr, r.message_id, r.body) for r in turns)
    if folded.traced is None:
        return replay(definition, instance, entries)
    instance = replay(definition, instance, noted(entries, folded.traced))
    keep_wanted(folded.traced, instance)
    return instance


def _check_inbox(services: Services, definition: Definition, loaded: LoadedInstance) -> None:
    """Set the instance aside if other code has left it a message that this one does not know, or
    has no handler for: it would have its turn, and come to nothing.

    In a cluster that code may be next door; without one, such a message is a dead letter.
    """
    for row in loaded.inbox:
        try:
            message = services.journal.decode_waiting(row.message_id, row.body).message
            if not is_taken(definition, message):
                raise UnknownType(f"the saga has no handler for {message.type} here")
        except (UnknownType, UnknownVersion) as error:
            raise quarantined(definition, loaded.instance, error) from error
        except DecodeError:
            continue  # of no code


def quarantined(definition: Definition, key: str, error: Exception) -> InstanceQuarantined:
    """The instance cannot be had, and why."""
    why = InstanceQuarantined(
        f"the instance cannot be rehydrated: {error}",
        saga=definition.name,
        correlation_id=split_key(key)[1],
        remedy="its rows are kept as they are; restore them, or run code that understands them",
    )
    why.__cause__ = error
    return why


class Owner(Protocol):
    """Who asked for incarnations, and hears if one cannot be had."""

    def rehydration_failed(self, actor: SagaActor, error: Exception) -> None: ...


async def has_ended_with(
    services: Services, resident: SagaActor | None, delivery: Delivery
) -> bool:
    """The instance is over, and has processed the message, or is not known any more but for that.

    False if that cannot be said.
    """
    if resident is not None and resident.committed is not None:
        instance, processed = resident.committed, resident.processed
    else:
        try:
            (loaded,) = await services.store.load([delivery.key])
            instance, processed, *_ = await fold_loaded(services, delivery.definition, loaded)
        except PerdureError:
            return False
    is_known = processed.turn_of(delivery.message.message_id) is not None
    return instance.status.is_over and (is_known or instance.is_purged)


async def processed_in(
    services: Services,
    resident: SagaActor | None,
    definition: Definition,
    key: str,
    message_id: str,
) -> int | None:
    """The turn in which the instance has processed the message, None if it has not.

    Raises ``InstanceQuarantined``, ``StoreError``.
    """
    if resident is not None and resident.committed is not None:
        return resident.processed.turn_of(message_id)
    (loaded,) = await services.store.load([key])
    return (await fold_loaded(services, definition, loaded)).processed.turn_of(message_id)


class Rehydration:
    """Loads instances for incarnations, up to ``rehydrations_max`` at a time."""

    def __init__(self, services: Services, owner: Owner) -> None:
        self.services = services
        self.owner = owner
        self._wanted: deque[SagaActor] = deque()
        self._reading = services.background("rehydration", self._read)
        self._long: dict[str, Background] = {}

    def request(self, actor: SagaActor) -> None:
        """Load the actor's instance; the actor takes its mail from then on."""
        self._wanted.append(actor)
        self._reading.start()

    async def stop(self) -> None:
        """Give up what is still wanted."""
        self._wanted.clear()
        for reading in (self._reading, *self._long.values()):
            await reading.stop()

    async def _read(self) -> None:
        while self._wanted and self._room > 0:
            size = min(len(self._wanted), self._room)
            group = deque(self._wanted.popleft() for _ in range(size))
            try:
                await self._read_group(group)
            finally:  # whoever is left in it is read the next time, after the others
                self._wanted.extend(group)

    @property
    def _room(self) -> int:
        return self.services.settings.rehydrations_max - len(self._long)

    async def _read_group(self, group: deque[SagaActor]) -> None:
        """Take one after another out of the group, and begin its incarnation."""
        try:
            found = await self.services.store.load([actor.key for actor in group])
        except Exception as error:
            while group:
                self._failed(group, error)
            return
        for loaded in found:
            actor = group[0]
            if loaded.has_more:
                self._begin_later(actor, loaded)
                group.popleft()
                continue
            try:
                await self._begin(actor, loaded)
            except Exception as error:
                self._failed(group, error)
            else:
                group.popleft()

    def _begin_later(self, actor: SagaActor, loaded: LoadedInstance) -> None:
        """A long history is read beside the others: they do not wait for all its pages."""

        async def begin() -> None:
            try:
                await self._begin(actor, loaded)
            except Exception as error:
                self.owner.rehydration_failed(actor, error)
            self._long.pop(actor.key, None)
            self._reading.start()  # others may have waited for room

        reading = self.services.background(f"rehydration of {actor.key}", begin)
        self._long[actor.key] = reading
        reading.start()

    async def _begin(self, actor: SagaActor, loaded: LoadedInstance) -> None:
        folded = await fold_loaded(self.services, actor.definition, loaded)
        if self.services.elsewhere is not None:
            _check_inbox(self.services, actor.definition, loaded)
        if folded.traced is not None:
            snapshot_nr = folded.snapshot_nr
            actor.trail = await trail_of(self.services, folded.instance, folded.traced, snapshot_nr)
        actor.rehydrated(folded.instance, folded.processed, loaded.inbox, folded.snapshot_nr)

    def _failed(self, group: deque[SagaActor], error: Exception) -> None:
        self.owner.rehydration_failed(group[0], error)
        group.popleft()
