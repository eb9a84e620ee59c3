"""A page with damaged rows is a page without them, and each is named in the log once."""

from __future__ import annotations

import sqlite3

import pytest

from perdure.core.commit import Entry
from perdure.testing.sample_rows import (
    dead_letter,
    deadline,
    head,
    inbox_row,
    outbox_row,
    queue_row,
    turn,
)
from tests.runtime.support import quickly
from tests.store.databases import file_store, on_writer

READS = ["outbox", "inbox", "inbox_due", "deadlines", "dead_letters", "heads"]


async def filled(directory):
    store = file_store(directory)
    epoch = await store.open()
    entries: list[Entry] = []
    for number in range(1, 9):
        name = f"Order/{number}"
        entries.append(
            turn(
                name, 1, epoch, outbox=(outbox_row(name, 1),), head=head(name),
                deadlines_set=(deadline(name, "pay", 1, 500 + number),),
            )
        )  # fmt: skip
        entries += [inbox_row(name, "m"), dead_letter(name, "dead"), queue_row(f"q{number}")]
    assert list(await store.write(entries)) == [None] * len(entries)
    return store


async def hurt(store, table: str, where: str) -> None:
    changed = f"UPDATE {table} SET checksum = checksum + 1 WHERE {where}"
    cursor = await on_writer(store, sqlite3.Connection.execute, changed)
    assert cursor.rowcount > 0


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("limit", [2, 3, 100])
@quickly
async def test_pages_go_on_behind_damaged_rows(tmp_path, caplog, read, limit):
    store = await filled(tmp_path)
    table = {"inbox_due": "inbox", "heads": "instances"}.get(read, read)
    await hurt(store, table, "instance IN ('Order/1', 'Order/4', 'Order/5')")
    found = []
    arguments: list[object] = []
    while page := await getattr(store, read)(*arguments, limit=limit):
        found += [row.instance for row in page]
        last = page[-1]
        after: dict[str, object] = {
            "heads": last.instance,
            "deadlines": (getattr(last, "due_at_ms", 0), last.instance, "pay"),
            "inbox_due": (getattr(last, "due_at_ms", 0), last.instance, "m"),
        }
        key = after.get(read, getattr(last, "position", 0))
        arguments = [None, None, key] if read == "heads" else [key]
    assert found == [f"Order/{number}" for number in (2, 3, 6, 7, 8)]
    assert caplog.text.count("fails its checksum") == 3
    await store.close()


@quickly
async def test_a_head_is_found_by_its_key_though_its_saga_or_status_is_damaged(tmp_path, caplog):
    store = await filled(tmp_path)
    for number, change in ((2, "saga = 'Ordex'"), (3, "status = 'lost'")):
        await on_writer(
            store,
            sqlite3.Connection.execute,
            f"UPDATE instances SET {change} WHERE instance = 'Order/{number}'",
        )
    heads = await store.heads("Order")
    assert [row.correlation_id for row in heads] == ["1", "4", "5", "6", "7", "8"]
    assert caplog.text.count("fails its checksum") == 2
    assert await store.heads("Orde") == await store.heads("Orders") == []
    await store.close()


@quickly
async def test_a_queue_whose_row_is_damaged_counts_as_paused(tmp_path, caplog):
    store = await filled(tmp_path)
    await hurt(store, "queues", "name = 'q3'")
    queues = {row.name: row for row in await store.queues()}
    assert len(queues) == 8
    assert queues["q3"].is_paused
    assert "damaged" in queues["q3"].reason
    assert "'q3' fails its checksum" in caplog.text
    await store.close()
