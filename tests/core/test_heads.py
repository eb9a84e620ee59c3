"""When a turn writes the head of its instance, and what it says."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import pytest

from perdure import Effects, Indexed, ProcessManager, applies, continues, message, starts, stops
from perdure.core.commit import HeadRow, Status
from perdure.core.correlation import VerdictKind
from perdure.core.instance import Instance
from perdure.core.outcome import Encoder, Outcome, Turn, record_of
from perdure.core.tally import TallyRow, count_head
from perdure.core.turn import step
from perdure.errors import EncodeError
from perdure.messages import Message
from perdure.process_manager import define
from perdure.testing.sample_rows import head

NOON_MS = 1_700_000_040_000
MINUTE_MS = 60_000


@message(name="heads.begun")
class Begun:
    id: str


@message(name="heads.named")
class Named:
    id: str
    name: str


@message(name="heads.noted")
class Noted:
    id: str


@message(name="heads.done")
class Done:
    id: str


@dataclass(frozen=True)
class Person:
    name: Indexed[str] = ""
    notes: int = 0


class Naming(ProcessManager[Person]):
    timeout = timedelta(days=1)

    @starts(Begun, by="id")
    def begun(self, state: Person, event: Begun, do: Effects) -> None:
        """Nothing is sent."""

    @continues(Named, by="id")
    def named(self, state: Person, event: Named, do: Effects) -> None:
        """Nothing is sent."""

    @continues(Noted, by="id", when=lambda state: state.name != "closed")
    def noted(self, state: Person, event: Noted, do: Effects) -> None:
        """Nothing is sent."""

    @stops(Done, by="id")
    def done(self, state: Person, event: Done, do: Effects) -> None:
        """It ends."""

    @applies(Named)
    def fold_name(self, state: Person, event: Named) -> Person:
        return Person(event.name, state.notes)

    @applies(Noted)
    def fold_note(self, state: Person, event: Noted) -> Person:
        return Person(state.name, state.notes + 1)


DEFINITION = define(Naming)
ENCODER = Encoder(lambda content: ("x", 1, b""), lambda value: b"")


def take(instance: Instance, content: object, at_ms: int = NOON_MS) -> Turn:
    kind = VerdictKind.STOP if isinstance(content, Done) else VerdictKind.START
    told = Message(content, "x", 1, b"", f"m-{instance.sequence_nr}", at_ms)
    return step(DEFINITION, instance, told, kind, False, at_ms, ENCODER)


def begun() -> Instance:
    return take(Instance("Naming/1", "1", DEFINITION.initial_state()), Begun("1")).after


def written(turn: Turn) -> HeadRow | None:
    return record_of(turn, "Naming", 1, b"", False).head


def test_the_first_turn_writes_it_with_all_fields():
    first = take(Instance("Naming/1", "1", DEFINITION.initial_state()), Named("1", "ann"))
    assert written(first) == HeadRow(
        "Naming/1", "Naming", "1", Status.RUNNING, NOON_MS, NOON_MS, (("name", "sann"),)
    )


def test_a_turn_that_changes_nothing_of_it_writes_none():
    assert written(take(begun(), Noted("1"), NOON_MS + 59_999)) is None
    named = take(begun(), Named("1", "ann"))
    again = take(named.after, Named("1", "ann"))
    assert written(named) is not None
    assert written(again) is None
    assert again.after.fields == (("name", "sann"),)


def test_the_first_turn_of_another_minute_writes_it():
    before = begun()
    for at_ms, is_written in ((NOON_MS + 59_999, False), (NOON_MS + 60_000, True)):
        turn = take(before, Noted("1"), at_ms)
        assert (written(turn) is not None) is is_written
    late = take(before, Noted("1"), NOON_MS + 5 * MINUTE_MS)
    head_row = written(late)
    assert head_row is not None
    assert head_row.updated_at_ms == NOON_MS + 5 * MINUTE_MS


def test_an_unwanted_message_of_another_minute_writes_it_too():
    named = take(begun(), Named("1", "ann")).after
    turn = take(named, Begun("1"), NOON_MS + MINUTE_MS)
    assert turn.outcome is Outcome.APPLIED
    closed = take(named, Named("1", "closed")).after
    refused = take(closed, Noted("1"), NOON_MS + MINUTE_MS)
    assert refused.outcome is Outcome.UNHANDLED
    head_row = written(refused)
    assert head_row is not None
    assert head_row.fields == (("name", "sclosed"),)


def test_an_instance_that_has_ended_stays_as_old_as_its_end():
    ended = take(begun(), Done("1")).after
    for _ in range(2):
        later = take(ended, Noted("1"), NOON_MS + 7 * MINUTE_MS)
        assert later.outcome is Outcome.FINISHED
        assert later.after.updated_at_ms == NOON_MS
        assert written(later) is None
        ended = later.after


def test_a_value_that_cannot_be_indexed_fails_its_turn():
    with pytest.raises(EncodeError, match="indexed field 'name'"):
        take(begun(), Named("1", 5.0))  # type: ignore[arg-type]


# -- tallies


def test_a_tally_counts_each_change_once():
    tally = TallyRow("Order")
    running, stuck = head("Order/1"), head("Order/1", Status.STUCK)
    done = head("Order/1", Status.COMPLETED, started_at_ms=5, updated_at_ms=12)
    steps = [(None, running), (running, running), (running, stuck), (stuck, done), (done, done)]
    for before, after in steps:
        count_head(tally, before, after)
    assert tally == TallyRow("Order", 1, 1, 0, 0, 0, 1, 0, 7)
    count_head(tally, done, None)
    assert tally == TallyRow("Order", 1, 1, 0, 0, 0, 0, 0, 7)
    assert tally.kept == 0
