"""The router of a process: from whoever accepts a message to the runtime that owns its instance.

    router = Router(mail, session, blueprint, shards=16, channel=channel)
    front = Runtime.of(replace(blueprint, elsewhere=router.front))
    part = Runtime.of(replace(blueprint, store=…, elsewhere=router.of(3)))
    await router.start()                     # before any of them
    host.watch(router)                       # hears of shards that come and leave
    await router.stop()                      # after all of them

By hand if that runtime is in this process, else by mail. A shard that comes is served by mail at
first, until all that was in its mail when it came was taken: so nothing is overtaken. Decides
nothing about ownership. Next to read: ``outlet.py``, ``lanes.py``, ``posting.py``, ``intake.py``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from functools import lru_cache
from itertools import count

from perdure.cluster.doorbell import Doorbell, bell_of
from perdure.cluster.intake import Intake
from perdure.cluster.lanes import Lanes, Way
from perdure.cluster.letters import Letter
from perdure.cluster.outlet import Outlet
from perdure.cluster.posting import Posting
from perdure.codec.journal import JournalCodec
from perdure.runtime.blueprint import Blueprint
from perdure.runtime.clock import Wake
from perdure.runtime.running import Running
from perdure.runtime.supervised import Background
from perdure.store.mail import Mail
from perdure.store.shards import shard_of

__all__ = ["Router"]

KEYS_KNOWN = 65_536
"""The shards of so many keys are remembered: a hash costs more than a look."""


class Router:
    """One per process, shared by its front and the runtimes of its shards; on their loop.

    ``blueprint`` is the front's: its codec, settings and clock are used, and its store is read.
    ``channel(name)`` is the name of a channel of this store in the database; ``name`` that of this
    process, which no other has.
    """

    def __init__(
        self,
        mail: Mail,
        doorbell: Doorbell,
        blueprint: Blueprint,
        *,
        shards: int,
        name: str,
        channel: Callable[[str], str],
        poll_s: float = 0.5,
    ) -> None:
        self.codec = blueprint.codec
        self.journal = JournalCodec(blueprint.codec)
        self.store = blueprint.store
        self.lanes = Lanes(self._way_to)
        self.shard_of = lru_cache(KEYS_KNOWN)(lambda key: shard_of(key, shards))
        self.shards = shards
        self.front = Outlet(self, None)
        self._mail = mail
        self._doorbell = doorbell
        self._channel = channel
        self._replies = channel(f"replies-{name}")
        self._poll_s = poll_s
        self._clock, pause_s = blueprint.clock, blueprint.settings.retry_pause_s
        self._poll: Wake | None = None
        self._polling = Background(
            self._clock, pause_s, "looking for mail", self._look, self._poll_later
        )
        self._desks: dict[int, _Desk] = {}
        self._leaving: dict[int, _Desk] = {}
        self._posting = Posting(
            mail,
            blueprint.clock,
            blueprint.settings,
            self._replies,
            self._bells,
            self._ring,
            self._put,
            poll_s,
        )

    def of(self, shard: int) -> Outlet:
        """For the runtime of a shard."""
        return Outlet(self, shard)

    async def start(self) -> None:
        """Hear answers; before the first runtime starts."""
        await self._doorbell.listen(self._replies, self._posting.hear)
        self._poll_later()

    async def stop(self) -> None:
        """Everything else has stopped: put and hear nothing more."""
        if self._poll is not None:
            self._poll.cancel()
        await self._polling.stop()
        await self._doorbell.unlisten(self._replies)
        await self._posting.stop()

    # Looking unrung

    def _poll_later(self) -> None:
        if self._poll is not None:
            self._poll.cancel()
        self._poll = self._clock.call_later(self._poll_s, self._polling.start)

    async def _look(self) -> None:
        """One look for all shards of this process: which of them have mail."""
        if self._desks:
            for shard in await self._mail.waiting(list(self._desks)):
                if shard in self._desks:  # still
                    self._desks[shard].intake.ring()

    # Shards that come and leave: a ``ShardWatcher``

    def shard_came(self, shard: int, running: Running) -> None:
        """Its runtime has started in this process: bring its mail, then all by hand."""
        intake = Intake(self._mail, shard, running, ring=self._answer, poll_s=None)
        desk = self._desks[shard] = _Desk(running, intake)
        bell = self._channel(bell_of(shard))
        desk.opening = asyncio.get_running_loop().create_task(
            self._open(desk, self._doorbell, bell)
        )

    async def _open(self, desk: _Desk, doorbell: Doorbell, bell: str) -> None:
        desk.intake.start()
        await doorbell.listen(bell, lambda _: desk.intake.ring())
        desk.intake.ring()  # what was put before it could be heard
        await desk.intake.caught_up()
        desk.is_open = True

    def shard_leaves(self, shard: int) -> None:
        """Its runtime begins to stop: bring nothing more."""
        desk = self._desks.pop(shard, None)
        if desk is not None:
            desk.is_open = False
            desk.intake.close()
            self._leaving[shard] = desk

    async def shard_gone(self, shard: int) -> None:
        """Its runtime has stopped: the rows of what it has answered go."""
        self.shard_leaves(shard)
        desk = self._leaving.pop(shard, None)
        if desk is None:
            return
        if desk.opening is not None:
            desk.opening.cancel()
            await asyncio.gather(desk.opening, return_exceptions=True)
        if shard not in self._desks:
            await self._doorbell.unlisten(self._channel(bell_of(shard)))
        await desk.intake.ended()

    def intake(self, shard: int) -> Intake | None:
        """That of a shard which is in this process."""
        desk = self._desks.get(shard)
        return None if desk is None else desk.intake

    # Which way

    def key_in(self, shard: int) -> str:
        """Some key that belongs to this shard, and to no instance."""
        return next(key for n in count() if self.shard_of(key := f"shard {n}") == shard)

    def _way_to(self, key: str) -> Way:
        desk = self._desks.get(self.shard_of(key))
        if desk is None or not desk.is_open or desk.intake.holds(key):
            return self._posting
        return desk

    def hear_end(self, key: str, stirred: Callable[[], None]) -> Callable[[], None]:
        """Call when the instance may have ended, if it is in this process; returns: forget it."""
        desk = self._desks.get(self.shard_of(key))
        if desk is None:
            return _nothing
        endings = desk.running.supervisor.endings
        waiter = endings.expect(key)
        waiter.add_done_callback(lambda _: stirred())
        return lambda: endings.forget(key, waiter)

    def ring(self, shards: Collection[int]) -> None:
        """Rows for these shards are there."""
        for shard in shards:
            desk = self._desks.get(shard)
            if desk is not None:
                desk.intake.ring()
            else:
                self._doorbell.notify(self._channel(bell_of(shard)))

    def _bells(self, keys: Sequence[str]) -> list[str]:
        """The doorbells of these keys' owners in other processes."""
        shards = {self.shard_of(key) for key in keys} - self._desks.keys()
        return [self._channel(bell_of(shard)) for shard in sorted(shards)]

    def _ring(self, keys: Sequence[str], is_rung: bool) -> None:
        """Rows for these keys are there; the others have been rung for already, or not."""
        for shard in {self.shard_of(key) for key in keys} & self._desks.keys():
            self._desks[shard].intake.ring()
        if not is_rung:
            for bell in self._bells(keys):
                self._doorbell.notify(bell)

    def _put(self, letter: Letter) -> None:
        """A told letter's row is there: by hand nothing may overtake it before it was read."""
        desk = self._desks.get(self.shard_of(letter.key))
        if desk is None:
            letter.lane.done(letter)
        else:
            letter.outlet.spawn(_read(desk, letter))

    def _answer(self, channel: str, payload: str) -> None:
        """An intake of this process has an answer; for this process itself no bell is needed."""
        if channel == self._replies:
            self._posting.hear(payload)
        else:
            self._doorbell.notify(channel, payload)


class _Desk:
    """A runtime of this process, and its mail. The way to it by hand."""

    __slots__ = ("intake", "is_open", "opening", "running")

    def __init__(self, running: Running, intake: Intake) -> None:
        self.running = running
        self.intake = intake
        self.is_open = False
        self.opening: asyncio.Task[None] | None = None

    def take(self, letter: Letter) -> None:
        """Bring a letter."""
        letter.hand(self.running)

    def returned(self) -> None:
        """Its runtime is not the owner any more; whoever starts and stops it will say so."""
        self.is_open = False


async def _read(desk: _Desk, letter: Letter) -> None:
    try:
        await desk.intake.caught_up()
    finally:
        letter.lane.done(letter)


def _nothing() -> None:
    """Nobody was asked to tell."""
