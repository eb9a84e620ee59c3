"""Who observes a runtime, and how they are told: a call for each that wants the event.

    if services.observing.hooks:                      # nothing else where nobody observes
        services.observing.tell(Passivated(name, process_id))

What an observer raises is logged once for each kind and goes no further. Knows no saga.
Next to read: ``announcing.py``, the turns; ``store/group_commit.py``, whose batches are told here.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any

from perdure.core.commit import (
    DeadLetterRow,
    Entry,
    Settlement,
    SnapshotRow,
    TurnRecord,
)
from perdure.core.correlation import split_key
from perdure.core.described import shown
from perdure.errors import DefinitionError, StoreError
from perdure.observer import (
    HOOKS,
    RECORDS,
    BatchCommitted,
    CommandSent,
    DeadLettered,
    Observer,
    SnapshotTaken,
    TurnCommitted,
    unheard,
)
from perdure.runtime.clock import Clock
from perdure.runtime.supervised import UNEXPECTED

__all__ = ["BatchWatch", "Observing"]

logger = logging.getLogger("perdure.observers")

Hook = Callable[[Any], None]
Recorders = tuple[Callable[..., None], ...]


class Observing:
    """The observers of a runtime. ``hooks``: those who hear an event, by its class.

    ``on_turn``, ``on_end``, ``on_attempt``: those who count. ``hears_all``: somebody hears events
    that nearly every turn leads to.
    """

    def __init__(self, observers: Iterable[Observer] = ()) -> None:
        self.hooks: dict[type, tuple[Hook, ...]] = {}
        self.on_turn: Recorders = ()
        self.on_end: Recorders = ()
        self.on_attempt: Recorders = ()
        self.counts_turns = self.hears_all = False
        self._observers: list[Observer] = []
        self._failed: set[tuple[str, type]] = set()
        if isinstance(observers, (Observer, type)) or not isinstance(observers, Iterable):
            raise DefinitionError(
                f"observers={shown(observers)} is no list", remedy="give a list of observers"
            )
        for observer in observers:
            self.add(observer)

    def add(self, observer: Observer) -> None:
        """Tell this one, too. Raises ``DefinitionError`` for what is no observer."""
        if not isinstance(observer, Observer):
            raise DefinitionError(
                f"{shown(observer)} is no observer",
                remedy="give an object of a class that inherits from perdure.observer.Observer",
            )
        for method in chain(*HOOKS.values(), RECORDS, ("runtime_started", "runtime_stopped")):
            if inspect.iscoroutinefunction(getattr(observer, method)):
                raise DefinitionError(
                    f"{type(observer).__name__}.{method} is a coroutine function",
                    remedy="declare it with def: observers are called, nobody awaits them",
                )
        if all(one is not observer for one in self._observers):  # equal ones are two
            self._observers.append(observer)
            self._find_hooks()

    def remove(self, observer: Observer) -> None:
        """Tell this one no more."""
        self._observers = [one for one in self._observers if one is not observer]
        self._find_hooks()

    def _find_hooks(self) -> None:
        found = {
            event: tuple(
                getattr(one, methods[0]) for one in self._observers if _hears(one, methods)
            )
            for event, methods in HOOKS.items()
        }
        self.hooks = {event: hooks for event, hooks in found.items() if hooks}
        self.hears_all = TurnCommitted in self.hooks or CommandSent in self.hooks
        self.on_turn, self.on_end, self.on_attempt = (
            tuple(getattr(one, name) for one in self._observers if _is_overridden(one, name))
            for name in RECORDS
        )
        self.counts_turns = bool(self.on_turn or self.on_end)

    def tell(self, event: Any) -> None:
        """Call whoever wants to hear of it."""
        for hook in self.hooks.get(type(event), ()):
            try:
                hook(event)
            except UNEXPECTED as error:
                self._on_failure(hook, error)

    def record(self, recorders: Recorders, *values: Any) -> None:
        """Call those who count."""
        for recorder in recorders:
            try:
                recorder(*values)
            except UNEXPECTED as error:
                self._on_failure(recorder, error)

    def started(self) -> None:
        """The runtime runs."""
        for observer in list(self._observers):
            self._call(observer.runtime_started)

    def stopped(self) -> None:
        """The runtime has stopped."""
        for observer in list(self._observers):
            self._call(observer.runtime_stopped)

    def _call(self, method: Callable[[], None]) -> None:
        try:
            method()
        except UNEXPECTED as error:
            self._on_failure(method, error)

    def _on_failure(self, hook: Callable[..., None], error: BaseException) -> None:
        name = getattr(hook, "__qualname__", repr(hook))
        if (name, type(error)) not in self._failed:
            self._failed.add((name, type(error)))
            logger.error(
                "observer %s raised %s; this is told once, it goes on being called",
                name, type(error).__name__,
                exc_info=error,
            )  # fmt: skip


def _hears(observer: Observer, methods: Sequence[str]) -> bool:
    if getattr(getattr(observer, methods[0]), "__func__", None) is unheard:
        return False
    return any(_is_overridden(observer, method) for method in methods)


def _is_overridden(observer: Observer, method: str) -> bool:
    own = getattr(observer, method)
    return getattr(own, "__func__", own) is not getattr(Observer, method)


class BatchWatch:
    """Tells of the transactions of a group commit, and of dead letters and snapshots in them."""

    def __init__(self, observing: Observing, clock: Clock) -> None:
        self._observing = observing
        self._clock = clock
        self._began_s = 0.0

    def begun(self) -> None:
        """A transaction begins."""
        self._began_s = self._clock.monotonic_s()

    def written(self, entries: Sequence[Entry], outcomes: Sequence[StoreError | None]) -> None:
        """It is durable."""
        observing = self._observing
        hooks = observing.hooks
        if BatchCommitted in hooks:
            seconds = self._clock.monotonic_s() - self._began_s
            observing.tell(BatchCommitted(len(entries), seconds))
        if DeadLettered not in hooks and SnapshotTaken not in hooks:
            return
        for entry, outcome in zip(entries, outcomes, strict=True):
            if outcome is not None:
                continue
            if type(entry) is TurnRecord and entry.dead_letter is None and entry.settles is None:
                continue  # by far the most
            for letter in _letters_of(entry):
                observing.tell(_dead_lettered(letter))
            if type(entry) is SnapshotRow:
                observing.tell(SnapshotTaken(*split_key(entry.instance), len(entry.body)))


def _letters_of(entry: Entry) -> Sequence[DeadLetterRow]:
    if isinstance(entry, TurnRecord):
        settled = () if entry.settles is None else entry.settles.dead_letters
        return settled if entry.dead_letter is None else (*settled, entry.dead_letter)
    if isinstance(entry, Settlement):
        return entry.dead_letters
    return (entry,) if isinstance(entry, DeadLetterRow) else ()


def _dead_lettered(row: DeadLetterRow) -> DeadLettered:
    saga, process_id = split_key(row.instance) if row.instance else ("", "")
    return DeadLettered(saga, process_id, row.queue, row.type, row.message_id, row.reason)
