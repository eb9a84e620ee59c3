"""The coroutine form of a workflow: an ``async def`` whose awaits outlive the process.

    @workflow("onboarding", SignedUp, by="user_id", steps=[create_account, send_welcome],
              events={FirstLogin: "user_id"}, timeout=timedelta(days=90))
    async def onboarding(ctx: Context, user: SignedUp) -> Onboarded:
        account = await ctx.step(create_account, user)
        await ctx.step(send_welcome, account)
        await ctx.wait_event(FirstLogin, timeout=timedelta(days=30))
        return Onboarded(user.user_id)

    async with Runtime("sqlite+aiosqlite:///users.db", [onboarding]) as runtime:
        await runtime.publish(SignedUp("u-1"))
        print(await runtime.result(runtime.ref(onboarding, "u-1")))

It is one saga for the kernel. A turn folds its message into the ``Progress`` of the instance, then
runs the coroutine from its beginning with what is recorded, to where it must wait. What it does
between two awaits is done again in every turn: whatever is to happen once belongs into a step.
This module knows no runtime. Literature: durable execution (Temporal, DBOS, Restate). Next to read:
``workflow_context.py``, what the coroutine may ask for; ``core/progress.py``, ``core/reentry.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeAlias

from perdure.core import workflow_events
from perdure.core.consequences import consequences
from perdure.core.correlation import Ignore, Start, VerdictKind, Verdicts
from perdure.core.family import Cancel, ChildEnded
from perdure.core.indexed import indexed_fields
from perdure.core.private import own
from perdure.core.progress import Progress, fold, is_ours
from perdure.core.reentry import Reentry
from perdure.core.retention import Retention, checked_retention
from perdure.core.saga import Definition, Handling, MissingPolicy, Park
from perdure.core.workflow_events import PerformStep, StepDone
from perdure.core.workflow_repairs import WorkflowRepairs
from perdure.correlating import By, EventType
from perdure.effects import CancelChild, Effect, Fail
from perdure.errors import InvalidResult, LimitExceeded, UnknownStep, UnknownType
from perdure.member import Opening
from perdure.messages import CommandFailed, ExternalEvent, Metadata, TypeInfo, kind_of, type_info_of
from perdure.queue import WorkQueue
from perdure.step_results import check_result
from perdure.steps import StepSpec, step_queue
from perdure.workflow_checks import Declared
from perdure.workflow_context import Context, message_or_value
from perdure.workflow_declaration import check_body, check_missing, routes_of, specs_of
from perdure.workflow_source import check_source

__all__ = ["CoroutineWorkflow", "workflow"]

Body: TypeAlias = Callable[[Context, Any], Coroutine[Any, Any, Any]]

EVENTS_MAX = 1_000
"""So many events may wait for the coroutine to take them; further ones are dead letters."""

_TYPES = [getattr(workflow_events, name) for name in workflow_events.__all__]


def workflow(
    name: str,
    begins: type,
    /,
    *,
    by: By,
    steps: Iterable[Callable[..., Any]] = (),
    events: Mapping[EventType, By] | None = None,
    timeout: timedelta | None = None,
    on_missing: MissingPolicy = Park(),  # noqa: B008
    retention: Retention | None = None,
) -> Callable[[Body], CoroutineWorkflow]:
    """Declare a coroutine as a workflow: ``async def f(ctx, message)``.

    An object of ``begins`` starts an instance, whose id is found by ``by``. ``steps`` are the
    functions it may ask for, with ``@step`` where the defaults do not do; each is a work queue of
    its own, "name.step". ``events`` are those it may wait for, each with its own ``by``; what
    comes before there is an instance is treated as ``on_missing`` says. An instance that takes
    longer than ``timeout`` is cancelled, and fails. ``retention`` is how long instances are kept
    after their end.

    The name, and those of the steps, are stored, so keep them. Code may change under running
    instances: what they have done is known by its name. One that has done a step which is not
    declared any more is stuck until it is, and goes on with ``runtime.resume``.

    Raises ``DefinitionError``; ``UnknownStep`` and ``AskedTwice`` for what the source shows.
    """

    def declare(body: Body) -> CoroutineWorkflow:
        return CoroutineWorkflow(
            name,
            body,
            begins,
            by=by,
            steps=steps,
            events={} if events is None else events,
            timeout=timeout,
            on_missing=on_missing,
            retention=retention,
        )

    return declare


class CoroutineWorkflow:
    """A workflow written as a coroutine; made by ``@workflow``."""

    def __init__(
        self,
        name: str,
        body: Body,
        begins: type,
        *,
        by: By,
        steps: Iterable[Callable[..., Any]],
        events: Mapping[EventType, By],
        timeout: timedelta | None,
        on_missing: MissingPolicy,
        retention: Retention | None,
    ) -> None:
        self._routes = routes_of(name, begins, by, events, timeout)
        check_body(name, body)
        check_missing(name, on_missing)
        self._retention = checked_retention(name, retention)
        specs = specs_of(name, steps)
        functions = {spec.function: spec for spec in specs.values()}
        self._declared = Declared(name, specs, functions, frozenset(events))
        check_source(body, self._declared)
        self._name = name
        self._body = body
        self._begins = begins
        self.by: Mapping[EventType, By] = {begins: by, **events}
        """How the instance is found that a message is for."""
        self._timeout = timeout
        self._on_missing = on_missing
        self._queues = [self._queue(spec) for spec in specs.values()]

    def __repr__(self) -> str:
        return f"<workflow {self._name}>"

    @property
    def name(self) -> str:
        """Its name; it is stored, so keep it."""
        return self._name

    @property
    def body(self) -> Body:
        """The coroutine function itself."""
        return self._body

    @property
    def steps(self) -> Mapping[str, StepSpec]:
        """The steps it may ask for, by name."""
        return self._declared.steps

    # What the runtime asks

    def definition(self) -> Definition:
        """The kernel's view."""
        state = type_info_of(Progress)
        return Definition(
            name=self._name,
            state_type=state or TypeInfo(Progress, "Progress"),
            interests=(*self._routes, StepDone),
            initial_state=Progress,
            correlate=self._correlate,
            choose=self._choose,
            apply=fold,
            compensate=_nothing,
            timeout=self._timeout,
            on_missing=self._on_missing,
            types=(*self._classes(), CommandFailed, Cancel, ChildEnded, *_TYPES),
            kinds=self._kinds(),
            is_pure=True,
            salvage=self._salvage,
            repairs=WorkflowRepairs(self._declared.steps, self._by_hand, self._turn),
            indexed=indexed_fields(self._name, self._begins, _getter),
            retention=self._retention,
        )

    def queues(self) -> Sequence[WorkQueue]:
        """One for each step."""
        return self._queues

    def openings(self) -> Iterable[Opening]:
        """None: an instance starts with its message."""
        return ()

    def _classes(self) -> list[type]:
        return [kind for kind in self._routes if isinstance(kind, type)]

    def _kinds(self) -> dict[type | str, tuple[VerdictKind, bool]]:
        found: dict[type | str, tuple[VerdictKind, bool]] = {
            kind: (VerdictKind.START if verdict is Start else VerdictKind.CONTINUE, False)
            for kind, (verdict, _) in self._routes.items()
        }
        return {**found, StepDone: (VerdictKind.CONTINUE, False)}

    def _queue(self, spec: StepSpec) -> WorkQueue:
        return step_queue(
            f"{self._name}.{spec.name}",
            spec.function,
            PerformStep,
            _input_of,
            _done,
            **spec.options,
        )

    # What the kernel asks

    def _correlate(self, event: Any, metadata: Metadata) -> Verdicts:
        kind = kind_of(event)
        if kind not in self._routes:
            return Ignore
        verdict, key = self._routes[kind]
        found = key(event, metadata)
        return [verdict(one) for one in found] if isinstance(found, list) else verdict(found)

    def _choose(self, progress: Progress, event: Any, metadata: Metadata) -> Handling | None:
        if is_ours(event):
            return None if progress.input is None else self._turn
        is_beginning = type(event) is self._begins
        if is_beginning or progress.input is None:
            return self._turn if is_beginning and progress.input is None else None
        if len(progress.events) >= EVENTS_MAX:
            raise LimitExceeded(
                f"{EVENTS_MAX} events wait for the workflow to take them",
                remedy="let it wait for them, or do not declare them",
            )
        return self._turn

    def _turn(self, progress: Progress, event: Any, metadata: Metadata) -> Iterable[Effect]:
        """What follows from a message that was folded into the progress."""
        followed = consequences(progress, event, metadata.sequence_nr)
        entry = Reentry(self._name, progress, metadata, event)
        changed = self._changed(progress)
        if changed is not None:
            return [*followed, entry.stuck(changed)]
        context = Context(entry, self._declared)
        effects = entry.run(self._body(context, own(progress.input)))
        if effects and isinstance(effects[-1], Fail):  # the kernel cancels the children of one
            followed = [one for one in followed if not isinstance(one, CancelChild)]
        return [*followed, *effects]

    def _salvage(
        self, progress: Progress, event: Any, metadata: Metadata, error: Exception
    ) -> Iterable[Effect]:
        """Something the coroutine asked for cannot be stored, or cannot be sent."""
        entry = Reentry(self._name, progress, metadata, event)
        return [*consequences(progress, event, metadata.sequence_nr), entry.stuck(error)]

    def _by_hand(self, command: PerformStep, result: Any) -> StepDone:
        """The end of a step that somebody has done. Raises ``InvalidResult``."""
        check_result(self._declared.steps[command.step].function, command.step, result)
        return _done(command, result)

    def _changed(self, progress: Progress) -> UnknownStep | None:
        """What the instance has done and the present declaration does not know."""
        if type(progress.input) is not self._begins:
            return self._unknown(f"it began with a {_type_of(progress.input)}, which is not")
        for name, operation in progress.operations.items():
            kind, _, called = name.partition("/")
            step = called.partition(":")[0]
            if kind == "step" and step not in self._declared.steps:
                return self._unknown(f"step {step!r}, which is {operation.status}, is not")
        return None

    def _unknown(self, what: str) -> UnknownStep:
        return UnknownStep(
            f"{what} in the declaration of workflow {self._name!r} any more",
            remedy="put it back, then `await runtime.resume`",
        )


def _input_of(command: PerformStep) -> Any:
    if type(command.message) is ExternalEvent:
        raise UnknownType(
            f"step {command.step!r} is called with a {command.message.type}, of which there is no "
            "class here",
            remedy="import the module that defines it",
        )
    return command.value if command.message is None else command.message


def _done(command: PerformStep, returned: Any) -> StepDone:
    """A step's end, with a copy of its own of the result. Raises ``InvalidResult``."""
    if type(returned) is ExternalEvent:
        raise InvalidResult(
            f"step {command.step!r} returned an ExternalEvent", remedy="return an object of a class"
        )
    try:
        message, value = message_or_value(own(returned))
    except Exception as error:
        raise InvalidResult(
            f"step {command.step!r} returned what cannot be kept: {error}",
            remedy="return a message, or a plain value",
        ) from error
    return StepDone(command.operation, message, value)


def _type_of(message: Any) -> str:
    return message.type if type(message) is ExternalEvent else type(message).__name__


def _getter(name: str) -> Callable[[Progress], Any]:
    return lambda progress: getattr(progress.input, name, None)


def _nothing(state: Any, failed_command: Any) -> None:
    """The coroutine says itself what it does about a step that failed."""
