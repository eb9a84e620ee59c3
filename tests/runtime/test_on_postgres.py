"""Whole runtimes over PostgreSQL: some of the tests of every part, and a server that is killed.

All of them run there with ``PERDURE_TEST_STORES=postgres pytest tests/runtime -k postgres``.
"""

from __future__ import annotations

import asyncio

import pytest

from perdure import Runtime
from perdure.errors import OutcomeUnknown, SendTimeout, StoreUnavailable
from perdure.store.migrations import upgrade
from perdure.store.postgres import PostgresStore
from perdure.testing import FaultyStore
from tests.runtime.support import in_loop, items, ledgers
from tests.runtime.test_compensation import (
    test_a_failed_command_is_compensated_once_also_by_a_turn_that_raises_first,
)
from tests.runtime.test_deadlines import (
    test_a_deadline_is_told_once_at_its_time_and_is_gone,
    test_overdue_deadlines_fire_at_the_start_without_any_message,
    test_what_is_due_comes_before_a_message_in_due_order,
)
from tests.runtime.test_duplicates import (
    test_copies_after_commit_passivation_restart_and_finish,
    test_copies_over_a_failed_write_are_applied_once,
)
from tests.runtime.test_finding import test_a_saga_without_instances_has_all_its_fields_indexed
from tests.runtime.test_jobs import (
    test_more_jobs_than_fit_the_window_are_read_from_the_store,
    test_what_a_worker_emits_and_sends_goes_out_with_its_result,
    test_what_was_not_performed_is_performed_by_the_next_runtime,
)
from tests.runtime.test_rehydration import (
    test_a_finished_instance_stays_finished,
    test_a_long_history_is_read_page_by_page,
    test_what_is_being_read_at_once_is_limited_and_shared,
)
from tests.runtime.test_store_outage import (
    test_a_storm_of_cancellations_leaves_every_outcome_settled,
    test_deadlines_and_jobs_of_an_outage_are_made_up_for,
)
from tests.sagas import Added, Ledger, Opened
from tests.servers.databases import run_sql
from tests.servers.postgres import Server

__all__ = [
    "test_a_deadline_is_told_once_at_its_time_and_is_gone",
    "test_a_failed_command_is_compensated_once_also_by_a_turn_that_raises_first",
    "test_a_finished_instance_stays_finished",
    "test_a_long_history_is_read_page_by_page",
    "test_a_saga_without_instances_has_all_its_fields_indexed",
    "test_a_storm_of_cancellations_leaves_every_outcome_settled",
    "test_copies_after_commit_passivation_restart_and_finish",
    "test_copies_over_a_failed_write_are_applied_once",
    "test_deadlines_and_jobs_of_an_outage_are_made_up_for",
    "test_more_jobs_than_fit_the_window_are_read_from_the_store",
    "test_overdue_deadlines_fire_at_the_start_without_any_message",
    "test_what_a_worker_emits_and_sends_goes_out_with_its_result",
    "test_what_is_being_read_at_once_is_limited_and_shared",
    "test_what_is_due_comes_before_a_message_in_due_order",
    "test_what_was_not_performed_is_performed_by_the_next_runtime",
]


@pytest.fixture
def store(postgres: str) -> FaultyStore:
    """In place of the one in a file, or in memory."""
    return FaultyStore(PostgresStore(postgres))


HAS_ITS_SESSION = """
SELECT FROM perdure.hosts h
JOIN pg_stat_get_activity(NULL) a ON (a.pid, a.backend_start) = (h.backend_pid, h.backend_start)
"""


@in_loop(60)
async def test_a_server_that_is_killed_loses_nothing_that_was_acknowledged(own_postgres: Server):
    """Senders repeat what was refused or is unknown, under its id; each message counts once."""
    url = own_postgres.url("postgres")
    await upgrade(url)
    count, instances = 40, 5
    acknowledged = asyncio.Semaphore(0)

    async def send(runtime: Runtime, id: str, message: object, message_id: str) -> None:
        while True:
            try:
                await runtime.send(
                    runtime.ref(Ledger, id), message, message_id=message_id, timeout_s=5
                )
                return
            except (StoreUnavailable, OutcomeUnknown, SendTimeout):
                await asyncio.sleep(0.02)

    async def one(runtime: Runtime, id: str) -> None:
        await send(runtime, id, Opened(id), f"{id}-opened")
        for number in range(count):
            await send(runtime, id, Added(id, number), f"{id}-{number}")
            acknowledged.release()

    async with ledgers(PostgresStore(url)) as runtime:
        sending = [asyncio.create_task(one(runtime, str(n))) for n in range(instances)]
        for _ in range(2):
            for _ in range(count * instances // 4):
                await acknowledged.acquire()
            own_postgres.kill()
            await asyncio.to_thread(own_postgres.start)
        await asyncio.gather(*sending)
        while not await run_sql(url, HAS_ITS_SESSION):  # else it could not say that it leaves
            pass
    async with ledgers(PostgresStore(url)) as runtime:
        for n in range(instances):
            assert await items(runtime, runtime.ref(Ledger, str(n))) == [*range(count)]
