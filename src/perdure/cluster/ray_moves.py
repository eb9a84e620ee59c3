"""Hosts from node to node: drained, ended, and made anew where there is room.

Ray restarts an actor that it is told to kill, but where it likes: of three nodes it may take the
full one again. So a host that moves is made anew, on the node that holds fewest. Between the two
its shards have no owner, for a second or two; should this process die just then, ``up`` makes the
host that misses. Next to read: ``ray_places.py``, which has to move.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable

from perdure.cluster.ray_engine import RayError
from perdure.cluster.ray_hosts import HostStatus, RayHosts
from perdure.cluster.ray_places import surplus

__all__ = ["move", "move_all", "moving"]

logger = logging.getLogger("perdure.ray")


def moving(statuses: Iterable[HostStatus], nodes: Iterable[str]) -> list[int]:
    """Those that have to move for the nodes to hold as many each. Who is absent stays."""
    return surplus({one.host: one.node for one in statuses if one.node}, nodes)


async def move_all(
    hosts: RayHosts, leaving: Iterable[int], nodes: Iterable[str], within_s: float
) -> None:
    """Move these, one after another, each to the node that holds fewest then.

    Raises ``RayError`` if there is no node to go to.
    """
    going, targets = list(leaving), sorted(nodes)
    if going and not targets:
        raise RayError(
            "there is no other node for the hosts to go to",
            remedy="add a node first: ray start --address=<head> --num-cpus=…",
        )
    held = Counter(one.node for one in await hosts.statuses() if one.host not in going)
    for host in going:
        node = min(targets, key=lambda one: held[one])
        held[node] += 1
        await move(hosts, host, node, within_s)


async def move(hosts: RayHosts, host: int, node: str | None, within_s: float) -> None:
    """Move one: to this node if it can be had then, to any if None.

    One that does not answer, as when its process hangs, is killed, and Ray starts it again where it
    likes. What it had accepted is in its mail, or in the journal.
    """
    plan = await hosts.plan(host)
    if plan is None:
        logger.warning("host %d does not answer, and is killed", host)
        await hosts.restart(host)
        return
    await hosts.drain(host, within_s)
    await hosts.end(host)
    await hosts.make(plan, node)
    logger.info("host %d goes to node %s", host, (node or "any")[:8])
