"""Many rows at once go by COPY: less work for both sides than arrays, from some dozens of rows on.

    if (copy := copy_for(INSERT_JOURNAL, rows=500)) is not None:
        await raw.copy_records_to_table(copy.table, columns=copy.columns, records=…)

Only what each turn adds: a row of the journal, and those that it sends. asyncpg looks at every
element of an array for whether it is one itself; COPY's rows it encodes as they are, and the server
puts them into the table a page at a time. Figures are in ``docs/scale.md``.
Next to read: ``postgres_connection.py``, which runs it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from perdure.store.postgres_texts import Fill
from perdure.store.rows import JOURNAL, OUTBOX, SENT_COLUMNS, UNTOUCHED
from perdure.store.shards import shard_of
from perdure.store.statements import ManyRows
from perdure.store.write_statements import INSERT_JOURNAL, INSERT_UNTOUCHED

__all__ = ["COPY_MIN", "Copy", "copy_for"]

COPY_MIN = 32
"""From so many rows on it is the cheaper way."""


@dataclass(frozen=True, slots=True)
class Copy:
    """Where the rows of a statement go: the first ``width`` columns are handed in.

    ``fixed`` are the same in each row. Where ``key`` is given, that column names the instance whose
    shard is the last column.
    """

    table: str
    columns: tuple[str, ...]
    width: int
    fixed: tuple[Any, ...] = ()
    key: int | None = None

    def rows(self, values: Sequence[Any], fill: Fill) -> Iterator[tuple[Any, ...]]:
        """Rows handed in flat, as the table has them."""
        given = zip(*[iter(values)] * self.width, strict=True)
        key = self.key
        if key is None:
            return given
        if fill.shard is not None:
            rest = (*self.fixed, fill.shard)
            return (row + rest for row in given)
        return ((*row, *self.fixed, shard_of(row[key], fill.shards)) for row in given)


_COPIES = {
    INSERT_JOURNAL: Copy(
        JOURNAL.table.name, (*JOURNAL.columns, "body", "checksum"), INSERT_JOURNAL.width
    ),
    INSERT_UNTOUCHED: Copy(
        OUTBOX.table.name,
        (*SENT_COLUMNS, "body", "checksum", *OUTBOX.columns[len(SENT_COLUMNS) :], "shard"),
        INSERT_UNTOUCHED.width,
        UNTOUCHED,
        SENT_COLUMNS.index("instance"),
    ),
}


def copy_for(statement: ManyRows, rows: int) -> Copy | None:
    """How to copy so many rows of a statement; None if that is not the way."""
    return _COPIES.get(statement) if rows >= COPY_MIN else None
