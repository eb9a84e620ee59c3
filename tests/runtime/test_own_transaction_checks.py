"""Workers whose own transactions cannot be are refused before anything runs."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import sessionmaker

from perdure import OwnTransaction, Runtime, WorkQueue
from perdure.errors import DefinitionError
from tests.runtime.payments import Charge, charge, charge_plainly, charging

URL = "postgresql+asyncpg://nobody@127.0.0.1:1/nothing"


def own(url: str = URL) -> OwnTransaction:
    return OwnTransaction(async_sessionmaker(create_async_engine(url)))


def plain() -> OwnTransaction:
    return OwnTransaction(sessionmaker(create_engine(URL.replace("asyncpg", "psycopg"))))


@pytest.mark.parametrize("store", ["memory://", "sqlite+aiosqlite:///nothing.db"])
def test_a_store_that_is_not_in_postgresql(store: str) -> None:
    with pytest.raises(DefinitionError, match=r"worker 'charge' of queue 'payments'.*PostgreSQL"):
        Runtime(store, [charging()], resources={"session": own()})


def test_a_resource_that_no_worker_wants_is_nobody_s_business() -> None:
    Runtime("memory://", [WorkQueue("other")], resources={"session": own()})


def test_a_session_that_blocks_for_a_coroutine() -> None:
    with pytest.raises(DefinitionError, match=r"coroutine.*would block.*async_sessionmaker"):
        Runtime(URL, [charging(charge)], resources={"session": plain()})


def test_a_session_that_is_awaited_for_a_plain_function() -> None:
    with pytest.raises(DefinitionError, match=r"plain function.*must be awaited.*sessionmaker"):
        Runtime(URL, [charging(charge_plainly)], resources={"session": own()})


def test_two_transactions_for_one_worker() -> None:
    async def both(command: Charge, one: Any, other: Any) -> None: ...

    with pytest.raises(DefinitionError, match="two transactions of its own, one and other"):
        Runtime(URL, [charging(both)], resources={"one": own(), "other": own()})


@pytest.mark.parametrize("maker", [None, object(), URL, create_async_engine])
def test_what_makes_no_transactions(maker: Any) -> None:
    with pytest.raises(DefinitionError, match="give an async_sessionmaker"):
        OwnTransaction(maker)


def test_another_kind_of_database() -> None:
    with pytest.raises(DefinitionError, match="one of sqlite"):
        own("sqlite+aiosqlite:///nothing.db")
    with pytest.raises(DefinitionError, match="one of sqlite"):
        OwnTransaction(create_engine("sqlite://"))


def test_a_plain_engine_of_a_driver_that_is_awaited() -> None:
    engine = create_async_engine(URL).sync_engine
    for maker in (engine, sessionmaker(engine)):
        with pytest.raises(DefinitionError, match=r"plain, and its driver asyncpg is not"):
            OwnTransaction(maker)


def test_a_maker_that_learns_its_engine_later() -> None:
    assert OwnTransaction(async_sessionmaker()).is_async
    assert not OwnTransaction(sessionmaker()).is_async
