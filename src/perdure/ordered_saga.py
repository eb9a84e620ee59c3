"""The ordered saga: do this, then that; and if it fails, undo what was done, latest first.

    trip = OrderedSaga("travel-booking", Trip, by="trip_id")

    @trip.step(retry=Exponential(1, max_attempts=5))
    async def book_hotel(trip: Trip, job: Job, hotels: Hotels) -> dict[str, str]:
        return {"hotel": await hotels.book(trip.city, key=job.key)}

    @trip.compensates(book_hotel)
    async def cancel_hotel(trip: Trip, hotels: Hotels) -> None:
        await hotels.cancel(trip.hotel)

    async with Runtime("sqlite+aiosqlite:///trips.db", [trip], resources={"hotels": …}) as runtime:
        await runtime.publish(Trip("t-1", "Rome"))
        print(await runtime.result(runtime.ref(trip, "t-1")))

Each step, and each compensation, is a work queue of its own, "travel-booking.book_hotel" and
"travel-booking.book_hotel.undo"; the saga's turns only decide (``core/course.py``). This module
knows no runtime. Next to read: ``steps.py``; ``workflow_list.py``, where nothing is undone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, TypeVar, overload

from perdure.core.plan import Plan, PlannedStep
from perdure.core.retention import Retention, checked_retention
from perdure.core.retry import Exponential
from perdure.core.saga import Definition
from perdure.core.step_events import CompensateStep, PerformStep
from perdure.correlating import By
from perdure.errors import DefinitionError
from perdure.member import Opening
from perdure.ordered_definition import check_data, definition_of
from perdure.queue import WorkQueue
from perdure.step_results import given, results_of
from perdure.steps import StepSpec, spec_of, step_queue

__all__ = ["UNDO_RETRY", "OrderedSaga"]

F = TypeVar("F", bound=Callable[..., Any])

UNDO_RETRY = Exponential(1, max_s=3600, max_attempts=12)
"""How a compensation is tried again, unless it says so itself; after that the saga is stuck."""


@dataclass(slots=True)
class _Declared:
    """A step as it was declared."""

    spec: StepSpec
    after: tuple[Any, ...] | None
    parallel: str | None
    is_pivot: bool
    nothing_to_undo: bool
    unknown: str
    undo: StepSpec | None = None


class OrderedSaga:
    """Steps in an order, each with what undoes it.

        OrderedSaga("travel-booking", Trip, by="trip_id", timeout=timedelta(hours=2))

    ``data`` is a ``@message`` class: an object of it starts an instance, whose id is found by
    ``by``; published, it starts one of each saga that begins with its class. A step returns the
    fields of it that it gives a value, as a mapping, or None; later steps and compensations see
    them. ``timeout``: an instance that has not come past its pivot (or its end) after so long is
    compensated, when the steps at work have ended. ``retention``: see ``Retention``.

    Raises ``DefinitionError``.
    """

    def __init__(
        self,
        name: str,
        data: type,
        *,
        by: By,
        timeout: timedelta | None = None,
        retention: Retention | None = None,
    ) -> None:
        self._name, self._data, self.by, self._timeout = name, data, by, timeout
        self._declared: list[_Declared] = []
        check_data(name, data, by, timeout)
        self._retention = checked_retention(name, retention)

    def __repr__(self) -> str:
        return f"<OrderedSaga {self._name}>"

    @property
    def name(self) -> str:
        """Its name; it is stored, so keep it."""
        return self._name

    @overload
    def step(self, function: F, /, **how: Any) -> F: ...

    @overload
    def step(
        self,
        /,
        *,
        name: str | None = None,
        after: Iterable[Any] | None = None,
        parallel: str | None = None,
        pivot: bool = False,
        nothing_to_undo: bool = False,
        unknown: Literal["retry", "compensate"] = "retry",
        deadline: timedelta | None = None,
        **options: Any,
    ) -> Callable[[F], F]: ...

    def step(
        self,
        function: Any = None,
        /,
        *,
        name: str | None = None,
        after: Iterable[Any] | None = None,
        parallel: str | None = None,
        pivot: bool = False,
        nothing_to_undo: bool = False,
        unknown: Literal["retry", "compensate"] = "retry",
        deadline: timedelta | None = None,
        **options: Any,
    ) -> Any:
        """Declare the next step; the function stays the plain one it is.

            @trip.step(parallel="transport", unknown="compensate", retry=Fixed(5))
            async def book_flight(trip: Trip, job: Job, airline: Airline) -> dict[str, str]: ...

        It comes after all steps declared before it. Consecutive steps of one ``parallel`` group run
        beside each other; ``after`` (functions or names) says outright what must be done before.
        ``pivot``: when this one is done there is no way back; what fails later waits for somebody
        to see to it. ``nothing_to_undo`` must be said of a step without ``@compensates``, unless it
        comes past the pivot. ``unknown``: an attempt of which nobody knows how it ended, since its
        worker died or its lease ran out, is repeated under the same key; if the step then fails for
        good, other than by ``NonRetryable``, the saga is stuck, since it may have had its effect.
        Or, with "compensate", it is not repeated, and the step is undone like one that was done.
        ``deadline`` bounds all attempts together; of one still at work then, nobody knows.
        ``options`` are those of ``WorkQueue``.
        """
        before = self._check_place(after, parallel)
        if unknown not in ("retry", "compensate"):
            raise self._refuse(f"unknown is {unknown!r}", 'give "retry" or "compensate"')

        def declare(target: F) -> F:
            spec = self._spec(target, name=name, deadline=deadline, options=options)
            if "repeat_unknown" in spec.options:
                raise self._refuse(
                    f"step {spec.name!r} has repeat_unknown=", "say it by unknown= instead"
                )
            if any(one.spec.name == spec.name for one in self._declared):
                raise self._refuse(f"two steps are named {spec.name!r}", "give one another name")
            declared = _Declared(spec, before, parallel, pivot, nothing_to_undo, unknown)
            self._declared.append(declared)
            return target

        return declare if function is None else declare(function)

    def compensates(self, step: Any, /, **options: Any) -> Callable[[F], F]:
        """Declare what undoes a step, if it was done; the function stays the plain one it is.

            @trip.compensates(book_hotel, retry=Exponential(5, max_attempts=20))
            async def cancel_hotel(trip: Trip, job: Job, hotels: Hotels) -> Residue | None: ...

        It may return a ``Residue`` (or several), what could not be taken back; or fields of the
        data. It is repeated under one key, the step's with "/undo" behind, until it succeeds; when
        its attempts are used up the saga is stuck until ``runtime.resume``. Of a step that is
        undone because nobody knows whether it was done, there are no results: go by that key.
        """
        declared = self._of(step)
        if declared.undo is not None:
            raise self._refuse(f"step {declared.spec.name!r} has two compensations", "join the two")
        if declared.nothing_to_undo:
            raise self._refuse(
                f"step {declared.spec.name!r} has a compensation, and nothing to undo",
                "leave out nothing_to_undo=True",
            )

        def declare(target: F) -> F:
            declared.undo = self._spec(
                target, name=declared.spec.name, options=options, defaults={"retry": UNDO_RETRY}
            )
            return target

        return declare

    # What the runtime asks

    def definition(self) -> Definition:
        """The kernel's view. Raises ``DefinitionError`` for steps that do not go together."""
        return definition_of(self.plan(), self.by, self._timeout, self._retention)

    def queues(self) -> Sequence[WorkQueue]:
        """One for each step, and for each compensation."""
        found = []
        done, undone = results_of(self.by)
        for one in self._declared:
            input_of = given(self._name, one.spec.name, self._data)
            found.append(
                step_queue(
                    self._queue(one),
                    one.spec.function,
                    PerformStep,
                    input_of,
                    done,
                    repeat_unknown=one.unknown == "retry",
                    **one.spec.options,
                )
            )
            if one.undo is not None:
                found.append(
                    step_queue(
                        f"{self._queue(one)}.undo",
                        one.undo.function,
                        CompensateStep,
                        input_of,
                        undone,
                        **one.undo.options,
                    )
                )
        return found

    def openings(self) -> Iterable[Opening]:
        """None: an instance starts with its data."""
        return ()

    def plan(self) -> Plan:
        """The steps as they follow each other. Raises ``DefinitionError``."""
        after = self._order()
        steps = [
            PlannedStep(
                one.spec.name,
                index,
                self._queue(one),
                after[index],
                "" if one.undo is None else f"{self._queue(one)}.undo",
                one.unknown == "compensate",
                one.is_pivot,
                one.spec.deadline,
            )
            for index, one in enumerate(self._declared)
        ]
        plan = Plan(self._name, self._data, steps)
        for one, planned in zip(self._declared, plan.steps, strict=True):
            self._check_undo(one, plan.may_be_undone(planned))
        return plan

    def _order(self) -> list[tuple[str, ...]]:
        """For each step the names of those right before it: by after=, or all that is last so far.

        What these come after need not be named again, so a long saga is not a dense one.
        """
        found: list[tuple[str, ...]] = []
        last: list[str] = []  # no step so far comes after these
        before: tuple[str, ...] = ()  # what the present group comes after
        groups: dict[str, None] = {}
        current: str | None = None
        for one in self._declared:
            if one.parallel is None or one.parallel != current:
                if one.parallel in groups:
                    raise self._refuse(
                        f"group {one.parallel!r} is interrupted before {one.spec.name!r}",
                        "declare its steps one after another",
                    )
                before = tuple(last)
            current = one.parallel
            if current is not None:
                groups[current] = None
            after = before if one.after is None else tuple(map(self._named, one.after))
            found.append(after)
            last = [*(name for name in last if name not in after), one.spec.name]
        return found

    def _check_place(
        self, after: Iterable[Any] | None, parallel: str | None
    ) -> tuple[Any, ...] | None:
        """What it comes after, if that was said."""
        if parallel is not None and (not isinstance(parallel, str) or not parallel):
            raise self._refuse(f"parallel is {parallel!r}", "name the group")
        if after is None:
            return None
        if parallel is not None:
            raise self._refuse("a step has both after= and parallel=", "give one of them")
        if isinstance(after, str) or not isinstance(after, Iterable):
            raise self._refuse(f"after is {after!r}", "give a list of steps, by function or name")
        return tuple(after)

    def _check_undo(self, one: _Declared, may_be_undone: bool) -> None:
        name = one.spec.name
        if one.undo is None and not one.nothing_to_undo and may_be_undone:
            raise self._refuse(
                f"step {name!r} does not say what undoes it",
                f"declare @….compensates({name}), or nothing_to_undo=True",
            )
        if one.undo is not None and not may_be_undone:
            raise self._refuse(
                f"step {name!r} has a compensation, and is past the way back",
                "leave it out, or make a later step the pivot",
            )
        if one.unknown == "compensate" and one.undo is None:
            raise self._refuse(
                f"step {name!r} is to be compensated if nobody knows how it ended, and nothing "
                "undoes it",
                'leave unknown="retry"' + (", or declare what does" if may_be_undone else ""),
            )

    def _of(self, step: Any) -> _Declared:
        name = self._named(step)
        for one in self._declared:
            if one.spec.name == name:
                return one
        raise self._refuse(f"{name!r} is no step", "declare it before what undoes it")

    def _named(self, step: Any) -> str:
        if isinstance(step, str):
            return step
        names = [one.spec.name for one in self._declared if one.spec.function == step]
        if len(names) > 1:
            raise self._refuse(f"{step!r} is the steps {', '.join(names)}", "give one's name")
        if not names:
            raise self._refuse(f"{step!r} is no step of it", "give a step's function, or its name")
        return names[0]

    def _spec(self, function: Any, **said: Any) -> StepSpec:
        try:
            return spec_of(function, **said)
        except DefinitionError as error:
            raise error.about(self._name) from None

    def _queue(self, one: _Declared) -> str:
        return f"{self._name}.{one.spec.name}"

    def _refuse(self, problem: str, remedy: str) -> DefinitionError:
        return DefinitionError(problem, saga=self._name, remedy=remedy)
