"""A step of a saga or workflow as a work queue of its own, so that each has what queues have.

Retry, lease, rate, pause, dead letters: a step's are its queue's, named after saga and step. The
user's function stays the plain one it is; what is declared as the worker around it takes the
command, hands the function its input, and makes a message of what it returns. The key that the
function sees is the step's, the same at every attempt and every resumption.
This module knows no saga and no runtime. Next to read: ``ordered_saga.py``, ``workflow_list.py``,
``workflow_coroutine.py``.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import wraps
from typing import Any, Protocol, TypeVar, overload

from perdure.core.commit import OutboxKind
from perdure.errors import DefinitionError
from perdure.queue import WorkQueue
from perdure.worker_signature import Worker, parameters_of

__all__ = ["Keyed", "StepSpec", "spec_of", "step", "step_queue"]


F = TypeVar("F", bound=Callable[..., Any])

_MARK = "__perdure_step__"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,79}")
_RESERVED = "undo"
"""What undoes a step is named so, behind the step's own name: in its queue's name, and its key."""
_OPTIONS = tuple(inspect.signature(WorkQueue).parameters)[1:]


@dataclass(frozen=True, slots=True)
class StepSpec:
    """A function as a step: its name, and how it is performed.

    ``deadline`` bounds all attempts together; ``options`` are those of ``WorkQueue``.
    """

    name: str
    function: Callable[..., Any]
    deadline: timedelta | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@overload
def step(function: F, /) -> F: ...


@overload
def step(
    *, name: str | None = None, deadline: timedelta | None = None, **options: Any
) -> Callable[[F], F]: ...


def step(
    function: Any = None,
    /,
    *,
    name: str | None = None,
    deadline: timedelta | None = None,
    **options: Any,
) -> Any:
    """Say how a function is performed where it is a step; it stays the plain function it is.

        @step(retry=Fixed(30, max_attempts=10), deadline=timedelta(hours=4), concurrency=2)
        async def extract(document: Document, reader: Reader) -> dict[str, str]: ...

    ``name`` is stored (default: the function's), so keep it. ``deadline``: not done so long after
    its start, it has failed. ``options`` are those of ``WorkQueue``: retry, lease_s, concurrency,
    rate, non_retryable, …

    Raises ``DefinitionError``.
    """

    def mark(target: F) -> F:
        spec = spec_of(target, name=name, deadline=deadline, options=options)
        if inspect.ismethod(target):
            raise DefinitionError(
                f"{target!r} belongs to its object", remedy="mark the function in its class"
            )
        setattr(target, _MARK, spec)
        return target

    return mark if function is None else mark(function)


def spec_of(
    function: Any,
    *,
    name: str | None = None,
    deadline: timedelta | None = None,
    options: Mapping[str, Any] | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> StepSpec:
    """What is said here, or by ``step`` on the function, or by default, in this order.

    Raises ``DefinitionError``.
    """
    if not inspect.isfunction(function) and not inspect.ismethod(function):
        raise DefinitionError(f"{function!r} is no function", remedy="give functions as steps")
    marked: StepSpec = getattr(function, _MARK, StepSpec(function.__name__, function))
    called = marked.name if name is None else name
    if not isinstance(called, str) or not _NAME.fullmatch(called) or called == _RESERVED:
        raise DefinitionError(
            f"{called!r} is no name for a step",
            remedy="use up to 80 letters, digits, dashes and underscores, a letter first; "
            f"{_RESERVED!r} is taken",
        )
    deadline = marked.deadline if deadline is None else deadline
    if deadline is not None and (not isinstance(deadline, timedelta) or deadline <= timedelta(0)):
        raise DefinitionError(
            f"step {called!r} has the deadline {deadline!r}", remedy="give a timedelta above zero"
        )
    spec = StepSpec(
        called, function, deadline, {**(defaults or {}), **marked.options, **(options or {})}
    )
    _check(spec)
    return spec


def _check(spec: StepSpec) -> None:
    """The queue that it will be could be made."""
    for option in spec.options:
        if option not in _OPTIONS:
            raise DefinitionError(
                f"step {spec.name!r} has the option {option!r}",
                remedy=f"a work queue has {', '.join(_OPTIONS)}",
            )
    try:
        WorkQueue(spec.name, **spec.options)
        parameters_of(spec.function, spec.name)
    except DefinitionError as error:
        _, _, problem = error.problem.partition(": ")  # it speaks of a queue of that name
        raise DefinitionError(f"step {spec.name!r}: {problem}", remedy=error.remedy) from None


class Keyed(Protocol):
    """The command of a step: it brings the idempotency key."""

    @property
    def key(self) -> str:
        """The same for all attempts at this step of this instance."""
        ...


def step_queue(
    name: str,
    function: Callable[..., Any],
    command: type,
    input_of: Callable[[Any], Any],
    output_of: Callable[[Any, Any], Any],
    **options: Any,
) -> WorkQueue:
    """The queue of a step, with its one worker.

    ``function(input, **given)`` is the user's: it may ask for the ``job``, and for resources by
    their names. ``input_of(command)`` is what it is called with, ``output_of(command, returned)``
    the message that goes back. ``options`` are those of ``WorkQueue``.

    Raises ``DefinitionError``.
    """
    queue = WorkQueue(name, **options)
    job, required, optional = parameters_of(function, name)
    given_job = job or "job"

    def prepare(message: Any, given: dict[str, Any]) -> Any:
        given[given_job].key = message.key
        if job is None:
            del given[given_job]
        return input_of(message)

    queue.workers[command] = Worker(
        function=_around(function, name, prepare, output_of),
        kind=OutboxKind.COMMAND,
        types=(command,),
        is_async=inspect.iscoroutinefunction(function),
        job_parameter=given_job,
        required=required,
        optional=optional,
        returns=None,
        name=getattr(function, "__qualname__", repr(function)).rpartition("<locals>.")[2],
        description=(inspect.getdoc(function) or "").partition("\n")[0],
    )
    return queue


def _around(
    function: Callable[..., Any],
    name: str,
    prepare: Callable[[Any, dict[str, Any]], Any],
    output_of: Callable[[Any, Any], Any],
) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(function):

        @wraps(function)
        async def perform_async(message: Any, **given: Any) -> Any:
            return output_of(message, await function(prepare(message, given), **given))

        return perform_async

    @wraps(function)
    def perform(message: Any, **given: Any) -> Any:
        returned = function(prepare(message, given), **given)
        if inspect.isawaitable(returned):
            raise _not_awaited(name, returned)
        return output_of(message, returned)

    return perform


def _not_awaited(name: str, returned: Any) -> DefinitionError:
    close = getattr(returned, "close", None)
    if close is not None:
        close()
    return DefinitionError(
        f"step {name} returned a coroutine", remedy="declare the function as async def"
    )
