"""Turns, snapshots and waiting messages keep everything through their bytes."""

from dataclasses import dataclass, replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure import ProcessManager, applies, message, on_deadline, starts
from perdure.codec import Codec, TypeRegistry
from perdure.codec.journal import JournalCodec
from perdure.core.correlation import VerdictKind
from perdure.core.instance import Instance, ProcessedMessages
from perdure.core.outcome import Encoder, Outcome
from perdure.core.replay import replay
from perdure.core.turn import step
from perdure.errors import CorruptRecord, DecodeError
from perdure.messages import DeadlineReached, Message, datetime_of
from perdure.process_manager import define

NOW_MS = 1_700_000_000_000


@message(name="journal-test.Plan")
class Plan:
    plan: str


@message(name="journal-test.Noted")
class Noted:
    text: str


@dataclass(frozen=True)
class Notes:
    texts: tuple[str, ...] = ()


class Notebook(ProcessManager[Notes]):
    """Does what each letter of the plan says; so hypothesis writes its handlers."""

    timeout = timedelta(days=2)

    @starts(Plan, by=lambda event: "one")
    def plan(self, state, event, do):
        for letter in event.plan:
            {
                "r": lambda: do.record(Noted(f"{len(state.texts)}")),
                "s": lambda: do.send(Noted("command")),
                "d": lambda: do.deadline("tick", timedelta(seconds=3)),
                "D": lambda: do.deadline("tock", timedelta(seconds=9)),
                "c": lambda: do.cancel_deadline("tick"),
                "a": lambda: do.reply({"answer": 42}),
            }[letter]()
        if event.plan.endswith("ss"):
            do.complete(7)

    @on_deadline("tock")
    def tock(self, state, do): ...

    @on_deadline("tick")
    def tick(self, state, do):
        do.record(Noted("tick"))

    @applies(Plan)
    def planned(self, state, event):
        return replace(state, texts=(*state.texts, event.plan))

    @applies(Noted)
    def noted(self, state, event):
        return replace(state, texts=(*state.texts, event.text))


DEFINITION = define(Notebook)
CODEC = Codec(TypeRegistry([DEFINITION.state_type, Plan, Noted, DeadlineReached]))
JOURNAL = JournalCodec(CODEC)
ENCODER = Encoder(CODEC.encode, CODEC.encode_value)


def absent():
    return Instance("Notebook/one", "one", Notes())


def told(content, number):
    stored = CODEC.encode(content)
    return Message(content, *stored, f"m-{number}", NOW_MS, "conversation", "cause", {"k": "v"})


def live(plans):
    """The instances after each turn, and the rows that tell of them."""
    instance, rows = absent(), []
    for number, plan in enumerate(plans, 1):
        content = (
            DeadlineReached("tick", datetime_of(NOW_MS))
            if plan == "t" and "tick" in instance.deadlines
            else Plan(plan.replace("t", ""))
        )
        turn = step(
            DEFINITION,
            instance,
            told(content, number),
            VerdictKind.START,
            False,
            NOW_MS + number,
            ENCODER,
        )
        rows.append((number, f"m-{number}", JOURNAL.encode_turn(turn)))
        instance = turn.after
    return instance, rows


def folded(instance, rows):
    return replay(
        DEFINITION, instance, (JOURNAL.decode_entry(DEFINITION, instance, *row) for row in rows)
    )


plans = st.lists(st.text("rsdDcat", max_size=4), max_size=8)


@given(plans)
def test_folding_the_journal_gives_the_live_instance(made):
    instance, rows = live(made)
    assert folded(absent(), rows) == instance


@given(plans, plans)
def test_a_snapshot_and_the_tail_give_the_live_instance(before, after):
    instance, rows = live([*before, *after])
    early, _ = live(before)
    known = ProcessedMessages(100)
    for number in range(1, len(rows) + 1):
        known.add(f"m-{number}", number)
    body = JOURNAL.encode_snapshot(early, known)
    restored = ProcessedMessages(100)
    start = JOURNAL.decode_snapshot("Notebook/one", len(before), body, restored)
    assert start == early
    assert restored.items(1_000) == known.items(len(before))
    assert folded(start, rows[len(before) :]) == instance


def test_a_missing_row_is_noticed():
    _, rows = live(["r", "s", "d"])
    with pytest.raises(CorruptRecord, match="entry 2 is missing"):
        folded(absent(), [rows[0], rows[2]])


def test_a_turn_keeps_what_history_shows():
    _, rows = live(["rsda"])
    turn = JOURNAL.read_turn(rows[0][2])
    assert JOURNAL.outcome_of(turn) is Outcome.APPLIED
    assert turn.correlation_id == "conversation"
    assert turn.causation_id == "cause"
    assert turn.headers == {"k": "v"}
    assert turn.reply is not None
    assert CODEC.decode_value(turn.reply) == {"answer": 42}
    assert CODEC.decode(*turn.message) == Plan("rsda")
    assert [CODEC.decode(*out.stored) for out in JOURNAL.outgoing_of(turn)] == [Noted("command")]


def test_a_waiting_message_comes_back_whole():
    sent = told(Plan("r"), 1)
    body = JOURNAL.encode_waiting(sent, VerdictKind.STOP, True)
    waiting = JOURNAL.decode_waiting("m-1", body)
    assert waiting.message == sent
    assert waiting.kind is not None
    assert VerdictKind(waiting.kind) is VerdictKind.STOP
    assert waiting.strict


@pytest.mark.parametrize("garbage", [b"", b"\xc1", b"\x93\x02\x01\x00", b"\x80", b"\xff" * 9])
def test_bytes_of_another_format_are_refused(garbage):
    with pytest.raises(DecodeError):
        JOURNAL.read_turn(garbage)
    with pytest.raises(DecodeError):
        JOURNAL.decode_snapshot("Notebook/one", 1, garbage, ProcessedMessages(1))
    with pytest.raises(DecodeError):
        JOURNAL.decode_waiting("m-1", garbage)
