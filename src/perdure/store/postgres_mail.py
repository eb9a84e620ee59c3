"""Mail in PostgreSQL: a few statements, each one round trip and one transaction.

    mail = PostgresMail(database)
    await mail.put(rows)

Rows are left out of a page by position, never passed by a cursor: what is committed late has a
lower position than what was read already. Next to read: ``mail.py``, what is promised.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from typing import Any

from perdure.codec.checksum import checksum
from perdure.store.mail import MailRow, Trace
from perdure.store.postgres_connection import PostgresConnection
from perdure.store.postgres_database import Database
from perdure.store.shards import shard_of

__all__ = ["COLUMNS", "INSERT", "PostgresMail", "columns_of", "row_of"]

logger = logging.getLogger("perdure.store")

INSERT = (
    "INSERT INTO mail (shard, instance, message_id, kind, body, reply_to, created_at_ms, checksum) "
    "SELECT shard, instance, message_id, kind, body, reply_to, created_at_ms, checksum FROM unnest("
    "$1::smallint[], $2::text[], $3::text[], $4::smallint[], $5::bytea[], $6::text[], "
    "$7::bigint[], $8::bigint[]) WITH ORDINALITY AS given("
    "shard, instance, message_id, kind, body, reply_to, created_at_ms, checksum, number) "
    "ORDER BY number RETURNING position"
)
"""Takes ``columns_of`` rows; the positions are in their order."""

_INSERT_AT_ONCE = (
    f"WITH new AS ({INSERT}), bells AS (SELECT count(pg_notify(bell, '')) AS rung "
    "FROM unnest($9::text[]) AS bell) SELECT new.position, bells.rung, "
    "set_config('synchronous_commit', 'off', true) FROM new, bells"
)
COLUMNS = "position, instance, message_id, kind, body, reply_to, created_at_ms, checksum"
_IS_OURS = (  # who was paused, and is not the owner any more, must not take what is the next one's
    "EXISTS (SELECT 1 FROM shards WHERE shards.shard = mail.shard AND shards.epoch = {epoch})"
)
_NOT_ASIDE = (  # <> ALL would compare each row to each of many; this looks them up by hash
    "instance NOT IN (SELECT unnest($2::text[]))"
)
_OF_SHARD = (
    f"SELECT {COLUMNS} FROM mail WHERE shard = $5 AND position <> ALL($1::bigint[]) "
    f"AND {_NOT_ASIDE} AND {_IS_OURS.format(epoch='$4')} "
    "ORDER BY shard, position LIMIT $3"
)
_OF_ALL = (
    f"SELECT {COLUMNS} FROM mail WHERE position <> ALL($1::bigint[]) "
    f"AND {_NOT_ASIDE} AND {_IS_OURS.format(epoch='$4')} ORDER BY position LIMIT $3"
)
_REMOVE = (  # the setting ends with the statement's transaction
    "WITH gone AS (DELETE FROM mail USING unnest($1::bigint[], $2::text[], $3::text[]) "
    "AS given(position, instance, message_id) WHERE mail.position = given.position "
    "AND mail.instance = given.instance AND mail.message_id = given.message_id "
    f"AND {_IS_OURS.format(epoch='$4')}) "
    "SELECT set_config('synchronous_commit', 'off', true)"
)
_WAITING = (
    "SELECT own.shard FROM unnest($1::smallint[]) AS own(shard) "
    "WHERE EXISTS (SELECT 1 FROM mail WHERE mail.shard = own.shard)"
)
TURNS_SEARCHED = 100_000
"""So many of an instance's last turns are searched: the ids are in the table alone, one page each,
and older pages are on disk. All the mail of the process waits meanwhile."""

_TRACES = (  # one moment: a row is there until its turn is
    "SELECT late.instance, late.message_id, 0, late.sequence_nr "
    "FROM (SELECT DISTINCT unnest($1::text[]) AS instance) AS one CROSS JOIN LATERAL ("
    "SELECT instance, message_id, sequence_nr FROM journal "
    "WHERE journal.instance = one.instance ORDER BY sequence_nr DESC LIMIT $4) AS late "
    "WHERE late.message_id = ANY($2::text[]) "
    "UNION ALL SELECT instance, message_id, position, 0 FROM mail "
    "WHERE shard = ANY($3::smallint[]) AND instance = ANY($1) AND message_id = ANY($2)"
)
_PRESENT = "SELECT position FROM mail WHERE position = ANY($1::bigint[])"


class PostgresMail:
    """Implements ``Mail`` over the connections of this process."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, rows: Sequence[MailRow], bells: Sequence[str] | None = None) -> list[int]:
        if not rows:
            return []
        columns = columns_of(rows, self._database.shards)
        return await self._database.write(_put, columns, bells)

    async def page(
        self,
        shard: int | None,
        epoch: int,
        under_way: Collection[int] = (),
        aside: Collection[str] = (),
        limit: int = 1000,
    ) -> Sequence[MailRow]:
        left_out = list(under_way), list(aside)
        return await self._database.read(_page, shard, *left_out, limit, epoch)

    async def waiting(self, shards: Sequence[int]) -> set[int]:
        return await self._database.read(_first, _WAITING, list(shards))

    async def remove(self, rows: Sequence[MailRow], epoch: int) -> None:
        if rows:
            names = [(row.position, row.instance, row.message_id) for row in rows]
            await self._database.write(_remove, list(map(list, zip(*names, strict=True))), epoch)

    async def traces(self, letters: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Trace]:
        shards = {shard_of(instance, self._database.shards) for instance, _ in letters}
        columns = [*map(list, zip(*letters, strict=True)), sorted(shards), TURNS_SEARCHED]
        return await self._database.read(_traces, columns)

    async def present(self, positions: Sequence[int]) -> set[int]:
        return await self._database.read(_first, _PRESENT, list(positions))


def columns_of(rows: Sequence[MailRow], shards: int) -> list[list[Any]]:
    """The values of ``INSERT``, column by column."""
    return [
        [shard_of(row.instance, shards) for row in rows],
        [row.instance for row in rows],
        [row.message_id for row in rows],
        [int(row.kind) for row in rows],
        [row.body for row in rows],
        [row.reply_to for row in rows],
        [row.created_at_ms for row in rows],
        [_checksum(row) for row in rows],
    ]


def _checksum(row: MailRow) -> int:
    key = row.instance, row.message_id, int(row.kind), row.reply_to, row.created_at_ms
    return checksum(row.body, *key)


def _put(
    connection: PostgresConnection, columns: list[list[Any]], bells: Sequence[str] | None
) -> list[int]:
    if bells is None:
        found = connection.execute(INSERT, columns)
    else:
        found = connection.execute(_INSERT_AT_ONCE, [*columns, list(bells)])
    return sorted(row[0] for row in found)


def _page(
    connection: PostgresConnection,
    shard: int | None,
    under_way: list[int],
    aside: list[str],
    limit: int,
    epoch: int,
) -> list[MailRow]:
    if shard is None:
        found = connection.execute(_OF_ALL, [under_way, aside, limit, epoch])
    else:
        found = connection.execute(_OF_SHARD, [under_way, aside, limit, epoch, shard])
    return [row_of(*columns) for columns in found]


def row_of(
    position: int,
    instance: str,
    message_id: str,
    kind: int,
    body: bytes,
    reply_to: str,
    created_at_ms: int,
    sum_: int,
) -> MailRow:
    """From ``COLUMNS``."""
    row = MailRow(instance, message_id, kind, body, reply_to, created_at_ms, position)
    row.is_damaged = _checksum(row) != sum_
    return row


def _remove(connection: PostgresConnection, names: list[list[Any]], epoch: int) -> None:
    connection.execute(_REMOVE, [*names, epoch])


def _traces(connection: PostgresConnection, columns: list[Any]) -> dict[tuple[str, str], Trace]:
    found: dict[tuple[str, str], Trace] = {}
    for instance, message_id, position, number in connection.execute(_TRACES, columns):
        if not position or (instance, message_id) not in found:  # its turn says more than its row
            found[instance, message_id] = Trace(position, number)
    return found


def _first(connection: PostgresConnection, sql: str, numbers: list[int]) -> set[int]:
    return {row[0] for row in connection.execute(sql, [numbers])}
