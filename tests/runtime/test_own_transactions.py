"""A worker's rows and its result are committed together: both, or none, and once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session

from perdure import Fixed, Job, OrderedSaga, OwnTransaction, RetryLater, Runtime, message
from tests.runtime.payments import (
    TABLES,
    Charge,
    Charged,
    Order,
    Ordered,
    Payment,
    charge,
    charge_plainly,
    charging,
    engine_of,
    order,
    own_of,
    payments,
    plain_own_of,
    records,
    running,
    settled,
)
from tests.runtime.support import in_loop
from tests.servers.databases import run_sql

within = in_loop(30)


@message(name="runtime-test.own-trip")
class Trip:
    id: str


@within
async def test_a_worker_s_rows_are_there_with_its_result_and_the_record_goes(postgres: str) -> None:
    async with running(postgres, charging()) as runtime:
        state = await order(runtime)
        assert (state.charged, state.receipts) == ((1,), (1,))
        assert await payments(postgres) == [("o", 1)]
    assert await records(postgres) == 0


@within
async def test_a_plain_function_has_a_plain_session(postgres: str) -> None:
    queue = charging(charge_plainly)
    async with running(postgres, queue, plain_own_of(postgres)) as runtime:
        assert (await order(runtime)).charged == (1,)
        assert await payments(postgres) == [("o", 1)]
    assert await records(postgres) == 0


@within
async def test_a_connection_does_in_place_of_a_session(postgres: str) -> None:
    async def insert(command: Charge, job: Job, session: AsyncConnection) -> Charged:
        await session.execute(text(f"INSERT INTO payments VALUES (1, 'o', {job.attempt})"))
        return Charged(command.id, job.attempt)

    own = OwnTransaction(engine_of(postgres))
    async with running(postgres, charging(insert), own) as runtime:
        assert (await order(runtime)).charged == (1,)
        assert await payments(postgres) == [("o", 1)]


@within
async def test_of_an_attempt_that_fails_nothing_is_kept(postgres: str) -> None:
    async def fail_twice(command: Charge, job: Job, session: AsyncSession) -> Charged:
        result = await charge(command, job, session)
        await session.flush()
        if job.attempt < 3:
            raise RetryLater("not yet", after_s=0.001)
        return result

    async with running(postgres, charging(fail_twice)) as runtime:
        state = await order(runtime)
        assert (state.charged, state.receipts) == ((3,), (3,))
        assert await payments(postgres) == [("o", 3)]


@within
async def test_what_the_database_refuses_at_the_end_fails_the_attempt(postgres: str) -> None:
    async def twice_the_same(command: Charge, job: Job, session: AsyncSession) -> Charged:
        session.add_all([Payment(id=1, order_id="o", attempt=1) for _ in range(2)])
        return Charged(command.id, job.attempt)

    async with running(postgres, charging(twice_the_same)) as runtime:
        assert (await order(runtime)).failed == ("exhausted",)
        assert await payments(postgres) == []
        assert await records(postgres) == 0


@pytest.mark.parametrize("result", [object(), Charged("o", 2**70), Charged("o" * 3_000_000, 1)])
@within
async def test_a_result_that_cannot_be_stored_takes_the_rows_with_it(
    postgres: str, result: Any
) -> None:
    async def charge_oddly(command: Charge, job: Job, session: AsyncSession) -> Any:
        await charge(command, job, session)
        return result

    async with running(postgres, charging(charge_oddly)) as runtime:
        assert (await order(runtime)).failed == ("non-retryable",)
        (letter,) = [one async for one in runtime.dead_letters.list()]
        assert "cannot be stored" in letter.error
        assert await payments(postgres) == []
        assert await records(postgres) == 0


# Whatever happens after the commit


def losing_the_answer(own: OwnTransaction, times: int = 1) -> None:
    """The next commits of a session succeed, and nobody hears of it."""
    left = [times]

    def lose(session: Session) -> None:
        if left[0] and not session.in_nested_transaction():
            left[0] -= 1
            raise ConnectionResetError("the answer to COMMIT was lost")

    made = own.open

    def opening() -> Any:
        session = made()
        event.listen(getattr(session, "sync_session", session), "after_commit", lose)
        return session

    own.open = opening  # type: ignore[method-assign]


@pytest.mark.parametrize("plainly", [False, True], ids=["async", "plain"])
@within
async def test_an_answer_that_is_lost_is_found_in_the_record(postgres: str, plainly: bool) -> None:
    own = plain_own_of(postgres) if plainly else own_of(postgres)
    losing_the_answer(own)
    queue = charging(charge_plainly if plainly else charge, retry=Fixed(3600, max_attempts=4))
    async with running(postgres, queue, own) as runtime:
        state = await order(runtime)
        assert (state.charged, state.receipts) == ((1,), (1,))
        assert await payments(postgres) == [("o", 1)]


@within
async def test_the_last_attempt_counts_though_nobody_heard_of_its_end(postgres: str) -> None:
    """Not even whoever asks right after it, on the worker's own connection."""
    own = own_of(postgres)
    losing_the_answer(own)
    run, failing = own.run, [1]

    async def fail_first(function: Callable[..., Any], *arguments: Any) -> Any:
        if failing[0]:
            failing[0] -= 1
            raise ConnectionRefusedError("the server is away")
        return await run(function, *arguments)

    own.run = fail_first  # type: ignore[assignment, method-assign]
    queue = charging(retry=Fixed(0.001, max_attempts=1))
    async with running(postgres, queue, own) as runtime:
        state = await order(runtime)
        while not state.charged + state.failed:
            await asyncio.sleep(0.01)
            state = await settled(runtime)
        assert (state.charged, state.failed) == ((1,), ())
        assert await payments(postgres) == [("o", 1)]
        assert [one async for one in runtime.dead_letters.list()] == []


# Two attempts at once


class Gates:
    """The first attempt waits in the midst of its transaction."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.ended = threading.Event()

    def charge(self, command: Charge, job: Job, session: Session) -> Charged:
        result = charge_plainly(command, job, session)
        if job.attempt == 1:
            event.listen(session, "after_transaction_end", lambda *_: self.ended.set())
            self.go_on.wait(20)
            job._taken_away = ""  # it does not know that it was taken away
        return result


@within
async def test_an_attempt_that_was_given_up_commits_no_more(postgres: str) -> None:
    gates = Gates()
    own = plain_own_of(postgres)
    queue = charging(gates.charge, lease_s=0.3)
    async with running(postgres, queue, own) as runtime:
        state = await order(runtime)
        assert state.charged == (2,)
        gates.go_on.set()
        await asyncio.to_thread(gates.ended.wait, 20)
    assert await payments(postgres) == [("o", 2)]
    assert await records(postgres) == 0


@within
async def test_an_attempt_that_was_given_up_and_commits_first_is_the_one(postgres: str) -> None:
    second_is_in, go_on = threading.Event(), threading.Event()

    def charge_slowly(command: Charge, job: Job, session: Session) -> Charged:
        if job.attempt == 1:
            second_is_in.wait(20)
            job._taken_away = ""  # it does not know that it was taken away
        else:
            second_is_in.set()
            go_on.wait(20)
        return charge_plainly(command, job, session)

    own = plain_own_of(postgres)
    queue = charging(charge_slowly, lease_s=0.3)
    async with running(postgres, queue, own) as runtime:
        ordering = asyncio.create_task(order(runtime))
        while not await records(postgres):  # noqa: ASYNC110 - another thread
            await asyncio.sleep(0.02)
        go_on.set()
        state = await ordering
        assert (state.charged, state.receipts) == ((1,), (1,))
        assert await payments(postgres) == [("o", 1)]
    assert await records(postgres) == 0


# What a worker may do in its transaction


@within
async def test_who_commits_by_himself_is_told_so_before_it_is_done(postgres: str) -> None:
    async def commit(command: Charge, job: Job, session: AsyncSession) -> Charged:
        await charge(command, job, session)
        await session.commit()
        return Charged(command.id, job.attempt)

    async with running(postgres, charging(commit)) as runtime:
        assert (await order(runtime)).failed == ("exhausted",)
        (letter,) = [one async for one in runtime.dead_letters.list()]
        assert "commits its own transaction" in letter.error
        assert await payments(postgres) == []


@within
async def test_savepoints_and_a_rollback_are_the_worker_s(postgres: str) -> None:
    async def try_some(command: Charge, job: Job, session: AsyncSession) -> Charged:
        session.add(Payment(id=1, order_id="rolled back", attempt=1))
        await session.flush()
        await session.rollback()
        async with session.begin_nested():
            session.add(Payment(id=1, order_id="kept", attempt=1))
        nested = await session.begin_nested()
        session.add(Payment(id=2, order_id="not kept", attempt=1))
        await session.flush()
        await nested.rollback()
        return Charged(command.id, job.attempt)

    async with running(postgres, charging(try_some)) as runtime:
        assert (await order(runtime)).charged == (1,)
        assert await payments(postgres) == [("kept", 1)]


@within
async def test_it_may_be_serializable(postgres: str) -> None:
    own = OwnTransaction(engine_of(postgres, isolation_level="SERIALIZABLE"))

    async def insert(command: Charge, job: Job, session: AsyncConnection) -> Charged:
        await session.execute(text("INSERT INTO payments VALUES (1, 'o', 1)"))
        return Charged(command.id, job.attempt)

    async with running(postgres, charging(insert), own) as runtime:
        assert (await order(runtime)).charged == (1,)
        assert await payments(postgres) == [("o", 1)]


@within
async def test_its_transaction_begins_with_the_worker_s_first_statement(postgres: str) -> None:
    """Also where the record was looked at first: whoever calls others for long holds nothing."""
    begun: list[bool] = []

    async def look(command: Charge, job: Job, session: AsyncSession) -> Charged:
        begun.append(session.in_transaction())
        if job.attempt == 1:
            raise RetryLater("again", after_s=0.001)
        return Charged(command.id, job.attempt)

    async with running(postgres, charging(look)) as runtime:
        assert (await order(runtime)).charged == (2,)
    assert begun == [False, False]


@pytest.mark.parametrize("kind", ["session", "connection"])
@within
async def test_the_driver_may_be_another_one(postgres: str, kind: str) -> None:
    engine = engine_of(postgres.replace("+asyncpg", "+psycopg"))
    own = OwnTransaction(async_sessionmaker(engine) if kind == "session" else engine)

    async def insert(command: Charge, job: Job, session: Any) -> Charged:
        await session.execute(text("INSERT INTO payments VALUES (1, 'o', 1)"))
        return Charged(command.id, job.attempt)

    async with running(postgres, charging(insert), own) as runtime:
        ref = runtime.ref(Order, "o")
        async with engine.begin() as connection:
            await runtime.send(ref, Ordered("o"), transaction=connection)
        while await run_sql(postgres, "SELECT FROM perdure.mail"):  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        assert (await settled(runtime)).charged == (1,)
        assert await payments(postgres) == [("o", 1)]


# Where it cannot be


@within
async def test_a_connection_that_commits_each_statement_is_refused(postgres: str) -> None:
    own = OwnTransaction(engine_of(postgres, isolation_level="AUTOCOMMIT"))
    async with running(postgres, charging(), own) as runtime:
        assert (await order(runtime)).failed == ("exhausted",)
        (letter,) = [one async for one in runtime.dead_letters.list()]
        assert "commits each statement by itself" in letter.error


@within
async def test_another_database_is_refused_by_name(postgres: str, empty_postgres: str) -> None:
    async with running(postgres, charging(), own_of(empty_postgres)) as runtime:
        assert (await order(runtime)).failed == ("exhausted",)
        (letter,) = [one async for one in runtime.dead_letters.list()]
        assert "no table perdure.performed" in letter.error


@within
async def test_a_copy_of_the_database_has_no_such_job(postgres: str, other_postgres: str) -> None:
    await run_sql(other_postgres, TABLES)
    async with running(postgres, charging(), own_of(other_postgres)) as runtime:
        assert (await order(runtime)).failed == ("exhausted",)
        (letter,) = [one async for one in runtime.dead_letters.list()]
        assert "is not in the outbox" in letter.error
    assert await payments(other_postgres) == []


@within
async def test_what_a_process_has_left_is_swept_by_the_next(postgres: str) -> None:
    row = "INSERT INTO perdure.performed VALUES ('17', '', 0, 0)"
    await run_sql(postgres, row)
    async with running(postgres, charging()) as runtime:
        while await records(postgres):  # noqa: ASYNC110 - the database is asked
            await asyncio.sleep(0.01)
        await order(runtime)
    assert await records(postgres) == 0


# Who else may have one


@within
async def test_a_step_of_an_ordered_saga_may_have_it(postgres: str) -> None:
    trip = OrderedSaga("runtime-test.trip", Trip, by="id")

    @trip.step(nothing_to_undo=True)
    async def pay(trip: Trip, session: AsyncSession) -> None:
        session.add(Payment(order_id=trip.id, attempt=1))

    await run_sql(postgres, TABLES)
    own = own_of(postgres)
    async with Runtime(postgres, [trip], resources={"session": own}) as runtime:
        await runtime.publish(Trip("t"))
        await runtime.result(runtime.ref(trip, "t"))
        assert await payments(postgres) == [("t", 1)]
    assert await records(postgres) == 0


@within
async def test_a_user_of_few_rights_will_do(postgres: str) -> None:
    await run_sql(
        postgres,
        TABLES,
        "DROP ROLE IF EXISTS perdure_worker",
        "CREATE ROLE perdure_worker",
        "GRANT ALL ON payments, payments_id_seq TO perdure_worker",
        "GRANT USAGE ON SCHEMA perdure TO perdure_worker",
        "GRANT SELECT, INSERT ON perdure.performed TO perdure_worker",
        "GRANT SELECT, UPDATE ON perdure.outbox TO perdure_worker",
    )
    engine = engine_of(postgres, connect_args={"server_settings": {"role": "perdure_worker"}})
    own = OwnTransaction(async_sessionmaker(engine))
    async with running(postgres, charging(), own) as runtime:
        assert (await order(runtime)).charged == (1,)
    assert await payments(postgres) == [("o", 1)]
    await run_sql(postgres, "DROP OWNED BY perdure_worker", "DROP ROLE perdure_worker")


@within
async def test_a_message_sent_by_a_worker_is_part_of_its_transaction(postgres: str) -> None:
    runtimes: list[Runtime] = []

    async def charge_and_order(command: Charge, job: Job, session: AsyncSession) -> Charged:
        (runtime,) = runtimes
        await runtime.publish(Ordered(f"{command.id}{job.attempt}", "stop"), transaction=session)
        if job.attempt == 1 and command.how == "charge":
            raise RetryLater("not yet", after_s=0.001)
        return Charged(command.id, job.attempt)

    async def once(command: Charge, job: Job, session: AsyncSession) -> Charged:
        if command.how == "stop":
            return Charged(command.id, job.attempt)
        return await charge_and_order(command, job, session)

    async with running(postgres, charging(once)) as runtime:
        runtimes.append(runtime)
        assert (await order(runtime)).charged == (2,)
        while await run_sql(postgres, "SELECT FROM perdure.mail"):  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        assert (await settled(runtime, "o2")).charged == (1,)
        assert await runtime.state(runtime.ref(Order, "o1")) is None
