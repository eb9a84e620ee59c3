"""What a store refuses, or cannot do.

    try:
        async with Runtime("sqlite+aiosqlite:///orders.db", [Order]) as runtime: ...
    except StoreLocked as error:
        print(error.problem, error.remedy)

Part of the tree in ``errors.py``, apart for its length. Next to read: ``store/protocol.py``.
"""

from __future__ import annotations

from perdure.error_base import PerdureError

__all__ = [
    "CorruptRecord",
    "Fenced",
    "Gone",
    "NotADatabase",
    "SchemaTooNew",
    "SchemaTooOld",
    "SequenceConflict",
    "StoreError",
    "StoreFull",
    "StoreLocked",
    "StoreNotWritable",
    "StoreUnavailable",
]


class StoreError(PerdureError):
    """The store refused or failed."""


class StoreUnavailable(StoreError):
    """The store cannot be opened, read or written now."""


class StoreNotWritable(StoreUnavailable):
    """The path does not exist or may not be written."""


class StoreFull(StoreUnavailable):
    """No space is left on the store's disk."""


class NotADatabase(StoreError):
    """The file is something else than a perdure database."""


class SchemaTooNew(StoreError):
    """The store was written by a newer version of perdure."""


class SchemaTooOld(StoreError):
    """The store was written by an older version of perdure, in a format this one cannot read."""


class StoreLocked(StoreError):
    """Another runtime owns the store."""


class SequenceConflict(StoreError):
    """The turn's sequence number is not the next one of its instance."""


class Gone(StoreError):
    """The job or dead letter to be changed, or the turn to be shown, is not there any more."""


class Fenced(StoreError):
    """The turn's epoch is over: another owner has taken the store since."""


class CorruptRecord(StoreError):
    """A stored row fails its checksum, or rows are missing."""
