"""Writing in SQL: few statements, faults that stay with their entry, failures that end well."""

from __future__ import annotations

import sqlite3
from dataclasses import replace

import pytest

from perdure.core.commit import Entry, TurnRecord
from perdure.errors import (
    Fenced,
    Gone,
    SequenceConflict,
    StoreError,
)
from perdure.store import read_statements as queries
from perdure.store import write_statements
from perdure.store.sql_load import load_instances
from perdure.store.sql_write import write_entries
from perdure.store.statements import ManyRows
from perdure.testing.sample_rows import (
    dead_letter,
    deadline,
    head,
    inbox_row,
    jobs,
    outbox_row,
    queue_row,
    settlement,
    snapshot,
    turn,
)
from tests.store.databases import database


@pytest.fixture
def opened(tmp_path):
    connection, epoch = database(tmp_path / "store.db")
    yield connection, epoch
    connection.close()


def full_turns(count: int, epoch: int) -> list[TurnRecord]:
    """One turn each of many instances, with everything a turn can have."""
    names = [f"Order/{number:05}" for number in range(count)]
    return [
        turn(
            name,
            1,
            epoch,
            outbox=(outbox_row(name, 1),),
            deadlines_set=(deadline(name, "pay", 1, 5),),
            deadlines_cleared=("ship",),
            head=head(name),
            consumes_inbox=True,
            dead_letter=dead_letter(name, "m-1"),
        )
        for name in names
    ]


def traced(connection, call) -> list[str]:
    statements: list[str] = []
    connection.set_trace_callback(statements.append)
    call()
    connection.set_trace_callback(None)
    return statements


@pytest.mark.parametrize("count", [1, 2, 37, 1000])
def test_the_number_of_statements_is_constant(opened, count):
    connection, epoch = opened
    group: list[Entry] = [
        *full_turns(count, epoch),
        *(inbox_row(f"Trip/{number}", "m") for number in range(count)),
        *(snapshot(f"Order/{number:05}", 1) for number in range(count)),
    ]
    statements = traced(connection, lambda: write_entries(connection, group, epoch))
    # BEGIN, the check, two for deadlines, inbox and snapshots each, four inserts, COMMIT; two for
    # what a head changes beside itself (nobody looks for the head of an instance that begins), and
    # the count of a saga that has no tally yet; executemany would show up here once per row.
    assert len(statements) == 16


@pytest.mark.parametrize("count", [1, 2, 37, 500])
def test_the_number_of_statements_of_settlements_is_constant(opened, count):
    connection, epoch = opened
    rows = jobs(4 * count, given_id="")
    own = [outbox_row("", 0, given_id=f"own {n}") for n in range(count)]
    letters = tuple(dead_letter("Order/1", f"m-{n}") for n in range(count))
    write_entries(connection, [settlement(outbox=rows, dead_letters=letters)], epoch)
    group: list[Entry] = []
    for n in range(count):
        settles = settlement("Order/1", job=rows[4 * n].position, outbox=(own[n],))
        group += [
            turn(f"Order/{n}", 1, epoch, outbox=jobs(1, error=""), settles=settles),
            settlement(
                job=rows[4 * n + 1].position,
                letter=n + 1,
                dead_letters=(dead_letter("Order/1", "m"),),
                inbox=inbox_row("Order/2", f"m-{n}", replaces=True),
            ),
            replace(rows[4 * n + 2], attempts=9),
            queue_row(f"queue {n}"),
        ]
    statements = traced(connection, lambda: write_entries(connection, group, epoch))
    # BEGIN; sequence numbers, jobs, letters, ids looked up; turns in; jobs out, jobs in (sent and
    # others); messages put and replaced; letters out, letters in; queues; COMMIT.
    assert len(statements) == 15
    assert connection.execute("SELECT count(*) FROM outbox").fetchone() == (4 * count,)


@pytest.mark.parametrize(
    ("query", "values", "index"),
    [
        (queries.JOBS_READY, ["payments", 5, 10], "outbox_by_queue (target=? AND due_at_ms<?)"),
        (queries.JOBS_DUE, [0, 0, 10], "outbox_by_due (due_at_ms>?)"),
        (queries.JOBS_AFTER, [7, 10], "outbox_by_follows (follows=?)"),
        (queries.INBOX_DUE, [-1, "", "", 10], "inbox_by_due ((due_at_ms,instance,message_id)"),
        (queries.QUEUE_PAGE, ["payments", 0, 10], "COVERING INDEX outbox_by_queue (target=?)"),
    ],
)
def test_what_is_ready_or_due_is_found_in_an_index(opened, query, values, index):
    connection, _ = opened
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query.packed}", values)]
    assert any(index in step for step in plan), plan
    assert not [step for step in plan if step.startswith("SCAN") and step != "SCAN found"]
    if query is not queries.QUEUE_PAGE:
        assert not [step for step in plan if "TEMP B-TREE" in step]
    if query is queries.JOBS_READY:
        assert any("dead_letters_by_job (job=?)" in step for step in plan)


def test_a_plain_turn_takes_five_statements(opened):
    connection, epoch = opened
    group = [turn("Order/1", 1, epoch, outbox=(outbox_row("Order/1", 1),))]
    statements = traced(connection, lambda: write_entries(connection, group, epoch))
    assert [text.split()[0] for text in statements] == [
        "BEGIN",
        "SELECT",
        "INSERT",
        "INSERT",
        "COMMIT",
    ]


def test_no_hot_statement_scans_a_table(opened):
    connection, _ = opened
    for name in write_statements.__all__:
        statement = getattr(write_statements, name)
        assert isinstance(statement, ManyRows)
        width = statement.width
        [(text, values)] = statement.rounds(["x"] * width * 3)
        leading = text.count("?") - len(values)
        plan = connection.execute(f"EXPLAIN QUERY PLAN {text}", [0] * leading + values)
        scanned = [row[3] for row in plan if row[3].startswith("SCAN ")]
        assert all(
            "CONSTANT ROW" in step or step.endswith(("given", "meta", "VALUES CLAUSE"))
            for step in scanned
        ), (name, scanned)


def test_groups_beyond_one_statement(opened):
    connection, epoch = opened
    group = [turn(f"Order/{number}", 1, epoch) for number in range(9000)]
    assert write_entries(connection, group, epoch) == [None] * 9000
    assert connection.execute("SELECT count(*) FROM journal").fetchone() == (9000,)
    again = write_entries(connection, group[-1:] + group[:1], epoch)
    assert [type(answer) for answer in again] == [SequenceConflict] * 2


def test_only_the_newest_two_snapshots_are_kept(opened):
    connection, epoch = opened
    for number in (1, 2, 3, 4):
        write_entries(
            connection, [snapshot("Order/1", number), snapshot("Order/2", 9 - number)], epoch
        )
    kept = connection.execute("SELECT instance, sequence_nr FROM snapshots ORDER BY 1, 2")
    assert kept.fetchall() == [("Order/1", 3), ("Order/1", 4), ("Order/2", 7), ("Order/2", 8)]


def test_an_overtaken_owner_writes_nothing_at_all(opened):
    connection, epoch = opened
    connection.execute("UPDATE meta SET epoch = epoch + 1")
    group: list[Entry] = [
        turn("Order/1", 1, epoch),
        snapshot("Order/1", 1),
        inbox_row("Order/1", "m"),
        settlement(outbox=jobs(1)),
        settlement(job=1),
        *jobs(1),
        queue_row("payments"),
    ]
    answers = write_entries(connection, group, epoch)
    assert [type(answer) for answer in answers] == [Fenced] * 7
    assert connection.execute("SELECT count(*) FROM outbox").fetchone() == (0,)
    assert load_instances(connection, ["Order/1"])[0].inbox == []


# -- faults of one entry


def broken(entry: TurnRecord) -> TurnRecord:
    entry.row.body = None  # type: ignore[assignment]
    return entry


def test_a_broken_constraint_leaves_only_its_entry_out(opened):
    connection, epoch = opened
    connection.execute(
        "CREATE TEMP TRIGGER refuse BEFORE INSERT ON outbox WHEN NEW.target = 'refused'"
        " BEGIN SELECT RAISE(ABORT, 'refused'); END"
    )
    culprit = turn("Order/2", 1, epoch, outbox=(outbox_row("Order/2", 1, target="refused"),))
    group: list[Entry] = [
        turn("Order/1", 1, epoch, outbox=(outbox_row("Order/1", 1),)),
        culprit,
        turn("Order/3", 5, epoch),
        turn("Order/2", 2, epoch),
        turn("Order/1", 2, epoch),
        inbox_row("Order/2", "waits"),
    ]
    answers = write_entries(connection, group, epoch)
    assert [type(answer) for answer in answers] == [
        type(None),
        StoreError,
        SequenceConflict,
        SequenceConflict,
        type(None),
        type(None),
    ]
    assert answers[1] is not None
    assert isinstance(answers[1].__cause__, sqlite3.IntegrityError)
    assert answers[1].correlation_id == "2"
    one, two = load_instances(connection, ["Order/1", "Order/2"])
    assert (len(one.turns), len(two.turns), len(two.inbox)) == (2, 0, 1)
    assert connection.execute("SELECT count(*) FROM outbox").fetchone() == (1,)


@pytest.mark.parametrize(
    "culprit",
    [
        lambda epoch: broken(turn("Order/bad", 1, epoch)),
        lambda epoch: turn("Order/\ud800", 1, epoch),
        lambda epoch: snapshot("Order/bad", 2**70),
        lambda epoch: inbox_row("Order/bad", "m", created_at_ms=object()),
        lambda epoch: dead_letter("Order/bad", "m", body=None),
        lambda epoch: settlement(outbox=(outbox_row("", 0, position=0),)),
        lambda epoch: settlement(outbox=(outbox_row("", 0, context=None),)),
        lambda epoch: settlement(outbox=jobs(2, position=77)),
        lambda epoch: queue_row("q", reason=None),
    ],
)
def test_a_value_that_cannot_be_stored_leaves_only_its_entry_out(opened, culprit):
    connection, epoch = opened
    group = [turn("Order/1", 1, epoch), culprit(epoch), turn("Order/1", 2, epoch)]
    answers = write_entries(connection, group, epoch)
    assert [type(answer) for answer in answers] == [type(None), StoreError, type(None)]
    assert answers[1] is not None
    assert answers[1].remedy
    assert len(load_instances(connection, ["Order/1"])[0].turns) == 2


def test_beside_a_culprit_settlements_are_written_as_ever(opened):
    connection, epoch = opened
    rows = jobs(4)
    own = outbox_row("", 0, given_id="own")
    write_entries(connection, [settlement(outbox=(*rows, own))], epoch)
    settles = settlement("Order/1", job=rows[0].position, outbox=(replace(own, attempts=9),))
    group: list[Entry] = [
        turn("Order/1", 1, epoch, settles=settles),
        settlement(job=rows[0].position),
        settlement(job=rows[1].position, outbox=jobs(2, position=77)),
        replace(rows[1], attempts=1),
        replace(rows[2], attempts=1, body=None),  # type: ignore[arg-type]
        settlement(job=rows[3].position),
        queue_row("payments"),
    ]
    answers = write_entries(connection, group, epoch)
    none = type(None)
    assert [type(answer) for answer in answers] == [
        none, Gone, StoreError, none, StoreError, none, none,
    ]  # fmt: skip
    left = connection.execute("SELECT position, attempts FROM outbox ORDER BY position")
    expected = [(rows[1].position, 1), (rows[2].position, 0), (own.position, 0)]
    assert left.fetchall() == expected


def test_a_position_that_is_taken_is_refused(opened):
    connection, epoch = opened
    [row] = jobs(1)
    write_entries(connection, [settlement(outbox=(row,))], epoch)
    group: list[Entry] = [
        turn("Order/1", 1, epoch, outbox=jobs(1, position=row.position)),
        queue_row("q"),
    ]
    answers = write_entries(connection, group, epoch)
    assert [type(answer) for answer in answers] == [StoreError, type(None)]
