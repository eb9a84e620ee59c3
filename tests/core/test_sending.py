"""What a turn sends: addresses, order, delays, audiences, context."""

from datetime import timedelta

import pytest

from perdure import Complete, Fail, Publish, Record, Send
from perdure.core.commit import FOLLOWS, OutboxKind
from perdure.core.correlation import VerdictKind
from perdure.core.outcome import Encoder
from perdure.core.turn import step
from perdure.errors import InvalidEffect, Unroutable
from tests.core.test_turn import ENCODER, NOW_MS, Added, Charge, Go, absent, saga, take, told


def take_with(encoder, *effects):
    definition = saga()
    message = told(Go(tuple(effects)))
    instance = absent(definition)
    return step(definition, instance, message, VerdictKind.START, False, NOW_MS, encoder)


def encoder(**given):
    return Encoder(ENCODER.message, ENCODER.value, **given)


def test_a_command_may_follow_the_one_before_and_events_between_do_not_count():
    turn = take(
        Send(Charge(1)),
        Publish(Added(1)),
        Send(Charge(2), after_previous=True),
        Send(Charge(3)),
    )
    assert [row.after for row in turn.outgoing] == [0, 0, FOLLOWS, 0]


@pytest.mark.parametrize("before", [(), (Publish(Added(1)),), (Record(Added(1)),)])
def test_the_first_command_of_a_turn_follows_nothing(before):
    with pytest.raises(InvalidEffect, match="first of its turn"):
        take(*before, Send(Charge(1), after_previous=True), Send(Charge(2)))


def test_a_delay_counts_from_the_turn_and_is_rounded_up():
    turn = take(
        Send(Charge(1), delay=timedelta(seconds=3, microseconds=1)),
        Send(Charge(2), delay=timedelta(0)),
        Send(Charge(3)),
    )
    assert [row.due_at_ms for row in turn.outgoing] == [NOW_MS + 3_001, 0, 0]


@pytest.mark.parametrize(
    "effect",
    [
        Send(Charge(1), delay=timedelta(seconds=-1)),
        Send(Charge(1), delay=3),  # type: ignore[arg-type]
        Send(Charge(1), delay=timedelta.max),
        Send(Charge(1), queue=""),
        Send(Charge(1), queue=7),  # type: ignore[arg-type]
    ],
)
def test_nonsense_about_a_command_is_refused(effect):
    with pytest.raises(InvalidEffect):
        take(effect)


def test_the_address_is_asked_for_and_may_refuse():
    def address(command, queue):
        if command.cents == 13:
            raise Unroutable("nobody takes it")
        return queue or f"charges-{command.cents}"

    turn = take_with(encoder(address=address), Send(Charge(1)), Send(Charge(2), queue="slow"))
    assert [row.target for row in turn.outgoing] == ["charges-1", "slow"]
    with pytest.raises(Unroutable):
        take_with(encoder(address=address), Send(Charge(13)))


def test_an_event_has_one_row_for_each_of_its_audience_and_one_without_any():
    audiences = {1: ("", "mail", "audit"), 2: ()}
    turn = take_with(
        encoder(audience=lambda event: audiences[event.number]),
        Publish(Added(1)),
        Publish(Added(2)),
    )
    assert [(row.kind, row.target) for row in turn.outgoing] == [
        (OutboxKind.EVENT, ""),
        (OutboxKind.EVENT, "mail"),
        (OutboxKind.EVENT, "audit"),
        (OutboxKind.EVENT, ""),
    ]
    assert len({row.id for row in turn.outgoing}) == 4


def test_a_result_that_is_a_message_is_published_where_somebody_listens():
    listened = encoder(audience=lambda event: ("mail",))
    turn = take_with(listened, Complete(Added(7)))
    assert [(row.kind, row.target, row.body) for row in turn.outgoing] == [
        (OutboxKind.EVENT, "mail", b"Added(number=7)")
    ]
    assert turn.after.detail == b"Added(number=7)"
    unheard = encoder(audience=lambda event: ())
    assert take_with(unheard, Complete(Added(7))).outgoing == []
    assert take_with(listened, Complete({"sum": 7})).outgoing == []
    assert take_with(listened, Complete(None)).outgoing == []
    assert take_with(listened, Fail("no")).outgoing == []


def test_the_context_is_asked_once_and_only_if_something_is_sent():
    asked = []

    def context(message, metadata):
        asked.append((message.message_id, metadata.sequence_nr))
        return b"context"

    turn = take_with(encoder(context=context), Send(Charge(1)), Publish(Added(1)))
    assert [row.context for row in turn.outgoing] == [b"context"] * 2
    assert asked == [("m-1", 1)]
    take_with(encoder(context=context), Record(Added(1)))
    assert len(asked) == 1


def test_what_must_interest_somebody_fails_the_turn_if_it_does_not():
    nobody = encoder(audience=lambda event: ())
    assert [row.target for row in take_with(nobody, Publish(Added(1))).outgoing] == [""]
    with pytest.raises(Unroutable, match="nobody in the runtime is interested in Added"):
        take_with(nobody, Publish(Added(1), mandatory=True))
    heard = take_with(encoder(audience=lambda event: ("audit",)), Publish(Added(1), mandatory=True))
    assert [row.target for row in heard.outgoing] == ["audit"]
