"""What a process manager declares: its tables, and its class attributes.

A callback that is written by hand says in code what the tables say otherwise; that is told, and
nothing is guessed. Next to read: ``declared.py`` of the package above, the tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from perdure.core.saga import StartMissing
from perdure.declared import Declarations, Handler, Route
from perdure.describing.description import Guard, Kind, Saga, Taken, Told
from perdure.describing.types import ROLES, named, names, status_name, statuses_of, summary
from perdure.describing.wording import (
    by_text,
    called,
    missing_text,
    retention_text,
    retry_of,
    supervision_text,
)
from perdure.messages import CommandFailed
from perdure.process_manager import ProcessManager, define

__all__ = ["process_manager"]

_CALLBACKS = ("interested_in", "correlate", "accepts", "apply", "handle", "choose", "compensate")


def process_manager(saga: type[ProcessManager[Any]]) -> Saga:
    """What the class declares. Raises ``DefinitionError`` for what was declared wrongly."""
    definition = define(saga)
    tables = saga.declarations
    by_hand = tuple(
        name for name in _CALLBACKS if getattr(saga, name) is not getattr(ProcessManager, name)
    )
    routes = {} if "correlate" in by_hand else tables.routes
    timeout_retry = definition.timeout_retry
    return Saga(
        name=saga.name,
        kind=Kind.PROCESS_MANAGER,
        about=summary(saga),
        state=definition.state_type.cls.__name__,
        statuses=statuses_of(definition.state_type.cls),
        indexed=tuple(field.name for field in definition.indexed),
        messages=tuple(_taken(one, routes.get(one), tables) for one in definition.interests),
        by_hand=by_hand,
        deadlines=tuple(Told(name, _guards(one)) for name, one in tables.deadlines.items()),
        timeout_s=None if definition.timeout is None else definition.timeout.total_seconds(),
        timeout_retry=None if timeout_retry is None else retry_of(timeout_retry),
        handles_timeout=bool(tables.timeouts) or "handle" in by_hand,
        failures=tuple(
            Told("" if kind is None else named(kind), _guards(one))
            for kind, one in tables.failures.items()
        ),
        compensates=names(tables.compensators),
        takes_failures=CommandFailed in tables.appliers
        or not {"apply", "handle", "choose", "compensate"}.isdisjoint(by_hand),
        children=tuple(Told(name or "", _guards(one)) for name, one in tables.children.items()),
        handles_cancel=bool(tables.cancellations) or "handle" in by_hand,
        starts_missing=isinstance(definition.on_missing, StartMissing),
        on_missing=missing_text(definition.on_missing),
        retry=None if definition.retry is None else retry_of(definition.retry),
        lets_pass=definition.lets_pass,
        supervision=supervision_text(definition.supervision),
        retention=retention_text(definition.retention),
    )


def _taken(kind: type | str, route: Route | None, tables: Declarations) -> Taken:
    guards = _guards(tables.handlers.get(kind, ()))
    if route is None:
        return Taken(named(kind), guards=guards)
    return Taken(named(kind), ROLES[route.kind], by_text(route.by), guards, route.strict)


def _guards(handlers: Sequence[Handler]) -> tuple[Guard, ...]:
    """One for each; none if the only handler is always admitted."""
    found = tuple(map(_guard, handlers))
    return () if found == (Guard(),) else found


def _guard(handler: Handler) -> Guard:
    when = handler.when
    if when is None:
        return Guard()
    if isinstance(when, str):
        return Guard((status_name(when),))
    if callable(when):
        return Guard(condition=called(when))
    return Guard(tuple(map(status_name, when)))
