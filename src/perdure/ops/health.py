"""Is it well? Facts compared with thresholds: healthy, a warning or critical, and why.

    found = await health(runtime, Thresholds(failure_rate=0.05))
    print(found.status)
    for issue in found.issues:
        print(issue.severity, issue.text)

What the verdict means:

- *Critical*: the runtime cannot do its work now, or half of what it does goes wrong. The store
  cannot be read or written, or its disk is all but full; of a cluster, no process owns any shard;
  the runtime was stopped by a saga's
  failure; background work of it keeps failing; what is due waits for much too long; the rate of
  failures is at ``critical_failure_rate``.
- *Warning*: it works, and somebody should look: every other threshold.
- *Healthy*: neither.

``judge`` is pure: the same facts and thresholds give the same verdict, and a test has a table of
them. Next to read: ``thresholds.py``, ``facts.py``; ``gathering.py``, where facts come from.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from perdure.messages import datetime_of
from perdure.ops.cluster_facts import ClusterFacts
from perdure.ops.facts import Facts, QueueFacts, SagaFacts
from perdure.ops.gathering import facts_of_runtime, facts_of_store
from perdure.ops.thresholds import SagaThresholds as SagaThresholds
from perdure.ops.thresholds import Thresholds
from perdure.ops.wording import at_least, counted, percent, span, times
from perdure.runtime.clock import Clock, SystemClock
from perdure.runtime.runtime import Runtime
from perdure.runtime.watching.vitals import Phase, Vitals
from perdure.store.protocol import Store

__all__ = [
    "Health",
    "HealthStatus",
    "Issue",
    "IssueKind",
    "SagaThresholds",
    "Thresholds",
    "health",
    "health_of_store",
    "judge",
]


UNOWNED_SHOWN = 8


class HealthStatus(StrEnum):
    """The verdict."""

    HEALTHY = "healthy"
    WARNING = "warning"
    CRITICAL = "critical"


class IssueKind(StrEnum):
    """What an issue is about."""

    FAILURE_RATE = "failure_rate"
    SLOW = "slow"
    STUCK = "stuck"
    OLD = "old"
    LAG = "lag"
    RETRIES = "retries"
    PAUSED = "paused"
    QUARANTINED = "quarantined"
    DEAD_LETTERS = "dead_letters"
    STORE = "store"
    DISK = "disk"
    RUNTIME = "runtime"
    CLUSTER = "cluster"
    LOOP = "loop"
    SATURATION = "saturation"


@dataclass(frozen=True, slots=True)
class Issue:
    """One thing that is not as it should be. ``subject`` is its saga or work queue, "" for neither.

    ``value`` is what was measured: a rate, a count, seconds, bytes.
    """

    kind: IssueKind
    severity: HealthStatus
    text: str
    subject: str = ""
    value: float = 0.0


@dataclass(frozen=True, slots=True)
class Health:
    """The verdict at a moment, and its issues, the critical ones first."""

    status: HealthStatus
    issues: tuple[Issue, ...]
    at: datetime

    def as_json(self) -> dict[str, Any]:
        """Plain data, as ``/health`` and ``perdure health --json`` show it."""
        return {
            "status": self.status.value,
            "at": self.at.isoformat(),
            "issues": [
                {
                    "kind": issue.kind.value,
                    "severity": issue.severity.value,
                    "subject": issue.subject,
                    "value": issue.value,
                    "text": issue.text,
                }
                for issue in self.issues
            ],
        }


async def health(runtime: Runtime, thresholds: Thresholds | None = None) -> Health:
    """How the runtime and its store are. Asks the store a few questions that indexes answer.

    Raises nothing: a store that cannot be read is an issue.
    """
    thresholds = thresholds or Thresholds()
    return judge(await facts_of_runtime(runtime, thresholds), thresholds)


async def health_of_store(
    store: Store,
    thresholds: Thresholds | None = None,
    *,
    clock: Clock | None = None,
    shards: bool = False,
) -> Health:
    """How the processes and jobs in a store are, without a runtime: it may be open read-only.

    ``shards``: in PostgreSQL, it is an issue that some have no live owner.

    A job that a worker of some runtime is at counts as one that waits, since nobody here knows.
    """
    thresholds = thresholds or Thresholds()
    clock = clock or SystemClock()
    return judge(await facts_of_store(store, thresholds, clock, shards=shards), thresholds)


def judge(facts: Facts, thresholds: Thresholds) -> Health:
    """The verdict on these facts. Pure."""
    issues = sorted(_issues(facts, thresholds), key=lambda issue: issue.severity is not _CRITICAL)
    status = issues[0].severity if issues else HealthStatus.HEALTHY
    return Health(status, tuple(issues), datetime_of(facts.at_ms))


_WARNING, _CRITICAL = HealthStatus.WARNING, HealthStatus.CRITICAL


def _issues(facts: Facts, thresholds: Thresholds) -> Iterator[Issue]:
    if facts.vitals is not None:
        yield from _of_runtime(facts.vitals, thresholds)
    if facts.cluster is not None and facts.cluster.unowned:
        yield _unowned(facts.cluster, facts.mail)
    yield from _of_store(facts, thresholds)
    for saga in facts.sagas:
        yield from _of_saga(saga, thresholds.of(saga.saga), thresholds.sample_min)
    yield from _late("deadlines", "", facts.deadline_late_s, thresholds)
    yield from _late("waiting messages", "", facts.message_late_s, thresholds)
    if facts.mail and _exceeds(facts.mail_s, _seconds(thresholds.mail_age)):
        text = f"{counted(facts.mail, 'message')} in the mail, not taken for {span(facts.mail_s)}"
        yield Issue(IssueKind.LAG, _WARNING, text, value=facts.mail_s)
    for queue in facts.queues:
        yield from _of_queue(queue, thresholds)
    if _reaches(facts.quarantined, thresholds.quarantined):
        text = f"{counted(facts.quarantined, 'instance')} quarantined"
        yield Issue(IssueKind.QUARANTINED, _WARNING, text, value=facts.quarantined)
    if _reaches(facts.dead_letters, thresholds.dead_letters):
        text = counted(facts.dead_letters, "dead letter")
        yield Issue(IssueKind.DEAD_LETTERS, _WARNING, text, value=facts.dead_letters)


def _of_runtime(vitals: Vitals, thresholds: Thresholds) -> Iterator[Issue]:
    if vitals.escalated is not None:
        text = f"The runtime was stopped: {vitals.escalated}"
        yield Issue(IssueKind.RUNTIME, _CRITICAL, text)
    elif vitals.phase is not Phase.RUNNING:
        severity = _CRITICAL if vitals.phase is Phase.STOPPED else _WARNING
        yield Issue(IssueKind.RUNTIME, severity, f"The runtime is not running: {vitals.phase}")
    if vitals.write_error is not None:
        yield Issue(IssueKind.STORE, _CRITICAL, f"The last write failed: {vitals.write_error}")
    yield from _slow("A write has been under way for", vitals.writing_s, thresholds)
    yield from _failing(vitals, thresholds)
    yield from _blocked(vitals, thresholds)
    share = vitals.in_flight / vitals.in_flight_max if vitals.in_flight_max else 0.0
    if thresholds.saturation is not None and share >= thresholds.saturation > 0:
        text = f"{vitals.in_flight} of {vitals.in_flight_max} messages in flight ({percent(share)})"
        yield Issue(IssueKind.SATURATION, _WARNING, text, value=share)


def _failing(vitals: Vitals, thresholds: Thresholds) -> Iterator[Issue]:
    """One issue for all that fail at the same: a process has a runtime for each of its shards."""
    same: dict[tuple[str, str], list[int]] = {}
    for trouble in vitals.troubles:
        same.setdefault((trouble.what, trouble.error), []).append(trouble.failures)
    for (what, error), failures in same.items():
        most = max(failures)
        severity = _CRITICAL if most >= thresholds.loop_failures else _WARNING
        shown = what if len(failures) == 1 else f"{what} ({len(failures)} alike)"
        text = f"Failed {times(most)} in a row: {shown}: {error}"
        yield Issue(IssueKind.LOOP, severity, text, value=most)


def _unowned(cluster: ClusterFacts, mail: int) -> Issue:
    unowned, shards = cluster.unowned, counted(cluster.shards, "shard")
    stands = len(unowned) == cluster.shards and (cluster.name or mail)  # nobody may be wanted yet
    severity = _CRITICAL if stands else _WARNING
    have, whose = ("has", "its") if len(unowned) == 1 else ("have", "their")
    which = ", ".join(str(shard) for shard in unowned[:UNOWNED_SHOWN])
    more = ", …" if len(unowned) > UNOWNED_SHOWN else ""
    text = (
        f"{len(unowned)} of {shards} {have} no live owner: {whose} instances stand still: "
        f"{which}{more}"
    )
    return Issue(IssueKind.CLUSTER, severity, text, value=len(unowned))


def _blocked(vitals: Vitals, thresholds: Thresholds) -> Iterator[Issue]:
    within, ago_s = thresholds.blocked_within, vitals.blocked_s
    if within is not None and ago_s is not None and ago_s <= within.total_seconds():
        text = f"User code blocked the event loop {span(ago_s)} ago, {times(vitals.blocks)} so far"
        yield Issue(IssueKind.LOOP, _WARNING, text, value=vitals.blocks)


def _of_store(facts: Facts, thresholds: Thresholds) -> Iterator[Issue]:
    store = facts.store
    if store.error is not None:
        yield Issue(IssueKind.STORE, _CRITICAL, f"The store cannot be read: {store.error}")
    else:
        yield from _slow("Reading the store took", store.read_s, thresholds)
    free = store.disk_free
    if free is None:
        return
    is_critical = _is_below(free, thresholds.critical_disk_free)
    if is_critical or _is_below(free, thresholds.disk_free):
        severity = _CRITICAL if is_critical else _WARNING
        text = f"{free // 1024**2} MiB are left on the disk of the store"
        yield Issue(IssueKind.DISK, severity, text, value=free)


def _slow(what: str, took_s: float, thresholds: Thresholds) -> Iterator[Issue]:
    if took_s > thresholds.answer_time.total_seconds():
        is_critical = took_s > thresholds.critical_answer_time.total_seconds()
        severity = _CRITICAL if is_critical else _WARNING
        yield Issue(IssueKind.STORE, severity, f"{what} {span(took_s)}", value=took_s)


def _of_saga(facts: SagaFacts, expected: SagaThresholds, sample_min: int) -> Iterator[Issue]:
    saga = facts.saga
    if facts.ended and facts.ended >= sample_min:
        rate = facts.failed / facts.ended
        is_critical = _exceeds(rate, expected.critical_failure_rate, or_equals=True)
        if is_critical or _exceeds(rate, expected.failure_rate):
            severity = _CRITICAL if is_critical else _WARNING
            text = f"High failure rate for {saga}: {percent(rate)} of the last {facts.ended} ended"
            yield Issue(IssueKind.FAILURE_RATE, severity, text, saga, rate)
        limit, average_s = expected.average_duration, facts.average_s
        if limit is not None and average_s is not None and average_s > limit.total_seconds():
            text = f"Slow processes for {saga}: {span(average_s)} on average"
            yield Issue(IssueKind.SLOW, _WARNING, text, saga, average_s)
    stuck = facts.stuck + facts.idle
    if stuck:
        seem = "appears" if stuck == 1 else "appear"
        text = f"{at_least(stuck, facts.idle)} of {saga} {seem} stuck"
        if facts.idle and expected.stuck_process_age is not None:
            age = span(expected.stuck_process_age.total_seconds())
            text = f"{text} ({facts.idle} without anything happening for {age})"
        yield Issue(IssueKind.STUCK, _WARNING, text, saga, stuck)
    if facts.old and expected.max_process_age is not None:
        age = span(expected.max_process_age.total_seconds())
        text = f"{at_least(facts.old, facts.old)} of {saga} not ended within {age}"
        yield Issue(IssueKind.OLD, _WARNING, text, saga, facts.old)


def _of_queue(facts: QueueFacts, thresholds: Thresholds) -> Iterator[Issue]:
    name = facts.queue
    called = f"work queue {name}" if name else "mail between sagas"
    if facts.paused is not None:
        jobs = counted(facts.depth, "job")
        text = f"{called[0].upper()}{called[1:]} is paused with {jobs}: {facts.paused}"
        yield Issue(IssueKind.PAUSED, _WARNING, text, name, facts.depth)
    else:
        yield from _late(f"jobs of {called}", name, facts.ready_s, thresholds)
    if facts.retried and thresholds.max_retry_count is not None:
        limit, jobs = thresholds.max_retry_count, counted(facts.retried, "job")
        text = f"{jobs} of {called} tried more than {times(limit)} without success"
        yield Issue(IssueKind.RETRIES, _WARNING, text, name, facts.retried)


def _late(what: str, subject: str, late_s: float, thresholds: Thresholds) -> Iterator[Issue]:
    is_critical = _exceeds(late_s, _seconds(thresholds.critical_lag))
    if is_critical or _exceeds(late_s, _seconds(thresholds.lag)):
        severity = _CRITICAL if is_critical else _WARNING
        text = f"Lag: the oldest of the {what} has been due for {span(late_s)}"
        yield Issue(IssueKind.LAG, severity, text, subject, late_s)


def _seconds(limit: timedelta | None) -> float | None:
    return None if limit is None else limit.total_seconds()


def _exceeds(value: float, limit: float | None, *, or_equals: bool = False) -> bool:
    return limit is not None and (value > limit or (or_equals and value >= limit > 0))


def _is_below(value: float, limit: float | None) -> bool:
    return limit is not None and value < limit


def _reaches(count: int, limit: int | None) -> bool:
    return limit is not None and count >= limit and count > 0
