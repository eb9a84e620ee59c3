"""What ``--app`` names in the tests: functions that make runtimes, and what is none."""

from __future__ import annotations

import os

from perdure import Runtime, Settings
from tests.sagas import Basket, Flaky, Ledger

NUMBER = 7


def _url() -> str:
    return f"sqlite+aiosqlite:///{os.environ.get('TESTED_STORE', 'store.db')}"


def ledgers() -> Runtime:
    return Runtime(_url(), [Ledger, Flaky])


async def later() -> Runtime:
    return ledgers()


def baskets() -> Runtime:
    return Runtime(_url(), [Basket, Ledger], Settings(message_bytes_max=2**24))


def raising() -> Runtime:
    raise RuntimeError("not today")
