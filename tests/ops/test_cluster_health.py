"""What health says of a cluster: whose the shards are, and which are nobody's."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from perdure import Runtime
from perdure.ops.cluster_facts import ClusterFacts, facts_of_cluster
from perdure.ops.facts import Facts, StoreFacts
from perdure.ops.health import HealthStatus, IssueKind, Thresholds, judge
from tests.sagas import Ledger


def facts(*unowned: int, shards: int = 16) -> Facts:
    cluster = ClusterFacts(name="pod-1", shards=shards, hosts=2, here=(), unowned=unowned)
    return Facts(at_ms=0, store=StoreFacts(), cluster=cluster)


def test_a_cluster_whose_shards_all_have_an_owner_is_healthy() -> None:
    assert judge(facts(), Thresholds()).issues == ()


@pytest.mark.parametrize(
    ("unowned", "status", "text"),
    [
        (
            (3,),
            HealthStatus.WARNING,
            "1 of 16 shards has no live owner: its instances stand still: 3",
        ),
        (
            (1, 2),
            HealthStatus.WARNING,
            "2 of 16 shards have no live owner: their instances stand still: 1, 2",
        ),
        (range(16), HealthStatus.CRITICAL, "16 of 16 shards have no live owner"),
    ],
)
def test_shards_without_a_live_owner_are_an_issue(
    unowned: tuple[int, ...], status: HealthStatus, text: str
) -> None:
    found = judge(facts(*unowned), Thresholds())
    assert found.status is status
    [issue] = found.issues
    assert (issue.kind, issue.value) == (IssueKind.CLUSTER, len(unowned))
    assert text in issue.text


def test_many_of_them_are_not_all_named() -> None:
    [issue] = judge(facts(*range(100), shards=200), Thresholds()).issues
    assert issue.text.endswith("0, 1, 2, 3, 4, 5, 6, 7, …")


async def _facts_of_an_embedded_one() -> ClusterFacts | None:
    async with Runtime("memory://", [Ledger]) as runtime:
        return await facts_of_cluster(runtime)


def test_a_runtime_that_is_alone_has_no_facts_of_a_cluster() -> None:
    assert asyncio.run(_facts_of_an_embedded_one()) is None


def test_mail_that_is_not_taken_is_an_issue() -> None:
    waiting = Facts(at_ms=0, store=StoreFacts(), mail=3, mail_s=11.0)
    [issue] = judge(waiting, Thresholds()).issues
    assert (issue.severity, issue.value) == (HealthStatus.WARNING, 11.0)
    assert "3 messages in the mail" in issue.text
    assert judge(waiting, Thresholds(mail_age=None)).issues == ()


def test_who_only_looks_is_alarmed_if_mail_waits_and_there_is_no_owner() -> None:
    nobody = ClusterFacts(name="", shards=2, hosts=0, here=(), unowned=(0, 1))
    seen = Facts(at_ms=0, store=StoreFacts(), cluster=nobody)
    assert judge(seen, Thresholds()).status is HealthStatus.WARNING
    assert judge(replace(seen, mail=1), Thresholds()).status is HealthStatus.CRITICAL
