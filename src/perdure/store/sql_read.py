"""Reading, over a plain sqlite3 connection: pages of one kind of row, and instances whole.

Synchronous for the reason given in ``sql_write.py``. Every row's checksum is verified before the
row is used. Knows nothing of threads or event loops.
Next to read: ``read_statements.py`` for the queries, ``sql.py`` for who calls.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from perdure.core.commit import (
    HeadRow,
    JournalRow,
    OutboxRow,
    QuarantineRow,
    QueueRow,
    SnapshotRow,
    Status,
)
from perdure.errors import CorruptRecord
from perdure.store.protocol import LoadedInstance
from perdure.store.read_statements import (
    ANY_TURN,
    INBOX_OF,
    INBOX_SIZES,
    JOBS_AT,
    JOURNAL_RANGES,
    NEWEST_SNAPSHOTS,
    QUARANTINES_ALL,
    QUEUE_DEPTHS,
    QUEUES_ALL,
    SNAPSHOTS_OF,
    Query,
    heads_page,
)
from perdure.store.rows import INBOX, JOURNAL, QUEUES, SNAPSHOTS, StoredRow, corrupt_record
from perdure.store.statements import spread

__all__ = [
    "PAGE_TURNS_MAX",
    "load_instances",
    "read_depths",
    "read_heads",
    "read_inbox_sizes",
    "read_jobs_at",
    "read_page",
    "read_quarantines",
    "read_queues",
    "read_sound",
]

logger = logging.getLogger("perdure.store")

INSTANCES_PER_QUERY = 100

JOBS_PER_QUERY = 1_000

_AFTER_SLASH = chr(ord("/") + 1)

PAGE_TURNS_MAX = 1_000
"""Turns that one ``load`` gives of one instance; the rest is read with ``journal``."""

TURNS_PER_QUERY = 20_000
"""Turns that one query gives of all its instances together."""


def read_page(connection: sqlite3.Connection, query: Query, values: list[Any]) -> list[Any]:
    """The rows of a query, each verified. Raises CorruptRecord at a damaged one."""
    open_row = query.kind.open
    return [open_row(stored) for stored in _stored(connection, query, values)]


def read_sound(
    connection: sqlite3.Connection, query: Query, values: list[Any]
) -> tuple[list[Any], list[CorruptRecord]]:
    """The sound rows of a query whose last value is its limit, and an error per damaged one.

    Damaged rows do not count towards the limit: they must not stand in the way of the others.
    """
    *narrowed, limit = values
    damaged: list[CorruptRecord] = []
    while True:
        passed_over = len(damaged)
        stored = _stored(connection, query, [*narrowed, limit + passed_over])
        rows, damaged = _sorted_out(query, stored)
        if len(damaged) <= passed_over or len(stored) < limit + passed_over:
            return rows, damaged


def _sorted_out(query: Query, stored: Iterable[StoredRow]) -> tuple[list[Any], list[CorruptRecord]]:
    rows: list[Any] = []
    damaged: list[CorruptRecord] = []
    for each in stored:
        try:
            rows.append(query.kind.open(each))
        except CorruptRecord as damage:
            damaged.append(damage)
    return rows, damaged


def read_jobs_at(
    connection: sqlite3.Connection, positions: Sequence[int]
) -> tuple[list[OutboxRow], list[CorruptRecord]]:
    """The jobs at these positions that exist, in order of position, as ``read_sound`` does."""
    wanted = sorted(set(positions))
    stored: list[StoredRow] = []
    for start in range(0, len(wanted), JOBS_PER_QUERY):
        some = wanted[start : start + JOBS_PER_QUERY]
        keys = [value for position in some for value in (position, 0)]
        stored += _stored(connection, JOBS_AT, keys)
    rows, damaged = _sorted_out(JOBS_AT, stored)
    rows.sort(key=lambda row: row.position)
    return rows, damaged


def read_depths(connection: sqlite3.Connection) -> dict[str, int]:
    """How many jobs each queue holds, as ``Store.queue_depths`` gives it."""
    connection.text_factory = _text_or_remains
    try:
        return dict(connection.execute(QUEUE_DEPTHS).fetchall())
    finally:
        connection.text_factory = str


def read_inbox_sizes(connection: sqlite3.Connection, instances: Sequence[str]) -> dict[str, int]:
    """How many messages wait per instance, as ``Store.inbox_sizes`` gives it."""
    sizes: dict[str, int] = {}
    for sql, filled in INBOX_SIZES.rounds(sorted(set(instances))):
        sizes.update(connection.execute(sql, filled).fetchall())
    return sizes


def read_quarantines(
    connection: sqlite3.Connection,
) -> tuple[list[QuarantineRow], list[CorruptRecord]]:
    """All quarantines by key, and an error per damaged row, whose key, if it is one, still counts.

    As ``Store.quarantines`` gives them.
    """
    rows: list[QuarantineRow] = []
    damaged: list[CorruptRecord] = []
    for stored in _stored(connection, QUARANTINES_ALL, []):
        try:
            rows.append(QUARANTINES_ALL.kind.open(stored))
        except CorruptRecord as damage:
            damaged.append(damage)
            if _is_key(stored.key[0]):
                rows.append(QuarantineRow(stored.key[0], "unknown", damage.problem, 0))
    return rows, damaged


def _is_key(found: Any) -> bool:
    return isinstance(found, str) and not any("\ud800" <= char <= "\udfff" for char in found)


def read_heads(
    connection: sqlite3.Connection,
    saga: str | None,
    status: Status | None,
    after: str,
    limit: int,
) -> tuple[list[HeadRow], list[CorruptRecord]]:
    """Heads in order of their key, as ``Store.heads`` gives them, and an error per damaged one.

    All heads of a saga are found by their keys alone: a damaged status or saga hides none.
    """
    query = heads_page(saga is not None, status is not None)
    if saga is None:
        values: list[Any] = [after] if status is None else [after, status.value]
    elif status is None:
        values = [max(after, f"{saga}/"), f"{saga}{_AFTER_SLASH}"]
    else:
        values = [after, saga, status.value]
    return read_sound(connection, query, [*values, limit])


def read_queues(connection: sqlite3.Connection) -> tuple[list[QueueRow], list[CorruptRecord]]:
    """What is known of queues; one with a damaged row counts as paused, in case it was."""
    stored = _stored(connection, QUEUES_ALL, [])
    rows, damaged = _sorted_out(QUEUES_ALL, stored)
    for each in stored:
        if not QUEUES.is_sound(each):
            why = "its row in the store is damaged; resume it if its jobs may start"
            rows.append(QueueRow(str(each.key[0]), True, why, 0))
    return rows, damaged


def load_instances(
    connection: sqlite3.Connection, instances: Sequence[str]
) -> list[LoadedInstance]:
    """What rehydration needs of each instance, in the order asked, as ``Store.load`` does.

    Three queries per hundred instances, all of one moment in time.
    """
    loaded = {instance: LoadedInstance(instance) for instance in instances}
    distinct = list(loaded)
    connection.execute("BEGIN")
    try:
        for start in range(0, len(distinct), INSTANCES_PER_QUERY):
            _load(connection, loaded, distinct[start : start + INSTANCES_PER_QUERY])
    finally:
        connection.execute("ROLLBACK")
    return [loaded[instance] for instance in instances]


def _load(
    connection: sqlite3.Connection, loaded: dict[str, LoadedInstance], names: list[str]
) -> None:
    asked = [loaded[name] for name in names]
    keys = [value for number, name in enumerate(names) for value in (name, number)]
    for stored in _stored(connection, NEWEST_SNAPSHOTS, keys):
        instance = asked[stored.asked]
        instance.snapshot = _sound_snapshot(connection, instance.instance, stored)
    turns_max = min(PAGE_TURNS_MAX, TURNS_PER_QUERY // len(names))
    ranges: list[Any] = []
    for number, instance in enumerate(asked):
        base = _base(instance)
        ranges += (instance.instance, base, base + turns_max + 1, number)
    tails: list[list[StoredRow]] = [[] for _ in names]
    for stored in _stored(connection, JOURNAL_RANGES, ranges):
        tails[stored.asked].append(stored)
    for instance, tail in zip(asked, tails, strict=True):
        _add_turns(connection, instance, tail, turns_max)
    waiting = _stored(connection, INBOX_OF, keys)
    waiting.sort(key=lambda stored: stored.position)
    for stored in waiting:
        try:
            asked[stored.asked].inbox.append(INBOX.open(stored))
        except CorruptRecord:
            problem = "an inbox row fails its checksum"
            instance = asked[stored.asked]
            instance.corrupt = instance.corrupt or corrupt_record(problem, instance.instance)


def _base(instance: LoadedInstance) -> int:
    return 0 if instance.snapshot is None else instance.snapshot.sequence_nr


def _sound_snapshot(
    connection: sqlite3.Connection, name: str, newest: StoredRow
) -> SnapshotRow | None:
    """The newest snapshot, or the one before it, or none: the journal has everything anyway."""
    if SNAPSHOTS.is_sound(newest):
        return SNAPSHOTS.build(0, newest.key, newest.body)
    for stored in _stored(connection, SNAPSHOTS_OF, [name]):
        if SNAPSHOTS.is_sound(stored):
            return SNAPSHOTS.build(0, stored.key, stored.body)
        logger.warning(
            "a snapshot of %r fails its checksum; an older one or the journal is used", name
        )
    return None


def _add_turns(
    connection: sqlite3.Connection,
    instance: LoadedInstance,
    tail: list[StoredRow],
    turns_max: int,
) -> None:
    """Fold the stored tail into the instance; stop at the first row that does not belong."""
    tail.sort(key=lambda stored: stored.key[1])
    base = _base(instance)
    if base and not tail and connection.execute(ANY_TURN, [instance.instance]).fetchall():
        instance.corrupt = corrupt_record(
            f"the journal ends before the snapshot of turn {base}", instance.instance
        )
    try:
        for turn in _dense_turns(tail, base, instance.instance):
            if len(instance.turns) == turns_max:
                instance.has_more = True
                break
            instance.turns.append(turn)
    except CorruptRecord as damage:
        instance.corrupt = damage


def _dense_turns(tail: Sequence[StoredRow], base: int, name: str) -> Iterator[JournalRow]:
    """The turns after ``base``, verified: checksum, numbers without gap, epochs that never fall.

    Rows up to ``base`` are passed over: the snapshot stands for them.
    """
    expected, epoch = base + 1, 0
    for stored in tail:
        if stored.key[1] <= base:
            continue
        if not JOURNAL.is_sound(stored):
            raise corrupt_record(f"journal row {expected} fails its checksum", name)
        turn = JOURNAL.build(0, stored.key, stored.body)
        if turn.sequence_nr != expected:
            raise corrupt_record(f"journal row {expected} is missing", name)
        if turn.epoch < epoch:
            problem = f"journal row {expected} has epoch {turn.epoch} after {epoch}"
            raise corrupt_record(problem, name)
        expected, epoch = expected + 1, turn.epoch
        yield turn


def _stored(connection: sqlite3.Connection, query: Query, values: list[Any]) -> list[StoredRow]:
    """The rows of a query, not yet verified."""
    packed, filled = _filled(query.packed, query, values)
    try:
        [(described, bodies)] = connection.execute(packed, filled).fetchall()
        return _unpacked(described, bodies or b"", query.kind.blobs)
    except (sqlite3.DataError, sqlite3.OperationalError, ValueError, TypeError):
        # More than SQLite puts into one value, or a column so damaged that it cannot be packed.
        # Row by row, the damage stays with its row. An error of the disk comes up again.
        return _one_by_one(connection, *_filled(query.one_by_one, query, values))


def _filled(sql: str, query: Query, values: list[Any]) -> tuple[str, list[Any]]:
    return spread(sql, query.width, values) if query.width else (sql, values)


def _unpacked(described: bytes, bodies: bytes, blobs: Sequence[int]) -> list[StoredRow]:
    rows: list[StoredRow] = []
    start = 0
    for asked, position, *key, stored, length in json.loads(
        described.decode("utf-8", "surrogateescape")
    ):
        end = start + length
        for number in blobs:
            key[number] = bytes.fromhex(key[number])
        rows.append(StoredRow(asked, position, tuple(key), bodies[start:end], stored))
        start = end
    if start != len(bodies):
        raise ValueError("the bodies do not have the lengths of their rows")
    return rows


def _one_by_one(connection: sqlite3.Connection, sql: str, values: list[Any]) -> list[StoredRow]:
    connection.text_factory = _text_or_remains
    try:
        found = connection.execute(sql, values).fetchall()
    finally:
        connection.text_factory = str
    return [
        StoredRow(asked, position, tuple(key), body, stored)
        for asked, position, *key, stored, body in found
    ]


def _text_or_remains(stored: bytes) -> str:
    return stored.decode("utf-8", "surrogateescape")
