"""Whether this code and the tables of a PostgreSQL database belong together.

    judge(revision_found, address)  # raises SchemaTooNew, SchemaTooOld

Knows neither Alembic nor a connection: every store that opens asks this, few migrate.
Next to read: ``migrations/``, which brings a database here.
"""

from __future__ import annotations

from perdure.errors import SchemaTooNew, SchemaTooOld
from perdure.store.postgres_address import Address
from perdure.store.postgres_schema import REVISION, VERSION_TABLE

__all__ = ["HAS_VERSION", "judge", "read_revision_sql"]

HAS_VERSION = (
    "SELECT count(*) FROM pg_catalog.pg_class c"
    " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
    f" WHERE n.nspname = $1 AND c.relname = '{VERSION_TABLE}'"
)
"""Whether the schema ($1) has our table of versions; needs no rights."""


def read_revision_sql(address: Address) -> str:
    """The query for the revision, where ``HAS_VERSION`` found the table."""
    return f"SELECT version_num FROM {address.quoted_schema}.{VERSION_TABLE}"


def judge(found: str | None, address: Address) -> None:
    """Return if this code can use tables of this revision. ``None``: there are none.

    Revisions are numbers of four digits, so that those of later perdures are greater, unknown as
    they are. Raises SchemaTooNew, SchemaTooOld.
    """
    where = f"the schema {address.schema!r} of {address.shown}"
    upgrade = "set PERDURE_STORE to the URL of the tables' owner and run `perdure db upgrade`"
    if found is None:
        raise SchemaTooOld(
            f"{where} has no tables of perdure",
            remedy=f"to create them, once, {upgrade}; or name the schema that has them: ?schema=…",
        )
    if found > REVISION:
        raise SchemaTooNew(
            f"{where} is at revision {found}, this perdure knows {REVISION}",
            remedy="run the newer perdure that migrated it, or restore a backup from before",
        )
    if found < REVISION:
        raise SchemaTooOld(
            f"{where} is at revision {found}, this perdure needs {REVISION}",
            remedy=f"to migrate it, {upgrade}",
        )
