"""Ordered sagas without a runtime: real turns over a plan, journaled as bytes, read back each time.

play = Play(plan_of(step("a"), step("b", after=["a"])))
play.begin()
play.done("a")
play.fail("b")
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from perdure import Cancel, CommandFailed, Residue, Status, TimeoutReached, message
from perdure.codec import Codec, TypeRegistry
from perdure.codec.journal import JournalCodec
from perdure.core.commit import OutboxRow
from perdure.core.correlation import VerdictKind
from perdure.core.instance import Instance, ProcessedMessages
from perdure.core.outcome import Encoder, Outcome, Turn
from perdure.core.plan import Plan, PlannedStep
from perdure.core.replay import replay
from perdure.core.step_events import (
    CompensateStep,
    PerformStep,
    Resume,
    StepCompensated,
    StepCompleted,
)
from perdure.core.turn import step as take_turn
from perdure.messages import Message, datetime_of
from perdure.ordered_definition import definition_of
from perdure.step_results import compensated, completed

NOW_MS = 1_700_000_000_000


@message(name="course-test.Trip")
@dataclass(frozen=True)
class Trip:
    id: str = "t"
    results: dict[str, int] = field(default_factory=dict)
    a: int = 0
    b: int = 0
    c: int = 0
    d: int = 0
    e: int = 0
    f: int = 0
    p: int = 0


NAMES = "abcdef"
CODEC = Codec(TypeRegistry([Trip, Resume, TimeoutReached]))
ENCODER = Encoder(CODEC.encode, CODEC.encode_value)


def step(
    name: str,
    after: Sequence[str] = (),
    undo: bool = True,
    compensates: bool = False,
    pivot: bool = False,
    deadline: timedelta | None = None,
) -> dict[str, Any]:
    """A step by its name; ``undo``: it has a compensation."""
    return {
        "name": name,
        "queue": f"trip.{name}",
        "after": tuple(after),
        "undo_queue": f"trip.{name}.undo" if undo and not pivot else "",
        "undoes_unknown": compensates,
        "is_pivot": pivot,
        "deadline": deadline,
    }


def plan_of(*steps: dict[str, Any], forward_only: bool = False) -> Plan:
    planned = [PlannedStep(index=index, **one) for index, one in enumerate(steps)]
    return Plan("trip", Trip, planned, forward_only)


def row_of(*names: str, **options: Any) -> Plan:
    """Steps one after another; ``options`` by name are those of ``step``."""
    return plan_of(
        *(
            step(name, names[:index][-1:], **options.get(name, {}))
            for index, name in enumerate(names)
        )
    )


def beside(*names: str, **options: Any) -> Plan:
    """Steps that all may run at once."""
    return plan_of(*(step(name, **options.get(name, {})) for name in names))


class Play:
    """One instance, turn by turn. ``open`` are the commands nobody has answered, by their ids.

    After every turn the journal's bytes are folded anew, and must give the same instance.
    """

    def __init__(self, plan: Plan, timeout: timedelta | None = None) -> None:
        self.timeout = timeout
        self.codec, self.journal, self.encoder = CODEC, JournalCodec(CODEC), ENCODER
        self.deploy(plan)
        self.instance = self.absent()
        self.rows: list[tuple[str, bytes]] = []
        self.open: dict[str, Any] = {}
        self.expires: dict[str, int] = {}
        self.recorded: list[Any] = []
        """All events recorded so far."""

    def deploy(self, plan: Plan) -> None:
        """The definition is another one from now on."""
        self.plan = plan
        self.definition = definition_of(plan, "id", self.timeout)

    def absent(self) -> Instance:
        return Instance("trip/t", "t", self.definition.initial_state())

    @property
    def state(self) -> Any:  # an OrderedState: else mypy takes what it was for what it is
        return self.instance.state

    @property
    def status(self) -> Any:
        return self.instance.status

    @property
    def detail(self) -> Any:
        return self.instance.detail

    @property
    def why(self) -> str:
        assert isinstance(self.instance.detail, str)
        return self.instance.detail

    # Telling

    def tell(self, content: Any, message_id: str = "") -> Turn:
        name, version, body = self.codec.encode(content)
        message_id = message_id or f"m-{len(self.rows)}"
        told = Message(content, name, version, body, message_id, NOW_MS)
        kind = VerdictKind.START if type(content) is Trip else VerdictKind.CONTINUE
        turn = take_turn(self.definition, self.instance, told, kind, False, NOW_MS, self.encoder)
        self.instance = turn.after
        self.rows.append((message_id, self.journal.encode_turn(turn)))
        self.recorded += [self.codec.decode(*stored) for stored in turn.events]
        for out in turn.outgoing:
            self._sent(out)
        self.check_replay()
        return turn

    def _sent(self, out: OutboxRow) -> None:
        command: Any = self.codec.decode(out.type, out.version, out.body)
        kept = self.plan.by_name[command.step]
        assert out.target == (kept.queue if type(command) is PerformStep else kept.undo_queue)
        self.open[out.id] = command
        self.expires[out.id] = out.expires_at_ms

    def begin(self, **fields: Any) -> Turn:
        return self.tell(Trip(**fields))

    def done(self, name: str, **fields: Any) -> Turn:
        """The step's command has succeeded; by default the field of its name is 1."""
        command = self.take(name, PerformStep)
        return self.tell(completed(command, fields or {name: 1}))

    def fail(
        self, name: str, is_unknown: bool = False, reason: str = "exhausted", error: str = "E: no"
    ) -> Turn:
        return self.tell(self.failure(self.take(name, PerformStep), is_unknown, reason, error))

    def undone(self, name: str, returned: Any = None) -> Turn:
        return self.tell(compensated(self.take(name, CompensateStep), returned))

    def not_undone(self, name: str, error: str = "E: still no") -> Turn:
        return self.tell(self.failure(self.take(name, CompensateStep), error=error))

    def failure(
        self,
        command: Any,
        is_unknown: bool = False,
        reason: str = "exhausted",
        error: str = "E: no",
    ) -> CommandFailed:
        kept = self.plan.by_name.get(command.step)
        queue = "gone" if kept is None else kept.queue
        if kept is not None and type(command) is CompensateStep:
            queue = kept.undo_queue
        return CommandFailed(command, "id", queue, reason, error, 1, is_unknown)

    def cancel(self, reason: str = "") -> Turn:
        return self.tell(Cancel(reason))

    def time_out(self) -> Turn:
        return self.tell(TimeoutReached(datetime_of(NOW_MS)))

    def resume(self) -> Turn:
        return self.tell(Resume())

    # Looking

    def take(self, name: str, kind: type = PerformStep) -> Any:
        """The one open command of a step, which is answered now."""
        (found,) = [id for id, one in self.open.items() if one.step == name and type(one) is kind]
        return self.open.pop(found)

    @property
    def working(self) -> list[str]:
        """The steps that are performed, in the order in which they were sent."""
        return [one.step for one in self.open.values() if type(one) is PerformStep]

    @property
    def undoing(self) -> list[str]:
        return [one.step for one in self.open.values() if type(one) is CompensateStep]

    def steps(self) -> dict[str, str]:
        return {name: str(status) for name, status in self.state.steps.items()}

    def log(self) -> list[str]:
        """The recorded events in short: "StepStarted a"."""
        return [f"{type(one).__name__} {getattr(one, 'step', '')}".strip() for one in self.recorded]

    # Crashes

    def replayed(self, start: Instance | None = None) -> Instance:
        """The instance as another process finds it, from the bytes."""
        instance = start or self.absent()
        entries = [
            self.journal.decode_entry(self.definition, instance, number, message_id, body)
            for number, (message_id, body) in enumerate(self.rows, start=1)
            if number > instance.sequence_nr
        ]
        return replay(self.definition, instance, entries)

    def check_replay(self) -> None:
        assert self.replayed() == self.instance

    def crash(self) -> None:
        self.instance = self.replayed()

    def through_snapshot(self) -> None:
        """A crash, after a snapshot of this moment was written."""
        body = self.journal.encode_snapshot(self.instance, ProcessedMessages(10))
        read = self.journal.decode_snapshot(
            "trip/t", self.instance.sequence_nr, body, ProcessedMessages(10)
        )
        assert read == self.instance
        self.instance = read


__all__ = [
    "NAMES",
    "NOW_MS",
    "CompensateStep",
    "Outcome",
    "PerformStep",
    "Play",
    "Residue",
    "Status",
    "StepCompensated",
    "StepCompleted",
    "Trip",
    "beside",
    "plan_of",
    "replace",
    "row_of",
    "step",
]
