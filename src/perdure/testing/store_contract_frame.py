"""The frame in which every check of the conformance suite runs: a store, a loop, a clean end.

Next to read: ``store_contract.py``, the suite.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perdure.core.commit import Entry
from perdure.errors import StoreError
from perdure.store.protocol import Store

__all__ = ["ContractFrame", "StoreSource", "all_or_none", "ready", "refusal", "with_store"]


@dataclass(slots=True)
class StoreSource:
    """The store of one check, opened and closed as the check goes on."""

    contract: ContractFrame
    tmp_path: Path
    store: Store

    async def opened(self) -> tuple[Store, int]:
        """The store, open, and its epoch."""
        return self.store, await self.store.open()

    async def reopened(self) -> tuple[Store, int]:
        """Close it; then a store over the same data, open, and its epoch."""
        await self.store.close()
        self.store = self.contract.reopen(self.store, self.tmp_path)
        return await self.opened()


def with_store(
    check: Callable[[Any, Store, int], Awaitable[None]],
) -> Callable[[Any, Path], None]:
    """Make a pytest test of a check that wants an open store and its epoch."""

    def test(self: ContractFrame, tmp_path: Path) -> None:
        async def scenario(source: StoreSource) -> None:
            store, epoch = await source.opened()
            await check(self, store, epoch)

        self.run(tmp_path, scenario)

    test.__name__ = getattr(check, "__name__", "test")
    return test


async def all_or_none(store: Store, entries: Sequence[Entry]) -> list[type | None]:
    """Write a group; per entry None or the type of its error."""
    return [None if error is None else type(error) for error in await store.write(entries)]


async def ready(store: Store, now_ms: int = 0, queue: str = "payments") -> list[int]:
    """The positions of the jobs of a queue that may start."""
    return [row.position for row in await store.jobs_ready(queue, now_ms)]


async def refusal(call: Awaitable[object]) -> type | None:
    """The type of the StoreError that a call raises, which must say what to do; None if none."""
    try:
        await call
    except StoreError as error:
        return type(error) if error.remedy else None
    return None


class ContractFrame(ABC):
    """Makes stores and runs checks on them."""

    @abstractmethod
    def make_store(self, tmp_path: Path) -> Store:
        """A new, empty store, not open. ``tmp_path`` is an empty directory."""

    def reopen(self, store: Store, tmp_path: Path) -> Store:
        """A store over the data of ``store``, which is closed. Override if it lives in memory."""
        return self.make_store(tmp_path)

    def run(self, tmp_path: Path, scenario: Callable[[StoreSource], Awaitable[None]]) -> None:
        """Run a scenario on a loop of its own and close the store it leaves."""

        async def whole() -> None:
            source = StoreSource(self, tmp_path, self.make_store(tmp_path))
            try:
                await scenario(source)
            finally:
                await source.store.close()

        asyncio.run(whole())
