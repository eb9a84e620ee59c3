"""Mail put by somebody else's transaction: a message that is there when the user's own rows are.

    posting = Posting("perdure", home)
    await in_transaction(session, posting.put, rows)

Looked at first, once per engine: is this the database of the store, are our tables there, may this
user write them. A statement that fails would take the user's transaction with it, so none does.
Knows no message. Next to read: ``joined.py``; ``mail.py``, what becomes of the rows;
``runtime/joining.py``, who puts them.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

from perdure.codec.checksum import checksum
from perdure.errors import DefinitionError, NotJoinable, SchemaTooOld
from perdure.store.beside import Asked
from perdure.store.joined import Joined
from perdure.store.mail import MailRow
from perdure.store.shards import shard_of

__all__ = ["Place", "Posting", "place_of", "quoted"]

_LOOK = """
SELECT t.oid, d.oid,
       has_schema_privilege(s.oid, 'USAGE') AND has_table_privilege(t.oid, 'INSERT')
       AND has_table_privilege(m.oid, 'SELECT'),
       has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE'),
       current_user, d.datname
FROM pg_catalog.pg_database d
LEFT JOIN pg_catalog.pg_namespace s ON s.nspname = :schema
LEFT JOIN pg_catalog.pg_class t ON t.relnamespace = s.oid AND t.relname = 'mail'
LEFT JOIN pg_catalog.pg_class m ON m.relnamespace = s.oid AND m.relname = 'meta'
WHERE d.datname = current_database()
"""

_CLUSTER = "SELECT system_identifier FROM pg_catalog.pg_control_system() WHERE :all"

_SHARDS = "SELECT shards FROM {schema}.meta WHERE :all"

_INSERT = """
INSERT INTO {schema}.mail
    (shard, instance, message_id, kind, body, reply_to, created_at_ms, checksum)
VALUES
    (:shard, :instance, :message_id, :kind, :body, :reply_to, :created_at_ms, :checksum)
"""


@dataclass(frozen=True, slots=True)
class Place:
    """Which tables these are, of all in the world: table, database, and the server's files.

    ``cluster`` is 0 where the user may not ask. ``shards``: how many there are.
    """

    table: int
    database: int
    cluster: int
    shards: int = 0

    def is_other_than(self, other: Place) -> bool:
        """They are certainly not the same tables."""
        if (self.table, self.database) != (other.table, other.database):
            return True
        return bool(self.cluster and other.cluster and self.cluster != other.cluster)


class Posting:
    """Puts mail for the store in the PostgreSQL schema ``schema`` into transactions of others.

    ``home`` is where the store is, None: wherever the transaction is.
    """

    def __init__(self, schema: str, home: Place | None = None) -> None:
        self.schema = schema
        self._home = home
        self._known: WeakKeyDictionary[Hashable, Place] = WeakKeyDictionary()

    def put(self, joined: Joined, rows: Sequence[MailRow]) -> Collection[int]:
        """Insert the rows in this order; the shards that they are for.

        Raises ``NotJoinable`` if the transaction is of another database, or its user may not.
        """
        place = self._place(joined)
        values = [_values(row, place.shards) for row in rows]
        if values:
            joined.put(_INSERT.format(schema=quoted(self.schema)), values)
        return {int(value["shard"]) for value in values}

    def _place(self, joined: Joined) -> Place:
        engine = joined.engine
        place = None if engine is None else self._known.get(engine)
        if place is None:
            place = place_of(joined, self.schema)
            if self._home is not None and place.is_other_than(self._home):
                raise NotJoinable(
                    "the transaction is one of another database than the store's, with tables "
                    "of the same names",
                    remedy="give a session or connection of the store's own database",
                )
            if engine is not None:
                self._known[engine] = place
        return place


def place_of(joined: Asked, schema: str) -> Place:
    """Where the tables of this schema are, as the transaction sees it. Raises ``NotJoinable``."""
    ((table, database, may_write, may_ask, user, name),) = joined.rows(_LOOK, schema=schema)
    if table is None:
        raise NotJoinable(
            f"the transaction's database {name!r} has no table {schema}.mail",
            remedy="give a session or connection of the store's own database, and the store's "
            "schema; `perdure db upgrade` makes the tables",
        )
    if not may_write:
        raise NotJoinable(
            f"the database user {user!r} may not put messages into {schema}.mail",
            remedy=f"GRANT USAGE ON SCHEMA {schema}, INSERT ON {schema}.mail and "
            f"SELECT ON {schema}.meta TO {user}",
        )
    cluster = joined.rows(_CLUSTER, all=True)[0][0] if may_ask else 0
    found = joined.rows(_SHARDS.format(schema=quoted(schema)), all=True)
    if not found:
        raise SchemaTooOld(f"the table {schema}.meta is empty", remedy="run `perdure db upgrade`")
    return replace(Place(table, database, cluster), shards=found[0][0])


def quoted(name: str) -> str:
    """A name as an SQL identifier. Raises ``DefinitionError`` for what cannot be part of a text
    with parameters."""
    if not isinstance(name, str) or not name or set(name) & set(":%{}\\\0"):
        raise DefinitionError(
            f"{name!r} is no name of a PostgreSQL schema", remedy="use letters, digits and _"
        )
    return '"' + name.replace('"', '""') + '"'


def _values(row: MailRow, shards: int) -> dict[str, str | int | bytes]:
    return {
        "shard": shard_of(row.instance, shards),
        "instance": row.instance,
        "message_id": row.message_id,
        "kind": int(row.kind),
        "body": row.body,
        "reply_to": row.reply_to,
        "created_at_ms": row.created_at_ms,
        "checksum": checksum(
            row.body, row.instance, row.message_id, int(row.kind), row.reply_to, row.created_at_ms
        ),
    }
