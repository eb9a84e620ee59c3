"""How much waits in a SQL store.

Three counts over indexes, in one crossing to the database; no row is opened. Next to read:
``backlog.py``, what they are put into.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, Table, func, literal_column, select

from perdure.store import schema
from perdure.store.backlog import Backlog, QueueBacklog
from perdure.store.dialect import SqlConnection, remains_of_text
from perdure.store.statements import Own, Statement, compiled

__all__ = ["read_backlog", "read_retried"]

_outbox, _letters = schema.outbox.c, schema.dead_letters.c


def _queues(own: Own) -> Select[Any]:
    jobs, first = func.count().label("jobs"), func.min(_outbox.position).label("first")
    by_queue = select(_outbox.target, jobs, first).where(*own("outbox")).group_by(_outbox.target)
    found = by_queue.subquery()
    rows = select(found.c.target, found.c.jobs, _outbox.created_at_ms)
    return rows.join(schema.outbox, _outbox.position == found.c.first)


def _count(table: Table, *where: Any) -> Statement:
    return compiled(
        lambda own: select(func.count()).select_from(table).where(*where, *own(table.name))
    )


_QUEUES = compiled(_queues)
_LETTERS = _count(schema.dead_letters)
_DEAD_JOBS = _count(schema.dead_letters, _letters.job > 0)
_MESSAGES = _count(schema.inbox)
_RETRIED = compiled(
    lambda own: (
        select(_outbox.target, func.count())
        .where(literal_column("due_at_ms > 0"), _outbox.attempts > 0, *own("outbox"))
        .group_by(_outbox.target)
    )
)


def read_backlog(connection: SqlConnection) -> Backlog:
    """As ``Store.backlog`` gives it; of a damaged name, what is left counts."""
    found = _by_name(connection, _QUEUES)
    queues = {target: QueueBacklog(jobs, oldest) for target, jobs, oldest in found}
    letters, dead_jobs, messages = (
        connection.execute(sql).fetchone()[0] for sql in (_LETTERS, _DEAD_JOBS, _MESSAGES)
    )
    return Backlog(queues, letters, dead_jobs, messages)


def read_retried(connection: SqlConnection) -> dict[str, int]:
    """As ``Store.retried`` gives it."""
    return dict(_by_name(connection, _RETRIED))


def _by_name(connection: SqlConnection, sql: Statement) -> list[tuple[Any, ...]]:
    with remains_of_text(connection):
        found = connection.execute(sql).fetchall()
    return [(_readable(target), *rest) for target, *rest in found]


def _readable(target: str) -> str:
    return target.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
