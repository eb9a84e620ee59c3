"""Writing a group of entries in one transaction, over a plain connection.

Synchronous on purpose: a store runs ``write_entries`` whole on the driver's thread, or in a
greenlet (see ``dialect.py``), and a simulation calls it inline. The number of statements does not
depend on the number of entries.
Knows nothing of threads or event loops. Next to read: ``write_plan.py``, then ``sql.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import perdure.failpoints as failpoints
from perdure.core.commit import Entry
from perdure.errors import StoreError
from perdure.failpoints import Point
from perdure.store.changes import Changes, Present
from perdure.store.dialect import (
    ENTRY_FAULTS,
    SqlConnection,
    begin_writing,
    roll_back,
    run_many,
)
from perdure.store.rows import (
    DEAD_LETTERS,
    DEADLINES,
    INBOX,
    JOURNAL,
    QUARANTINES,
    QUEUES,
    SNAPSHOTS,
    seal_jobs,
)
from perdure.store.sql_heads import put_heads
from perdure.store.sql_tombstones import put_tombstones
from perdure.store.write_plan import asked_of, first_numbers, key_of, net_changes, refusals
from perdure.store.write_statements import (
    CLEAR_DEADLINES,
    CLEAR_QUARANTINES,
    CONSUME_INBOX,
    FIND_GIVEN_IDS,
    FIND_JOBS,
    FIND_LETTERS,
    FIND_LOSERS,
    FIND_TOMBSTONES,
    INSERT_DEAD_LETTERS,
    INSERT_JOURNAL,
    INSERT_OUTBOX,
    INSERT_UNTOUCHED,
    PRUNE_SNAPSHOTS,
    PUT_DEADLINES,
    PUT_INBOX,
    PUT_QUARANTINES,
    PUT_QUEUES,
    PUT_SNAPSHOTS,
    REMOVE_JOBS,
    REMOVE_LETTERS,
    REPLACE_INBOX,
)

__all__ = ["write_entries"]


def write_entries(
    connection: SqlConnection, entries: Sequence[Entry], epoch: int
) -> list[StoreError | None]:
    """Write what is not refused; answer per entry, as ``Store.write`` does.

    ``epoch`` is the writer's own, as opening gave it. The connection must not be in a transaction
    and must leave transactions alone (on SQLite, ``isolation_level=None``).
    Raises sqlite3.Error, or ServerError, if the transaction failed; the store translates it.
    """
    if not entries:
        return []
    begin_writing(connection)
    try:
        try:
            answers = _write(connection, entries, epoch)
        except ENTRY_FAULTS:
            connection.execute("ROLLBACK")
            begin_writing(connection)
            answers = [_write_alone(connection, entry, epoch) for entry in entries]
        if failpoints.listener is not None:
            failpoints.reach(Point.COMMITTING)
        connection.execute("COMMIT")
    except BaseException:
        roll_back(connection)
        raise
    return answers


def _write(
    connection: SqlConnection, entries: Sequence[Entry], epoch: int
) -> list[StoreError | None]:
    answers = _refused(connection, entries, epoch)
    _apply(connection, net_changes(entries, answers, _present(connection, entries)))
    return answers


def _refused(
    connection: SqlConnection, entries: Sequence[Entry], epoch: int
) -> list[StoreError | None]:
    """Epoch and sequence numbers, checked before anything is written."""
    stored_epoch = epoch
    losers: dict[str, object] = {}
    first = first_numbers(entries, epoch)
    expected: list[Any] = list(chain.from_iterable(first.items()))
    for instance, number in run_many(connection, FIND_LOSERS, expected, epoch):
        if instance is None:
            stored_epoch = number
        else:
            losers[instance] = number
    return refusals(entries, epoch, stored_epoch, losers)


def _present(connection: SqlConnection, entries: Sequence[Entry]) -> Present:
    """What the store holds of the jobs, dead letters and given ids that the entries name."""
    asked = asked_of(entries)
    jobs = run_many(connection, FIND_JOBS, asked.jobs)
    letters = run_many(connection, FIND_LETTERS, asked.letters)
    given_ids = run_many(connection, FIND_GIVEN_IDS, asked.given_ids)
    purged = run_many(connection, FIND_TOMBSTONES, asked.purged)
    return Present(
        {job for (job,) in jobs},
        {letter for (letter,) in letters},
        dict(given_ids),
        {instance for (instance,) in purged},
    )


def _apply(connection: SqlConnection, changes: Changes) -> None:
    run_many(connection, INSERT_JOURNAL, JOURNAL.seal(changes.journal))
    if failpoints.listener is not None:
        failpoints.reach(Point.WRITING)
    run_many(connection, REMOVE_JOBS, list(changes.jobs_removed))
    untouched, others = seal_jobs(changes.outbox.values())
    run_many(connection, INSERT_UNTOUCHED, untouched)
    run_many(connection, INSERT_OUTBOX, others)
    if changes.deadlines:
        set_ = [row for row in changes.deadlines.values() if row is not None]
        cleared = [key for key, row in changes.deadlines.items() if row is None]
        run_many(connection, PUT_DEADLINES, DEADLINES.seal(set_))
        run_many(connection, CLEAR_DEADLINES, _flat(cleared))
    if changes.heads or changes.indexed or changes.tombstones:
        put_heads(connection, changes)
        put_tombstones(connection, changes)
    if changes.consumed:
        run_many(connection, CONSUME_INBOX, _flat(changes.consumed))
    if changes.inbox:
        # All at first, in the order of their arrival, which is what numbers those that are new.
        run_many(connection, PUT_INBOX, INBOX.seal(changes.inbox.values()))
        replacing = [row for row in changes.inbox.values() if row.replaces]
        run_many(connection, REPLACE_INBOX, INBOX.seal(replacing))
    run_many(connection, REMOVE_LETTERS, list(changes.letters_removed))
    if changes.dead_letters:
        run_many(connection, INSERT_DEAD_LETTERS, DEAD_LETTERS.seal(changes.dead_letters))
    if changes.snapshots:
        run_many(connection, PUT_SNAPSHOTS, SNAPSHOTS.seal(changes.snapshots.values()))
        failpoints.reach(Point.SNAPSHOT)
        instances = dict.fromkeys(instance for instance, _ in changes.snapshots)
        run_many(connection, PRUNE_SNAPSHOTS, list(instances))
    if changes.queues:
        run_many(connection, PUT_QUEUES, QUEUES.seal(changes.queues.values()))
    if changes.quarantines:
        begun = [row for row in changes.quarantines.values() if not row.is_over]
        over = [key for key, row in changes.quarantines.items() if row.is_over]
        run_many(connection, PUT_QUARANTINES, QUARANTINES.seal(begun))
        run_many(connection, CLEAR_QUARANTINES, over)


def _flat(keys: Iterable[tuple[str, str]]) -> list[Any]:
    return list(chain.from_iterable(keys))


def _write_alone(connection: SqlConnection, entry: Entry, epoch: int) -> StoreError | None:
    """One entry in a savepoint of its own, so that only the culprit of a group is left out."""
    connection.execute("SAVEPOINT entry")
    try:
        [answer] = _write(connection, [entry], epoch)
    except ENTRY_FAULTS as fault:
        connection.execute("ROLLBACK TO entry")
        answer = _culprit(entry, fault)
    connection.execute("RELEASE entry")
    return answer


def _culprit(entry: Entry, fault: Exception) -> StoreError:
    saga, _, correlation_id = str(key_of(entry)).partition("/")
    error = StoreError(
        f"the store cannot keep this {type(entry).__name__}: {fault}",
        saga=saga or None,
        correlation_id=correlation_id if saga else None,
        remedy="nothing of it was written; see the cause for the column",
    )
    error.__cause__ = fault
    return error
