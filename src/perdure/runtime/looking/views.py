"""Looking at instances without touching them: state and status. Read-only, resident or not.

What is shown is committed. Next to read: ``history.py``, ``then.py``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from perdure.codec import Codec
from perdure.core.commit import HeadRow, Status
from perdure.core.correlation import split_key
from perdure.core.instance import Instance
from perdure.core.saga import Definition
from perdure.errors import (
    DefinitionError,
    InstanceQuarantined,
    SagaFailed,
    SagaStuck,
)
from perdure.messages import datetime_of
from perdure.runtime.instances.rehydration import fold_loaded
from perdure.runtime.instances.supervisor import Supervisor
from perdure.runtime.looking.purged import check_kept, not_kept
from perdure.runtime.looking.then import At, checked_at, instance_at
from perdure.runtime.services import Services

__all__ = ["InstanceView", "Views", "status_of", "unreadable_view", "view_of"]

PAGE = 100


@dataclass(frozen=True, slots=True)
class InstanceView:
    """An instance as last committed, or at an earlier moment. ``state`` is the looker's to keep.

    ``result`` is what it completed with, ``failure`` why it failed or is stuck; ``deadlines`` are
    the armed ones and when they are due (the whole process's is called "perdure.timeout").
    ``quarantined`` says why the instance is set aside, if it is; one that cannot be rehydrated is
    shown so in a listing, without a state. ``cursor`` is where ``find`` has found it: text to go on
    from, in a next page. ``purged``: it has ended, and its state, its result and its turns are not
    kept any more, as its saga's retention says.
    """

    saga: str
    correlation_id: str
    status: Status
    state: Any
    sequence_nr: int
    started_at: datetime
    updated_at: datetime
    deadlines: dict[str, datetime] = field(default_factory=dict)
    result: Any = None
    failure: str | None = None
    quarantined: str | None = None
    purged: bool = False
    cursor: str = field(default="", repr=False, compare=False)


def status_of(wanted: Status | str | None) -> Status | None:
    """The status of this name. Raises ``DefinitionError``."""
    try:
        return None if wanted is None else Status(wanted)
    except ValueError:
        raise DefinitionError(
            f"{wanted!r} is no status", remedy=f"give one of {', '.join(Status)}"
        ) from None


class Views:
    """Reads of one runtime."""

    def __init__(self, services: Services, supervisor: Supervisor) -> None:
        self._services = services
        self._supervisor = supervisor

    async def state(self, definition: Definition, key: str) -> InstanceView | None:
        """The instance, or None if there is none. Raises ``InstanceQuarantined``."""
        instance = await self.committed(definition, key)
        if not instance.exists:
            return None
        aside = await self._supervisor.quarantine.error_at(key)
        return self._view(definition, instance, aside)

    async def then(self, definition: Definition, key: str, at: At) -> InstanceView | None:
        """The instance as it was after a turn, or at a moment; see ``then.py``."""
        at = checked_at(at, self._services.clock.now_ms())
        instance = await instance_at(self._services, definition, key, at)
        if instance is None:
            await check_kept(self._services, key, "how it was")
            return None
        return view_of(self._services.codec, instance, instance.state)

    async def committed(self, definition: Definition, key: str) -> Instance:
        """The instance itself, there or not: for the runtime, which leaves it as it is."""
        instance = self._supervisor.committed(key)
        if instance is not None:
            return instance
        (loaded,) = await self._services.store.load([key])
        return (await fold_loaded(self._services, definition, loaded)).instance

    def result(self, definition: Definition, instance: Instance) -> Any:
        """What the instance completed with.

        Raises ``SagaFailed``, ``SagaStuck``, ``InstancePurged``.
        """
        detail, about = instance.detail, (definition.name, instance.correlation_id)
        if instance.is_purged:
            raise not_kept(instance.key, f"the result (it has ended as {instance.status})")
        if instance.status is Status.COMPLETED:
            return self._services.codec.decode_value(detail) if isinstance(detail, bytes) else None
        if instance.status is Status.STUCK:
            raise SagaStuck(str(detail), remedy="see to it, then resume it").about(*about)
        raise SagaFailed(str(detail)).about(*about)

    async def instances(
        self, definition: Definition, status: Status | None, after: str
    ) -> AsyncIterator[InstanceView]:
        """All instances of a saga in the order of their ids, read page by page."""
        last = f"{definition.name}/{after}" if after else ""
        while True:
            heads = await self._services.store.heads(definition.name, status, last, PAGE)
            async for view in self.page(definition, heads):
                if status is None or view.status is status:
                    yield view
            if len(heads) < PAGE:
                return
            last = heads[-1].instance

    async def page(
        self, definition: Definition, heads: Sequence[HeadRow]
    ) -> AsyncIterator[InstanceView]:
        """The instances of some heads, in their order, as they are committed."""
        resident = {head.instance: self._supervisor.committed(head.instance) for head in heads}
        passive = [key for key, instance in resident.items() if instance is None]
        found = await self._services.store.load(passive) if passive else ()
        loaded = {rows.instance: rows for rows in found}
        asides = await self._supervisor.quarantine.errors_of(list(resident))
        for head in heads:
            instance = resident[head.instance]
            try:
                if instance is None:
                    rows = loaded[head.instance]
                    instance = (await fold_loaded(self._services, definition, rows)).instance
                yield self._view(definition, instance, asides.get(head.instance))
            except InstanceQuarantined as error:
                yield unreadable_view(head, error.problem)

    def _view(
        self, definition: Definition, instance: Instance, aside: InstanceQuarantined | None
    ) -> InstanceView:
        why = None if aside is None else aside.problem
        return view_of(self._services.codec, instance, definition.private_copy(instance.state), why)


def view_of(
    codec: Codec, instance: Instance, state: Any, quarantined: str | None = None
) -> InstanceView:
    """The instance as people see it, with a state that is theirs."""
    detail = instance.detail
    return InstanceView(
        split_key(instance.key)[0],
        instance.correlation_id,
        instance.status,
        state,
        instance.sequence_nr,
        datetime_of(instance.started_at_ms),
        datetime_of(instance.updated_at_ms),
        {name: datetime_of(armed.due_at_ms) for name, armed in instance.deadlines.items()},
        codec.decode_value(detail) if isinstance(detail, bytes) else None,
        detail if isinstance(detail, str) else None,
        quarantined,
        instance.is_purged,
    )


def unreadable_view(head: HeadRow, why: str) -> InstanceView:
    """What is known of an instance without its journal."""
    return InstanceView(
        head.saga,
        head.correlation_id,
        head.status,
        None,
        0,
        datetime_of(head.started_at_ms),
        datetime_of(head.updated_at_ms),
        quarantined=why,
    )
