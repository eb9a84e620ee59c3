"""Steps that were dead letters, and whether anybody waits for them still.

A step is performed for its instance alone: of one that has ended, nobody would hear of it.
Next to read: ``letters/redrive.py``, which asks.
"""

from __future__ import annotations

from typing import Any

from perdure.core import step_events, workflow_events
from perdure.core.commit import DeadLetterRow
from perdure.core.saga import Definition
from perdure.errors import InstanceFinished, InstanceQuarantined
from perdure.runtime.instances.rehydration import fold_loaded
from perdure.runtime.instances.supervisor import Supervisor
from perdure.runtime.services import Services

__all__ = ["check_awaited", "is_step"]

_STEPS = (step_events.PerformStep, step_events.CompensateStep, workflow_events.PerformStep)


def is_step(command: Any) -> bool:
    """The command is a step of a saga."""
    return isinstance(command, _STEPS)


async def check_awaited(
    services: Services, definition: Definition, supervisor: Supervisor, row: DeadLetterRow
) -> None:
    """Raise ``InstanceFinished`` if the instance of the step has ended."""
    instance = supervisor.committed(row.instance)
    if instance is None:
        (loaded,) = await services.store.load([row.instance])
        try:
            instance = (await fold_loaded(services, definition, loaded)).instance
        except InstanceQuarantined:
            return  # when it is released it may wait for it
    if instance.status.is_over:
        raise InstanceFinished(
            f"it has {instance.status}: nobody waits any more for the step of queue {row.queue!r}",
            saga=definition.name,
            correlation_id=instance.correlation_id,
            remedy="restart it from the step (runtime.repair), or discard the letter",
        )
