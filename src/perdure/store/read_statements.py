"""The queries. Each can answer in one packed row, or, as a way out, row by row.

Packed, a thousand rows cost one step of the database instead of a thousand, and each step hands
Python's lock to whoever waits for it. Knows tables, and nothing of what a row means.
Next to read: ``sql_read.py``, which runs them and checks what comes back.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from sqlalchemy import (
    LargeBinary,
    Select,
    and_,
    cast,
    exists,
    func,
    literal_column,
    or_,
    select,
    tuple_,
)

from perdure.store import schema
from perdure.store.head_rows import HEADS, SAGAS, TOMBSTONES
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
)
from perdure.store.statements import (
    PARAMETER,
    Made,
    ManyRows,
    Own,
    clause_of,
    compiled,
    given,
    given_rows,
    in_a_file,
    kinds_of,
)

__all__ = [
    "ANY_TURN",
    "DEADLINES_PAGE",
    "DEAD_LETTERS_PAGE",
    "FIND_HEADS",
    "HEADS_AT",
    "INBOX_DUE",
    "INBOX_OF",
    "INBOX_PAGE",
    "INBOX_SIZES",
    "JOBS_AFTER",
    "JOBS_AT",
    "JOBS_DUE",
    "JOBS_READY",
    "JOURNAL_PAGE",
    "JOURNAL_RANGES",
    "NEWEST_SNAPSHOTS",
    "OUTBOX_PAGE",
    "QUARANTINES_ALL",
    "QUEUES_ALL",
    "QUEUE_DEPTHS",
    "QUEUE_PAGE",
    "SNAPSHOTS_OF",
    "TALLIES_ALL",
    "TALLIES_AT",
    "TOMBSTONES_PAGE",
    "Query",
    "heads_page",
]


class Query:
    """A query for rows of one kind.

    ``one_by_one`` gives per row: which given row asked for it, position, the key columns,
    checksum, body; 0 for what there is not. ``packed`` gives one row: the same as a JSON array
    with the body's length in place of the body and other bytes in hexadecimal, and all bodies end
    to end. Over given columns, of which
    the last is the given row's number (``kinds``: see ``ManyRows``), both are still to be spread.

    ``made`` gives the rows. ``walked`` are the columns that order them if on PostgreSQL an index
    is walked in each shard; ``postgres_texts.py`` makes that of it.
    """

    def __init__(
        self, kind: RowKind[Any], made: Made, kinds: str = "", walked: tuple[str, ...] = ()
    ) -> None:
        self.kind = kind
        self.made = made
        self.kinds = kinds
        self.width = width = len(kinds)
        self.walked = walked
        narrowed: Select[Any] = clause_of(made, in_a_file)
        asked: Any = given(width) if width else literal_column("0")
        rows = narrowed.add_columns(asked.label("asked")).subquery("found")
        body: Any = rows.c.body if kind.has_body else literal_column("x''")
        found: list[Any] = [
            rows.c.asked,
            rows.c.position if kind.has_position else literal_column("0"),
        ]
        columns: list[Any] = [*found, *(rows.c[name] for name in kind.columns), rows.c.checksum]
        blobs = {len(found) + number for number in kind.blobs}
        as_text = [func.hex(c) if n in blobs else c for n, c in enumerate(columns)]
        described = func.json_array(*as_text, func.length(cast(body, LargeBinary)))
        described_all = cast(func.json_group_array(described), LargeBinary)
        bodies = cast(func.group_concat(body, literal_column("''")), LargeBinary)
        self.packed = compiled(select(described_all, bodies).select_from(rows))
        self.one_by_one = compiled(select(*columns, body).select_from(rows))


def _page(kind: RowKind[Any], *order: str, where: Any = None) -> Query:
    """Rows above the parameters in this order; the last parameter is the limit.

    ``where`` repeats the condition of a partial index, without which SQLite would not use it.
    """
    columns = [kind.table.c[name] for name in order]
    above = tuple_(*columns) > tuple_(*[PARAMETER] * len(columns))
    rows = select(kind.table).where(above)
    if where is not None:
        rows = rows.where(where)
    rows = rows.order_by(*columns).limit(PARAMETER)
    return Query(kind, lambda own: rows.where(*own(kind.table.name)), walked=order)


def _queue_page() -> Query:
    """Jobs of a queue above a position. The positions come from the index alone, then the rows."""
    outbox, narrow = schema.outbox, schema.outbox.alias("narrow")
    positions = (
        select(narrow.c.position)
        .where(narrow.c.target == PARAMETER, narrow.c.position > PARAMETER)
        .order_by(narrow.c.position)
        .limit(PARAMETER)
    )

    def rows(own: Own) -> Select[Any]:
        of_queue = outbox.c.position.in_(positions.where(*own("narrow")))
        return select(outbox).where(of_queue).order_by(outbox.c.position)

    return Query(OUTBOX, rows)


def _jobs_ready() -> Query:
    """Jobs of a queue that are due at a moment and follow none that is still to be done."""
    outbox, letters = schema.outbox, schema.dead_letters
    before = outbox.alias("before")
    waits = exists().where(before.c.position == outbox.c.follows)
    is_dead = exists().where(letters.c.job == outbox.c.follows, letters.c.job > 0)
    rows = select(outbox).where(
        outbox.c.target == PARAMETER,
        outbox.c.due_at_ms <= PARAMETER,
        or_(outbox.c.follows == 0, and_(~waits, ~is_dead)),
    )
    rows = rows.order_by(outbox.c.due_at_ms, outbox.c.position).limit(PARAMETER)
    by = ("due_at_ms", "position")
    return Query(OUTBOX, lambda own: rows.where(*own(outbox.name)), walked=by)


def _jobs_after() -> Query:
    outbox = schema.outbox
    rows = select(outbox).where(outbox.c.follows == PARAMETER, outbox.c.follows > 0)
    return Query(OUTBOX, rows.order_by(outbox.c.position).limit(PARAMETER))


def _journal_page() -> Query:
    journal = schema.journal
    rows = select(journal).where(journal.c.instance == PARAMETER, journal.c.sequence_nr > PARAMETER)
    return Query(JOURNAL, rows.order_by(journal.c.sequence_nr).limit(PARAMETER))


def _journal_ranges() -> Query:
    """Of each given (instance, from, to) the turns within; numbers are dense: a limit."""
    journal = schema.journal
    within = and_(
        journal.c.instance == given(1),
        journal.c.sequence_nr >= given(2),
        journal.c.sequence_nr <= given(3),
    )
    return Query(JOURNAL, select(journal).select_from(given_rows).where(within), "tnnn")


def _newest_snapshots() -> Query:
    snapshots, newest = schema.snapshots, schema.snapshots.alias("newest")
    number = (
        select(newest.c.sequence_nr)
        .where(newest.c.instance == given(1))
        .order_by(newest.c.sequence_nr.desc())
        .limit(1)
        .scalar_subquery()
    )
    rows = select(snapshots).select_from(given_rows)
    return Query(
        SNAPSHOTS,
        rows.where(snapshots.c.instance == given(1), snapshots.c.sequence_nr == number),
        "tn",
    )


def _snapshots_of() -> Query:
    snapshots = schema.snapshots
    rows = select(snapshots).where(snapshots.c.instance == PARAMETER)
    return Query(SNAPSHOTS, rows.order_by(snapshots.c.sequence_nr.desc()).limit(2))


def _inbox_of() -> Query:
    inbox = schema.inbox
    rows = select(inbox).select_from(given_rows).where(inbox.c.instance == given(1))
    return Query(INBOX, rows, "tn")


@cache
def heads_page(by_saga: bool, by_status: bool) -> Query:
    """Heads above a key; the parameters are the key, the saga, the status, the limit.

    By saga alone, the second parameter is a key in place of the saga: heads from there on are left.
    """
    instances = schema.instances
    rows = select(instances).where(instances.c.instance > PARAMETER)
    if by_saga and by_status:
        rows = rows.where(instances.c.saga == PARAMETER)
    elif by_saga:
        rows = rows.where(instances.c.instance < PARAMETER)
    if by_status:
        rows = rows.where(instances.c.status == PARAMETER)
    rows = rows.order_by(instances.c.instance).limit(PARAMETER)
    return Query(HEADS, lambda own: rows.where(*own(instances.name)))


def _at(kind: RowKind[Any], column: str) -> Query:
    """The rows with given values in a column that tells them apart."""
    rows = select(kind.table).select_from(given_rows)
    found = kind.table.c[column]
    return Query(kind, rows.where(found == given(1)), kinds_of([found]) + "n")


NEWEST_SNAPSHOTS = _newest_snapshots()
SNAPSHOTS_OF = _snapshots_of()
JOURNAL_RANGES = _journal_ranges()
JOURNAL_PAGE = _journal_page()
INBOX_OF = _inbox_of()
DEADLINES_PAGE = _page(DEADLINES, "due_at_ms", "instance", "name")
INBOX_PAGE = _page(INBOX, "position")
INBOX_DUE = _page(
    INBOX, "due_at_ms", "instance", "message_id", where=schema.inbox.c.due_at_ms.is_not(None)
)
OUTBOX_PAGE = _page(OUTBOX, "position")
QUEUE_PAGE = _queue_page()
JOBS_READY = _jobs_ready()
JOBS_DUE = _page(OUTBOX, "due_at_ms", "position", where=schema.outbox.c.due_at_ms > 0)
JOBS_AT = _at(OUTBOX, "position")
JOBS_AFTER = _jobs_after()
HEADS_AT = _at(HEADS, "instance")
TALLIES_AT = _at(SAGAS, "saga")
TALLIES_ALL = Query(SAGAS, select(schema.sagas).order_by(schema.sagas.c.saga))
QUEUES_ALL = Query(QUEUES, select(schema.queues).order_by(schema.queues.c.name))
QUARANTINES_ALL = Query(
    QUARANTINES,
    lambda own: (
        select(schema.quarantines)
        .where(*own("quarantines"))
        .order_by(schema.quarantines.c.instance)
    ),
)
TOMBSTONES_PAGE = _page(TOMBSTONES, "due_at_ms", "instance")
FIND_HEADS = ManyRows(
    select(given(1))
    .select_from(given_rows)
    .where(
        or_(
            *(
                exists().where(table.c.instance == given(1))
                for table in (schema.instances, schema.tombstones)
            )
        )
    ),
    "t",
)
INBOX_SIZES = ManyRows(
    select(given(1), func.count())
    .select_from(given_rows)
    .join(schema.inbox, schema.inbox.c.instance == given(1))
    .group_by(given(1)),
    "t",
)
QUEUE_DEPTHS = compiled(
    lambda own: (
        select(schema.outbox.c.target, func.count())
        .where(*own("outbox"))
        .group_by(schema.outbox.c.target)
    )
)
DEAD_LETTERS_PAGE = _page(DEAD_LETTERS, "position")
ANY_TURN = compiled(
    select(literal_column("1")).where(schema.journal.c.instance == PARAMETER).limit(1)
)
