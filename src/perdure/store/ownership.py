"""Who owns which shard of a PostgreSQL database: hosts that beat, shards with an epoch.

    owners = Ownership("perdure")
    await owners.register(connection, host)        # this session is the host's
    epochs = await owners.claim(connection, host, at_most=4)      # {3: 118, 7: 118}
    await owners.release(connection, host, epochs)

A **host** is one life of a process that takes part. It is gone when it has not beaten for a lease,
or for a moment while its session is not there any more (``kill -9``: the server closes it). Only
the database's clock is asked, at the moment of the decision; the hosts' own do not matter. Whoever
is wrongly held for gone loses nothing but time: an owner's every write checks its epoch in its own
transaction (``FENCE``), and an epoch is given out once.

A server that was away has lost all sessions at once. So nobody is held for gone because of his
session while the server, or the session of whoever judges, is young: all come back first.

Plain statements over an asyncpg connection, each one round trip and one transaction. Knows no
runtime. Next to read: ``session.py``, the connection of a host; ``cluster/host.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeAlias

import perdure.failpoints as failpoints
from perdure.errors import StoreLocked
from perdure.failpoints import Point
from perdure.store.ownership_statements import statements

if TYPE_CHECKING:
    import asyncpg

__all__ = ["Beat", "Connection", "HostId", "HostRow", "Kind", "Outlook", "Ownership"]


Connection: TypeAlias = "asyncpg.Connection[Any]"
"""asyncpg's, whose package an installation without PostgreSQL does not have."""


class Kind(StrEnum):
    """What a host is; the first part of its id."""

    HOST = "host"
    """Takes its fair share of what is free."""
    ASSIGNED = "assigned"
    """Is told its shards from outside, and takes them; and those that nobody runs for a lease."""
    CLIENT = "client"
    """Takes none, ever: it sends, and looks."""
    ALONE = "alone"
    """A runtime that owns every shard, and lets nobody beside it."""


@dataclass(frozen=True, slots=True)
class HostId:
    """One life of a process. ``text`` is unique: a process that comes again is another host.

    >>> HostId("host:pod-1:4711:9f3c0a2b", "pod-1", 4711).kind
    <Kind.HOST: 'host'>
    """

    text: str
    name: str
    pid: int

    @property
    def kind(self) -> Kind:
        """Which kind of host it is."""
        return Kind(self.text.partition(":")[0])


@dataclass(frozen=True, slots=True)
class Beat:
    """What the database says to a beat, at its own time.

    ``owned``: the epoch of each shard that is the host's. ``is_known`` is False if the host was
    held for gone and forgotten: it has to register again, and owns nothing.
    """

    at_ms: int
    owned: Mapping[int, int]
    is_known: bool


@dataclass(frozen=True, slots=True)
class Outlook:
    """How the shards are spread, for a host of ``Kind.HOST`` that wants its share.

    ``hosts`` are live and not draining; ``rank`` is its own place among them by seniority, from 0
    (-1: it drains). ``free`` shards have no live owner. ``alone`` names a live host, and its
    pid, that lets nobody beside it. So many ``ghosts`` are gone, own nothing, and can be forgotten.
    After ``soon_s`` an owner will be gone whose session has ended, if it does not come again.
    """

    shards: int
    hosts: int
    rank: int
    owned: int
    free: int
    alone: str | None
    ghosts: int
    soon_s: float | None = None

    @property
    def share(self) -> int:
        """How many shards are this host's: all shares differ by one at most, and use up all."""
        if self.rank < 0:
            return 0
        share, more = divmod(self.shards, self.hosts)
        return share + (self.rank < more)


@dataclass(frozen=True, slots=True)
class HostRow:
    """A host, for people. ``silent_s`` is how long ago it has beaten."""

    host: str
    name: str
    pid: int
    version: str
    silent_s: float
    is_gone: bool
    is_draining: bool
    shards: tuple[int, ...]


class Ownership:
    """The statements for one PostgreSQL schema.

    ``lease_s``: a host that is silent for longer is gone. ``absent_s``: so long it must have been
    silent to be gone when its session is not there; and so old a session must be to judge by that.
    """

    def __init__(self, schema: str, *, lease_s: float = 10.0, absent_s: float = 1.0) -> None:
        self.schema = schema
        self.lease_s = lease_s
        self.absent_s = absent_s
        self._sql = statements(schema)

    @property
    def _limits(self) -> tuple[float, float]:
        return self.lease_s, self.absent_s

    async def register(
        self, connection: Connection, host: HostId, version: str, is_draining: bool = False
    ) -> Beat:
        """This connection is the host's session from now on; again after each reconnect."""
        row = await connection.fetchrow(
            self._sql.register, host.text, host.name, host.pid, version, is_draining
        )
        return _beat(row)

    async def beat(self, connection: Connection, host: HostId) -> Beat:
        """The host is alive. What it owns, and the database's time."""
        return _beat(await connection.fetchrow(self._sql.beat, host.text))

    async def outlook(self, connection: Connection, host: HostId) -> Outlook:
        """How the shards are spread."""
        row = await connection.fetchrow(self._sql.outlook, host.text, *self._limits)
        return Outlook(*row)

    async def claim(self, connection: Connection, host: HostId, at_most: int) -> dict[int, int]:
        """Take up to so many shards that are nobody's, or of somebody who is gone.

        One statement: of several claimers each gets others. One whose owner is just writing is
        left out, and free at the next try. Returns the epoch of each shard taken.
        """
        failpoints.reach(Point.OWNING)
        rows = await connection.fetch(self._sql.claim, host.text, *self._limits, at_most)
        failpoints.reach(Point.OWNING)
        return {row["shard"]: row["epoch"] for row in rows}

    async def take(
        self, connection: Connection, host: HostId, shards: Sequence[int]
    ) -> dict[int, int]:
        """Take these shards, whoever owns them: it is fenced from then on.

        Waits for a write of the owner that is under way, which then counts.
        Raises StoreLocked while a runtime owns all shards.
        """
        failpoints.reach(Point.OWNING)
        rows = await connection.fetch(self._sql.take, host.text, *self._limits, list(shards))
        failpoints.reach(Point.OWNING)
        taken = {row["shard"]: row["epoch"] for row in rows}
        if len(taken) < len(set(shards)):
            raise _locked(await self._others(connection, host))
        return taken

    async def take_all(self, connection: Connection, host: HostId) -> int:
        """Take every shard, for a runtime that lets nobody beside it; returns the epoch.

        Raises StoreLocked naming the live hosts that own some.
        """
        async with connection.transaction():
            # One at a time: of two that come together, the second one sees the first.
            await connection.execute(self._sql.lock_shards)
            owners = [row for row in await self._others(connection, host) if row.shards]
            if owners:
                raise _locked(owners)
            epoch: int = await connection.fetchval(self._sql.take_all, host.text)
            failpoints.reach(Point.OWNING)
        failpoints.reach(Point.OWNING)
        return epoch

    async def release(
        self, connection: Connection, host: HostId, epochs: Mapping[int, int]
    ) -> list[int]:
        """Give these shards up, each if it is still the host's under this epoch; returns those."""
        failpoints.reach(Point.RELEASING)
        rows = await connection.fetch(
            self._sql.release, host.text, list(epochs.keys()), list(epochs.values())
        )
        failpoints.reach(Point.RELEASING)
        return [row["shard"] for row in rows]

    async def shards(self, connection: Connection, host: HostId) -> int:
        """How many there are."""
        count: int = await connection.fetchval(self._sql.shards)
        return count

    async def nobodys(self, connection: Connection) -> list[int]:
        """The shards that had an owner, which has given them up, and have none."""
        return [row["shard"] for row in await connection.fetch(self._sql.nobodys)]

    async def drain(self, connection: Connection, host: HostId, is_draining: bool = True) -> None:
        """The host wants no share any more; it still owns what it owns."""
        await connection.execute(self._sql.drain, host.text, is_draining)

    async def leave(self, connection: Connection, host: HostId) -> None:
        """The host ends: whatever it still owns is free at once."""
        failpoints.reach(Point.RELEASING)
        await connection.execute(self._sql.leave, host.text)
        failpoints.reach(Point.RELEASING)

    async def forget(self, connection: Connection, host: HostId) -> None:
        """Forget the hosts that are gone and own nothing any more."""
        await connection.execute(self._sql.forget, host.text, *self._limits)

    async def hosts(self, connection: Connection) -> list[HostRow]:
        """All hosts, the oldest first; those that are gone are forgotten once they own nothing."""
        rows = await connection.fetch(self._sql.hosts, *self._limits)
        return [HostRow(**{**row, "shards": tuple(row["shards"])}) for row in rows]

    async def _others(self, connection: Connection, host: HostId) -> list[HostRow]:
        rows = await self.hosts(connection)
        return [row for row in rows if not row.is_gone and row.host != host.text]


def _beat(row: Any) -> Beat:
    owned = dict(zip(row["shards"], row["epochs"], strict=True))
    return Beat(row["at_ms"], owned, row["is_known"])


def _locked(living: Sequence[HostRow]) -> StoreLocked:
    named = ", ".join(f"{row.name} (pid {row.pid})" for row in living) or "another runtime"
    return StoreLocked(
        f"the store is owned by {named}",
        remedy="stop it first, or run both as hosts of one cluster: perdure.cluster.Cluster",
    )
