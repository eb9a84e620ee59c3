"""Which workers have a transaction of their own, and whether they can; found before anything runs.

Next to read: ``own_work.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from perdure.errors import DefinitionError
from perdure.queue import WorkQueue
from perdure.store.beside import beside_of
from perdure.store.own_transaction import OwnTransaction
from perdure.worker_signature import Worker

__all__ = ["check_own", "own_among"]


def own_among(worker: Worker, resources: Mapping[str, Any]) -> dict[str, OwnTransaction]:
    """The resources of a worker that are transactions of its own, by their names."""
    return {
        name: own
        for name in (*worker.required, *worker.optional)
        if isinstance(own := resources.get(name), OwnTransaction)
    }


def check_own(store: object, queues: Iterable[WorkQueue], resources: Mapping[str, Any]) -> None:
    """Raises ``DefinitionError`` for workers whose own transactions cannot be."""
    for queue in queues:
        for worker in queue.workers.values():
            own = own_among(worker, resources)
            if own:
                _check(store, f"worker {worker.name!r} of queue {queue.name!r}", worker, own)


def _check(store: object, who: str, worker: Worker, own: Mapping[str, OwnTransaction]) -> None:
    names = list(own)
    if beside_of(store) is None:
        raise DefinitionError(
            f"{who} has a transaction of its own, {names[0]!r}, and the runtime's store is not in "
            "PostgreSQL",
            remedy="run over postgresql+asyncpg://…, the worker's own database; over another "
            "store, give it a session that it commits itself",
        )
    if len(names) > 1:
        raise DefinitionError(
            f"{who} has two transactions of its own, {' and '.join(names)}",
            remedy="give it one of them",
        )
    if worker.is_async and not own[names[0]].is_async:
        raise DefinitionError(
            f"{who} is a coroutine, and its own transaction {names[0]!r} would block the event "
            "loop",
            remedy="make it of an async_sessionmaker or AsyncEngine",
        )
    if own[names[0]].is_async and not worker.is_async:
        raise DefinitionError(
            f"{who} is a plain function, and its own transaction {names[0]!r} must be awaited",
            remedy="make it of a sessionmaker or Engine, or declare the worker as async def",
        )
