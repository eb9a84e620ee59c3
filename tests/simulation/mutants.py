"""Mistakes of one line each that the simulation has to find, the kill sweep's among them.

A mutant that is found no more, or cannot be planted any more, says that the simulation has rotted.
Each has the story in which it shows, and a seed that is known to show it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple
from unittest import mock

from perdure.core import course
from perdure.core.retention import Retention
from perdure.core.work import QueueState
from perdure.runtime.instances import saga_actor
from perdure.runtime.instances.holding import Aside
from perdure.runtime.instances.pending import Pending
from perdure.runtime.instances.quarantine import Quarantine
from perdure.runtime.instances.saga_actor import SagaActor
from perdure.runtime.instances.supervisor import Supervisor
from perdure.runtime.instances.timers import Timer
from perdure.runtime.instances.wakeups import Wakeups
from perdure.runtime.jobs.attempt import Attempt
from perdure.runtime.jobs.dispatcher import Dispatcher
from perdure.runtime.jobs.settling import Settling
from perdure.runtime.jobs.telling import Telling
from perdure.runtime.jobs.workers import Workers
from perdure.runtime.repair.measures import Measure
from perdure.runtime.repair.seizing import Seizing
from perdure.runtime.retention import purge_pieces
from perdure.runtime.retention.purge_entries import Mail
from perdure.runtime.retention.purge_writing import PurgeWriting
from perdure.runtime.retention.purging import Purging
from perdure.store import sql_write
from perdure.store.changes import Changes
from perdure.testing import Simulation
from perdure.testing.simulation import machine, rest
from perdure.testing.simulation.run import Outcome
from tests.survival.mutants import MUTANTS as SWEPT
from tests.survival.mutants import Mutant

__all__ = ["MUTANTS", "SEEDS_MAX", "Planted", "caught"]

SEEDS_MAX = 300
"""Each is found within so many seeds, from 0 on."""

HEAL_S = 120.0
STEPS_MAX = 200_000
"""A runtime with a mistake may never rest: it is not waited for as long as a sound one."""


class Planted(NamedTuple):
    """A mutant, the story it shows in, and a seed that shows it."""

    mutant: Mutant
    story: str
    seed: int

    @contextmanager
    def planted(self) -> Iterator[None]:
        """For as long as the block lasts."""
        with self.mutant.planted(), briefly():
            yield


@contextmanager
def briefly() -> Iterator[None]:
    """Runs that never come to rest are ended soon."""
    with (
        mock.patch.object(rest, "HEAL_S", HEAL_S),
        mock.patch.object(machine, "STEPS_MAX", STEPS_MAX),
    ):
        yield


def caught(planted: Planted, story: Simulation, seeds: Iterable[int]) -> Iterator[Outcome]:
    """The runs that fail with the mutant, and do not without it."""
    for seed in seeds:
        with planted.planted():
            outcome = story.outcome(seed)
        if "NameError" in outcome.reason:
            raise LookupError(f"{outcome.reason}: the mutant itself is wrong")
        if outcome.error is not None:
            with briefly():
                sound = story.outcome(seed)
            if sound.error is None:
                yield outcome


MUTANTS = {
    "acknowledged before the commit": Planted(SWEPT["acknowledged before the commit"], "lists", 0),
    "dispatched before the commit": Planted(SWEPT["dispatched before the commit"], "lists", 0),
    "repeated messages are new ones": Planted(SWEPT["repeated messages are new ones"], "lists", 1),
    "what was processed is forgotten when memory is left": Planted(
        Mutant(
            SagaActor,
            "rehydrated",
            "self.processed = processed",
            "self.processed = ProcessedMessages(processed.window)",
        ),
        "lists",
        1,
    ),
    "a repeat is not known while the first is in flight": Planted(
        Mutant(
            SagaActor, "_is_known", "if self.flying and message_id in self.flying:", "if False:"
        ),
        "lists",
        2,
    ),
    "a repeat is answered as if it were new": Planted(
        Mutant(
            SagaActor,
            "_is_known",
            "self.supervisor.answer_from_journal(delivery, known)",
            "delivery.answer(Outcome.APPLIED, self.head.sequence_nr, None)",
        ),
        "together",
        2,
    ),
    "journal and outbox in two transactions": Planted(
        SWEPT["journal and outbox in two transactions"], "lists", 3
    ),
    "the end of a job is not in its result's transaction": Planted(
        Mutant(Telling, "deliver", "delivery.settlement = settlement", "pass"), "order", 0
    ),
    "job deleted before the turn of its result": Planted(
        SWEPT["job deleted before the turn of its result"], "order", 5
    ),
    "job deleted when it begins": Planted(SWEPT["job deleted when it begins"], "tasks", 0),
    "commands of a commit in doubt are not read back": Planted(
        Mutant(Dispatcher, "doubtful", "self._read_back.doubtful(rows)", "pass"), "lists", 1
    ),
    "a failed commit is taken for written": Planted(
        Mutant(Pending, "lost", "self.actor.on_lost(error)", "self.written()"), "lists", 0
    ),
    "memory is kept after a commit in doubt": Planted(
        Mutant(
            Supervisor,
            "incarnation_lost",
            "lambda: self._retry(successor)",
            "lambda: (self._pauses.pop(actor.key, None), self.admission.resume(actor.key),"
            " successor.rehydrated(actor.head, actor.processed, [], actor.snapshot_nr))",
        ),
        "lists",
        1,
    ),
    "after a commit in doubt the last come first": Planted(
        Mutant(
            Supervisor,
            "incarnation_lost",
            "self._unsettled.add(actor.key)",
            "self._unsettled.add(actor.key); deliveries.reverse()",
        ),
        "together",
        0,
    ),
    "shown before the commit": Planted(
        Mutant(
            Supervisor, "committed", "else actor.committed", "else getattr(actor, 'head', None)"
        ),
        "queries",
        0,
    ),
    "no fence against an owner that was overtaken": Planted(
        Mutant(sql_write, "refusals", "if stored_epoch != epoch:", "if False:"), "overtaken", 0
    ),
    "snapshot of the turn after": Planted(SWEPT["snapshot of the turn after"], "lists", 0),
    "mail is dropped when memory is left": Planted(
        Mutant(Supervisor, "passivate", "if not actor.is_quiet:", "if actor.in_flight:"),
        "lists",
        0,
    ),
    "memory is left with a commit in flight": Planted(
        Mutant(Supervisor, "passivate", "if not actor.is_quiet:", "if not actor.is_idle:"),
        "lists",
        0,
    ),
    "deadline deleted before its turn": Planted(
        SWEPT["deadline deleted before its turn"], "alarms", 0
    ),
    "deadlines are not read at the start": Planted(
        SWEPT["deadlines are not read at the start"], "order", 0
    ),
    "a deadline that was set anew fires anyway": Planted(
        Mutant(
            SagaActor,
            "take",
            "if delivery.deadline_nr and not self._is_armed(delivery):",
            "if False:",
        ),
        "alarms",
        0,
    ),
    "what is parked is not taken when the instance begins": Planted(
        Mutant(SagaActor, "turn", "drain(self, now_ms)", "pass"), "parked", 34
    ),
    "undone in the order in which it was done": Planted(
        SWEPT["undone in the order in which it was done"], "trip", 0
    ),
    "a result is told again under another id": Planted(
        Mutant(
            Telling,
            "again",
            "delivery.fresh()",
            "Delivery(delivery.definition, delivery.key, replace(delivery.message,"
            " message_id=self._services.new_id()), delivery.kind)",
        ),
        "unsure",
        1,
    ),
    "attempts are counted in memory only": Planted(
        Mutant(
            Settling,
            "postponed",
            "self._submit(Rewritten(self, changed, self.jobs.delayed))",
            "self._submit(Rewritten(self, replace(changed, attempts=row.attempts),"
            " lambda _: self.jobs.delayed(changed)))",
        ),
        "attempts",
        21,
    ),
    "a claim does not count its attempt": Planted(
        Mutant(Workers, "start", "attempts=row.attempts + 1", "attempts=row.attempts"),
        "once",
        5,
    ),
    "what a worker returns after its lease counts": Planted(
        Mutant(Attempt, "_ended", "if not self._is_over:", "if True:"), "sequential", 36
    ),
    "a sequential queue goes on while its head waits": Planted(
        Mutant(QueueState, "postponed", "if self._sequential:", "if False:"), "sequential", 0
    ),
    "the head of a sequential queue is forgotten at a restart": Planted(
        Mutant(Dispatcher, "_hold_heads", "if runner is not None and row.attempts:", "if False:"),
        "sequential",
        22,
    ),
    "what arrives during a release is dropped": Planted(
        Mutant(Quarantine, "still", "for delivery in left:", "for delivery in ():"),
        "quarantine",
        13,
    ),
    "a message that waited is left in the inbox": Planted(
        Mutant(SagaActor, "record", "body, delivery.waits)", "body, False)"), "restart", 0
    ),
    "deadlines fire early": Planted(
        Mutant(
            Timer, "_fire_due", "self._queue.pop_due(now_ms)", "self._queue.pop_due(now_ms + 500)"
        ),
        "alarms",
        0,
    ),
    "parked rows are dropped": Planted(
        Mutant(
            Changes,
            "put",
            "if row.replaces:",
            "if row.reason is row.reason.MISSING:\n        return\n    if row.replaces:",
        ),
        "kept",
        0,
    ),
    "queued rows are dropped": Planted(
        Mutant(
            Changes,
            "put",
            "if row.replaces:",
            "if row.reason is row.reason.QUEUED:\n        return\n    if row.replaces:",
        ),
        "kept",
        0,
    ),
    "what is ready in the inbox is not looked for at the start": Planted(
        Mutant(
            Wakeups,
            "_ready",
            "elif row.reason is not InboxReason.DELAYED:",
            "elif row.reason is InboxReason.HELD:",
        ),
        "restart",
        0,
    ),
    "a deadline's firing raises each third time": Planted(
        Mutant(
            Wakeups,
            "_fire_deadline",
            "failpoints.reach(Point.DEADLINE_FIRES)",
            "self._fired = getattr(self, '_fired', 0) + 1; self._fired % 3 or {}['a mistake']",
        ),
        "alarms",
        0,
    ),
    "what a quarantine holds is turned round": Planted(
        Mutant(
            Aside, "lost", "self._queue.extendleft(reversed(back))", "self._queue.extendleft(back)"
        ),
        "quarantine",
        15,
    ),
    "what goes with a repair is not written": Planted(
        Mutant(saga_actor, "step_in", "record.repairs = repair.settlements", "pass"),
        "operators",
        0,
    ),
    "what goes with a repair is written by itself, before": Planted(
        Mutant(
            saga_actor,
            "step_in",
            "record.repairs = repair.settlements",
            "from perdure.runtime.jobs.job_tickets import Awaited;"
            " [services.commit.submit(Awaited(one)) for one in repair.settlements]",
        ),
        "edited",
        0,
    ),
    "repaired jobs are not handed back": Planted(
        Mutant(Seizing, "give_back", "self._reading.start()", "pass"), "retried", 0
    ),
    "what is done again keeps its key": Planted(
        Mutant(course, "key_of", "if step in state.again else key", "if False else key"),
        "restarted",
        0,
    ),
    "a dead letter stays when it is redriven": Planted(
        Mutant(Measure, "settlements", "letter=letter.position, ", ""), "edited", 0
    ),
    "a purge forgets which messages it knows": Planted(
        Mutant(purge_pieces, "purge_of", "processed.items(number)", "[]"), "purged", 0
    ),
    "who has not ended is purged": Planted(
        Mutant(Retention, "kept_ms", "after is None or not status.is_over", "after is None"),
        "purged",
        0,
    ),
    "a journal that is half swept is left so at the start": Planted(
        Mutant(Purging, "start", "self._tombstones_at_ms = 0", "pass"), "purged", 2
    ),
    "a purge under an incarnation": Planted(
        Mutant(PurgeWriting, "write", "self._owner.passivate(key)", "True"), "purged", 15
    ),
    "a purge does not wait for the jobs of its instance": Planted(
        Mutant(Mail, "concerned", "found.add(row.instance)", "pass"), "purged", 0
    ),
}
"""By what is wrong then."""
