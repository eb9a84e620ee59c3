"""What a runtime is made of, checked before it starts: sagas and queues that go together.

Next to read: ``running.py``, which builds the parts from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from perdure.codec import Codec
from perdure.errors import DefinitionError
from perdure.queue import WorkQueue
from perdure.runtime.clock import Clock
from perdure.runtime.definitions import Saga, codec_of, definitions_of
from perdure.runtime.outbound import Outbound
from perdure.runtime.routing import Routing
from perdure.settings import Settings
from perdure.store.protocol import Store

__all__ = ["Blueprint", "blueprint_of"]


@dataclass(frozen=True)
class Blueprint:
    """Everything that is fixed before a runtime starts."""

    store: Store
    clock: Clock
    settings: Settings
    routing: Routing
    outbound: Outbound
    codec: Codec
    resources: Mapping[str, Any]
    new_id: Callable[[], str]
    random: Callable[[], float]


def blueprint_of(
    store: Store,
    members: Iterable[Saga | WorkQueue],
    settings: Settings,
    resources: Mapping[str, Any],
    messages: Iterable[type],
    clock: Clock,
    new_id: Callable[[], str],
    random: Callable[[], float],
) -> Blueprint:
    """Sort the members into sagas and work queues. Raises ``DefinitionError``."""
    if isinstance(members, (type, WorkQueue)):
        raise DefinitionError(f"{members!r} is no list", remedy="put it in a list")
    listed = list(members)
    queues = [one for one in listed if isinstance(one, WorkQueue)]
    routing = Routing(definitions_of([one for one in listed if not isinstance(one, WorkQueue)]))
    outbound = Outbound(queues, routing, resources)
    performed = [kind for queue in queues for kind in _types_of(queue)]
    codec = codec_of(
        routing.definitions.values(), [*messages, *performed], settings.message_bytes_max
    )
    return Blueprint(store, clock, settings, routing, outbound, codec, resources, new_id, random)


def _types_of(queue: WorkQueue) -> Iterable[type]:
    """The classes whose objects the queue's jobs hold and return."""
    for worker in queue.workers.values():
        yield from worker.types
        yield from (kind for kind in worker.returns or () if kind is not type(None))
