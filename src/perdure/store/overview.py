"""What is seen of a store that many processes share: whose its shards are, and its mail.

    overview = overview_of(store)          # None: one process owns it, and nothing is mailed
    hosts = await overview.hosts()

For people who look on, read only. Knows rows, never sagas. Next to read:
``postgres_overview.py``, which reads them; ``ownership.py``; ``mail.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from perdure.store.mail import MailRow
from perdure.store.ownership import HostRow

__all__ = ["MailAhead", "Overview", "overview_of", "owner_of"]


@dataclass(frozen=True, slots=True)
class MailAhead:
    """``count`` rows of mail wait, the oldest since ``since_ms``; counted up to a thousand."""

    count: int
    since_ms: int


class Overview(Protocol):
    """The reads. Each is bounded; raises ``StoreError``."""

    @property
    def shards(self) -> int:
        """How many there are."""
        ...

    def shard_of(self, instance: str) -> int:
        """Where an instance belongs."""
        ...

    async def hosts(self) -> list[HostRow]:
        """The processes that take part, the oldest first."""
        ...

    async def mail(self, after: int, limit: int) -> list[MailRow]:
        """Rows of mail behind a position, in order."""
        ...

    async def mail_for(self, instance: str) -> MailAhead | None:
        """What waits there for an instance, None for nothing."""
        ...

    async def mail_ahead(self) -> MailAhead | None:
        """What waits there at all, None for nothing."""
        ...


def overview_of(store: object) -> Overview | None:
    """What is seen of a shared store; None for one that a single process owns."""
    found: Overview | None = getattr(store, "overview", None)
    return found


def owner_of(shard: int, hosts: Sequence[HostRow]) -> HostRow | None:
    """The live owner of a shard, None for none."""
    return next((row for row in hosts if not row.is_gone and shard in row.shards), None)
