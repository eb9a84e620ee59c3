"""Coroutine workflows that tests share, and what they do: type names begin with "walk-test."."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from perdure import (
    Context,
    CoroutineWorkflow,
    Effects,
    Fixed,
    Job,
    NonRetryable,
    ProcessManager,
    Runtime,
    SagaRef,
    continues,
    message,
    starts,
    step,
    workflow,
)

DAY = timedelta(days=1)


@message(name="walk-test.Set")
class Set:
    """Sets out: the beginning of every walk."""

    id: str
    how: str = ""


@message(name="walk-test.Met")
class Met:
    """An event on the way."""

    id: str
    whom: str = ""


@message(name="walk-test.Passed")
class Passed:
    """Published on the way."""

    id: str
    what: str = ""


@message(name="walk-test.Basket")
class Basket:
    """A result that can be changed."""

    items: list[str]


@message(name="walk-test.Errand")
class Errand:
    id: str


@dataclass
class Trail:
    """What steps did, in this process: keys begun and done, inputs, and what shall go wrong."""

    begun: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    inputs: dict[str, Any] = field(default_factory=dict)
    results: dict[str, Any] = field(default_factory=dict)
    fails: dict[str, str] = field(default_factory=dict)
    """Steps, without instance, that fail for good, and how."""
    times: Counter[str] = field(default_factory=Counter)
    """Steps that fail so many times before they succeed."""

    def walk(self, given: Any, job: Job) -> Any:
        name = job.key.rpartition("/")[2]
        self.begun.append(job.key)
        self.inputs[name] = given
        if name in self.fails:
            raise NonRetryable(self.fails[name])
        if self.times[name] > 0:
            self.times[name] -= 1
            raise ConnectionError(f"{name} cannot be had")
        self.done.append(job.key)
        return self.results.get(name, f"{name} done")


def walked(given: Any, job: Job, trail: Trail) -> Any:
    return trail.walk(given, job)


def steps_of(names: Iterable[str], **options: Any) -> list[Callable[..., Any]]:
    """A step for each name; all note what they do in the resource ``trail``."""
    return [named(name, **options) for name in names]


def named(name: str, is_async: bool = False, **options: Any) -> Callable[..., Any]:
    """A step of this name."""
    options = {"retry": Fixed(1, max_attempts=3), **options}

    @step(name=name, **options)
    def plain(given: Any, job: Job, trail: Trail) -> Any:
        return trail.walk(given, job)

    @step(name=name, **options)
    async def awaited(given: Any, job: Job, trail: Trail) -> Any:
        return trail.walk(given, job)

    return awaited if is_async else plain


def walk(
    body: Callable[[Context, Set], Any],
    steps: str | Iterable[Callable[..., Any]] = "abc",
    name: str = "walk",
    **options: Any,
) -> CoroutineWorkflow:
    """A workflow of this body; ``steps`` may be their names, a letter each."""
    found = steps_of(steps) if isinstance(steps, str) else steps
    return workflow(name, Set, **{"by": "id", "steps": found, "events": {Met: "id"}, **options})(
        body
    )


def runtime_of(
    store: Any, *members: Any, trail: Trail | None = None, clock: Any = None, settings: Any = None
) -> Runtime:
    return Runtime(
        store,
        list(members),
        *([] if settings is None else [settings]),
        resources={"trail": Trail() if trail is None else trail},
        clock=clock,
    )


async def set_out(runtime: Runtime, id: str = "w", how: str = "", name: str = "walk") -> SagaRef:
    """Begin an instance, and let happen what can happen now."""
    ref = runtime.ref(name, id)
    await runtime.send(ref, Set(id, how))
    await runtime.settled()
    return ref


async def standing(runtime: Runtime, ref: SagaRef) -> Mapping[str, str]:
    """How everything that was asked for stands."""
    view = await runtime.state(ref)
    assert view is not None
    return {name: one.status.value for name, one in view.state.operations.items()}


# A child


@dataclass(frozen=True)
class Nothing:
    pass


class Runner(ProcessManager[Nothing]):
    """Ends when it is told to, as it is told to."""

    name = "walk-test.Runner"

    @starts(Errand, by="id")
    def begun(self, state: Nothing, event: Errand, do: Effects) -> None: ...

    @continues(Met, by="id")
    def ends(self, state: Nothing, event: Met, do: Effects) -> None:
        if event.whom == "fail":
            do.fail("lost the way")
        elif event.whom == "message":
            do.complete(Basket(["bread"]))
        else:
            do.complete({"n": 1})
