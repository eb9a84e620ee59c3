"""What ordered saga, list of steps and coroutine declare.

The course of a coroutine is its code: its steps and events are what it *may* ask for, in no order.
Next to read: ``core/plan.py``.
"""

from __future__ import annotations

from perdure.core.plan import Plan, PlannedStep
from perdure.core.saga import Definition
from perdure.describing.description import Kind, Saga, Step, Taken, Undo
from perdure.describing.types import named, summary
from perdure.describing.wording import by_text, missing_text, retention_text, retry_of
from perdure.ordered_saga import OrderedSaga
from perdure.queue import WorkQueue
from perdure.worker_signature import Worker
from perdure.workflow_coroutine import CoroutineWorkflow
from perdure.workflow_list import Workflow

__all__ = ["coroutine", "course"]


def course(saga: OrderedSaga | Workflow) -> Saga:
    """An ordered saga, or a workflow that is a list. Raises ``DefinitionError``."""
    definition, plan = saga.definition(), saga.plan()
    queues = {queue.name: queue for queue in saga.queues()}
    kind = Kind.ORDERED_SAGA if isinstance(saga, OrderedSaga) else Kind.WORKFLOW
    return Saga(
        name=saga.name,
        kind=kind,
        state=plan.data.__name__,
        indexed=tuple(field.name for field in definition.indexed),
        messages=(Taken(named(plan.data), "starts", by_text(saga.by)),),
        timeout_s=_timeout_of(definition),
        takes_failures=True,
        retention=retention_text(definition.retention),
        steps=tuple(_step(one, plan, queues) for one in plan.steps),
    )


def _step(planned: PlannedStep, plan: Plan, queues: dict[str, WorkQueue]) -> Step:
    queue = queues[planned.queue]
    worker = _worker_of(queue)
    undone = queues.get(planned.undo_queue)
    undo = None
    if undone is not None:
        by = _worker_of(undone)
        undo = Undo(by.name, by.description, retry_of(undone.policy.retry))
    return Step(
        name=planned.name,
        about=worker.description,
        queue=planned.queue,
        after=planned.after,
        retry=retry_of(queue.policy.retry),
        lease_s=queue.policy.lease_s,
        deadline_s=None if planned.deadline is None else planned.deadline.total_seconds(),
        undo=undo,
        undoes_unknown=planned.undoes_unknown,
        is_pivot=planned.is_pivot,
        past_return=not plan.may_be_undone(planned),
    )


def coroutine(saga: CoroutineWorkflow) -> Saga:
    """A workflow that is a coroutine."""
    definition = saga.definition()
    begins, *events = saga.by
    return Saga(
        name=saga.name,
        kind=Kind.COROUTINE,
        about=summary(saga.body),
        state=begins.__name__ if isinstance(begins, type) else begins,
        indexed=tuple(field.name for field in definition.indexed),
        messages=(
            Taken(named(begins), "starts", by_text(saga.by[begins])),
            *(Taken(named(one), "continues", by_text(saga.by[one])) for one in events),
        ),
        timeout_s=_timeout_of(definition),
        takes_failures=True,
        on_missing=missing_text(definition.on_missing),
        retention=retention_text(definition.retention),
        steps=tuple(
            Step(
                name=spec.name,
                about=summary(spec.function),
                queue=queue.name,
                after=(),
                retry=retry_of(queue.policy.retry),
                lease_s=queue.policy.lease_s,
                deadline_s=None if spec.deadline is None else spec.deadline.total_seconds(),
                past_return=True,
            )
            for spec, queue in zip(saga.steps.values(), saga.queues(), strict=True)
        ),
    )


def _worker_of(queue: WorkQueue) -> Worker:
    (worker,) = queue.workers.values()
    return worker


def _timeout_of(definition: Definition) -> float | None:
    return None if definition.timeout is None else definition.timeout.total_seconds()
