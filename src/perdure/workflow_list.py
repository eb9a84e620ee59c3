"""The workflow: a list of named steps, with a checkpoint before and after each.

    documents = Workflow("document-processing", Document, by="document_id",
                         steps=[upload, validate, extract, analyse, summarise])

    async with Runtime("sqlite+aiosqlite:///documents.db", [documents]) as runtime:
        await runtime.publish(Document("d-1", "report.txt"))
        print(await runtime.result(runtime.ref(documents, "d-1")))

It is an ordered saga without a way back: what was done stays done, a crash resumes behind the last
checkpoint, and when a step has failed for good the instance is *stuck* there, keeps its data, and
goes on with ``runtime.resume``. This module knows no runtime. Literature: the checkpointing
workflow engine of "Durable Execution Patterns". Next to read: ``ordered_saga.py``, ``steps.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import Any

from perdure.core.plan import Plan, PlannedStep
from perdure.core.retention import Retention, checked_retention
from perdure.core.saga import Definition
from perdure.core.step_events import PerformStep
from perdure.correlating import By
from perdure.errors import DefinitionError
from perdure.member import Opening
from perdure.ordered_definition import check_data, definition_of
from perdure.queue import WorkQueue
from perdure.step_results import given, results_of
from perdure.steps import spec_of, step_queue

__all__ = ["Workflow"]


class Workflow:
    """Steps that are performed one after another, each from the last good checkpoint.

    ``data`` is a ``@message`` class: an object of it starts an instance, whose id is found by
    ``by``. ``steps`` are plain functions or coroutines, with ``@step`` where the defaults do not
    do; each is called with the data, returns the fields of it that it gives a value, or None, and
    is a work queue of its own, "name.step". ``timeout``: an instance that takes longer fails.
    ``retention``: how long instances are kept after their end.

    Raises ``DefinitionError``.
    """

    def __init__(
        self,
        name: str,
        data: type,
        *,
        by: By,
        steps: Iterable[Callable[..., Any]],
        timeout: timedelta | None = None,
        retention: Retention | None = None,
    ) -> None:
        check_data(name, data, by, timeout)
        self._retention = checked_retention(name, retention)
        self._name = name
        self._data = data
        self.by = by
        self._timeout = timeout
        if not isinstance(steps, Iterable):
            raise DefinitionError(f"steps is {steps!r}", saga=name, remedy="give a list of them")
        try:
            self._specs = [spec_of(one) for one in steps]
        except DefinitionError as error:
            raise error.about(name) from None
        self.plan()  # what is wrong with it is said here

    def __repr__(self) -> str:
        return f"<Workflow {self._name}>"

    @property
    def name(self) -> str:
        """Its name; it is stored, so keep it."""
        return self._name

    def definition(self) -> Definition:
        """The kernel's view."""
        return definition_of(self.plan(), self.by, self._timeout, self._retention)

    def plan(self) -> Plan:
        """The steps as they follow each other."""
        names = [spec.name for spec in self._specs]
        steps = [
            PlannedStep(
                spec.name,
                index,
                f"{self._name}.{spec.name}",
                tuple(names[max(index - 1, 0) : index]),
                deadline=spec.deadline,
            )
            for index, spec in enumerate(self._specs)
        ]
        return Plan(self._name, self._data, steps, forward_only=True)

    def queues(self) -> Sequence[WorkQueue]:
        """One for each step."""
        done, _ = results_of(self.by)
        return [
            step_queue(
                f"{self._name}.{spec.name}",
                spec.function,
                PerformStep,
                given(self._name, spec.name, self._data),
                done,
                **spec.options,
            )
            for spec in self._specs
        ]

    def openings(self) -> Iterable[Opening]:
        """None: an instance starts with its data."""
        return ()
