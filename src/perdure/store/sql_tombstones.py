"""Writing tombstones, and what goes with them: rows of journals, snapshots.

Runs inside the transaction of ``sql_write.py``: after the journal is written, before snapshots are.
Next to read: ``core/commit.py``, ``Purge``; ``changes.py``.
"""

from __future__ import annotations

from perdure.store.changes import Changes
from perdure.store.dialect import SqlConnection, run_many
from perdure.store.head_rows import TOMBSTONES
from perdure.store.write_statements import (
    CLEAR_SNAPSHOTS,
    CLEAR_TOMBSTONES,
    PUT_TOMBSTONES,
    SWEEP_JOURNAL,
)

__all__ = ["put_tombstones"]


def put_tombstones(connection: SqlConnection, changes: Changes) -> None:
    """Write the tombstones of the changes, and delete what they take along."""
    rows = changes.tombstones.values()
    over = [row.instance for row in rows if row.is_over]
    swept = [value for row in rows for value in (row.instance, row.swept_nr)]
    work = (
        (SWEEP_JOURNAL, swept),
        (CLEAR_SNAPSHOTS, [*changes.purged, *over]),
        (PUT_TOMBSTONES, TOMBSTONES.seal(row for row in rows if not row.is_over)),
        (CLEAR_TOMBSTONES, over),
    )
    for statement, values in work:
        run_many(connection, statement, values)
