"""What sagas and work queues declare is told as it is declared."""

from __future__ import annotations

import doctest

import pytest

import perdure.describing.mermaid
import perdure.describing.types
import perdure.describing.wording
from perdure import Approvals, ProcessManager
from perdure.core.retry import RetryPolicy
from perdure.core.supervision import Supervision
from perdure.describing import Description, Kind, describe
from perdure.describing.description import Guard, Retry, Step, Taken, Told, Undo
from perdure.describing.sheets import queue_sheet, queue_table, sheet_of, table_of, title_of
from perdure.describing.wording import retry_of, supervision_text
from perdure.errors import DefinitionError
from perdure.process_manager import define
from tests.describing.sagas import (
    EVERYTHING,
    ByHand,
    Order,
    hourly,
    letters,
    manager,
    nightly,
    payments,
    starting,
    stay,
    trip,
)


def only(member):
    (saga,) = describe([member]).sagas
    return saga


def test_a_process_manager_tells_what_starts_continues_and_stops_it():
    assert only(Order).messages == (
        Taken("described.placed", "starts", "order_id", (Guard(("new",)),), strict=True),
        Taken(
            "described.paid",
            "continues",
            "(region, order_id)",
            (Guard(("new", "open")), Guard(condition="is_large()"), Guard()),
        ),
        Taken("described.dropped", "stops", "the correlation id"),
        Taken("shop.reminded", "continues", "a function"),
    )


def test_a_process_manager_tells_what_else_it_handles_and_what_it_is_given():
    found = only(Order)
    assert (found.name, found.kind) == ("described-order", Kind.PROCESS_MANAGER)
    assert found.about == "An order, from the first to the last."
    assert (found.state, found.statuses) == ("State", ("new", "open", "paid"))
    assert found.indexed == ("customer",)
    assert found.deadlines == (Told("pick", (Guard(("paid",)),)),)
    assert found.failures == (Told("described.ship"),)
    assert found.compensates == ("described.charge",)
    assert found.children == (Told("kyc"),)
    assert found.handles_cancel
    assert found.handles_timeout
    assert not found.takes_failures
    assert (found.timeout_s, found.timeout_retry) == (5400, Retry(3, "3 attempts, 1 min apart"))
    assert found.retry == Retry(None, "tried for ever, after 1 s, 2 s, 4 s, …")
    assert found.supervision == "restarted up to 3 times in 2 min, then set aside"
    assert found.retention == "completed: 30 d after the end; failed: for ever"


def test_a_callback_written_by_hand_is_named_and_not_guessed_about():
    found = only(ByHand)
    assert found.by_hand == ("interested_in", "correlate", "handle")
    assert found.messages == (Taken("described.placed"),)
    assert found.takes_failures
    assert sheet_of(found)["deadlines"] == "only its code says (it is written by hand)"
    assert table_of(found)[0]["does"] == "only its code says (it is written by hand)"


def test_an_ordered_saga_tells_its_steps_what_they_depend_on_and_what_undoes_them():
    found = only(trip)
    assert found.kind is Kind.ORDERED_SAGA
    assert found.messages == (Taken("described.trip", "starts", "trip_id"),)
    hotel, train, bus, paying, thanks = found.steps
    assert hotel == Step(
        name="book_hotel",
        about="Book a room.",
        queue="described-trip.book_hotel",
        after=(),
        retry=Retry(1, "one attempt"),
        lease_s=60,
        deadline_s=3600,
        undo=Undo("cancel_hotel", "", Retry(5, "5 attempts, 5 s apart")),
        undoes_unknown=True,
    )
    assert train.after == bus.after == ("book_hotel",)
    assert paying.after == ("ask_train", "ask_bus")
    assert (train.undo, train.past_return) == (None, False)
    assert (paying.is_pivot, paying.past_return, thanks.past_return) == (True, True, True)
    assert [row["undone by"] for row in table_of(found)] == [
        "cancel_hotel, also if its end is unknown (5 attempts, 5 s apart)",
        "nothing to undo",
        "nothing to undo",
        "nothing: the pivot",
        "nothing: past the pivot",
    ]


def test_a_list_is_a_course_and_a_coroutine_says_that_its_course_is_its_code():
    assert [step.after for step in only(letters).steps] == [(), ("ask_bus",)]
    found = only(stay)
    assert found.about == "From arriving to leaving."
    assert [step.name for step in found.steps] == ["greet"]
    assert found.steps[0].deadline_s == 300
    assert found.messages[1] == Taken("described.paid", "continues", "order_id")
    assert sheet_of(found)["course"].startswith("only its code says")


def test_a_schedule_tells_when_it_runs_and_what_it_calls():
    found = only(nightly)
    assert (found.timing, found.calls) == ("cron 0 3 * * * in Europe/Berlin", "start_report()")
    assert found.missed == "none is made that is later than 5 min"
    assert found.about == "Begin the report."
    assert only(hourly).calls == "a function"


def test_a_queue_tells_its_limits_and_its_workers():
    (queue,) = describe([payments]).queues
    assert queue_sheet(queue) == {
        "at a time": "3",
        "attempts": "5 attempts, 30 s apart",
        "not repeated": "KeyError",
        "lease": "1 min 30 s",
        "rate": "100 in 1 s",
        "pauses after": "7 failed for good",
        "workers": "",
    }
    assert queue_table(queue) == [
        {
            "worker": "charge",
            "performs": "described.charge",
            "returns": "described.paid",
            "what": "Take the money.",
        },
        {
            "worker": "record",
            "performs": "described.dropped, described.paid (an event)",
            "returns": "nothing",
            "what": "",
        },
    ]


class Own:
    """A member of the user's own, which comes down to a definition."""

    name = "described-order"

    def definition(self):
        return define(Order)

    def queues(self):
        return ()

    def openings(self):
        return ()


def test_a_member_of_ones_own_is_told_as_far_as_its_definition_goes():
    found = only(Own())
    assert found.kind is Kind.OTHER
    assert [(one.type, one.role) for one in found.messages][:2] == [
        ("described.placed", "starts"),
        ("described.paid", "continues"),
    ]
    assert title_of(found) == "described-order, a saga of another kind"


def test_what_perdure_has_itself_can_be_described_as_well():
    found = only(Approvals)
    assert [one.name for one in found.deadlines] == ["reminder", "expires"]
    assert sheet_of(found)["no instance"] == "a message for one is answered with a fixed value"


@pytest.mark.parametrize("member", [Order, trip, letters, stay, nightly], ids=repr)
def test_everything_has_a_title_and_a_sheet_of_texts(member):
    found = only(member)
    assert title_of(found).startswith(f"{found.name}, a")
    for row in (sheet_of(found), *table_of(found)):
        assert all(isinstance(value, str) for value in row.values())


def test_all_members_are_told_in_their_order():
    found = describe(EVERYTHING)
    assert len(found.sagas) == 7
    assert [queue.name for queue in found.queues] == ["payments"]
    assert describe([]) == Description()


@pytest.mark.parametrize("member", [7, object, ProcessManager[int], "Order", Own])
def test_what_is_no_saga_is_refused(member):
    with pytest.raises(DefinitionError, match="is no saga") as caught:
        describe([member])
    assert caught.value.remedy


def test_what_was_declared_wrongly_is_refused_as_a_runtime_would():
    with pytest.raises(DefinitionError, match="is no name for a saga"):
        describe([manager(name="a/b", begin=starting())])


class Growing(RetryPolicy):
    def plain_delay_s(self, attempts):
        return attempts * 60.0


def test_a_policy_of_ones_own_is_told_by_its_pauses():
    assert retry_of(Growing(max_attempts=3)).text == "3 attempts, after 1 min, 2 min"


@pytest.mark.parametrize("made", ["resume", "restart", "stop", "quarantine", "escalate"])
def test_every_strategy_has_its_words(made):
    assert supervision_text(getattr(Supervision, made)())


@pytest.mark.parametrize(
    "module",
    [perdure.describing.mermaid, perdure.describing.types, perdure.describing.wording],
    ids=lambda module: module.__name__,
)
def test_the_examples_of_the_docstrings_are_true(module):
    failed, tried = doctest.testmod(module)
    assert (failed, tried > 0) == (0, True)
