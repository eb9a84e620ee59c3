"""Writing heads, and what is kept of them beside: the tally of each saga, the lookups by field.

Runs inside the transaction of ``sql_write.py``. What changes is found by comparing with the heads
that are stored, so tallies and lookups cannot drift from them, whoever wrote the entries. A damaged
row stands in nobody's way: what it should have said is counted or looked up anew.
Next to read: ``core/tally.py``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import fields
from itertools import chain
from typing import Any

from sqlalchemy import Text, and_, case, cast, delete, func, select

from perdure.core.commit import HeadRow, LookupRow, Status
from perdure.core.tally import TallyRow, count_head
from perdure.errors import CorruptRecord
from perdure.store.changes import Changes
from perdure.store.dialect import (
    SqlConnection,
    TallyKey,
    narrowed,
    remains_of_text,
    run_many,
    tally_key,
    tally_keys,
)
from perdure.store.head_rows import HEADS, LOOKUPS, SAGAS
from perdure.store.read_statements import HEADS_AT, TALLIES_AT
from perdure.store.schema import instances, lookups
from perdure.store.sql_read import read_stored
from perdure.store.statements import PARAMETER, compiled
from perdure.store.write_statements import (
    CLEAR_LOOKUPS,
    PUT_HEADS,
    PUT_LOOKUPS,
    PUT_TALLIES,
    REMOVE_HEADS,
)

__all__ = ["added", "put_heads", "read_sagas", "read_tally"]

logger = logging.getLogger("perdure.store")

ASKED_MAX = 1_000
"""So many rows are looked up by one query."""

_took_ms = instances.c.updated_at_ms - instances.c.started_at_ms
_has_taken = and_(instances.c.status == Status.COMPLETED.value, _took_ms > 0)
_COUNT = compiled(
    lambda own: (
        select(instances.c.status, func.count(), func.sum(case((_has_taken, _took_ms), else_=0)))
        .where(instances.c.saga == PARAMETER, *own("instances"))
        .group_by(instances.c.status)
    )
)
_NEXT_SAGA = compiled(
    lambda own: (
        select(instances.c.saga)
        .where(instances.c.saga > cast(PARAMETER, Text), *own("instances"))
        .order_by(instances.c.saga)
        .limit(1)
    )
)
_FORGET_LOOKUPS = compiled(
    delete(lookups).where(lookups.c.saga == PARAMETER, lookups.c.instance == PARAMETER)
)


_COUNTED = [each.name for each in fields(TallyRow) if each.name not in ("saga", "indexed")]


def put_heads(connection: SqlConnection, changes: Changes) -> None:
    """Write the heads of the changes, and with them tallies and lookups."""
    heads = changes.heads
    there = [instance for instance in heads if instance not in changes.begun]
    before = _before(connection, [*there, *changes.purged])
    sagas = {instance: _saga_of(instance, heads.get(instance)) for instance in changes.purged}
    sagas |= {instance: head.saga for instance, head in heads.items()}
    lost = [key for key in sagas if key not in before and key not in changes.begun]
    counted_in = {one: tally_key(connection, saga, one) for one, saga in sagas.items()}
    indexed = {saga: tally_keys(connection, saga) for saga in changes.indexed}
    tallies = _tallies(connection, dict.fromkeys(chain(counted_in.values(), *indexed.values())))
    for instance, key in counted_in.items():
        count_head(tallies[key], before.get(instance), heads.get(instance))
    run_many(connection, PUT_HEADS, HEADS.seal(heads.values()))
    run_many(connection, REMOVE_HEADS, list(changes.purged))
    _put_lookups(connection, changes, before, [(sagas[instance], instance) for instance in lost])
    for key in {counted_in[instance] for instance in lost}:  # nobody knows how they were counted
        again = sum(counted_in[instance] == key and instance in heads for instance in lost)
        counted = read_tally(narrowed(connection, key), key[0])
        tallies[key] = _mended(tallies[key], counted, again)
    for entry in changes.indexed.values():
        for key in indexed[entry.saga]:
            tallies[key].indexed = entry.names
    sealed = [value for key, row in tallies.items() for value in (*key[1:], *SAGAS.seal([row]))]
    run_many(connection, PUT_TALLIES, sealed)


def _saga_of(instance: str, head: HeadRow | None) -> str:
    return instance.partition("/")[0] if head is None else head.saga


def _before(connection: SqlConnection, keys: Sequence[str]) -> dict[str, HeadRow]:
    """The heads as they are stored, but for those that are damaged."""
    found: dict[str, HeadRow] = {}
    for start in range(0, len(keys), ASKED_MAX):
        asked = keys[start : start + ASKED_MAX]
        values = [value for number, key in enumerate(asked) for value in (key, number)]
        for stored in read_stored(connection, HEADS_AT, values):
            instance = asked[stored.asked]
            try:
                found[instance] = HEADS.open(stored)
            except CorruptRecord:
                logger.error("written anew: a head that fails its checksum, of %r", instance)
    return found


def _tallies(connection: SqlConnection, keys: Iterable[TallyKey]) -> dict[TallyKey, TallyRow]:
    """The tally for each of these keys; one that is damaged or missing is counted anew."""
    found: dict[TallyKey, TallyRow] = {}
    wanted = list(keys)
    values = [value for number, key in enumerate(wanted) for value in (*key, number)]
    for stored in read_stored(connection, TALLIES_AT, values) if values else ():
        try:
            found[wanted[stored.asked]] = SAGAS.open(stored)
        except CorruptRecord as damage:
            logger.error("counted anew: %s", damage)
    return {
        key: found[key] if key in found else read_tally(narrowed(connection, key), key[0])
        for key in wanted
    }


def read_tally(connection: SqlConnection, saga: str) -> TallyRow:
    """A tally counted from the heads there are; no field counts as indexed."""
    tally = TallyRow(saga)
    for status, count, duration_ms in connection.execute(_COUNT, [saga]).fetchall():
        match status:
            case Status.RUNNING.value:
                tally.running = count
            case Status.STUCK.value:
                tally.stuck = count
            case Status.COMPLETED.value:
                tally.completed = tally.kept_completed = count
                tally.duration_ms = int(duration_ms)
            case Status.FAILED.value:
                tally.failed = tally.kept_failed = count
    tally.started = tally.kept
    return tally


def read_sagas(connection: SqlConnection) -> list[str]:
    """The sagas that there are heads of, by name: one step in the index each."""
    names: list[str] = []
    last: Any = ""
    with remains_of_text(connection, bytes):  # a damaged one may be no text
        while found := connection.execute(_NEXT_SAGA, [last]).fetchall():
            [(name,)] = found
            if name == last:
                break
            last = name
            with suppress(UnicodeDecodeError):
                names.append(name if isinstance(name, str) else name.decode())
    return names


def added(one: TallyRow, other: TallyRow) -> TallyRow:
    """Both tallies of a saga in one; a field counts as indexed if it is for all there are."""
    counted = {name: getattr(one, name) + getattr(other, name) for name in _COUNTED}
    indexed = one.indexed if one.kept else other.indexed
    if one.kept and other.kept:
        indexed = tuple(name for name in one.indexed if name in other.indexed)
    return TallyRow(one.saga, **counted, indexed=indexed)


def _mended(tally: TallyRow, counted: TallyRow, again: int) -> TallyRow:
    """What there is now, as it was counted; what there was, as far as it is known.

    ``again`` heads in place of lost ones were counted in as if there had been none before them.
    """
    counted.started = max(tally.started - again, counted.started)
    counted.completed = max(tally.completed, counted.completed)
    counted.failed = max(tally.failed, counted.failed)
    counted.duration_ms = max(tally.duration_ms, counted.duration_ms)
    counted.indexed = tally.indexed
    return counted


def _put_lookups(
    connection: SqlConnection,
    changes: Changes,
    before: dict[str, HeadRow],
    lost: Iterable[tuple[str, str]],
) -> None:
    gone: list[LookupRow] = []
    new: list[LookupRow] = []
    for instance in changes.purged:
        if (last := before.get(instance)) is not None:
            gone += _lookups(last, last.fields)
    for instance, head in changes.heads.items():
        was = before.get(instance)
        if was is None and not head.fields:
            continue
        old = () if was is None else was.fields
        if old == head.fields and instance not in changes.reindexed:
            continue
        gone += _lookups(head, [field for field in old if field not in head.fields])
        is_new = was is None or instance in changes.reindexed
        new += _lookups(head, [f for f in head.fields if is_new or f not in old])
    for saga_and_instance in lost:
        connection.execute(_FORGET_LOOKUPS, saga_and_instance)
    run_many(connection, CLEAR_LOOKUPS, list(chain.from_iterable(map(LOOKUPS.key_of, gone))))
    run_many(connection, PUT_LOOKUPS, LOOKUPS.seal(new))


def _lookups(head: HeadRow, fields: Iterable[tuple[str, str]]) -> list[LookupRow]:
    return [LookupRow(head.saga, name, value, head.instance) for name, value in fields]
