"""A store that fails, or dies with its process, at the n-th write; lives lived over its rows."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal

from perdure import MemoryStore, Runtime, SqlStore
from perdure.core.commit import Entry
from perdure.errors import StoreError, StoreUnavailable
from perdure.store.protocol import Store
from perdure.testing import FaultyStore
from tests.runtime.support import parts

Fate = Literal["fails", "fails, though written", "dies", "dies, having written"]
FATES: tuple[Fate, ...] = ("fails", "fails, though written", "dies", "dies, having written")


class MortalStore(FaultyStore):
    """Meets its fate at write ``at`` (0: never). Once dead it answers nobody, until ``buried``."""

    def __init__(self, store: Store, fate: Fate = "fails", at: int = 0) -> None:
        super().__init__(store)
        self.fate = fate
        self.at = at
        self.died = asyncio.Event()
        self.buried = asyncio.Event()

    async def write(self, entries: Sequence[Entry]) -> Sequence[StoreError | None]:
        await self._pass()
        is_now = self.writes + 1 == self.at
        if is_now and self.fate == "fails":
            self.fail_writes(1)
        if is_now and self.fate == "dies":
            await self._die()
        answers = await super().write(entries)
        if is_now and self.fate == "fails, though written":
            raise StoreUnavailable("the answer was lost")
        if is_now and self.fate == "dies, having written":
            await self._die()
        await self._pass()
        return answers

    async def _read(self, operation: Any, read: Any, *instances: str) -> Any:
        await self._pass()
        return await super()._read(operation, read, *instances)

    async def load(self, instances: Sequence[str]) -> Any:
        await self._pass()
        return await super().load(instances)

    async def _die(self) -> None:
        self.died.set()
        await self._pass()

    async def _pass(self) -> None:
        if self.died.is_set():
            await self.buried.wait()
            raise StoreUnavailable("the process has ended")


def live(
    runtime: Callable[[], Runtime],
    store: MortalStore,
    work: Callable[[Runtime], Awaitable[None]],
    limit_s: float = 20,
) -> bool:
    """Start, work, stop; False if the store died meanwhile: then all is left as it stands."""

    async def whole(one: Runtime) -> None:
        await one.start()  # no "async with": whoever dies does not stop in good order
        await work(one)
        await one.stop()

    async def life() -> bool:
        one = runtime()
        living = asyncio.create_task(whole(one))
        # It may meet its death while it reads, and nobody asks what became of it.
        living.add_done_callback(lambda task: task.cancelled() or task.exception())
        dying = asyncio.create_task(store.died.wait())
        async with asyncio.timeout(limit_s):
            await asyncio.wait({living, dying}, return_when=asyncio.FIRST_COMPLETED)
        if not store.died.is_set():
            await living
            return True
        living.cancel()  # the dead do not go on: neither with their work nor with their clock
        await asyncio.wait({living})
        store.buried.set()
        if one._running is not None:
            parts(one).supervisor.end()
        await _let_go(store.inner)  # here: a file is closed on the loop that opened it
        return False

    return asyncio.run(life())  # whatever still runs is cancelled here


async def _let_go(inner: Store) -> None:
    """What the system does when a process ends: its locks fall."""
    if isinstance(inner, MemoryStore):
        inner._is_open = False
    else:
        await inner.close()


def again(store: MortalStore, fate: Fate = "fails", at: int = 0) -> MortalStore:
    """The same rows, as the next process finds them."""
    inner = store.inner
    if isinstance(inner, SqlStore):
        url = f"sqlite+aiosqlite:///{inner.path}"
        return MortalStore(SqlStore(url, synchronous="NORMAL"), fate, at)
    return MortalStore(inner, fate, at)
