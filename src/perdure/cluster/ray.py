"""Hosts on Ray: it places them on nodes, sees that they live, and starts them again elsewhere.

    from perdure.cluster import ray

    await ray.up("shop.service:runtime", "postgresql+asyncpg://…/orders", hosts=4)
    for host in (await ray.status()).hosts:
        print(host.host, host.state, host.node, host.shards)
    await ray.drain("10.0.0.7")     # before that node is taken away
    await ray.rebalance()           # after nodes have come
    await ray.down()

Host k of H owns the shards s with s % H = k, for as long as PostgreSQL says so: truth, mail and
fence are there, and Ray may be wrong about who lives. Of one that is silent there for a lease the
others take the shards, whether Ray sees it or not. Nothing passes through Ray but "look".
Whoever sends needs no Ray: an ordinary ``Cluster`` that takes no shards reaches the hosts through
PostgreSQL alone.

Needs the extra ``ray`` where hosts run and where these functions are called; everything raises
``RayError``. A process that calls them is a driver of Ray for as long as that takes; where
``ray.init`` was called before, that connection is used, and kept.

    ray_host.py    the actor          ray_hosts.py  actors made, asked, ended    ray_places.py
    ray_life.py    its thread         ray_moves.py  drain and rebalance          ray_versions.py
    ray_engine.py  the way to Ray     ray_bell.py   a doorbell for drivers
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from perdure.cluster.ray_engine import NAMESPACE as NAMESPACE
from perdure.cluster.ray_engine import RayError as RayError
from perdure.cluster.ray_engine import connected
from perdure.cluster.ray_host import HostPlan
from perdure.cluster.ray_hosts import HostStatus as HostStatus
from perdure.cluster.ray_hosts import RayHosts
from perdure.cluster.ray_moves import move, move_all, moving
from perdure.cluster.ray_places import check_share
from perdure.cluster.ray_versions import versions
from perdure.errors import DefinitionError, StoreUnavailable
from perdure.store.postgres_address import Address, is_postgres

__all__ = [
    "HostStatus",
    "NodeStatus",
    "RayError",
    "RayStatus",
    "down",
    "drain",
    "rebalance",
    "status",
    "up",
]

logger = logging.getLogger("perdure.ray")

_LEFT = "hosts %s are ended again; if that is cut short: perdure ray down --schema %s"

SCHEMA = "perdure"
ASK_AGAIN_S = 0.2


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """A node of the cluster of Ray. ``takes_hosts``: it has a CPU to give."""

    node: str
    address: str
    takes_hosts: bool


@dataclass(frozen=True, slots=True)
class RayStatus:
    """The hosts of a schema, and the nodes of the cluster that live.

    ``schemas``: those that have hosts in this cluster, as far as it was asked for.
    """

    hosts: Sequence[HostStatus]
    nodes: Sequence[NodeStatus] = field(default_factory=list)
    schemas: Sequence[str] = ()

    @property
    def is_whole(self) -> bool:
        """Whether every host that should be there runs."""
        return 0 < self._wanted == sum(one.state == "running" for one in self.hosts)

    @property
    def missing(self) -> list[int]:
        """The hosts that should be there, and that Ray does not know."""
        return sorted(set(range(self._wanted)) - {one.host for one in self.hosts})

    @property
    def _wanted(self) -> int:
        return max((one.hosts for one in self.hosts), default=0)


async def up(
    app: str,
    store: str | None = None,
    *,
    hosts: int = 4,
    schema: str | None = None,
    address: str = "auto",
    options: Mapping[str, Any] | None = None,
    within_s: float = 60.0,
) -> RayStatus:
    """Have Ray run so many hosts, and wait until all own their shards; may be called again.

        await ray.up("shop.service:runtime", "postgresql+asyncpg://…/orders", hosts=4)

    ``app``: module:attribute of a ``Runtime`` that was not started, or of a function that makes
    one. It is imported on the nodes, so the code has to be there. ``store``: its URL, password and
    all, is kept by Ray; None: the app names it, as from the node's environment. ``schema`` is in
    the names of the hosts; by default it is the URL's. ``options``: more of Ray's for the actors,
    such as ``{"runtime_env": …}`` or ``{"resources": …}``.

    Hosts that miss are made, those that run are left. Raises ``RayError`` if hosts run there that
    were made otherwise, if a node has another Ray or Python, or if not all run ``within_s``: what
    this call made is ended then. ``DefinitionError`` for arguments that can never do, such as
    more hosts than there are shards.
    """
    _check(app, hosts, options)
    schema = schema or (SCHEMA if store is None else _schema_of(store))
    if store is not None and is_postgres(store):
        await _check_shards(store, hosts)
    async with connected(address) as ray:
        seen = RayHosts(ray, schema)
        _check_same(await seen.statuses(), app, hosts)
        missing = sorted(set(range(hosts)) - set(await seen.numbers()))
        try:
            for host in missing:
                plan = HostPlan(app, store, schema, host, hosts, versions(), dict(options or {}))
                await seen.make(plan)
            found = await _until_running(seen, within_s)
        except BaseException:
            if missing:
                logger.warning(_LEFT, ", ".join(map(str, missing)), schema)
            await _end_all(seen, missing)
            raise
        return RayStatus(found, _nodes(ray))


async def status(*, schema: str = SCHEMA, address: str = "auto") -> RayStatus:
    """How the hosts stand, and which nodes live."""
    async with connected(address) as ray:
        seen = RayHosts(ray, schema)
        return RayStatus(await seen.statuses(), _nodes(ray), await seen.schemas())


async def drain(
    target: int | str, *, schema: str = SCHEMA, address: str = "auto", within_s: float = 60.0
) -> RayStatus:
    """Move a host to another process, or all hosts off a node, finishing what they accepted.

        await ray.drain(3)               # a host: it comes up anew, with the code of now
        await ray.drain("10.0.0.7")      # a node, by its address or the beginning of its id

    A host goes to its own node again, the hosts of a node to the others. A drained node is not
    closed for what Ray starts later: take it away (``ray stop`` there). Raises ``RayError`` if
    there is no such host or node, no other node, or the hosts do not run again ``within_s``.
    """
    async with connected(address) as ray:
        seen = RayHosts(ray, schema)
        nodes = _nodes(ray)
        if isinstance(target, int) or (target.isdecimal() and len(target) < 4):
            standing = await seen.status(int(target))
            await move(seen, int(target), standing.node or None, within_s)
        else:
            node = _named(target, nodes)
            there = [one.host for one in await seen.statuses() if one.node == node.node]
            others = [one.node for one in nodes if one.takes_hosts and one is not node]
            await move_all(seen, there, others, within_s)
        return RayStatus(await _until_running(seen, within_s), _nodes(ray))


async def rebalance(
    *, schema: str = SCHEMA, address: str = "auto", within_s: float = 60.0
) -> RayStatus:
    """Move as few hosts as can be, so that no node holds two more than another.

    Ray moves no actor when nodes come. Each that moves is drained first; its shards are without an
    owner for the second or two that its process takes to start.
    """
    async with connected(address) as ray:
        seen = RayHosts(ray, schema)
        nodes = [one.node for one in _nodes(ray) if one.takes_hosts]
        await move_all(seen, moving(await seen.statuses(), nodes), nodes, within_s)
        return RayStatus(await _until_running(seen, within_s), _nodes(ray))


async def down(*, schema: str = SCHEMA, address: str = "auto", within_s: float = 60.0) -> list[int]:
    """Drain all hosts and end them; returns which. What waits in PostgreSQL waits there."""
    async with connected(address) as ray:
        seen = RayHosts(ray, schema)
        numbers = await seen.numbers()
        await asyncio.gather(*(seen.drain(host, within_s) for host in numbers))
        await _end_all(seen, numbers)
        return numbers


async def _end_all(seen: RayHosts, numbers: Sequence[int]) -> None:
    for host in numbers:
        with suppress(RayError):  # somebody else has ended it
            await seen.end(host)


async def _check_shards(store: str, hosts: int) -> None:
    """Refuse what the hosts would refuse, before any is made, if the database is seen from here."""
    from perdure.store.postgres_database import Database  # asyncpg is an extra

    database = Database(store, read_only=True)
    try:
        await database.open()
    except StoreUnavailable as error:
        logger.warning("how many shards there are is left to the hosts to see: %s", error)
        return
    await database.close()
    check_share(hosts, database.shards)


def _schema_of(store: str) -> str:
    """The schema that a store's URL names."""
    return Address.of(store).schema if is_postgres(store) else SCHEMA


def _check(app: str, hosts: int, options: Mapping[str, Any] | None) -> None:
    module, colon, name = app.partition(":")
    if not (module and colon and name):
        raise DefinitionError(
            f"{app!r} names no attribute of a module", remedy="give module:attribute"
        )
    if type(hosts) is not int or not 0 < hosts <= 1000:
        raise DefinitionError(f"{hosts!r} hosts", remedy="give a whole number from 1 to 1000")
    ours = {"name", "namespace", "lifetime", "max_restarts", "max_task_retries"} & set(
        options or {}
    )
    if ours:
        raise DefinitionError(
            f"the options {', '.join(sorted(ours))} are not to be chosen",
            remedy="leave them away: a host is named, detached, and started again for ever",
        )


def _check_same(found: Sequence[HostStatus], app: str, hosts: int) -> None:
    for one in found:
        made = (one.app, one.hosts)
        if (one.host >= hosts) or (one.app and made != (app, hosts)):
            raise RayError(
                f"host {one.host} is there already, of {one.hosts or 'more'} for {one.app!r}",
                remedy="perdure ray down first; a shard has one host, by the number of hosts",
            )


async def _until_running(seen: RayHosts, within_s: float) -> list[HostStatus]:
    """Wait until every host runs. Raises ``RayError`` saying which does not, and why."""
    loop = asyncio.get_running_loop()
    until_s = loop.time() + within_s
    while True:
        found = await seen.statuses()
        others = [one for one in found if one.state != "running"]
        if not others:
            return found
        if any(one.is_final for one in others) or loop.time() > until_s:
            raise _not_running(others, any(node.takes_hosts for node in _nodes(seen.ray)))
        await asyncio.sleep(ASK_AGAIN_S)


def _not_running(hosts: Sequence[HostStatus], has_room: bool) -> RayError:
    alike: dict[str, list[int]] = {}
    for one in hosts:
        alike.setdefault(f"{one.state}: {one.error or 'no error'}", []).append(one.host)
    lines = [
        f"{'host' if len(numbers) == 1 else 'hosts'} {', '.join(map(str, numbers))} "
        f"{'is' if len(numbers) == 1 else 'are'} {how}"
        for how, numbers in alike.items()
    ]
    log = "see the log of the host, worker-*.err in Ray's session directory there"
    add = "no node takes hosts: add one, ray start --address=<head> --num-cpus=2"
    return RayError(f"not all hosts run: {'; '.join(lines)}", remedy=log if has_room else add)


def _nodes(ray: Any) -> list[NodeStatus]:
    return [
        NodeStatus(one["NodeID"], one["NodeManagerAddress"], one["Resources"].get("CPU", 0) > 0)
        for one in ray.nodes()
        if one["Alive"]
    ]


def _named(target: str, nodes: Sequence[NodeStatus]) -> NodeStatus:
    """The one node of this address, or whose id begins so."""
    found = [one for one in nodes if target == one.address or one.node.startswith(target)]
    if len(found) == 1 and target:
        return found[0]
    problem = "several nodes are" if found else "no node is"
    raise RayError(
        f"{problem} {target!r}", remedy="give the beginning of an id that perdure ray status shows"
    )
