"""Which jobs were performed, in the transaction of their worker; until they are settled.

    await in_transaction(session, record, "perdure", position, body, now_ms)   # then commit
    body = await in_transaction(session, recorded, "perdure", position)

A row is keyed by the position of its job, which never comes back. It is written only while the job
is in the outbox: the lock on the job, until the worker's commit, holds up whoever deletes that.
Knows bytes, no result. Next to read: ``own_transaction.py``; ``joined.py``.
"""

from __future__ import annotations

from collections.abc import Sequence

from perdure.codec.checksum import checksum
from perdure.errors import CorruptRecord, NotJoinable
from perdure.store.beside import Asked
from perdure.store.joined import Joined
from perdure.store.posting import quoted

__all__ = ["COMMIT_WITHIN_MS", "check_there", "forget", "record", "recorded", "sweep"]

COMMIT_WITHIN_MS = 2_000
"""A worker's process that stops for longer between its last statement and its commit has lost the
transaction: it must not hold up its job's end."""

_THERE = """
SELECT c.oid FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace s ON s.oid = c.relnamespace
WHERE s.nspname = :schema AND c.relname = 'performed'
"""

_RECORDED = """
SELECT body, created_at_ms, checksum FROM {schema}.performed WHERE job = :job
"""

_RECORD = """
WITH open AS (SELECT position FROM {schema}.outbox WHERE position = :job FOR KEY SHARE)
INSERT INTO {schema}.performed (job, body, created_at_ms, checksum)
SELECT position, :body, :created_at_ms, :checksum FROM open
WHERE set_config('idle_in_transaction_session_timeout', :within_ms, true) IS NOT NULL
ON CONFLICT (job) DO NOTHING
RETURNING job
"""

_FORGET = """
DELETE FROM {schema}.performed
WHERE job = ANY(CAST(CAST(:jobs AS text[]) AS bigint[]))
  AND set_config('synchronous_commit', 'off', true) IS NOT NULL
RETURNING job
"""

_SWEEP = """
DELETE FROM {schema}.performed p
WHERE :all
  AND NOT EXISTS (SELECT FROM {schema}.outbox o WHERE o.position = p.job)
  AND NOT EXISTS (
    SELECT FROM {schema}.dead_letters d WHERE d.job > 0 AND d.job = p.job
  )
RETURNING job
"""


def check_there(joined: Joined, schema: str) -> None:
    """Raises ``NotJoinable`` if the transaction's database has no tables of ours."""
    if not joined.rows(_THERE, schema=schema):
        raise NotJoinable(
            f"the database of the worker's own transaction has no table {schema}.performed",
            remedy="make it of an engine for the database where the runtime's store is",
        )


def recorded(asked: Asked, schema: str, job: int) -> bytes | None:
    """What was recorded of the job, None if nothing was. Raises ``CorruptRecord``."""
    found = asked.rows(_RECORDED.format(schema=quoted(schema)), job=job)
    if not found:
        return None
    body, created_at_ms, sealed = bytes(found[0][0]), found[0][1], found[0][2]
    if sealed != checksum(body, job, created_at_ms):
        raise CorruptRecord(
            f"what the worker of job {job} has recorded fails its checksum",
            remedy="see what its transaction did, and delete the row of table performed",
        )
    return body


def record(joined: Joined, schema: str, job: int, body: bytes, now_ms: int) -> bool:
    """Record the job; the commit must follow at once. False: another has, or it is gone."""
    return bool(
        joined.rows(
            _RECORD.format(schema=quoted(schema)),
            job=job,
            body=body,
            created_at_ms=now_ms,
            checksum=checksum(body, job, now_ms),
            within_ms=str(COMMIT_WITHIN_MS),
        )
    )


def forget(asked: Asked, schema: str, jobs: Sequence[int]) -> int:
    """These jobs are settled: delete their rows. How many there were."""
    numbers = [str(job) for job in jobs]  # SQLAlchemy binds a list as one of texts
    return len(asked.rows(_FORGET.format(schema=quoted(schema)), jobs=numbers))


def sweep(asked: Asked, schema: str) -> int:
    """Delete the rows of jobs that are neither in the outbox nor dead letters: how many.

    Their process has ended between the settlement and ``forget``.
    """
    return len(asked.rows(_SWEEP.format(schema=quoted(schema)), all=True))
