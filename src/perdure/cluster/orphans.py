"""Shards that nobody runs: run by the others meanwhile, where each is told its own.

    orphans = Orphans(session)
    claimed = await orphans.claim()      # {5: 131}: this host's part of them

Whoever places hosts, as Ray does, sees that a process has ended, or a node does not answer. Of a
process that stands still on a node that is well it sees nothing; its beats stop all the same. So
what is silent for a lease is taken, whatever the reason. Whoever is known to be dead is left to who
placed him for so long: that is sooner, as a rule, and the shards stay where they belong. So is what
was given up: whoever drains comes anew, as a rule, but takes its own alone, and nothing that it had
of others.
A host that comes takes its own shards by force, also from here. Next to read: ``host.py``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection

from perdure.store.ownership import HostRow, Ownership
from perdure.store.session import Session

__all__ = ["Orphans", "part_of"]

logger = logging.getLogger("perdure.cluster")


def part_of(me: str, hosts: Collection[HostRow], nobodys: int = 0) -> int:
    """How many shards of hosts that are gone, and of ``nobodys``, this one takes; afterwards all
    share as evenly as can be, with what each has already."""
    orphans = nobodys + sum(len(host.shards) for host in hosts if host.is_gone)
    takers = {
        host.host: len(host.shards) for host in hosts if not host.is_gone and not host.is_draining
    }
    if me not in takers:
        return 0
    share = -(-(orphans + sum(takers.values())) // len(takers))
    return max(0, min(orphans, share - takers[me]))


class Orphans:
    """What the host of this session may take. One is gone here when it was silent for a lease."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._lease_s = lease_s = session.owners.lease_s
        self._owners = Ownership(session.owners.schema, lease_s=lease_s, absent_s=lease_s)
        self._nobodys: dict[int, float] = {}
        """Since when each of these was seen without an owner."""

    async def claim(self) -> dict[int, int]:
        """Take this host's part; the epoch of each shard. Raises StoreUnavailable."""
        hosts = await self._session.ask(lambda connection, _: self._owners.hosts(connection))
        if any(host.is_gone and not host.shards for host in hosts):
            await self._session.ask(self._owners.forget)
        part = part_of(self._session.host.text, hosts, await self._given_up())
        if not part:
            return {}
        claimed = await self._session.ask(self._owners.claim, part)
        if claimed:
            silent = ", ".join(f"{host.name} (pid {host.pid})" for host in hosts if host.is_gone)
            numbers = ", ".join(str(number) for number in sorted(claimed))
            why = f"since silent: {silent}" if silent else "which were given up, and nobody came"
            logger.warning("took over shards %s, %s", numbers, why)
        return claimed

    async def _given_up(self) -> int:
        """How many shards were given up, and are nobody's for a lease by now."""
        now_s, before = asyncio.get_running_loop().time(), self._nobodys
        found = await self._session.ask(lambda connection, _: self._owners.nobodys(connection))
        self._nobodys = {shard: before.get(shard, now_s) for shard in found}
        return sum(now_s - since_s >= self._lease_s for since_s in self._nobodys.values())
