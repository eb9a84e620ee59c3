"""What a worker's signature says: which messages it takes, what it is given, what it returns.

Read once, when the worker is declared; whatever could not work is refused there, by the name of
queue and function. This module calls nothing. Next to read: ``queue.py``.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Never, NewType, NoReturn, TypeVar, Union, get_args, get_origin

from perdure.core.commit import OutboxKind
from perdure.errors import DefinitionError
from perdure.job import Job
from perdure.messages import ExternalEvent, type_info_of

__all__ = ["GivenByName", "Worker", "parameters_of", "worker_of"]

_WORDS = {OutboxKind.COMMAND: ("command", "commands"), OutboxKind.EVENT: ("event", "events")}


@dataclass(frozen=True, slots=True)
class Worker:
    """A function that performs the messages of some classes.

    It is called as ``function(message, **given)``: with the job under the name ``job_parameter``
    (None: it wants none), and resources by the names of its other parameters, of which only the
    ``optional`` ones may be missing. ``returns`` are the classes it may return (``NoneType`` for
    None); None: not stated. ``description`` is the first line of its docstring.
    """

    function: Callable[..., Any]
    kind: OutboxKind
    types: tuple[type, ...]
    is_async: bool
    job_parameter: str | None
    required: tuple[str, ...]
    optional: tuple[str, ...]
    returns: tuple[type, ...] | None
    name: str
    description: str


class GivenByName(NamedTuple):
    """The parameter for the job (None: it wants none), resources, and those that may be missing."""

    job: str | None
    required: tuple[str, ...]
    optional: tuple[str, ...]


def worker_of(
    function: Callable[..., Any],
    kind: OutboxKind,
    queue: str,
    classes: Iterable[type] | None,
    local_names: Mapping[str, Any],
) -> Worker:
    """The worker that a function is, by its signature; ``classes`` if they were given outright.

    ``local_names`` are those where the function was defined. Raises ``DefinitionError``.
    """
    reading = _Reading(function, kind, queue, local_names)
    first, *others = reading.parameters()
    job, required, optional = reading.given_by_name(others)
    return Worker(
        function=function,
        kind=kind,
        types=reading.given(classes) if classes is not None else reading.taken_by(first),
        is_async=inspect.iscoroutinefunction(function),
        job_parameter=job,
        required=required,
        optional=optional,
        returns=reading.returned(),
        name=reading.name,
        description=(inspect.getdoc(function) or "").partition("\n")[0],
    )


def parameters_of(function: Callable[..., Any], queue: str) -> GivenByName:
    """What a function takes beside its first parameter. Raises ``DefinitionError``."""
    reading = _Reading(function, OutboxKind.COMMAND, queue, {})
    return reading.given_by_name(reading.parameters()[1:])


class _Reading:
    """One function's signature, and how errors call it."""

    def __init__(
        self,
        function: Callable[..., Any],
        kind: OutboxKind,
        queue: str,
        local_names: Mapping[str, Any],
    ) -> None:
        self.function = function
        self.word, self.option = _WORDS[kind]
        self.queue = queue
        self.local_names = local_names
        self.name = getattr(function, "__qualname__", repr(function)).rpartition("<locals>.")[2]

    def refuse(self, problem: str, remedy: str) -> DefinitionError:
        return DefinitionError(
            f"worker {self.name} of queue {self.queue!r}: {problem}", remedy=remedy
        )

    def parameters(self) -> list[inspect.Parameter]:
        """The parameters: the message, then those that are given by their names."""
        function = self.function
        if not (inspect.isfunction(function) or inspect.ismethod(function)):
            raise self.refuse("it is no function", "decorate a def or an async def")
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise self.refuse(
                "it yields", "return one message, and hand out others with job.emit(...)"
            )
        found = list(inspect.signature(function).parameters.values())
        if not found or found[0].kind not in _POSITIONAL:
            raise self.refuse(
                f"it has no first parameter for the {self.word}",
                f"as def {function.__name__}(command: SomeCommand, job: Job)",
            )
        for one in found[1:]:
            if one.kind not in _BY_NAME:
                raise self.refuse(
                    f"the parameter {one} cannot be given by its name", "name each resource"
                )
        return found

    def given_by_name(self, parameters: list[inspect.Parameter]) -> GivenByName:
        """What a worker is given beside its message."""
        job, rest = self.job_among(parameters)
        empty = inspect.Parameter.empty
        return GivenByName(
            job,
            tuple(one.name for one in rest if one.default is empty),
            tuple(one.name for one in rest if one.default is not empty),
        )

    def job_among(
        self, parameters: list[inspect.Parameter]
    ) -> tuple[str | None, list[inspect.Parameter]]:
        """The parameter that is called ``job`` or annotated so, and the others."""
        jobs = [one for one in parameters if one.name == "job" or self._is_job(one.annotation)]
        if len(jobs) > 1:
            raise self.refuse(
                f"the parameters {' and '.join(one.name for one in jobs)} both stand for the job",
                "keep one of them",
            )
        rest = [one for one in parameters if one not in jobs]
        return (jobs[0].name if jobs else None), rest

    def _is_job(self, annotation: Any) -> bool:
        try:
            return Job in _members(self._resolved(annotation))
        except Exception:  # a resource's annotation is nobody's business here
            return False

    def given(self, classes: Iterable[type]) -> tuple[type, ...]:
        """The classes of ``commands=`` or ``events=``."""
        if isinstance(classes, type | str) or not isinstance(classes, typing.Iterable):
            raise self.refuse(f"{self.option}={classes!r}", f"as {self.option}=[SomeMessage]")
        found = tuple(dict.fromkeys(classes))
        if not found:
            raise self.refuse(
                f"{self.option} is empty", f"name the classes, or leave {self.option} out"
            )
        return self._messages(found)

    def taken_by(self, first: inspect.Parameter) -> tuple[type, ...]:
        """The classes in the annotation of the first parameter."""
        if first.annotation is inspect.Parameter.empty and first.name in ("self", "cls"):
            raise self.refuse(
                f"its first parameter is {first.name!r}: nobody would give it its object",
                "make it a plain function, or declare the method of an object, as "
                f"queue.worker(shop.{self.function.__name__})",
            )
        if first.annotation is inspect.Parameter.empty:
            raise self.refuse(
                f"its first parameter {first.name!r} has no annotation",
                f"annotate it with the {self.word}'s class, or give {self.option}=[...]",
            )
        return self._messages(_members(self._annotated(first.name, first.annotation)))

    def returned(self) -> tuple[type, ...] | None:
        """The classes in the return annotation; None if it is missing or open."""
        annotation = inspect.signature(self.function).return_annotation
        if annotation is inspect.Signature.empty:
            return None
        members = _members(self._annotated("return", annotation))
        if any(_is_open(one) for one in members):
            return None
        for one in members:
            if not (_is_message(one) or one in (types.NoneType, ExternalEvent)):
                raise self.refuse(
                    f"it returns {_named(one)}, which is no message class",
                    "mark the class with @message, or return None",
                )
        return members

    def _messages(self, members: tuple[Any, ...]) -> tuple[type, ...]:
        for one in members:
            if one is Job:
                raise self.refuse(
                    f"Job is where the {self.word} is to be",
                    f"put the {self.word} first, as ({self.word}: SomeMessage, job: Job)",
                )
            if one is types.NoneType:
                raise self.refuse(
                    "NoneType is no message class",
                    f"leave None out: a worker is always given a message of its {self.option}",
                )
            if not _is_message(one):
                raise self.refuse(
                    f"{_named(one)} is no message class",
                    f"mark the {self.word}'s class with @message",
                )
        return members

    def _annotated(self, where: str, annotation: Any) -> Any:
        try:
            return self._resolved(annotation)
        except Exception as error:
            by_hand = f"or give {self.option}=[...] in place of the annotation"
            raise self.refuse(
                f"its annotation {where}: {annotation} cannot be resolved ({error})",
                "import the name where the worker is defined, not only for type checkers"
                + (f", {by_hand}" if where != "return" else ", or leave it out"),
            ) from error

    def _resolved(self, annotation: Any) -> Any:
        """One annotation by itself: another one that cannot be resolved is no reason to refuse."""

        def holder() -> None: ...

        holder.__annotations__ = {"it": annotation}
        names = getattr(inspect.unwrap(self.function), "__globals__", {})
        return typing.get_type_hints(holder, names, dict(self.local_names))["it"]


_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_BY_NAME = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def _members(annotation: Any) -> tuple[Any, ...]:
    """What a union consists of, in order; anything else by itself."""
    if hasattr(annotation, "__value__"):  # type X = ..., of Python 3.12
        return _members(annotation.__value__)
    if get_origin(annotation) in (Union, types.UnionType):
        found = (member for one in get_args(annotation) for member in _members(one))
        return tuple(dict.fromkeys(found))
    if annotation in (None, Never, NoReturn):
        return (types.NoneType,)
    return (annotation,)


def _is_open(annotation: Any) -> bool:
    return annotation in (Any, object) or isinstance(annotation, TypeVar | NewType)


def _is_message(one: Any) -> bool:
    return isinstance(one, type) and type_info_of(one) is not None


def _named(one: Any) -> str:
    return one.__name__ if isinstance(one, type) else str(one)
