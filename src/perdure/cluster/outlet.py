"""What one runtime sees of the others: an ``Elsewhere``. All of a process share one router.

Next to read: ``runtime/elsewhere.py``; ``router.py``, which makes them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine
from typing import Any, Protocol

from perdure.cluster.lanes import Lanes
from perdure.cluster.letters import ErrandLetter, JobLetter, Letter, MessageLetter
from perdure.codec.codec import Codec
from perdure.codec.journal import JournalCodec
from perdure.codec.mail import Taken
from perdure.core.commit import OutboxRow
from perdure.errors import PerdureError, StoreError, StoreUnavailable
from perdure.runtime.delivery import Delivery
from perdure.runtime.elsewhere import Errand
from perdure.runtime.instances.told import stopped
from perdure.store.protocol import Store

__all__ = ["Outlet", "Passage"]

LOOK_S = 0.05
"""The first pause before whoever waits for an end looks again; each is twice the one before."""

LOOK_DOUBLINGS = 4
LOOKS_KNOWN = 10_000
MAILED_S = 1.0
"""So long a front that stops waits for answers to its mail, which is on disk by then."""


class Passage(Protocol):
    """What an outlet needs of its router."""

    lanes: Lanes
    shards: int
    codec: Codec
    journal: JournalCodec
    store: Store

    def shard_of(self, key: str) -> int:
        """Where the instance belongs."""
        ...

    def key_in(self, shard: int) -> str:
        """Some key that belongs to this shard, and to no instance."""
        ...

    def ring(self, shards: Collection[int]) -> None:
        """Rows for these shards are there."""
        ...

    def hear_end(self, key: str, stirred: Callable[[], None]) -> Callable[[], None]:
        """Call when the instance may have ended, if it is in this process; returns: forget it."""
        ...


class Outlet:
    """Of the runtime of a shard; of a front, if that is None."""

    def __init__(self, passage: Passage, shard: int | None) -> None:
        self.codec = passage.codec
        self.journal = passage.journal
        self._passage = passage
        self._shard = shard
        self._is_draining = False
        self._leaving: asyncio.TimerHandle | None = None
        self._open: set[Letter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._looks: dict[str, int] = {}
        self._waiters: dict[asyncio.Future[None], Callable[[], None]] = {}

    @property
    def owns_nothing(self) -> bool:
        return self._shard is None

    def owns(self, key: str) -> bool:
        return self._shard is not None and self._passage.shard_of(key) == self._shard

    def deliver(self, delivery: Delivery) -> None:
        if self._is_draining:
            delivery.refuse(stopped(delivery))
        else:
            self._send(MessageLetter(self, delivery))

    def enqueue(self, row: OutboxRow, is_named: bool) -> Awaitable[None]:
        letter = JobLetter(self, row, is_named)
        self._send(letter)
        return letter.done

    def run(self, errand: Errand) -> Awaitable[Any]:
        letter = ErrandLetter(self, errand)
        self._send(letter)
        return letter.done

    async def run_everywhere(self, name: str, *arguments: Any) -> list[Any]:
        keys = [self._passage.key_in(shard) for shard in range(self._passage.shards)]
        errands = [Errand(key, name, arguments) for key in keys]
        return list(await asyncio.gather(*map(self.run, errands)))

    def ring(self, shards: Collection[int]) -> None:
        self._passage.ring(shards)

    def _send(self, letter: Letter) -> None:
        self._open.add(letter)
        self._passage.lanes.send(letter)

    def ended(self, letter: Letter) -> None:
        """One of its letters is answered."""
        self._open.discard(letter)

    # Replies

    def value(self, packed: bytes | None) -> Any:
        """A reply that came with its answer."""
        return None if packed is None else self._passage.codec.decode_value(packed)

    def look_up(self, letter: MessageLetter, answer: Taken) -> None:
        """A reply that was too large to come: it is in the journal, if it is anywhere."""
        self.spawn(self._look_up(letter, answer))

    async def _look_up(self, letter: MessageLetter, answer: Taken) -> None:
        number = answer.sequence_nr or 0
        try:
            rows = await self._passage.store.journal(letter.key, number - 1, 1) if number else []
            packed = self.journal.read_turn(rows[0].body).reply if rows else None
            value = self.value(packed)
        except StoreError as error:
            letter.fail(error)
        except PerdureError as error:
            letter.unread(answer, error)
        except (Exception, asyncio.CancelledError) as error:
            letter.fail(StoreUnavailable(f"the reply could not be read: {error}"))
            raise
        else:
            letter.given(answer, value)

    def recall(self, letter: MessageLetter, number: int) -> None:
        """An answer that was lost: it is in the journal, in this turn."""
        self.spawn(self._recall(letter, number))

    async def _recall(self, letter: MessageLetter, number: int) -> None:
        try:
            rows = await self._passage.store.journal(letter.key, number - 1, 1)
            if not rows or rows[0].sequence_nr != number:
                raise StoreUnavailable("the recorded answer was swept meanwhile")
            turn = self.journal.read_turn(rows[0].body)
        except PerdureError as error:
            letter.fail(error)
        except (Exception, asyncio.CancelledError) as error:
            letter.fail(StoreUnavailable(f"the recorded answer could not be read: {error}"))
            raise
        else:
            outcome = self.journal.outcome_of(turn)
            letter.recalled(Taken(letter.token, outcome, number, value=turn.reply), turn.refused)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Have it done, and held until it is."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # Ends

    def expect(self, key: str) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        if len(self._looks) > LOOKS_KNOWN:  # of some the last waiter was stirred, and went
            self._looks.clear()
        looks = self._looks[key] = self._looks.get(key, -1) + 1

        def stirred() -> None:
            if not waiter.done():
                waiter.set_result(None)

        wake = loop.call_later(LOOK_S * 2 ** min(looks, LOOK_DOUBLINGS), stirred)
        forget = self._passage.hear_end(key, stirred)

        def end() -> None:
            wake.cancel()
            forget()

        self._waiters[waiter] = end
        return waiter

    def forget(self, key: str, waiter: asyncio.Future[None]) -> None:
        end = self._waiters.pop(waiter, None)
        if end is not None:
            end()
        if not waiter.done() or waiter.cancelled():
            self._looks.pop(key, None)

    # The end of the runtime

    def drain(self) -> None:
        if not self.owns_nothing:  # what its jobs send is in its outbox, for the next owner
            self._is_draining = True
            self.close()
        elif self._leaving is None:
            self._leave_later()

    def _leave_later(self) -> None:
        self._leaving = asyncio.get_running_loop().call_later(MAILED_S, self._leave)

    def _leave(self) -> None:
        """Leave to the owners what is in their mail; what is not there yet may be soon."""
        for letter in sorted(self._open, key=lambda letter: letter.number):
            if letter.position:
                letter.abandon()
        self._leave_later()

    def shard_of(self, key: str) -> int:
        """Whose mail it is in."""
        return self._passage.shard_of(key)

    def close(self) -> None:
        if self._leaving is not None:
            self._leaving.cancel()
        for letter in sorted(self._open, key=lambda letter: letter.number):
            letter.abandon()
        self._open.clear()
