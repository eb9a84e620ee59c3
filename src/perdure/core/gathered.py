"""Several awaitables of a workflow beside each other: operations, or coroutines that await them.

The branches go on in the order in which what they wait for was recorded to have ended, whoever was
asked first: in every re-entry the same one goes before the other, and what they share is changed
in the same order. Pure. Next to read: ``reentry.py``.
"""

from __future__ import annotations

import inspect
from collections.abc import Coroutine, Generator
from heapq import heappop, heappush
from math import inf
from typing import Any

from perdure.core.reentry import Asked, Reentry, close
from perdure.errors import WorkflowMistake

__all__ = ["Gathered"]


class Gathered:
    """Awaited, it is the list of what the branches came to, in the order they were given.

    The first failure is raised as soon as it is known; the other branches go no further then,
    though what they have asked for is not taken back. With ``return_exceptions`` failures are
    among the results.
    """

    __slots__ = ("_branches", "_reentry", "_return_exceptions", "is_awaited")

    def __init__(
        self, reentry: Reentry, branches: tuple[Any, ...], return_exceptions: bool
    ) -> None:
        for branch in branches:
            if not isinstance(branch, (Asked, Gathered, Coroutine)):
                raise reentry.refuse(
                    WorkflowMistake(
                        f"workflow {reentry.workflow!r} gathers {branch!r}",
                        remedy="give what the context's methods return, or coroutines that await "
                        "such",
                    )
                )
        self._reentry = reentry
        self._branches = branches
        self._return_exceptions = return_exceptions
        self.is_awaited = False

    def __await__(self) -> Generator[Any, None, list[Any]]:
        self.is_awaited = True
        for one in self._branches:
            if not isinstance(one, Coroutine):
                one.is_awaited = True  # also if another fails first
        branches = [_Branch(one, self._return_exceptions) for one in self._branches]
        waiting: list[tuple[float, int]] = []
        try:
            for number, branch in enumerate(branches):
                branch.go_on()
                self._queue(waiting, number, branch)
            while waiting:
                _, number = heappop(waiting)
                branch = branches[number]
                yield branch.awaits
                branch.go_on()
                self._queue(waiting, number, branch)
        finally:
            self._close([branch for branch in branches if not branch.is_over])
        return [branch.result for branch in branches]

    def _queue(self, waiting: list[tuple[float, int]], number: int, branch: _Branch) -> None:
        if not branch.is_over:
            heappush(waiting, (self._order(branch.awaits), number))

    def _order(self, awaited: Any) -> float:
        """When it has ended, as a turn's number; what is foreign comes first, to be found out."""
        if type(awaited) is not Asked:
            return -inf
        operation = self._reentry.outcome_of(awaited)
        return inf if operation is None else operation.ended_nr

    def _close(self, branches: list[_Branch]) -> None:
        if branches:
            self._reentry.has_abandoned = True
        with self._reentry.closing():
            for branch in branches:
                branch.close()


class _Branch:
    """One awaitable, driven by hand."""

    __slots__ = ("_awaitable", "_iterator", "_keeps_failures", "awaits", "is_over", "result")

    def __init__(self, awaitable: Any, keeps_failures: bool) -> None:
        self._awaitable = awaitable
        self._iterator: Any = None
        self._keeps_failures = keeps_failures
        self.awaits: Any = None
        self.is_over = False
        self.result: Any = None

    def go_on(self) -> None:
        """To where it waits next, or to its end. Raises what it raises, unless that is kept."""
        if self._iterator is None:
            self._iterator = self._awaitable.__await__()
        try:
            self.awaits = self._iterator.send(None)
        except StopIteration as returned:
            self.is_over, self.result = True, returned.value
        except Exception as error:
            self.is_over, self.result = True, error
            if not self._keeps_failures:
                raise

    def close(self) -> None:
        """Leave it where it is; one that has not begun has nothing to leave."""
        if self._iterator is not None:
            close(self._iterator)
        elif inspect.iscoroutine(self._awaitable):
            self._awaitable.close()
