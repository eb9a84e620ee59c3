"""Reading instances whole: newest sound snapshot, the turns after it, the messages that wait.

Synchronous for the reason given in ``sql_write.py``. What is damaged is passed over where the
journal knows better, and named where it does not. Next to read: ``sql_read.py``, pages of rows.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

from perdure.core.commit import JournalRow, SnapshotRow
from perdure.errors import CorruptRecord
from perdure.store.dialect import SqlConnection, begin_reading, roll_back, run_many
from perdure.store.protocol import LoadedInstance
from perdure.store.read_statements import (
    ANY_TURN,
    FIND_HEADS,
    INBOX_OF,
    JOURNAL_RANGES,
    NEWEST_SNAPSHOTS,
    SNAPSHOTS_OF,
)
from perdure.store.rows import INBOX, JOURNAL, SNAPSHOTS, StoredRow, corrupt_record
from perdure.store.sql_read import read_stored

__all__ = ["PAGE_TURNS_MAX", "load_instances"]

logger = logging.getLogger("perdure.store")

INSTANCES_PER_QUERY = 100

PAGE_TURNS_MAX = 1_000
"""Turns that one ``load`` gives of one instance; the rest is read with ``journal``."""

TURNS_PER_QUERY = 20_000
"""Turns that one query gives of all its instances together."""


def load_instances(connection: SqlConnection, instances: Sequence[str]) -> list[LoadedInstance]:
    """What rehydration needs of each instance, in the order asked, as ``Store.load`` does.

    Three queries per hundred instances, all of one moment in time.
    """
    loaded = {instance: LoadedInstance(instance) for instance in instances}
    distinct = list(loaded)
    begin_reading(connection)
    try:
        for start in range(0, len(distinct), INSTANCES_PER_QUERY):
            _load(connection, loaded, distinct[start : start + INSTANCES_PER_QUERY])
    finally:
        roll_back(connection)
    return [loaded[instance] for instance in instances]


def _load(connection: SqlConnection, loaded: dict[str, LoadedInstance], names: list[str]) -> None:
    asked = [loaded[name] for name in names]
    keys = [value for number, name in enumerate(names) for value in (name, number)]
    for stored in read_stored(connection, NEWEST_SNAPSHOTS, keys):
        instance = asked[stored.asked]
        instance.snapshot = _sound_snapshot(connection, instance.instance, stored)
    turns_max = min(PAGE_TURNS_MAX, TURNS_PER_QUERY // len(names))
    ranges: list[Any] = []
    for number, instance in enumerate(asked):
        base = _base(instance)
        ranges += (instance.instance, base, base + turns_max + 1, number)
    tails: list[list[StoredRow]] = [[] for _ in names]
    for stored in read_stored(connection, JOURNAL_RANGES, ranges):
        tails[stored.asked].append(stored)
    for instance, tail in zip(asked, tails, strict=True):
        _add_turns(connection, instance, tail, turns_max)
    _miss_journals(connection, asked)
    waiting = read_stored(connection, INBOX_OF, keys)
    waiting.sort(key=lambda stored: stored.position)
    for stored in waiting:
        try:
            asked[stored.asked].inbox.append(INBOX.open(stored))
        except CorruptRecord:
            problem = "an inbox row fails its checksum"
            instance = asked[stored.asked]
            instance.corrupt = instance.corrupt or corrupt_record(problem, instance.instance)


def _miss_journals(connection: SqlConnection, asked: list[LoadedInstance]) -> None:
    """An instance of which there is nothing may have been lost: then its head is still there, or
    its tombstone."""
    nothing = [one for one in asked if not (one.turns or one.snapshot or one.corrupt)]
    found = run_many(connection, FIND_HEADS, [one.instance for one in nothing])
    with_head = {instance for (instance,) in found}
    for one in nothing:
        if one.instance in with_head:
            one.corrupt = corrupt_record(
                "it has a head, or a tombstone, and no journal", one.instance
            )


def _base(instance: LoadedInstance) -> int:
    return 0 if instance.snapshot is None else instance.snapshot.sequence_nr


def _sound_snapshot(connection: SqlConnection, name: str, newest: StoredRow) -> SnapshotRow | None:
    """The newest snapshot, or the one before it, or none: the journal has everything anyway."""
    if SNAPSHOTS.is_sound(newest):
        return SNAPSHOTS.build(0, newest.key, newest.body)
    for stored in read_stored(connection, SNAPSHOTS_OF, [name]):
        if SNAPSHOTS.is_sound(stored):
            return SNAPSHOTS.build(0, stored.key, stored.body)
        logger.warning(
            "a snapshot of %r fails its checksum; an older one or the journal is used", name
        )
    return None


def _add_turns(
    connection: SqlConnection,
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
