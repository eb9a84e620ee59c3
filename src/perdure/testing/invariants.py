"""What holds of a store's tables at every moment, whatever has died on the way there.

    with closing(sqlite3.connect("copy-of-orders.db")) as connection:
        for violation in violations(connection):
            print(violation)

Run over a copy of a database, or over the file itself: after a crash, in a test, before and after
a repair. It only reads, and only the raw tables: no saga's code is needed, so what a state says is
not looked at. The journal is the truth here as everywhere; each instance's is folded, and every
other table is held against it.
Next to read: ``journal_facts.py``, what must agree with what.
"""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from sqlalchemy import literal_column, select

from perdure.codec.outbox import unpack_job
from perdure.core.commit import JournalRow, OutboxRow
from perdure.errors import CodecError, CorruptRecord
from perdure.store.head_rows import HEADS, LOOKUPS, SAGAS, TOMBSTONES
from perdure.store.rows import (
    DEAD_LETTERS,
    DEADLINES,
    INBOX,
    JOURNAL,
    OUTBOX,
    QUARANTINES,
    QUEUES,
    SNAPSHOTS,
    RowKind,
    StoredRow,
)
from perdure.store.sql_open import read_epoch
from perdure.store.statements import compiled
from perdure.testing.head_facts import lookups_agree, tallies_agree
from perdure.testing.journal_facts import Finding, JournalFacts, Rule
from perdure.testing.purge_facts import PurgeFacts

__all__ = ["Rule", "Violation", "violations"]

SNAPSHOTS_KEPT = 2


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule that the tables break. ``instance`` is its key, "" where it is about none."""

    rule: Rule
    instance: str
    problem: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.instance or 'the store'}: {self.problem}"


def violations(connection: sqlite3.Connection, *, window: int = 1_000) -> list[Violation]:
    """All that is wrong with the tables of a database of perdure's; nothing, if nothing is.

        violations(sqlite3.connect("file:copy.db?mode=ro", uri=True))    # []

    ``Rule`` lists what is looked at. ``window`` is the ``processed_window`` (in turns) of the
    runtimes that wrote it: a message id that comes again within it is a violation, later it is not.
    A file in which nothing was created yet has none. All is of one moment: it is read in one
    transaction. Every table but the journal is held in memory.
    Raises ``NotADatabase``, ``SchemaTooNew`` or ``SchemaTooOld`` for what is not ours to judge, and
    sqlite3.Error for a file that cannot be read at all.
    """
    with _one_moment(connection):
        if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            return []
        return _Inspection(connection, read_epoch(connection), window).run()


@contextmanager
def _one_moment(connection: sqlite3.Connection) -> Iterator[None]:
    """Reads see one state of the database; texts that are none any more are let through."""
    begins, factory = not connection.in_transaction, connection.text_factory
    connection.text_factory = lambda stored: stored.decode("utf-8", "surrogateescape")
    if begins:
        connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.text_factory = factory
        if begins:
            connection.execute("ROLLBACK")


class _Inspection:
    """One look at all tables. A row that fails its own checksum counts for nothing else."""

    def __init__(self, connection: sqlite3.Connection, epoch: int, window: int) -> None:
        self._connection = connection
        self._epoch = epoch
        self._window = window
        self._found: list[Violation] = []

    def run(self) -> list[Violation]:
        for (problem,) in self._connection.execute("PRAGMA integrity_check").fetchall():
            if problem != "ok":
                self._say(Rule.FILE, "", problem)
        list(self._sound(QUEUES))  # nothing else depends on them
        self._heads = self._by_instance(self._sound(HEADS))
        self._tombstones = {row.instance: row for row in self._sound(TOMBSTONES)}
        self._found += [Violation(*found) for found in self._counted()]
        self._deadlines = self._by_instance(self._sound(DEADLINES))
        self._inbox = self._by_instance(self._sound(INBOX))
        self._quarantines = self._by_instance(self._sound(QUARANTINES))
        self._snapshots = self._by_instance(self._sound(SNAPSHOTS))
        waiting, dead = list(self._sound(OUTBOX)), list(self._dead_jobs())
        self._jobs = self._by_instance([*waiting, *dead])
        self._in_one_place(waiting, dead)
        judged = self._journals()
        for instance in [key for key in self._tombstones if key not in judged]:
            judged.add(instance)
            self._judge_purged(instance, [])
        others = (self._deadlines, self._quarantines, self._snapshots, self._jobs)
        for table in (self._heads, *others):
            for instance in [key for key in table if key and key not in judged]:
                judged.add(instance)
                self._judge(JournalFacts(instance, self._window))
        return self._found

    def _say(self, rule: Rule, instance: str, problem: str) -> None:
        self._found.append(Violation(rule, instance, problem))

    def _add(self, instance: str, findings: Iterable[Finding]) -> None:
        self._found += [Violation(rule, instance, problem) for rule, problem in findings]

    # Reading

    def _stored(self, kind: RowKind[Any], *order: str) -> Iterator[StoredRow]:
        columns = kind.table.c
        position: Any = columns.position if kind.has_position else literal_column("0")
        body: Any = columns.body if kind.has_body else literal_column("x''")
        rows = select(position, *(columns[name] for name in kind.columns), columns.checksum, body)
        sql = compiled(rows.order_by(*(columns[name] for name in order)))
        for place, *key, checksum, found in self._connection.execute(sql):
            yield StoredRow(0, place, tuple(key), found, checksum)

    def _sound(self, kind: RowKind[Any]) -> Iterator[Any]:
        for stored in self._stored(kind):
            try:
                yield kind.open(stored)
            except CorruptRecord as error:
                at = kind.columns.index("instance") if "instance" in kind.columns else None
                self._say(Rule.CHECKSUM, "" if at is None else str(stored.key[at]), error.problem)
            except ValueError as error:  # sound, and yet it was not perdure that wrote it
                self._say(Rule.UNREADABLE, "", f"a row of {kind.table.name}: {error}")

    def _dead_jobs(self) -> Iterator[OutboxRow]:
        for row in self._sound(DEAD_LETTERS):
            if row.job:
                try:
                    yield unpack_job(row.instance, row.queue, row.type, row.job, row.body)
                except (CodecError, ValueError) as error:
                    self._say(Rule.UNREADABLE, row.instance, f"letter {row.message_id!r}: {error}")

    def _by_instance(self, rows: Iterable[Any]) -> dict[str, list[Any]]:
        found: defaultdict[str, list[Any]] = defaultdict(list)
        for row in rows:
            found[row.instance].append(row)
        return dict(found)

    # Judging

    def _in_one_place(self, waiting: list[OutboxRow], dead: list[OutboxRow]) -> None:
        times = Counter(job.id for job in [*waiting, *dead])
        for id in [id for id, count in times.items() if count > 1]:
            outbox = sum(job.id == id for job in waiting)
            self._say(
                Rule.OUTBOX,
                "",
                f"job {id} is in the outbox {outbox} times, among the dead letters "
                f"{times[id] - outbox} times",
            )

    def _counted(self) -> Iterator[tuple[Rule, str, str]]:
        """Hold tallies and lookups against the heads, which are held against the journals."""
        heads = [head for rows in self._heads.values() for head in rows]
        tallies, lookups = list(self._sound(SAGAS)), list(self._sound(LOOKUPS))
        damaged = {found.instance for found in self._found if found.rule is Rule.CHECKSUM}
        if not damaged:
            yield from tallies_agree(tallies, heads)
        yield from lookups_agree(lookups, (head for head in heads if head.instance not in damaged))

    def _journals(self) -> set[str]:
        """Fold each journal, row by row, and judge by it; whose they were."""
        seen: set[str] = set()
        rows = self._stored(JOURNAL, "instance", "sequence_nr")
        for instance, stored in groupby(rows, key=lambda row: row.key[0]):
            seen.add(instance)
            if instance in self._tombstones:
                self._judge_purged(instance, stored)
                continue
            facts = JournalFacts(instance, self._window)
            facts.remember_at(row.sequence_nr for row in self._snapshots.get(instance, ()))
            if self._fold(facts, stored):
                self._judge(facts)
        return seen

    def _fold(self, facts: JournalFacts, rows: Iterable[StoredRow]) -> bool:
        """False if a row is damaged: what the journal says is not known then."""
        damaged: list[str] = []
        for stored in rows:
            try:
                row: JournalRow = JOURNAL.open(stored)
            except CorruptRecord as error:
                damaged.append(error.problem)
                continue
            if row.epoch > self._epoch:
                problem = f"turn {row.sequence_nr} has epoch {row.epoch}, the store {self._epoch}"
                self._say(Rule.EPOCH, facts.instance, problem)
            if not damaged:
                self._add(facts.instance, facts.add(row))
        self._add(str(facts.instance), ((Rule.CHECKSUM, problem) for problem in damaged))
        return not damaged

    def _judge_purged(self, instance: str, rows: Iterable[StoredRow]) -> None:
        """Hold what is left of an instance against its tombstone."""
        turns: list[JournalRow] = []
        for stored in rows:
            try:
                turns.append(JOURNAL.open(stored))
            except CorruptRecord as error:
                self._say(Rule.CHECKSUM, instance, error.problem)
                return
        tombstone, snapshots = self._tombstones[instance], self._snapshots.get(instance, [])
        facts = PurgeFacts(tombstone, turns, snapshots, self._window)
        [head, *_] = self._heads.get(instance, [None])
        deadlines, jobs = self._deadlines.get(instance, []), self._jobs.get(instance, [])
        self._add(instance, facts.check_memory())
        self._add(instance, facts.check_turns())
        self._add(instance, facts.check_others(head, deadlines, jobs))

    def _judge(self, facts: JournalFacts) -> None:
        """Hold the rows of an instance against its journal, which may be empty."""
        instance = facts.instance
        waiting = self._inbox.get(instance, [])
        [head, *_] = self._heads.get(instance, [None])
        self._add(instance, facts.check_head(head))
        self._add(instance, facts.check_deadlines(self._deadlines.get(instance, [])))
        for job in self._jobs.get(instance, []):
            self._add(instance, facts.check_job(job, waiting))
        for message in waiting:
            self._add(instance, facts.check_waiting(message))
        for quarantine in self._quarantines.get(instance, []):
            self._add(instance, facts.check_quarantine(quarantine, waiting))
        snapshots = self._snapshots.get(instance, [])
        for snapshot in snapshots:
            self._add(instance, facts.check_snapshot(snapshot))
        if len(snapshots) > SNAPSHOTS_KEPT:
            self._say(Rule.SNAPSHOT, instance, f"{len(snapshots)} are kept")
