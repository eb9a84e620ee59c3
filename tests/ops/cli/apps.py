"""What ``--app`` names in the tests: functions that make runtimes, and what is none."""

from __future__ import annotations

import asyncio
import os

from perdure import Runtime, Settings
from perdure.runtime.watching.vitals import Phase
from tests.describing.sagas import EVERYTHING
from tests.sagas import Basket, Flaky, Ledger

NUMBER = 7


def _url() -> str:
    return f"sqlite+aiosqlite:///{os.environ.get('TESTED_STORE', 'store.db')}"


def ledgers() -> Runtime:
    return Runtime(_url(), [Ledger, Flaky])


def over(store: str) -> Runtime:
    return Runtime(store, [Ledger, Flaky])


async def later() -> Runtime:
    return ledgers()


def baskets() -> Runtime:
    return Runtime(_url(), [Basket, Ledger], Settings(message_bytes_max=2**24))


def described() -> Runtime:
    return Runtime("memory://", EVERYTHING)


def over_any(store: str) -> Runtime:
    return Runtime(store, EVERYTHING)


def raising() -> Runtime:
    raise RuntimeError("not today")


async def stopping() -> Runtime:
    """Stops by itself when it is up."""
    runtime = ledgers()

    async def stop() -> None:
        while runtime.phase is not Phase.RUNNING:  # noqa: ASYNC110 - it says it no other way
            await asyncio.sleep(0)
        await runtime.stop()

    _stopping.append(asyncio.get_running_loop().create_task(stop()))
    return runtime


_stopping: list[asyncio.Task[None]] = []
