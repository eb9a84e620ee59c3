"""A process's shards: taken, run by one ``Runtime`` each, given up.

    host = Host(session, blueprint_of, ClusterSettings(), watcher=router)
    await host.start()
    host.owned[3]                   # the runtime of shard 3, while it is here and takes messages
    await host.drain()              # gives all up; others have them at once

One task looks, again and again, how the shards are spread over the hosts, and claims or gives up
what is between that and its share. Free shards ring a doorbell; without it, it looks every
``poll_s``. A host that cannot run a shard stands back for a while, so that others take its share.
Decides nothing about who is alive: that is ``store/ownership.py``. Knows no mail.
Next to read: ``claiming.py``; ``shard.py``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType

import perdure.failpoints as failpoints
from perdure.cluster.claiming import in_words, next_step
from perdure.cluster.orphans import Orphans
from perdure.cluster.settings import ClusterSettings
from perdure.cluster.shard import Shard, ShardWatcher
from perdure.cluster.sharing import share_room
from perdure.cluster.skew import Skew
from perdure.cluster.strangers import Strangers
from perdure.errors import Escalated, Fenced, StoreLocked, StoreUnavailable
from perdure.failpoints import Point
from perdure.runtime.blueprint import Blueprint
from perdure.runtime.running import Running
from perdure.runtime.runtime import Runtime
from perdure.runtime.watching.vitals import Troubles
from perdure.store.ownership import Beat
from perdure.store.session import Session, channel_of

__all__ = ["SHARDS_CHANNEL", "Host"]

logger = logging.getLogger("perdure.cluster")

SHARDS_CHANNEL = "shards"
"""Rung when the shares may have changed: a shard was released, a host came or wants none."""

SOON_S = 0.02
"""Looking for whoever is about to be gone does not come more often than this."""

STAND_BACK_S = 1.0
STAND_BACK_MAX_S = 60.0
"""After a shard could not be run here, doubled for each time in a row."""


class Host:
    """The shards of this process.

    ``blueprint_of(shard, epoch)`` says what the runtime of a shard is made of, its store included.
    ``assigned``: takes these by force at the start, and others only while nobody has run them for
    a lease; ``takes_shards=False`` of the settings: takes none. ``on_over`` is called when the
    whole process has to end: a saga escalates, or an assigned shard was taken away, since another
    host of it was made, or this one has stood still.
    """

    def __init__(
        self,
        session: Session,
        blueprint_of: Callable[[int, int], Blueprint],
        settings: ClusterSettings,
        watcher: ShardWatcher,
        *,
        assigned: Sequence[int] | None = None,
        on_over: Callable[[Escalated | None], None] = lambda escalated: None,
    ) -> None:
        self.session = session
        self.troubles = Troubles()
        """What keeps this host from its share."""
        self.strangers = Strangers()
        """The sagas that it should know."""
        self.skew = Skew(settings.skew_s)
        self._blueprint_of = blueprint_of
        self._settings = settings
        self._watcher = watcher
        self._assigned = assigned
        self._orphans = Orphans(session)
        self._on_over = on_over
        self._here: dict[int, Shard] = {}
        self._owned: dict[int, Runtime] = {}
        self._channel = channel_of(session.owners.schema, SHARDS_CHANNEL)
        self._wake = asyncio.Event()
        self._seeking: asyncio.Task[None] | None = None
        self._failures = 0
        self._is_aside = self._is_draining = False
        self._aside_until_s = 0.0
        self._next_look_s = settings.poll_s

    @property
    def owned(self) -> Mapping[int, Runtime]:
        """The runtimes that run here and take messages, by shard."""
        return MappingProxyType(self._owned)

    @property
    def runtimes(self) -> Iterable[Runtime]:
        """Those that run, the ones that are about to stop included."""
        return [shard.runtime for shard in list(self._here.values())]

    # Life

    async def start(self) -> None:
        """Take what is assigned, or of what is free a fair share, and run it.

        Raises StoreLocked while a runtime of no cluster owns the store, and what keeps a shard that
        was taken from starting.
        """
        self.session.on_beat = self._on_beat
        if self._assigned is not None:
            await self._take(self._assigned)
        elif self._settings.takes_shards:
            await self._join()
        await self._up()

    async def _take(self, assigned: Sequence[int]) -> None:
        self._begin(await self.session.ask(self.session.owners.take, assigned))
        if not self._is_draining:
            await self.session.drain(False)
        if not self._is_draining:
            self._next_look_s = self._settings.lease_s  # those who are silent may just come, too
            self._seek_on()

    def _seek_on(self) -> None:
        self._seeking = asyncio.get_running_loop().create_task(self._keep_seeking())

    async def _join(self) -> None:
        await self.session.listen(self._channel, lambda payload: self._wake.set())
        await self._nobody_alone()
        if not self._is_draining:
            await self.session.drain(False)
        await self._seek()
        if self._is_draining:  # stopped before it was up
            return
        self.session.notify(self._channel)
        self._seek_on()

    async def _nobody_alone(self) -> None:
        """Refuse to join one who is alone; if it was killed, that shows after a moment."""
        loop, owners = asyncio.get_running_loop(), self.session.owners
        until_s = loop.time() + 3 * owners.absent_s
        while (outlook := await self.session.ask(owners.outlook)).alone is not None:
            if loop.time() >= until_s:
                raise StoreLocked(
                    f"the store is owned by {outlook.alone}, alone",
                    remedy="stop it first, or run it as one of the cluster: perdure.cluster",
                )
            await asyncio.sleep(owners.absent_s / 10)

    async def _up(self) -> None:
        shards = list(self._here.values())
        if shards:  # wait, since who is cancelled while awaiting a future cancels that
            await asyncio.wait([shard.up for shard in shards])
        for shard in shards:
            if shard.error is not None and not _is_race(shard.error):
                raise shard.error

    async def drain(self) -> None:
        """Give up all shards, and take no more: their runtimes finish what they have accepted."""
        self._is_draining = True
        await self.session.drain()
        self.session.notify(self._channel)
        tasks = [shard.task for shard in self._here.values()]
        for shard in list(self._here.values()):
            shard.leave()
        if tasks:
            await asyncio.wait(tasks)

    async def stop(self) -> None:
        """``drain``, for good. The session is its maker's to close. May be called twice."""
        self._is_draining = True
        seeking, self._seeking = self._seeking, None
        if seeking is not None:
            seeking.cancel()
            await asyncio.gather(seeking, return_exceptions=True)
        await self.drain()
        await self.session.unlisten(self._channel)

    # Seeking

    async def _keep_seeking(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._next_look_s):
                    await self._wake.wait()
            self._wake.clear()
            self._next_look_s = self._settings.poll_s
            try:
                await self._seek()
            except StoreUnavailable:
                continue  # the session says so, and is made again
            except Exception:
                logger.exception("looking for shards failed, and is tried again")

    async def _seek(self) -> None:
        """Look once, and do what follows."""
        if self._is_draining:
            return
        session, owners = self.session, self.session.owners
        await self._release_strays()
        if await self._stands_back():
            return
        is_told = self._assigned is not None
        claimed = await (self._orphans.claim() if is_told else self._towards_share())
        if claimed and self._is_draining:  # meanwhile: nobody would see to them
            await session.ask(owners.release, claimed)
            return
        self._begin(claimed)

    async def _towards_share(self) -> dict[int, int]:
        """Give up what is above this host's share, or claim what is below it."""
        session, owners = self.session, self.session.owners
        outlook = await session.ask(owners.outlook)
        if outlook.ghosts:
            await session.ask(owners.forget)
        if outlook.soon_s is not None:
            self._next_look_s = min(max(outlook.soon_s, SOON_S), self._settings.poll_s)
        step = next_step(outlook, len(self._here), self._residents())
        for number in step.leave:
            self._here[number].leave()
        if not step.claim:
            return {}
        claimed = await session.ask(owners.claim, step.claim)
        if claimed:
            logger.info("took over %s", in_words(claimed, outlook))
        return claimed

    def _residents(self) -> dict[int, int]:
        return {
            number: len(runtime.running.supervisor.active)
            for number, runtime in self._owned.items()
            if runtime.running is not None
        }

    async def _release_strays(self) -> None:
        """What is ours and is not run: the answer to a claim was lost, or a release failed."""
        beat = await self.session.ask(self.session.owners.beat)
        strays = {n: epoch for n, epoch in beat.owned.items() if n not in self._here}
        if strays:
            await self.session.ask(self.session.owners.release, strays)

    def _begin(self, claimed: Mapping[int, int]) -> None:
        for number, epoch in claimed.items():
            before = self._here.get(number)
            if before is not None:  # it still stops; once it has, this one is a stray
                continue
            shard = self._here[number] = Shard(
                number, epoch, self._blueprint_of(number, epoch), self
            )
            if self._is_draining:  # stopped before it was up: whoever starts it waits for this
                shard.leave()

    def _on_beat(self, beat: Beat) -> None:
        self.skew.seen(self.session.skew_s)
        for shard in list(self._here.values()):
            if shard.is_up and beat.owned.get(shard.number) != shard.epoch:
                shard.lost()

    # What the shards tell

    def came(self, shard: Shard, running: Running) -> None:
        """See ``Keeper``."""
        failpoints.reach(Point.TAKEN_OVER)
        self._failures = 0
        self.troubles.over(self)
        self._owned[shard.number] = shard.runtime
        share_room(self._owned)
        self._watcher.shard_came(shard.number, running)

    async def looked_over(self, shard: Shard, running: Running) -> None:
        """See ``Keeper``."""
        await self.strangers.look(shard.number, running)

    def leaves(self, shard: Shard) -> None:
        """See ``Keeper``."""
        if self._owned.get(shard.number) is shard.runtime:
            del self._owned[shard.number]
            share_room(self._owned)
            self._watcher.shard_leaves(shard.number)

    async def left(self, shard: Shard) -> None:
        """See ``Keeper``."""
        try:
            await shard.runtime.stop()
            await self._watcher.shard_gone(shard.number)
            with suppress(StoreUnavailable):  # else it is a stray, or falls with the session
                await self.session.ask(self.session.owners.release, {shard.number: shard.epoch})
        finally:
            del self._here[shard.number]
            self.strangers.left(shard.number)
            self.session.notify(self._channel)
            self._wake.set()
            self._judge(shard)

    def _judge(self, shard: Shard) -> None:
        """Whether more follows from its end."""
        escalated = shard.runtime.escalated
        if escalated is not None:
            self._on_over(escalated)
        elif self._is_draining:
            return
        elif self._assigned is not None and shard.number in self._assigned:
            logger.error("shard %d, which was assigned, is not ours any more", shard.number)
            self._on_over(None)
        elif shard.error is not None and not _is_race(shard.error):
            self._stand_back(shard.error)

    def _stand_back(self, error: Exception) -> None:
        """Leave our share to others for a while; what runs here goes on."""
        self._failures += 1
        delay_s = min(STAND_BACK_S * 2 ** (self._failures - 1), STAND_BACK_MAX_S)
        self._aside_until_s = asyncio.get_running_loop().time() + delay_s
        self.troubles.failed(self, "running a shard", self._failures, error)

    async def _stands_back(self) -> bool:
        if self._is_draining:  # meanwhile: who drains must not want a share again
            return True
        is_aside = asyncio.get_running_loop().time() < self._aside_until_s
        if is_aside is not self._is_aside:
            self._is_aside = is_aside
            await self.session.drain(is_aside)
            self.session.notify(self._channel)
        return is_aside


def _is_race(error: Exception) -> bool:
    """Another host took the shard before it was up here."""
    return isinstance(error, (Fenced, StoreLocked))
