"""What is seen of instances and queues from outside their runtime; the rest is None.

Next to read: ``runtime/looking/gathering_facts.py``, which asks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from perdure.core.commit import OutboxRow
from perdure.core.instance import Instance
from perdure.core.outgoing import SAGAS
from perdure.core.wait_facts import QueueFact
from perdure.ops.instance_reader import InstanceReader
from perdure.runtime.looking.gathering_facts import paused_queues
from perdure.runtime.looking.reading import Reading
from perdure.runtime.looking.why import interests_of

__all__ = ["DistantSight"]


class DistantSight:
    """Implements ``Sight`` over a store alone."""

    is_live = False

    def __init__(self, reading: Reading, instances: InstanceReader) -> None:
        self._reading = reading
        self._instances = instances

    async def instance(self, key: str) -> Instance | None:
        """See ``Sight.instance``."""
        return (await self._instances.read(key)).instance

    async def queues(self, jobs: Sequence[OutboxRow]) -> Mapping[str, QueueFact]:
        """See ``Sight.queues``."""
        names = {row.target for row in jobs} - {SAGAS}
        return await paused_queues(self._reading, names) if names else {}

    def takes(self, saga: str, state: Any) -> tuple[str, ...] | None:
        """See ``Sight.takes``."""
        definition = self._instances.definitions.get(saga)
        return None if definition is None else interests_of(definition, state)
