"""How the rows about whole instances lie in their tables: heads, tallies, lookups, tombstones.

Next to read: ``rows.py``, what a kind of row is; ``sql_heads.py``, who writes these.
"""

from __future__ import annotations

import json
from typing import Any

from perdure.core.commit import Fields, HeadRow, LookupRow, Status, TombstoneRow
from perdure.core.tally import TallyRow
from perdure.store import schema
from perdure.store.rows import kind_of

__all__ = ["HEADS", "LOOKUPS", "SAGAS", "TOMBSTONES"]


def _packed_fields(fields: Fields) -> str:
    return json.dumps(dict(fields), separators=(",", ":")) if fields else ""


def _head_key(row: HeadRow) -> tuple[Any, ...]:
    return (
        row.instance,
        row.saga,
        row.correlation_id,
        row.status.value,
        row.started_at_ms,
        row.updated_at_ms,
        _packed_fields(row.fields),
    )


def _head_row(_: int, key: tuple[Any, ...], __: bytes) -> HeadRow:
    instance, saga, correlation_id, status, started_at_ms, updated_at_ms, packed = key
    fields = tuple(json.loads(packed).items()) if packed else ()
    return HeadRow(
        instance, saga, correlation_id, Status(status), started_at_ms, updated_at_ms, fields
    )


def _tally_key(row: TallyRow) -> tuple[Any, ...]:
    return (
        row.saga,
        row.started,
        row.completed,
        row.failed,
        row.running,
        row.stuck,
        row.kept_completed,
        row.kept_failed,
        row.duration_ms,
        json.dumps(row.indexed, separators=(",", ":")),
    )


def _tally_row(_: int, key: tuple[Any, ...], __: bytes) -> TallyRow:
    tally = TallyRow(*key[:-1])
    tally.indexed = tuple(json.loads(key[-1]))
    return tally


HEADS = kind_of(schema.instances, _head_key, _head_row, "status")
SAGAS = kind_of(schema.sagas, _tally_key, _tally_row, "saga")
LOOKUPS = kind_of(
    schema.lookups,
    "saga field value instance",
    lambda _, key, __: LookupRow(*key),
    "field",
)
TOMBSTONES = kind_of(
    schema.tombstones,
    "instance due_at_ms until_ms sequence_nr swept_nr",
    lambda _, key, __: TombstoneRow(key[0], *key[2:]),
    "until_ms",
)
