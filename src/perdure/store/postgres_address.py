"""A PostgreSQL database by its URL, and the schema of ours in it.

    Address.of("postgresql+asyncpg://app:secret@db.example/shop?schema=perdure_eu").schema

Knows no connection, and is imported by all who take a URL: SQLAlchemy only where one is meant.
Next to read: ``postgres_schema.py``; ``revisions.py``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perdure.errors import DefinitionError

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

__all__ = ["SCHEMA_BYTES_MAX", "Address", "is_postgres"]

DRIVER = "postgresql+asyncpg"
SCHEMA_BYTES_MAX = 45
"""Names of channels hold the schema's; PostgreSQL cuts names of more than 63 bytes."""

_SPELLINGS = ("postgresql", "postgres", DRIVER)
_EXAMPLE = 'give one such as "postgresql+asyncpg://user:password@host:5432/database?schema=perdure"'


def is_postgres(url: str) -> bool:
    """Whether a URL is meant for PostgreSQL, whatever else is wrong with it."""
    return re.match(r"postgres(ql)?(\+\w*)?:", url) is not None


@dataclass(frozen=True, slots=True)
class Address:
    """Where the tables are: the database's URL without our part of its query, and the schema."""

    url: URL
    schema: str

    @classmethod
    def of(cls, url: str) -> Address:
        """What a URL names; ``postgresql://`` and ``postgres://`` mean asyncpg, too.

        Raises DefinitionError for another kind of database, another driver, and a bad schema.
        """
        from sqlalchemy.engine import make_url
        from sqlalchemy.exc import ArgumentError

        from perdure.store.postgres_schema import SCHEMA

        try:
            parsed = make_url(url)
        except (ArgumentError, ValueError) as error:  # the text may hold a password
            raise DefinitionError("the store's URL cannot be read", remedy=_EXAMPLE) from error
        if parsed.drivername not in _SPELLINGS:
            raise DefinitionError(
                f"{parsed.render_as_string()!r} is not for PostgreSQL through asyncpg",
                remedy=_EXAMPLE,
            )
        if not parsed.database:
            raise DefinitionError(
                f"{parsed.render_as_string()!r} names no database", remedy=_EXAMPLE
            )
        if parsed.port is not None and not 0 < parsed.port < 65_536:
            raise DefinitionError(f"there is no port {parsed.port}", remedy=_EXAMPLE)
        is_blank = re.search(r"[?&]schema=(&|$)", url)  # the parser leaves it away
        schema = "" if is_blank else parsed.query.get("schema", SCHEMA)
        return cls(
            parsed.set(drivername=DRIVER).difference_update_query(["schema"]), _checked(schema)
        )

    @property
    def shown(self) -> str:
        """The URL for people: without its password."""
        return self.url.render_as_string(hide_password=True)

    @property
    def quoted_schema(self) -> str:
        """The schema as it stands in a statement."""
        return '"' + self.schema.replace('"', '""') + '"'


def _checked(schema: str | tuple[str, ...]) -> str:
    if isinstance(schema, tuple):
        raise DefinitionError("the store's URL names several schemas", remedy="name one")
    size = len(schema.encode("utf-8", "replace"))
    if not 0 < size <= SCHEMA_BYTES_MAX or schema.startswith("pg_") or "\0" in schema:
        raise DefinitionError(
            f"{schema[:100]!r} cannot be the schema of perdure's tables",
            remedy=f"name one of 1 to {SCHEMA_BYTES_MAX} bytes that does not begin with pg_",
        )
    return schema
