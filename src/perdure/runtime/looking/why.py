"""Why an instance of this runtime waits, in plain words.

Knows what only a runtime knows: which workers are at work, and which queues nobody performs here.
Next to read: ``gathering_facts.py``; ``core/waiting.py``, which puts it into words.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from perdure.core.commit import OutboxRow
from perdure.core.correlation import VerdictKind, split_key
from perdure.core.instance import Instance
from perdure.core.outgoing import SAGAS
from perdure.core.saga import Definition
from perdure.core.wait_facts import QueueFact, Running, WaitingFor
from perdure.core.waiting import reasons
from perdure.messages import type_info_of
from perdure.runtime.jobs.dispatcher import Dispatcher
from perdure.runtime.jobs.workers import Workers
from perdure.runtime.looking.gathering_facts import gather, paused_queues
from perdure.runtime.looking.views import Views
from perdure.runtime.routing import Routing
from perdure.runtime.services import Services

__all__ = ["LiveSight", "interests_of", "why_waiting"]

logger = logging.getLogger("perdure.saga")

_OURS = "perdure."


async def why_waiting(sight: LiveSight, key: str) -> list[WaitingFor]:
    """Why the instance waits, the most important reason first."""
    services = sight.services
    return reasons(await gather(services, sight, key, services.clock.now_ms()))


class LiveSight:
    """What a running runtime sees."""

    is_live = True

    def __init__(
        self, services: Services, routing: Routing, views: Views, dispatcher: Dispatcher
    ) -> None:
        self.services = services
        self._routing = routing
        self._views = views
        self._dispatcher = dispatcher

    async def instance(self, key: str) -> Instance | None:
        """See ``Sight.instance``."""
        definition = self._routing.definitions.get(split_key(key)[0])
        return None if definition is None else await self._views.committed(definition, key)

    async def queues(self, jobs: Sequence[OutboxRow]) -> Mapping[str, QueueFact]:
        """See ``Sight.queues``."""
        names = {row.target for row in jobs} - {SAGAS}
        if not names:
            return {}
        written = await paused_queues(self.services, names)
        return {name: await self._queue(name, written.get(name, QueueFact())) for name in names}

    async def _queue(self, name: str, written: QueueFact) -> QueueFact:
        workers = self._dispatcher.workers.get(name)
        if workers is None:
            return replace(written, is_performed=False)
        state = self._dispatcher.runners[name].state
        first = None
        if state.policy.sequential:
            oldest = await self.services.store.outbox(0, 1, name)
            first = oldest[0] if oldest else None
        since_ms = written.since_ms if written.is_paused else 0
        return QueueFact(
            state.is_paused,
            state.pause_reason,
            since_ms,
            True,
            self._running(workers),
            state.policy.concurrency,
            first,
            state.policy.retry.max_attempts,
        )

    def _running(self, workers: Workers) -> dict[int, Running]:
        clock = self.services.clock
        now_s, now_ms = clock.monotonic_s(), clock.now_ms()
        return {
            position: Running(attempt.number, now_ms - int((now_s - attempt.began_s) * 1000))
            for position, attempt in workers.attempts.items()
        }

    def takes(self, saga: str, state: Any) -> tuple[str, ...] | None:
        """See ``Sight.takes``."""
        definition = self._routing.definitions.get(saga)
        return None if definition is None else interests_of(definition, state)


def interests_of(definition: Definition, state: Any) -> tuple[str, ...]:
    """The names of the types that go on with an instance in this state, as far as can be known."""
    kinds = definition.kinds or {}
    found = [
        name
        for interest in _taken(definition, state)
        if kinds.get(interest, (VerdictKind.CONTINUE, False))[0] is not VerdictKind.START
        and not (name := _name_of(interest)).startswith(_OURS)
    ]
    return tuple(sorted(found))


def _taken(definition: Definition, state: Any) -> Collection[type | str]:
    if definition.takes is not None and state is not None:
        try:
            return definition.takes(definition.private_copy(state))
        except Exception:  # a guard of the user's, which may not know this state
            logger.warning("a guard of %s raises", definition.name, exc_info=True)
    return definition.interests


def _name_of(interest: type | str) -> str:
    if isinstance(interest, str):
        return interest
    info = type_info_of(interest)
    return interest.__name__ if info is None else info.name
