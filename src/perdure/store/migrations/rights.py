"""What the user of a connection may not do with our tables, as the GRANTs that are missing.

Asked of the server's catalog, which needs no rights; nothing is tried out.
Next to read: ``running.py``.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, text

from perdure.errors import StoreNotWritable
from perdure.store.postgres_address import Address
from perdure.store.postgres_schema import VERSION_TABLE, epochs, meta, metadata

__all__ = ["lacking", "needed_of", "require_look", "require_room"]

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


_OWNER = text(
    "SELECT quote_ident(pg_get_userbyid(n.nspowner)) FROM pg_catalog.pg_namespace n"
    " WHERE n.nspname = :schema"
)
_MAY_CREATE = text("SELECT has_database_privilege(current_database(), 'CREATE')")
_MAY_FILL = text("SELECT has_schema_privilege(:schema, 'CREATE')")


def require_look(connection: Connection, address: Address) -> None:
    """Make sure that the user may see where our tables stand. Raises StoreNotWritable."""
    found = lacking(connection, address, reads=_ONLY_READ)
    if found:
        user, owner = _user(connection), _owner(connection, address)
        raise StoreNotWritable(
            f"the user {user} of {address.shown} may not look into the schema {address.schema!r}",
            remedy=f"connect as its owner, {owner}; or have that one do: {'; '.join(found)}",
        )


def require_room(connection: Connection, address: Address) -> None:
    """Make sure that the user may create tables; and the schema, if that is not there.

    Raises StoreNotWritable.
    """
    user, owner = _user(connection), _owner(connection, address)
    if owner is None:
        if not connection.execute(_MAY_CREATE).scalar_one():
            raise StoreNotWritable(
                f"the user {user} of {address.shown} may not create the schema {address.schema!r}",
                remedy="connect as the database's owner; or have that one do: "
                f"CREATE SCHEMA {address.quoted_schema} AUTHORIZATION {user}",
            )
    elif not connection.execute(_MAY_FILL, {"schema": address.schema}).scalar_one():
        raise StoreNotWritable(
            f"the user {user} of {address.shown} may not create tables in the schema "
            f"{address.schema!r}",
            remedy=f"connect as its owner, {owner}",
        )


def _user(connection: Connection) -> str:
    return str(connection.execute(text("SELECT quote_ident(current_user)")).scalar_one())


def _owner(connection: Connection, address: Address) -> str | None:
    """Of the schema; None if there is none."""
    found: str | None = connection.execute(_OWNER, {"schema": address.schema}).scalar()
    return found


def needed_of(table: str) -> tuple[str, ...]:
    """The rights that a runtime needs of a table. What only a migration changes, it reads."""
    return _RIGHTS[:1] if table in _ONLY_READ else _RIGHTS


def lacking(connection: Connection, address: Address, reads: Collection[str] = ()) -> list[str]:
    """The GRANTs that the user of this connection needs, and has not.

    With ``reads``: of what it needs to read these tables, and nothing else.
    """
    user = _user(connection)
    schema = address.quoted_schema
    grants = []
    if connection.execute(_NO_USAGE, {"schema": address.schema}).first():
        grants.append(f"GRANT USAGE ON SCHEMA {schema} TO {user}")
    for right in _RIGHTS[:1] if reads else _RIGHTS:
        values = {"schema": address.schema, "right": right}
        denied = set(connection.execute(_DENIED, values).scalars())
        tables_of_ours = reads or (*metadata.tables, VERSION_TABLE)
        needed = {name for name in tables_of_ours if right in needed_of(name)}
        if tables := ", ".join(f"{schema}.{name}" for name in sorted(denied & needed)):
            grants.append(f"GRANT {right} ON {tables} TO {user}")
    if not reads and connection.execute(_NO_EPOCHS, {"schema": address.schema}).first():
        grants.append(f"GRANT USAGE ON SEQUENCE {schema}.{epochs.name} TO {user}")
    return grants
