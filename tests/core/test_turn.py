"""What one message does to one instance: the pure turn."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest

from perdure import (
    CancelDeadline,
    Complete,
    Fail,
    ProcessManager,
    Publish,
    Record,
    Reply,
    Send,
    SetDeadline,
    Status,
    Stuck,
    continues,
    message,
    on_deadline,
    starts,
    stops,
)
from perdure.core.commit import OutboxKind
from perdure.core.correlation import VerdictKind
from perdure.core.instance import Armed, Instance
from perdure.core.outcome import TIMEOUT, Encoder, Outcome
from perdure.core.turn import failed, step
from perdure.declarations import applies
from perdure.errors import InvalidEffect
from perdure.messages import DeadlineReached, Message, TimeoutReached, datetime_of
from perdure.process_manager import define

NOW_MS = 1_700_000_000_000
ENCODER = Encoder(
    lambda value: (type(value).__name__, 1, repr(value).encode()), lambda v: repr(v).encode()
)


@message(name="turn-test.Go")
class Go:
    effects: tuple = ()


@message(name="turn-test.Added")
class Added:
    number: int


@message(name="turn-test.Charge")
class Charge:
    cents: int


@message(name="turn-test.Cancelled")
class Cancelled:
    pass


@dataclass(frozen=True)
class Tally:
    numbers: tuple[int, ...] = ()
    went: int = 0
    status: str = "new"


class Adder(ProcessManager[Tally]):
    @starts(Go, by=lambda event: "one")
    def go(self, state, event, do):
        assert state.went > 0, "apply comes before handle"
        return event.effects

    @stops(Cancelled, by=lambda event: "one")
    def cancelled(self, state, event, do):
        pass

    @on_deadline("tick")
    def tick(self, state, do):
        do.record(Added(99))

    @on_deadline("other", when="never")
    @on_deadline("later")
    def other(self, state, do): ...

    @applies(Go)
    def went(self, state, event):
        return replace(state, went=state.went + 1)

    @applies(Added)
    def added(self, state, event):
        return replace(state, numbers=(*state.numbers, event.number))


def saga(cls=Adder):
    return define(cls)


def absent(definition):
    return Instance("Adder/one", "one", definition.initial_state())


def told(content, message_id="m-1"):
    return Message(content, type(content).__name__, 1, b"body", message_id, NOW_MS)


def take(*effects, definition=None, instance=None, kind=VerdictKind.START, strict=False):
    definition = definition or saga()
    instance = instance or absent(definition)
    return step(definition, instance, told(Go(tuple(effects))), kind, strict, NOW_MS, ENCODER)


def test_apply_folds_the_message_before_handle_sees_the_state():
    turn = take()
    assert turn.outcome is Outcome.APPLIED
    assert turn.after.state.went == 1
    assert turn.after.sequence_nr == 1
    assert turn.status_changed
    assert turn.after.started_at_ms == turn.after.updated_at_ms == NOW_MS


def test_recorded_events_are_folded_and_kept_in_order():
    turn = take(Record(Added(1)), Record(Added(2)))
    assert turn.after.state.numbers == (1, 2)
    assert [body for _, _, body in turn.events] == [b"Added(number=1)", b"Added(number=2)"]


def test_commands_and_published_events_go_out_in_order():
    turn = take(Send(Charge(5)), Publish(Added(1)), Send(Charge(6), queue="slow"))
    assert [(out.kind, out.target) for out in turn.outgoing] == [
        (OutboxKind.COMMAND, "turn-test.Charge"),
        (OutboxKind.EVENT, ""),
        (OutboxKind.COMMAND, "slow"),
    ]


def test_the_instance_before_the_turn_is_left_alone():
    definition = saga()
    before = absent(definition)
    take(
        Record(Added(1)), SetDeadline("tick", timedelta(1)), definition=definition, instance=before
    )
    assert before == absent(definition)


def test_a_deadline_is_set_replaced_and_cancelled():
    first = take(SetDeadline("tick", after=timedelta(seconds=5)))
    assert first.after.deadlines == {"tick": Armed(NOW_MS + 5_000, 1)}
    assert first.after.next_due_ms == NOW_MS + 5_000
    at = datetime_of(NOW_MS) + timedelta(seconds=9)
    second = take(SetDeadline("tick", at=at), instance=first.after)
    assert second.after.deadlines == {"tick": Armed(NOW_MS + 9_000, 2)}
    third = take(CancelDeadline("tick"), CancelDeadline("unknown"), instance=second.after)
    assert third.after.deadlines == {}
    assert third.deadlines_cleared == ["tick"]
    assert third.after.next_due_ms is None


def test_a_deadline_set_and_cancelled_in_one_turn_is_never_armed():
    turn = take(SetDeadline("tick", timedelta(1)), CancelDeadline("tick"))
    assert turn.deadlines_set == {}
    assert turn.deadlines_cleared == []


def test_a_deadline_is_rounded_up_never_early():
    at = datetime_of(NOW_MS) + timedelta(microseconds=1)
    turn = take(SetDeadline("tick", at=at))
    assert turn.after.deadlines["tick"].due_at_ms == NOW_MS + 1
    turn = take(SetDeadline("tick", after=timedelta(microseconds=1)))
    assert turn.after.deadlines["tick"].due_at_ms == NOW_MS + 1


def test_a_fired_deadline_is_cleared_and_may_be_set_again():
    armed = take(SetDeadline("tick", timedelta(0))).after
    reached = told(DeadlineReached("tick", datetime.now(UTC)), "deadline")
    turn = step(saga(), armed, reached, VerdictKind.CONTINUE, False, NOW_MS, ENCODER)
    assert turn.deadlines_cleared == ["tick"]
    assert turn.after.state.numbers == (99,)

    class Again(Adder):
        @on_deadline("tick")
        def tick(self, state, do):
            do.deadline("tick", timedelta(seconds=1))

    turn = step(saga(Again), armed, reached, VerdictKind.CONTINUE, False, NOW_MS, ENCODER)
    assert turn.deadlines_cleared == []
    assert turn.after.deadlines == {"tick": Armed(NOW_MS + 1_000, 2)}


def test_a_deadline_nobody_handles_is_cleared_all_the_same():
    armed = take(SetDeadline("other", timedelta(0))).after
    reached = told(DeadlineReached("other", datetime.now(UTC)))
    turn = step(saga(), armed, reached, VerdictKind.CONTINUE, False, NOW_MS, ENCODER)
    assert turn.outcome is Outcome.UNHANDLED
    assert turn.deadlines_cleared == ["other"]
    assert turn.after.deadlines == {}


def test_a_deadline_that_no_handler_is_declared_for_fails_the_turn_that_sets_it():
    with pytest.raises(InvalidEffect, match="'tock' has no handler"):
        take(SetDeadline("tock", timedelta(1)))

    class ByHand(Adder):
        name = "Adder"

        def handle(self, state, event, metadata):
            return event.effects

    turn = take(SetDeadline("tock", timedelta(1)), definition=saga(ByHand))
    assert set(turn.deadlines_set) == {"tock"}


def test_completing_ends_the_instance_and_all_its_deadlines():
    armed = take(SetDeadline("tick", timedelta(1))).after
    turn = take(SetDeadline("later", timedelta(1)), Complete(7), instance=armed)
    assert turn.after.status is Status.COMPLETED
    assert turn.after.detail == b"7"
    assert turn.after.deadlines == turn.deadlines_set == {}
    assert turn.deadlines_cleared == ["tick"]
    assert turn.status_changed


def test_failing_keeps_the_reason():
    turn = take(Fail("no stock"))
    assert turn.after.status is Status.FAILED
    assert turn.after.detail == "no stock"


def test_a_stuck_instance_goes_on_with_the_next_turn_that_does_not_say_so_again():
    armed = take(SetDeadline("tick", after=timedelta(hours=1))).after
    stuck = take(Stuck("no stock"), instance=armed)
    assert (stuck.after.status, stuck.after.detail) == (Status.STUCK, "no stock")
    assert stuck.status_changed
    assert stuck.after.deadlines == armed.deadlines, "it has not ended"
    still = take(Stuck("no courier"), instance=stuck.after)
    assert (still.after.detail, still.status_changed) == ("no courier", True)
    same = take(Stuck("no courier"), instance=still.after)
    assert not same.status_changed
    freed = take(instance=same.after)
    assert (freed.after.status, freed.after.detail) == (Status.RUNNING, None)
    assert freed.status_changed


def test_a_stop_ends_a_stuck_turn_no_more_than_it_says():
    turn = take(Stuck("wait"), kind=VerdictKind.STOP)
    assert turn.after.status is Status.STUCK


def test_a_stop_completes_after_its_handler():
    turn = step(saga(), take().after, told(Cancelled()), VerdictKind.STOP, False, NOW_MS, ENCODER)
    assert turn.after.status is Status.COMPLETED


def test_a_finished_instance_ignores_but_counts():
    done = take(Complete()).after
    turn = take(Record(Added(1)), instance=done)
    assert turn.outcome is Outcome.FINISHED
    assert not turn.refused
    assert turn.after.sequence_nr == 2
    assert turn.after.state == done.state
    assert not turn.events
    assert not turn.status_changed
    assert take(instance=done, strict=True).refused


def test_a_strict_start_refuses_an_instance_that_exists():
    turn = take(instance=take().after, strict=True)
    assert turn.outcome is Outcome.EXISTS
    assert turn.refused
    assert turn.after.state.went == 1


def test_an_unwanted_message_is_neither_applied_nor_handled():
    class Guarded(Adder):
        @continues(Added, by=lambda event: "one", when="open")
        def more(self, state, event, do):
            raise AssertionError("not to be called")

    definition = saga(Guarded)
    running = take(definition=definition).after
    turn = step(definition, running, told(Added(3)), VerdictKind.CONTINUE, False, NOW_MS, ENCODER)
    assert turn.outcome is Outcome.UNHANDLED
    assert turn.after.state == running.state
    assert turn.after.sequence_nr == 2
    strict = step(definition, running, told(Added(3)), VerdictKind.CONTINUE, True, NOW_MS, ENCODER)
    assert strict.refused


def test_the_first_turn_arms_the_timeout_of_the_whole_process():
    class Timed(Adder):
        timeout = timedelta(minutes=15)

    definition = saga(Timed)
    first = take(definition=definition)
    assert first.after.deadlines == {TIMEOUT: Armed(NOW_MS + 900_000, 1)}
    second = take(definition=definition, instance=first.after)
    assert second.after.deadlines == first.after.deadlines
    reached = told(TimeoutReached(datetime.now(UTC)))
    turn = step(definition, first.after, reached, VerdictKind.CONTINUE, False, NOW_MS, ENCODER)
    assert turn.after.status is Status.FAILED
    assert turn.after.detail == "timed out"


def test_a_reply_is_recorded_and_handed_back():
    turn = take(Reply({"ok": 1}))
    assert turn.reply == b"{'ok': 1}"
    assert turn.reply_value == {"ok": 1}


@pytest.mark.parametrize(
    "nonsense",
    [
        [1],
        ["Record"],
        [None],
        [Added(1)],
        [SetDeadline("", timedelta(1))],
        [SetDeadline("x" * 201, timedelta(1))],
        [SetDeadline("tick")],
        [SetDeadline("tick", timedelta(1), datetime.now(UTC))],
        [SetDeadline("tick", at=datetime(2026, 1, 1))],
        [Complete(), Fail("both")],
    ],
)
def test_nonsense_from_a_handler_is_refused(nonsense):
    with pytest.raises(InvalidEffect):
        take(*nonsense)


@pytest.mark.parametrize("nonsense", [5, "text", b"bytes", object()])
def test_a_handler_that_returns_no_effects_at_all_is_refused(nonsense):
    definition = replace(saga(), choose=lambda *_: lambda *_: nonsense)
    with pytest.raises(InvalidEffect, match="returned"):
        take(definition=definition)


def test_a_runaway_handler_is_stopped():
    endless = (Record(Added(n)) for n in iter(int, 1))
    definition = replace(saga(), choose=lambda *_: lambda *_: endless)
    with pytest.raises(InvalidEffect, match="more than"):
        take(definition=definition)


def test_apply_must_return_a_state():
    for wrong in (None, 5):
        definition = replace(saga(), apply=lambda *_, wrong=wrong: wrong)
        with pytest.raises(InvalidEffect, match="apply returned"):
            take(definition=definition)


def test_a_failed_deadline_turn_only_clears_the_deadline():
    armed = take(SetDeadline("tick", timedelta(0))).after
    turn = failed(armed, told(DeadlineReached("tick", datetime.now(UTC))), NOW_MS)
    assert turn.outcome is Outcome.FAILED
    assert turn.deadlines_cleared == ["tick"]
    assert turn.after.state == armed.state


@dataclass
class Basket:
    items: list[str] = field(default_factory=list)


class Mutating(ProcessManager[Basket]):
    @starts(Go, by=lambda event: "one")
    def go(self, state, event, do):
        state.items.append("from handle")
        if event.effects:
            raise RuntimeError("after mutating")

    @applies(Go)
    def went(self, state, event):
        state.items.append("applied")


def test_a_mutable_state_may_be_changed_in_apply_and_only_there():
    definition = saga(Mutating)
    before = absent(definition)
    turn = take(definition=definition, instance=before)
    assert turn.after.state.items == ["applied"]
    assert before.state.items == []


def test_a_turn_that_raises_leaves_a_mutable_state_alone():
    definition = saga(Mutating)
    running = take(definition=definition).after
    with pytest.raises(RuntimeError, match="after mutating"):
        take(Fail("x"), definition=definition, instance=running)
    assert running.state.items == ["applied"]


def test_a_definition_may_salvage_a_turn_whose_effects_cannot_be_carried_out():
    seen = []

    def salvage(state, event, metadata, error):
        seen.append((state.went, type(event), metadata.sequence_nr, type(error)))
        return [Stuck(f"{error}")]

    definition = replace(saga(), salvage=salvage)
    turn = take(Record(Added(1)), Send(Charge(1)), 7, definition=definition)
    assert seen == [(1, Go, 1, InvalidEffect)]
    assert (turn.outcome, turn.after.status) == (Outcome.APPLIED, Status.STUCK)
    assert (turn.after.state.numbers, turn.events, turn.outgoing) == ((), [], [])
    assert turn.after.state.went == 1, "the message was folded all the same"
    with pytest.raises(InvalidEffect):
        take(7)


def test_what_ends_the_process_is_not_salvaged():
    def raising(state, event, metadata):
        raise KeyboardInterrupt

    definition = replace(saga(), choose=lambda *_: raising, salvage=lambda *_: [Stuck("never")])
    with pytest.raises(KeyboardInterrupt):
        take(definition=definition)
