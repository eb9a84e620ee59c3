"""Sagas that a process does not know, though instances of theirs are in its shards.

Two versions of the code run side by side while one replaces the other. What the older one does not
know waits in its shards, messages and deadlines too; nothing is lost, and nothing goes on either.
So it is said, once for each saga, and shows in ``Vitals.troubles`` as long as it is so.
Next to read: ``host.py``.
"""

from __future__ import annotations

import logging

from perdure.runtime.running import Running
from perdure.runtime.watching.vitals import Trouble

__all__ = ["Strangers"]

logger = logging.getLogger("perdure.cluster")


class Strangers:
    """Of one process: how many live instances of unknown sagas there are, by shard."""

    def __init__(self) -> None:
        self._found: dict[int, dict[str, int]] = {}
        self._told: set[str] = set()

    async def look(self, shard: int, running: Running) -> None:
        """A shard has come: whose instances are in it? Raises StoreError."""
        known = running.supervisor.definitions
        found = {
            tally.saga: tally.running + tally.stuck
            for tally in await running.services.store.tallies()
            if tally.saga not in known and tally.running + tally.stuck
        }
        if found:
            self._found[shard] = found
        for saga in found.keys() - self._told:
            self._told.add(saga)
            logger.warning(
                "shard %d has %d instances of saga %r, which this process does not know: they wait "
                "until one that does owns the shard; end the processes with the older code, or, if "
                "the saga was given up, see to its instances with the code that has it",
                shard,
                found[saga],
                saga,
            )

    def left(self, shard: int) -> None:
        """The shard is not here any more."""
        self._found.pop(shard, None)

    @property
    def instances(self) -> dict[str, int]:
        """How many there are, by saga."""
        sums: dict[str, int] = {}
        for found in self._found.values():
            for saga, count in found.items():
                sums[saga] = sums.get(saga, 0) + count
        return sums

    def trouble(self) -> list[Trouble]:
        """What is to be said of it."""
        return [
            Trouble(f"saga {saga!r}", 1, f"unknown here; {count} instances wait")
            for saga, count in sorted(self.instances.items())
        ]
