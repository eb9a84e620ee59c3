"""The statements of ``ownership.py``, for one PostgreSQL schema.

Every one reads the database's clock (``clock_timestamp()``), never a host's.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Statements", "quoted", "statements"]


@dataclass(frozen=True, slots=True)
class Statements:
    """SQL texts with ``$n``; see ``Ownership`` for what each is for."""

    register: str
    beat: str
    outlook: str
    claim: str
    take: str
    take_all: str
    lock_shards: str
    release: str
    drain: str
    leave: str
    forget: str
    hosts: str
    shards: str
    nobodys: str


def quoted(name: str) -> str:
    """The name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


_NOW_MS = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint"

# A server that has just come up knows no sessions yet, and counts the leases from there. A session
# of another role shows no start; its number and the silence have to do then.
_IS_ABSENT = """(
    pg_postmaster_start_time() < clock_timestamp() - {lease}
    AND (
        SELECT bool_or(own.backend_start < greatest(h.beat_at, clock_timestamp() - 2 * {absent}))
        FROM pg_stat_get_activity(pg_backend_pid()) own
    )
    AND NOT EXISTS (
        SELECT FROM pg_stat_get_activity(h.backend_pid) theirs
        WHERE theirs.backend_start IS NULL OR theirs.backend_start = h.backend_start
    )
)"""
_IS_GONE = """(
    greatest(h.beat_at, pg_postmaster_start_time()) < clock_timestamp() - {lease}
    OR (h.beat_at < clock_timestamp() - {absent} AND {is_absent})
)"""


def _judging(lease: str, absent: str) -> dict[str, str]:
    """Whether the host h is gone; the two limits are parameters, in seconds."""
    limits = {
        "lease": f"make_interval(secs => {lease})",
        "absent": f"make_interval(secs => {absent})",
    }
    is_absent = _IS_ABSENT.format(**limits)
    return {"is_absent": is_absent, "is_gone": _IS_GONE.format(is_absent=is_absent, **limits)}


_HOSTS_LIVE = "SELECT h.* FROM {hosts} h WHERE NOT {is_gone}"

_OWNED = """
    {now_ms} AS at_ms,
    coalesce((SELECT array_agg(s.shard ORDER BY s.shard) FROM {shards} s WHERE s.host = $1), '{{}}')
        AS shards,
    coalesce((SELECT array_agg(s.epoch ORDER BY s.shard) FROM {shards} s WHERE s.host = $1), '{{}}')
        AS epochs,
    EXISTS (SELECT FROM me) AS is_known
"""

_REGISTER = """
WITH me AS (
    INSERT INTO {hosts} (
        host, name, pid, version, backend_pid, backend_start, joined_at, beat_at, is_draining
    )
    SELECT $1, $2, $3, $4, own.pid, own.backend_start, clock_timestamp(), clock_timestamp(), $5
    FROM pg_stat_get_activity(pg_backend_pid()) own
    ON CONFLICT (host) DO UPDATE SET
        backend_pid = excluded.backend_pid,
        backend_start = excluded.backend_start,
        beat_at = excluded.beat_at,
        is_draining = excluded.is_draining
    RETURNING host
)
SELECT {owned}
"""

_BEAT = """
WITH me AS (
    UPDATE {hosts} SET beat_at = clock_timestamp()
    WHERE host = $1 AND backend_pid = pg_backend_pid()
    RETURNING host, set_config('synchronous_commit', 'off', true)
)
SELECT {owned}
"""

_OUTLOOK = """
WITH live AS MATERIALIZED ({live}),
sharing AS (
    SELECT host, row_number() OVER (ORDER BY joined_at, host) - 1 AS rank
    FROM live WHERE NOT is_draining AND host LIKE 'host:%'
)
SELECT
    (SELECT count(*) FROM {shards}),
    (SELECT count(*) FROM sharing),
    coalesce((SELECT rank FROM sharing WHERE host = $1), -1),
    (SELECT count(*) FROM {shards} s WHERE s.host = $1),
    (
        SELECT count(*) FROM {shards} s
        WHERE s.host IS DISTINCT FROM $1
            AND NOT EXISTS (SELECT FROM live WHERE live.host = s.host)
    ),
    (
        SELECT max(format('%s (pid %s)', live.name, live.pid)) FROM live
        WHERE live.host LIKE 'alone:%' AND live.host <> $1
            AND EXISTS (SELECT FROM {shards} s WHERE s.host = live.host)
    ),
    (
        SELECT count(*) FROM {hosts} h
        WHERE NOT EXISTS (SELECT FROM live WHERE live.host = h.host)
            AND NOT EXISTS (SELECT FROM {shards} s WHERE s.host = h.host)
    ),
    (
        SELECT min(extract(epoch FROM h.beat_at - clock_timestamp()) + $3)::float8 FROM live h
        WHERE {is_absent} AND EXISTS (SELECT FROM {shards} s WHERE s.host = h.host)
    )
"""

# A candidate that has changed hands since the snapshot has another epoch: it is not locked, nor
# taken. (To look at the host again would not do: a row that is looked at anew after a wait is
# joined to the hosts as they were.)
_CLAIM = """
WITH free AS MATERIALIZED (
    SELECT s.shard, s.epoch
    FROM {shards} s LEFT JOIN {hosts} h ON h.host = s.host
    WHERE s.host IS DISTINCT FROM $1 AND (s.host IS NULL OR h.host IS NULL OR {is_gone})
), locked AS MATERIALIZED (
    SELECT s.shard
    FROM {shards} s JOIN free ON free.shard = s.shard AND free.epoch = s.epoch
    WHERE EXISTS (SELECT FROM {hosts} WHERE host = $1 AND NOT is_draining)
    ORDER BY s.shard LIMIT $4
    FOR UPDATE OF s SKIP LOCKED
)
UPDATE {shards} s SET host = $1, epoch = nextval('{epochs}')
FROM locked WHERE s.shard = locked.shard
RETURNING s.shard, s.epoch
"""

_TAKE = """
WITH locked AS MATERIALIZED (
    SELECT s.shard FROM {shards} s WHERE s.shard = ANY($4::smallint[])
        AND NOT EXISTS (
            SELECT FROM ({live}) live
            WHERE live.host = s.host AND live.host LIKE 'alone:%' AND live.host <> $1
        )
    ORDER BY s.shard FOR UPDATE OF s
)
UPDATE {shards} s SET host = $1, epoch = nextval('{epochs}')
FROM locked WHERE s.shard = locked.shard
RETURNING s.shard, s.epoch
"""

_TAKE_ALL = """
WITH mark AS MATERIALIZED (SELECT nextval('{epochs}') AS epoch), taken AS (
    UPDATE {shards} SET host = $1, epoch = mark.epoch FROM mark
)
SELECT epoch FROM mark
"""

_RELEASE = """
UPDATE {shards} s SET host = NULL
FROM unnest($2::smallint[], $3::bigint[]) AS given(shard, epoch)
WHERE s.shard = given.shard AND s.epoch = given.epoch AND s.host = $1
RETURNING s.shard
"""

_LEAVE = """
WITH freed AS (UPDATE {shards} SET host = NULL WHERE host = $1)
DELETE FROM {hosts} WHERE host = $1
"""

_FORGET = """
DELETE FROM {hosts} h
WHERE {is_gone} AND NOT EXISTS (SELECT FROM {shards} s WHERE s.host = h.host) AND h.host <> $1
"""

_HOSTS = """
SELECT h.host, h.name, h.pid, h.version,
    extract(epoch FROM clock_timestamp() - h.beat_at)::float8 AS silent_s,
    {is_gone} AS is_gone,
    h.is_draining,
    ARRAY(SELECT s.shard FROM {shards} s WHERE s.host = h.host ORDER BY s.shard) AS shards
FROM {hosts} h ORDER BY h.joined_at, h.host
"""

_NOBODYS = """
SELECT s.shard FROM {shards} s
WHERE s.epoch > 0 AND NOT EXISTS (SELECT FROM {hosts} h WHERE h.host = s.host)
"""


def statements(schema: str) -> Statements:
    """The statements over the tables of this schema."""
    names = {table: f"{quoted(schema)}.{table}" for table in ("hosts", "shards")}
    names["epochs"] = f"{quoted(schema)}.epochs".replace("'", "''")
    names["owned"] = _OWNED.format(now_ms=_NOW_MS, **names)
    names |= _judging("$2", "$3")  # after the host
    names["live"] = _HOSTS_LIVE.format(**names)
    hosts_names = {**names, **_judging("$1", "$2")}
    return Statements(
        register=_REGISTER.format(**names),
        beat=_BEAT.format(**names),
        outlook=_OUTLOOK.format(**names),
        claim=_CLAIM.format(**names),
        take=_TAKE.format(**names),
        take_all=_TAKE_ALL.format(**names),
        lock_shards="SELECT FROM {shards} ORDER BY shard FOR UPDATE".format(**names),
        release=_RELEASE.format(**names),
        drain="UPDATE {hosts} SET is_draining = $2 WHERE host = $1".format(**names),
        leave=_LEAVE.format(**names),
        forget=_FORGET.format(**names),
        hosts=_HOSTS.format(**hosts_names),
        shards="SELECT count(*) FROM {shards}".format(**names),
        nobodys=_NOBODYS.format(**names),
    )
