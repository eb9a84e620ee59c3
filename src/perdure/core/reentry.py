"""One re-entry: the coroutine of a workflow from its beginning to where it must wait. Pure.

    coroutine.send(None) ─> an operation ─┬─ has ended ─> the coroutine goes on with its outcome
                                          └─ is open ───> the coroutine is closed; what it asked
                                                          for anew are the effects of the turn

There is no event loop in it: whatever a coroutine awaits is an ``Asked``, and the outcomes it is
given are recorded ones, so each re-entry takes the same way up to where the last one waited.
Outcomes are handed out in the order in which they were recorded, also to the branches of a gather,
and ``now`` is the moment of the last one: nothing that the coroutine is shown differs between two
re-entries. Literature: re-execution with recorded results, as in Temporal and DBOS; but an outcome
is known here by its name, not by its position. Next to read: ``gathered.py``;
``workflow_context.py``, which the coroutine calls.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from datetime import datetime
from types import CoroutineType
from typing import Any, Generic, TypeVar

from perdure.core.described import in_short
from perdure.core.family import Cancel
from perdure.core.progress import Operation, Progress, Standing
from perdure.core.workflow_events import EventTaken, OperationStarted, Published
from perdure.effects import CancelDeadline, Complete, Effect, Fail, Publish, Record, Stuck
from perdure.errors import (
    AskedTwice,
    DefinitionError,
    ForeignAwait,
    WorkflowCancelled,
    WorkflowMistake,
)
from perdure.messages import Metadata

__all__ = ["Asked", "Reentry", "close"]

T = TypeVar("T")

ASKED_MAX = 3_000
"""So much may be asked for anew in one re-entry: a runaway loop is a mistake, not a full store."""

LEAVINGS_MAX = CLOSINGS_MAX = 100
"""So often a coroutine that is closed and goes on awaiting is told again, before it is given up."""


class Asked(Generic[T]):
    """An operation the coroutine has asked for: awaited, it is the operation's outcome.

    It may be awaited several times, and later than it was asked for.
    """

    __slots__ = ("_read", "is_awaited", "name", "reentry")

    def __init__(self, reentry: Reentry, name: str, read: Callable[[Operation], T]) -> None:
        self.reentry = reentry
        self.name = name
        self.is_awaited = False
        self._read = read

    def __repr__(self) -> str:
        return f"<{self.name}>"

    def __await__(self) -> Generator[Asked[Any], None, T]:
        self.is_awaited = True
        self.reentry.leave_if_closing()
        yield self
        operation = self.reentry.outcome_of(self)
        assert operation is not None  # else nobody goes on from here
        if operation.status is Standing.CANCELLED:
            raise WorkflowCancelled(self.reentry.cancelled)
        return self._read(operation)


class Reentry:
    """One pass through the coroutine of an instance, after an event was folded into its progress.

    ``effects`` are what it asked for anew.
    """

    def __init__(
        self, workflow: str, progress: Progress, metadata: Metadata, event: object = None
    ) -> None:
        self.workflow = workflow
        self.instance_id = metadata.instance_id
        self.cancelled = progress.cancelled
        self.is_given_up = type(event) is Cancel and progress.cancelled_nr != metadata.sequence_nr
        """It is cancelled a second time."""
        self.effects: list[Effect] = []
        self.has_abandoned = False
        """Some branch of a gather was left where it was, since another one had failed."""
        self.now: datetime = progress.begun_at or metadata.occurred_at
        self._metadata = metadata
        self._operations = progress.operations
        self._again = progress.again
        self._events = list(progress.events)
        self._asked: dict[str, Asked[Any]] = {}
        self._at_once: dict[str, Operation] = {}
        self._new = 0
        self._mistake: BaseException | None = None
        self._leavings = 0
        self._is_closing = False
        self._is_over = False

    # What the coroutine asks for, by way of its context

    def ask(
        self, name: str, begin: Callable[[], list[Effect]], read: Callable[[Operation], T]
    ) -> Asked[T]:
        """An operation that begins with these effects, unless it has begun in an earlier turn."""
        asked, is_alive = self._first(name, read)
        if is_alive and name not in self._operations:
            self._begin(name, begin)
        return asked

    def take(
        self,
        name: str,
        is_wanted: Callable[[Any], bool],
        begin: Callable[[], list[Effect]],
        read: Callable[[Operation], T],
        awaits: str = "",
    ) -> Asked[T]:
        """The first event that is wanted and that nobody has taken; else wait for one."""
        asked, is_alive = self._first(name, read)
        known = self._operations.get(name)
        if not is_alive or (known is not None and known.status is not Standing.OPEN):
            return asked
        for position, heard in enumerate(self._events):
            if is_wanted(heard.event):
                del self._events[position]
                self._ends_at_once(name, message=heard.event)
                self.effects.append(Record(EventTaken(name, heard.nr)))
                if known is not None:
                    self.effects.append(CancelDeadline(name))
                return asked
        if known is None:
            self._begin(name, begin, awaits)
        return asked

    def publish(self, name: str, made: Callable[[], Any]) -> Asked[None]:
        """Publish the event in this turn, unless that was done in an earlier one."""
        asked, is_alive = self._first(name, _nothing)
        if is_alive and name not in self._operations:
            self._ends_at_once(name)
            self.effects += [Record(Published(name)), Publish(made())]
        return asked

    def refuse(self, mistake: WorkflowMistake) -> WorkflowMistake:
        """The mistake, to be raised: whatever the coroutine makes of it, the instance is stuck."""
        if self._mistake is None and not self._is_closing:
            self._mistake = mistake
        return mistake

    def leave_if_closing(self) -> None:
        """Raise if the coroutine is being closed: what its ``finally`` blocks await is not done."""
        if self._is_closing:
            self._leavings += 1
            if self._leavings <= LEAVINGS_MAX:  # then let it wait: it may be caught in a loop
                raise GeneratorExit

    def outcome_of(self, asked: Asked[Any]) -> Operation | None:
        """How it has ended; None while it is open."""
        found = self._at_once.get(asked.name) or self._operations.get(asked.name)
        return None if found is None or found.status is Standing.OPEN else found

    def _first(self, name: str, read: Callable[[Operation], T]) -> tuple[Asked[T], bool]:
        """The operation, and whether it is asked for by a coroutine that still runs."""
        asked = Asked(self, name, read)
        if self._is_closing:
            return asked, False
        if self._is_over:
            raise WorkflowMistake(
                f"the context of workflow {self.workflow!r} is used after its turn",
                remedy="use it in the coroutine it was given to, and nowhere else",
            )
        if name in self._asked:
            kind, _, called = name.partition("/")
            raise self.refuse(
                AskedTwice(
                    f"{kind} {called!r} is asked for twice",
                    saga=self.workflow,
                    correlation_id=self.instance_id,
                    remedy="give one of them a key=, as in a loop: key=month",
                )
            )
        self._asked[name] = asked
        return asked, True

    def _begin(self, name: str, begin: Callable[[], list[Effect]], awaits: str = "") -> None:
        self.effects += [Record(OperationStarted(name, awaits)), *begin()]
        self._count()

    def _ends_at_once(self, name: str, message: Any = None) -> None:
        at, nr = self._metadata.occurred_at, self._metadata.sequence_nr
        self._at_once[name] = Operation(at, Standing.DONE, nr, at, message)
        self._count()

    def _count(self) -> None:
        self._new += 1
        if self._new > ASKED_MAX:
            raise self._wrong(
                f"more than {ASKED_MAX} operations are asked for in one turn",
                "wait for some before asking for more",
            )

    def again(self, name: str) -> str:
        """What tells the key of an operation that was restarted from the one before; else ""."""
        return f"~{self._again[name]}" if name in self._again else ""

    # Driving it

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> list[Effect]:
        """Let it run to where it must wait; everything that follows from it."""
        with _no_hooks():
            try:
                ending = self._drive(coroutine)
            except BaseException as error:
                ending = self._raised(error)
            with self.closing():
                is_closed = close(coroutine)
        self._is_over = True
        if not is_closed:
            self._wrong("the coroutine cannot be closed", "catch Exception, and not everything")
            self._is_closing = True  # for ever: Python closes it once more when it is forgotten
        if isinstance(ending, Complete) and not self.has_abandoned:
            self._check_awaited()
        self._asked.clear()  # they refer to this, and this to them
        if self._mistake is not None:
            return [self.stuck(self._mistake)]
        return self.effects if ending is None else [*self.effects, ending]

    def stuck(self, why: BaseException) -> Effect:
        """It cannot go on by itself; being given up, it ends there."""
        reason = in_short(why)
        return Fail(f"{self.cancelled} ({reason})") if self.is_given_up else Stuck(reason)

    def _drive(self, coroutine: Coroutine[Any, Any, Any]) -> Effect | None:
        while True:
            try:
                awaited = coroutine.send(None)
            except StopIteration as returned:
                return Complete(returned.value)
            if type(awaited) is not Asked or awaited.reentry is not self:
                raise self.refuse(self._foreign(coroutine, awaited))
            operation = self.outcome_of(awaited)
            if operation is None:
                return None
            assert operation.ended_at is not None
            self.now = max(self.now, operation.ended_at)

    def _raised(self, error: BaseException) -> Effect | None:
        """An error of the process ends it as failed; a mistake in its code leaves it stuck."""
        if isinstance(error, WorkflowCancelled) and self.cancelled:
            return Fail(self.cancelled)
        if isinstance(error, DefinitionError) or not isinstance(error, Exception):
            self._mistake = self._mistake or error
            return None
        why = in_short(error)
        return Fail(f"{why} ({self.cancelled})" if self.cancelled else why)

    def _check_awaited(self) -> None:
        for asked in self._asked.values():
            if not asked.is_awaited:
                self._wrong(f"{asked.name} is asked for and never awaited", "await it")

    def _wrong(self, problem: str, remedy: str) -> WorkflowMistake:
        return self.refuse(
            WorkflowMistake(
                problem, saga=self.workflow, correlation_id=self.instance_id, remedy=remedy
            )
        )

    def _foreign(self, coroutine: Coroutine[Any, Any, Any], awaited: Any) -> ForeignAwait:
        frame = getattr(coroutine, "cr_frame", None)
        line = "" if frame is None else f" in line {frame.f_lineno}"
        what = " > ".join(_chain(coroutine)) or repr(awaited)
        return ForeignAwait(
            f"workflow {self.workflow!r} awaits {what}{line}, which nothing would wake",
            saga=self.workflow,
            correlation_id=self.instance_id,
            remedy="await ctx.step, ctx.sleep, ctx.wait_event, ctx.child or ctx.gather; what waits "
            "for the world outside belongs into a step",
        )

    @contextmanager
    def closing(self) -> Iterator[None]:
        """Coroutines are closed here: nothing that their ``finally`` blocks ask for is done."""
        before, self._is_closing = self._is_closing, True
        try:
            yield
        finally:
            self._is_closing = before


def close(coroutine: Any) -> bool:
    """Close a coroutine, or what awaits in its place; False if it goes on all the same."""
    for _ in range(CLOSINGS_MAX):
        try:
            coroutine.close()
        except RuntimeError:  # it awaits something more; or its own error, and then it is closed
            continue
        except BaseException:  # of its ``finally`` blocks; nothing follows from it
            return True
        return True
    return False


@contextmanager
def _no_hooks() -> Iterator[None]:
    """An async generator in here is closed with what awaits it, not by a loop later on."""
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(None, None)
    try:
        yield
    finally:
        sys.set_asyncgen_hooks(*hooks)


def _chain(coroutine: Any) -> Iterator[str]:
    """The coroutines below the workflow's own, by name: each awaits the next."""
    inner = coroutine.cr_await if isinstance(coroutine, CoroutineType) else None
    while isinstance(inner, CoroutineType):
        yield inner.__qualname__
        inner = inner.cr_await


def _nothing(operation: Operation) -> None:
    return None
