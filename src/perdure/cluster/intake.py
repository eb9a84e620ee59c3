"""The intake of a shard: from its rows of mail to its runtime, and the answers back.

    intake = Intake(mail, 3, running, ring=ring)           # shard None: all of them
    intake.start()
    intake.ring()                                          # the doorbell; it looks by itself, too
    intake.close()                                         # before the runtime stops
    await intake.ended()                                   # after it has

    row ─> delivered ─> answered ─> its sender is rung for ─> removed
            │  └─ the store fails: again, behind nobody of its instance
            └─ cannot be read here: it stays, later rows of its instance wait behind it

Each look begins at the lowest row and leaves out those under way: rows of concurrent senders become
visible out of order, so no position is passed for good. A row goes once what became of it is
durable; whatever comes twice is known by its message id. Next to read: ``mailed.py``, one row on
its way; ``posting.py``, the other end.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable

import perdure.failpoints as failpoints
from perdure.cluster.mailed import Mailed, bring
from perdure.cluster.posting import split_address
from perdure.codec.mail import Answer, pack_reply, payloads
from perdure.core.described import in_short
from perdure.errors import StoreError
from perdure.failpoints import Point
from perdure.runtime.clock import Wake
from perdure.runtime.running import Running
from perdure.runtime.supervised import Background, growing_s
from perdure.runtime.watching.logs import about
from perdure.store.mail import Mail, MailKind, MailRow

__all__ = ["Intake"]

logger = logging.getLogger("perdure.cluster")

WINDOW = 1_000
"""So many rows are under way at a time; the others wait where they are."""

PAGE = 500
GATHER_S = 0.05
"""So long rows whose senders were told wait for others that go with them."""

UNREADABLE_S = 30.0
"""So long a row that cannot be read here is left alone."""

ENDED_S = 5.0
"""So long rows may take to go when the runtime has stopped; then they are the next owner's."""


class Intake:
    """Takes the mail of one shard, or of all; on the loop of its runtime.

    ``ring(channel, payload)`` rings for senders. ``poll_s``: so often it looks unrung; None:
    whoever has made it does that, for all of its process at once.
    """

    def __init__(
        self,
        mail: Mail,
        shard: int | None,
        running: Running,
        *,
        ring: Callable[[str, str], None],
        poll_s: float | None = 0.5,
        window: int = WINDOW,
    ) -> None:
        self.running = running
        self._mail = mail
        self._shard = shard
        self._ring = ring
        self._poll_s = poll_s
        # So many may be taken and not removed when the next owner comes: it knows all their ids.
        self._window = min(window, running.services.settings.processed_window)
        self._epoch = running.services.epoch
        self._clock = running.services.clock
        self._troubles = running.services.troubles
        self._under_way: dict[int, str] = {}
        self._of_instance: Counter[str] = Counter()
        self._aside: dict[str, Wake] = {}
        self._losses: Counter[str] = Counter()
        self._held: set[str] = set()
        self._answers: dict[str, list[bytes]] = {}
        self._done: list[MailRow] = []
        self._catchers: list[asyncio.Future[None]] = []
        self._poll: Wake | None = None
        self._gathering: Wake | None = None
        self._is_rung = self._is_full = self._is_closed = False
        background = running.services.background
        self._reading = background("reading mail", self._read, self._look_later)
        self._removing: Background = background("removing mail that was taken", self._remove)

    # Life

    def start(self) -> None:
        """Begin to look."""
        self.ring()

    def ring(self) -> None:
        """There may be new rows."""
        if not self._is_closed:
            self._is_rung = True
            self._reading.start()

    def close(self) -> None:
        """Look no more: the runtime is about to stop. What is under way is still answered."""
        self._is_closed = True
        for wake in (self._poll, self._gathering, *self._aside.values()):
            if wake is not None:
                wake.cancel()
        for instance in self._aside:
            self._troubles.over((self, instance))
        self._tell_caught_up(self._catchers)

    async def ended(self) -> None:
        """The runtime has stopped: what it has answered goes, as far as that can be."""
        self.close()
        await self._reading.stop()
        await self._removing.stop()
        try:
            async with asyncio.timeout(ENDED_S):
                await self._remove()
        except (StoreError, TimeoutError) as error:
            logger.warning(
                "%d rows of mail that were taken stay, for the next owner to see: %s",
                len(self._done), error or "the store does not answer",
            )  # fmt: skip

    async def caught_up(self) -> None:
        """Wait until all rows that are visible now have been delivered, or are set aside.

        Returns also when it is closed: then they are another owner's.
        """
        if self._is_closed:
            return
        caught: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._catchers.append(caught)
        self.ring()
        await caught

    def holds(self, key: str) -> bool:
        """Rows of this instance wait here: what comes for it must come behind them."""
        return key in self._aside or key in self._held

    # Reading

    async def _read(self) -> None:
        while self._is_rung and not self._is_closed:
            self._is_rung = False
            catchers, self._catchers = self._catchers, []
            held = set(self._held)
            try:
                is_all = await self._read_pages()
            except BaseException:
                self._is_rung = True
                self._catchers += catchers
                raise
            if is_all or self._is_closed:
                self._held -= held
                self._tell_caught_up(catchers)
            else:
                self._catchers += catchers

    async def _read_pages(self) -> bool:
        """Deliver what is there; False if there was no room for all."""
        while not self._is_closed:
            limit = min(self._window - len(self._under_way), PAGE)
            self._is_full = limit <= 0
            if self._is_full:
                self._remove_soon()
                return False
            under_way, aside = list(self._under_way), list(self._aside)
            rows = await self._mail.page(self._shard, self._epoch, under_way, aside, limit)
            for row in rows:
                if row.instance not in self._aside:  # else it is behind one just set aside
                    self._take(row)
            if len(rows) < limit:
                return True
        return True

    def _take(self, row: MailRow) -> None:
        if self._is_closed:
            return
        failpoints.reach(Point.MAIL_TAKEN)
        self._under_way[row.position] = row.instance
        self._of_instance[row.instance] += 1
        try:
            bring(self, row)
        except Exception as error:  # also what is no error of ours: the rows behind it go on
            self._leave(row)
            logger.error(
                "mail %d for %s cannot be read here, and waits, with what comes behind it; if this "
                "is older code beside newer, end it and the newer takes over: %s",
                row.position, row.instance, in_short(error),
                extra=about(row.instance, row.message_id),
            )  # fmt: skip
            self._set_aside(row.instance, UNREADABLE_S, error)

    def _look_later(self) -> None:
        """Nothing is read; who is not rung for looks all the same."""
        if self._poll is not None:
            self._poll.cancel()
            self._poll = None
        if not self._is_closed and self._poll_s is not None:
            self._poll = self._clock.call_later(self._poll_s, self.ring)

    def _tell_caught_up(self, catchers: list[asyncio.Future[None]]) -> None:
        for caught in catchers:
            if not caught.done():
                caught.set_result(None)

    # What became of a row

    def answered(self, mailed: Mailed, answer: Answer) -> None:
        """It was taken or refused, durably: tell its sender, and let it go."""
        failpoints.reach(Point.MAIL_ANSWERED)
        row = mailed.row
        self._losses.pop(row.instance, None)
        if row.reply_to:
            channel = split_address(row.reply_to)[0]
            if not self._answers:
                asyncio.get_running_loop().call_soon(self._ring_senders)
            self._answers.setdefault(channel, []).append(pack_reply(answer))
        self._done.append(row)
        self._remove_soon(at_once=row.kind != MailKind.MESSAGE)

    def _remove_soon(self, at_once: bool = False) -> None:
        """Rows of messages go together: nobody waits for that, as long as there is room for others.

        A job that comes again when it was done already would be done again; so its row goes now.
        """
        if self._is_closed:
            return
        if at_once or self._is_full or len(self._done) >= PAGE:
            self._removing.start()
        elif self._gathering is None:
            # The loop's own time: rows have to go also while a test's clock stands still.
            self._gathering = asyncio.get_running_loop().call_later(GATHER_S, self._gathered)

    def _gathered(self) -> None:
        self._gathering = None
        if not self._is_closed:
            self._removing.start()

    def kept(self, mailed: Mailed, error: BaseException) -> None:
        """It was not taken, and comes again: nobody behind it before."""
        row = mailed.row
        self._leave(row)
        if self._is_closed:
            return
        failures = self._losses[row.instance] = self._losses[row.instance] + 1
        pause_s = growing_s(self.running.services.settings.retry_pause_s, failures)
        self._set_aside(row.instance, pause_s, error)

    def _ring_senders(self) -> None:
        answers, self._answers = self._answers, {}
        for channel, packed in answers.items():
            for payload in payloads(packed):
                self._ring(channel, payload)

    def _leave(self, row: MailRow) -> None:
        """Not under way any more, and still there."""
        if self._under_way.pop(row.position, None) is not None:
            self._count_out(row.instance)

    def _count_out(self, instance: str) -> None:
        self._of_instance[instance] -= 1
        if not self._of_instance[instance]:
            del self._of_instance[instance]

    def _set_aside(self, instance: str, pause_s: float, error: BaseException) -> None:
        """Take nothing of this instance for a while."""
        if instance in self._aside:
            return
        self._troubles.failed((self, instance), f"taking mail for {instance}", 1, error)

        def again() -> None:
            if self._of_instance[instance]:  # some of it is still under way: it goes first
                self._aside[instance] = self._clock.call_later(pause_s, again)
                return
            del self._aside[instance]
            self._held.add(instance)  # until all that waits behind it was taken, too
            self._troubles.over((self, instance))
            self.ring()

        self._aside[instance] = self._clock.call_later(pause_s, again)

    async def _remove(self) -> None:
        """Let the rows go of which is known what became of them."""
        while self._done:
            done = self._done[:PAGE]
            failpoints.reach(Point.MAIL_GOES)
            await self._mail.remove(done, self._epoch)
            failpoints.reach(Point.MAIL_GOES)
            del self._done[: len(done)]
            for row in done:  # only now: a page that is read later does not see it
                self._leave(row)
            if self._is_full:
                self.ring()
