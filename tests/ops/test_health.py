"""The verdict on a runtime's health: what trips, how much it weighs, what it says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.errors import DefinitionError
from perdure.ops.facts import Facts, QueueFacts, SagaFacts, StoreFacts
from perdure.ops.health import HealthStatus, IssueKind, SagaThresholds, Thresholds, judge
from perdure.runtime.watching.vitals import Phase, Trouble, Vitals

HOUR_S = 3_600.0
WARNING, CRITICAL = HealthStatus.WARNING, HealthStatus.CRITICAL


def of(**known: Any) -> Facts:
    store = known.pop("store", StoreFacts())
    return Facts(at_ms=0, store=store, **known)


def running(**known: Any) -> Facts:
    phase = known.pop("phase", Phase.RUNNING)
    return of(vitals=Vitals(phase=phase, at_ms=0, **known))


def saga(**known: Any) -> Facts:
    return of(sagas=(SagaFacts(saga="Order", **known),))


def queue(**known: Any) -> Facts:
    return of(queues=(QueueFacts(queue="mail", **known),))


TABLE = [
    (saga(ended=100, failed=10), None, ""),
    (
        saga(ended=500, failed=60),
        WARNING,
        "High failure rate for Order: 12 % of the last 500 ended",
    ),
    (
        saga(ended=10, failed=5),
        CRITICAL,
        "High failure rate for Order: 50 % of the last 10 ended",
    ),
    (saga(ended=9, failed=9), None, ""),  # too few to tell
    (saga(ended=10, average_s=299.0), None, ""),
    (
        saga(ended=10, average_s=2 * HOUR_S + 120),
        WARNING,
        "Slow processes for Order: 2 h 2 min on average",
    ),
    (saga(stuck=1), WARNING, "1 process of Order appears stuck"),
    (
        saga(stuck=3, idle=4),
        WARNING,
        "7 processes of Order appear stuck (4 without anything happening for 7 d)",
    ),
    (
        saga(old=1000),
        WARNING,
        "1000 or more processes of Order not ended within 30 d",
    ),
    (saga(old=2), WARNING, "2 processes of Order not ended within 30 d"),
    (of(deadline_late_s=60.0), None, ""),
    (
        of(deadline_late_s=90.0),
        WARNING,
        "Lag: the oldest of the deadlines has been due for 1 min 30 s",
    ),
    (
        of(message_late_s=HOUR_S),
        CRITICAL,
        "Lag: the oldest of the waiting messages has been due for 1 h",
    ),
    (
        queue(depth=5, ready_s=70.5),
        WARNING,
        "Lag: the oldest of the jobs of work queue mail has been due for 1 min 10 s",
    ),
    (
        queue(depth=5, paused="the provider is down", ready_s=HOUR_S),
        WARNING,
        "Work queue mail is paused with 5 jobs: the provider is down",
    ),
    (
        queue(retried=1),
        WARNING,
        "1 job of work queue mail tried more than 5 times without success",
    ),
    (of(quarantined=1), WARNING, "1 instance quarantined"),
    (of(dead_letters=2), WARNING, "2 dead letters"),
    (
        of(store=StoreFacts(error="disk I/O error")),
        CRITICAL,
        "The store cannot be read: disk I/O error",
    ),
    (of(store=StoreFacts(read_s=1.5)), WARNING, "Reading the store took 1.5 s"),
    (of(store=StoreFacts(read_s=6.0)), CRITICAL, "Reading the store took 6 s"),
    (
        of(store=StoreFacts(disk_free=900 * 1024**2)),
        WARNING,
        "900 MiB are left on the disk of the store",
    ),
    (
        of(store=StoreFacts(disk_free=10 * 1024**2)),
        CRITICAL,
        "10 MiB are left on the disk of the store",
    ),
    (running(), None, ""),
    (running(phase=Phase.STARTING), WARNING, "The runtime is not running: starting"),
    (running(phase=Phase.STOPPED), CRITICAL, "The runtime is not running: stopped"),
    (
        running(phase=Phase.STOPPED, escalated="no ledger"),
        CRITICAL,
        "The runtime was stopped: no ledger",
    ),
    (running(write_error="disk full"), CRITICAL, "The last write failed: disk full"),
    (running(writing_s=2.0), WARNING, "A write has been under way for 2 s"),
    (
        running(troubles=(Trouble("rehydration", 2, "KeyError: 1"),)),
        WARNING,
        "Failed twice in a row: rehydration: KeyError: 1",
    ),
    (
        running(troubles=(Trouble("rehydration", 3, "KeyError: 1"),)),
        CRITICAL,
        "Failed 3 times in a row: rehydration: KeyError: 1",
    ),
    (
        running(troubles=tuple(Trouble("mail", n, "it is away") for n in (1, 2, 4))),
        CRITICAL,
        "Failed 4 times in a row: mail (3 alike): it is away",
    ),
    (
        running(blocks=1, blocked_s=30.0),
        WARNING,
        "User code blocked the event loop 30 s ago, once so far",
    ),
    (running(blocks=9, blocked_s=61.0), None, ""),
    (running(in_flight=79, in_flight_max=100), None, ""),
    (
        running(in_flight=80, in_flight_max=100),
        WARNING,
        "80 of 100 messages in flight (80 %)",
    ),
]
EXPECTED = Thresholds(
    average_duration=timedelta(minutes=5),
    max_process_age=timedelta(days=30),
    lag=timedelta(minutes=1),
)


@pytest.mark.parametrize(("facts", "severity", "text"), TABLE)
def test_what_is_known_is_judged_and_told(facts: Facts, severity: Any, text: str) -> None:
    found = judge(facts, EXPECTED)
    assert [(issue.severity, issue.text) for issue in found.issues] == (
        [(severity, text)] if severity else []
    )
    assert found.status is (severity or HealthStatus.HEALTHY)
    assert found.at == datetime(1970, 1, 1, tzinfo=UTC)


def test_the_gravest_issue_makes_the_verdict_and_comes_first() -> None:
    facts = of(dead_letters=1, store=StoreFacts(error="gone"))
    found = judge(facts, Thresholds())
    assert found.status is CRITICAL
    assert [issue.kind for issue in found.issues] == [IssueKind.STORE, IssueKind.DEAD_LETTERS]


def test_a_saga_of_which_something_else_is_expected_is_judged_by_that() -> None:
    facts = of(sagas=tuple(SagaFacts(saga=n, ended=100, failed=6) for n in ("Order", "Trip")))
    found = judge(facts, Thresholds(sagas={"Trip": SagaThresholds(failure_rate=0.05)}))
    assert [issue.subject for issue in found.issues] == ["Trip"]


def test_a_threshold_of_none_never_trips() -> None:
    off: dict[str, Any] = dict.fromkeys(
        ("failure_rate", "critical_failure_rate", "stuck_process_age", "lag", "critical_lag",
         "dead_letters", "quarantined", "saturation", "disk_free", "critical_disk_free",
         "blocked_within", "max_retry_count")
    )  # fmt: skip
    facts = of(
        sagas=(SagaFacts(saga="Order", ended=500, failed=500),),
        queues=(QueueFacts(queue="mail", ready_s=1e9),),
        deadline_late_s=1e9,
        message_late_s=1e9,
        dead_letters=9,
        quarantined=9,
        store=StoreFacts(disk_free=0),
        vitals=Vitals(
            phase=Phase.RUNNING, at_ms=0, blocks=1, blocked_s=0.0, in_flight=9, in_flight_max=9
        ),
    )
    assert judge(facts, Thresholds(**off)).status is HealthStatus.HEALTHY


@given(
    st.integers(0, 500),
    st.integers(0, 500),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_a_lower_threshold_never_makes_it_look_better(
    ended: int, failed: int, one: float, other: float
) -> None:
    order = [HealthStatus.HEALTHY, WARNING, CRITICAL]
    facts = saga(ended=ended, failed=min(failed, ended))
    strict, lax = sorted([one, other])
    verdicts = [
        order.index(judge(facts, Thresholds(failure_rate=rate)).status) for rate in (strict, lax)
    ]
    assert verdicts[0] >= verdicts[1]


@pytest.mark.parametrize(
    "wrong",
    [
        {"failure_rate": 1.5},
        {"failure_rate": float("nan")},
        {"failure_rate": "high"},
        {"stuck_process_age": 60},
        {"lag": timedelta(0)},
        {"answer_time": None},
        {"dead_letters": -1},
        {"sample": 1.5},
        {"sagas": {"Order": Thresholds}},
        {"sagas": ["Order"]},
    ],
    ids=str,
)
def test_nonsense_is_refused_with_what_to_give(wrong: Any) -> None:
    with pytest.raises(DefinitionError) as refused:
        Thresholds(**wrong)
    assert refused.value.remedy
