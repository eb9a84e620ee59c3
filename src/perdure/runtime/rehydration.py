"""From the store back to a live instance: newest sound snapshot, then the turns after it, folded.

Requests gather while a read is under way and share the next one. Long histories are read page by
page, so that they neither fill memory nor hold up the loop. Runs no handler.
Next to read: ``core/replay.py`` (folding), ``supervisor.py`` (who asks).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import perdure.failpoints as failpoints
from perdure.core.commit import JournalRow
from perdure.core.correlation import split_key
from perdure.core.instance import Instance, ProcessedMessages
from perdure.core.replay import replay
from perdure.core.saga import Definition
from perdure.errors import CodecError, CorruptRecord, InstanceQuarantined, StoreError
from perdure.runtime.saga_actor import SagaActor
from perdure.runtime.services import Services
from perdure.store.protocol import LoadedInstance

__all__ = ["Folded", "Rehydration", "fold_loaded"]

logger = logging.getLogger("perdure.saga")

PAGE = 1_000


class Folded(NamedTuple):
    """An instance as the store has it."""

    instance: Instance
    processed: ProcessedMessages
    snapshot_nr: int


async def fold_loaded(services: Services, definition: Definition, loaded: LoadedInstance) -> Folded:
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
        instance = _fold(services, definition, folded, turns)
        while has_more:
            await asyncio.sleep(0)
            turns = await services.store.journal(loaded.instance, instance.sequence_nr, PAGE)
            instance = _fold(services, definition, folded._replace(instance=instance), turns)
            has_more = len(turns) == PAGE
    except StoreError as error:
        if isinstance(error, CorruptRecord):
            raise _quarantined(definition, loaded.instance, error) from error
        raise
    except Exception as error:
        raise _quarantined(definition, loaded.instance, error) from error
    return folded._replace(instance=instance)


def _from_snapshot(
    services: Services, definition: Definition, loaded: LoadedInstance
) -> tuple[Folded, Sequence[JournalRow] | None]:
    window = services.settings.processed_window
    processed = ProcessedMessages(window)
    snapshot = loaded.snapshot
    if snapshot is not None:
        try:
            instance = services.journal.decode_snapshot(
                loaded.instance, snapshot.sequence_nr, snapshot.body, processed
            )
            return Folded(instance, processed, snapshot.sequence_nr), loaded.turns
        except CodecError as error:
            logger.warning("snapshot of %s is passed over: %s", loaded.instance, error)
            processed = ProcessedMessages(window)
    _, correlation_id = split_key(loaded.instance)
    instance = Instance(loaded.instance, correlation_id, definition.initial_state())
    return Folded(instance, processed, 0), loaded.turns if snapshot is None else None


def _fold(
    services: Services, definition: Definition, folded: Folded, turns: Sequence[JournalRow]
) -> Instance:
    if not turns:
        return folded.instance
    decode = services.journal.decode_entry
    instance = folded.instance
    if failpoints.listener is not None:
        turns = list(failpoints.replayed(turns))
    for row in turns:
        folded.processed.add(row.message_id, row.sequence_nr)
    return replay(
        definition,
        instance,
        (decode(definition, instance, r.sequence_nr, r.message_id, r.body) for r in turns),
    )


def _quarantined(definition: Definition, key: str, error: Exception) -> InstanceQuarantined:
    return InstanceQuarantined(
        f"the instance cannot be rehydrated: {error}",
        saga=definition.name,
        correlation_id=split_key(key)[1],
        remedy="its rows are kept as they are; restore them, or run code that understands them",
    )


class Owner(Protocol):
    """Who asked for incarnations, and hears if one cannot be had."""

    def rehydration_failed(self, actor: SagaActor, error: Exception) -> None: ...


class Rehydration:
    """Loads instances for incarnations, up to ``rehydrations_max`` at a time."""

    def __init__(self, services: Services, owner: Owner) -> None:
        self.services = services
        self.owner = owner
        self._wanted: deque[SagaActor] = deque()
        self._reading: asyncio.Task[None] | None = None
        self._long: set[asyncio.Task[None]] = set()

    def request(self, actor: SagaActor) -> None:
        """Load the actor's instance; the actor takes its mail from then on."""
        self._wanted.append(actor)
        if self._reading is None:
            self._reading = asyncio.get_running_loop().create_task(self._read())

    async def stop(self) -> None:
        """Give up what is still wanted."""
        self._wanted.clear()
        under_way = [*self._long] if self._reading is None else [self._reading, *self._long]
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)

    async def _read(self) -> None:
        try:
            while self._wanted:
                room = self.services.settings.rehydrations_max - len(self._long)
                if room <= 0:
                    await asyncio.wait(self._long, return_when=asyncio.FIRST_COMPLETED)
                    continue
                size = min(len(self._wanted), room)
                await self._read_group([self._wanted.popleft() for _ in range(size)])
        finally:
            self._reading = None

    async def _read_group(self, actors: list[SagaActor]) -> None:
        try:
            found = await self.services.store.load([actor.key for actor in actors])
        except Exception as error:
            for actor in actors:
                self.owner.rehydration_failed(actor, error)
            return
        for actor, loaded in zip(actors, found, strict=True):
            if loaded.has_more:  # in a task of its own: the others do not wait for all its pages
                task = asyncio.get_running_loop().create_task(self._begin(actor, loaded))
                self._long.add(task)
                task.add_done_callback(self._long.discard)
            else:
                await self._begin(actor, loaded)

    async def _begin(self, actor: SagaActor, loaded: LoadedInstance) -> None:
        try:
            folded = await fold_loaded(self.services, actor.definition, loaded)
            actor.rehydrated(folded.instance, folded.processed, loaded.inbox, folded.snapshot_nr)
        except Exception as error:
            self.owner.rehydration_failed(actor, error)
