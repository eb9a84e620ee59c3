"""Which shard a key belongs to: today, tomorrow, and in SQL."""

from collections import Counter

from perdure.store.postgres_schema import SHARDED, metadata
from perdure.store.schema import metadata as sqlite_metadata
from perdure.store.shards import shard_of


def test_the_shard_of_a_key_never_changes():
    assert [shard_of(f"Order/o-{n}", 16) for n in range(8)] == [14, 10, 9, 7, 9, 2, 6, 14]
    assert shard_of("Order/\N{SNOWMAN}", 16) == 3


def test_keys_are_spread_evenly():
    counted = Counter(shard_of(f"Order/o-{n}", 64) for n in range(64_000))
    assert len(counted) == 64
    assert max(counted.values()) < 1.15 * min(counted.values()) + 50


def test_every_table_of_the_store_is_there_with_its_columns():
    for table in sqlite_metadata.sorted_tables:
        if table.name == "meta":
            continue
        theirs = metadata.tables[table.name]
        added = {"shard"} if table.name in SHARDED or table.name == "sagas" else set()
        assert set(theirs.c.keys()) == set(table.c.keys()) | added
        assert {index.name for index in table.indexes} <= {index.name for index in theirs.indexes}
