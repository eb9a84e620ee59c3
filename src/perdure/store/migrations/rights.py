"""What the user of a connection may not do with our tables, as the GRANTs that are missing.

Asked of the server's catalog, which needs no rights; nothing is tried out.
Next to read: ``running.py``.
"""

from __future__ import annotations

from sqlalchemy import Connection, text

from perdure.store.postgres_address import Address
from perdure.store.postgres_schema import VERSION_TABLE, epochs, meta, metadata

__all__ = ["lacking", "needed_of"]

_RIGHTS = ("SELECT", "INSERT", "UPDATE", "DELETE")
_ONLY_READ = (meta.name, VERSION_TABLE)

_OURS = (
    " FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
    " WHERE n.nspname = :schema"
)
_DENIED = text(
    f"SELECT c.relname{_OURS} AND c.relkind = 'r' AND NOT has_table_privilege(c.oid, :right)"
)
_NO_EPOCHS = text(
    f"SELECT c.relname{_OURS} AND c.relname = '{epochs.name}'"
    " AND NOT has_sequence_privilege(c.oid, 'USAGE')"
)
_NO_USAGE = text(
    "SELECT 1 FROM pg_catalog.pg_namespace n WHERE n.nspname = :schema"
    " AND NOT has_schema_privilege(n.oid, 'USAGE')"
)


def needed_of(table: str) -> tuple[str, ...]:
    """The rights that a runtime needs of a table. What only a migration changes, it reads."""
    return _RIGHTS[:1] if table in _ONLY_READ else _RIGHTS


def lacking(connection: Connection, address: Address) -> list[str]:
    """The GRANTs that the user of this connection needs, and has not."""
    user = connection.execute(text("SELECT quote_ident(current_user)")).scalar_one()
    schema = address.quoted_schema
    grants = []
    if connection.execute(_NO_USAGE, {"schema": address.schema}).first():
        grants.append(f"GRANT USAGE ON SCHEMA {schema} TO {user}")
    for right in _RIGHTS:
        values = {"schema": address.schema, "right": right}
        denied = set(connection.execute(_DENIED, values).scalars())
        needed = {name for name in (*metadata.tables, VERSION_TABLE) if right in needed_of(name)}
        if tables := ", ".join(f"{schema}.{name}" for name in sorted(denied & needed)):
            grants.append(f"GRANT {right} ON {tables} TO {user}")
    if connection.execute(_NO_EPOCHS, {"schema": address.schema}).first():
        grants.append(f"GRANT USAGE ON SEQUENCE {schema}.{epochs.name} TO {user}")
    return grants
