"""Each rule is broken in a file that a runtime wrote, and is named; an unbroken file has none."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest

from perdure import (
    Effects,
    Fixed,
    Indexed,
    ProcessManager,
    Runtime,
    Settings,
    Supervision,
    WorkQueue,
    applies,
    continues,
    message,
    on_deadline,
    starts,
)
from perdure.codec.checksum import checksum
from perdure.errors import NonRetryable, NotADatabase
from perdure.store import head_rows, rows
from perdure.testing.invariants import Rule, Violation, violations


@message(name="invariants.begun")
class Begun:
    id: str


@message(name="invariants.counted")
class Counted:
    id: str
    n: int


@message(name="invariants.work")
class Work:
    n: int


@dataclass(frozen=True)
class Sum:
    total: Indexed[int] = 0


class Counting(ProcessManager[Sum]):
    """Sends work, arms a deadline; 13 is poison, 7 fails its first attempt."""

    retry = Fixed(3600, max_attempts=2)

    @starts(Begun, by="id")
    def begun(self, state: Sum, event: Begun, do: Effects) -> None:
        do.deadline("late", timedelta(hours=1))

    @continues(Counted, by="id")
    def counted(self, state: Sum, event: Counted, do: Effects) -> None:
        if event.n == 7:
            raise ValueError("not today")
        if event.n == 13:
            raise NonRetryable("never")
        if event.n == 1:
            do.deadline("early", timedelta(hours=2))
        if event.n == 2:
            do.cancel_deadline("early")
        do.send(Work(event.n))

    @on_deadline("late")
    def late(self, state: Sum, do: Effects) -> None:
        do.complete()

    @on_deadline("early")
    def early(self, state: Sum, do: Effects) -> None:
        do.complete()

    @applies(Counted)
    def add(self, state: Sum, event: Counted) -> Sum:
        return replace(state, total=state.total + event.n)


@message(name="invariants.hit")
class Hit:
    id: str


class Brittle(ProcessManager[Sum]):
    """Is set aside by its first message."""

    supervision = Supervision.quarantine()

    @starts(Hit, by="id")
    def hit(self, state: Sum, event: Hit, do: Effects) -> None:
        raise ValueError("broken")


def queue() -> WorkQueue:
    """Its first job is done, its second fails for good, the others wait for a retry."""
    queue = WorkQueue("work", concurrency=1, retry=Fixed(3600, max_attempts=2))

    @queue.worker
    async def perform(command: Work) -> Counted | None:
        if command.n == 1:
            return Counted("a", 100)
        if command.n == 2:
            raise NonRetryable("no")
        raise ConnectionError("later")

    return queue


async def write(url: str) -> None:
    settings = Settings(snapshot_every=2)
    async with Runtime(url, [Counting, Brittle, queue()], settings) as runtime:
        await runtime.publish(Hit("q"), message_id="m-hit")
        await runtime.publish(Begun("a"), message_id="m-0")
        await runtime.publish(Begun("b"), message_id="m-0")
        for n in (1, 2, 3, 4):
            await runtime.publish(Counted("a", n), message_id=f"m-{n}")
        await runtime.publish(Counted("b", 7), message_id="m-7")
        await runtime.publish(Counted("c", 1), message_id="m-parked")
        await runtime.settled()


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("invariants") / "store.db"
    asyncio.run(write(f"sqlite+aiosqlite:///{path}"))
    return path


@pytest.fixture
def connection(written, tmp_path):
    shutil.copy(written, tmp_path / "copy.db")
    with closing(sqlite3.connect(tmp_path / "copy.db", isolation_level=None)) as opened:
        yield opened


def sealed(connection: sqlite3.Connection, kind: rows.RowKind) -> None:
    """Give every row of the table the checksum of what it holds now."""
    key, table = ", ".join(kind.columns), kind.table.name
    body = "body" if kind.has_body else "x''"
    primary = [column.name for column in kind.table.primary_key]
    where = " AND ".join(f"{name} = ?" for name in primary)
    found = connection.execute(
        f"SELECT {', '.join(primary)}, {body}, {key} FROM {table}"
    ).fetchall()
    for row in found:
        names, (bytes_, *values) = row[: len(primary)], row[len(primary) :]
        connection.execute(
            f"UPDATE {table} SET checksum = ? WHERE {where}", [checksum(bytes_, *values), *names]
        )


COPY_OUTBOX = """
    INSERT INTO outbox SELECT {position}, instance, {turn}, idx, kind, target, type, version,
    created_at_ms, context, given_id, attempts, due_at_ms, error, follows, leads, expires_at_ms,
    body, checksum FROM outbox LIMIT 1
"""
INTO_INBOX = """
    INSERT INTO inbox SELECT NULL, 'Counting/a', '{id}', 'queued', created_at_ms, attempts,
    due_at_ms, error, body, checksum FROM inbox LIMIT 1
"""
LAST = "(SELECT max(sequence_nr) FROM journal WHERE instance = 'Counting/a')"
KIND_OF = {
    kind.table.name: kind
    for kind in (vars(rows) | vars(head_rows)).values()
    if isinstance(kind, rows.RowKind)
}

BREAKS = {
    "a turn is gone": (
        "DELETE FROM journal WHERE instance = 'Counting/a' AND sequence_nr = 3", Rule.SEQUENCE,
    ),
    "the first turn is gone": (
        "DELETE FROM journal WHERE instance = 'Counting/a' AND sequence_nr = 1", Rule.SEQUENCE,
    ),
    "an epoch falls": (
        "UPDATE journal SET epoch = 0 WHERE instance = 'Counting/a' AND sequence_nr = 3",
        Rule.EPOCH,
    ),
    "an epoch is to come": ("UPDATE journal SET epoch = 9", Rule.EPOCH),
    "a message is processed twice": (
        "UPDATE journal SET message_id = 'm-0' WHERE instance = 'Counting/a' AND sequence_nr = 4",
        Rule.MESSAGE,
    ),
    "a turn is no turn": (
        "UPDATE journal SET body = x'c0' WHERE instance = 'Counting/b'", Rule.UNREADABLE,
    ),
    "a head is gone": ("DELETE FROM instances WHERE instance = 'Counting/a'", Rule.HEAD),
    "a head has another status": ("UPDATE instances SET status = 'completed'", Rule.HEAD),
    "a head has a status of nobody's": ("UPDATE instances SET status = 'odd'", Rule.UNREADABLE),
    "a head is another saga's": ("UPDATE instances SET saga = 'Other'", Rule.HEAD),
    "a head has another beginning": (
        "UPDATE instances SET started_at_ms = started_at_ms - 1", Rule.HEAD,
    ),
    "a head is a minute late": (
        "UPDATE instances SET updated_at_ms = updated_at_ms - 60000", Rule.HEAD,
    ),
    "a lookup is gone": ("DELETE FROM lookups WHERE instance = 'Counting/a'", Rule.LOOKUP),
    "a lookup was not removed": (
        "INSERT INTO lookups SELECT saga, field, 'n1', instance, 0 FROM lookups WHERE value != 'n1'"
        " LIMIT 1",
        Rule.LOOKUP,
    ),
    "a lookup has no instance": (
        "INSERT INTO lookups VALUES ('Counting', 'total', 'n1', 'Counting/none', 0)", Rule.LOOKUP,
    ),
    "an instance is counted twice": ("UPDATE sagas SET running = running + 1", Rule.TALLY),
    "an end is not counted": (
        "UPDATE sagas SET started = started - 1 WHERE saga = 'Counting'", Rule.TALLY,
    ),
    "a tally is gone": ("DELETE FROM sagas WHERE saga = 'Counting'", Rule.TALLY),
    "a field is not indexed everywhere": (
        "UPDATE sagas SET indexed = '[\"total\",\"other\"]' WHERE saga = 'Counting'", Rule.TALLY,
    ),
    "an instance has no journal": ("DELETE FROM journal", Rule.HEAD),
    "a deadline is gone": ("DELETE FROM deadlines WHERE instance = 'Counting/a'", Rule.DEADLINE),
    "a deadline has moved": ("UPDATE deadlines SET due_at_ms = due_at_ms + 1", Rule.DEADLINE),
    "a deadline is of another turn": ("UPDATE deadlines SET sequence_nr = 2", Rule.DEADLINE),
    "a deadline was cancelled": (
        "INSERT INTO deadlines SELECT instance, 'early', 2, due_at_ms, 0 FROM deadlines LIMIT 1",
        Rule.DEADLINE,
    ),
    "a deadline has fired": (
        "UPDATE journal SET message_id = 'perdure.deadline/late/1'"
        " WHERE instance = 'Counting/a' AND sequence_nr = 4",
        Rule.DEADLINE,
    ),
    "a job of no turn": (COPY_OUTBOX.format(position=9999, turn=1), Rule.OUTBOX),
    "a job twice": (COPY_OUTBOX.format(position=9999, turn="sequence_nr"), Rule.OUTBOX),
    "a job is not what was sent": ("UPDATE outbox SET type = 'other'", Rule.OUTBOX),
    "a job has a result": (
        "UPDATE journal SET message_id = (SELECT 'perdure.result/' || instance || '/' ||"
        " sequence_nr || '/' || idx FROM outbox LIMIT 1)"
        " WHERE instance = 'Counting/a' AND sequence_nr = 2",
        Rule.RESULT,
    ),
    "a job has a result that waits": (
        "UPDATE inbox SET instance = 'Counting/a', message_id = (SELECT 'perdure.result/' ||"
        " instance || '/' || sequence_nr || '/' || idx FROM outbox LIMIT 1)"
        " WHERE message_id = 'm-7'",
        Rule.RESULT,
    ),
    "a dead job is of no turn": (
        "UPDATE dead_letters SET instance = 'Counting/b' WHERE job > 0", Rule.OUTBOX,
    ),
    "a dead job is no job": ("UPDATE dead_letters SET body = x'c0'", Rule.UNREADABLE),
    "what waits was processed": (INTO_INBOX.format(id="m-4"), Rule.INBOX),
    "a quarantine is for no reason": ("UPDATE quarantines SET reason = 'odd'", Rule.QUARANTINE),
    "what set it aside is gone": ("DELETE FROM inbox WHERE reason = 'held'", Rule.QUARANTINE),
    "a snapshot is of the future": (
        "UPDATE snapshots SET sequence_nr = 99 WHERE instance = 'Counting/a'"
        " AND sequence_nr = (SELECT max(sequence_nr) FROM snapshots)",
        Rule.SNAPSHOT,
    ),
    "a snapshot is of another turn": (
        "UPDATE snapshots SET sequence_nr = 1 WHERE instance = 'Counting/a'"
        " AND sequence_nr = (SELECT min(sequence_nr) FROM snapshots)",
        Rule.SNAPSHOT,
    ),
    "a snapshot is none": ("UPDATE snapshots SET body = x'c0'", Rule.UNREADABLE),
    "three snapshots": (
        "INSERT INTO snapshots SELECT instance, 1, body, 0 FROM snapshots LIMIT 1", Rule.SNAPSHOT,
    ),
}  # fmt: skip


def test_what_a_runtime_wrote_breaks_no_rule(connection):
    assert violations(connection) == []
    counts = {
        name: connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in KIND_OF
    }
    assert all(counts[name] for name in KIND_OF if name not in ("queues", "tombstones")), counts


@pytest.mark.parametrize("what", BREAKS)
def test_a_rule_that_is_broken_is_named(what, connection):
    sql, rule = BREAKS[what]
    assert connection.execute(sql).rowcount, "nothing was broken"
    for kind in KIND_OF.values():
        sealed(connection, kind)
    found = violations(connection)
    assert rule in {violation.rule for violation in found}
    print(*found, sep="\n")


@pytest.mark.parametrize("table", KIND_OF)
def test_a_row_that_is_not_the_one_that_was_written_is_named(table, connection):
    kind = KIND_OF[table]
    if table == "tombstones":
        connection.execute("INSERT INTO tombstones VALUES ('Counting/b', 5, 5, 1, 1, 0)")
    elif table == "queues":
        connection.execute("INSERT INTO queues VALUES ('work', 1, 'three failed', 5, 0)")
    else:
        connection.execute(f"UPDATE {table} SET checksum = checksum + 1")
    found = violations(connection)
    assert {violation.rule for violation in found} >= {Rule.CHECKSUM}
    if "instance" in kind.columns:
        assert {violation.instance for violation in found} & {
            "Counting/a",
            "Counting/b",
            "Brittle/q",
        }


def test_bytes_that_are_no_text_stand_in_nobodys_way(connection):
    connection.execute("UPDATE journal SET message_id = CAST(x'ff80' AS TEXT) WHERE rowid = 1")
    assert {violation.rule for violation in violations(connection)} == {Rule.CHECKSUM}


def test_out_of_the_window_an_id_may_come_again(connection):
    connection.execute(
        "UPDATE journal SET message_id = 'm-0' WHERE instance = 'Counting/a' AND sequence_nr = 4"
    )
    connection.execute("DELETE FROM snapshots")
    sealed(connection, rows.JOURNAL)
    assert [found.rule for found in violations(connection, window=3)] == [Rule.MESSAGE]
    assert violations(connection, window=2) == []


def test_damage_of_the_file_itself_is_named(written, tmp_path):
    path = tmp_path / "copy.db"
    shutil.copy(written, path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute("DELETE FROM sqlite_master WHERE name = 'inbox_by_due'")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        assert {violation.rule for violation in violations(connection)} == {Rule.FILE}


def test_what_is_not_created_yet_has_no_violations_and_what_is_not_ours_no_answer(tmp_path):
    with closing(sqlite3.connect(tmp_path / "new.db")) as connection:
        assert violations(connection) == []
        connection.execute("CREATE TABLE somebodys (id INTEGER)")
        with pytest.raises(NotADatabase):
            violations(connection)


def test_the_connection_is_left_as_it_was(connection):
    connection.execute("BEGIN")
    connection.execute("UPDATE meta SET epoch = epoch + 1")
    factory = connection.text_factory
    assert violations(connection) == []
    assert connection.in_transaction
    assert connection.text_factory is factory


def test_a_violation_reads_as_a_sentence():
    found = Violation(Rule.SEQUENCE, "Order/o-1", "turn 3 comes after turn 1")
    assert str(found) == "sequence: Order/o-1: turn 3 comes after turn 1"
    assert str(Violation(Rule.FILE, "", "row 1 missing")) == "file: the store: row 1 missing"
