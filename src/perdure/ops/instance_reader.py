"""Instances out of a store, with the code of their saga or without. Folds; runs no handler.

Next to read: ``foreign.py``, what can be done without the code; ``inspection.py``, who asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from perdure.core.correlation import split_key
from perdure.core.instance import Instance
from perdure.core.saga import Definition
from perdure.errors import CorruptRecord
from perdure.ops.foreign import foreign_definition
from perdure.runtime.instances.rehydration import fold_loaded
from perdure.runtime.looking.reading import Reading
from perdure.runtime.looking.then import At, instance_at

__all__ = ["InstanceReader", "Read"]


@dataclass(frozen=True, slots=True)
class Read:
    """An instance, there or not. Its state is that after turn ``state_nr``; None: it is unknown."""

    instance: Instance
    state_nr: int | None


class InstanceReader:
    """Reads instances by key. ``definitions`` are those of the sagas whose code is here."""

    def __init__(self, reading: Reading, definitions: Mapping[str, Definition]) -> None:
        self._reading = reading
        self.definitions = definitions

    async def read(self, key: str) -> Read:
        """The instance as it is. Raises ``InstanceQuarantined`` if it cannot be read."""
        definition, is_folded = await self._definition(key)
        (loaded,) = await self._reading.store.load([key])
        folded = await fold_loaded(self._reading, definition, loaded)
        state_nr = folded.instance.sequence_nr if is_folded else folded.snapshot_nr
        return Read(folded.instance, state_nr or None)

    async def read_at(self, key: str, at: At) -> Read | None:
        """The instance as it was; see ``instance_at``."""
        definition, is_folded = await self._definition(key)
        instance = await instance_at(self._reading, definition, key, at)
        if instance is None:
            return None
        return Read(instance, instance.sequence_nr if is_folded else None)

    async def _definition(self, key: str) -> tuple[Definition, bool]:
        saga = split_key(key)[0]
        known = self.definitions.get(saga)
        if known is not None:
            return known, True
        store = self._reading.store
        try:
            first = await store.journal(key, 0, 1)
        except CorruptRecord:
            first = []
        snapshots = await store.snapshots(key)
        return foreign_definition(saga, self._reading.journal, snapshots, first)
