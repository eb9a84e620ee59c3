"""The store in PostgreSQL passes the conformance suite: as owner of all shards, and of one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from perdure.core.commit import Entry
from perdure.store.postgres import PostgresStore
from perdure.store.postgres_database import Database
from perdure.store.postgres_schema import SHARDED
from perdure.store.protocol import Store
from perdure.testing.sample_rows import (
    dead_letter,
    deadline,
    head,
    inbox_row,
    outbox_row,
    quarantine_row,
    settlement,
    snapshot,
    turn,
)
from perdure.testing.store_contract import StoreContract
from tests.servers.databases import AnyServer, execute, fresh_database

NEIGHBOURS = (2, 4)
SOME_JOBS: tuple[dict[str, Any], ...] = ({}, {"due_at_ms": 1}, {"target": "others"})


def keys_of(shard: int) -> list[str]:
    return [f"Order/!{shard}", f"Order/5{shard}th", f"Trip/~{shard}"]


def rows_of_a_neighbour(shard: int, epoch: int) -> list[Entry]:
    """Something of everything that is listed, before and behind what the suite writes."""
    found: list[Entry] = []
    for key in keys_of(shard):
        jobs = [
            replace(outbox_row(key, 1, number), position=(epoch << 40) + number, **rest)
            for number, rest in enumerate(SOME_JOBS, len(found))
        ]
        number = 7 if shard == NEIGHBOURS[0] else 70_000_000_000_000
        found += [
            turn(
                key,
                1,
                epoch,
                outbox=tuple(jobs),
                deadlines_set=(deadline(key, "pay", 1, number),),
                head=head(key, fields=(("customer", "sc-1"),)),
            ),
            snapshot(key, 1),
            inbox_row(key, "waits", due_at_ms=number),
            dead_letter(key, "dead", job=jobs[0].position),
            settlement(key, quarantine=quarantine_row(key)),
        ]
    return found


async def _settle(url: str) -> None:
    database = Database(url)
    for shard in NEIGHBOURS:
        store = PostgresStore(database, shard=shard)
        epoch = await store.open()
        entries = rows_of_a_neighbour(shard, epoch)
        assert await store.write(entries) == [None] * len(entries)
        await store.close()


@pytest.fixture(scope="module")
def database(postgres_server: AnyServer, postgres_template: str) -> Iterator[str]:
    """One for the whole suite: a new one for each test would cost more than the tests do."""
    with fresh_database(postgres_server, postgres_template) as url:
        yield url


@pytest.fixture(scope="module")
def settled(postgres_server: AnyServer, postgres_template: str) -> Iterator[str]:
    """One in which other shards have owners and rows."""
    with fresh_database(postgres_server, postgres_template) as url:
        asyncio.run(_settle(url))
        yield url


def emptied(url: str, shards: Sequence[int]) -> str:
    """The database without what these shards have, and everything that belongs to none."""
    of_neighbours = ", ".join(f"'{key}'" for shard in NEIGHBOURS for key in keys_of(shard))
    unsharded = f"instance NOT IN ({of_neighbours})"
    of_ours = f"shard IN ({', '.join(map(str, shards))})"
    wheres = dict.fromkeys([*SHARDED, "sagas"], of_ours) | {"queues": "true"}
    wheres |= dict.fromkeys(["journal", "snapshots", "lookups"], unsharded)
    execute(url, *(f"DELETE FROM perdure.{table} WHERE {of}" for table, of in wheres.items()))
    return url


class TestOwnerOfAll(StoreContract):
    @pytest.fixture(autouse=True)
    def _database(self, database: str) -> None:
        self.url = emptied(database, range(16))

    def make_store(self, tmp_path: Path) -> Store:
        return PostgresStore(self.url)


class TestOwnerOfOneShardAmongOthers(StoreContract):
    @pytest.fixture(autouse=True)
    def _database(self, settled: str) -> None:
        self.url = emptied(settled, [3])

    def make_store(self, tmp_path: Path) -> Store:
        return PostgresStore(self.url, shard=3)
