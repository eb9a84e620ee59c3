"""How much waits in a SQL store.

Three counts over indexes, in one crossing to the database; no row is opened. Next to read:
``backlog.py``, what they are put into.
"""

from __future__ import annotations

import sqlite3
from typing import Any

from sqlalchemy import func, literal_column, select

from perdure.store import schema
from perdure.store.backlog import Backlog, QueueBacklog
from perdure.store.statements import compiled

__all__ = ["read_backlog", "read_retried"]

_outbox, _letters, _inbox = schema.outbox.c, schema.dead_letters.c, schema.inbox
_first = (
    select(_outbox.target, func.count().label("jobs"), func.min(_outbox.position).label("first"))
    .group_by(_outbox.target)
    .subquery()
)
_QUEUES = compiled(
    select(_first.c.target, _first.c.jobs, _outbox.created_at_ms).join(
        schema.outbox, _outbox.position == _first.c.first
    )
)
_LETTERS = compiled(select(func.count()).select_from(schema.dead_letters))
_DEAD_JOBS = compiled(select(func.count()).select_from(schema.dead_letters).where(_letters.job > 0))
_MESSAGES = compiled(select(func.count()).select_from(_inbox))
_RETRIED = compiled(
    select(_outbox.target, func.count())
    .where(literal_column("due_at_ms > 0"), _outbox.attempts > 0)
    .group_by(_outbox.target)
)


def read_backlog(connection: sqlite3.Connection) -> Backlog:
    """As ``Store.backlog`` gives it; of a damaged name, what is left counts."""
    found = _by_name(connection, _QUEUES)
    queues = {target: QueueBacklog(jobs, oldest) for target, jobs, oldest in found}
    letters, dead_jobs, messages = (
        connection.execute(sql).fetchone()[0] for sql in (_LETTERS, _DEAD_JOBS, _MESSAGES)
    )
    return Backlog(queues, letters, dead_jobs, messages)


def read_retried(connection: sqlite3.Connection) -> dict[str, int]:
    """As ``Store.retried`` gives it."""
    return dict(_by_name(connection, _RETRIED))


def _by_name(connection: sqlite3.Connection, sql: str) -> list[tuple[Any, ...]]:
    connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.text_factory = str
