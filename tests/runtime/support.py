"""What the tests of the runtime need beside sagas: loops with a limit, views of what happened."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from perdure import InstanceView, MemoryStore, Runtime, SagaRef, Settings, SqlStore
from perdure.runtime.running import Running
from perdure.store.postgres import PostgresStore
from perdure.store.protocol import Store
from perdure.testing import FaultyStore, SimulatedClock
from tests.sagas import Added, Ledger, Opened


def in_loop(limit_s: float) -> Callable[[Callable[..., Coroutine[Any, Any, None]]], Any]:
    """Run the coroutine function as a test; fail if it takes longer."""

    def decorate(test: Callable[..., Coroutine[Any, Any, None]]) -> Any:
        @functools.wraps(test)
        def run(*args: Any, **kwargs: Any) -> None:
            async def limited() -> None:
                async with asyncio.timeout(limit_s):
                    await test(*args, **kwargs)

            asyncio.run(limited())

        return run

    return decorate


quickly = in_loop(10)


class FreeClock(SimulatedClock):
    """Advances without waiting for the runtime to settle: for tests that hold something back."""

    async def settle(self) -> None:
        await rounds()


async def rounds(count: int = 30) -> None:
    """Let the loop turn some times: whatever needs no store happens meanwhile."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until it is so; the test's own limit ends it otherwise."""
    while not condition():  # noqa: ASYNC110 - the loop's turns are what is waited for
        await asyncio.sleep(0)


async def open_ledger(runtime: Runtime, id: str = "x", saga: type = Ledger) -> SagaRef:
    """A ref to a ledger that has been opened."""
    ref = runtime.ref(saga, id)
    await runtime.send(ref, Opened(id))
    return ref


async def view_of(runtime: Runtime, ref: SagaRef) -> InstanceView:
    """The instance, which must exist."""
    view = await runtime.state(ref)
    assert view is not None
    return view


async def state_of(runtime: Runtime, ref: SagaRef) -> Any:
    return (await view_of(runtime, ref)).state


def parts(runtime: Runtime) -> Running:
    """The inside of a runtime that runs."""
    assert runtime._running is not None
    return runtime._running


async def items(runtime: Runtime, ref: SagaRef) -> list[int]:
    return list((await state_of(runtime, ref)).items)


def reopened(store: FaultyStore) -> FaultyStore:
    """The same rows through a store that knows nothing yet, as after a restart of the process."""
    inner = store.inner
    if isinstance(inner, PostgresStore):
        return FaultyStore(PostgresStore(inner.database.url))
    if isinstance(inner, SqlStore):
        return FaultyStore(SqlStore(f"sqlite+aiosqlite:///{inner.path}", synchronous="NORMAL"))
    assert isinstance(inner, MemoryStore)
    return FaultyStore(inner)


@asynccontextmanager
async def ledgers(store: Store, clock: Any = None, **settings: Any) -> AsyncIterator[Runtime]:
    """A runtime of ledgers over the store."""
    async with Runtime(store, [Ledger], Settings(**settings), clock=clock) as runtime:
        yield runtime


async def add(runtime: Runtime, ref: SagaRef, *numbers: int) -> list[Any]:
    """Send these numbers one by one; the receipts."""
    return [await runtime.send(ref, Added(ref.correlation_id, n)) for n in numbers]


def adding(runtime: Runtime, ref: SagaRef, *numbers: int) -> list[asyncio.Task[Any]]:
    """Send these numbers without waiting, in this order."""
    return [
        asyncio.create_task(
            runtime.send(ref, Added(ref.correlation_id, n), message_id=f"{ref.correlation_id}-{n}")
        )
        for n in numbers
    ]
