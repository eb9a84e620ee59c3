"""What an operator asks of a runtime beside states: why an instance waits, what is to come.

Next to read: ``why.py``, ``agenda.py``; ``runtime.py``, whose part this is.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime

from perdure.core.correlation import instance_key
from perdure.core.wait_facts import WaitingFor
from perdure.runs import ScheduleState
from perdure.runtime.definitions import Saga
from perdure.runtime.lifecycle import Lifecycle
from perdure.runtime.looking.agenda import (
    ArmedDeadline,
    ScheduleView,
    armed_deadlines,
    checked_before,
    schedule_view,
)
from perdure.runtime.looking.why import LiveSight, why_waiting
from perdure.runtime.ref import SagaRef, checked_ref

__all__ = ["Looking"]


class Looking(Lifecycle):
    """The questions of operators to a ``Runtime``."""

    async def why_waiting(self, ref: SagaRef) -> list[WaitingFor]:
        """Why an instance waits, in plain words, the most important reason first; never empty.

            for reason in await runtime.why_waiting(order):
                print(reason.kind, reason.text, reason.remedy)

        Also of one that is set aside, has ended, or does not exist. Goes through the whole outbox,
        and wakes nobody. Raises ``StoreError``.
        """
        running, routing = self._on_loop(), self._blueprint.routing
        routing.definition(checked_ref(ref).saga)
        sight = LiveSight(running.services, routing, running.views, running.dispatcher)
        return await why_waiting(sight, ref.key)

    def deadlines(
        self, saga: Saga | str | None = None, *, before: datetime | None = None
    ) -> AsyncIterator[ArmedDeadline]:
        """The armed deadlines, of a saga or of all, in the order in which they are due.

            async for one in runtime.deadlines(before=datetime.now(UTC)):    # those that are late
                print(one.due_at, one.saga, one.correlation_id, one.name)

        Raises ``UnknownSaga``, and ``DefinitionError`` for a moment without a time zone.
        """
        name = None if saga is None else self._blueprint.routing.definition(saga).name
        store = self._on_loop().services.store
        return armed_deadlines(store, name, checked_before(before))

    async def schedules(self) -> list[ScheduleView]:
        """The schedules of this runtime, by name: the next run, the latest, those missed."""
        running, found = self._on_loop(), []
        for name, definition in sorted(self._blueprint.routing.definitions.items()):
            if definition.state_type.cls is ScheduleState:
                key = instance_key(name, name)
                view = schedule_view(await running.views.committed(definition, key))
                if view is not None:
                    found.append(view)
        return found
