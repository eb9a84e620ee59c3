"""Taking shards, and what else a PostgreSQL store does that is about no rows of its own.

Synchronous for the reason given in ``sql_write.py``.
Next to read: ``postgres_statements.py``; ``ownership.py``, how hosts share the shards.
"""

from __future__ import annotations

import perdure.failpoints as failpoints
from perdure.errors import SchemaTooOld
from perdure.failpoints import Point
from perdure.store.dialect import ServerConnection, begin_writing, roll_back
from perdure.store.postgres_statements import BARRIER, TAKE

__all__ = ["pass_barrier", "read_epoch", "read_size", "take_shards"]

_EPOCH = "SELECT max(epoch) FROM shards WHERE shard = ANY($1::smallint[])"
_DURABLE = (
    "SELECT set_config('synchronous_commit', 'on', true)"
    " WHERE current_setting('synchronous_commit') = $1"
)
_SIZE = (
    "SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint FROM pg_class"
    " WHERE relkind = 'r' AND $1 AND relnamespace ="
    " (SELECT oid FROM pg_namespace WHERE nspname = current_schema())"
)


def take_shards(connection: ServerConnection, host: str) -> int:
    """Take the connection's shards from whoever owns them; returns the new epoch."""
    begin_writing(connection)
    try:
        connection.execute(_DURABLE, ["off"])
        taken = connection.execute(TAKE, [connection.shards, host]).fetchall()
        if len(taken) != len(connection.shards):
            raise SchemaTooOld(
                f"the table of shards has {len(taken)} of {len(connection.shards)} rows",
                remedy="restore it: each shard has one, from 0 on",
            )
        failpoints.reach(Point.OWNING)
        connection.execute("COMMIT")
        failpoints.reach(Point.OWNING)
    except BaseException:
        roll_back(connection)
        raise
    return int(taken[0][0])


def read_epoch(connection: ServerConnection) -> int:
    """The newest epoch of the connection's shards."""
    return int(connection.execute(_EPOCH, [connection.shards]).fetchone()[0] or 0)


def pass_barrier(connection: ServerConnection) -> None:
    """Return once no write of these shards' owner is under way any more, on any connection."""
    begin_writing(connection)
    try:
        connection.execute(BARRIER, [connection.shards])
    finally:
        roll_back(connection)


def read_size(connection: ServerConnection) -> int:
    """The bytes of our tables and of their indexes."""
    return int(connection.execute(_SIZE, [True]).fetchone()[0])
