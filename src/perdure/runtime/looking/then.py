"""An instance as it was: after a turn, or at a moment. Folds what the journal has; runs no handler.

    snapshots: 400, 800    at=650 ─> snapshot 400, then turns 401 … 650
                           at=300 ─> the initial state, then turns 1 … 300

Long journals are read page by page, as for a rehydration, so that the loop stays free. What lies
beyond the moment is not looked at: a damaged row later on does no harm.
Next to read: ``instances/rehydration.py``; ``core/replay.py``, which folds.
"""

from __future__ import annotations

import asyncio
from datetime import datetime

from perdure.codec.wire import MISSHAPEN, misshapen
from perdure.core.commit import JournalRow, SnapshotRow
from perdure.core.correlation import split_key
from perdure.core.instance import Instance, ProcessedMessages
from perdure.core.saga import Definition
from perdure.errors import CodecError, CorruptRecord, DefinitionError, Gone, StoreError
from perdure.messages import milliseconds_of
from perdure.runtime.instances.rehydration import Folded, fold, fold_loaded, quarantined
from perdure.runtime.looking.reading import Reading

__all__ = ["At", "checked_at", "instance_at"]

PAGE = 1_000

At = int | datetime
"""A sequence number from 1 on, or an aware datetime."""


def checked_at(at: At, now_ms: int) -> At:
    """The moment itself. Raises ``DefinitionError`` for what is none, or is yet to come."""
    remedy = "give the number of a turn, from 1 on, or an aware datetime"
    if isinstance(at, datetime):
        if at.tzinfo is None or at.utcoffset() is None:
            raise DefinitionError(f"at={at!r} has no time zone", remedy=remedy)
        if milliseconds_of(at) > now_ms:
            raise DefinitionError(
                f"at={at.isoformat()} is yet to come", remedy="give a moment that has passed"
            )
        return at
    if type(at) is not int or at < 1:
        raise DefinitionError(f"at={at!r} is no moment of an instance", remedy=remedy)
    return at


async def instance_at(
    reading: Reading, definition: Definition, key: str, at: At
) -> Instance | None:
    """The instance after turn ``at``, or as it was at this moment; None if it did not exist.

    At a moment counts the last turn that was not later, by the times that the turns have.

    Raises ``DefinitionError`` for a turn that was not taken yet, ``Gone`` for one that the journal
    does not keep any more, ``InstanceQuarantined`` if what led to it is damaged or cannot be
    understood by this code, ``StoreError``.
    """
    try:
        if isinstance(at, datetime):
            number = await _number_at(reading, key, milliseconds_of(at))
        else:
            number = at
        return await _after_turn(reading, definition, key, number) if number else None
    except StoreError as error:
        if isinstance(error, CorruptRecord):
            raise quarantined(definition, key, error) from error
        raise
    except DefinitionError:
        raise
    except Exception as error:
        raise quarantined(definition, key, error) from error


async def _after_turn(
    reading: Reading, definition: Definition, key: str, number: int
) -> Instance | None:
    folded = await _base(reading, definition, key, number)
    instance = folded.instance
    while instance.sequence_nr < number:
        limit = min(PAGE, number - instance.sequence_nr)
        turns = await reading.store.journal(key, instance.sequence_nr, limit)
        if turns and turns[0].sequence_nr > instance.sequence_nr + 1:
            raise _not_kept(key, turns[0].sequence_nr)
        instance = fold(reading, definition, folded._replace(instance=instance), turns)
        if len(turns) < limit:
            break
        await asyncio.sleep(0)
    if instance.sequence_nr == number:
        return instance
    (loaded,) = await reading.store.load([key])
    if loaded.corrupt is not None:
        raise loaded.corrupt  # it has been there
    stands = (await fold_loaded(reading, definition, loaded)).instance.sequence_nr
    if stands >= number:  # it goes on after a snapshot
        raise _not_kept(key, stands + 1)
    if not stands:
        return None
    raise DefinitionError(
        f"turn {number} was not taken yet: the instance stands at turn {stands}",
        remedy="give the number of a turn it has taken; history lists them",
    ).about(*split_key(key))


async def _base(reading: Reading, definition: Definition, key: str, number: int) -> Folded:
    """The newest snapshot up to this turn that can be decoded; else the beginning."""
    window = reading.settings.processed_window
    for snapshot in await reading.store.snapshots(key):
        if snapshot.sequence_nr > number:
            continue
        processed = ProcessedMessages(window)
        try:
            instance = reading.journal.decode_snapshot(
                key, snapshot.sequence_nr, snapshot.body, processed
            )
        except CodecError:
            continue  # the journal has everything
        return Folded(instance, processed, snapshot.sequence_nr)
    instance = Instance(key, split_key(key)[1], definition.initial_state())
    return Folded(instance, ProcessedMessages(window), 0)


async def _number_at(reading: Reading, key: str, at_ms: int) -> int:
    """The number of the last turn that was not later; 0 if there is none."""
    number, later = await _snapshots_around(reading, key, at_ms)
    after = number
    is_past, limit = False, PAGE
    while True:
        try:
            rows = await reading.store.journal(key, after, limit)
            times = [_time_of(reading, row) for row in rows]
        except (CorruptRecord, CodecError):
            if limit > 1:
                limit //= 2  # up to the damaged row
                continue
            if is_past:
                return number
            raise
        if rows and rows[0].sequence_nr > after + 1 and times[0] > at_ms:
            raise _not_kept(key, rows[0].sequence_nr)
        if not rows and after < later:
            raise _not_kept(key, later + 1)
        for row, turn_ms in zip(rows, times, strict=True):
            if turn_ms <= at_ms:
                number = row.sequence_nr
            is_past = is_past or turn_ms > at_ms
        if len(rows) < limit:
            return number
        after = rows[-1].sequence_nr
        await asyncio.sleep(0)


async def _snapshots_around(reading: Reading, key: str, at_ms: int) -> tuple[int, int]:
    """The numbers of the newest snapshot that was not later, and of one that was; 0 if none.

    The later one is of an instance that existed at that moment.
    """
    later = 0
    for snapshot in await reading.store.snapshots(key):
        try:
            read = reading.journal.read_snapshot(snapshot.body)
            if read.updated_at_ms <= at_ms and await _was_taken(reading, key, snapshot, at_ms):
                return snapshot.sequence_nr, later
            if read.started_at_ms <= at_ms:
                later = max(later, snapshot.sequence_nr)
        except (CodecError, *MISSHAPEN):
            continue
    return 0, later


async def _was_taken(reading: Reading, key: str, snapshot: SnapshotRow, at_ms: int) -> bool:
    """Its turn was not later: what comes after the end of an instance does not update it."""
    try:
        rows = await reading.store.journal(key, snapshot.sequence_nr - 1, 1)
        if not rows or rows[0].sequence_nr > snapshot.sequence_nr:
            return True  # it is not kept
        return _time_of(reading, rows[0]) <= at_ms
    except (CorruptRecord, CodecError):
        return True


def _time_of(reading: Reading, row: JournalRow) -> int:
    turn_ms = reading.journal.read_turn(row.body).at_ms
    if type(turn_ms) is not int:
        raise misshapen("a journal entry", TypeError(turn_ms))
    return turn_ms


def _not_kept(key: str, first: int) -> Gone:
    saga, correlation_id = split_key(key)
    return Gone(
        f"the turns before {first} are not kept any more",
        saga=saga,
        correlation_id=correlation_id,
        remedy="ask for a later turn, or look into a backup",
    )
