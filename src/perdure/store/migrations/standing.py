"""Where the tables of a database stand. Next to read: ``running.py``."""

from __future__ import annotations

from dataclasses import dataclass

from perdure.store.postgres_schema import REVISION

__all__ = ["Standing"]


@dataclass(frozen=True, slots=True)
class Standing:
    """``revision`` and ``shards`` are None where there is nothing of ours.

    ``came_from`` is the revision before the upgrade that says this, else the same.
    """

    database: str
    schema: str
    came_from: str | None
    revision: str | None
    shards: int | None

    @property
    def is_current(self) -> bool:
        """Whether this is the revision that this code needs."""
        return self.revision == REVISION
