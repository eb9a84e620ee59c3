"""Why an instance waits: facts in, reasons out, the most important first, in words for people."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from perdure.core.approval import Approval, Who
from perdure.core.approval_messages import Vote
from perdure.core.commit import InboxReason, OutboxKind, Status
from perdure.core.decision import ApprovalState
from perdure.core.ordered import OrderedState
from perdure.core.progress import Operation, Progress, Standing
from perdure.core.step_events import StepStatus
from perdure.core.wait_facts import ChildFact, Facts, QueueFact, Running, WaitingFor, WaitKind
from perdure.core.waiting import reasons
from perdure.messages import datetime_of, milliseconds_of
from perdure.testing.sample_rows import dead_letter, inbox_row, outbox_row, quarantine_row

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
NOW_MS = milliseconds_of(NOON)
MINUTE, HOUR = 60_000, 3_600_000
BEFORE = "2026-11-21 11:00:00 UTC (1 h ago)"

RUNNING = Facts(
    "Order", "o-1", NOW_MS, status=Status.RUNNING, updated_at_ms=NOW_MS - HOUR, takes=("Paid",)
)
ABSENT = replace(RUNNING, status=None, updated_at_ms=0)


def why(facts: Facts = RUNNING, **more: Any) -> list[WaitingFor]:
    return reasons(replace(facts, **more))


def texts(facts: Facts = RUNNING, **more: Any) -> list[str]:
    return [one.text for one in why(facts, **more)]


def job(position: int = 1, **more: Any) -> Any:
    values = {"type": "Charge", "error": "", "created_at_ms": NOW_MS - HOUR, "body": b""}
    return outbox_row("Order/o-1", 2, position - 1, position=position, **{**values, **more})


def waiting(id: str, reason: InboxReason, **more: Any) -> Any:
    values = {"created_at_ms": NOW_MS - HOUR, "due_at_ms": None, "error": "", "attempts": 0}
    return inbox_row("Order/o-1", id, reason=reason, **{**values, **more})


# Not there


def test_one_that_does_not_exist():
    assert texts(ABSENT) == ["There is no such instance, and no message waits for it."]


def test_one_that_does_not_exist_yet_and_its_parked_messages():
    parked = waiting("m-1", InboxReason.MISSING, due_at_ms=NOW_MS + HOUR)
    forever = waiting("m-2", InboxReason.MISSING)
    found = why(ABSENT, inbox=(parked, forever), waiting=2, types={"m-1": "Paid"})
    assert [one.text for one in found] == [
        "There is no such instance yet; 2 messages for it are kept.",
        f"Message Paid (m-1) is parked since {BEFORE}, until the instance begins. It becomes a "
        "dead letter at 2026-11-21 13:00:00 UTC (in 1 h).",
        f"Message m-2 is parked since {BEFORE}, until the instance begins. It waits for ever.",
    ]
    assert [one.kind for one in found] == ["absent", "parked", "parked"]
    assert found[1].at == NOON + timedelta(hours=1)
    assert found[1].remedy


# What somebody has to do comes first


def test_one_that_is_quarantined():
    aside = quarantine_row("Order/o-1", since_ms=NOW_MS - HOUR, error="ValueError: no\x1b[1m")
    held = waiting("m-1", InboxReason.HELD)
    found = why(quarantine=aside, inbox=(held,), waiting=1, deadlines={"pick": NOW_MS + HOUR})
    assert [one.text for one in found] == [
        f"It is quarantined since {BEFORE} (its handlers failed too often): ValueError: no\\x1b[1m."
        " 1 message for it is kept.",
        'Deadline "pick" is due at 2026-11-21 13:00:00 UTC (in 1 h).',
    ]
    assert found[0].remedy == "see to the cause, then release it"


def test_one_that_is_quarantined_and_has_never_been():
    found = why(ABSENT, quarantine=quarantine_row("Order/o-1", since_ms=NOW_MS))
    assert [one.kind for one in found] == ["quarantined"]


def test_one_that_cannot_be_read():
    found = why(problem="journal row 3 fails its checksum")
    assert found[0].text == "It cannot be read: journal row 3 fails its checksum"
    assert found[0].kind is WaitKind.UNREADABLE


def test_one_that_is_stuck():
    found = why(status=Status.STUCK, detail="hotel (could not be undone): ValueError: full")
    assert found[0].text == (
        f"It is stuck since {BEFORE} and goes on only when somebody has seen to it: hotel (could "
        "not be undone): ValueError: full."
    )
    assert found[0].remedy == "see to it, then send it what it goes on with, or cancel it"


def test_what_to_do_with_one_that_is_stuck_is_what_can_be_done():
    ordered, letter = OrderedState(), dead_letter("Order/o-1", "m-1", position=7)
    [stuck, *_] = why(status=Status.STUCK, state=ordered, letters=(letter,))
    assert stuck.remedy == "see to it, then retry it"
    [stuck, *_] = why(status=Status.STUCK, letters=(letter,))
    assert stuck.remedy == "see to it, then redrive its dead letter 7"
    [stuck, *_] = why(status=Status.STUCK, jobs=(job(attempts=2),), letters=(letter,))
    assert stuck.remedy == "see to it, then retry it"


def test_one_that_has_ended():
    assert texts(status=Status.COMPLETED) == [f"It completed at {BEFORE}."]
    found = why(status=Status.FAILED, detail="timed out", deadlines={"late": NOW_MS})
    assert [one.text for one in found] == [f"It failed at {BEFORE}: timed out."]


def test_a_message_that_is_tried_again_and_those_behind_it():
    retry = waiting(
        "m-1",
        InboxReason.DELAYED,
        attempts=3,
        error="Traceback\nValueError: no",
        due_at_ms=NOW_MS + MINUTE,
    )
    behind = [waiting(f"m-{n}", InboxReason.QUEUED) for n in (2, 3)]
    found = why(inbox=(retry, *behind), waiting=3, types={"m-1": "Paid"})
    assert [one.text for one in found] == [
        "Message Paid (m-1) has failed 3 times, at last with ValueError: no; it is tried again at "
        "2026-11-21 12:01:00 UTC (in 1 min).",
        "2 further messages wait behind that one, to keep the order.",
    ]
    assert (found[0].attempts, found[0].at) == (3, NOON + timedelta(minutes=1))
    assert found[1].count == 2


def test_its_dead_letters():
    letters = (
        dead_letter("Order/o-1", "m-1", queue="", created_at_ms=NOW_MS - HOUR, position=7),
        dead_letter("Order/o-1", "Order/o-1/2/0", job=5, created_at_ms=NOW_MS, position=8),
    )
    found = why(letters=letters)
    assert found[0].text == (
        "Dead letter 7: message PaymentReceived (m-1) failed for good after 3 attempts "
        f"(handler failed) at {BEFORE}: ValueError: amount."
    )
    assert 'Dead letter 8: command PaymentReceived (Order/o-1/2/0) in queue "payments"' in (
        found[1].text
    )
    assert found[1].text.endswith("The instance was told of it.")
    assert (found[1].id, found[1].remedy) == (
        "8",
        "see to the cause, then redrive it or discard it",
    )
    assert found[2].kind is WaitKind.MESSAGE, "it lives, and waits for more"


def test_a_dead_command_of_one_that_has_ended_is_not_worth_redriving():
    letters = (dead_letter("Order/o-1", "Order/o-1/2/0", job=5, created_at_ms=NOW_MS, position=8),)
    found = why(letters=letters, status=Status.FAILED)
    [letter] = [one for one in found if one.kind is WaitKind.DEAD_LETTER]
    assert letter.remedy == "see to the cause, then discard it: redriven, nobody would hear of it"


def test_many_dead_letters_are_counted():
    letters = tuple(dead_letter("Order/o-1", f"m-{n}", position=n) for n in range(12))
    assert texts(letters=letters)[10] == "And 2 further dead letters of it are kept."
    assert texts(letters=letters, rows_max=12)[10].startswith("And at least 2")


# Commands

PAUSED = QueueFact(True, "the provider is down", NOW_MS - HOUR, True, {}, 8)
IDLE = QueueFact(is_performed=True, running={}, concurrency=2, attempts_max=6)
FAILED = {"attempts": 3, "error": "ConnectionError: refused", "due_at_ms": NOW_MS + MINUTE}
CHARGE = 'Command Charge (Order/o-1/2/0) in queue "payments"'
TRIED = "Attempt 3 failed with ConnectionError: refused."


@pytest.mark.parametrize(
    ("more", "queue", "said"),
    [
        ({}, None, f"{CHARGE} waits, or is being performed; sent at {BEFORE}."),
        ({}, IDLE, f"{CHARGE} waits for a worker since {BEFORE}."),
        (
            {},
            replace(IDLE, running={1: Running(2, NOW_MS - MINUTE)}),
            f"{CHARGE} is being performed by a worker: attempt 2, since "
            "2026-11-21 11:59:00 UTC (1 min ago).",
        ),
        (
            {},
            replace(IDLE, running={8: Running(1, 0), 9: Running(1, 0)}),
            f"{CHARGE} waits for a free worker: all 2 are at work.",
        ),
        (
            {},
            PAUSED,
            f"{CHARGE} waits, for the queue is paused since {BEFORE}, because: the provider is "
            "down.",
        ),
        (
            FAILED,
            replace(PAUSED, since_ms=0, reason=""),
            f"{CHARGE} waits, for the queue is paused. {TRIED}",
        ),
        (
            {},
            QueueFact(True, is_performed=False),
            f"{CHARGE} waits, and nobody performs it: this runtime has no worker for that queue.",
        ),
        (
            FAILED,
            IDLE,
            f"{CHARGE} is tried again (attempt 4 of 6) at 2026-11-21 12:01:00 UTC (in 1 min). "
            f"{TRIED}",
        ),
        (
            FAILED,
            None,
            f"{CHARGE} is tried again (attempt 4) at 2026-11-21 12:01:00 UTC (in 1 min). {TRIED}",
        ),
        (
            {"due_at_ms": NOW_MS + HOUR, "expires_at_ms": NOW_MS + 2 * HOUR},
            IDLE,
            f"{CHARGE} is to start at 2026-11-21 13:00:00 UTC (in 1 h). It is given up at "
            "2026-11-21 14:00:00 UTC (in 2 h).",
        ),
        (
            {"position": 5},
            replace(IDLE, first=job(3, **FAILED)),
            'Command Charge (Order/o-1/2/4) in queue "payments" waits for its turn: the queue does '
            "one at a time, and is at Order/o-1/2/2, which is tried again at 2026-11-21 12:01:00 "
            "UTC (in 1 min).",
        ),
        ({"attempts": 1}, None, f"{CHARGE} was begun (attempt 1) and is not settled."),
        (
            {"target": ""},
            None,
            f"Command Charge (Order/o-1/2/0) is on its way to another saga, sent at {BEFORE}.",
        ),
    ],
)
def test_how_a_command_stands(more, queue, said):
    queues = {} if queue is None else {"payments": queue}
    [found] = why(jobs=(job(**more),), queues=queues)
    assert found.text == said
    assert found.kind is WaitKind.COMMAND


def test_a_step_is_said_to_be_one():
    [found] = why(jobs=(job(),), steps={1: "hotel"})
    assert found.text.startswith('Step "hotel", in queue "payments", waits')
    assert found.name == "hotel"


def test_commands_in_trouble_come_first_and_events_hold_up_nobody():
    jobs = (
        job(1, target="fine"),
        job(2, target="slow", **FAILED),
        job(3, target="stopped"),
        job(4, kind=OutboxKind.EVENT),
    )
    found = why(jobs=jobs, queues={"stopped": PAUSED, "fine": IDLE, "slow": IDLE})
    assert [one.queue for one in found] == ["stopped", "slow", "fine"]
    assert [bool(one.remedy) for one in found] == [True, False, False]


def test_a_command_behind_another_one():
    first, second = job(1), job(2, after=1)
    assert texts(jobs=(first, second), queues={"payments": IDLE})[1].endswith(
        "starts when Order/o-1/2/0, before it, is done."
    )
    letter = dead_letter("Order/o-1", "Order/o-1/2/0", job=1, position=4)
    found = why(jobs=(second,), letters=(letter,))
    assert found[1].text.endswith("starts after Order/o-1/2/0, which is dead letter 4.")
    assert found[1].remedy == "redrive that dead letter, or discard it"


def test_many_commands_are_counted():
    found = texts(jobs=tuple(job(n) for n in range(1, 23)))
    assert found[20] == "And 2 further commands of it wait or run."


# What the state says


def approval(*votes: Vote, **more: Any) -> ApprovalState:
    policy = Approval(Who(("ann", "bob"), ("finance",)), quorum=2, rejections=2, **more)
    asked_at = NOON - timedelta(hours=1)
    return ApprovalState("a", None, "d", policy, "eve", asked_at, votes=votes)


def test_an_approval():
    vote = Vote("ann", "approve", NOON)
    state = approval(vote, Vote("bob", "reject", NOON), expires=timedelta(hours=3))
    deadlines = {"expires": NOW_MS + 2 * HOUR, "reminder": NOW_MS + HOUR}
    found = why(state=state, deadlines=deadlines)
    assert [one.text for one in found] == [
        "It waits for 1 more approval, by ann or bob or anyone in finance. So far ann has "
        "approved. So far bob has rejected it. It expires at 2026-11-21 14:00:00 UTC (in 2 h).",
        'Deadline "reminder" is due at 2026-11-21 13:00:00 UTC (in 1 h).',
    ]
    assert found[0].names == ("ann", "bob", "group finance")
    assert "waits for 2 approvals" in texts(state=approval())[0]
    assert texts(state=approval())[0].endswith("It never expires.")


@pytest.mark.parametrize(
    ("child", "said", "remedied"),
    [
        (ChildFact("kyc", "Checks/o-1/kyc"), "has not begun", False),
        (ChildFact("kyc", "Checks/o-1/kyc", Status.RUNNING), "is running; ask why that", False),
        (ChildFact("kyc", "Checks/o-1/kyc", Status.STUCK, "no"), "is stuck: no.", True),
        (ChildFact("kyc", "Checks/o-1/kyc", Status.FAILED), "has ended (failed)", False),
        (ChildFact("kyc", "Checks/o-1/kyc", is_quarantined=True), "is quarantined.", True),
        (
            ChildFact("kyc", "Checks/o-1/kyc", Status.RUNNING, state=approval()),
            "is an approval. It waits for 2 approvals",
            False,
        ),
    ],
)
def test_a_child(child, said, remedied):
    [found] = why(children=(child,))
    assert found.text.startswith('Child "kyc" (Checks/o-1/kyc) ')
    assert said in found.text
    assert bool(found.remedy) is remedied


def test_a_step_whose_command_is_done_and_of_which_the_news_is_on_its_way():
    state = OrderedState(steps={"a": StepStatus.COMPLETED, "b": StepStatus.RUNNING})
    [found] = why(state=state)
    assert found.text.startswith('Step "b" is under way, and its command is not in the queue')
    assert [one.kind for one in why(state=state, jobs=(job(),), steps={1: "b"})] == ["command"]


def test_what_a_workflow_waits_for():
    names = {
        "step/charge:3": "",
        "sleep/nap": "",
        "event/login": "FirstLogin",
        "child/kyc": "",
        "step/done": "",
    }
    operations = {name: Operation(NOON, awaits=awaits) for name, awaits in names.items()}
    operations["step/done"] = Operation(NOON, Standing.DONE, 2, NOON)
    found = why(
        state=Progress(operations=operations),
        jobs=(job(),),
        steps={1: "charge:3"},
        children=(ChildFact("kyc", "Checks/o-1/kyc", Status.RUNNING),),
        deadlines={
            "sleep/nap": NOW_MS + HOUR,
            "event/login": NOW_MS + 2 * HOUR,
            "child/kyc": NOW_MS + MINUTE,
            "perdure.timeout": NOW_MS + 9 * HOUR,
        },
    )
    assert [one.text for one in found] == [
        f'Step "charge:3", in queue "payments", waits, or is being performed; sent at {BEFORE}.',
        'Child "kyc" (Checks/o-1/kyc) is running; ask why that waits. It is waited for until '
        "2026-11-21 12:01:00 UTC (in 1 min).",
        'It sleeps ("nap") until 2026-11-21 13:00:00 UTC (in 1 h).',
        'It waits for event "FirstLogin" (as "login"), until 2026-11-21 14:00:00 UTC (in 2 h).',
        "The timeout of the whole process is due at 2026-11-21 21:00:00 UTC (in 9 h).",
    ]


def test_of_a_workflow_of_which_nothing_is_open_something_is_on_its_way():
    assert "something is on its way to it" in texts(state=Progress())[0]


# Deadlines, schedules, messages


def test_deadlines_in_the_order_in_which_they_are_due():
    deadlines = {"b": NOW_MS + HOUR, "a": NOW_MS + 2 * HOUR, "late": NOW_MS - HOUR}
    found = why(deadlines=deadlines)
    assert [one.name for one in found] == ["", "late", "b", "a"]
    assert found[1].text == (
        f'Deadline "late" was due at {BEFORE}; it fires as soon as the instance can take it.'
    )
    assert not found[1].remedy
    assert why(deadlines=deadlines, is_live=False)[1].remedy


@pytest.mark.parametrize(
    ("takes", "said"),
    [
        (None, "It waits for a message."),
        ((), "It waits for a message, and is interested in none."),
        (("Cancel", "Paid"), "It waits for a message; it is interested in Cancel or Paid."),
    ],
)
def test_one_that_waits_for_a_message(takes, said):
    [found] = why(takes=takes)
    assert found.text == f"{said} The last turn was 1 h ago."
    assert found.since == datetime_of(NOW_MS - HOUR)


def test_a_schedule():
    deadlines = {"next": NOW_MS + HOUR, "run 2026-11-21T11:00:00Z": NOW_MS - HOUR}
    assert texts(is_schedule=True, deadlines=deadlines) == [
        f"A run that is decided was due at {BEFORE}; it fires as soon as the instance can take it.",
        "The next run is due at 2026-11-21 13:00:00 UTC (in 1 h).",
    ]
    [paused] = why(is_schedule=True, is_paused=True)
    assert paused.text.startswith("The schedule is paused")
    assert paused.remedy
    assert texts(is_schedule=True)[0].startswith("The schedule has no further run.")


def test_there_is_always_a_reason():
    for status in (None, *Status):
        for state in (None, Progress(), OrderedState(), approval()):
            assert why(status=status, state=state)
