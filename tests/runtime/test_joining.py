"""A message in the user's own transaction: it arrives if that is committed, and only then."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlalchemy.orm import Session

from perdure import (
    Accepted,
    Effects,
    Job,
    ProcessManager,
    Runtime,
    WorkQueue,
    applies,
    continues,
    message,
    starts,
)
from perdure.errors import (
    CodecError,
    CorrelationFailed,
    DefinitionError,
    JobError,
    NotJoinable,
    UnknownMessageType,
    Unroutable,
)
from tests.runtime.payments import TABLES, Payment, engine_of, plain_engine_of
from tests.runtime.support import in_loop, state_of
from tests.sagas import Added, Ledger, Opened, Struck
from tests.servers.databases import run_sql

within = in_loop(30)


@message(name="runtime-test.told")
class Told:
    id: str


@dataclass(frozen=True)
class Items:
    items: tuple[int, ...] = ()


class Box(ProcessManager[Items]):
    name = "runtime-test.box"

    @starts(Opened, by="id")
    def opened(self, state: Items, event: Opened, do: Effects) -> None: ...

    @continues(Added, by="id")
    def added(self, state: Items, event: Added, do: Effects) -> None: ...

    @applies(Added)
    def append(self, state: Items, event: Added) -> Items:
        return Items((*state.items, event.n))


class Teller(Box):
    """Another saga that opened boxes concern."""

    name = "runtime-test.teller"


class Heard:
    """What workers were given, in order."""

    def __init__(self) -> None:
        self.all: list[tuple[str, str]] = []
        self.queue = WorkQueue("hearing", sequential=True)

        @self.queue.worker
        async def tell(command: Told, job: Job) -> None:
            self.all.append((command.id, job.key))

        @self.queue.subscriber
        async def hear(event: Opened, job: Job) -> None:
            self.all.append((event.id, job.key))


@asynccontextmanager
async def running(url: str, heard: Heard | None = None) -> AsyncIterator[Runtime]:
    await run_sql(url, TABLES.replace("TABLE", "TABLE IF NOT EXISTS"))
    members: list[Any] = [Box, Teller]
    async with Runtime(url, members + ([heard.queue] if heard else [])) as runtime:
        yield runtime


async def arrived(runtime: Runtime, url: str) -> None:
    """All mail that was committed has been taken."""
    while await run_sql(url, "SELECT FROM perdure.mail"):  # noqa: ASYNC110 - the database is asked
        await asyncio.sleep(0.005)
    await runtime.settled()


async def total(runtime: Runtime, id: str = "x") -> int | None:
    view = await runtime.state(runtime.ref(Box, id))
    return None if view is None else sum(view.state.items)


async def opened(runtime: Runtime, id: str = "x") -> Any:
    ref = runtime.ref(Box, id)
    await runtime.send(ref, Opened(id))
    return ref


# Commit and rollback


@within
async def test_a_session_s_rows_and_its_message_are_there_together(postgres: str) -> None:
    async with running(postgres) as runtime, AsyncSession(engine_of(postgres)) as session:
        ref = await opened(runtime)
        session.add(Payment(order_id="x", attempt=1))
        accepted = await runtime.send(ref, Added("x", 5), transaction=session)
        assert accepted == Accepted(Box.name, "x", accepted.message_id)
        await runtime.settled()
        assert await total(runtime) == 0
        await session.commit()
        await arrived(runtime, postgres)
        assert await total(runtime) == 5
        receipt = await runtime.send(ref, Added("x", 5), message_id=accepted.message_id)
        assert receipt.duplicate


@within
async def test_rolled_back_nothing_arrives(postgres: str) -> None:
    async with running(postgres) as runtime, AsyncSession(engine_of(postgres)) as session:
        ref = await opened(runtime)
        await runtime.send(ref, Added("x", 5), transaction=session)
        await session.rollback()
        await runtime.send(ref, Added("x", 1), transaction=session)
        await session.commit()
        await arrived(runtime, postgres)
        assert await total(runtime) == 1


@within
async def test_a_savepoint_that_is_rolled_back_takes_its_messages_along(postgres: str) -> None:
    async with running(postgres) as runtime, AsyncSession(engine_of(postgres)) as session:
        ref = await opened(runtime)
        await runtime.send(ref, Added("x", 1), transaction=session)
        async with session.begin_nested():
            await runtime.send(ref, Added("x", 10), transaction=session)
        nested = await session.begin_nested()
        await runtime.send(ref, Added("x", 100), transaction=session)
        await nested.rollback()
        await session.commit()
        await arrived(runtime, postgres)
        assert await total(runtime) == 11


@within
async def test_messages_of_one_transaction_keep_their_order(postgres: str) -> None:
    async with running(postgres) as runtime, engine_of(postgres).begin() as connection:
        ref = runtime.ref(Box, "x")
        await runtime.send(ref, Opened("x"), transaction=connection)
        for amount in range(1, 8):
            await runtime.send(ref, Added("x", amount), transaction=connection)
        await connection.commit()
        await arrived(runtime, postgres)
        assert (await state_of(runtime, ref)).items == tuple(range(1, 8))


@within
async def test_every_kind_of_transaction_of_sqlalchemy_will_do(postgres: str) -> None:
    async with running(postgres) as runtime:
        ref = await opened(runtime)
        async with engine_of(postgres).begin() as connection:
            await runtime.send(ref, Added("x", 1), transaction=connection)
            plain: Any = connection.sync_connection
            await runtime.send(ref, Added("x", 10), transaction=plain)
        async with AsyncSession(engine_of(postgres)) as session, session.begin():
            await runtime.send(ref, Added("x", 100), transaction=session.sync_session)
        with plain_engine_of(postgres).begin() as plain:
            await runtime.send(ref, Added("x", 1_000), transaction=plain)
        with Session(plain_engine_of(postgres)) as plain_session, plain_session.begin():
            await runtime.send(ref, Added("x", 10_000), transaction=plain_session)
        await arrived(runtime, postgres)
        assert await total(runtime) == 11_111


@within
async def test_the_bell_rings_at_the_commit(postgres: str) -> None:
    """Whoever looks twice a second would not find it so soon."""
    async with running(postgres) as runtime:
        ref = await opened(runtime)
        rung: list[Any] = []
        joining = runtime.running.joining  # type: ignore[union-attr]
        joining.bell = rung.append
        async with AsyncSession(engine_of(postgres)) as session:
            await runtime.send(ref, Added("x", 1), transaction=session)
            await runtime.send(ref, Added("x", 1), transaction=session)
            async with session.begin_nested():
                pass
            await asyncio.sleep(0)
            assert rung == []
            await session.commit()
            await asyncio.sleep(0)
            assert len(rung) == 2
            await runtime.send(ref, Added("x", 1), transaction=session)
            await session.rollback()
            await session.execute(text("SELECT 1"))
            await session.commit()
            await asyncio.sleep(0)
            assert len(rung) == 2
        async with engine_of(postgres).connect() as connection:
            joining.bell = lambda _: rung.append(connection.in_transaction())
            await runtime.send(ref, Added("x", 1), transaction=connection)
            assert len(rung) == 2
            await connection.commit()
            while len(rung) == 2:  # noqa: ASYNC110 - SQLAlchemy tells before its COMMIT
                await asyncio.sleep(0)
            assert rung[2:] == [False]


# publish and enqueue


@within
async def test_a_published_message_goes_to_all_instances_and_subscribers(postgres: str) -> None:
    heard = Heard()
    async with running(postgres, heard) as runtime:
        async with AsyncSession(engine_of(postgres)) as session:
            accepted = await runtime.publish(Opened("x"), message_id="m", transaction=session)
            assert sorted(one.saga for one in accepted) == [Box.name, Teller.name]
            assert {one.message_id for one in accepted} == {"m"}
            await session.commit()
        await arrived(runtime, postgres)
        assert await total(runtime) == 0
        assert heard.all == [("x", "m@hearing")]
        assert [one async for one in runtime.dead_letters.list()] == []


@within
async def test_what_concerns_nobody_is_no_row(postgres: str) -> None:
    async with running(postgres) as runtime, AsyncSession(engine_of(postgres)) as session:
        assert await runtime.publish(Told("x"), transaction=session) == []
        assert not session.in_transaction()


@within
async def test_an_enqueued_command_is_performed_once_after_the_commit(postgres: str) -> None:
    heard = Heard()
    async with running(postgres, heard) as runtime:
        async with AsyncSession(engine_of(postgres)) as session:
            job_id = await runtime.enqueue(Told("a"), transaction=session)
            for _ in range(2):
                named = await runtime.enqueue(Told("b"), job_id="b-1", transaction=session)
            await runtime.settled()
            assert (heard.all, named) == ([], "b-1")
            await session.commit()
        await arrived(runtime, postgres)
        assert sorted(heard.all) == [("a", job_id), ("b", "b-1")]


@within
async def test_an_enqueued_command_may_wait_for_its_moment(postgres: str) -> None:
    heard = Heard()
    async with running(postgres, heard) as runtime:
        async with AsyncSession(engine_of(postgres)) as session:
            await runtime.enqueue(Told("a"), delay=timedelta(hours=1), transaction=session)
            await session.commit()
        await arrived(runtime, postgres)
        (job,) = [one async for one in runtime.queue("hearing").jobs()]
        assert job.due_at is not None
        assert heard.all == []


@within
async def test_a_message_repeated_under_its_id_is_applied_once(postgres: str) -> None:
    async with running(postgres) as runtime:
        ref = await opened(runtime)
        for _ in range(3):
            async with AsyncSession(engine_of(postgres)) as session:
                for _ in range(2):
                    await runtime.send(ref, Added("x", 5), message_id="once", transaction=session)
                await session.commit()
        await arrived(runtime, postgres)
        assert await total(runtime) == 5


@within
async def test_it_arrives_though_the_runtime_was_not_there_at_the_commit(postgres: str) -> None:
    async with AsyncSession(engine_of(postgres)) as session:
        async with running(postgres) as runtime:
            ref = await opened(runtime)
            await runtime.send(ref, Added("x", 5), transaction=session)
        await session.commit()
    async with running(postgres) as runtime:
        await arrived(runtime, postgres)
        assert await total(runtime) == 5


@within
async def test_a_long_transaction_holds_nobody_up_and_is_not_passed_over(postgres: str) -> None:
    async with running(postgres) as runtime, AsyncSession(engine_of(postgres)) as long:
        ref = await opened(runtime)
        await runtime.send(ref, Added("x", 1), transaction=long)
        async with AsyncSession(engine_of(postgres)) as session:
            await runtime.send(ref, Added("x", 10), transaction=session)
            await session.commit()
        await arrived(runtime, postgres)
        assert await total(runtime) == 10
        await long.commit()
        await arrived(runtime, postgres)
        assert await total(runtime) == 11


@within
async def test_a_message_that_its_instance_refuses_is_a_dead_letter(postgres: str) -> None:
    async with Runtime(postgres, [Ledger]) as runtime:
        ref = runtime.ref(Ledger, "x")
        await runtime.send(ref, Opened("x"))
        async with AsyncSession(engine_of(postgres)) as session:
            await runtime.send(ref, Struck("x", "error"), transaction=session)
            await session.commit()
        await arrived(runtime, postgres)
        (letter,) = [one async for one in runtime.dead_letters.list()]
        assert (letter.correlation_id, letter.reason) == ("x", "ValueError")


# What is wrong is found at the call, and harms nobody


@within
async def test_what_is_wrong_with_a_message_is_raised_before_anything_is_written(
    postgres: str,
) -> None:
    heard = Heard()
    async with running(postgres, heard) as runtime, AsyncSession(engine_of(postgres)) as session:
        ref = runtime.ref(Box, "x")
        with pytest.raises(UnknownMessageType):
            await runtime.send(ref, Told("x"), transaction=session)
        with pytest.raises(CodecError):
            await runtime.send(ref, Added("x", object()), transaction=session)  # type: ignore[arg-type]
        with pytest.raises(CodecError):
            await runtime.publish(Opened(object()), transaction=session)  # type: ignore[arg-type]
        with pytest.raises(CorrelationFailed):
            await runtime.publish(Opened("x"), message_id="", transaction=session)
        with pytest.raises(CorrelationFailed):
            await runtime.send(ref, Opened("x"), message_id="perdure.m", transaction=session)
        with pytest.raises(DefinitionError, match="timeout_s"):
            await runtime.send(ref, Opened("x"), timeout_s=1.0, transaction=session)  # type: ignore[call-overload]
        with pytest.raises(Unroutable):
            await runtime.enqueue(Added("x", 1), queue="hearing", transaction=session)
        with pytest.raises(JobError):
            await runtime.enqueue(Told("x"), delay=timedelta(-1), transaction=session)
        with pytest.raises(DefinitionError, match="NUL"):
            await runtime.send(ref, Opened("x"), message_id="a\0b", transaction=session)
        assert not session.in_transaction()


@pytest.mark.parametrize("store", ["memory://", "sqlite+aiosqlite:///{}/a.db"])
@within
async def test_other_stores_say_that_it_takes_postgresql(store: str, tmp_path: Any) -> None:
    async with Runtime(store.format(tmp_path), [Box]) as runtime:
        session = AsyncSession(engine_of("postgresql+asyncpg://nobody@127.0.0.1:1/nothing"))
        with pytest.raises(NotJoinable, match="not in PostgreSQL"):
            await runtime.send(runtime.ref(Box, "x"), Opened("x"), transaction=session)


@within
async def test_another_database_is_refused_and_the_user_s_rows_go_on(
    postgres: str, empty_postgres: str
) -> None:
    await run_sql(empty_postgres, TABLES)
    async with running(postgres) as runtime, AsyncSession(engine_of(empty_postgres)) as session:
        ref = runtime.ref(Box, "x")
        session.add(Payment(order_id="x", attempt=1))
        await session.flush()
        for _ in range(2):
            with pytest.raises(NotJoinable, match=r"no table perdure\.mail"):
                await runtime.send(ref, Opened("x"), transaction=session)
        await session.commit()
        assert len(await run_sql(empty_postgres, "SELECT FROM payments")) == 1


@within
async def test_another_database_with_tables_of_ours_is_refused(
    postgres: str, other_postgres: str
) -> None:
    async with running(postgres) as runtime, AsyncSession(engine_of(other_postgres)) as session:
        with pytest.raises(NotJoinable, match="another database than the store's"):
            await runtime.send(runtime.ref(Box, "x"), Opened("x"), transaction=session)
        await session.commit()


@within
async def test_a_user_who_may_not_is_told_what_to_grant(postgres: str) -> None:
    await run_sql(
        postgres,
        "DROP ROLE IF EXISTS perdure_weak",
        "CREATE ROLE perdure_weak",
        "GRANT USAGE ON SCHEMA perdure TO perdure_weak",
    )
    async with running(postgres) as runtime, engine_of(postgres).connect() as connection:
        await connection.execute(text("SET LOCAL ROLE perdure_weak"))
        with pytest.raises(NotJoinable, match=r"'perdure_weak' may not.*GRANT USAGE"):
            await runtime.send(runtime.ref(Box, "x"), Opened("x"), transaction=connection)
        await connection.execute(text("SELECT 1"))
        await connection.rollback()
        await run_sql(
            postgres,
            "GRANT INSERT ON perdure.mail TO perdure_weak",
            "GRANT SELECT ON perdure.meta TO perdure_weak",
        )
        await connection.execute(text("SET LOCAL ROLE perdure_weak"))
        await runtime.send(runtime.ref(Box, "x"), Opened("x"), transaction=connection)
        await connection.commit()
        await arrived(runtime, postgres)
        assert await total(runtime) == 0
    await run_sql(postgres, "DROP OWNED BY perdure_weak", "DROP ROLE perdure_weak")


@within
async def test_where_nothing_can_be_rolled_back_it_is_refused(postgres: str) -> None:
    engine = engine_of(postgres, isolation_level="AUTOCOMMIT")
    async with running(postgres) as runtime, engine.connect() as connection:
        with pytest.raises(NotJoinable, match="commits each statement by itself"):
            await runtime.send(runtime.ref(Box, "x"), Opened("x"), transaction=connection)


@within
async def test_an_aborted_transaction_is_refused_without_the_message(postgres: str) -> None:
    async with running(postgres) as runtime, AsyncSession(engine_of(postgres)) as session:
        ref, secret = runtime.ref(Box, "x"), Opened("-".join(("card", "4111")))
        for is_known in (False, True):
            with pytest.raises(DBAPIError):
                await session.execute(text("SELECT 1 / 0"))
            with pytest.raises(NotJoinable, match=r"is aborted.*roll it back first") as raised:
                await runtime.send(ref, secret, transaction=session)
            assert "card-4111" not in "".join(traceback.format_exception(raised.value)), is_known
            await session.rollback()
            await runtime.send(ref, Opened("x"), transaction=session)
            await session.rollback()


@within
async def test_a_session_that_waits_for_its_rollback_is_refused(postgres: str) -> None:
    async with running(postgres) as runtime, AsyncSession(engine_of(postgres)) as session:
        session.add(Payment(order_id="a\0b", attempt=1))
        with pytest.raises(DBAPIError):
            await session.flush()
        with pytest.raises(NotJoinable, match=r"is aborted.*roll it back first"):
            await runtime.send(runtime.ref(Box, "x"), Opened("x"), transaction=session)


@within
async def test_what_is_no_transaction_is_refused(postgres: str) -> None:
    things: list[Any] = [object(), "session", AsyncSession, 17, engine_of(postgres)]
    async with running(postgres) as runtime:
        for thing in things:
            with pytest.raises(NotJoinable, match="no transaction that a message can join"):
                await runtime.send(runtime.ref(Box, "x"), Opened("x"), transaction=thing)


@within
async def test_a_translated_schema_is_not_ours(postgres: str) -> None:
    options = {"schema_translate_map": {None: "elsewhere", "perdure": "elsewhere"}}
    engine = engine_of(postgres, execution_options=options)
    async with running(postgres) as runtime:
        async with engine.begin() as connection:
            assert isinstance(connection, AsyncConnection)
            await runtime.send(runtime.ref(Box, "x"), Opened("x"), transaction=connection)
        await arrived(runtime, postgres)
        assert await total(runtime) == 0
