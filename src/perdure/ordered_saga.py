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
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal, TypeVar

from perdure.core.plan import Plan, PlannedStep
from perdure.core.retry import Exponential
from perdure.core.saga import Definition
from perdure.core.step_events import CompensateStep, PerformStep
from perdure.correlating import By
from perdure.errors import DefinitionError
from perdure.member import Opening
from perdure.ordered_definition import check_data, definition_of
from perdure.queue import WorkQueue
from perdure.step_results import compensated, completed
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
    before: list[str] = field(default_factory=list)


class OrderedSaga:
    """Steps in an order, each with what undoes it.

        OrderedSaga("travel-booking", Trip, by="trip_id", timeout=timedelta(hours=2))

    ``data`` is a ``@message`` class: an object of it starts an instance, whose id is found by
    ``by``. A step returns the fields of it that it gives a value, as a mapping, or None; later
    steps and compensations see them. ``timeout``: an instance that has not come past its pivot (or
    its end) after so long is compensated.

    Raises ``DefinitionError``.
    """

    def __init__(self, name: str, data: type, *, by: By, timeout: timedelta | None = None) -> None:
        self._name = name
        self._data = data
        self._by = by
        self._timeout = timeout
        self._declared: list[_Declared] = []
        check_data(name, data, by, timeout)

    def __repr__(self) -> str:
        return f"<OrderedSaga {self._name}>"

    @property
    def name(self) -> str:
        """Its name; it is stored, so keep it."""
        return self._name

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
        worker died, is repeated under the same key, or the step is undone like one that was done.
        ``deadline`` bounds all attempts together. ``options`` are those of ``WorkQueue``.
        """
        groups = (parallel is None) + (after is None)
        if not groups:
            raise self._refuse("a step has both after= and parallel=", "give one of them")
        if parallel is not None and (not isinstance(parallel, str) or not parallel):
            raise self._refuse(f"parallel is {parallel!r}", "name the group")
        if unknown not in ("retry", "compensate"):
            raise self._refuse(f"unknown is {unknown!r}", 'give "retry" or "compensate"')

        def declare(target: F) -> F:
            spec = self._spec(target, name, deadline, options)
            declared = _Declared(
                spec,
                None if after is None else tuple(after),
                parallel,
                pivot,
                nothing_to_undo,
                unknown,
            )
            self._declared.append(declared)
            return target

        return declare if function is None else declare(function)

    def compensates(
        self, step: Any, /, *, name: str | None = None, **options: Any
    ) -> Callable[[F], F]:
        """Declare what undoes a step, if it was done; the function stays the plain one it is.

            @trip.compensates(book_hotel, retry=Exponential(5, max_attempts=20))
            async def cancel_hotel(trip: Trip, job: Job, hotels: Hotels) -> Residue | None: ...

        It may return a ``Residue`` (or several), what could not be taken back; or fields of the
        data. It is repeated under one key until it succeeds; when its attempts are used up the saga
        is stuck until ``runtime.resume``.
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
            declared.undo = self._spec(target, name, None, {"retry": UNDO_RETRY, **options})
            return target

        return declare

    # What the runtime asks

    def definition(self) -> Definition:
        """The kernel's view. Raises ``DefinitionError`` for steps that do not go together."""
        return definition_of(self.plan(), self._data, self._by, self._timeout)

    def queues(self) -> Sequence[WorkQueue]:
        """One for each step, and for each compensation."""
        found = []
        for one in self._declared:
            found.append(
                step_queue(
                    self._queue(one),
                    one.spec.function,
                    PerformStep,
                    lambda command: command.data,
                    completed,
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
                        lambda command: command.data,
                        compensated,
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
        plan = Plan(
            self._name,
            [
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
            ],
        )
        for one, planned in zip(self._declared, plan.steps, strict=True):
            self._check_undo(one, plan.may_be_undone(planned))
        return plan

    def _order(self) -> list[tuple[str, ...]]:
        """For each step the names of those before it: by after=, or all so far, but its group.

        Of all so far those are enough that no other one of them comes after.
        """
        found: list[tuple[str, ...]] = []
        last: list[str] = []  # of all so far, those that nothing comes after
        before: tuple[str, ...] = ()  # what the present group comes after
        groups: set[str] = set()
        current: str | None = None
        for one in self._declared:
            if one.parallel is None or one.parallel != current:
                if one.parallel in groups:
                    raise self._refuse(
                        f"group {one.parallel!r} is interrupted",
                        "declare its steps one after another",
                    )
                before = tuple(last)
            current = one.parallel
            groups |= {one.parallel} if one.parallel else set()
            names = before if one.after is None else tuple(map(self._named, one.after))
            found.append(names)
            last = [*(name for name in last if name not in names), one.spec.name]
        return found

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
                f"step {name!r} is to be compensated if nobody knows how it ended, and does not "
                "say what undoes it",
                'declare its compensation, or leave unknown="retry"',
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
        for one in self._declared:
            if one.spec.function is step:
                return one.spec.name
        raise self._refuse(f"{step!r} is no step of it", "give a step's function, or its name")

    def _spec(
        self, function: Any, name: str | None, deadline: timedelta | None, options: dict[str, Any]
    ) -> StepSpec:
        try:
            return spec_of(function, name=name, deadline=deadline, options=options)
        except DefinitionError as error:
            raise error.about(self._name) from None

    def _queue(self, one: _Declared) -> str:
        return f"{self._name}.{one.spec.name}"

    def _refuse(self, problem: str, remedy: str) -> DefinitionError:
        return DefinitionError(problem, saga=self._name, remedy=remedy)
