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

__all__ = ["SCHEMA_BYTES_MAX", "Address", "is_postgres", "shown"]

DRIVER = "postgresql+asyncpg"
SCHEMA_BYTES_MAX = 45
"""Names of channels hold the schema's; PostgreSQL cuts names of more than 63 bytes."""

_SPELLINGS = ("postgresql", "postgres", DRIVER)
_QUERY = ("schema", "ssl", "sslmode", "host", "port", "user", "target_session_attrs", "passfile")
_SEVERAL = ("host", "port")
_SSL = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_ENCODE = (
    "percent-encode what is special in the user and the password, as "
    "urllib.parse.quote(password, safe='') does: %40 for @, %2F for /"
)
_EXAMPLE = 'give one such as "postgresql+asyncpg://user:password@host:5432/database?schema=perdure"'


def is_postgres(url: str) -> bool:
    """Whether a URL is meant for PostgreSQL, whatever else is wrong with it."""
    return re.match(r"postgres(ql)?(\+\w*)?:", url) is not None


def shown(url: str) -> str:
    """A URL of any kind for people: without whatever may be a password, however it is written.

    >>> shown("mysql://ann:pass@word@db/shop?password=other")
    'mysql://***@db/shop?***'
    >>> shown("mysql://ann:4711/shop")
    'mysql://ann:***/shop'
    """
    scheme, mark, rest = url.partition("://")
    login, at, place = rest.rpartition("@")
    if "?" in login:  # a part of the password, or that '@' is one of the query: who knows
        return f"{scheme}{mark}***"
    place, query, _ = place.partition("?")
    if mark and not at:
        place = _without_port(place)
    return f"{scheme}{mark}{'***' if login else ''}{at}{place}{'?***' if query else ''}"


def _without_port(place: str) -> str:
    """Where nobody is named before the host, what follows it may be meant as a password."""
    return re.sub(r":[^/:\]]+(?=/|$)", ":***", place, count=1)


@dataclass(frozen=True, slots=True)
class Address:
    """Where the tables are: the database's URL without our part of its query, and the schema."""

    url: URL
    schema: str

    @classmethod
    def of(cls, url: str) -> Address:
        """What a URL names; ``postgresql://`` and ``postgres://`` mean asyncpg, too.

        Raises DefinitionError for another kind of database or driver, a bad schema, an '@' that
        may be a part of the password, and what asyncpg does not know in the query.
        """
        from sqlalchemy.engine import make_url
        from sqlalchemy.exc import ArgumentError

        from perdure.store.postgres_schema import SCHEMA

        try:
            parsed = make_url(url)
        except (ArgumentError, ValueError):  # which say what they cannot read: a password, maybe
            raise DefinitionError("the store's URL cannot be read", remedy=_EXAMPLE) from None
        if url.count("@") > 1 or ("@" in url and parsed.username is None):
            raise DefinitionError("the store's URL has an '@' that is not encoded", remedy=_ENCODE)
        if parsed.drivername not in _SPELLINGS:
            raise DefinitionError(
                f"{shown(url)!r} is not for PostgreSQL through asyncpg", remedy=_EXAMPLE
            )
        if not parsed.database:
            raise DefinitionError(f"{shown(url)!r} names no database", remedy=_EXAMPLE)
        if parsed.port is not None and not 0 < parsed.port < 65_536:
            raise DefinitionError(f"{shown(url)!r} has no possible port", remedy=_EXAMPLE)
        is_blank = re.search(r"[?&]schema=(&|$)", url)  # the parser leaves it away
        schema = "" if is_blank else parsed.query.get("schema", SCHEMA)
        plain = parsed.set(drivername=DRIVER).difference_update_query(["schema"])
        return cls(_for_asyncpg(plain), _checked(schema))

    @property
    def shown(self) -> str:
        """The URL for people: without its password. Nothing else in it is secret: see ``of``.

        Nor with a port, if no user is named: it may be a password whose host was forgotten.
        """
        text = self.url.render_as_string(hide_password=True)
        return text if self.url.username is not None else shown(text)

    @property
    def quoted_schema(self) -> str:
        """The schema as it stands in a statement."""
        return '"' + self.schema.replace('"', '""') + '"'


def _for_asyncpg(url: URL) -> URL:
    """With libpq's ``sslmode`` as asyncpg's ``ssl``. Shows no value: it may be a password."""
    if unknown := [key for key in url.query if key not in _QUERY]:
        remedy = f"known are {', '.join(_QUERY)}"
        if "password" in unknown:
            remedy = "a password stands before the host, user:password@host, percent-encoded"
        raise DefinitionError(
            f"the query of the store's URL has {', '.join(map(repr, unknown))}", remedy=remedy
        )
    modes = [mode for key in ("ssl", "sslmode") for mode in _values(url, key)]
    if any(len(_values(url, key)) > 1 for key in url.query if key not in _SEVERAL):
        raise DefinitionError("the query of the store's URL says one thing twice", remedy=_EXAMPLE)
    if len(modes) > 1 or not set(modes) <= set(_SSL):
        raise DefinitionError(
            "the store's URL has no such ssl", remedy=f"give one of {', '.join(_SSL)}, once"
        )
    plain = url.difference_update_query(["ssl", "sslmode"])
    return plain.update_query_dict({"ssl": modes[0]}) if modes else plain


def _values(url: URL, key: str) -> tuple[str, ...]:
    found = url.query.get(key, ())
    return (found,) if isinstance(found, str) else tuple(found)


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
