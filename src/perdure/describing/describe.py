"""From what a runtime is given to what it declares.

    describe([OrderFulfilment, trip, nightly, payments]).sagas[0].timeout_s

Each way to write a saga has its module: ``managers.py``, ``courses.py``. Next to read: these.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

from perdure.core.commit import OutboxKind
from perdure.core.saga import Definition
from perdure.describing.courses import coroutine, course
from perdure.describing.description import Description, Kind, Queue, Saga, Taken, WorkerOf
from perdure.describing.managers import process_manager
from perdure.describing.types import ROLES, named, names, summary
from perdure.describing.wording import (
    called,
    missed_text,
    missing_text,
    retention_text,
    retry_of,
    time,
)
from perdure.errors import DefinitionError
from perdure.member import Member
from perdure.ordered_saga import OrderedSaga
from perdure.process_manager import ProcessManager
from perdure.queue import WorkQueue
from perdure.schedule import Schedule
from perdure.worker_signature import Worker
from perdure.workflow_coroutine import CoroutineWorkflow
from perdure.workflow_list import Workflow

__all__ = ["Describable", "describe"]

Describable: TypeAlias = type[ProcessManager[Any]] | Member | WorkQueue

_OURS = "perdure."


def describe(members: Iterable[Describable]) -> Description:
    """What sagas, schedules and work queues declare, in their order.

    Raises ``DefinitionError`` for what is none of them, or was declared wrongly.
    """
    listed = list(members)
    return Description(
        tuple(_saga(one) for one in listed if not isinstance(one, WorkQueue)),
        tuple(_queue(one) for one in listed if isinstance(one, WorkQueue)),
    )


def _saga(saga: Any) -> Saga:
    if isinstance(saga, type) and issubclass(saga, ProcessManager):
        return process_manager(saga)
    if isinstance(saga, (OrderedSaga, Workflow)):
        return course(saga)
    if isinstance(saga, CoroutineWorkflow):
        return coroutine(saga)
    if isinstance(saga, Schedule):
        return _schedule(saga)
    if isinstance(saga, Member) and not isinstance(saga, type):
        return _other(saga.definition())
    raise DefinitionError(
        f"{saga!r} is no saga",
        remedy="give what a runtime is given: process managers, ordered sagas, workflows, "
        "schedules and work queues",
    )


def _schedule(schedule: Schedule) -> Saga:
    return Saga(
        name=schedule.name,
        kind=Kind.SCHEDULE,
        about=summary(schedule.function),
        timing=str(schedule.timing),
        missed=missed_text(schedule.missed),
        calls=called(schedule.function),
    )


def _other(definition: Definition) -> Saga:
    """An object of the user's own that comes down to a definition."""
    kinds = definition.kinds or {}
    return Saga(
        name=definition.name,
        kind=Kind.OTHER,
        indexed=tuple(field.name for field in definition.indexed),
        messages=tuple(
            Taken(named(one), ROLES[kinds[one][0]] if one in kinds else "")
            for one in definition.interests
            if not named(one).startswith(_OURS)
        ),
        timeout_s=None if definition.timeout is None else definition.timeout.total_seconds(),
        compensates=names(definition.compensated),
        takes_failures=True,
        on_missing=missing_text(definition.on_missing),
        retention=retention_text(definition.retention),
    )


def _queue(queue: WorkQueue) -> Queue:
    policy = queue.policy
    workers = {id(one): one for one in queue.workers.values()}  # one may take several classes
    return Queue(
        name=queue.name,
        workers=tuple(map(_worker, workers.values())),
        concurrency=policy.concurrency,
        retry=retry_of(policy.retry),
        lease_s=policy.lease_s,
        rate=(policy.rate and f"{policy.rate.count} in {time(policy.rate.per_s)}") or "",
        sequential=policy.sequential,
        pause_after=policy.pause_after,
        non_retryable=tuple(kind.__name__ for kind in queue.non_retryable),
        may_fail=policy.retry.max_attempts is not None
        or bool(queue.non_retryable)
        or not policy.repeat_unknown,
    )


def _worker(worker: Worker) -> WorkerOf:
    returns = worker.returns
    return WorkerOf(
        name=worker.name,
        about=worker.description,
        takes=names(worker.types),
        returns=None if returns is None else names(k for k in returns if k is not type(None)),
        is_subscriber=worker.kind is OutboxKind.EVENT,
    )
