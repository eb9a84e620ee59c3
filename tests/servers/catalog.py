"""What a PostgreSQL schema holds, as the server itself describes it: to compare two."""

from __future__ import annotations

from tests.servers.databases import execute

__all__ = ["described"]

_IN = (
    "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
    " WHERE n.nspname = '{schema}' AND c.relname <> '{without}'"
)
_COLUMNS = f"""
    SELECT c.relname, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod) AS type,
        a.attnotnull, a.attidentity, a.attgenerated, o.collname,
        pg_get_expr(d.adbin, d.adrelid) AS default
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid
    LEFT JOIN pg_catalog.pg_collation o ON o.oid = a.attcollation
    LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
    {_IN} AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped
"""
_INDEXES = f"""
    SELECT c.relname, i.indisprimary, i.indisunique, pg_get_indexdef(i.indexrelid) AS made_by
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_index i ON i.indrelid = c.oid {_IN}
"""
_CONSTRAINTS = f"""
    SELECT c.relname, k.conname, pg_get_constraintdef(k.oid) AS made_by
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_constraint k ON k.conrelid = c.oid {_IN}
"""
_SEQUENCES = """
    SELECT sequencename, data_type, start_value, min_value, max_value, increment_by, cycle,
        cache_size
    FROM pg_catalog.pg_sequences WHERE schemaname = '{schema}'
"""


def described(url: str, schema: str, *, without: str = "") -> set[str]:
    """A line for each column, index, constraint and sequence of a schema."""
    lines = set()
    for query in (_COLUMNS, _INDEXES, _CONSTRAINTS, _SEQUENCES):
        for row in execute(url, query.format(schema=schema, without=without)):
            lines.add(str(tuple(row.values())).replace(f"{schema}.", ""))
    return lines
