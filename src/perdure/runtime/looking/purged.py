"""Whether an instance was purged: only its tombstone is left, a snapshot without a state.

Next to read: ``retention/purging.py``, which puts it there.
"""

from __future__ import annotations

from perdure.core.correlation import split_key
from perdure.errors import InstancePurged
from perdure.runtime.looking.reading import Reading
from perdure.store.protocol import LoadedInstance

__all__ = ["check_kept", "is_tombstone", "not_kept"]


def is_tombstone(reading: Reading, loaded: LoadedInstance) -> bool:
    """What was read of an instance is its tombstone."""
    snapshot = loaded.snapshot
    return snapshot is not None and reading.journal.read_snapshot(snapshot.body).state is None


async def check_kept(reading: Reading, key: str, what: str) -> None:
    """Raises ``InstancePurged`` if a tombstone is all that is left of the instance."""
    (loaded,) = await reading.store.load([key])
    if loaded.corrupt is None and is_tombstone(reading, loaded):
        raise not_kept(key, what)


def not_kept(key: str, what: str) -> InstancePurged:
    """The error for what an instance that was purged has no more."""
    remedy = "keep its instances longer, by the saga's retention, or copy what you need at the end"
    saga, correlation_id = split_key(key)
    return InstancePurged(
        f"{what} is not kept any more", saga=saga, correlation_id=correlation_id, remedy=remedy
    )
