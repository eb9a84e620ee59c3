"""What a process has of a cluster from its start to its stop: session, router, host, threads.

    process = Process(database, blueprint, settings, name="pod-1", assigned=None, on_over=stop)
    await process.open()
    front = replace(blueprint, elsewhere=process.router.front)
    await process.host.start()
    await process.close()

Next to read: ``host.py``, ``router.py``.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import version as version_of

from perdure.cluster.doorbell import Doorbell
from perdure.cluster.host import Host
from perdure.cluster.ownerless import Ownerless
from perdure.cluster.router import Router
from perdure.cluster.settings import ClusterSettings
from perdure.cluster.sharing import Echo, SharedThreads, SharedTracing
from perdure.errors import DefinitionError, Escalated
from perdure.runtime.blueprint import Blueprint
from perdure.runtime.jobs.permits import Permits
from perdure.runtime.watching.vitals import Trouble
from perdure.store.ownership import HostId, HostRow, Kind, Ownership
from perdure.store.postgres import PostgresStore
from perdure.store.postgres_database import Database
from perdure.store.postgres_mail import PostgresMail
from perdure.store.session import SERVER_SETTINGS, Session, channel_of

__all__ = ["Process", "host_id"]

logger = logging.getLogger("perdure.cluster")


def host_id(name: str, kind: Kind) -> HostId:
    """A new life of a process of this name."""
    pid = os.getpid()
    return HostId(f"{kind}:{name}:{pid}:{secrets.token_hex(4)}", name, pid)


class Process:
    """One process of a cluster. ``blueprint`` is the front's; ``database`` is open.

    ``on_over`` is called when the process has to end, see ``Host``. ``bell`` says by what others
    are rung at, and heard; by PostgreSQL if it is not given.
    Raises DefinitionError for shards that there are not.
    """

    def __init__(
        self,
        database: Database,
        blueprint: Blueprint,
        settings: ClusterSettings,
        *,
        name: str,
        assigned: Sequence[int] | None,
        on_over: Callable[[Escalated | None], None],
        bell: Callable[[Session], Doorbell] = lambda session: session,
    ) -> None:
        self._database = database
        self._blueprint = blueprint
        _check_shards(assigned, database)
        kind = _kind(settings, assigned)
        self.session = _session(database, blueprint, settings, host_id(name, kind))
        self.router = Router(
            PostgresMail(database),
            bell(self.session),
            blueprint,
            shards=database.shards,
            name=self.session.host.text,
            channel=partial(channel_of, database.address.schema),
            poll_s=settings.poll_s,
        )
        self.host = Host(
            self.session,
            self._blueprint_of,
            settings,
            self.router,
            assigned=assigned,
            on_over=on_over,
        )
        self._permits = Permits()
        self.tracing = None if blueprint.tracing is None else SharedTracing(blueprint.tracing)
        """For the front, too."""
        # Whoever takes shards takes those that nobody has; who does not can only say so.
        self._ownerless = Ownerless(self.session, database.shards, 2 * settings.poll_s)
        self._tells_of_owners = kind is Kind.CLIENT
        self._observing = Echo(blueprint.observing)
        self._threads = SharedThreads(blueprint.threads, blueprint.settings.worker_threads_max)

    async def open(self) -> None:
        """Be known to the others, and hear answers. Raises StoreUnavailable."""
        await self.session.open()
        await self.router.start()
        if self._tells_of_owners:
            self._ownerless.start()

    async def close(self) -> None:
        """After the front has stopped, or has not come up. May be called twice."""
        await self._ownerless.stop()
        await self.host.stop()
        await self.router.stop()
        await self.session.close()
        self._threads.close()

    async def hosts(self) -> list[HostRow]:
        """The processes that take part."""
        return await self.session.ask(lambda connection, _: self.session.owners.hosts(connection))

    def troubles(self) -> tuple[Trouble, ...]:
        """What is wrong with this process as one of several."""
        found = [
            *self.host.troubles.present(),
            *self.host.strangers.trouble(),
            *self.host.skew.trouble(),
            *self._ownerless.troubles.present(),
        ]
        if not self.session.is_connected:
            found.append(Trouble("the session with the database", 1, "it was lost, and is made"))
        return tuple(found)

    def _blueprint_of(self, shard: int, epoch: int) -> Blueprint:
        """What the runtime of a shard is made of: the front's, but for what there is once."""
        blueprint = self._blueprint
        return replace(
            blueprint,
            store=PostgresStore(self._database, shard=shard, epoch=epoch),
            settings=replace(blueprint.settings, control_socket=False),
            threads=self._threads,
            observing=self._observing,
            tracing=self.tracing,
            elsewhere=self.router.of(shard),
            permits=self._permits,
        )


def _session(
    database: Database, blueprint: Blueprint, settings: ClusterSettings, host: HostId
) -> Session:
    owners = Ownership(
        database.address.schema, lease_s=settings.lease_s, absent_s=settings.absent_s
    )
    return Session(
        lambda: database.connect(SERVER_SETTINGS),
        owners,
        host,
        blueprint.clock.now_ms,
        version=version_of("perdure"),
        is_draining=True,  # until its host begins to take shards
        beat_s=settings.beat_s,
    )


def _kind(settings: ClusterSettings, assigned: Sequence[int] | None) -> Kind:
    if assigned is not None:
        return Kind.ASSIGNED
    return Kind.HOST if settings.takes_shards else Kind.CLIENT


def _check_shards(assigned: Sequence[int] | None, database: Database) -> None:
    unknown = [shard for shard in assigned or () if shard not in range(database.shards)]
    if unknown:
        raise DefinitionError(
            f"there is no shard {unknown[0]!r} in {database.shown}",
            remedy=f"it has {database.shards}: assign numbers from 0 to {database.shards - 1}",
        )
