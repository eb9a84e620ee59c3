"""The process manager: a saga that reacts to events. The first face a user meets.

    class OrderFulfilment(ProcessManager[OrderState]):
        timeout = timedelta(minutes=15)

        @starts(OrderPlaced, by="order_id")
        def placed(self, state, event, do):
            do.send(ProcessPayment(event.order_id, event.amount))

        @applies(OrderPlaced)
        def order_placed(self, state, event):
            return replace(state, order_id=event.order_id, status="awaiting_payment")

The decorators only fill tables; the plain callbacks ``interested_in, correlate, accepts, apply,
handle, compensate`` read them. Each callback may be written by hand instead, and each can be
called in a test without a runtime. ``define`` turns a class into the kernel's ``Definition``.
The decorators themselves are in ``declarations.py``, the tables in ``declared.py``; next to read:
``core/saga.py``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from datetime import timedelta
from functools import partial
from itertools import chain
from typing import Any, ClassVar, Generic, TypeVar

from perdure.core.correlation import Continue, Ignore, Start, Stop, VerdictKind, Verdicts
from perdure.core.family import Cancel, ChildEnded
from perdure.core.indexed import indexed_fields
from perdure.core.retention import KEEP, Retention, checked_retention
from perdure.core.retry import RetryPolicy
from perdure.core.saga import Definition, Handling, MissingPolicy, Park, is_immutable
from perdure.core.supervision import Supervision
from perdure.declared import Declarations, Handler, declarations_of, folder_by_hand
from perdure.effects import Effect, Effects, Fail
from perdure.errors import DuplicateHandler
from perdure.messages import (
    CommandFailed,
    Metadata,
    TimeoutReached,
    TypeInfo,
    kind_of,
    type_info_of,
)
from perdure.saga_checks import (
    check_initial,
    check_name,
    check_plain,
    lets_pass_of,
    missing_of,
    policy_of,
    state_class_of,
    supervision_of,
    timeout_of,
)

__all__ = ["ProcessManager", "define"]

S = TypeVar("S")

_VERDICTS: dict[VerdictKind, type[Start | Continue | Stop]] = {
    VerdictKind.START: Start,
    VerdictKind.CONTINUE: Continue,
    VerdictKind.STOP: Stop,
}


class _Names(dict[str, Any]):
    """The body of a saga class: refuses a method name used twice, where Python keeps the last."""

    def __setitem__(self, name: str, value: Any) -> None:
        if inspect.isfunction(value) and inspect.isfunction(self.get(name)):
            raise DuplicateHandler(
                f"method {name!r} is declared twice in class {self.get('__qualname__')}",
                saga=self.get("name") or self.get("__qualname__"),
                remedy="give each handler a name of its own",
            )
        super().__setitem__(name, value)


class _SagaClass(type):
    @classmethod
    def __prepare__(cls, name: str, bases: tuple[type, ...], /, **_: Any) -> _Names:
        return _Names()


class ProcessManager(Generic[S], metaclass=_SagaClass):
    """Base of process managers; ``S`` is the dataclass that holds an instance's state.

    Class attributes: ``name`` (default: the class name; it is stored, so keep it), ``timeout``
    (a timedelta: fail, or call the ``@on_timeout`` handler, when the whole process takes longer;
    armed by the first turn), ``timeout_retry`` (a retry policy: after its delay the timeout is
    reached again, ``max_attempts`` times in all, instead of failing at the first; ``jitter`` does
    not count), ``on_missing`` (``Park(for_s)``, ``IgnoreMissing()``, ``StartMissing()``,
    ``ReplyMissing(value)``: what becomes of a message that continues or stops an instance which
    does not exist), ``retry`` (a retry policy: a message whose turn raised, whatever it raised but
    ``NonRetryable``, is tried again later; None: not), ``lets_pass`` (True: others go on meanwhile;
    else they wait, so that order is kept. Deadlines never wait for others), ``supervision`` (what
    becomes of a message whose turn has failed for good, and of its instance; ``Supervision``),
    ``retention`` (how long instances are kept after their end).

    One object of the class serves all instances; keep nothing on ``self``.
    Raises ``DefinitionError`` when the class is declared wrongly.
    """

    name: ClassVar[str]
    timeout: ClassVar[timedelta | None] = None
    timeout_retry: ClassVar[RetryPolicy | None] = None
    on_missing: ClassVar[MissingPolicy] = Park()
    retry: ClassVar[RetryPolicy | None] = None
    lets_pass: ClassVar[bool] = False
    supervision: ClassVar[Supervision] = Supervision.resume()
    retention: ClassVar[Retention] = KEEP
    declarations: ClassVar[Declarations]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "name" not in cls.__dict__:
            cls.name = cls.__name__
        cls.declarations = declarations_of(cls)

    def initial_state(self) -> S:
        """The state of an instance before its first message; by default the state class's own."""
        state: S = state_class_of(type(self))()
        return state

    def interested_in(self) -> Iterable[type | str]:
        """The message classes (or names, for events from outside) that concern this saga."""
        return self.declarations.routes

    def correlate(self, event: Any, metadata: Metadata) -> Verdicts:
        """Which instance the event is for, and whether it starts, continues or stops it."""
        route = self.declarations.routes.get(kind_of(event))
        if route is None:
            return Ignore
        found = route.key(event, metadata)
        verdict = _VERDICTS[route.kind]
        if isinstance(found, list):
            return [verdict(one, route.strict) for one in found]
        return verdict(found, route.strict)

    def accepts(self, state: S, event: Any, metadata: Metadata) -> bool:
        """Whether the event is wanted in the state *before* it: some guard lets it pass."""
        return self.choose(state, event, metadata) is not None

    def apply(self, state: S, event: Any, metadata: Metadata | None = None) -> S | None:
        """Fold the event into the state; an event without an applier changes nothing."""
        applier = self.declarations.appliers.get(kind_of(event))
        if applier is None:
            return state
        after: S | None = applier(self, state, event, metadata)
        return after

    def handle(self, state: S, event: Any, metadata: Metadata) -> Iterable[Effect] | None:
        """Describe what shall happen. Called after ``apply``, with the state it returned.

        Where an event has several guarded handlers, the runtime chooses by the state before
        ``apply``; called by hand, this chooses by the state it is given.
        """
        handlers = self.declarations.handlers_of(event)
        chosen = handlers[0] if len(handlers) == 1 else self._admitted(state, event)
        if chosen is None:
            return self.time_out(event) if type(event) is TimeoutReached else None
        return self.call(chosen, state, event, metadata)

    def choose(self, state: S, event: Any, metadata: Metadata) -> Handling | None:
        """The function that will handle the event, by the state before it; None: unwanted."""
        chosen = self._admitted(state, event)
        if chosen is not None:
            return partial(self.call, chosen)
        if type(event) is TimeoutReached:
            return lambda state, event, metadata: self.time_out(event)
        if type(event) is Cancel:
            return _give_up
        if type(event) is CommandFailed and self.is_concerned_by(event):
            return _do_nothing
        return _do_nothing if type(event) is ChildEnded else None

    def is_concerned_by(self, failure: CommandFailed) -> bool:
        """Whether the failure is folded or compensated, also without a handler for it."""
        kind, tables = type(self), self.declarations
        return (
            CommandFailed in tables.appliers
            or type(failure.command) in tables.compensators
            or kind.apply is not ProcessManager.apply
            or kind.compensate is not ProcessManager.compensate
        )

    def time_out(self, event: TimeoutReached) -> list[Effect]:
        """What happens when the timeout is reached and no handler says otherwise."""
        policy = self.timeout_retry
        if policy is None:
            return [Fail("timed out")]
        is_last = not policy.should_retry(event.retries + 1)
        return [Fail("timed out after maximum retries")] if is_last else []

    def compensate(self, state: S, failed_command: Any) -> Iterable[Any] | None:
        """The commands that make up for one that failed for good; None or empty to skip."""
        compensator = self.declarations.compensators.get(type(failed_command))
        if compensator is None:
            return None
        commands: Iterable[Any] | None = compensator(self, state, failed_command)
        return commands

    def _admitted(self, state: S, event: Any) -> Handler | None:
        for handler in self.declarations.handlers_of(event):
            if handler.admits is None or handler.admits(state):
                return handler
        return None

    def call(
        self, handler: Handler, state: S, event: Any, metadata: Metadata
    ) -> Iterable[Effect] | None:
        """Call a declared handler with a collector; all its effects, collected and returned."""
        do = Effects(metadata)
        returned = handler.call(self, state, event, do)
        if returned is None:
            return do.collected
        # What is no iterable of effects goes on as it is: the turn refuses it, and says so.
        is_several = isinstance(returned, Iterable) and not isinstance(returned, (str, bytes))
        return chain(do.collected, returned if is_several else [returned])


def _give_up(state: Any, event: Any, metadata: Metadata) -> Iterable[Effect] | None:
    return [Fail(f"cancelled: {event.reason}" if event.reason else "cancelled")]


def _do_nothing(state: Any, event: Any, metadata: Metadata) -> Iterable[Effect] | None:
    return None


def define(saga: type[ProcessManager[Any]]) -> Definition:
    """The kernel's view of a process manager class.

    Raises ``DefinitionError`` for a bad name, a state class that has no default value, or a
    coroutine among the plain callbacks.
    """
    check_name(saga)
    check_plain(saga)
    one = saga()
    state_class = state_class_of(saga)
    check_initial(saga, one, state_class)
    tables = saga.declarations
    by_hand = saga.apply is not ProcessManager.apply
    interests = tuple(one.interested_in())
    failed = [kind for kind in tables.failures if kind is not None]
    classes = [kind for kind in (*interests, *tables.appliers) if isinstance(kind, type)]
    return Definition(
        name=saga.name,
        state_type=type_info_of(state_class) or TypeInfo(state_class, f"{saga.name}.state"),
        interests=interests,
        initial_state=one.initial_state,
        correlate=one.correlate,
        choose=_chooser(one),
        apply=folder_by_hand(one.apply) if by_hand else tables.folder(one),
        compensate=one.compensate,
        timeout=timeout_of(one),
        timeout_retry=policy_of(saga, "timeout_retry"),
        retry=policy_of(saga, "retry"),
        lets_pass=lets_pass_of(saga),
        supervision=supervision_of(saga),
        compensated=tuple(tables.compensators),
        on_missing=missing_of(saga),
        types=tuple(dict.fromkeys([*classes, *tables.compensators, *failed])),
        folds=None if by_hand else frozenset(k for k in tables.appliers if isinstance(k, type)),
        kinds=_kinds(saga),
        deadlines=_deadlines(saga),
        copies_state=not is_immutable(state_class),
        indexed=indexed_fields(saga.name, state_class),
        takes=None if _deadlines(saga) is None else partial(tables.taken, interests),
        retention=checked_retention(saga.name, saga.retention),
    )


def _chooser(saga: ProcessManager[Any]) -> Callable[[Any, Any, Metadata], Handling | None]:
    """By the tables; for a saga with a ``handle`` of its own, by its ``accepts`` if it has one."""
    kind = type(saga)
    if kind.handle is ProcessManager.handle:
        return _chooser_by_tables(saga)
    accepts_all = kind.accepts is ProcessManager.accepts

    def choose(state: Any, event: Any, metadata: Metadata) -> Handling | None:
        if type(event) is TimeoutReached or type(event) is Cancel:
            return _failing_by_default
        if accepts_all or saga.accepts(state, event, metadata):
            return saga.handle
        # Not accepting a failure must not keep it from being compensated.
        return _do_nothing if type(event) is CommandFailed and saga.is_concerned_by(event) else None

    def _failing_by_default(state: Any, event: Any, metadata: Metadata) -> Iterable[Effect] | None:
        effects = saga.handle(state, event, metadata)
        if effects is None and type(event) is TimeoutReached:
            return saga.time_out(event)
        return _give_up(state, event, metadata) if effects is None else effects

    return choose


def _chooser_by_tables(
    saga: ProcessManager[Any],
) -> Callable[[Any, Any, Metadata], Handling | None]:
    """As ``choose``, with one look-up for events that have a single handler without a guard."""
    plain = {
        kind: partial(saga.call, handlers[0])
        for kind, handlers in saga.declarations.handlers.items()
        if len(handlers) == 1 and handlers[0].admits is None and isinstance(kind, type)
    }

    def choose(state: Any, event: Any, metadata: Metadata) -> Handling | None:
        return plain.get(type(event)) or saga.choose(state, event, metadata)

    return choose


def _kinds(saga: type[ProcessManager[Any]]) -> dict[type | str, tuple[VerdictKind, bool]] | None:
    if saga.correlate is not ProcessManager.correlate:
        return None
    return {kind: (one.kind, one.strict) for kind, one in saga.declarations.routes.items()}


def _deadlines(saga: type[ProcessManager[Any]]) -> frozenset[str] | None:
    by_tables = saga.handle is ProcessManager.handle and saga.choose is ProcessManager.choose
    return frozenset(saga.declarations.deadlines) if by_tables else None
