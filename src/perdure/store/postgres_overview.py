"""The shards' owners and the mail of a PostgreSQL database, for who looks on: an ``Overview``.

Owners are judged as a host judges them that was given no settings of its own. Next to read:
``overview.py``, what is promised; ``ownership_statements.py``.
"""

from __future__ import annotations

from typing import Any

from perdure.store.mail import MailRow
from perdure.store.overview import MailAhead
from perdure.store.ownership import HostRow, Ownership
from perdure.store.ownership_statements import statements
from perdure.store.postgres_connection import PostgresConnection
from perdure.store.postgres_database import Database
from perdure.store.postgres_mail import COLUMNS, row_of
from perdure.store.shards import shard_of

__all__ = ["PostgresOverview"]

_AFTER = f"SELECT {COLUMNS} FROM mail WHERE position > $1 ORDER BY position LIMIT $2"
_OF_INSTANCE = (  # those of its shard, by the index
    "SELECT count(*), min(created_at_ms) FROM (SELECT created_at_ms FROM mail "
    "WHERE shard = $1 AND instance = $2 ORDER BY shard, position LIMIT 1000) AS found"
)
_AHEAD = (
    "SELECT count(*), min(created_at_ms) FROM "
    "(SELECT created_at_ms FROM mail WHERE $1 ORDER BY position LIMIT 1000) AS found"
)


class PostgresOverview:
    """Implements ``Overview`` over the connections of this process."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def shards(self) -> int:
        return self._database.shards

    def shard_of(self, instance: str) -> int:
        return shard_of(instance, self.shards)

    async def hosts(self) -> list[HostRow]:
        owners = Ownership(self._database.address.schema)
        limits = [owners.lease_s, owners.absent_s]
        rows = await self._database.read(_rows, statements(owners.schema).hosts, limits)
        return [HostRow(**{**row, "shards": tuple(row["shards"])}) for row in rows]

    async def mail(self, after: int, limit: int) -> list[MailRow]:
        return [row_of(*row) for row in await self._database.read(_rows, _AFTER, [after, limit])]

    async def mail_for(self, instance: str) -> MailAhead | None:
        values = [self.shard_of(instance), instance]
        return _ahead(await self._database.read(_rows, _OF_INSTANCE, values))

    async def mail_ahead(self) -> MailAhead | None:
        return _ahead(await self._database.read(_rows, _AHEAD, [True]))


def _rows(connection: PostgresConnection, sql: str, values: list[Any]) -> list[Any]:
    return connection.execute(sql, values).fetchall()


def _ahead(found: list[Any]) -> MailAhead | None:
    [[count, since_ms]] = found
    return MailAhead(count, since_ms) if count else None
