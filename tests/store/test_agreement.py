"""The SQL store and the memory store answer alike, whatever is written to them."""

from __future__ import annotations

import asyncio
import sqlite3
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.core.commit import Entry, Status
from perdure.store import read_statements as queries
from perdure.store.memory import MemoryStore
from perdure.store.sql_open import open_schema
from perdure.store.sql_read import load_instances, read_heads, read_page
from perdure.store.sql_write import write_entries
from perdure.testing.sample_rows import (
    dead_letter,
    deadline,
    head,
    inbox_row,
    outbox_row,
    snapshot,
    turn,
)

NAMES = [f"Order/{letter}" for letter in "abc"]
EPOCH = 1


@st.composite
def entries(draw: Any) -> Entry:
    name = draw(st.sampled_from(NAMES))
    number = draw(st.integers(1, 6))
    message_id = f"m-{draw(st.integers(1, 4))}"
    what = draw(st.sampled_from(["turn", "turn", "turn", "snapshot", "inbox", "dead"]))
    body = draw(st.binary(max_size=3))
    if what == "snapshot":
        return snapshot(name, number + 100, body)
    if what == "inbox":
        return inbox_row(name, message_id, body=body)
    if what == "dead":
        return dead_letter(name, message_id, consumes_inbox=draw(st.booleans()))
    timers = draw(st.permutations(["x", "y", "z"]))
    cut, end = sorted((draw(st.integers(0, 3)), draw(st.integers(0, 3))))
    return turn(
        name,
        number,
        EPOCH - draw(st.sampled_from([0, 0, 0, 0, 1])),
        outbox=tuple(outbox_row(name, number, index) for index in range(draw(st.integers(0, 2)))),
        deadlines_set=tuple(deadline(name, timer, number, number) for timer in timers[:cut]),
        deadlines_cleared=tuple(timers[cut:end]),
        head=draw(st.sampled_from([None, head(name), head(name, Status.FAILED)])),
        consumes_inbox=draw(st.booleans()),
    )


@settings(deadline=None, max_examples=150)
@given(st.lists(st.lists(entries(), max_size=8), max_size=6))
def test_same_groups_same_answers_same_rows(groups):
    connection = sqlite3.connect(":memory:", isolation_level=None)
    assert open_schema(connection) == EPOCH

    async def scenario() -> None:
        memory = MemoryStore()
        await memory.open()
        for group in groups:
            in_sql = write_entries(connection, group, EPOCH)
            in_memory = await memory.write(group)
            assert [str(answer) for answer in in_sql] == [str(answer) for answer in in_memory]
        assert read_heads(connection, None, None, "", 1000) == await memory.heads()
        loaded = load_instances(connection, NAMES)
        if not any(found.corrupt for found in loaded):
            assert unplaced(loaded) == unplaced(await memory.load(NAMES))
        for query, read in (
            (queries.INBOX_PAGE, memory.inbox),
            (queries.OUTBOX_PAGE, memory.outbox),
            (queries.DEAD_LETTERS_PAGE, memory.dead_letters),
        ):
            assert unplaced(read_page(connection, query, [0, 1000])) == unplaced(await read())
        after = [-1, "", "", 1000]
        assert read_page(connection, queries.DEADLINES_PAGE, after) == await memory.deadlines()

    try:
        asyncio.run(scenario())
    finally:
        connection.close()


def unplaced(rows: Any) -> list[Any]:
    """The rows without their positions, whose numbers are each store's own."""
    return [
        replace(row, inbox=unplaced(row.inbox))
        if hasattr(row, "inbox")
        else replace(row, position=0)
        for row in rows
    ]
