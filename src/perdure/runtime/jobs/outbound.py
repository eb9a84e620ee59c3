"""Where what a turn sends goes: the work queue of a command, the audience of an event.

Everything that can be wrong with an address is found here, in the turn that sends or when the
runtime is made; nothing is written that nobody could ever take. Next to read: ``dispatcher.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from perdure.core.outgoing import SAGAS
from perdure.core.saga import Definition
from perdure.errors import DefinitionError, DuplicateWorker, Unroutable
from perdure.messages import ExternalEvent, kind_of, type_info_of
from perdure.queue import WorkQueue
from perdure.runtime.routing import Routing

__all__ = ["Outbound"]


class Outbound:
    """The addresses of one runtime.

    A queue without workers is performed elsewhere, and takes whatever is sent to it by name.
    Raises ``DefinitionError`` for queues and sagas that do not go together.
    """

    def __init__(
        self, queues: Iterable[WorkQueue], routing: Routing, resources: Mapping[str, Any]
    ) -> None:
        self.queues: dict[str, WorkQueue] = {}
        self._takers: dict[type, list[str]] = {}
        self._subscribers: dict[type, list[str]] = {}
        self._addresses: dict[type, str] = {}
        self._audiences: dict[type | str, tuple[str, ...]] = {}
        self._routing = routing
        for queue in queues:
            self._add(queue, resources)
        if self.queues and all(queue.workers for queue in self.queues.values()):
            for definition in routing.definitions.values():
                self._check_compensated(definition)

    def _add(self, queue: WorkQueue, resources: Mapping[str, Any]) -> None:
        if self.queues.setdefault(queue.name, queue) is not queue:
            raise DuplicateWorker(
                f"two work queues are named {queue.name!r}", remedy="give one another name"
            )
        for command in queue.commands:
            self._takers.setdefault(command, []).append(queue.name)
        for event in queue.events:
            self._subscribers.setdefault(event, []).append(queue.name)
        for worker in queue.workers.values():
            missing = [name for name in worker.required if name not in resources]
            if missing:
                raise DefinitionError(
                    f"worker {worker.name!r} of queue {queue.name!r} needs {', '.join(missing)}",
                    remedy=f"give Runtime(…, resources={{{missing[0]!r}: …}})",
                )

    def _check_compensated(self, definition: Definition) -> None:
        for command in definition.compensated:
            if command not in self._takers and not self._routing.is_interesting(command):
                raise DefinitionError(
                    f"it compensates {command.__name__}, which no work queue of the runtime takes",
                    saga=definition.name,
                    remedy="give the runtime the queue with its worker",
                )

    def address(self, command: Any, queue: str | None) -> str:
        """The queue that takes the command; ``SAGAS`` if a saga does, and no queue is named.

        A runtime without any work queue leaves commands in the outbox, under the queue named or
        the type's name. Raises ``Unroutable``.
        """
        kind = type(command)
        if queue is not None:
            self._check_named(kind, queue)
            return queue
        known = self._addresses.get(kind)
        if known is None:
            known = self._found(kind, command)
            if kind is not ExternalEvent:  # whose address depends on the type it names
                self._addresses[kind] = known
        return known

    def _found(self, kind: type, command: Any) -> str:
        takers = self._takers.get(kind)
        if takers is not None:
            if len(takers) > 1:
                raise Unroutable(
                    f"{kind.__name__} is taken by the work queues {', '.join(takers)}",
                    remedy=f"say which one, as queue={takers[0]!r}",
                )
            return takers[0]
        if self._routing.is_interesting(kind_of(command)):
            return SAGAS
        if self.queues:
            raise Unroutable(
                f"no work queue of the runtime takes {kind.__name__}",
                remedy="declare a worker for it, and give its queue to the runtime",
            )
        return _name_of(command)

    def is_sent_by_saga(self, job_id: str) -> bool:
        """Whether commands of a saga of this runtime have such ids: "saga/correlation id/…"."""
        saga, slash, _ = job_id.partition("/")
        return bool(slash) and saga in self._routing.definitions

    def taker(self, kind: type | str) -> str | None:
        """The queue that takes commands of this class (or name), or ``SAGAS``; None: not one."""
        takers = self._takers.get(kind, []) if isinstance(kind, type) else []
        if not takers and self._routing.is_interesting(kind):
            return SAGAS
        return takers[0] if len(takers) == 1 else None

    def _check_named(self, kind: type, name: str) -> None:
        queue = self.queues.get(name)
        if queue is None and self.queues:
            raise Unroutable(
                f"{kind.__name__} is sent to work queue {name!r}, which the runtime does not have",
                remedy=f"it has {', '.join(sorted(self.queues))}",
            )
        if queue is not None and queue.workers and not queue.performs(kind):
            raise Unroutable(
                f"work queue {name!r} has no worker for {kind.__name__}",
                remedy="declare one, or send it to another queue",
            )

    def audience(self, event: Any) -> Sequence[str]:
        """Who hears of the event: the sagas if one is interested, and subscribers' queues."""
        kind = kind_of(event)
        found = self._audiences.get(kind)
        if found is None:
            sagas = (SAGAS,) if self._routing.is_interesting(kind) else ()
            queues = self._subscribers.get(kind, ()) if isinstance(kind, type) else ()
            found = self._audiences[kind] = (*sagas, *queues)
        return found

    def subscribers(self, event: Any) -> Sequence[str]:
        """The queues that subscribe to the event."""
        return self._subscribers.get(type(event), ())


def _name_of(command: Any) -> str:
    if type(command) is ExternalEvent:
        return command.type
    info = type_info_of(type(command))
    return info.name if info is not None else type(command).__name__
