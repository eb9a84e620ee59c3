"""Processes of a cluster, all in this one: mail and doorbells in memory, a memory store per shard.

async with cluster(2) as (a, b):
    await a.own(*range(0, 8)); await b.own(*range(8, 16))
    await a.runtime.send(a.runtime.ref(Ledger, "x"), Opened("x"))
    b.kill()                                  # nothing of it is heard of again
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from perdure import MemoryStore, Runtime, Settings
from perdure.cluster.router import Router
from perdure.codec.codec import Codec
from perdure.errors import StoreUnavailable, UnknownType
from perdure.runtime.running import Running
from perdure.runtime.threads import SystemThreads
from perdure.store.mail import MailRow, Trace
from perdure.store.shards import shard_of
from tests.sagas import Ledger

SHARDS = 4


class Table:
    """The rows of mail, as the database has them."""

    def __init__(self) -> None:
        self.rows: dict[int, MailRow] = {}
        self.last = 0
        self.puts: list[MailRow] = []
        self.stores: Sequence[MemoryStore] = ()

    def positions(self, count: int) -> list[int]:
        found = list(range(self.last + 1, self.last + count + 1))
        self.last += count
        return found


class Cut:
    """Whether a process is still there; what is asked of one that is not never answers."""

    def __init__(self) -> None:
        self.is_cut = False

    async def here(self) -> None:
        await asyncio.sleep(0)
        if self.is_cut:
            await asyncio.get_running_loop().create_future()


class PodMail:
    """One process's connection to the table. ``fails`` counts down: so many puts fail before they
    are written, ``loses``: so many after. ``looks``: so often one was looked for."""

    def __init__(self, table: Table, cut: Cut, bell: PodBell) -> None:
        self.table = table
        self.cut = cut
        self.bell = bell
        self.fails = self.loses = self.unremoved = self.looks = 0
        self.gate: asyncio.Event | None = None
        self.page_gate: asyncio.Event | None = None

    async def put(self, rows: Sequence[MailRow], bells: Sequence[str] | None = None) -> list[int]:
        await self.cut.here()
        if self.fails:
            self.fails -= 1
            raise StoreUnavailable("no mail today")
        positions = self.table.positions(len(rows))
        if self.gate is not None:  # its positions are taken, and nobody sees its rows
            await self.gate.wait()
        for row, position in zip(rows, positions, strict=True):
            made = replace(row, position=position)
            self.table.rows[position] = made
            self.table.puts.append(made)
        for bell in bells or ():
            self.bell.notify(bell)
        if self.loses:
            self.loses -= 1
            raise StoreUnavailable("the connection was lost")
        await self.cut.here()
        return positions

    async def page(
        self,
        shard: int | None,
        epoch: int,
        under_way: Collection[int] = (),
        aside: Collection[str] = (),
        limit: int = 1000,
    ) -> Sequence[MailRow]:
        await self.cut.here()
        found = [
            row
            for position, row in sorted(self.table.rows.items())
            if shard in (None, shard_of(row.instance, SHARDS))
            and position not in under_way
            and row.instance not in aside
        ]
        await self.cut.here()
        if self.page_gate is not None:
            await self.page_gate.wait()
        return found[:limit]

    async def waiting(self, shards: Sequence[int]) -> set[int]:
        await self.cut.here()
        rows = self.table.rows.values()
        return {shard_of(row.instance, SHARDS) for row in rows} & set(shards)

    async def remove(self, rows: Sequence[MailRow], epoch: int) -> None:
        await self.cut.here()
        if self.unremoved:
            self.unremoved -= 1
            raise StoreUnavailable("not now")
        for row in rows:
            self.table.rows.pop(row.position, None)
        await self.cut.here()

    async def traces(self, letters: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Trace]:
        await self.cut.here()
        self.looks += 1
        found: dict[tuple[str, str], Trace] = {}
        for instance, message_id in letters:
            for position, row in self.table.rows.items():
                if (row.instance, row.message_id) == (instance, message_id):
                    found[instance, message_id] = Trace(position, 0)
            for turn in await self.table.stores[shard_of(instance, SHARDS)].journal(instance):
                if turn.message_id == message_id:
                    found[instance, message_id] = Trace(0, turn.sequence_nr)
        return found

    async def present(self, positions: Sequence[int]) -> set[int]:
        await self.cut.here()
        return {position for position in positions if position in self.table.rows}


class Bells:
    """The channels of the database."""

    def __init__(self) -> None:
        self.hearers: dict[str, list[tuple[Cut, Callable[[str], None]]]] = {}
        self.is_deaf: Callable[[str, str], bool] = lambda channel, payload: False
        self.rung: list[str] = []


class PodBell:
    """One process's session."""

    def __init__(self, bells: Bells, cut: Cut) -> None:
        self.bells = bells
        self.cut = cut

    async def listen(self, channel: str, hear: Callable[[str], None]) -> None:
        await self.cut.here()
        self.bells.hearers.setdefault(channel, []).append((self.cut, hear))

    async def unlisten(self, channel: str) -> None:
        mine = [one for one in self.bells.hearers.get(channel, ()) if one[0] is not self.cut]
        self.bells.hearers[channel] = mine

    def notify(self, channel: str, payload: str = "") -> None:
        if self.cut.is_cut or self.bells.is_deaf(channel, payload):
            return
        self.bells.rung.append(channel)
        for cut, hear in self.bells.hearers.get(channel, ()):
            if not cut.is_cut:
                asyncio.get_running_loop().call_soon(hear, payload)


class Shard(MemoryStore):
    """One shard's rows; whoever only looks need not own it."""

    def _check_open(self) -> None:
        """It is the database that is open."""


class CutStore:
    """A shard's store as one process sees it. ``gate`` holds up what it writes."""

    def __init__(self, inner: MemoryStore, cut: Cut) -> None:
        self.inner = inner
        self.cut = cut
        self.name = "memory"
        self.gate: asyncio.Event | None = None

    async def write(self, entries: Sequence[Any]) -> Sequence[Any]:
        if self.gate is not None:
            await self.gate.wait()
        await self.cut.here()
        answers = await self.inner.write(entries)
        await self.cut.here()
        return answers

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.inner, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            await self.cut.here()
            answer = await method(*args, **kwargs)
            await self.cut.here()
            return answer

        return call


class AllShards:
    """What a front reads: each instance in the store of its shard."""

    name = "memory, all shards"

    def __init__(self, stores: Sequence[MemoryStore]) -> None:
        self.stores = stores

    async def open(self) -> int:
        return 1

    async def close(self) -> None:
        """Nothing was taken."""

    async def write(self, entries: Sequence[Any]) -> Sequence[Any]:
        raise AssertionError(f"a front has written {entries}")

    async def load(self, instances: Sequence[str]) -> Sequence[Any]:
        await asyncio.sleep(0)
        return [(await self._of(key).load([key]))[0] for key in instances]

    async def quarantines(self) -> list[Any]:
        return [row for store in self.stores for row in await store.quarantines()]

    async def heads(self, *args: Any) -> list[Any]:
        await asyncio.sleep(0)
        return [row for store in self.stores for row in await store.heads(*args)]

    async def outbox(self, after: int = 0, limit: int = 1000, queue: Any = None) -> list[Any]:
        return [row for store in self.stores for row in await store.outbox(after, limit, queue)]

    async def inbox_sizes(self, instances: Sequence[str]) -> dict[str, int]:
        sizes: dict[str, int] = {}
        for key in instances:
            sizes.update(await self._of(key).inbox_sizes([key]))
        return sizes

    async def queue_depths(self) -> dict[str, int]:
        await asyncio.sleep(0)
        depths: Counter[str] = Counter()
        for store in self.stores:
            depths.update(await store.queue_depths())
        return depths

    async def dead_letters(self, after: int = 0, limit: int = 1000) -> list[Any]:
        await asyncio.sleep(0)
        return [row for store in self.stores for row in await store.dead_letters(after, limit)]

    def _of(self, key: str) -> MemoryStore:
        return self.stores[shard_of(key, SHARDS)]

    def __getattr__(self, name: str) -> Any:
        async def call(instance: str, *args: Any, **kwargs: Any) -> Any:
            return await getattr(self._of(instance), name)(instance, *args, **kwargs)

        return call


class World:
    """What all processes share."""

    def __init__(self) -> None:
        self.table = Table()
        self.bells = Bells()
        self.stores = [Shard() for _ in range(SHARDS)]
        self.table.stores = self.stores
        self.pods: list[Pod] = []


class Pod:
    """One process."""

    def __init__(
        self,
        world: World,
        name: str,
        members: Sequence[Any],
        settings: Settings,
        poll_s: float,
        resources: dict[str, Any],
    ) -> None:
        self.world = world
        self.name = name
        self.cut = Cut()
        self.bell = PodBell(world.bells, self.cut)
        self.mail = PodMail(world.table, self.cut, self.bell)
        self.runtimes: dict[int, Runtime] = {}
        made = Runtime(AllShards(world.stores), members, settings, resources=resources)
        self._blueprint = made._blueprint
        self.router = Router(
            self.mail,
            self.bell,
            self._blueprint,
            shards=SHARDS,
            name=name,
            channel=lambda channel: f"test.{channel}",
            poll_s=poll_s,
        )
        self.runtime = Runtime.of(replace(self._blueprint, elsewhere=self.router.front))

    async def start(self) -> None:
        await self.router.start()
        await self.runtime.start()

    def running(self, shard: int) -> Running:
        running = self.runtimes[shard].running
        assert running is not None
        return running

    def store(self, shard: int) -> CutStore:
        """The store of a shard it owns."""
        found = self.runtimes[shard].store
        assert isinstance(found, CutStore)
        return found

    async def own(self, *shards: int) -> None:
        """Take shards, which nobody owns any more."""
        for shard in shards:
            store = self.world.stores[shard]
            store._is_open = False  # its owner was killed, or has closed it
            blueprint = replace(
                self._blueprint,
                store=CutStore(store, self.cut),
                elsewhere=self.router.of(shard),
                threads=SystemThreads(),
            )
            runtime = self.runtimes[shard] = Runtime.of(blueprint)
            await runtime.start()
            self.router.shard_came(shard, self.running(shard))

    async def leave(self, *shards: int) -> None:
        """Give shards up, as on a deploy."""
        for shard in shards:
            self.router.shard_leaves(shard)
            await self.runtimes.pop(shard).stop()
            await self.router.shard_gone(shard)

    async def settled(self) -> None:
        """Nothing is under way in its runtimes, nor on its way between them."""
        for runtime in [*self.runtimes.values(), self.runtime, *self.runtimes.values()]:
            await runtime.settled()

    async def caught_up(self) -> None:
        """Whatever was in the mail of its shards was taken."""
        for shard in self.runtimes:
            desk = self.router._desks[shard]
            assert desk.opening is not None
            await desk.opening

    def kill(self) -> None:
        """kill -9."""
        self.cut.is_cut = True

    async def stop(self) -> None:
        if self.cut.is_cut:
            return
        await self.leave(*self.runtimes)
        await self.runtime.stop()
        await self.router.stop()


@asynccontextmanager
async def cluster(
    count: int,
    members: Sequence[Any] = (Ledger,),
    *,
    poll_s: float = 0.05,
    resources: dict[str, Any] | None = None,
    older: Sequence[Any] | None = None,
    **settings: Any,
) -> AsyncIterator[tuple[Pod, ...]]:
    """So many processes, which own nothing yet; the last one of older code, if that is given."""
    world = World()
    made = Settings(control_socket=False, **{"shutdown_timeout_s": 2.0, **settings})
    code = [members] * count if older is None else [*[members] * (count - 1), older]
    pods = tuple(
        Pod(world, f"pod-{n}", its, made, poll_s, resources or {}) for n, its in enumerate(code)
    )
    world.pods += pods
    for pod in pods:
        await pod.start()
    try:
        yield pods
    finally:
        for pod in pods:
            await pod.stop()
        mine = asyncio.current_task()
        left = [task for task in asyncio.all_tasks() if task is not mine]
        for task in left:  # of those that were killed
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


def key_in(shard: int, saga: str = Ledger.name, stem: str = "x") -> str:
    """The id of an instance of this shard."""
    return next(
        f"{stem}{n}" for n in range(10_000) if shard_of(f"{saga}/{stem}{n}", SHARDS) == shard
    )


def nobody_knows(codec: Codec, packed: bytes) -> Any:
    """In place of ``Codec.decode_value``: what was written is of newer code."""
    raise UnknownType("nobody knows it")
