"""Connecting to PostgreSQL, and who is told to end meanwhile."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine
from typing import Any

import asyncpg
import pytest

from perdure.errors import StoreError
from perdure.store import migrations
from perdure.store.postgres_address import Address
from perdure.store.postgres_connecting import connect
from perdure.store.postgres_database import Database
from perdure.store.postgres_errors import said
from tests.store.support_postgres import on_loop

STEPS = 40
"""Turns of the loop; by then the server was asked about TLS."""


async def opened(url: str) -> None:
    database = Database(url)
    try:
        await database.open()
    finally:
        await database.close()


async def connected(url: str) -> None:
    connection = await Database(url).connect()
    await connection.close()


async def looked(url: str) -> None:
    await migrations.current(url)


@pytest.mark.parametrize("work", [opened, connected, looked])
@on_loop
async def test_whoever_is_cancelled_while_connecting_leaves_nothing_behind(
    work: Callable[[str], Coroutine[Any, Any, None]], postgres: str
) -> None:
    told: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: told.append(context["message"]))
    for steps in range(STEPS):
        working = loop.create_task(work(postgres))
        for _ in range(steps):
            await asyncio.sleep(0)
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
    gc.collect()
    await asyncio.sleep(0)
    assert not told


@on_loop
async def test_a_server_that_says_nothing_does_not_hold_who_is_cancelled() -> None:
    taken, ended = asyncio.Event(), asyncio.Event()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        taken.set()
        await reader.read()
        writer.close()
        ended.set()

    async with await asyncio.start_server(take, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        address = Address.of(f"postgresql+asyncpg://a:b@127.0.0.1:{port}/shop")
        connecting = asyncio.create_task(connect(address, timeout=50))
        await taken.wait()
        connecting.cancel()
        async with asyncio.timeout(10):
            await asyncio.gather(connecting, return_exceptions=True)
            await ended.wait()
    assert connecting.cancelled()


def test_what_asyncpg_stumbles_over_is_told_as_what_has_happened() -> None:
    error = asyncpg.InternalClientError("cannot switch to state 12; another operation (2) is …")
    wrapped = StoreError("…")
    wrapped.__cause__ = error
    assert said(wrapped) == said(error) == "the server has ended the session"
    assert said(TimeoutError()) == "TimeoutError, nothing was answered"
