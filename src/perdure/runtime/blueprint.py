"""What a runtime is made of, checked before it starts: sagas and queues that go together.

Next to read: ``running.py``, which builds the parts from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, cast

from perdure.codec import Codec
from perdure.core.saga import Definition
from perdure.errors import DefinitionError
from perdure.member import Member, Opening
from perdure.observer import Observer
from perdure.queue import WorkQueue
from perdure.runtime.clock import Clock
from perdure.runtime.definitions import Saga, codec_of, definitions_of
from perdure.runtime.elsewhere import Elsewhere
from perdure.runtime.jobs.outbound import Outbound
from perdure.runtime.jobs.own_checks import check_own
from perdure.runtime.jobs.permits import Permits
from perdure.runtime.routing import Routing
from perdure.runtime.threads import Threads
from perdure.runtime.watching.observing import Observing
from perdure.runtime.watching.tracing import Tracing
from perdure.settings import Settings
from perdure.store.protocol import Store

__all__ = ["Blueprint", "Parts", "blueprint_of", "parts_of", "renewed"]


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
    openings: Sequence[tuple[Definition, Opening]]
    new_id: Callable[[], str]
    random: Callable[[], float]
    threads: Threads
    members: Sequence[Saga | WorkQueue] = ()
    observing: Observing = field(default_factory=Observing)
    tracing: Tracing | None = None
    elsewhere: Elsewhere | None = None
    permits: Permits | None = None


class Parts(NamedTuple):
    """Members, sorted, and what is made of them."""

    listed: Sequence[Saga | WorkQueue]
    routing: Routing
    outbound: Outbound
    codec: Codec


def parts_of(
    members: Iterable[Saga | WorkQueue],
    resources: Mapping[str, Any],
    messages: Iterable[type],
    settings: Settings,
) -> Parts:
    """Sort the members into sagas and work queues. Raises ``DefinitionError``."""
    listed = _listed(members)
    sagas = [one for one in listed if not isinstance(one, WorkQueue)]
    queues = [one for one in listed if isinstance(one, WorkQueue)]
    queues += [queue for one in sagas if isinstance(one, Member) for queue in one.queues()]
    routing = Routing(definitions_of(sagas))
    outbound = Outbound(queues, routing, resources)
    performed = [kind for queue in queues for kind in _types_of(queue)]
    codec = codec_of(
        routing.definitions.values(), [*messages, *performed], settings.message_bytes_max
    )
    return Parts(listed, routing, outbound, codec)


def blueprint_of(
    store: Store,
    members: Iterable[Saga | WorkQueue],
    settings: Settings | None,
    resources: Mapping[str, Any] | None,
    messages: Iterable[type],
    clock: Clock,
    new_id: Callable[[], str],
    random: Callable[[], float],
    threads: Threads,
    observers: Iterable[Observer] = (),
    tracing: Tracing | None = None,
) -> Blueprint:
    """Check all that was given, and sort the members. Raises ``DefinitionError``."""
    settings, resources = _checked_settings(settings), _checked_resources(resources)
    parts = parts_of(members, resources, messages, settings)
    check_own(store, parts.outbound.queues.values(), resources)
    routing = parts.routing
    openings = [
        (routing.definitions[one.name], opening)
        for one in parts.listed
        if isinstance(one, Member)
        for opening in one.openings()
    ]
    return Blueprint(
        store,
        clock,
        settings,
        routing,
        parts.outbound,
        parts.codec,
        resources,
        openings,
        new_id,
        random,
        threads,
        parts.listed,
        Observing(observers),
        _checked_tracing(tracing),
    )


def renewed(blueprint: Blueprint, members: Iterable[Saga | WorkQueue]) -> Blueprint:
    """The same, with sagas made anew of their classes: what one kept on itself is gone."""
    sagas = [one for one in members if not isinstance(one, WorkQueue)]
    routing = Routing(definitions_of(sagas))
    queues = blueprint.outbound.queues.values()
    outbound = Outbound(queues, routing, blueprint.resources)
    openings = [
        (routing.definitions[definition.name], one) for definition, one in blueprint.openings
    ]
    return replace(blueprint, routing=routing, outbound=outbound, openings=openings)


def _listed(members: Iterable[Saga | WorkQueue]) -> list[Saga | WorkQueue]:
    if isinstance(members, (type, WorkQueue, Member)):
        raise DefinitionError(f"{members!r} is no list", remedy="put it in a list")
    return list(members)


def _checked_settings(settings: object) -> Settings:
    if settings is None:
        return Settings()
    if isinstance(settings, Settings):
        return settings
    raise DefinitionError(
        f"the settings are a {type(settings).__name__}",
        remedy="give Settings(…) as the third argument, and resources by name: resources={…}",
    )


def _checked_resources(resources: object) -> Mapping[str, Any]:
    """As they are now: what a worker was promised does not go away while it waits."""
    if resources is None:
        return {}
    if isinstance(resources, Mapping) and all(isinstance(name, str) for name in resources):
        return dict(resources)
    raise DefinitionError(
        f"the resources are a {type(resources).__name__}, not named by texts",
        remedy="give each by the name of the parameter it is for: resources={'gateway': gateway}",
    )


def _checked_tracing(tracing: object) -> Tracing | None:
    if tracing is None or callable(getattr(tracing, "start", None)):
        return cast("Tracing | None", tracing)
    raise DefinitionError(
        f"the tracing is a {type(tracing).__name__}",
        remedy="give perdure.ops.tracing.Tracing(…); a tracer provider goes into that",
    )


def _types_of(queue: WorkQueue) -> Iterable[type]:
    """The classes whose objects the queue's jobs hold and return."""
    for worker in queue.workers.values():
        yield from worker.types
        yield from (kind for kind in worker.returns or () if kind is not type(None))
