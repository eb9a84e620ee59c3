"""Mistakes of one line each, to be planted in the runtime of a life: the sweep has to find them.

A mutant that is found no more, or cannot be planted any more, says that the sweep has rotted. They
are planted by compiling a function anew with the line replaced: for good in a forked process, for a
while in the simulation (``tests/simulation/mutants.py``, which has more of them).
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest import mock

from perdure.core import course
from perdure.core.commit import Settlement
from perdure.runtime.instances import saga_actor
from perdure.runtime.instances.saga_actor import SagaActor
from perdure.runtime.instances.wakeups import Wakeups
from perdure.runtime.jobs.telling import Telling
from perdure.runtime.jobs.workers import Workers
from perdure.store import sql_write

__all__ = ["MUTANTS", "Mutant"]


class Mutant(NamedTuple):
    """In this function of a class or module, this text becomes that one."""

    owner: Any
    function: str
    text: str
    becomes: str

    def plant(self) -> None:
        """In this process, for good."""
        setattr(self.owner, self.function, self._mistaken())

    @contextmanager
    def planted(self) -> Iterator[None]:
        """In this process, for as long as the block lasts."""
        with mock.patch.object(self.owner, self.function, self._mistaken()):
            yield

    def _mistaken(self) -> Callable[..., Any]:
        original: Callable[..., Any] = getattr(self.owner, self.function)
        source = textwrap.dedent(inspect.getsource(original))
        if source.count(self.text) != 1:
            raise LookupError(f"{self.function} has not one {self.text!r}: plant it elsewhere")
        found: dict[str, Any] = {}
        names = {**original.__globals__, "Settlement": Settlement}
        exec(compile(source.replace(self.text, self.becomes), "<mutant>", "exec"), names, found)
        mistaken: Callable[..., Any] = found[self.function]
        return mistaken


_ANSWER = (
    "delivery.future and not delivery.future.done() and delivery.future.set_result("
    "delivery._receipt(pending.turn.outcome, pending.turn.after.sequence_nr,"
    " pending.turn.reply_value, False)); "
)
_FORGET = (
    "import sqlite3; db = sqlite3.connect(self._services.store.path, isolation_level=None);"
    " db.execute('DELETE FROM deadlines WHERE instance=? AND name=?', (row.instance, row.name));"
    " db.close(); "
)
_DELIVER = "delivery = self.deadline(definition, row)"

MUTANTS = {
    "acknowledged before the commit": Mutant(
        SagaActor, "submit", "self.write(pending)", f"{_ANSWER}self.write(pending)"
    ),
    "dispatched before the commit": Mutant(
        SagaActor, "submit", "self.write(pending)",
        "self.supervisor.dispatcher.committed(pending.turn.outgoing); self.write(pending)",
    ),
    "repeated messages are new ones": Mutant(
        SagaActor, "_receive", "if self._is_known(envelope):", "if False:"
    ),
    "journal and outbox in two transactions": Mutant(
        sql_write, "_apply", "untouched, others = ",
        "connection.execute('COMMIT'); connection.execute('BEGIN IMMEDIATE');"
        " failpoints.reach(Point.WRITING); untouched, others = ",
    ),
    "job deleted before the turn of its result": Mutant(
        Telling, "deliver", "self.admit(delivery)",
        "self._ends.close(row, Settlement(row.instance, job=row.position)); self.admit(delivery)",
    ),
    "job deleted when it begins": Mutant(
        Workers, "_call", "failpoints.reach(Point.JOB_BEGINS)",
        "row = attempt.row; self._settling.close(row, Settlement(row.instance, job=row.position));"
        " failpoints.reach(Point.JOB_BEGINS)",
    ),
    "deadline deleted before its turn": Mutant(
        Wakeups, "_fire_deadline", _DELIVER, f"{_FORGET}{_DELIVER}"
    ),
    "deadlines are not read at the start": Mutant(
        Wakeups, "start", "await self._deadlines.start()", "pass"
    ),
    "snapshot of the turn after": Mutant(
        saga_actor, "snapshot", "row = SnapshotRow(actor.key, instance.sequence_nr, body)",
        "row = SnapshotRow(actor.key, instance.sequence_nr + 1, body)",
    ),
    "undone in the order in which it was done": Mutant(
        course, "_backward", "in reversed(state.completed)", "in state.completed"
    ),
}  # fmt: skip
"""By what is wrong then."""
