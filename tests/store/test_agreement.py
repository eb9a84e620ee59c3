"""The SQL store and the memory store answer alike, whatever is written to them."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.core.commit import (
    Entry,
    HeadRow,
    IndexedFields,
    OutboxRow,
    Reindexed,
    Status,
    TurnRecord,
)
from perdure.core.head_query import HeadQuery, Order
from perdure.core.tally import TallyRow
from perdure.store import read_statements as queries
from perdure.store.memory import MemoryStore
from perdure.store.protocol import InstanceRows
from perdure.store.sql_backlog import read_backlog, read_retried
from perdure.store.sql_find import read_count, read_found, read_tallies
from perdure.store.sql_load import load_instances
from perdure.store.sql_looks import read_rows_of, read_snapshots
from perdure.store.sql_open import open_schema
from perdure.store.sql_read import (
    read_depths,
    read_heads,
    read_inbox_sizes,
    read_jobs_at,
    read_page,
    read_quarantines,
    read_sound,
)
from perdure.store.sql_write import write_entries
from perdure.testing.sample_rows import (
    dead_letter,
    deadline,
    head,
    inbox_row,
    outbox_row,
    quarantine_row,
    queue_row,
    settlement,
    snapshot,
    turn,
)
from tests.effort import times

NAMES = [f"Order/{letter}" for letter in "abc"]
EPOCH = 1
PLACES = st.integers(0, 7)
places = itertools.count(1)


@st.composite
def heads(draw: Any, name: str) -> HeadRow:
    fields = draw(st.dictionaries(st.sampled_from(["city", "zip"]), st.sampled_from(["sa", "sb"])))
    return head(
        name,
        draw(st.sampled_from(Status)),
        updated_at_ms=draw(st.integers(1, 3)),
        started_at_ms=draw(st.integers(1, 3)),
        fields=tuple(sorted(fields.items())),
    )


@st.composite
def entries(draw: Any) -> Entry:
    name = draw(st.sampled_from(NAMES))
    number = draw(st.integers(1, 6))
    message_id = f"m-{draw(st.integers(1, 4))}"
    what = draw(
        st.sampled_from(
            ["turn", "turn", "turn", "snapshot", "inbox", "dead", "reindexed", "indexed"]
        )
    )
    body = draw(st.binary(max_size=3))
    if what == "snapshot":
        return snapshot(name, number + 100, body)
    if what == "reindexed":
        return Reindexed(draw(heads(name)), number)
    if what == "indexed":
        return IndexedFields("Order", draw(st.sampled_from([(), ("city",), ("city", "zip")])))
    if what == "inbox":
        due = draw(st.sampled_from([None, 1, 2]))
        return inbox_row(name, message_id, body=body, due_at_ms=due, replaces=draw(st.booleans()))
    if what == "dead":
        return dead_letter(name, message_id, job=draw(PLACES), consumes_inbox=draw(st.booleans()))
    timers = draw(st.permutations(["x", "y", "z"]))
    cut, end = sorted((draw(st.integers(0, 3)), draw(st.integers(0, 3))))
    return turn(
        name,
        number,
        EPOCH - draw(st.sampled_from([0, 0, 0, 0, 1])),
        outbox=tuple(outbox_row(name, number, index) for index in range(draw(st.integers(0, 2)))),
        deadlines_set=tuple(deadline(name, timer, number, number) for timer in timers[:cut]),
        deadlines_cleared=tuple(timers[cut:end]),
        head=draw(st.one_of(st.none(), heads(name))),
        consumes_inbox=draw(st.booleans()),
    )


@st.composite
def job_rows(draw: Any, place: int) -> OutboxRow:
    """A job whose position is its identity: a group never puts two at one place."""
    return outbox_row(
        draw(st.sampled_from(NAMES)),
        1,
        position=place,
        target=draw(st.sampled_from("ab")),
        given_id=draw(st.sampled_from(["", "", "one", "two"])),
        due_at_ms=draw(st.integers(0, 3)),
        after=draw(PLACES),
        attempts=draw(st.integers(0, 3)),
        error=draw(st.sampled_from(["", "refused"])),
    )


@st.composite
def settlements(draw: Any, place: int) -> Entry:
    """What may happen to jobs; the new ones get the places from this one on."""
    what = draw(st.sampled_from(["settlement", "settlement", "change", "turn", "queue"]))
    if what == "change":
        changed: OutboxRow = draw(job_rows(draw(PLACES) or 1))
        return replace(changed, given_id="")
    if what == "queue":
        return queue_row(draw(st.sampled_from("ab")), is_paused=draw(st.booleans()))
    name = draw(st.sampled_from(NAMES))
    settles = settlement(
        name,
        job=draw(PLACES),
        letter=draw(st.sampled_from([0, 0, 0, 1, 2])) if what == "settlement" else 0,
        outbox=tuple(draw(job_rows(place + n)) for n in range(draw(st.integers(0, 2)))),
        inbox=draw(st.sampled_from([None, inbox_row(name, "m-1"), inbox_row(name, "m-2")])),
        taken=draw(st.sampled_from(["", "", "m-1"])),
        quarantine=draw(
            st.sampled_from([None, quarantine_row(name), quarantine_row(name, is_over=True)])
        ),
        dead_letters=draw(st.sampled_from([(), (dead_letter(name, "m-1", job=1),)])),
    )
    if what == "settlement":
        return settles
    return turn(name, draw(st.integers(1, 3)), EPOCH, settles=settles)


@settings(deadline=None, max_examples=times(150))
@given(st.data())
def test_jobs_come_and_go_alike(data):
    groups: list[list[Entry]] = []
    place = 1
    for _ in range(data.draw(st.integers(1, 6))):
        groups.append([])
        for _ in range(data.draw(st.integers(1, 5))):
            groups[-1].append(data.draw(settlements(place)))
            place += 2
    agree(groups)


@settings(deadline=None, max_examples=times(150))
@given(st.lists(st.lists(entries(), max_size=8), max_size=6))
def test_same_groups_same_answers_same_rows(groups):
    for group in groups:
        for entry in group:
            if isinstance(entry, TurnRecord):
                for row in entry.outbox:
                    row.position = next(places)
    agree(groups)


def agree(groups: list[list[Entry]]) -> None:
    """Write the groups to both stores; all answers and all that is read must be the same."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    assert open_schema(connection) == EPOCH

    async def scenario() -> None:
        memory = MemoryStore()
        await memory.open()
        for group in groups:
            in_sql = write_entries(connection, group, EPOCH)
            in_memory = await memory.write(group)
            assert [str(answer) for answer in in_sql] == [str(answer) for answer in in_memory]
        assert read_heads(connection, None, None, "", 1000) == (await memory.heads(), [])
        for question in QUESTIONS:
            assert read_found(connection, question) == (await memory.find(question), [])
            assert read_count(connection, question) == await memory.count(question)
        tallies, _ = read_tallies(connection)
        assert [_now(tally) for tally in tallies] == [_now(one) for one in await memory.tallies()]
        loaded = load_instances(connection, NAMES)
        if not any(found.corrupt for found in loaded):
            assert unplaced(loaded) == unplaced(await memory.load(NAMES))
        for query, read in (
            (queries.INBOX_PAGE, memory.inbox),
            (queries.DEAD_LETTERS_PAGE, memory.dead_letters),
        ):
            assert unplaced(read_page(connection, query, [0, 1000])) == unplaced(await read())
        assert read_page(connection, queries.OUTBOX_PAGE, [0, 1000]) == await memory.outbox()
        await agree_on_jobs(connection, memory)
        after = [-1, "", "", 1000]
        assert read_page(connection, queries.DEADLINES_PAGE, after) == await memory.deadlines()

    try:
        asyncio.run(scenario())
    finally:
        connection.close()


BOUNDS: dict[Order, tuple[str | int, ...]] = {
    Order.ID: (), Order.STARTED: (2,), Order.UPDATED: (2,), Order.FIELD: ("sb",),
}  # fmt: skip
QUESTIONS = [
    HeadQuery("Order", statuses, order, field, bound, bound, None, descending, 2)
    for order, bounds in BOUNDS.items()
    for field in (["city"] if order is Order.FIELD else [""])
    for bound in (None, *bounds)
    for statuses in ((), (Status.FAILED, Status.RUNNING))
    for descending in (False, True)
]


def _now(tally: TallyRow) -> Any:
    return (tally.saga, tally.running, tally.stuck, tally.kept_completed, tally.kept_failed)


async def agree_on_jobs(connection: sqlite3.Connection, memory: MemoryStore) -> None:
    for queue in "ab":
        for now_ms in (0, 2):
            found, _ = read_sound(connection, queries.JOBS_READY, [queue, now_ms, 1000])
            assert found == await memory.jobs_ready(queue, now_ms)
        page = read_page(connection, queries.QUEUE_PAGE, [queue, 2, 1000])
        assert page == await memory.outbox(2, 1000, queue)
    for position in range(1, 8):
        found, _ = read_sound(connection, queries.JOBS_AFTER, [position, 1000])
        assert found == await memory.jobs_after(position)
    found, _ = read_sound(connection, queries.JOBS_DUE, [1, 4, 1000])
    assert found == await memory.jobs_due((1, 4))
    assert read_jobs_at(connection, range(9))[0] == await memory.jobs_at(range(9))
    found, _ = read_sound(connection, queries.INBOX_DUE, [1, "Order/a", "m-2", 1000])
    assert unplaced(found) == unplaced(await memory.inbox_due((1, "Order/a", "m-2")))
    assert read_page(connection, queries.QUEUES_ALL, []) == await memory.queues()
    assert read_depths(connection) == await memory.queue_depths()
    assert read_backlog(connection) == await memory.backlog()
    assert read_quarantines(connection) == (await memory.quarantines(), [])
    assert read_inbox_sizes(connection, NAMES) == await memory.inbox_sizes(NAMES)
    assert read_retried(connection) == await memory.retried()
    for name in NAMES:
        found_of, damaged = read_rows_of(connection, name, 1000)
        assert not damaged
        assert read_snapshots(connection, name) == await memory.snapshots(name)
        assert everything_in(found_of) == everything_in(await memory.rows_of(name))


def everything_in(rows: InstanceRows) -> InstanceRows:
    """Without the positions of what arrives."""
    inbox, letters = unplaced(rows.inbox), unplaced(rows.dead_letters)
    return replace(rows, inbox=inbox, dead_letters=letters)


def unplaced(rows: Any) -> list[Any]:
    """The rows without their positions, whose numbers are each store's own."""
    return [
        replace(row, inbox=unplaced(row.inbox))
        if hasattr(row, "inbox")
        else replace(row, position=0)
        for row in rows
    ]
