"""Sagas whose code is not here: what is folded of them all the same."""

from __future__ import annotations

from typing import Any

from perdure import ExternalEvent, Metadata, message
from perdure.codec import Codec
from perdure.codec.journal import JournalCodec
from perdure.core.commit import JournalRow
from perdure.core.instance import Instance
from perdure.core.ordered import OrderedState, fold
from perdure.core.outcome import Outcome, Turn
from perdure.core.replay import replay
from perdure.core.step_events import StepCompleted, StepStarted
from perdure.core.workflow_events import OperationStarted
from perdure.messages import Message
from perdure.ops.foreign import LenientTypes, foreign_definition

JOURNAL = JournalCodec(Codec(LenientTypes()))


@message(name="foreign-test.Twice")
class One:
    id: str


def row(number: int, first: Any, *recorded: Any) -> JournalRow:
    """A turn: its message, and what was recorded with it."""
    codec = JOURNAL.codec
    stored = codec.encode(first)
    message_ = Message(first, *stored, f"m-{number}", 5)
    turn = Turn(
        message_,
        Outcome.APPLIED,
        5,
        Instance("trip/t", "t", None, number),
        events=[codec.encode(one) for one in recorded],
    )
    return JournalRow("trip/t", number, 1, f"m-{number}", JOURNAL.encode_turn(turn))


def folded(*rows: JournalRow) -> tuple[Any, bool]:
    definition, is_known = foreign_definition("trip", JOURNAL, [], rows[:1])
    start = Instance("trip/t", "t", definition.initial_state())
    entries = (
        JOURNAL.decode_entry(definition, start, r.sequence_nr, r.message_id, r.body) for r in rows
    )
    return replay(definition, start, entries).state, is_known


def data(**fields: Any) -> ExternalEvent:
    return ExternalEvent("foreign-test.Data", fields)


def test_plain_data_of_two_steps_is_merged():
    before = data(id="t", flight=None, hotel=None)
    state = OrderedState(before)
    state = fold(state, StepCompleted("flight", data(id="t", flight="LH1", hotel=None), before))
    state = fold(state, StepCompleted("hotel", data(id="t", flight=None, hotel="Ritz"), before))
    assert state.data == data(id="t", flight="LH1", hotel="Ritz")


def test_an_ordered_saga_is_known_by_its_first_turn():
    state, is_known = folded(row(1, One("t"), StepStarted(0, "flight")))
    assert is_known
    assert state.steps == {"flight": "running"}
    assert state.data == One("t")


def test_a_workflow_is_known_by_its_first_turn():
    state, is_known = folded(row(1, One("t"), OperationStarted("event/x", "Met")))
    assert is_known
    assert state.open == ("event/x",)


def test_of_a_process_manager_nothing_is_folded():
    state, is_known = folded(row(1, One("t")))
    assert not is_known
    assert state is not None, "that would be the state of one that was purged"


def test_a_first_turn_that_nobody_can_read_shows_nothing():
    broken = JournalRow("trip/t", 1, 1, "m", b"\xc1")
    definition, is_known = foreign_definition("trip", JOURNAL, [], [broken])
    assert not is_known
    assert definition.apply("as it was", None, Metadata()) == "as it was"


def test_types_that_are_not_known_or_known_twice_come_as_plain_data():
    types = LenientTypes()
    assert types.named("nobody-knows.This") is None

    class Two:
        id: str

    message(name="foreign-test.Twice")(Two)
    assert types.named("foreign-test.Twice") is None
