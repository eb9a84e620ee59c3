"""Messages from a process without a runtime: they arrive if its own transaction is committed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from perdure import Job, Letterbox, WorkQueue
from perdure.errors import (
    CodecError,
    CorrelationFailed,
    DefinitionError,
    NotJoinable,
    UnknownMessageType,
    UnknownSaga,
    Unroutable,
)
from perdure.store.forks import here
from tests.runtime.payments import TABLES, Payment, engine_of, plain_engine_of
from tests.runtime.support import in_loop
from tests.runtime.test_joining import Box, Heard, Teller, Told, arrived, opened, running, total
from tests.sagas import Added, Opened
from tests.servers.databases import execute, run_sql

within = in_loop(30)


@pytest.fixture
def letters() -> Letterbox:
    return Letterbox([Box, Teller, Heard().queue])


def plainly(url: str) -> str:
    return url.replace("+asyncpg", "")


@within
async def test_a_session_s_rows_and_its_message_are_there_together(
    postgres: str, letters: Letterbox
) -> None:
    heard = Heard()
    async with running(postgres, heard) as runtime:
        ref = await opened(runtime)
        await runtime.settled()
        heard.all.clear()
        with Session(plain_engine_of(postgres)) as session:
            session.add(Payment(order_id="x", attempt=1))
            accepted = letters.send(Box, "x", Added("x", 5), transaction=session)
            session.rollback()
            letters.publish(Opened("y"), transaction=session)
            letters.enqueue(Told("z"), job_id="j", transaction=session)
            session.commit()
        await arrived(runtime, postgres)
        assert (await total(runtime), await total(runtime, "y")) == (0, 0)
        assert [one[0] for one in sorted(heard.all)] == ["y", "z"]
        receipt = await runtime.send(ref, Added("x", 5), message_id=accepted.message_id)
        assert not receipt.duplicate
        assert await run_sql(postgres, "SELECT FROM payments") == []


def by_connection(url: str, put: Callable[[Any], None]) -> None:
    with plain_engine_of(url).begin() as connection:
        put(connection)


def by_scoped_session(url: str, put: Callable[[Any], None]) -> None:
    session = scoped_session(sessionmaker(plain_engine_of(url)))
    put(session)
    session.commit()
    session.remove()


def by_psycopg(url: str, put: Callable[[Any], None]) -> None:
    with psycopg.connect(plainly(url)) as connection:
        put(connection)


def by_psycopg_within(url: str, put: Callable[[Any], None]) -> None:
    with psycopg.connect(plainly(url), autocommit=True) as connection, connection.transaction():
        put(connection)


class Wrapped:
    """As Django's connections: one of a driver, and whether it commits by itself."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.connection = connection
        self.autocommit = False
        self.cursor = connection.cursor


def by_wrapped(url: str, put: Callable[[Any], None]) -> None:
    with psycopg.connect(plainly(url)) as connection:
        put(Wrapped(connection))


WAYS = [by_connection, by_scoped_session, by_psycopg, by_psycopg_within, by_wrapped]


@within
async def test_what_a_process_has_for_a_transaction_will_do(
    postgres: str, letters: Letterbox
) -> None:
    def put(id: str, transaction: Any) -> None:
        letters.publish(Opened(id), transaction=transaction)
        for n in range(1, 4):
            letters.send("runtime-test.box", id, Added(id, n), transaction=transaction)

    for by in WAYS:
        await asyncio.to_thread(by, postgres, partial(put, by.__name__))
    async with running(postgres, Heard()) as runtime:
        await arrived(runtime, postgres)
        for by in WAYS:
            view = await runtime.state(runtime.ref(Box, by.__name__))
            assert view is not None
            assert view.state.items == (1, 2, 3)


@within
async def test_an_asynchronous_session_lends_its_plain_one(
    postgres: str, letters: Letterbox
) -> None:
    async with AsyncSession(engine_of(postgres)) as session:
        with pytest.raises(NotJoinable, match="must be awaited"):
            letters.publish(Opened("x"), transaction=session)
        await session.run_sync(lambda plain: letters.publish(Opened("x"), transaction=plain))
        await session.commit()
    async with running(postgres, Heard()) as runtime:
        await arrived(runtime, postgres)
        assert await total(runtime) == 0


def test_many_threads_may_put(postgres: str, letters: Letterbox) -> None:
    def put(number: int) -> None:
        with psycopg.connect(plainly(postgres)) as connection:
            for n in range(50):
                letters.send(Box, f"b-{number}", Added(f"b-{number}", n), transaction=connection)

    threads = [threading.Thread(target=put, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ids = execute(postgres, "SELECT count(DISTINCT message_id), count(*) FROM perdure.mail")
    assert tuple(ids[0]) == (200, 200)


def test_a_forked_child_gives_out_ids_of_its_own(
    postgres: str, letters: Letterbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(plainly(postgres)) as connection:
        ours = letters.send(Box, "x", Added("x", 1), transaction=connection).message_id
        monkeypatch.setattr(here, "generation", here.generation + 1)
        theirs = letters.send(Box, "x", Added("x", 1), transaction=connection).message_id
    assert ours.partition("-")[0] != theirs.partition("-")[0]


def test_workers_are_not_called_and_need_no_resources() -> None:
    queue = WorkQueue("resourceful")

    @queue.worker
    def work(command: Told, job: Job, gateway: object) -> None: ...

    Letterbox([Box, queue])


# What is wrong


def test_what_is_wrong_with_a_message_is_raised_before_anything_is_written(
    postgres: str, letters: Letterbox
) -> None:
    with psycopg.connect(plainly(postgres)) as connection:
        with pytest.raises(UnknownSaga):
            letters.send("nobody", "x", Added("x", 1), transaction=connection)
        with pytest.raises(UnknownMessageType):
            letters.send(Box, "x", Told("x"), transaction=connection)
        with pytest.raises(CodecError):
            letters.publish(Added("x", object()), transaction=connection)  # type: ignore[arg-type]
        with pytest.raises(CorrelationFailed):
            letters.send(Box, object(), Added("x", 1), transaction=connection)
        with pytest.raises(Unroutable):
            letters.enqueue(Added("x", 1), queue="nowhere", transaction=connection)
        with pytest.raises(DefinitionError):
            letters.enqueue(Told("a"), job_id="a\0", transaction=connection)
        letters.enqueue(Told("a"), delay=timedelta(hours=1), transaction=connection)
        assert connection.execute("SELECT count(*) FROM perdure.mail").fetchone() == (1,)


def test_a_connection_that_commits_by_itself_is_refused(postgres: str, letters: Letterbox) -> None:
    with (
        psycopg.connect(plainly(postgres), autocommit=True) as connection,
        pytest.raises(NotJoinable, match="commits each statement by itself"),
    ):
        letters.publish(Opened("x"), transaction=connection)


def test_an_aborted_transaction_is_refused(postgres: str, letters: Letterbox) -> None:
    with psycopg.connect(plainly(postgres)) as connection:
        with pytest.raises(psycopg.Error):
            connection.execute("SELECT 1 / 0")
        with pytest.raises(NotJoinable, match=r"is aborted.*roll it back first"):
            letters.publish(Opened("x"), transaction=connection)
        connection.rollback()
        letters.send(Box, "x", Opened("x"), transaction=connection)
    assert len(execute(postgres, "SELECT FROM perdure.mail")) == 1


def test_a_database_without_our_tables_is_refused_and_the_user_s_rows_go_on(
    empty_postgres: str, letters: Letterbox
) -> None:
    execute(empty_postgres, TABLES)
    with psycopg.connect(plainly(empty_postgres)) as connection:
        connection.execute("INSERT INTO payments VALUES (1, 'x', 1)")
        with pytest.raises(NotJoinable, match=r"no table perdure\.mail"):
            letters.publish(Opened("x"), transaction=connection)
    assert len(execute(empty_postgres, "SELECT FROM payments")) == 1


def test_another_schema_is_named(postgres: str) -> None:
    letters = Letterbox([Box], schema="billing")
    with (
        psycopg.connect(plainly(postgres)) as connection,
        pytest.raises(NotJoinable, match=r"no table billing\.mail"),
    ):
        letters.publish(Opened("x"), transaction=connection)


@pytest.mark.parametrize("schema", ["", "a:b", "a%b", "a{b", None, 7])
def test_what_is_no_name_of_a_schema(schema: Any) -> None:
    with pytest.raises(DefinitionError, match="no name of a PostgreSQL schema"):
        Letterbox([Box], schema=schema)


def test_another_kind_of_database_is_named(letters: Letterbox) -> None:
    from sqlalchemy import create_engine

    with (
        create_engine("sqlite://").connect() as connection,
        pytest.raises(NotJoinable, match="one of sqlite"),
    ):
        letters.publish(Opened("x"), transaction=connection)
