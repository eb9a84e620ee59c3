"""Which shard an instance belongs to: a number below that of the shards, by its key alone.

    shard_of("Order/o-1", 16)  # 10, today, tomorrow, and in SQL

The database computes the same number where a row comes without one (``SHARD_SQL``).
Knows no store. Next to read: ``postgres_schema.py``; ``ownership.py``, who owns a shard.
"""

from __future__ import annotations

from hashlib import md5

__all__ = ["SHARDS", "SHARDS_MAX", "SHARD_SQL", "shard_of"]

SHARDS = 16
"""So many there are, unless the schema was created with another number."""

SHARDS_MAX = 32_767
"""The largest number that the column holds."""

_HEX_DIGITS = 7
"""28 bits: a positive number in SQL, too."""

SHARD_SQL = "(('x' || substr(md5({key}), 1, 7))::bit(28)::int % {shards})"
"""``shard_of`` as an SQL expression; the database's encoding must be UTF-8."""


def shard_of(key: str, shards: int) -> int:
    """The shard of an instance, or of a job that no instance sent, by its id.

    MD5 since PostgreSQL has had it in all versions, with the same bytes on every machine; a
    person who chooses keys to fill one shard gains nothing but slow orders.
    """
    digest = md5(key.encode(), usedforsecurity=False).hexdigest()
    return int(digest[:_HEX_DIGITS], 16) % shards
