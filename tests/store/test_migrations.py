"""The tables in PostgreSQL come as declared, once, whole or not at all."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from perdure import failpoints
from perdure.errors import (
    DefinitionError,
    SchemaTooNew,
    SchemaTooOld,
    StoreError,
    StoreUnavailable,
)
from perdure.store.migrations import check, current, stamp, upgrade
from perdure.store.postgres_schema import REVISION, VERSION_TABLE, metadata
from perdure.store.shards import SHARDS, SHARDS_MAX
from tests.servers.catalog import described
from tests.servers.databases import execute

ROOT = Path(__file__).parent.parent.parent

LAST_POINT = 38
"""Points of a first upgrade; the last one is before the commit."""

DIES = """
import asyncio, os, signal, sys
from perdure import failpoints
from perdure.store.migrations import upgrade

url, at = sys.argv[1], int(sys.argv[2])
passed = []

def listen(point):
    passed.append(point)
    if len(passed) == at:
        os.kill(os.getpid(), signal.SIGKILL)

failpoints.listener = listen
asyncio.run(upgrade(url))
"""


def upgraded(url: str, **options):
    return asyncio.run(upgrade(url, **options))


def tables_in(url: str, schema: str) -> set[str]:
    rows = execute(url, f"SELECT tablename FROM pg_tables WHERE schemaname = '{schema}'")
    return {row["tablename"] for row in rows}


@pytest.fixture
def points():
    """How often a point was passed where the schema is created."""
    passed: list[str] = []
    failpoints.listener = passed.append
    yield passed
    failpoints.listener = None


def test_the_tables_are_exactly_those_declared(postgres):
    async def create_all() -> None:
        engine = create_async_engine(postgres)
        async with engine.begin() as connection:
            await connection.exec_driver_sql("CREATE SCHEMA declared")
            await connection.exec_driver_sql("SET LOCAL search_path TO declared")
            await connection.run_sync(metadata.create_all)
        await engine.dispose()

    asyncio.run(create_all())
    migrated = described(postgres, "perdure", without=VERSION_TABLE)
    assert migrated == described(postgres, "declared")
    assert len(migrated) > 150
    assert "'C'" in str(migrated)  # the collation is compared, too


def test_what_was_changed_by_hand_is_found(postgres):
    asyncio.run(check(postgres))
    execute(postgres, "ALTER TABLE perdure.mail DROP COLUMN reply_to")
    execute(postgres, "ALTER TABLE perdure.inbox ALTER COLUMN due_at_ms SET NOT NULL")
    execute(postgres, "DROP INDEX perdure.outbox_by_queue")
    with pytest.raises(StoreError, match="is not what revision") as raised:
        asyncio.run(check(postgres))
    for name in ("reply_to", "due_at_ms", "outbox_by_queue"):
        assert name in str(raised.value)


def test_it_is_safe_to_repeat(empty_postgres):
    first = upgraded(empty_postgres)
    assert (first.came_from, first.revision, first.shards) == (None, REVISION, SHARDS)
    assert first.is_current
    before = described(empty_postgres, "perdure")
    again = upgraded(empty_postgres)
    assert again == replace(first, came_from=REVISION)
    assert described(empty_postgres, "perdure") == before
    assert asyncio.run(current(empty_postgres)) == again


def test_of_many_at_once_one_migrates_and_the_others_wait(empty_postgres):
    async def all_pods():
        return await asyncio.gather(*(upgrade(empty_postgres, shards=5) for _ in range(6)))

    found = asyncio.run(all_pods())
    assert [each.revision for each in found] == [REVISION] * 6
    assert sorted(each.came_from is None for each in found) == [False] * 5 + [True]
    rows = execute(empty_postgres, "SELECT shard, epoch, host FROM perdure.shards ORDER BY shard")
    assert [tuple(row) for row in rows] == [(n, 0, None) for n in range(5)]


def test_who_migrates_too_long_is_told_of(empty_postgres):
    holding = "SELECT pg_advisory_xact_lock(hashtextextended('perdure db upgrade perdure', 0))"
    with psycopg.connect(empty_postgres.replace("+asyncpg", "")) as other:
        other.execute(holding)
        with pytest.raises(StoreUnavailable, match="another perdure migrates"):
            upgraded(empty_postgres, lock_wait_s=0.1)
    assert upgraded(empty_postgres, lock_wait_s=0.1).came_from is None


@pytest.mark.parametrize("at", [20, LAST_POINT])
def test_killed_in_the_midst_it_has_done_nothing(empty_postgres, at):
    died = subprocess.run(
        [sys.executable, "-c", DIES, empty_postgres, str(at)], cwd=ROOT, check=False
    )
    assert died.returncode == -signal.SIGKILL
    assert tables_in(empty_postgres, "perdure") == set()
    assert asyncio.run(current(empty_postgres)).revision is None
    assert upgraded(empty_postgres, lock_wait_s=10).came_from is None
    asyncio.run(check(empty_postgres))


def test_the_last_kill_is_at_the_last_point(empty_postgres, points):
    upgraded(empty_postgres)
    assert len(points) == LAST_POINT


def test_a_connection_lost_in_the_midst_has_done_nothing(empty_postgres):
    end_it = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'perdure db' AND datname = current_database()"
    )
    passed = []

    def listen(point) -> None:
        passed.append(point)
        if len(passed) == 20:
            with psycopg.connect(empty_postgres.replace("+asyncpg", "")) as other:
                other.execute(end_it)

    failpoints.listener = listen
    try:
        with pytest.raises(StoreUnavailable):
            upgraded(empty_postgres)
    finally:
        failpoints.listener = None
    assert tables_in(empty_postgres, "perdure") == set()
    upgraded(empty_postgres)


@pytest.mark.parametrize("shards", [0, -1, SHARDS_MAX + 1])
def test_a_number_of_shards_that_cannot_be_is_refused(shards):
    with pytest.raises(DefinitionError, match=f"from 1 to {SHARDS_MAX}"):
        upgraded("postgresql://nowhere.invalid/x", shards=shards)


def test_the_number_of_shards_never_changes(empty_postgres):
    assert upgraded(empty_postgres, shards=3).shards == 3
    assert upgraded(empty_postgres).shards == 3
    assert upgraded(empty_postgres, shards=3).shards == 3
    with pytest.raises(DefinitionError, match="has 3 shards, which cannot become 4"):
        upgraded(empty_postgres, shards=4)
    assert asyncio.run(current(empty_postgres)).shards == 3
    assert len(execute(empty_postgres, "SELECT FROM perdure.shards")) == 3


def test_a_newer_revision_is_refused_and_left_alone(postgres):
    execute(postgres, f"UPDATE perdure.{VERSION_TABLE} SET version_num = '9999'")
    for refuses in (upgrade, check):
        with pytest.raises(SchemaTooNew, match="at revision 9999") as raised:
            asyncio.run(refuses(postgres))
        assert "newer perdure" in str(raised.value)
    found = asyncio.run(current(postgres))
    assert (found.revision, found.is_current) == ("9999", False)


def test_no_tables_are_told_with_the_command_that_creates_them(empty_postgres):
    with pytest.raises(SchemaTooOld, match=r"has no tables.*run `perdure db upgrade`") as raised:
        asyncio.run(check(empty_postgres))
    assert "the schema 'perdure' of" in str(raised.value)
    assert "***" in str(raised.value)  # in place of the password
    assert tables_in(empty_postgres, "perdure") == set()


@pytest.mark.parametrize("schema", ["public", "shop", 'Ann\'s "shop" %25 €'])
def test_the_tables_lie_in_the_schema_of_the_url(empty_postgres, schema):
    url = f"{empty_postgres}?schema={schema}"
    found = upgraded(url)
    assert found.schema == schema.replace("%25", "%")
    asyncio.run(check(url))
    rows = execute(empty_postgres, "SELECT schemaname, tablename FROM pg_tables")
    ours = {row["tablename"] for row in rows if row["schemaname"] == found.schema}
    assert ours == {*metadata.tables, VERSION_TABLE}
    others = {row["schemaname"] for row in rows} - {found.schema}
    assert others == {"pg_catalog", "information_schema"}


def test_two_schemas_of_one_database_know_nothing_of_each_other(postgres):
    other = f"{postgres}?schema=other"
    assert asyncio.run(current(other)).revision is None
    assert upgraded(other, shards=2).came_from is None
    assert asyncio.run(current(postgres)).shards == SHARDS
    asyncio.run(check(other))


def test_a_table_of_the_users_is_not_touched(empty_postgres):
    execute(empty_postgres, "CREATE TABLE public.mail (theirs text)")
    with pytest.raises(StoreError, match=r'"mail" already exists; .*name another schema'):
        upgraded(f"{empty_postgres}?schema=public")
    assert tables_in(empty_postgres, "public") == {"mail"}


def test_a_revision_is_noted_without_migrating(postgres):
    execute(postgres, f"DROP TABLE perdure.{VERSION_TABLE}")
    with pytest.raises(StoreError, match="already exists"):
        upgraded(postgres)
    with pytest.raises(SchemaTooOld):
        asyncio.run(check(postgres))
    asyncio.run(stamp(postgres))
    asyncio.run(check(postgres))
    assert upgraded(postgres).came_from == REVISION


def test_what_cannot_be_noted_is_refused(empty_postgres):
    with pytest.raises(DefinitionError, match=f"there is no revision '12'; give one of {REVISION}"):
        asyncio.run(stamp(empty_postgres, "12"))
    with pytest.raises(StoreError, match="has no tables of perdure; create them"):
        asyncio.run(stamp(empty_postgres))


def test_a_sequence_that_went_back_is_told_with_what_mends_it(postgres):
    execute(postgres, "UPDATE perdure.shards SET epoch = 7 WHERE shard = 2")
    with pytest.raises(StoreError, match="is at 0, but epoch 7 was given out") as raised:
        asyncio.run(check(postgres))
    execute(postgres, (raised.value.remedy or "").partition("as the owner: ")[2])
    asyncio.run(check(postgres))
    execute(postgres, "DELETE FROM perdure.shards WHERE shard = 2")
    with pytest.raises(StoreError, match="has 15 rows of 16 in the table shards"):
        asyncio.run(check(postgres))


def test_a_damaged_version_table_is_told(postgres):
    execute(postgres, f"INSERT INTO perdure.{VERSION_TABLE} VALUES ('0000')")
    with pytest.raises(StoreError, match="2 rows in place of one"):
        asyncio.run(current(postgres))
