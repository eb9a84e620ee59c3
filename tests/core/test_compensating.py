"""A command failed for good: one turn applies it, handles it, and compensates."""

from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure import (
    CommandFailed,
    Effects,
    ExternalEvent,
    Fail,
    ProcessManager,
    Publish,
    Record,
    Send,
    Status,
    applies,
    compensates,
    message,
    on_command_failed,
    starts,
)
from perdure.core.commit import FOLLOWS, OutboxKind
from perdure.core.correlation import VerdictKind
from perdure.core.instance import Instance
from perdure.core.outcome import Outcome
from perdure.core.turn import step
from perdure.declarations import continues
from perdure.errors import DefinitionError, DuplicateHandler, InvalidEffect
from perdure.messages import Message, Metadata
from perdure.process_manager import define
from tests.core.test_turn import ENCODER, NOW_MS


@message(name="compensating-test.Started")
class Started:
    id: str


@message(name="compensating-test.Reserve")
class Reserve:
    n: int
    returns: str = "refunds"


@message(name="compensating-test.Charge")
class Charge:
    n: int


@message(name="compensating-test.Notify")
class Notify:
    n: int


@message(name="compensating-test.Refund")
class Refund:
    n: int


@message(name="compensating-test.Noted")
class Noted:
    text: str


@dataclass(frozen=True)
class State:
    seen: tuple[str, ...] = ()
    status: str = "new"


async def later():
    """What nobody awaits."""


RETURNS: dict[str, Any] = {
    "nothing": lambda state, command: None,
    "empty": lambda state, command: [],
    "refunds": lambda state, command: [Refund(n) for n in range(command.n)],
    "generator": lambda state, command: (Refund(n) for n in range(command.n)),
    "state": lambda state, command: [Refund(len(state.seen))],
    "effects": lambda state, command: [
        Record(Noted("undone")),
        Refund(1),
        Publish(Noted("published")),
        Send(Refund(2), queue="slow"),
        Refund(3),
    ],
    "send first": lambda state, command: [Send(Refund(1)), Refund(2)],
    "text": lambda state, command: "refund",
    "one": lambda state, command: Refund(1),
    "texts": lambda state, command: ["refund"],
    "coroutine": lambda state, command: later(),
    "coroutines": lambda state, command: [later()],
    "raises": lambda state, command: 1 / 0,
    "many": lambda state, command: (Refund(n) for n in range(10_001)),
    "fail": lambda state, command: [Refund(1), Fail("undone")],
}


class Orders(ProcessManager[State]):
    @starts(Started, by="id")
    def started(self, state: State, event: Started, do: Effects) -> None: ...

    @on_command_failed(Reserve, when="new")
    def not_reserved(self, state: State, failure: CommandFailed, do: Effects) -> None:
        assert state.seen[-1] == failure.command_id, "apply comes before handle"
        do.record(Noted("handled"))

    @on_command_failed(Notify)
    def not_notified(self, state: State, failure: CommandFailed, do: Effects) -> None:
        do.fail(f"nobody could be told: {failure.error}")

    @compensates(Reserve)
    def undo(self, state: State, failed: Reserve) -> Any:
        return RETURNS[failed.returns](state, failed)

    @compensates(Notify)
    def undo_notify(self, state: State, failed: Notify) -> Any:
        return [Refund(failed.n)]

    @applies(CommandFailed)
    def failed(self, state: State, event: CommandFailed) -> State:
        return replace(state, seen=(*state.seen, event.command_id))

    @applies(Noted)
    def noted(self, state: State, event: Noted) -> State:
        return replace(state, seen=(*state.seen, event.text))


class Plain(ProcessManager[State]):
    """Neither folds nor handles failures; compensates one command."""

    @starts(Started, by="id")
    def started(self, state: State, event: Started, do: Effects) -> None: ...

    @compensates(Reserve)
    def undo(self, state: State, failed: Reserve) -> Any:
        return [Refund(failed.n)]


def failure_of(command):
    return CommandFailed(command, "Orders/o/1/0", "queue", "exhausted", "E: no", 5)


def running(definition, **changes):
    return Instance("Orders/o", "o", definition.initial_state(), 1, **changes)


def fail(command, saga=Orders, instance=None):
    definition = define(saga)
    content = failure_of(command)
    told = Message(content, "perdure.CommandFailed", 1, b"", "perdure.failed/x", NOW_MS)
    instance = instance or running(definition)
    return step(definition, instance, told, VerdictKind.CONTINUE, False, NOW_MS, ENCODER)


def refunds(turn):
    return [(row.body, row.after) for row in turn.outgoing if row.kind is OutboxKind.COMMAND]


def test_it_is_applied_then_handled_then_compensated_in_one_turn():
    turn = fail(Reserve(3, "state"))
    assert turn.outcome is Outcome.APPLIED
    assert turn.after.sequence_nr == 2
    assert turn.after.state.seen == ("Orders/o/1/0", "handled")
    assert refunds(turn) == [(b"Refund(n=2)", 0)], "the state after apply and recorded events"


@given(st.integers(0, 30), st.sampled_from(["refunds", "generator"]))
def test_the_commands_go_out_in_their_order_each_after_the_one_before(count, how):
    turn = fail(Reserve(count, how))
    assert refunds(turn) == [(repr(Refund(n)).encode(), FOLLOWS if n else 0) for n in range(count)]
    assert [row.index for row in turn.outgoing] == list(range(count))


@pytest.mark.parametrize("how", ["nothing", "empty"])
def test_compensation_may_be_skipped(how):
    turn = fail(Reserve(3, how))
    assert turn.outgoing == []
    assert turn.outcome is Outcome.APPLIED


def test_effects_are_carried_out_as_they_are():
    turn = fail(Reserve(0, "effects"))
    assert turn.after.state.seen[-1] == "undone"
    assert [(row.kind, row.target, row.after) for row in turn.outgoing] == [
        (OutboxKind.COMMAND, "compensating-test.Refund", 0),
        (OutboxKind.EVENT, "", 0),
        (OutboxKind.COMMAND, "slow", 0),
        (OutboxKind.COMMAND, "compensating-test.Refund", FOLLOWS),
    ]


def test_a_command_follows_one_that_was_sent_as_an_effect():
    assert [after for _, after in refunds(fail(Reserve(0, "send first")))] == [0, FOLLOWS]


@pytest.mark.parametrize("how", ["text", "one", "texts", "coroutine", "coroutines", "many"])
def test_nonsense_is_refused(how):
    with pytest.raises(InvalidEffect):
        fail(Reserve(1, how))


def test_what_compensate_raises_goes_on():
    with pytest.raises(ZeroDivisionError):
        fail(Reserve(1, "raises"))


def test_a_turn_that_ends_the_process_compensates_all_the_same():
    turn = fail(Notify(4))
    assert turn.after.status is Status.FAILED
    assert refunds(turn) == [(b"Refund(n=4)", 0)]
    turn = fail(Reserve(0, "fail"))
    assert (turn.after.status, turn.after.detail) == (Status.FAILED, "undone")
    assert refunds(turn) == [(b"Refund(n=1)", 0)]


def test_a_finished_instance_compensates_nothing():
    turn = fail(Reserve(3), instance=running(define(Orders), status=Status.COMPLETED))
    assert (turn.outcome, turn.outgoing) == (Outcome.FINISHED, [])


def test_a_command_nobody_can_decode_is_applied_and_not_compensated():
    turn = fail(ExternalEvent("gone.Reserve", {"n": 1}))
    assert turn.after.state.seen == ("Orders/o/1/0",)
    assert turn.outgoing == []
    assert fail(ExternalEvent("gone.Reserve", {}), Plain).outcome is Outcome.UNHANDLED


def test_a_guard_that_does_not_admit_still_lets_it_be_compensated():
    definition = define(Orders)
    instance = running(definition)
    instance.state = State(status="closed")
    turn = fail(Reserve(2), instance=instance)
    assert turn.after.state.seen == ("Orders/o/1/0",)
    assert len(refunds(turn)) == 2


def test_a_command_that_concerns_nobody_is_unhandled():
    turn = fail(Charge(1), Plain)
    assert turn.outcome is Outcome.UNHANDLED
    assert fail(Reserve(1), Plain).outcome is Outcome.APPLIED


def test_the_handler_of_the_command_goes_before_the_handler_of_any():
    heard = []

    class Both(ProcessManager[State]):
        @starts(Started, by="id")
        def started(self, state: State, event: Started, do: Effects) -> None: ...

        @on_command_failed()
        def whatever(self, state: State, failure: CommandFailed, do: Effects) -> None:
            heard.append("any")

        @on_command_failed(Reserve, when="new")
        def reserve(self, state: State, failure: CommandFailed, do: Effects) -> None:
            heard.append("reserve")

    fail(Reserve(1), Both)
    fail(Charge(1), Both)
    fail(ExternalEvent("gone", {}), Both)
    instance = running(define(Both))
    instance.state = State(status="closed")
    fail(Reserve(1), Both, instance)
    assert heard == ["reserve", "any", "any", "any"]


def test_callbacks_written_by_hand_hear_of_it_too():
    class ByHand(ProcessManager[State]):
        @starts(Started, by="id")
        def started(self, state: State, event: Started, do: Effects) -> None: ...

        def apply(self, state, event):  # type: ignore[override]
            return replace(state, seen=(*state.seen, type(event).__name__))

        def handle(self, state, event, metadata):
            return [Record(Noted("handled"))] if type(event) is CommandFailed else None

        def compensate(self, state, failed_command):
            return [Refund(len(state.seen))]

    turn = fail(Charge(1), ByHand)
    assert turn.after.state.seen == ("CommandFailed", "Noted")
    assert refunds(turn) == [(b"Refund(n=2)", 0)]

    turn = fail(ExternalEvent("gone.Charge", {"n": 1}), ByHand)  # ``compensate`` is not called
    assert turn.after.state.seen == ("CommandFailed", "Noted")
    assert turn.outgoing == []

    class Choosy(ByHand):
        def accepts(self, state, event, metadata):
            return False

    turn = fail(Charge(1), Choosy)
    assert turn.after.state.seen == ("CommandFailed",)
    assert refunds(turn) == [(b"Refund(n=1)", 0)]

    class OnlyHandles(ProcessManager[State]):
        @starts(Started, by="id")
        def started(self, state: State, event: Started, do: Effects) -> None: ...

        def handle(self, state, event, metadata):
            return [Send(Refund(9))] if type(event) is CommandFailed else None

    assert refunds(fail(Charge(1), OnlyHandles)) == [(b"Refund(n=9)", 0)]


def test_the_plain_callbacks_can_be_tried_without_a_runtime():
    orders = Orders()
    state = State(seen=("Orders/o/1/0",))
    assert orders.accepts(State(), failure_of(Reserve(1)), Metadata())
    assert not Plain().accepts(State(), failure_of(Charge(1)), Metadata())
    assert list(orders.handle(state, failure_of(Reserve(1)), Metadata()) or ()) == [
        Record(Noted("handled"))
    ]
    assert orders.compensate(state, Reserve(2)) == [Refund(0), Refund(1)]


def test_mistakes_are_found_when_the_class_is_made():
    with pytest.raises(DefinitionError, match="on_command_failed"):

        class Continues(ProcessManager[State]):
            @continues(CommandFailed, by="command_id")
            def failed(self, state, event, do): ...

    with pytest.raises(DefinitionError, match="or @on_command_failed"):
        on_command_failed("reserve")  # type: ignore[arg-type]

    with pytest.raises(DuplicateHandler, match="any failed command"):

        class Twice(ProcessManager[State]):
            @on_command_failed()
            def one(self, state, failure, do): ...

            @on_command_failed()
            def other(self, state, failure, do): ...

    with pytest.raises(DefinitionError, match="failure, do"):

        class Short(ProcessManager[State]):
            @on_command_failed()
            def one(self, state, do): ...
