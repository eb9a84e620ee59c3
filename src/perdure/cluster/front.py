"""What a service holds of a cluster: a runtime that owns no shard, before those that do.

    async with Cluster(url, [OrderFulfilment], cluster=ClusterSettings(lease_s=20)) as runtime:
        await runtime.send(runtime.ref(OrderFulfilment, "o-1"), PaymentReceived("o-1"))

Its deliveries go through ``Services.elsewhere`` (``router.py``): to the runtime of the key's shard
if that is in this process, else by mail. Its store is read only, and shows the whole database to
whoever looks. Next to read: ``process.py``, what it is made of; ``host.py``.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import version as version_of
from typing import Any, Self

from perdure.cluster.doorbell import Doorbell
from perdure.cluster.host import Host
from perdure.cluster.process import Process
from perdure.cluster.settings import ClusterSettings, checked_settings
from perdure.errors import DefinitionError, RuntimeNotRunning, StoreUnavailable
from perdure.observer import Observer
from perdure.queue import WorkQueue
from perdure.runtime.blueprint import Blueprint
from perdure.runtime.clock import Clock, SystemClock
from perdure.runtime.companions import Companion
from perdure.runtime.definitions import Saga
from perdure.runtime.running import Running
from perdure.runtime.runtime import Runtime
from perdure.runtime.threads import Threads
from perdure.runtime.watching.tracing import Tracing
from perdure.runtime.watching.vitals import Vitals
from perdure.settings import Settings
from perdure.store.ownership import HostRow
from perdure.store.postgres import PostgresStore
from perdure.store.postgres_database import Database
from perdure.store.protocol import Store
from perdure.store.session import Session

__all__ = ["Cluster"]

logger = logging.getLogger("perdure.cluster")


class Cluster(Runtime):
    """A ``Runtime`` of many processes: what it takes, it takes for any instance of the store.

    ``store``: the URL of a PostgreSQL database. ``name``: this process, for people; the machine's
    name and the pid by default. ``assigned``: these shards, taken by force at the start, and others
    only while nobody runs them, for an engine that places processes itself. All else is as
    with ``Runtime``. Of the ``settings``, ``residents_max``, ``worker_threads_max`` and the
    ``concurrency`` of a work queue hold for the process; the others for the front and for each
    shard.

    ``start`` raises StoreLocked while a ``Runtime`` owns the store alone.
    """

    _tells_at = logging.DEBUG  # it owns no shard, and has no epoch

    def __init__(
        self,
        store: str,
        members: Iterable[Saga | WorkQueue],
        settings: Settings | None = None,
        *,
        cluster: ClusterSettings | None = None,
        name: str | None = None,
        assigned: Sequence[int] | None = None,
        resources: Mapping[str, Any] | None = None,
        messages: Iterable[type] = (),
        clock: Clock | None = None,
        new_id: Callable[[], str] | None = None,
        random: Callable[[], float] | None = None,
        threads: Threads | None = None,
        observers: Iterable[Observer] = (),
        tracing: Tracing | None = None,
    ) -> None:
        self.cluster = checked_settings(cluster)
        self.name = name or _own_name()
        self._assigned = None if assigned is None else tuple(assigned)
        self._database = Database(_url(store), connections=self.cluster.connections)
        if clock is not None and not isinstance(clock, SystemClock):
            raise DefinitionError(
                "a cluster lives in real time", remedy="simulate with a Runtime, which is alone"
            )
        super().__init__(
            PostgresStore(self._database, read_only=True),
            members,
            settings,
            resources=resources,
            messages=messages,
            clock=clock,
            new_id=new_id,
            random=random,
            threads=threads,
            observers=observers,
            tracing=tracing,
        )
        self._process: Process | None = None

    @classmethod
    def of(cls, blueprint: Blueprint) -> Self:
        """One of many processes, of what a ``Runtime`` over PostgreSQL is made of.

        Raises ``DefinitionError`` for another store.
        """
        store = blueprint.store
        database = Database(_url(store)) if not isinstance(store, PostgresStore) else store.database
        looking = PostgresStore(database, read_only=True)
        made = super().of(replace(blueprint, store=looking))
        made.cluster, made.name, made._assigned = ClusterSettings(), _own_name(), None
        made._database, made._process = database, None
        return made

    def over(self, store: str | Store) -> Self:
        """The same over another database; see ``Runtime.over``."""
        made = super().over(store)
        made.cluster, made.name, made._assigned = self.cluster, self.name, self._assigned
        return made

    @property
    def host(self) -> Host:
        """The shards that are in this process. Raises ``RuntimeNotRunning``."""
        return self._joined.host

    @property
    def _joined(self) -> Process:
        if self._process is None:
            raise RuntimeNotRunning(
                "the process has not joined the cluster",
                remedy="use it inside `async with Cluster(…)`",
            )
        return self._process

    def _bell(self, session: Session) -> Doorbell:
        """By what this process rings at others, and hears them."""
        return session

    async def drain(self) -> None:
        """Give up all shards, and take no more; messages are still taken, and go to the others."""
        await self.host.drain()

    async def hosts(self) -> list[HostRow]:
        """The processes that take part, and their shards. Raises StoreUnavailable."""
        return await self._joined.hosts()

    # Life

    async def _start(self) -> None:
        try:
            await super()._start()
            self._on_loop().watch_over(lambda: any(r.dispatcher.is_on_loop for r in self.runnings))
            await self.host.start()
        except BaseException:
            await self.stop()
            await self._leave()
            raise
        await self._end_if_escalated()
        logger.info(
            "running over %s as %s, one process of a cluster: %d of %d shards are here",
            self._database.shown,
            self.name,
            len(self.host.owned),
            self._database.shards,
        )
        with suppress(StoreUnavailable):  # the session says so
            _tell_versions(await self.hosts())

    async def _open(self) -> int:
        epoch = await super()._open()  # sees that the tables are there, and are ours
        try:
            process = self._process = Process(
                self._database,
                self._blueprint,
                self.cluster,
                name=self.name,
                assigned=self._assigned,
                on_over=self._stop_soon,
                bell=self._bell,
            )
            await process.open()
        except BaseException:
            await self._leave()
            await self.store.close()
            raise
        return epoch

    def _run_as(self) -> Blueprint:
        process = self._joined
        return replace(self._blueprint, elsewhere=process.router.front, tracing=process.tracing)

    async def _finish(self, running: Running, companions: Sequence[Companion]) -> None:
        running.is_stopping = True  # take nothing more, while the shards finish what they have
        try:
            if self._process is not None:
                await self._process.host.stop()
        finally:
            try:
                await super()._finish(running, companions)
            finally:
                await self._leave()

    async def _leave(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            await process.close()

    # Looking

    async def settled(self) -> None:
        """Wait until all that was accepted in this process is answered, and its shards are quiet.

        What other processes have accepted is theirs to wait for.
        """
        front = self._parts()
        while True:
            for running in [front, *self.runnings]:
                await running.settled()
            if all(running.is_settled for running in [front, *self.runnings]):
                return

    @property
    def residents(self) -> int:
        """How many instances are in the memory of this process."""
        self._parts()
        return sum(len(running.supervisor.active) for running in self.runnings)

    def vitals(self) -> Vitals:
        """How this process is: its front and the runtimes of its shards in one."""
        front = super().vitals()
        if self._process is None:
            return front
        shards = [runtime.vitals() for runtime in self._process.host.runtimes]
        troubles = [trouble for one in (front, *shards) for trouble in one.troubles]
        return replace(
            front,
            residents=sum(one.residents for one in shards),
            # What the front has accepted for a shard of this process is counted there, too.
            in_flight=max(front.in_flight, sum(one.in_flight for one in shards)),
            write_error=next((one.write_error for one in shards if one.write_error), None),
            writing_s=max((one.writing_s for one in shards), default=0.0),
            troubles=(*self._process.troubles(), *troubles),
            under_way=frozenset().union(*(one.under_way for one in shards)),
        )

    async def probe(self, *, timeout_s: float = 1.0) -> Vitals:
        """As ``Runtime.probe``, of every shard in this process."""
        if self._process is not None:
            for runtime in list(self._process.host.runtimes):
                await runtime.probe(timeout_s=timeout_s)
        return self.vitals()

    @property
    def runnings(self) -> Sequence[Running]:
        """See ``Runtime.runnings``."""
        found = [] if self._process is None else self._process.host.runtimes
        return [runtime.running for runtime in found if runtime.running is not None]


def _tell_versions(hosts: Iterable[HostRow]) -> None:
    """While one perdure replaces another, they work side by side; for good they should not."""
    own = version_of("perdure")
    others = {row.version: row.name for row in hosts if not row.is_gone and row.version != own}
    for version, name in sorted(others.items()):
        logger.warning(
            "this process is of perdure %s, and %s of %s: they share the work, and what one does "
            "not know waits for the other; end the older ones soon",
            own, name, version,
        )  # fmt: skip


def _own_name() -> str:
    """Two processes of one machine are told apart."""
    return f"{socket.gethostname()}-{os.getpid()}"


def _url(store: object) -> str:
    if isinstance(store, str):
        return store
    raise DefinitionError(
        f"a cluster over a {type(store).__name__}",
        remedy='give the URL of a PostgreSQL database, "postgresql+asyncpg://user@host/database"',
    )
