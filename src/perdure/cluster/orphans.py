"""Shards of hosts that hang: run by the others meanwhile, where each is told its own.

    orphans = Orphans(session)
    claimed = await orphans.claim()      # {5: 131}: this host's part of them

Whoever places hosts, as Ray does, sees that a process has ended, or a node does not answer. Of a
process that stands still on a node that is well it sees nothing; its beats stop all the same. So
what is silent for a lease is taken, whatever the reason. Whoever is known to be dead is left to who
placed him for so long: that is sooner, as a rule, and the shards stay where they belong.
A host that comes takes its own shards by force, also from here. Next to read: ``host.py``.
"""

from __future__ import annotations

import logging
from collections.abc import Collection

from perdure.store.ownership import HostRow, Ownership
from perdure.store.session import Session

__all__ = ["Orphans", "part_of"]

logger = logging.getLogger("perdure.cluster")


def part_of(me: str, hosts: Collection[HostRow]) -> int:
    """How many shards of hosts that are gone this one takes; afterwards all share as evenly as can
    be, with what each has already."""
    orphans = sum(len(host.shards) for host in hosts if host.is_gone)
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
        lease_s = session.owners.lease_s
        self._owners = Ownership(session.owners.schema, lease_s=lease_s, absent_s=lease_s)

    async def claim(self) -> dict[int, int]:
        """Take this host's part; the epoch of each shard. Raises StoreUnavailable."""
        hosts = await self._session.ask(lambda connection, _: self._owners.hosts(connection))
        if any(host.is_gone and not host.shards for host in hosts):
            await self._session.ask(self._owners.forget)
        part = part_of(self._session.host.text, hosts)
        if not part:
            return {}
        claimed = await self._session.ask(self._owners.claim, part)
        if claimed:
            silent = ", ".join(f"{host.name} (pid {host.pid})" for host in hosts if host.is_gone)
            numbers = ", ".join(str(number) for number in sorted(claimed))
            logger.warning("took over shards %s, since silent: %s", numbers, silent)
        return claimed
