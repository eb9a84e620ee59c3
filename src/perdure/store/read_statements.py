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
    func,
    literal_column,
    select,
    tuple_,
)

from perdure.store import schema
from perdure.store.rows import (
    DEAD_LETTERS,
    DEADLINES,
    HEADS,
    INBOX,
    JOURNAL,
    OUTBOX,
    SNAPSHOTS,
    RowKind,
)
from perdure.store.statements import PARAMETER, compiled, given, given_rows

__all__ = [
    "ANY_TURN",
    "DEADLINES_PAGE",
    "DEAD_LETTERS_PAGE",
    "INBOX_OF",
    "INBOX_PAGE",
    "JOURNAL_PAGE",
    "JOURNAL_RANGES",
    "NEWEST_SNAPSHOTS",
    "OUTBOX_PAGE",
    "SNAPSHOTS_OF",
    "Query",
    "heads_page",
]


class Query:
    """A query for rows of one kind.

    ``one_by_one`` gives per row: which given row asked for it, position, the key columns,
    checksum, body; 0 for what there is not. ``packed`` gives one row: the same as a JSON array
    with the body's length in place of the body, and all bodies end to end. Over ``width`` given
    columns, of which the last is the given row's number, both are still to be spread.
    """

    def __init__(self, kind: RowKind[Any], narrowed: Select[Any], width: int = 0) -> None:
        self.kind = kind
        self.width = width
        asked: Any = given(width) if width else literal_column("0")
        rows = narrowed.add_columns(asked.label("asked")).subquery("found")
        body: Any = rows.c.body if kind.has_body else literal_column("x''")
        columns: list[Any] = [
            rows.c.asked,
            rows.c.position if kind.has_position else literal_column("0"),
            *(rows.c[name] for name in kind.columns),
            rows.c.checksum,
        ]
        described = func.json_array(*columns, func.length(cast(body, LargeBinary)))
        described_all = cast(func.json_group_array(described), LargeBinary)
        bodies = cast(func.group_concat(body, literal_column("''")), LargeBinary)
        self.packed = compiled(select(described_all, bodies).select_from(rows))
        self.one_by_one = compiled(select(*columns, body).select_from(rows))


def _page(kind: RowKind[Any], *order: str) -> Query:
    """Rows above the parameters in this order; the last parameter is the limit."""
    columns = [kind.table.c[name] for name in order]
    above = tuple_(*columns) > tuple_(*[PARAMETER] * len(columns))
    return Query(kind, select(kind.table).where(above).order_by(*columns).limit(PARAMETER))


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
    return Query(JOURNAL, select(journal).select_from(given_rows).where(within), width=4)


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
        width=2,
    )


def _snapshots_of() -> Query:
    snapshots = schema.snapshots
    rows = select(snapshots).where(snapshots.c.instance == PARAMETER)
    return Query(SNAPSHOTS, rows.order_by(snapshots.c.sequence_nr.desc()).limit(2))


def _inbox_of() -> Query:
    inbox = schema.inbox
    rows = select(inbox).select_from(given_rows).where(inbox.c.instance == given(1))
    return Query(INBOX, rows, width=2)


@cache
def heads_page(by_saga: bool, by_status: bool) -> Query:
    """Heads above a key; the parameters are the key, the saga, the status, the limit."""
    instances = schema.instances
    rows = select(instances).where(instances.c.instance > PARAMETER)
    if by_saga:
        rows = rows.where(instances.c.saga == PARAMETER)
    if by_status:
        rows = rows.where(instances.c.status == PARAMETER)
    return Query(HEADS, rows.order_by(instances.c.instance).limit(PARAMETER))


NEWEST_SNAPSHOTS = _newest_snapshots()
SNAPSHOTS_OF = _snapshots_of()
JOURNAL_RANGES = _journal_ranges()
JOURNAL_PAGE = _journal_page()
INBOX_OF = _inbox_of()
DEADLINES_PAGE = _page(DEADLINES, "due_at_ms", "instance", "name")
INBOX_PAGE = _page(INBOX, "position")
OUTBOX_PAGE = _page(OUTBOX, "position")
DEAD_LETTERS_PAGE = _page(DEAD_LETTERS, "position")
ANY_TURN = compiled(
    select(literal_column("1")).where(schema.journal.c.instance == PARAMETER).limit(1)
)
